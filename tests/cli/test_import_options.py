"""What is typed for an import: read, checked early, and passed on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import PackedFormat
from ocitui.cli import options
from ocitui.cli.commands.completion import COMPLETION_VARIABLE
from ocitui.cli.import_run import import_request, read_request
from ocitui.cli.options import byte_size
from ocitui.cli.output import UsageProblemError
from ocitui.directory import PREFIXES
from ocitui.importing.errors import SourceError
from ocitui.importing.inspect import ImportRequest
from ocitui.importing.layers.layers import LayerLimits
from ocitui.importing.packing.packing import _LEVELS
from ocitui.importing.sources.images import SourceKind
from ocitui.importing.sources.opening import CACHE_PREFIX
from tests.cli.conftest import Ocitui
from tests.cli.import_support import make_layout
from tests.importing.debian_registry import make_certificate
from tests.importing.image_makers import make_image
from tests.tools import need

IMAGE = "docker://localhost:1/a:1"


def test_the_light_copies_of_the_library_s_constants_agree(ocitui: Ocitui) -> None:
    assert list(options.COMPRESSIONS) == list(dict.fromkeys(name for levels in _LEVELS.values() for name in levels))
    known = {*(f"{kind}:" for kind in SourceKind), CACHE_PREFIX}
    assert known == {prefix.removesuffix("//") for prefix in PREFIXES}
    said = " ".join(ocitui("import", "--help").out.split())
    limits = LayerLimits()
    assert f"unpack to [default: {limits.unpacked_bytes >> 30}G]" in said
    assert f"hold [default: {limits.entries}]" in said


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500", 500), ("64G", 64 << 30), ("64g", 64 << 30), ("1.5K", 1536), ("2MiB", 2 << 20), ("1TB", 1 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "G", "-1G", "1X", "1 G", "1e9", "0.1"])
def test_what_is_no_size(text: str, ocitui: Ocitui) -> None:
    done = ocitui("import", IMAGE, f"--max-bytes={text}")
    assert done.status == 2
    assert "is not a size like 500M or 64G" in done.err


def test_all_of_it_is_passed_on(tmp_path: Path) -> None:
    auth = tmp_path / "auth.json"
    auth.write_text("{}")
    request = import_request(
        source=IMAGE,
        name="a:1",
        format="erofs",
        compression="lz4hc",
        level=9,
        platform="linux/arm/v7",
        max_bytes=1 << 20,
        max_entries=5,
        plain_http=True,
        authfile=str(auth),
        mirror="mirror.example.com:5000",
        rename=True,
        again=True,
    )
    assert (request.source, str(request.image_name), request.format) == (IMAGE, "a:1", PackedFormat.EROFS)
    flatten = request.pack_options
    assert (flatten.compression, flatten.level) == ("lz4hc", 9)
    assert (flatten.limits.unpacked_bytes, flatten.limits.entries) == (1 << 20, 5)
    options = request.source_options()
    assert str(options.platform) == "linux/arm/v7"
    registry = options.registry
    assert (registry.authfile, registry.mirror, registry.plain_http) == (auth, "mirror.example.com:5000", True)
    assert (request.rename, request.again) == (True, True)


def test_squashfs_is_what_the_daemon_looks_for() -> None:
    assert import_request(source=IMAGE).format is PackedFormat.SQUASHFS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--platform", "linux//x"], "'linux//x' is not a platform"),
        (["--name", ""], "a name of no characters"),
        (["--name", "a.b:x/c"], "'x' is not a port"),
        (["--level", "10"], "gzip in squashfs has levels 1 to 9"),
        (["--format", "tar", "--compression", "gzip"], "tar has no compression gzip"),
        (["--tls-ca", "/nowhere"], "/nowhere holds no certificate: No such file"),
        (["--tls-ca", __file__], "holds no certificate: it is no PEM"),
        (["--authfile", "/nowhere"], "/nowhere does not exist"),
        (["--authfile", __file__], "is no file of credentials"),
        (["--authfile", "/dev/null/x"], "cannot read /dev/null/x: Not a directory"),
        (["--mirror", "https://x"], "--mirror https://x is not a host"),
        (["--manifest", "x"], "--manifest is for packed files"),
        (["--max-entries", "0"], "'--max-entries'"),
    ],
)
def test_mistakes_are_found_before_anything_is_asked(
    words: list[str], said: str, tmp_path: Path, ocitui: Ocitui
) -> None:
    done = ocitui("import", IMAGE, "-C", tmp_path, *words)
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    # What other programs left is finished all the same.
    assert os.listdir(tmp_path) in ([], [".ocitui"])


@pytest.mark.parametrize(
    ("read", "typed", "said"),
    [
        (import_request, {"source": "packed:x", "level": 3}, "--level is for images that are still to be packed"),
        (import_request, {"source": "packed:x", "max_bytes": 3}, "--max-bytes is for"),
        (read_request, {"source": "packed:x", "mirror": "m"}, "--mirror is for a registry, and packed:x is a packed"),
        (read_request, {"source": IMAGE, "format": "tar"}, "is not packed yet"),
        (read_request, {"source": IMAGE, "config": "x"}, "--config is for packed files"),
    ],
)
def test_options_that_would_not_be_heeded_are_refused(
    read: Callable[..., ImportRequest], typed: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageProblemError, match=said):
        read(**typed)


@pytest.mark.parametrize("content", ["[]", "[" * 200_000, '{"x": ' + "[" * 200_000], ids=["list", "deep", "nested"])
def test_what_holds_no_credentials_is_refused_before_it_is_needed(content: str, tmp_path: Path, ocitui: Ocitui) -> None:
    (tmp_path / "auth.json").write_text(content)
    done = ocitui("inspect", IMAGE, "-C", tmp_path, "--authfile", tmp_path / "auth.json")
    assert done.status == 2
    assert f"{tmp_path}/auth.json is no file of credentials" in " ".join(done.err.split())


def test_registry_options_of_a_layout_are_refused(tmp_path: Path, ocitui: Ocitui) -> None:
    layout = make_layout(tmp_path / "layout", ("v1", make_image()))
    for command in ("import", "inspect"):
        assert "is an OCI layout" in ocitui(command, f"oci:{layout}", "--plain-http", "-C", tmp_path).err


def test_an_authority_is_read(tmp_path: Path) -> None:
    need("openssl")
    make_certificate(tmp_path)
    request = read_request(source=IMAGE, tls_ca=str(tmp_path / "ca.pem"))
    assert request.tls_ca == str(tmp_path / "ca.pem")


@pytest.mark.parametrize("name", ["image.tar", "image.TGZ", "some/dir/x.squashfs"])
def test_a_file_that_is_not_there_is_no_name_in_a_registry(name: str) -> None:
    with pytest.raises(SourceError, match="does not exist") as refused:
        read_request(source=name)
    assert f"docker://{name}" in refused.value.hint
    assert read_request(source=f"docker://{name.lower()}").source == f"docker://{name.lower()}"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("do", ["plain,docker-archive:", "plain,docker://"]),
        ("oci:la", ["plain,oci:layout/"]),
        ("packed:sub/", ["plain,packed:sub/file"]),
        ("packed:nowhere/", []),
        ("docker://x", []),
        ("./la", ["file,./la"]),
        ("", ["file,"]),
    ],
)
def test_sources_are_completed(typed: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "layout").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").touch()
    assert _completions(f"ocitui import {typed}", 2, tmp_path) == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("ocitui import --max-", {"plain,--max-bytes", "plain,--max-entries"}),
        ("ocitui import --compression lz", {"plain,lzo", "plain,lz4", "plain,lzma", "plain,lz4hc"}),
        ("ocitui imports --", {"plain,--go-on", "plain,--forget", "plain,--clear", "plain,--yes"}),
        ("ocitui inspect --pl", {"plain,--platform", "plain,--plain-http"}),
        ("ocitui import --tls-ca x", {"file,x"}),
    ],
)
def test_options_are_completed(typed: str, expected: set[str], tmp_path: Path) -> None:
    assert expected <= set(_completions(typed, typed.count(" "), tmp_path))


def _completions(typed: str, at: int, directory: Path) -> list[str]:
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        COMPLETION_VARIABLE: "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(at),
    }
    command = [sys.executable, "-m", "ocitui"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=directory)
    assert done.stderr == ""
    return done.stdout.split()

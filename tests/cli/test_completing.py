"""What a shell is offered for a word: names, digests, ids, codes, filter terms, of whatever can be read of a cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.shell_completion import ShellComplete, get_completion_class

from ocitui.cli import selectors
from ocitui.cli.commands.completion import COMPLETION_VARIABLE
from ocitui.cli.demo_cache import ALPINE, BUSYBOX, FORGOTTEN, OLD_ALPINE, SITE
from ocitui.cli.main import cli
from ocitui.doctor.entries import FIELDS
from ocitui.doctor.findings import CATALOGUE
from tests.bench.big_cache import make_big_cache
from tests.cli.conftest import ODD_NAME, Ocitui
from tests.remote.conftest import hosts as hosts
from tests.remote.conftest import servers as servers
from tests.remote.support import Hosts

NAMES = [
    "alpine:3.19",
    "busybox:1.36",
    "debian:12",
    "ghcr.io/example/proxy:latest",
    "quay.io/example/queue:7.2",
    "registry.example.com:5000/team/site:2024.06",
]
HEX, SITE_HEX = BUSYBOX.digest[7:], SITE.digest[7:]
FORMATS = ["squashfs", "erofs", "tar"]


def offered(*words: str | Path) -> list[str]:
    """What goes on with the last of these words."""
    *before, word = map(str, words)
    return [one.value for one in ShellComplete(cli, {}, "ocitui", "_").get_completions(before, word)]


@pytest.mark.parametrize("shell", ["fish", "zsh"])
@pytest.mark.parametrize("typed", ["--filter=st", "st"])
def test_a_shell_that_replaces_the_whole_word_is_given_the_whole_word(shell: str, typed: str) -> None:
    made = get_completion_class(shell)
    assert made is not None
    words = ["list", "--filter"] if typed == "st" else ["list"]
    found = made(cli, {}, "ocitui", "_").get_completions(words, typed)
    assert [one.value for one in found] == [typed.replace("st", "state:")]


def test_zsh_puts_no_blank_behind_what_goes_on() -> None:
    made = get_completion_class("zsh")
    assert made is not None
    assert "compadd -U -V unsorted -S ''" in made(cli, {}, "ocitui", "_").source()


@pytest.fixture
def demo(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo cache, as the environment names it."""
    monkeypatch.setenv("OCITUI_CACHE", str(demo))
    return demo


ENTRY_WORDS = (
    ["show"],
    ["delete"],
    ["why"],
    ["resolve"],
    ["recall"],
    ["history"],
    ["check", "--entry"],
    ["delete", "alpine:3.19"],
)


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("command", ENTRY_WORDS)
def test_entries(command: list[str]) -> None:
    everything = offered(*command, "")
    assert [one for one in everything if ":" in one] == NAMES
    assert HEX in everything
    assert offered(*command, "quay.io/") == ["quay.io/example/queue:7.2"]
    assert offered(*command, HEX[:6]) == [HEX]
    assert offered(*command, "sha") == ["sha256:"]
    assert offered(*command, f"sha256:{HEX[:6]}") == [BUSYBOX.digest]
    assert offered(*command, "busybox:1.36.") == [f"busybox:1.36.{one}" for one in FORMATS]
    assert offered(*command, f"{HEX}.e") == [f"{HEX}.erofs"]
    assert offered(*command, "nowhere") == offered(*command, "busybox:1.3.") == []


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("command", ENTRY_WORDS)
def test_a_digest_of_no_entry_is_offered_where_it_is_understood(command: list[str], ocitui: Ocitui) -> None:
    is_understood = command[0] in ("show", "why", "check")
    whole = FORGOTTEN.digest
    for word in ("", "sha256:", whole[7:9], whole[:9], whole[7:13], whole[:13]):
        written = whole if ":" in word else whole[7:]
        assert (written in offered(*command, word)) == is_understood
    assert ocitui("show", whole[7:]).out == ocitui("show", whole).out != ""


def test_of_many_a_digest_of_no_entry_is_for_who_begins_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCITUI_CACHE", str(make_big_cache(tmp_path / "big", 60)))
    beside = f"5fec{'0' * 60}"
    (tmp_path / "big" / f"sha256:{beside}.tar").touch()
    assert beside not in offered("show", "") + offered("show", "5f")
    assert beside in offered("show", "5fec")


@pytest.mark.usefixtures("demo")
def test_behind_the_algorithm_all_are_offered() -> None:
    digests = {one for one in offered("show", "sha256:") if one.startswith("sha256:")}
    assert {f"sha256:{one}" for one in offered("show", "") if len(one) == 64} == digests
    assert ALPINE.digest in digests


@pytest.mark.usefixtures("demo")
def test_show_knows_its_documents_behind_an_entry() -> None:
    kinds = ["manifest", "config"]
    assert not set(kinds) & set(offered("show", ""))
    assert [one for one in offered("show", "alpine:3.19", "") if one in kinds] == kinds
    assert offered("show", "alpine:3.19", "busy") == ["busybox:1.36"]
    assert offered("show", "alpine:3.19", "man") == ["manifest"]
    assert offered("show", "--filter", "web", "") == kinds
    assert offered("show", "alpine:3.19", "config", "") == offered("show", "--filter", "web", "config", "") == []


@pytest.mark.usefixtures("demo")
def test_what_no_terminal_may_be_given_is_left_out() -> None:
    assert ODD_NAME not in offered("show", "")
    assert offered("show", "odd") == []


@pytest.mark.usefixtures("demo")
def test_point_knows_the_digests_of_its_name() -> None:
    assert offered("point", "alpine:3.19", "") == [OLD_ALPINE.digest[7:], ALPINE.digest[7:]]
    assert offered("point", "library/alpine:3.19", "sha256:") == [OLD_ALPINE.digest, ALPINE.digest]
    assert offered("point", "nowhere:1", HEX[:4]) == [HEX]


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("command", ["list", "delete", "show"])
def test_filters(command: str) -> None:
    ask: Callable[[str], list[str]] = lambda text: offered(command, "--filter", text)  # noqa: E731
    assert {"name:", "state:", "used:", "size>", "age<"} <= set(ask(""))
    assert ask("st") == ["state:"]
    assert ask("!st") == ["!state:"]
    assert ask("web sta") == ["web state:"]
    assert ask("si") == ["size>", "size<"]
    assert ask("format:") == [f"format:{one}" for one in FORMATS]
    assert ask("web !format:e") == ["web !format:erofs"]
    assert {"state:ok", "state:bad", "state:truncated"} <= set(ask("state:"))
    assert ask("state:ba") == ["state:bad"]
    assert ask("name:al") == ask("zzz") == []


@pytest.mark.usefixtures("demo")
def test_every_field_is_offered_and_every_value_is_understood(ocitui: Ocitui) -> None:
    assert tuple(FIELDS) == selectors.FILTER_FIELDS
    for text in offered("list", "--filter", "state:"):
        assert ocitui("list", "--filter", text).status == 0


def test_transactions(demo: Path, ocitui: Ocitui) -> None:
    assert offered("undo", "") == offered("trash", "restore", "") == offered("trash", "empty", "") == []
    first, second = (
        ocitui("delete", one.digest, "--yes", "--json").json["transaction"]["id"] for one in (ALPINE, BUSYBOX)
    )
    assert offered("undo", "") == [second, first]
    assert offered("undo", second[:6]) == [second]
    assert offered("trash", "restore", "") == offered("trash", "empty", "") == [second, first]
    assert offered("trash", "restore", BUSYBOX.digest[:12]) == [
        f"{BUSYBOX.digest}.{ending}" for ending in ("tar", "manifest.json", "config.json")
    ]
    assert offered("trash", "empty", BUSYBOX.digest[:12]) == []
    ocitui("undo", second)
    assert second not in offered("undo", "")
    assert offered("undo", "-C", demo.parent, "") == []


def test_findings(demo: Path, ocitui: Ocitui) -> None:
    assert set(offered("repair", "--only", "")) == {*CATALOGUE, *NAMES}
    assert offered("check", "--acknowledge", "") == []
    ocitui("check", "--read-only")
    assert offered("check", "--acknowledge", "") == []
    lines = [json.loads(line) for line in ocitui("check", "--json").out.splitlines()]
    ids = {line["fingerprint"] for line in lines if line.get("severity") not in (None, "info")}
    assert set(offered("check", "--acknowledge", "")) == ids
    assert ids < set(offered("repair", "--only", ""))
    assert offered("repair", "--only", "orphan-e") == ["orphan-entry"]
    assert offered("repair", "--only", SITE_HEX[:8]) == [SITE_HEX]
    one = min(ids)
    assert offered("check", "--acknowledge", one[:5]) == [one]
    assert offered("check", "--forget", "") == []
    ocitui("check", "--acknowledge", one)
    assert offered("check", "--forget", one[:5]) == [one]
    assert set(offered("check", "--acknowledge", "")) == ids - {one}
    (demo / ".ocitui" / "told").write_bytes(b"\xff\n../../etc\n" + one.encode() + b"\n")
    assert offered("check", "--acknowledge", "") == [one]


@pytest.mark.parametrize(("quote", "fit"), [("", 4), ('"', 2), ("'", 3)])
def test_no_name_ends_the_quotes_or_is_a_command_in_them(
    quote: str, fit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once enter is pressed, bash reads what it was given."""
    monkeypatch.setenv("OCITUI_CACHE", str(tmp_path))
    names = [f"x{tmp_path}/$(touch run)`touch run`:1", f"x{tmp_path}/';touch run;':1", f"x{tmp_path}/plain:1"]
    names.append(f"x{tmp_path}/!1:1")
    told = [f'"io.containerd.image.name":"{name}"' for name in names]
    (tmp_path / "index.json").write_text("\n".join(told))
    monkeypatch.setenv("_OCITUI_LINE", f"ocitui show {quote}x")
    monkeypatch.setenv("_OCITUI_WORD", f"{quote}x")
    made = get_completion_class("bash")
    assert made is not None
    _, *replies = made(cli, {}, "ocitui", "_").complete().split("\n")
    for reply in replies:
        # A shell with an operator before it puts lines of his in the place of what begins with !.
        bash, lines = ["bash", "-o", "history", "-o", "histexpand"], f"true\necho {quote}{reply}{quote}\n"
        done = subprocess.run(bash, cwd=tmp_path, input=lines, capture_output=True, text=True, check=False)
        assert done.stdout.rstrip("\n") in names
    assert len(replies) == fit
    assert not (tmp_path / "run").exists()


def test_what_is_told_again_is_not_written_again(demo: Path, ocitui: Ocitui) -> None:
    ocitui("check")
    before = (demo / ".ocitui" / "told").stat().st_ino
    ocitui("check")
    assert (demo / ".ocitui" / "told").stat().st_ino == before


def test_imports_and_topics(demo: Path) -> None:
    assert offered("imports", "--go-on", "") == []
    (demo / ".ocitui" / "imports").mkdir(parents=True)
    (demo / ".ocitui" / "imports" / "20240601T120000000000-abcd.json").touch()
    assert offered("imports", "--forget", "2024") == ["20240601T120000000000-abcd"]
    assert offered("help", "dep") == ["depths"]
    assert offered("help", "und") == ["undo"]


@pytest.mark.usefixtures("demo")
def test_a_digest_that_a_name_is_to_follow() -> None:
    for option in ("--name", "--adopt"):
        assert offered("repair", option, FORGOTTEN.digest[7:13]) == [f"{FORGOTTEN.digest[7:]}="]
        assert offered("repair", option, "sha") == ["sha256:"]


def test_the_directory_is_the_one_that_is_named(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ocitui: Ocitui
) -> None:
    monkeypatch.setenv("OCITUI_CACHE", str(tmp_path / "nowhere"))
    assert offered("show", "al") == []
    monkeypatch.setenv("HOME", str(demo.parent))
    for place in (demo, "~/demo", "$HOME/demo"):
        assert offered("-C", place, "show", "al") == offered("show", "-C", place, "al") == ["alpine:3.19"]
    ocitui("delete", "busybox:1.36", "--yes", "-C", demo)
    assert len(offered("trash", "-C", demo, "restore", "0")) == 1


HALF = 2500


def cut(directory: Path) -> None:
    index = directory / "index.json"
    index.write_bytes(index.read_bytes()[:HALF])


def scrambled(directory: Path) -> None:
    index = directory / "index.json"
    index.write_bytes(b"\xff\x00}{" + index.read_bytes().replace(b"schemaVersion", b'sch"ma'))


def utf16(directory: Path) -> None:
    index = directory / "index.json"
    index.write_bytes(index.read_text().encode("utf-16"))


def escaped(directory: Path) -> None:
    index = directory / "index.json"
    index.write_text(index.read_text().replace("alpine:3", r"alpin\u0065:3").replace("debian:12", r"debian\uZZ:12"))


def in_its_place(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        (directory / "index.json").unlink()
        make(directory / "index.json")

    return spoil


SPOILT: dict[str, tuple[Callable[[Path], None], bool]] = {
    "cut": (cut, True),
    "scrambled": (scrambled, True),
    "escaped": (escaped, True),
    "utf-16": (utf16, False),
    "empty": (lambda directory: os.truncate(directory / "index.json", 0), False),
    "absent": (lambda directory: (directory / "index.json").unlink(), False),
    "directory": (in_its_place(Path.mkdir), False),
    "pipe": (in_its_place(os.mkfifo), False),
    "endless": (in_its_place(lambda path: path.symlink_to("/dev/zero")), False),
    "loop": (in_its_place(lambda path: path.symlink_to(path)), False),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_of_a_corrupt_index_what_can_be_read(kind: str, demo: Path) -> None:
    spoil, has_names = SPOILT[kind]
    spoil(demo)
    assert offered("show", "al") == (["alpine:3.19"] if has_names else [])
    # The files tell digests in any case, and where the index tells none of every command.
    assert has_names or offered("delete", HEX[:2]) == [HEX]
    assert offered("check", "--entry", HEX[:6]) == [HEX]
    assert offered("check", "--entry", f"sha256:{SITE_HEX[:6]}") == [SITE.digest]


@pytest.mark.parametrize("name", [".ocitui", ".ocitui/journal", ".ocitui/trash", ".ocitui/told"])
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, os.mkfifo, lambda path: path.symlink_to(path)])
def test_of_a_folder_that_is_none_nothing(
    name: str, make: Callable[[Path], object], demo: Path, ocitui: Ocitui
) -> None:
    ocitui("delete", BUSYBOX.digest, "--yes")
    ocitui("check")
    path = demo / name
    path.rename(demo.parent / "aside")
    make(path)
    offers = {
        ".ocitui/journal": offered("undo", ""),
        ".ocitui/trash": offered("trash", "restore", ""),
        ".ocitui/told": offered("check", "--acknowledge", ""),
    }
    assert [place for place, found in offers.items() if not found] == ([name] if name in offers else [*offers])
    assert offered("check", "--forget", "") == []
    assert "orphan-entry" in offered("repair", "--only", "orphan")


def run(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A whole program that answers bash; what it imported goes to standard error."""
    code = "import sys; from ocitui.cli.main import run; run([]); print(*sys.modules, file=sys.stderr)"
    asked = {COMPLETION_VARIABLE: "bash_complete", "_OCITUI_LINE": line, "_OCITUI_WORD": "", "_OCITUI_BREAKS": ":"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | asked | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["show al", "undo 0", "list --filter state:", "repair --only o", "check --acknowledge ", "trash restore 0"]
)
@pytest.mark.parametrize("corrupt", [False, True])
def test_it_is_light_and_writes_nothing(line: str, corrupt: bool, demo: Path, ocitui: Ocitui) -> None:
    ocitui("delete", BUSYBOX.digest, "--yes")
    ocitui("check")
    if corrupt:
        cut(demo)

    def tree() -> dict[Path, tuple[int, int]]:
        return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in (demo, *demo.rglob("*"))}

    before = tree()
    done = run(f"ocitui {line}")
    imported = set(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) > 1
    assert not imported & {"textual", "rich", "asyncio", "ssl", "subprocess", "ocitui.cache.index", "ocitui.tui"}
    assert tree() == before


def test_of_many_names_each_is_there_and_digests_are_for_who_begins_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 300
    monkeypatch.setenv("OCITUI_CACHE", str(make_big_cache(tmp_path / "big", count)))
    assert offered("show", "") == sorted(f"team/app{number}:1.{number}" for number in range(count))
    assert offered("show", "team/app17") == sorted(f"team/app{n}:1.{n}" for n in (17, *range(170, 180)))
    assert offered("recall", "5fec") == ["5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"]


def test_a_cache_that_is_gone_offers_nothing(demo: Path) -> None:
    shutil.rmtree(demo)
    assert offered("show", "") == offered("undo", "") == offered("check", "--forget", "") == []


@pytest.mark.slow
@pytest.mark.usefixtures("demo")
def test_a_host_tells_its_entries_by_a_connection_that_is_open(
    tmp_path: Path, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors, "_FAR_SECONDS", 60.0)
    there = make_big_cache(tmp_path / "it's there", 3)
    names = sorted(name for name in offered("delete", "-C", there, "") if ":" in name)
    with TemporaryDirectory(dir="/tmp") as sockets:
        hosts.alias("open", hosts.ports["good"], f"ControlPath {sockets}/%p")
        hosts.alias("root", hosts.ports["sudo"], f"ControlPath {sockets}/%p")
        assert len(names) == 3
        ssh = shutil.which("ssh") or ""
        for name in ("open", "root"):
            subprocess.run([ssh, "-M", "-N", "-f", name], check=True, stdin=subprocess.DEVNULL, timeout=60)
        try:
            for words in ([f"ssh://open{there}"], ["--sudo", f"ssh://root{there}"]):
                assert offered("pull", *words, "")[: len(names)] == names
                [digest, *_] = offered("pull", *words, "sha256:")
                assert offered("pull", *words, digest[:12]) == [digest]
                assert offered("pull", *words, f"{names[0]}.t") == [f"{names[0]}.tar"]
            # What never ends there does not go on behind who asked: a master has but ten sessions.
            in_its_place(os.mkfifo)(there)
            assert not {*names} & {*offered("pull", f"ssh://open{there}", "")}
        finally:
            for name in ("open", "root"):
                subprocess.run([ssh, "-O", "exit", name], check=True, capture_output=True, timeout=60)


def test_without_one_nothing_is_opened_and_what_lacks_files_here_is_offered(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that would ask, or hang, is not heard."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\nexit 255\n')
    (tmp_path / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    before = offered("pull", "ssh://web1", "")
    for format_ in FORMATS:
        (demo / f"{BUSYBOX.digest}.{format_}").unlink(missing_ok=True)
    assert {*offered("pull", "ssh://web1", "")} - {*before} == {"busybox:1.36"}
    assert offered("pull", "ssh://web1", "busy") == ["busybox:1.36"]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["-G -- web1"] * 3
    assert offered("pull", "ssh://-oProxyCommand=false", "") == []
    assert len((tmp_path / "asked").read_text().splitlines()) == 3

"""list, resolve, recall, show, verdict and log."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
from pathlib import Path

import pytest

from ocitui.cache import ANNOTATION_REFERENCE
from ocitui.cli.commands import list_ as listing
from ocitui.cli.demo_cache import ALPINE, BUSYBOX, OLD_ALPINE, QUEUE, SITE
from ocitui.help import topic_text
from tests.cache import support
from tests.cli.conftest import ODD_NAME, Ocitui
from tests.cli.import_support import make_layout
from tests.host.loops import uses_of
from tests.importing.image_makers import make_image

COMMON = {"schema", "version", "host", "cache"}
UNKNOWN = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "words",
    [
        "list", "resolve alpine:3.19", "recall alpine:3.19", "show alpine:3.19", "show alpine:3.19 busybox:1.36 config",
        "show --filter queue", "files alpine:3.19 etc", "cat alpine:3.19 etc/passwd", "digest alpine:3.19", "verdict",
        "diff alpine:3.19 busybox:1.36 --text", "find passwd",
        "why alpine:3.19", "repair", "delete alpine:3.19 --yes", "undo", "log",
        "history", "history alpine:3.19",
        "point alpine:3.19 {old} --yes", "trash", "trash restore {old}", "trash empty --yes", "imports",
        "imports --forget", "imports --clear", "inspect packed:{packed}",
        "inspect oci:{layout}",
    ],
)  # fmt: skip
def test_the_help_knows_every_key_of_a_document(words: str, demo: Path, ocitui: Ocitui) -> None:
    """Those of the document itself, and of the objects in a list that a command is about."""
    ocitui("delete", OLD_ALPINE.digest, "--yes", "-C", demo)
    packed = demo.parent / "apart.tar"
    packed.write_bytes((demo / f"{ALPINE.digest}.tar").read_bytes())
    for kind in ("manifest", "config"):
        (demo.parent / f"apart.{kind}.json").write_bytes((demo / f"{ALPINE.digest}.{kind}.json").read_bytes())
    if "point" in words:
        ocitui("undo", "-C", demo)
    layout = make_layout(demo.parent / "layout", ("a/b:1", make_image(b"content")))
    words = words.format(old=OLD_ALPINE.digest, packed=packed, layout=layout)
    found = ocitui(*words.split(), "--json", "-C", demo).json
    command = words.split()[0]
    text = re.findall(rf"^    {command} +(.*(?:\n {{16}}.*)*)", topic_text("json"), re.MULTILINE)
    known = {*re.findall(r"[a-z_]+", text[0])} | COMMON
    assert {*found} <= known
    listed = [one for key in ("files", "images", "documents", "config", "layers") for one in found.get(key, ())]
    listed += found["entries"] if command in ("list", "diff") else []
    listed += found["changes"] if command == "diff" else []
    assert {key for one in listed for key in one} <= known


def test_list_has_every_entry_in_order(demo: Path, ocitui: Ocitui) -> None:
    lines = ocitui("list", "-C", demo).out.splitlines()
    assert lines[0].split() == ["NAME", "TAG", "FORMAT", "DIGEST", "PLATFORM", "SIZE", "AGE", "STATE"]
    assert [line.split()[0] for line in lines[1:3]] == ["alpine", "busybox"]
    assert len(lines) == 9


def test_list_names_a_state_in_words(demo: Path, ocitui: Ocitui) -> None:
    (line,) = ocitui("list", "-C", demo, "--filter", "site").out.splitlines()[1:]
    assert line.endswith("no config")


def test_list_as_json(demo: Path, ocitui: Ocitui) -> None:
    document = ocitui("list", "-C", demo, "--json").json
    assert set(document) == COMMON | {"entries"}
    assert (document["schema"], document["host"], document["cache"]) == (1, socket.gethostname(), str(demo))
    first = document["entries"][0]
    assert list(first) == [
        "name",
        "reference",
        "digest",
        "format",
        "media_type",
        "size",
        "packed_size",
        "state",
        "depth",
        "checked",
        "source",
        "comes_back",
        "pinned",
        "descriptor",
    ]
    assert first["name"] == "alpine:3.19"
    assert first["reference"] == "3.19"
    assert first["digest"] == OLD_ALPINE.digest == first["descriptor"]["digest"]
    assert first["packed_size"] == (demo / f"{OLD_ALPINE.digest}.tar").stat().st_size
    assert (first["state"], first["depth"], first["checked"]) == ("ok", "header", None)


def test_list_says_what_check_says(demo: Path, ocitui: Ocitui) -> None:
    checked = [json.loads(line) for line in ocitui("check", "-C", demo, "--json").out.splitlines()]
    bad = {line["entry"]["digest"] for line in checked if line.get("severity") == "high"}
    listed = ocitui("list", "-C", demo, "--json", "--filter", "state:bad").json["entries"]
    assert {entry["digest"] for entry in listed} == bad
    assert len(bad) == 2
    ocitui("check", "-C", demo, "--depth", "deep")
    after = ocitui("list", "-C", demo, "--json").json["entries"]
    assert {entry["depth"] for entry in after if entry["state"] == "ok"} == {"deep"}
    assert all(isinstance(entry["checked"], int) for entry in after if entry["state"] == "ok")
    assert {entry["digest"] for entry in after if entry["state"] != "ok"} == bad


@pytest.mark.parametrize(("words", "count"), [("alpine", 2), ("alpine !zzz", 2), ("state:bad", 2), ("nothing", 0)])
def test_list_filters_as_the_screen_does(words: str, count: int, demo: Path, ocitui: Ocitui) -> None:
    assert len(ocitui("list", "-C", demo, "--json", "--filter", words).json["entries"]) == count


def test_a_filter_knows_a_first_entry_that_can_have_no_files(demo: Path, ocitui: Ocitui) -> None:
    index = json.loads((demo / "index.json").read_bytes())
    index["manifests"].insert(0, {**index["manifests"][0], "digest": "no-digest"})
    (demo / "index.json").write_text(json.dumps(index))
    listed = ocitui("list", "-C", demo, "--json", "--filter", "state:bad").json["entries"]
    assert [entry["digest"] for entry in listed].count("no-digest") == 1


def test_list_knows_which_entries_a_loop_device_holds(
    demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {f"{OLD_ALPINE.digest}.tar": ["/dev/loop3"]}
    monkeypatch.setattr("ocitui.host.zones.users_of", lambda _: uses_of(held))
    for words, count in (("used:", 1), ("used:loop3", 1), ("used:loop4", 0), ("!used:", 7)):
        assert len(ocitui("list", "-C", demo, "--json", "--filter", words).json["entries"]) == count


@pytest.mark.parametrize(("name", "tag"), [(f"app:1.2.3@sha256:{'a' * 64}", "1.2.3"), ("本" * 20, "本" * 10)])
def test_list_cuts_no_name_where_there_is_room(name: str, tag: str, tmp_path: Path, ocitui: Ocitui) -> None:
    """Whether or not it ends with its tag, and in any script."""
    described = support.entry(0, name=name)
    described["annotations"][ANNOTATION_REFERENCE] = tag
    (tmp_path / "index.json").write_bytes(support.index_bytes([described]))
    assert ocitui("list", "-C", tmp_path).out.splitlines()[1].split()[:2] == [name, tag]


def test_list_of_a_cache_without_an_index_is_empty(tmp_path: Path, ocitui: Ocitui) -> None:
    done = ocitui("list", "-C", tmp_path, "--json")
    assert done.status == 0
    assert done.json["entries"] == []
    assert os.listdir(tmp_path) == []


def test_resolve_says_which_entry_wins(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("resolve", "alpine:3.19", "-C", demo, "--format", "tar", "--json")
    assert done.status == 0
    assert set(done.json) == COMMON | {"hit", "digest", "descriptor", "reasons"}
    assert done.json["hit"] is True
    assert done.json["digest"] == ALPINE.digest
    assert any("overruled" in reason for reason in done.json["reasons"])


def test_resolve_misses_latest_and_other_formats(demo: Path, ocitui: Ocitui) -> None:
    latest = ocitui("resolve", "ghcr.io/example/proxy", "-C", demo, "--format", "tar")
    assert latest.status == 1
    assert "miss" in latest.out
    other = ocitui("resolve", "alpine:3.19", "-C", demo, "--json")
    assert other.status == 1
    assert other.json["hit"] is False
    assert "squashfs" in other.json["reasons"][-1]
    assert ocitui("resolve", "ghcr.io/example/proxy:latest", "-C", demo, "--format", "tar").status == 1


def test_resolve_of_what_is_no_name(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("resolve", "example.com:99999/name", "-C", demo, "--json")
    assert done.status == 2
    assert done.json["error"]["code"] == "invalid-name"


def test_recall_by_the_beginning_of_a_digest(demo: Path, ocitui: Ocitui) -> None:
    for text in (BUSYBOX.digest, BUSYBOX.digest[:14], BUSYBOX.digest[7:15]):
        done = ocitui("recall", text, "-C", demo, "--format", "tar", "--json")
        assert done.status == 0
        assert set(done.json) == COMMON | {"hit", "path", "reasons"}
        assert done.json["path"] == str(demo / f"{BUSYBOX.digest}.tar")


def test_recall_names_the_missing_file(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("recall", SITE.digest, "-C", demo, "--format", "tar")
    assert done.status == 1
    assert f"{SITE.digest}.config.json: missing" in done.out
    assert ocitui("recall", UNKNOWN, "-C", demo, "--json").json["path"] is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]" * 1000, b"\xff\x00"])
def test_a_document_that_does_not_parse_is_an_error_of_the_daemon(content: bytes, demo: Path, ocitui: Ocitui) -> None:
    (demo / f"{QUEUE.digest}.config.json").write_bytes(content)
    for words in (["recall", QUEUE.digest], ["resolve", "quay.io/example/queue:7.2"]):
        done = ocitui(*words, "-C", demo, "--format", "tar", "--json")
        assert done.status == 4
        assert done.json["hit"] is False
        assert done.json["error"]["code"] == "document"
        assert done.err.count("\n") == 1


def test_an_ambiguous_digest_names_the_candidates(demo: Path, ocitui: Ocitui) -> None:
    twin = ALPINE.digest[:-1] + ("1" if ALPINE.digest.endswith("0") else "0")
    index = (demo / "index.json").read_text()
    (demo / "index.json").write_text(index.replace(BUSYBOX.digest, twin))
    for command in ("recall", "show", "delete"):
        done = ocitui(command, ALPINE.digest[:-1], "-C", demo, "--json")
        assert done.status == 2
        assert done.json["error"]["code"] == "ambiguous-digest"
        assert ALPINE.digest in done.err
        assert twin in done.err
    assert ocitui("recall", "sha256:", "-C", demo).status == 2
    assert ocitui("recall", ALPINE.digest, "-C", demo, "--format", "tar").status == 0


@pytest.mark.parametrize("kind", ["manifest", "config"])
def test_show_gives_the_bytes_as_they_are(kind: str, demo: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    from ocitui.cli.main import run

    assert run(["show", ALPINE.digest[:20], kind, "-C", str(demo)]) == 0
    expected = ALPINE.manifest_raw if kind == "manifest" else ALPINE.config_raw
    assert capfdbinary.readouterr().out == expected


def test_show_as_json(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("show", ALPINE.digest, "-C", demo, "--json")
    assert set(done.json) == COMMON | {"digest", "kind", "raw"}
    assert done.json["raw"].encode() == ALPINE.manifest_raw
    (demo / f"{ALPINE.digest}.config.json").write_bytes(b"\xff\x1b")
    document = ocitui("show", ALPINE.digest, "config", "-C", demo, "--json").json
    assert base64.b64decode(document["base64"]) == b"\xff\x1b"


def test_show_of_what_is_not_there(demo: Path, ocitui: Ocitui) -> None:
    for words in ([SITE.digest, "config"], [UNKNOWN], ["zzz"], ["../../etc/passwd"]):
        done = ocitui("show", *words, "-C", demo)
        assert done.status == 1
        assert done.out == ""
        assert done.err.count("\n") == 1


def test_show_of_an_empty_document(demo: Path, ocitui: Ocitui) -> None:
    (demo / f"{ALPINE.digest}.manifest.json").write_bytes(b"")
    done = ocitui("show", ALPINE.digest, "-C", demo)
    assert (done.status, done.out) == (0, "")


def test_show_of_a_whole_digest_needs_no_index(demo: Path, ocitui: Ocitui) -> None:
    (demo / "index.json").write_bytes(b"{")
    assert ocitui("show", ALPINE.digest, "-C", demo).status == 0
    assert ocitui("show", ALPINE.digest[:12], "-C", demo).status == 4


def test_verdict(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("verdict", "-C", demo, "--json")
    assert done.status == 0
    assert {key: value for key, value in done.json.items() if key not in COMMON} == {
        "outcome": "loaded",
        "entries": 8,
        "message": "",
        "line": 0,
        "column": 0,
    }
    assert "8 entries" in ocitui("verdict", "-C", demo).out


def test_verdict_on_a_corrupt_index_says_where_and_warns(demo: Path, ocitui: Ocitui) -> None:
    (demo / "index.json").write_bytes(b'{"schemaVersion": 2,\n"manifests": [}')
    done = ocitui("verdict", "-C", demo)
    assert done.status == 1
    assert "line 2 column" in done.out
    assert "mend the index" in done.out
    assert ocitui("verdict", "-C", demo, "--json").json["outcome"] == "reset"


def test_log_of_an_untouched_cache(demo: Path, ocitui: Ocitui) -> None:
    assert ocitui("log", "-C", demo, "--json").json["transactions"] == []
    assert ocitui("log", "-C", demo).out == "there is no transaction\n"
    assert not (demo / ".ocitui").exists()


@pytest.mark.parametrize("words", [["list"], ["verdict"], ["log"], ["show", ALPINE.digest], ["recall", "x"]])
def test_reading_commands_take_read_only_from_whoever_always_types_it(
    demo: Path, ocitui: Ocitui, words: list[str]
) -> None:
    plain = ocitui(*words, "-C", demo)
    assert ocitui(*words, "-C", demo, "--read-only") == plain


def test_nothing_that_commands_a_terminal_is_printed(demo: Path, ocitui: Ocitui) -> None:
    digest = next(
        entry["digest"] for entry in ocitui("list", "-C", demo, "--json").json["entries"] if entry["name"] == ODD_NAME
    )
    for words in (
        ["list"],
        ["list", "--json"],
        ["resolve", ODD_NAME],
        ["resolve", ODD_NAME, "--format", "tar"],
        ["recall", digest],
        ["recall", "\x1b[2J"],
        ["show", "\x9b31m"],
        ["delete", digest],
        ["delete", digest, "--yes"],
        ["undo"],
        ["undo", "\x1b]0;title\x07"],
        ["log"],
        ["import", "packed:/\x1b[2J", "--name", "x"],
        ["inspect", "\x1b[2J"],
    ):
        done = ocitui(*words, "-C", demo)
        assert not set("\x1b\x07\x9b") & set(done.out + done.err), words


def test_the_sample_of_krata(krata_cache: Path, ocitui: Ocitui) -> None:
    entries = ocitui("list", "-C", krata_cache, "--json").json["entries"]
    assert len(entries) == 7
    assert {entry["state"] for entry in entries} == {"ok"}
    for entry in entries:
        words = ["-C", krata_cache, "--format", entry["format"]]
        assert ocitui("recall", entry["digest"], *words).status == 0
        assert ocitui("resolve", entry["name"], *words).status == (1 if entry["reference"] == "latest" else 0)


@pytest.mark.parametrize("word", ["size>", "size<abc", "!size>10X", "SIZE>-1", "size=3", "age>3q", "!age<d"])
def test_a_comparison_with_nothing_is_refused(word: str, demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("list", "-C", demo, "--filter", f"alpine {word}")
    assert (done.status, done.out) == (2, "")
    assert f"{word.lstrip('!')} compares with nothing (as in size>100M, size<1.5G, age>30d, age<2h)" in done.err


def test_a_field_that_is_none_is_refused_with_what_was_meant(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("list", "-C", demo, "--filter", "!sate:bad")
    assert (done.status, done.out) == (2, "")
    assert "there is no field sate (state:bad may be meant)" in done.err
    assert ocitui("list", "-C", demo, "--filter", "other:words").status == 0


def test_on_a_terminal_no_index_is_told_from_an_empty_one(
    tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (ocitui("list", "-C", tmp_path).status, ocitui("list", "-C", tmp_path).err) == (0, "")
    monkeypatch.setattr(listing, "terminal_width", lambda: 200)
    done = ocitui("list", "-C", tmp_path)
    assert (done.status, done.err) == (0, f"there is no index.json in {tmp_path}: is that a cache?\n")
    (tmp_path / "index.json").write_bytes(b'{"schemaVersion":2,"manifests":[]}')
    assert ocitui("list", "-C", tmp_path).err == ""

"""Entries from one cache to another: by a pipe, by a file, at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ocitui.cli.demo_cache import ALPINE
from tests.cli.conftest import Ocitui
from tests.cli.import_support import snapshot, staged
from tests.cli.test_processes import PROGRAM, TIMEOUT


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir()
    return tmp_path / "other"


@pytest.mark.slow
def test_a_pipe_brings_entries_over(demo: Path, other: Path, ocitui: Ocitui) -> None:
    command = [*PROGRAM, "export", "-C", str(demo), "busybox:1.36", ALPINE.digest, "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sending:
        taking = subprocess.run(
            [*PROGRAM, "import", "-C", str(other), "-"],
            stdin=sending.stdout,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert sending.stderr is not None
        assert b"exported 2 entries" in sending.stderr.read()
    assert (sending.returncode, taking.returncode) == (0, 0), taking.stderr
    assert taking.stdout.count(b"takes it out again") == 2
    listed = ocitui("list", "-C", other, "--json").json["entries"]
    assert [one["name"] for one in listed] == ["busybox:1.36", "alpine:3.19"]
    assert ocitui("check", "-C", other, "--depth", "deep").status == 0


def test_a_file_brings_them_over_and_is_replaced_only_if_agreed(
    demo: Path, other: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    file, before = tmp_path / "out.tar", snapshot(demo)
    told = ocitui("export", "-C", demo, "--filter", "name:busybox", file, "--json").json
    assert [one["name"] for one in told["entries"]] == ["busybox:1.36"]
    again = ocitui("export", "-C", demo, "busybox:1.36", file)
    assert (again.status, "no terminal to ask on" in again.err) == (2, True)
    assert ocitui("export", "-C", demo, "busybox:1.36", file, "--yes").status == 0
    assert snapshot(demo) == before
    assert os.listdir(tmp_path).count("out.tar") == 1
    [brought] = ocitui("import", "-C", other, file, "--json").json["entries"]
    assert (brought["outcome"], brought["entry"]["name"]) == ("stored", "busybox:1.36")
    assert ocitui("undo", "-C", other, brought["transaction"]["id"]).status == 0


def test_another_cache_takes_them_at_once(demo: Path, other: Path, ocitui: Ocitui) -> None:
    done = ocitui("export", "-C", demo, "busybox:1.36", f"cache:{other}")
    assert (done.status, "busybox:1.36: stored" in done.out) == (0, True)
    [said] = ocitui("export", "-C", demo, "busybox:1.36", f"cache:{other}", "--json").json["entries"]
    assert (said["name"], said["outcome"], said["notes"]) == ("busybox:1.36", "cached", [])
    assert ocitui("export", "-C", demo, "busybox:1.36", f"cache:{demo}").status == 4
    (demo / "inner").mkdir()
    assert ocitui("export", "-C", demo, "busybox:1.36", f"cache:{demo / 'inner'}").status == 4
    assert [one["name"] for one in ocitui("list", "-C", other, "--json").json["entries"]] == ["busybox:1.36"]


def test_what_is_not_whole_is_not_exported(demo: Path, other: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    for dest in (tmp_path / "out.tar", f"cache:{other}"):
        done = ocitui("export", "-C", demo, "quay.io/example/queue:7.2", dest)
        assert (done.status, "not whole" in done.err) == (4, True)
    assert not (tmp_path / "out.tar").exists()
    assert snapshot(other) == {}


def test_rot_that_shows_on_the_way_leaves_no_file(demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    ocitui("check", "-C", demo, "--depth", "deep")
    path = demo / f"{ALPINE.digest}.tar"
    found, content = path.stat(), bytearray(path.read_bytes())
    content[-20_000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    done = ocitui("export", "-C", demo, ALPINE.digest, tmp_path / "out.tar")
    assert (done.status, "damaged" in done.err) == (4, True)
    assert [name for name in os.listdir(tmp_path) if "out.tar" in name] == []


def test_a_broken_tar_is_told_in_a_line(demo: Path, other: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    file = tmp_path / "out.tar"
    ocitui("export", "-C", demo, "busybox:1.36", file)
    file.write_bytes(file.read_bytes()[:-2000])
    done = ocitui("import", "-C", other, file)
    assert (done.status, done.err.count("ocitui: ")) == (4, 1)
    assert "cut" in done.err
    assert (snapshot(other), staged(other)) == ({}, [])


@pytest.mark.parametrize("words", [("--format", "erofs"), ("--level", "3"), ("--plain-http",)])
def test_options_of_images_are_refused(
    words: tuple[str, ...], demo: Path, other: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    ocitui("export", "-C", demo, "busybox:1.36", tmp_path / "out.tar")
    done = ocitui("import", "-C", other, tmp_path / "out.tar", *words)
    assert (done.status, words[0] in done.err) == (2, True)


@pytest.mark.parametrize(("words", "said"), [((), "no entry is named"), (("busybox:1.36", "-", "--json"), "no place")])
def test_what_cannot_be_meant_is_a_mistake(words: tuple[str, ...], said: str, demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("export", "-C", demo, *(words or ("-",)))
    assert (done.status, said in done.err) == (2, True)


def test_inspect_says_what_such_a_tar_is(demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    ocitui("export", "-C", demo, "busybox:1.36", tmp_path / "out.tar")
    done = ocitui("inspect", tmp_path / "out.tar")
    assert (done.status, "holds entries of a cache" in done.err) == (4, True)


@pytest.mark.parametrize("kind", ["", "cache:", "oci:", "oci-archive:"])
def test_a_home_that_nobody_has_is_a_directory_like_any(kind: str, demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("export", "busybox:1.36", f"{kind}~nobody-at-all/none/there", "-C", demo)
    assert done.status == 4
    assert "a fault of its own" not in done.err


def test_a_cache_without_a_name_is_not_the_working_directory(
    demo: Path, tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert ocitui("export", "busybox:1.36", "cache:", "-C", demo).status == 2
    assert not [*(tmp_path / "empty").iterdir()]


def test_a_digest_too_long_for_a_name_is_no_file(demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    index = json.loads((demo / "index.json").read_text())
    for entry in index["manifests"]:
        entry["digest"] = f"sha256:{'a' * 300}"
    (demo / "index.json").write_text(json.dumps(index))
    done = ocitui("export", "busybox:1.36", tmp_path / "there.tar", "-C", demo)
    assert done.status == 4
    assert "File name too long" not in done.err


@pytest.mark.parametrize("words", [("--login",), ("--allow-realm", "r.example.com=a.example.com"), ("--level", 0)])
def test_what_is_not_for_entries_is_refused(
    words: tuple[object, ...], demo: Path, other: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    assert ocitui("export", "-C", demo, "busybox:1.36", tmp_path / "some.tar").status == 0
    done = ocitui("import", "-C", other, tmp_path / "some.tar", *words)
    assert (done.status, f"{words[0]} is not for" in done.err) == (2, True)


@pytest.mark.parametrize(
    "dest", ["", ".", "/", "oci-archive:.", "~nobody-of-that-name/out.tar", "cache:~nobody", "cache:"]
)
def test_a_place_that_is_none_is_told_in_a_line(
    dest: str, demo: Path, ocitui: Ocitui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir(tmp_path))
    done = ocitui("export", "-C", demo, "busybox:1.36", dest, "--yes")
    assert (done.status in (2, 3, 4), done.err.count("ocitui: "), "fault" in done.err) == (True, 1, False), done.err
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.slow
def test_who_reads_nothing_holds_up_no_end(demo: Path) -> None:
    command = [*PROGRAM, "export", "-C", str(demo), "busybox:1.36", ALPINE.digest, "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as sending:
        assert sending.stdout is not None
        sending.stdout.read(512)
        time.sleep(1)
        sending.send_signal(signal.SIGINT)
        try:
            assert sending.wait(TIMEOUT) != 0
        finally:
            sending.kill()


def test_another_cache_that_names_it_otherwise_is_told_what_helps(demo: Path, other: Path, ocitui: Ocitui) -> None:
    words = ("import", "-C", other, f"cache:{demo}:busybox:1.36", "--name", "own:1")
    assert ocitui(*words).status == 0
    done = ocitui("export", "-C", demo, "busybox:1.36", f"cache:{other}")
    assert (done.status, "ocitui import --rename" in done.err) == (4, True)


def test_the_advice_for_what_has_no_name_works(demo: Path, other: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    index = demo / "index.json"
    index.write_text(index.read_text().replace("debian:12", ""))
    [nameless] = [one for one in ocitui("list", "-C", demo, "--json").json["entries"] if not one["name"]]
    ocitui("export", "-C", demo, "busybox:1.36", nameless["digest"], tmp_path / "two.tar")
    refused = ocitui("import", "-C", other, tmp_path / "two.tar")
    assert (refused.status, "bring it in alone" in refused.err) == (4, True)
    ocitui("export", "-C", demo, nameless["digest"], tmp_path / "one.tar")
    assert ocitui("import", "-C", other, tmp_path / "one.tar", "--name", "own:1").status == 0

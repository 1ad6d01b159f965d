"""why: every link from a name or a digest to the daemon's answer, and the answer as exit status."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocitui.cli.demo_cache import ALPINE, FORGOTTEN, OLD_ALPINE, QUEUE, SITE
from tests.cli.conftest import Ocitui, rot, widest
from tests.importing.layer_support import Item, layer
from tests.importing.pipeline import image_of, layout_of

TAR = ("--format", "tar")


@pytest.mark.parametrize("word", ["alpine:3.19", ALPINE.digest, ALPINE.digest[7:15], ALPINE.digest[:15]])
def test_a_hit(word: str, demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("why", word, *TAR, "-C", demo)
    assert done.status == 0
    assert "=>  the daemon answers a hit" in done.out
    assert "BAD" not in done.out
    assert ALPINE.digest[7:19] in done.out
    assert widest(done.out, demo) <= 80


def test_the_winner_and_the_overruled_are_named(demo: Path, ocitui: Ocitui) -> None:
    out = " ".join(ocitui("why", "alpine:3.19", *TAR, "-C", demo).out.split())
    assert f"overruled by a later one: {OLD_ALPINE.digest[7:19]}" in out
    assert f"wins, as the last of that name: {ALPINE.digest[7:19]}" in out


@pytest.mark.parametrize(
    "words", [["nowhere:1"], ["ghcr.io/example/proxy:latest"], ["registry.example.com:5000/team/site:2024.06"]]
)
def test_a_miss(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("why", *words, *TAR, "-C", demo)
    assert done.status == 1
    assert "BAD" in done.out
    assert "=>  the daemon answers a miss" in done.out


def test_another_format_is_a_miss_and_all_formats_can_be_seen(demo: Path, ocitui: Ocitui) -> None:
    assert ocitui("why", "alpine:3.19", "-C", demo).status == 1
    done = ocitui("why", "alpine:3.19", "--format", "all", "-C", demo)
    assert done.status == 0
    assert "in tar:" in done.out
    assert "in squashfs:" not in done.out


def test_a_document_that_the_daemon_cannot_read_is_an_error(demo: Path, ocitui: Ocitui) -> None:
    (demo / f"{ALPINE.digest}.config.json").write_bytes(b"{")
    done = ocitui("why", "alpine:3.19", *TAR, "-C", demo)
    assert done.status == 4
    assert "config's content" in done.out


def test_what_the_daemon_does_not_look_at_is_told_too(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("why", "quay.io/example/queue:7.2", *TAR, "-C", demo)
    assert done.status == 0
    assert "BAD header" in done.out
    ocitui("check", "--depth", "deep", "-C", demo)
    assert "not written since its sha256 was recorded" in " ".join(
        ocitui("why", ALPINE.digest, *TAR, "-C", demo).out.split()
    )
    assert QUEUE.digest[7:19] in done.out


def test_what_a_deep_check_found_is_told_with_its_time(demo: Path, ocitui: Ocitui) -> None:
    rot(demo, ocitui)
    ocitui("check", "--depth", "deep", "-C", demo)
    done = ocitui("why", ALPINE.digest, *TAR, "-C", demo)
    assert done.status == 0
    assert "BAD content" in done.out
    said = " ".join(done.out.split())
    assert "packed-damaged: its sha256 is" in said
    assert "found by the deep check of 20" in said
    assert "-> `ocitui repair` restores it" in said


def test_as_json(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("why", SITE.digest, *TAR, "--json", "-C", demo)
    assert done.status == 1
    assert {"schema", "version", "host", "cache", "typed", "digest", "links", "formats", "hit"} <= set(done.json)
    (tar,) = done.json["formats"]
    assert (tar["format"], tar["answer"]) == ("tar", "miss")
    bad = [link["title"] for link in tar["links"] if link["standing"] == "bad"]
    assert "config" in bad


@pytest.mark.slow
def test_what_the_image_runs_is_told_and_changes_no_answer(tmp_path: Path, ocitui: Ocitui) -> None:
    cache, config = tmp_path / "cache", {"Entrypoint": ["app"], "Env": ["PATH=/bin"]}
    cache.mkdir()
    for number, mode in enumerate((0o755, 0o644)):
        tar = layer(Item("bin/app", data=b"#!/bin/sh", mode=mode), Item("bin/sh", data=b"#!/bin/ld", mode=0o755))
        layout = layout_of(tmp_path / f"layout{number}", image_of(tar, config=config))
        name = f"registry.example/app:{number}"
        assert ocitui("import", f"oci:{layout}", "--name", name, "--format", "tar", "-C", cache).status == 0
        done = ocitui("why", name, *TAR, "--json", "-C", cache)
        assert done.status == 0
        (tar_chain,) = done.json["formats"]
        problem = "/bin/app is not executable" if number else "/bin/ld is not there"
        paths = [] if number else ["/bin/app", "/bin/sh"]
        assert tar_chain["program"] == {"asked": "app", "paths": paths, "problem": problem, "unsure": ""}
        (link,) = (link for link in tar_chain["links"] if link["title"] == "program")
        assert (link["standing"], link["text"]) == ("unknown", f"app: cannot be run as it is: {problem}")


def test_files_without_an_entry(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("why", FORGOTTEN.digest[7:15], *TAR, "-C", demo)
    assert done.status == 1
    assert "its files are there" in done.out


def test_a_corrupt_index_is_an_error_whatever_can_be_salvaged(demo: Path, ocitui: Ocitui) -> None:
    data = (demo / "index.json").read_bytes()
    (demo / "index.json").write_bytes(data[: len(data) // 2])
    done = ocitui("why", "alpine:3.19", *TAR, "-C", demo)
    assert done.status == 4
    assert "BAD index" in done.out
    assert "once index.json is mended" in done.out
    assert OLD_ALPINE.digest[7:19] in done.out


def test_bad_input(demo: Path, ocitui: Ocitui, tmp_path: Path) -> None:
    assert ocitui("why", "sha256:", *TAR, "-C", demo).status == 2
    assert ocitui("why", "a:99999999/x/y", "-C", demo).status == 2
    assert ocitui("why", "alpine", "--format", "zip", "-C", demo).status == 2
    assert ocitui("why", "alpine", "-C", tmp_path / "nowhere").status == 4
    assert not (demo / ".ocitui").exists()

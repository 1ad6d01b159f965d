"""repair: the plan is shown and nothing done; with --apply it is one transaction, checked again, and undone whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ocitui.cache import PackerCache, PlanChangedError
from ocitui.cli.demo_cache import ALPINE, FORGOTTEN, OLD_ALPINE, QUEUE, SITE, record_demo_sources
from ocitui.cli.output import TRIES
from ocitui.doctor.repair import plan as repairing
from ocitui.doctor.repair.plan import RepairPlan
from ocitui.host.daemon import DaemonState
from tests.bench.test_doctor import SOUND_SQUASHFS, make_cache
from tests.cli.answering import answer
from tests.cli.conftest import Ocitui, Outcome, rot, widest

QUEUE_FILE = f"{QUEUE.digest}.tar"


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def kinds(done: Outcome) -> list[str]:
    return [step["kind"] for step in done.json["plan"]["steps"] if step["chosen"]]


def left(done: Outcome) -> list[str]:
    return [one["finding"]["code"] for one in done.json["plan"]["left"]]


@pytest.fixture
def demo(demo: Path) -> Path:
    """With where some of its images came from on record, so that what is bad of them may go."""
    record_demo_sources(demo)
    return demo


@pytest.fixture
def sound(demo: Path, pristine_demo: Path) -> Path:
    """The demo cache without its faults but one: a manifest that is not the one of its digest."""
    (demo / f"{ALPINE.digest}.manifest.json").write_bytes(OLD_ALPINE.manifest_raw)
    for image in (SITE, QUEUE, FORGOTTEN):
        for path in demo.glob(f"{image.digest}.*"):
            path.unlink()
    index: dict[str, Any] = json.loads((demo / "index.json").read_text())
    index["manifests"] = [one for one in index["manifests"] if one["digest"] not in (SITE.digest, QUEUE.digest)]
    (demo / "index.json").write_text(json.dumps(index))
    return demo


def test_without_apply_the_plan_is_shown_and_nothing_done(demo: Path, ocitui: Ocitui) -> None:
    before = files(demo)
    done = ocitui("repair", "-C", demo)
    assert done.status == 1
    assert "what is to be done:" in done.out
    assert "packed-truncated" in done.out
    assert "goes to the trash" in done.out
    assert "what stays as it is:" in done.out
    assert f"--adopt {FORGOTTEN.digest[7:19]}=NAME" in done.out
    assert "nothing was changed; the same with --apply asks, and does it" in done.out
    assert widest(done.out, demo) <= 80
    assert files(demo) == before


def test_the_plan_as_json(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("repair", "--json", "-C", demo)
    assert done.status == 1
    assert {"schema", "version", "host", "cache", "plan", "transaction", "remaining"} <= set(done.json)
    (step,) = (step for step in done.json["plan"]["steps"] if step["chosen"])
    assert step["kind"] == "move-aside"
    assert step["files"] == [{"name": QUEUE_FILE, "fate": "trashed", "size": (demo / QUEUE_FILE).stat().st_size}]
    assert {"then", "loses", "bytes_trashed", "findings", "used_by"} <= set(step)
    assert done.json["transaction"] is None


def test_a_sound_cache_needs_nothing(krata_cache: Path, ocitui: Ocitui) -> None:
    assert "there is nothing to mend" in ocitui("repair", "-C", krata_cache).out
    done = ocitui("repair", "--apply", "-C", krata_cache)
    assert done.status == 0
    assert "there is nothing to do" in done.out
    assert "the cache is clean" in done.out


def test_nothing_was_found_of_what_is_asked_for(demo: Path, ocitui: Ocitui) -> None:
    last = ocitui("repair", "-C", demo, "--only", "manifest-digest").out.splitlines()[-1]
    assert last == "nothing of that kind was found"


def test_it_is_mended_checked_and_undone(demo: Path, ocitui: Ocitui) -> None:
    before = files(demo)
    words = ["--drop", "--adopt", f"{FORGOTTEN.digest[7:15]}=forgotten:1", "--apply", "--yes"]
    done = ocitui("repair", *words, "-C", demo)
    assert done.status == 0
    assert "the cache is clean" in done.out
    assert "ocitui undo " in done.out
    assert ocitui("check", "-C", demo).status == 0
    assert ocitui("resolve", "forgotten:1", "--format", "tar", "-C", demo).status == 0
    assert "repair" in ocitui("log", "-C", demo).out
    assert ocitui("undo", "-C", demo).status == 0
    assert files(demo) == before


def test_what_a_deep_check_found_is_mended_without_another(sound: Path, ocitui: Ocitui) -> None:
    path = rot(sound, ocitui)
    ocitui("check", "-C", sound, "--depth", "deep")
    before, only = files(sound), ("--only", "packed-damaged")
    assert "mends     packed-damaged" in ocitui("repair", "-C", sound, *only).out
    read_only = ocitui("repair", "-C", sound, *only, "--read-only", "--json")
    assert kinds(read_only) == ["move-aside"]
    ocitui("repair", "-C", sound, *only, "--apply", "--yes")
    assert not path.exists()
    assert ocitui("undo", "-C", sound).status == 0
    assert files(sound) == before
    assert kinds(ocitui("repair", "-C", sound, *only, "--json")) == ["move-aside"]


def test_a_reader_s_deep_plan_writes_no_ledger(sound: Path, ocitui: Ocitui) -> None:
    shutil.rmtree(sound / ".ocitui")
    ocitui("repair", "-C", sound, "--depth", "deep", "--read-only")
    assert not (sound / ".ocitui").exists()


def test_what_remains_is_the_exit_status(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("repair", "--apply", "--yes", "--json", "-C", demo)
    assert done.status == 3
    assert done.json["transaction"]["kind"] == "repair"
    assert done.json["transactions"] == [done.json["transaction"]]
    assert {one["code"] for one in done.json["remaining"]} == {"file-missing", "orphan-entry"}
    assert done.json["clean"] is False


def test_it_asks_before_it_does_anything(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(demo)
    refused = ocitui("repair", "--apply", "-C", demo)
    assert refused.status == 2
    assert "Move the packed file of" in refused.out
    as_json = ocitui("repair", "--apply", "--json", "-C", demo)
    assert (as_json.status, set(as_json.json) >= {"plan", "error"}) == (2, True)
    questions = answer(monkeypatch, "y")
    assert ocitui("repair", "--apply", "-C", demo).status == 130
    assert files(demo) == before
    assert "yes" in questions[0]
    answer(monkeypatch, "yes")
    assert ocitui("repair", "--apply", "-C", demo).status == 3
    assert not (demo / QUEUE_FILE).exists()


def test_dropping_what_is_in_use_asks_twice(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(demo)
    monkeypatch.setattr(RepairPlan, "used_by", property(lambda self: ("/dev/loop7",)))
    assert ocitui("repair", "--drop", "--apply", "--yes", "-C", demo).status == 2
    questions = answer(monkeypatch, "yes", "no")
    done = ocitui("repair", "--drop", "--apply", "-C", demo)
    assert (done.status, len(questions)) == (130, 2)
    assert "/dev/loop7" in done.err
    assert files(demo) == before
    assert len(answer(monkeypatch, "yes")) == 0
    assert ocitui("repair", "--drop", "--apply", "--yes", "-C", demo).status == 3


@pytest.mark.parametrize("by", ["code", "id", "digest", "short digest", "name"])
def test_it_can_be_narrowed(by: str, demo: Path, ocitui: Ocitui) -> None:
    found = [json.loads(line) for line in ocitui("check", "--json", "-C", demo).out.splitlines()]
    finding = next(one for one in found if one.get("code") == "packed-truncated")
    word = {
        "code": "packed-truncated",
        "id": finding["fingerprint"][:8],
        "digest": QUEUE.digest,
        "short digest": QUEUE.digest[7:13],
        "name": "quay.io/example/queue:7.2",
    }[by]
    done = ocitui("repair", "--json", "--only", word, "-C", demo)
    assert kinds(done) == ["move-aside"]
    assert left(done) == ["file-missing"]


def test_no_finding_of_that_name(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("repair", "--only", "0123456789ab", "--json", "-C", demo)
    assert (done.status, done.json["error"]["code"]) == (1, "no-such-finding")
    assert kinds(ocitui("repair", "--only", "index-missing", "--json", "-C", demo)) == []


def test_a_document_comes_back_from_another_cache(
    sound: Path, pristine_demo: Path, ocitui: Ocitui, tmp_path: Path
) -> None:
    words = ["repair", "--from", pristine_demo, "--apply", "--yes", "--json", "-C", sound]
    done = ocitui(*words)
    assert done.status == 0
    assert kinds(done) == ["restore-file"]
    assert (sound / f"{ALPINE.digest}.manifest.json").read_bytes() == ALPINE.manifest_raw


@pytest.mark.parametrize("words", [[], ["--apply", "--yes"]])
@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("oci:/nowhere", "/nowhere does not exist"),
        ("packed:/nowhere.squashfs", "/nowhere.squashfs does not exist"),
        ("image.tar", "image.tar does not exist"),
        (f"/{'x' * 300}", "x does not exist"),
        ("docker.io/library/alpine:3", "--registry"),
    ],
)
def test_a_source_that_is_none_is_an_error(
    words: list[str], source: str, why: str, sound: Path, ocitui: Ocitui
) -> None:
    done = ocitui("repair", "--from", source, "-C", sound, *words)
    assert done.status == 4
    assert why in done.err


def test_orphans_go_only_when_asked(demo: Path, ocitui: Ocitui) -> None:
    ocitui("repair", "--apply", "--yes", "-C", demo)
    assert list(demo.glob(f"{FORGOTTEN.digest}.*"))
    done = ocitui("repair", "--trash-orphans", "--only", "orphan-entry", "--apply", "--yes", "-C", demo)
    assert done.status == 3
    assert not list(demo.glob(f"{FORGOTTEN.digest}.*"))
    assert FORGOTTEN.digest[7:19] in ocitui("trash", "-C", demo).out


@pytest.mark.parametrize("damage", ["truncated", "utf-16", "emptied", "absent", "no entries", "a byte order mark"])
def test_a_lost_index_is_joined_from_its_sources_and_undo_brings_the_damage_back(
    damage: str, demo: Path, ocitui: Ocitui
) -> None:
    index = demo / "index.json"
    sound = index.read_bytes()
    ocitui("check", "-C", demo)
    _damage(index, damage)
    before = files(demo)
    plan = ocitui("repair", "-C", demo)
    assert "Which copy is good: only the one on disk, as the daemon does not run" in plan.out
    assert "What index.json held: " in plan.out
    done = ocitui("repair", "--apply", "--yes", "--json", "-C", demo)
    assert done.json["verdict"]["outcome"] == "loaded"
    assert done.json["assessment"]["case"] == "stopped"
    assert {one["name"] for one in done.json["plan"]["sources"]} >= {"debian:12", "alpine:3.19"}
    names = [one["annotations"]["io.containerd.image.name"] for one in json.loads(sound)["manifests"]]
    mended = json.loads(index.read_bytes())["manifests"]
    assert [one["annotations"].get("io.containerd.image.name") for one in mended][: len(names)] == names
    for transaction in reversed(done.json["transactions"]):
        assert ocitui("undo", transaction["id"], "-C", demo).status == 0
    assert files(demo) == before


def test_names_that_were_lost_are_asked_for_and_given(demo: Path, ocitui: Ocitui) -> None:
    (demo / "index.json").write_bytes(b"")
    assert f"--name {ALPINE.digest[7:19]}=NAME" in ocitui("repair", "-C", demo).out
    words = ["--name", f"{ALPINE.digest[7:15]}=alpine:3.19", "--apply", "--yes"]
    assert ocitui("repair", *words, "-C", demo).status == 3
    assert ocitui("resolve", "alpine:3.19", "--format", "tar", "--json", "-C", demo).json["digest"] == ALPINE.digest


def test_a_running_daemon_changes_what_is_to_be_done(
    demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ocitui.doctor import assessment as timeline_facts

    (demo / "index.json").write_bytes(b"{")
    monkeypatch.setattr(timeline_facts, "find_daemon", lambda *_: DaemonState(1, 0.0, True))
    done = ocitui("repair", "-C", demo)
    assert "the daemon's memory is good, the disk is not" in done.out
    assert "do not restart or stop kratad" in done.out
    assert "the daemon answers no more" in ocitui("repair", "--daemon-hangs", "-C", demo).out


def test_a_plan_that_no_longer_holds_is_made_and_shown_again(
    demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = repairing.apply_plan
    times: list[int] = []

    async def meddle(cache: PackerCache, plan: RepairPlan, *more: Any) -> Any:
        times.append(1)
        if len(times) == 1:
            (demo / QUEUE_FILE).write_bytes((demo / QUEUE_FILE).read_bytes() + b"more")
        return await applied(cache, plan, *more)

    monkeypatch.setattr(repairing, "apply_plan", meddle)
    done = ocitui("repair", "--apply", "--yes", "-C", demo)
    assert (done.status, len(times)) == (3, 2)
    assert "here is what would be done now" in done.err
    assert not (demo / QUEUE_FILE).exists()


def test_a_cache_that_goes_on_changing_is_left_where_nobody_is_asked(
    demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []

    async def changed(cache: PackerCache, plan: RepairPlan, *more: Any) -> Any:
        times.append(1)
        raise PlanChangedError("it changed")

    monkeypatch.setattr(repairing, "apply_plan", changed)
    before = files(demo)
    done = ocitui("repair", "--apply", "--yes", "--json", "-C", demo)
    assert (done.json["error"]["code"], len(times)) == (PlanChangedError.code, TRIES)
    assert files(demo) == before


def test_what_was_looked_at_once_was_not_checked_again(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("repair", "--only", "daemon-running", "--apply", "--yes", "-C", demo)
    assert "there is nothing to do" in done.out
    assert "checked again" not in done.out


def test_an_empty_file_goes_to_the_trash_as_well(demo: Path, ocitui: Ocitui) -> None:
    (demo / "index.json").write_bytes(b"")
    shown = ocitui("repair", "--only", "index-unparsable", "-C", demo).out.replace("\n", " ")
    assert "index.json, 0B, goes to the trash" in shown
    assert "0B go to the trash" in shown
    assert "nothing goes to the trash" not in shown


def test_what_is_sound_by_then_is_left_alone(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked about a plan without a step."""

    async def mended_by_another(cache: PackerCache, plan: RepairPlan, *more: Any) -> Any:
        (demo / QUEUE_FILE).unlink()
        raise PlanChangedError("it changed")

    monkeypatch.setattr(repairing, "apply_plan", mended_by_another)
    done = ocitui("repair", "--apply", "--yes", "-C", demo)
    assert done.status == 3
    assert "checked again" in done.out
    assert "mended;" not in done.out


def test_read_only_shows_the_plan_and_refuses_to_apply(demo: Path, ocitui: Ocitui) -> None:
    shutil.rmtree(demo / ".ocitui")
    assert ocitui("repair", "--read-only", "-C", demo).status == 1
    assert not (demo / ".ocitui").exists()
    done = ocitui("repair", "--read-only", "--apply", "--yes", "--json", "-C", demo)
    assert (done.status, done.json["error"]["code"]) == (4, "read-only")


def test_a_cache_that_is_gone(demo: Path, ocitui: Ocitui) -> None:
    shutil.rmtree(demo)
    assert ocitui("repair", "-C", demo).status == 4
    assert ocitui("repair", "--apply", "--yes", "-C", demo).status == 4


@pytest.mark.parametrize(
    "words",
    [
        ["--name", "abc"],
        ["--name", "=alpine"],
        ["--adopt", "abc"],
        ["--adopt", "abcd=host:99999999/x/y"],
        ["--mirror", "not a host"],
        ["--tls-ca", "/nowhere.pem"],
        ["--depth", "deepest"],
    ],
)
def test_usage(words: list[str], demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("repair", *words, "-C", demo)
    assert (done.status, done.out) == (2, "")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--adopt", "--name"])
def test_a_name_that_nothing_needs_is_refused(option: str, demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("repair", option, f"{SITE.digest}=other:1", "-C", demo)
    assert (done.status, done.out) == (2, "")
    assert f"{option} {SITE.digest}=other:1" in done.err or f"{option} {SITE.digest}=docker.io" in done.err


def test_an_option_without_its_value_names_the_help_of_its_command(demo: Path, ocitui: Ocitui) -> None:
    assert "see ocitui repair --help" in ocitui("repair", "-C", demo, "--from").err


def test_adopt_without_a_value_takes_the_options_behind_it_for_options(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("repair", "--adopt", "--json", "-C", demo)
    assert done.status == 1
    assert "orphan-entry" in left(done)


def _damage(index: Path, damage: str) -> None:
    data = index.read_bytes()
    match damage:
        case "truncated":
            index.write_bytes(data[: len(data) // 2])
        case "utf-16":
            index.write_bytes(data.decode().encode("utf-16"))
        case "emptied":
            index.write_bytes(b"")
        case "absent":
            index.unlink()
        case "no entries":
            index.write_bytes(b'{"schemaVersion":2,"manifests":[]}')
        case _:
            index.write_bytes(b"\xef\xbb\xbf" + data)


def test_many_entries_without_a_name_are_one_thing_to_be_said_and_json_has_each(tmp_path: Path, ocitui: Ocitui) -> None:
    make_cache(tmp_path / "cache", 20, lambda _: SOUND_SQUASHFS, "squashfs")
    (tmp_path / "cache/index.json").write_bytes(b"")
    done = ocitui("repair", "-C", tmp_path / "cache")
    assert "name-missing  (20 findings)" in done.out
    assert "and 12 more" in done.out
    assert done.out.count("it has no name") == 8
    assert "give it one: --name DIGEST=NAME" in done.out
    assert left(ocitui("repair", "--json", "-C", tmp_path / "cache")) == ["name-missing"] * 20


def test_many_steps_of_a_kind_are_shown_by_the_first_of_them_and_json_has_each(tmp_path: Path, ocitui: Ocitui) -> None:
    cache = make_cache(tmp_path / "cache", 25, lambda _: SOUND_SQUASHFS, "squashfs")
    for path in cache.glob("*.squashfs"):
        path.write_bytes(b"")
    kept = ocitui("repair", "-C", cache)
    assert "it stays: not known: no import of it is on record" in " ".join(kept.out.split())
    assert "--even-if-gone" in kept.out
    done = ocitui("repair", "--even-if-gone", "-C", cache)
    assert "\n 20 " in done.out
    assert "\n 21 " not in done.out
    assert "and 5 more of the kind move-aside; --json lists each" in done.out
    assert len(kinds(ocitui("repair", "--json", "--even-if-gone", "-C", cache))) == 25

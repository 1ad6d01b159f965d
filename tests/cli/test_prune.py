"""`ocitui prune`, `pin` and `unpin`: plans, questions, what stays and why; and what deletion by a filter spares."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocitui.cache import Ledger, Topic
from ocitui.cli.demo_cache import ALPINE, BUSYBOX, OLD_ALPINE, QUEUE, record_demo_sources
from tests.cli.answering import answer
from tests.cli.conftest import Ocitui
from tests.cli.test_zones import host as host  # the demo in a daemon's store
from tests.doctor.repair_support import let_come_back
from tests.host.test_redb import expected
from tests.importing.image_makers import make_image, put
from tests.importing.registry_server import FaultyRegistry, serving
from tests.tools import PATIENT_SECONDS

MONTHS = 90 * 86_400
QUEUE_NAME = "quay.io/example/queue:7.2.tar"


@pytest.fixture
def demo(demo: Path) -> Path:
    record_demo_sources(demo)
    return demo


def kernel_of_web() -> str:
    (web,) = [row for row in expected("03-three")["zones"] if row["name"] == "web"]
    return str(web["kernel"]["digest"])


def names(cache: Path, ocitui: Ocitui) -> list[str]:
    return [one["name"] for one in ocitui("list", "-C", cache, "--json").json["entries"]]


def test_the_plan_says_what_goes_and_what_stays_and_why(demo: Path, ocitui: Ocitui) -> None:
    before = (demo / "index.json").read_bytes()
    done = ocitui("prune", "--unused", "-C", demo)
    assert done.status == 0
    text = " ".join(done.out.split())
    assert "2 entries of" in text
    assert "busybox:1.36 tar, " in text
    assert "docker://docker.io/library/busybox:1.36 gave it 2d ago to one whom nobody knows" in text
    assert "debian:12 tar: cannot come back: not known: no import of it is on record" in text
    assert "without it alpine:3.19 would stand for another image" in text
    assert (demo / "index.json").read_bytes() == before


def test_it_is_done_with_apply_and_undone(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(demo, ocitui)
    questions = answer(monkeypatch, "no", "yes")
    assert ocitui("prune", "--unused", "--apply", "-C", demo).status == 130
    assert names(demo, ocitui) == before
    done = ocitui("prune", "--unused", "--apply", "-C", demo)
    assert (done.status, len(questions)) == (0, 2)
    assert len(names(demo, ocitui)) == len(before) - 2
    ocitui("undo", "-C", demo)
    assert names(demo, ocitui) == before


def test_for_good_wants_the_number(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = answer(monkeypatch, "yes", "2")
    assert ocitui("prune", "--unused", "--for-good", "--apply", "-C", demo).status == 130
    done = ocitui("prune", "--unused", "--for-good", "--apply", "-C", demo)
    assert "Type 2 to confirm" in questions[0]
    assert done.status == 0
    assert "are free again" in done.out
    assert os.listdir(demo / ".ocitui" / "trash") == []


def test_a_named_entry_goes_whatever_speaks_against_it(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("prune", "debian:12", "--apply", "--yes", "-C", demo, "--json")
    assert [one["name"] for one in done.json["plan"]["entries"]] == ["debian:12"]
    assert done.json["plan"]["entries"][0]["comes_back"] == "not-known"
    assert "debian:12" not in names(demo, ocitui)


def test_what_a_zone_needs_is_asked_for_twice(host: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (host / "index.json").read_bytes()
    plan = ocitui("prune", "--unused", "--json", "-C", host).json["plan"]
    needed = [one for one in plan["staying"] if one["used_by"]]
    assert needed == [], "--unused does not speak of it"
    plan = ocitui("prune", "--older-than", "0s", "--json", "-C", host).json["plan"]
    (one,) = [one for one in plan["staying"] if one["why"].startswith("needed by zone")]
    refused = ocitui("prune", one["digest"], "--apply", "--yes", "-C", host)
    assert refused.status == 2
    questions = answer(monkeypatch, "yes", "no")
    assert ocitui("prune", one["digest"], "--apply", "-C", host).status == 130
    assert len(questions) == 2
    assert (host / "index.json").read_bytes() == before


def test_nothing_goes_by_a_rule_while_the_database_does_not_read(host: Path, ocitui: Ocitui) -> None:
    record_demo_sources(host)
    assert ocitui("prune", "--unused", "--json", "-C", host).json["plan"]["entries"]
    (host.parent.parent / "krata.db").write_bytes(b"no database")
    plan = ocitui("prune", "--unused", "--json", "-C", host).json["plan"]
    assert (plan["entries"], bool(plan["doubt"])) == ([], True)
    assert all(one["why"].startswith(("may be needed", "needed by")) for one in plan["staying"])


def test_a_zone_that_comes_while_it_is_asked_makes_another_plan(
    host: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = host.parent.parent / "krata.db"
    whole = database.read_bytes()
    database.unlink()
    (host.parent.parent / "host.uuid").unlink()
    needed = f"{kernel_of_web()}.tar"
    let_come_back(host)
    asked = []

    def ask(question: str) -> str:
        asked.append(question)
        database.write_bytes(whole)
        return "yes"

    answer(monkeypatch)
    monkeypatch.setattr("ocitui.cli.output.ask", ask)
    ocitui("prune", "--unused", "--apply", "-C", host)
    assert len(asked) == 2
    assert (host / needed).exists()


def test_a_goal_that_is_not_reached_is_told(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("prune", "--until-free", "900000T", "-C", demo)
    assert done.status == 3
    assert "short of" in done.out
    assert ocitui("prune", "--until-free", "1", "-C", demo).status == 0


def test_a_policy(demo: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('unused = true\npins = ["busy*"]\n')
    plan = ocitui("prune", "--policy", policy, "--json", "-C", demo).json["plan"]
    assert [one["name"] for one in plan["entries"]] == ["quay.io/example/queue:7.2"]
    assert any("pinned by the policy" in one["why"] for one in plan["staying"])
    both = ocitui("prune", "--policy", policy, "--unused", "-C", demo)
    assert (both.status, "stands beside other rules" in both.err) == (2, True)
    policy.write_text("keep = 1\nkeeps = 2\n")
    refused = ocitui("prune", "--policy", policy, "-C", demo)
    assert (refused.status, "keeps" in refused.err) == (4, True)


def test_without_a_rule_it_does_nothing(demo: Path, ocitui: Ocitui) -> None:
    refused = ocitui("prune", "-C", demo)
    assert (refused.status, "no rule says what may go" in refused.err) == (2, True)


@contextmanager
def served(registry: FaultyRegistry) -> Iterator[str]:
    """The registry in a thread of its own, as a command has an event loop itself; gives its host."""
    ready, loops = threading.Event(), list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]()

    async def serve() -> None:
        async with serving(registry):
            done = asyncio.Event()
            loops.append((asyncio.get_running_loop(), done))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(PATIENT_SECONDS)
    try:
        yield registry.host.replace("127.0.0.1", "localhost")
    finally:
        ((loop, done),) = loops
        loop.call_soon_threadsafe(done.set)
        thread.join()


def test_ask_lets_go_what_a_registry_still_gives(tmp_path: Path, ocitui: Ocitui) -> None:
    image, registry, cache = make_image(b"a" * 100), FaultyRegistry(), tmp_path / "cache"
    cache.mkdir()
    put(registry, image, "v1")
    with served(registry) as host:
        (cache / f"{image.digest}.manifest.json").write_bytes(image.manifest)
        (cache / f"{image.digest}.config.json").write_bytes(image.config)
        (cache / f"{image.digest}.tar").write_bytes(b"tar" * 1000)
        annotations = {"dev.krata.oci.packer.format": "tar", "io.containerd.image.name": f"{host}/team/app:v1"}
        media = "application/vnd.oci.image.manifest.v1+json"
        one = {"mediaType": media, "digest": image.digest, "size": 1, "annotations": annotations}
        (cache / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [one]}))
        assert ocitui("prune", "--unused", "--json", "-C", cache).json["plan"]["entries"] == []
        asked = ocitui("prune", "--unused", "--ask", "--json", "-C", cache).json["plan"]
        assert [one["comes_back"] for one in asked["entries"]] == ["registry-daemon"]
        told = ocitui("why", f"{host}/team/app:v1", "--format", "tar", "--ask", "-C", cache)
        assert "gives it to the daemon's own client" in " ".join(told.out.split())
        other = put(registry, make_image(b"b" * 10), "v1")
        told = ocitui("why", f"{host}/team/app:v1", "--format", "tar", "--ask", "-C", cache)
        assert f"is {other.digest[7:19]} there today" in " ".join(told.out.split())
        requests = len(registry.requests)
        ocitui("prune", "--unused", "--ask", "--json", "-C", cache)
        assert len(registry.requests) == requests, "what was asked within a day is not asked again"


def test_pins_are_kept_listed_and_taken_back(demo: Path, ocitui: Ocitui) -> None:
    pinned = ocitui("pin", "busybox:1.36", "--reason", "for the release", "-C", demo)
    assert pinned.status == 0
    assert "for the release, by " in ocitui("pin", "-C", demo).out
    plan = ocitui("prune", "--unused", "--json", "-C", demo).json["plan"]
    assert [one["name"] for one in plan["entries"]] == ["quay.io/example/queue:7.2"]
    assert next(one for one in plan["staying"] if one["digest"] == BUSYBOX.digest)["pinned"].startswith("for the")
    entries = ocitui("list", "--filter", "busybox", "--json", "-C", demo).json["entries"]
    assert all(one["pinned"].startswith("for the release") for one in entries)
    assert ocitui("unpin", "busybox:1.36", "-C", demo).status == 0
    assert ocitui("pin", "-C", demo).out == "nothing is pinned\n"
    assert ocitui("pin", "nonsense", "-C", demo).status == 1
    assert ocitui("unpin", "-C", demo).status == 2
    assert ocitui("pin", "busybox:1.36", "--reason", " ", "-C", demo).status == 2
    assert ocitui("pin", "busybox:1.36", "--read-only", "-C", demo).status == 4


@pytest.mark.parametrize("cut", [None, 12])
def test_a_pin_outlives_its_entry_until_it_is_taken_back(cut: int | None, demo: Path, ocitui: Ocitui) -> None:
    assert ocitui("pin", "busybox:1.36", "-C", demo).status == 0
    assert ocitui("delete", "busybox:1.36", "--yes", "-C", demo).status == 0
    (listed, *_) = ocitui("pin", "--json", "-C", demo).json["entries"]
    word = listed["digest"].partition(":")[2][:cut] if cut else f"{listed['digest']}.{listed['format']}"
    assert listed["name"] is None
    assert ocitui("unpin", word, "-C", demo).status == 0
    assert listed not in ocitui("pin", "--json", "-C", demo).json["entries"]
    assert ocitui("unpin", word, "-C", demo).status == 1


def test_what_has_no_format_is_not_pinned(demo: Path, ocitui: Ocitui) -> None:
    index = json.loads((demo / "index.json").read_text())
    for entry in index["manifests"]:
        entry["annotations"].pop("dev.krata.oci.packer.format", None)
    (demo / "index.json").write_text(json.dumps(index))
    done = ocitui("pin", "busybox:1.36", "-C", demo)
    assert done.status == 1
    assert "no format" in done.err


def test_for_good_has_no_room_by_the_trash(demo: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch) -> None:
    ocitui("delete", "alpine:3.19", "--yes", "-C", demo)
    disk = os.statvfs(demo)
    monkeypatch.setattr("os.statvfs", lambda path: disk)
    wanted = str(disk.f_bavail * disk.f_frsize + 1)
    assert ocitui("prune", "--until-free", wanted, "--keep", "9", "-C", demo).status == 0
    assert ocitui("prune", "--until-free", wanted, "--keep", "9", "--for-good", "-C", demo).status == 3


def test_a_deletion_by_a_filter_spares_what_is_pinned(demo: Path, ocitui: Ocitui) -> None:
    ocitui("pin", ALPINE.digest, "-C", demo)
    done = ocitui("delete", "--filter", "alpine", "--yes", "-C", demo)
    assert "1 entry of these are pinned, and stay" in done.err
    assert OLD_ALPINE.digest not in (demo / "index.json").read_text()
    assert ALPINE.digest in (demo / "index.json").read_text()
    named = ocitui("delete", ALPINE.digest, "--yes", "-C", demo)
    assert "Pinned:" in named.out
    assert named.status == 0


def test_read_only_notes_nothing(demo: Path, ocitui: Ocitui) -> None:
    before = (demo / ".ocitui" / "ledger").read_bytes()
    assert ocitui("prune", "--unused", "--read-only", "-C", demo).status == 0
    assert (demo / ".ocitui" / "ledger").read_bytes() == before
    assert ocitui("prune", "--unused", "--apply", "--yes", "--read-only", "-C", demo).status == 4


def test_age_is_that_of_the_file_or_of_its_use(demo: Path, ocitui: Ocitui) -> None:
    packed, now = demo / f"{QUEUE.digest}.tar", time.time()
    for path in demo.glob("*.tar"):
        os.utime(path, (now, now))
    assert ocitui("prune", "--older-than", "60d", "--json", "-C", demo).json["plan"]["entries"] == []
    os.utime(packed, (now - MONTHS, now - MONTHS))
    plan = ocitui("prune", "--older-than", "60d", "--json", "-C", demo).json["plan"]
    assert [one["digest"] for one in plan["entries"]] == [QUEUE.digest]
    ledger = Ledger.open(demo)
    ledger.note(Topic.USED, packed.name, "web")
    ledger.flush()
    assert ocitui("prune", "--older-than", "60d", "--json", "-C", demo).json["plan"]["entries"] == []


def test_what_resolve_finds_was_of_use_then(demo: Path, ocitui: Ocitui) -> None:
    packed, past = demo / f"{QUEUE.digest}.tar", time.time() - MONTHS
    os.utime(packed, (past, past))
    old = ("prune", "--older-than", "60d", "--json", "-C", demo)
    assert ocitui("resolve", QUEUE_NAME, "--read-only", "-C", demo).status == 0
    assert QUEUE.digest in [one["digest"] for one in ocitui(*old).json["plan"]["entries"]]
    assert ocitui("resolve", QUEUE_NAME, "-C", demo).status == 0
    assert Ledger.open(demo).noted(Topic.USED)[packed.name].text == "ocitui resolve"
    assert QUEUE.digest not in [one["digest"] for one in ocitui(*old).json["plan"]["entries"]]


def test_a_resolve_leaves_a_cache_alone_that_ocitui_keeps_nothing_of(demo: Path, ocitui: Ocitui) -> None:
    shutil.rmtree(demo / ".ocitui")
    before = sorted(demo.iterdir())
    assert ocitui("resolve", QUEUE_NAME, "-C", demo).status == 0
    assert sorted(demo.iterdir()) == before

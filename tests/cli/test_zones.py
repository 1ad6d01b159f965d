"""`ocitui zones`, and what delete asks and filters find of what zones need."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from ocitui.cache import PackedFormat, PackerCache
from ocitui.cli.demo_cache import ALPINE, BUSYBOX
from ocitui.text import human_size
from tests.cache.support import make_image
from tests.cli.answering import answer
from tests.cli.conftest import Ocitui
from tests.host.test_redb import database, expected
from tests.host.xenstore import StandIn, guest


@pytest.fixture
def host(demo: Path, tmp_path: Path) -> Path:
    """The demo in a daemon's store; gives the cache. Zone web has one of its entries for its kernel."""
    store = tmp_path / "store"
    cache = store / "cache" / "image"
    cache.parent.mkdir(parents=True)
    demo.rename(cache)
    (store / "host.uuid").touch()
    (store / "krata.db").write_bytes(database("03-three"))
    web = {row["name"]: row for row in expected("03-three")["zones"]}["web"]
    kernel = web["kernel"]["digest"]
    index = json.loads((cache / "index.json").read_bytes())
    one = next(one for one in index["manifests"] if one["digest"] == ALPINE.digest)
    for name in [path.name for path in cache.iterdir() if path.name.startswith(ALPINE.digest)]:
        (cache / name).rename(cache / name.replace(ALPINE.digest, kernel))
    one["digest"] = kernel
    (cache / "index.json").write_text(json.dumps(index))
    return cache


def kernel_of(cache: Path, ocitui: Ocitui) -> str:
    zones = {zone["name"]: zone for zone in ocitui("zones", "-C", cache, "--json").json["zones"]}
    (kernel,) = (need["digest"] for need in zones["web"]["needs"] if need["role"] == "kernel")
    return str(kernel)


def test_zones_lists_each_need_with_what_the_daemon_finds(host: Path, ocitui: Ocitui) -> None:
    done = ocitui("zones", "-C", host)
    assert done.status == 1
    head, *lines = done.out.splitlines()
    assert head.split() == ["ZONE", "STATE", "NEEDS", "IMAGE", "FORMAT", "DIGEST", "WHEN", "ANSWER"]
    rows = [line.split() for line in lines[:7]]
    assert ["web", "created", "image", "-", "squashfs", "5be1ecc7935f", "next-start", "miss"] in rows
    assert any(row[:3] == ["web", "created", "kernel"] and row[-1] == "damaged" for row in rows)
    assert any(line.split()[:3] == ["failed", "dd1c84e4:", "image"] for line in lines[7:])
    assert lines[-1].split() == [
        "missing",
        "4",
        "entries",
        "that",
        "zones",
        "need",
        "would",
        "not",
        "be",
        "found",
        "as",
        "packed",
    ]


def test_zones_for_programs(host: Path, ocitui: Ocitui) -> None:
    found = ocitui("zones", "-C", host, "--json").json
    assert {"sure", "doubt", "source", "zones", "leaks"} <= set(found)
    source = {"database": "exact", "daemon": "unasked", "xenstore": "unknown", "note": ""}
    assert (found["sure"], found["source"]) == (True, source)
    assert {zone["uuid"] for zone in found["zones"]} == {row["uuid"] for row in expected("03-three")["zones"]}
    (host.parent.parent / "krata.db").write_bytes(database("04b-protobuf"))
    found = ocitui("zones", "-C", host, "--json").json
    assert found["sure"] is False
    assert {zone["uuid"] for zone in found["zones"]} == {row["uuid"] for row in expected("04b-protobuf")["zones"]}


def test_which_guests_run_and_which_of_them_go(
    host: Path, ocitui: Ocitui, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = {row["name"]: row for row in expected("03-three")["zones"]}["web"]
    lost, xenstore = "a3b1c6de-6d0c-4a1e-9d35-0a3a5a2f7f10", StandIn(open_path, monkeypatch)
    xenstore.prints({**guest(7, web["uuid"], "web"), **guest(9, lost, "shop")})
    found = ocitui("zones", "-C", host, "--json").json
    assert found["source"]["xenstore"] == "read"
    assert {zone["name"]: zone["domid"] for zone in found["zones"] if zone["name"]} == {"web": 7, "db": None}
    assert found["rowless"] == [{"domid": 9, "uuid": lost, "name": "shop"}]
    said = " ".join(ocitui("zones", "-C", host).out.split())
    assert "domain 9 (shop), which kratad destroys, as krata.db has no row of it" in said
    assert "stopped" not in said
    xenstore.prints({})
    said = " ".join(ocitui("zones", "-C", host).out.split())
    assert "web: created, without a domain, so that kratad makes it anew" in said
    assert "destroys" not in said


def test_what_a_daemon_left_is_told_with_what_removes_it(
    host: Path, ocitui: Ocitui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, uuid, web = set[str](), "a3b1c6de-6d0c-4a1e-9d35-0a3a5a2f7f10", expected("03-three")["zones"][0]["uuid"]
    monkeypatch.setattr("ocitui.host.zones.temporary_folder", lambda *_: tmp_path)
    monkeypatch.setattr("ocitui.host.zones.held_in", lambda *_: held)
    pull, used = tmp_path / f"oci-assemble-{uuid}", tmp_path / f"krata-cfg-{web}"
    pull.mkdir()
    used.mkdir()
    (pull / "image.pack").write_bytes(bytes(2048))
    said = ocitui("zones", "-C", host).out
    assert f" rm -r {pull}\n" in said
    assert f"of a pull that is no more, {human_size(2048)}, " in " ".join(said.split())
    assert (str(used) in said, said.count("leftover")) == (False, 1)
    found = {one["path"]: one for one in ocitui("zones", "-C", host, "--json").json["leftovers"]}
    since = pull.stat().st_ctime
    assert found[str(pull)] == {
        "path": str(pull), "kind": "pull", "bytes": 2048, "since": since, "live": False, "removal": f"rm -r {pull}",
    }  # fmt: skip
    assert (found[str(used)]["live"], found[str(used)]["removal"]) == (True, None)
    held.add(pull.name)
    assert str(pull) not in ocitui("zones", "-C", host).out
    assert pull.exists(), "nothing outside of the cache is removed"


def test_what_a_zone_needs_is_not_deleted_by_yes_alone(host: Path, ocitui: Ocitui) -> None:
    kernel = kernel_of(host, ocitui)
    refused = ocitui("delete", kernel, "--yes", "-C", host)
    assert refused.status == 2
    assert "needed by zone db (kernel, now), zone web (kernel, next-start)" in refused.err
    assert ocitui("delete", BUSYBOX.digest, "--yes", "-C", host).status == 0


def test_that_it_is_not_sure_is_said_where_entries_go(host: Path, ocitui: Ocitui) -> None:
    (host.parent.parent / "krata.db").write_bytes(database("45-recovery-all-pages"))
    done = ocitui("delete", BUSYBOX.digest, "--yes", "-C", host, "--json")
    assert done.status == 0
    assert done.json["plan"]["doubt"].startswith("krata.db: ")


def test_a_filter_finds_what_zones_need(host: Path, ocitui: Ocitui) -> None:
    def count(words: str) -> int:
        return len(ocitui("list", "-C", host, "--json", "--filter", words).json["entries"])

    everything = count("")
    assert [count(words) for words in ("used:", "used:web", "used:nobody", "used:unsure")] == [1, 1, 0, 0]
    (host.parent.parent / "krata.db").write_bytes(b"")
    assert [count(words) for words in ("used:unsure", "!used:", "used:web")] == [everything, 0, 0]


def test_a_host_without_a_daemon_has_no_zone(demo: Path, ocitui: Ocitui) -> None:
    done = ocitui("zones", "-C", demo)
    assert (done.status, done.out.splitlines()[0]) == (0, "no zone is known")
    assert "not sure" not in done.out


def test_an_undo_that_takes_away_what_a_zone_needs_is_asked_about(
    host: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = kernel_of(host, ocitui)
    answer(monkeypatch, "yes", "yes")
    assert ocitui("delete", kernel, "-C", host).status == 0
    monkeypatch.undo()
    packed = make_image(host.parent / "packed", name="app:1", format=PackedFormat.TAR, digest=kernel)
    asyncio.run(PackerCache(host).store(packed))
    refused = ocitui("undo", "--yes", "-C", host)
    assert (refused.status, "needed by zone db (kernel, now)" in refused.err) == (2, True)
    assert (host / f"{kernel}.tar").exists()
    answer(monkeypatch, "yes")
    assert ocitui("undo", "-C", host).status == 0
    assert not (host / f"{kernel}.tar").exists()
    assert ocitui("undo", "-C", host).status == 0, "what comes back takes nothing from anybody"
    assert (host / f"{kernel}.tar").exists()


@pytest.mark.parametrize(
    ("word", "before", "meanwhile"),
    [("delete", "01-empty", "03-three"), ("prune", "01-empty", "03-three"), ("undo", "03-three", "01-empty")],
)
def test_zones_that_come_or_go_while_it_is_asked_make_a_new_plan(
    word: str, before: str, meanwhile: str, host: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, rows = kernel_of(host, ocitui), host.parent.parent / "krata.db"
    packed = make_image(host.parent / "packed", name="app:1", format=PackedFormat.TAR, digest=kernel)
    asyncio.run(PackerCache(host).store(packed))
    there = (host / "index.json").read_bytes()
    rows.write_bytes(database(before))
    answers, questions = iter(["yes", "yes", "no"]), list[str]()

    def ask(question: str) -> str:
        rows.write_bytes(database(meanwhile))
        questions.append(question.partition("?")[0])
        return next(answers)

    answer(monkeypatch)
    monkeypatch.setattr("ocitui.cli.output.ask", ask)
    words = {"delete": ["delete", f"{kernel}.tar"], "prune": ["prune", f"{kernel}.tar", "--apply"]}.get(word, [word])
    done = ocitui(*words, "-C", host)
    assert "zones came or went since the plan was shown: here is what would be done now" in done.err
    if word != "undo":
        assert (done.status, questions[:2]) == (130, [word, word])
        assert questions[2].endswith("them all the same")
        assert (host / "index.json").read_bytes() == there
    else:
        assert (done.status, questions) == (0, ["undo it all the same"])


def test_an_undo_tells_that_it_is_not_sure(host: Path, ocitui: Ocitui) -> None:
    packed = make_image(host.parent / "packed", name="app:1", format=PackedFormat.TAR)
    asyncio.run(PackerCache(host).store(packed))
    (host.parent.parent / "krata.db").write_bytes(b"")
    done = ocitui("undo", "--yes", "-C", host)
    assert (done.status, "not sure: others may be needed too: krata.db: " in done.err) == (0, True)

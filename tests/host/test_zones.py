"""Who needs which entry: what a state asks for, what the daemon says beside the database, and what is not sure."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ocitui.cache import PackedFormat, PlanChangedError
from ocitui.host.loop_devices import LoopUse
from ocitui.host.programs import Domain
from ocitui.host.redb import DatabaseState
from ocitui.host.zones import NeedRole, When, check_users, decode_zone, find_users, make_zone, placed, read_zones
from tests.host.loops import uses_of
from tests.host.test_redb import database, expected
from tests.host.xenstore import StandIn, guest, loops_of
from tests.kratad import zone_lines

DIGEST, KERNEL = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
NEEDS = {NeedRole.IMAGE: (DIGEST, 1), NeedRole.KERNEL: (KERNEL, 3)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A daemon's store, with three zones in its database."""
    (tmp_path / "cache" / "image").mkdir(parents=True)
    (tmp_path / "host.uuid").write_text("f3b1c6de-6d0c-4a1e-9d35-0a3a5a2f7f10\n")
    (tmp_path / "krata.db").write_bytes(database("03-three"))
    return tmp_path


@pytest.fixture
def daemon(store: Path, open_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What its kratactl answers, one zone a line; its socket is there."""
    answer = store / "answer"
    (open_path / "kratactl").write_text(
        f'#!/bin/sh\n[ "$*" = "-c unix://{store}/daemon.socket zone list -f jsonl" ] && exec cat {answer}\n'
    )
    (open_path / "kratactl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{open_path}:{os.environ['PATH']}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(store / "daemon.socket"))
        yield answer


@pytest.mark.parametrize(
    ("state", "used", "whens"),
    [
        ("creating", {}, [When.NOW, When.NOW]),
        ("created", {}, [When.NEXT_START, When.NEXT_START]),
        ("created", {f"{DIGEST}.squashfs": ["loop3"]}, [When.PINNED, When.NEXT_START]),
        ("failed", {f"{DIGEST}.squashfs": ["loop3"]}, [When.PINNED, When.NEXT_START]),
        *((state, {}, [When.NONE, When.NONE]) for state in ("failed", "exited", "destroying", "destroyed", "unknown")),
    ],
)
def test_what_a_zone_needs_when(state: str, used: dict[str, list[str]], whens: list[When]) -> None:
    (zone,) = placed([make_zone("u", "web", state, NEEDS)], uses_of(used))
    assert [need.when for need in zone.needs] == whens
    assert [(need.digest, need.format, need.error) for need in zone.needs] == [
        (DIGEST, PackedFormat.SQUASHFS, ""),
        (KERNEL, PackedFormat.TAR, ""),
    ]


def group(number: int, inside: bytes = b"") -> bytes:
    """A group of protocol buffers, as their first version had them."""
    return varint(number << 3 | 3) + inside + varint(number << 3 | 4)


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value >= 0x80 else bytes([value])


def nested(depth: int) -> bytes:
    return group(99, nested(depth - 1)) if depth else b""


WEB = b"\x12\x05\x0a\x03web"  # field 2, the spec, of which field 1 is the name


@pytest.mark.parametrize(
    ("unknown", "reads"),
    [
        (group(99), True),
        (group(99, b"\x08\x05" + WEB + group(98)), True),
        (nested(100), True),
        (nested(101), False),
        (group(3), False),  # the status, which is no group
        (group(99)[:-2], False),
        (group(99)[2:], False),
        (group(99)[:-2] + group(98)[-2:], False),
        (group(0), False),
        (b"\x9e\x06", False),  # a kind that there is not
    ],
)
def test_a_row_reads_with_the_groups_that_the_daemon_passes_over(unknown: bytes, reads: bool) -> None:
    """Which are those of no number it knows, each with its end: `skip_field` of prost."""
    for row in (unknown + WEB, WEB + unknown):
        zone = decode_zone(bytes(16), row)
        assert (zone.name, bool(zone.problem)) == (("web", False) if reads else ("", True))


@pytest.mark.parametrize("depth", [0, 1, 100])
def test_what_a_group_holds_is_none_of_the_row_s(depth: int) -> None:
    assert decode_zone(bytes(16), group(99, b"\x12\x05\x0a\x03not") + WEB + nested(depth)).name == "web"


def test_what_no_entry_can_do_is_told() -> None:
    zone = make_zone("u", "", "creating", {NeedRole.IMAGE: (DIGEST, 3), NeedRole.INITRD: (DIGEST, 2)})
    assert [need.error for need in zone.needs] == ["no zone has a tar for its image", "the initrd has to be in a tar"]


def test_the_database_is_enough_where_nobody_can_be_asked(store: Path) -> None:
    zones = read_zones(store / "cache" / "image")
    assert (zones.sure, zones.database, zones.daemon) == (True, DatabaseState.EXACT, "unasked")
    assert sorted(zone.label for zone in zones.zones) == ["db", "dd1c84e4", "web"]


def test_the_daemon_is_asked_and_says_the_same(store: Path, daemon: Path) -> None:
    daemon.write_text(zone_lines(expected("03-three")["zones"]))
    zones = read_zones(store / "cache" / "image")
    assert (zones.sure, zones.daemon, len(zones.zones)) == (True, "equal", 3)
    assert read_zones(store / "cache" / "image", ask=False).daemon == "unasked"


def test_where_both_differ_all_that_either_tells_is_needed_and_nothing_is_sure(store: Path, daemon: Path) -> None:
    rows = expected("03-three")["zones"]
    daemon.write_text(zone_lines([{**rows[0], "uuid": rows[0]["uuid"].replace("c3c", "c3d"), "name": "new"}]))
    zones = read_zones(store / "cache" / "image")
    assert (zones.sure, zones.daemon) == (False, "differs")
    assert {zone.name for zone in zones.zones} >= {"web", "db", "new"}


@pytest.mark.parametrize("program", ["exec sleep 600", "sleep 600; true", "yes", "exit 1", "exec cat /dev/zero"])
def test_a_daemon_that_does_not_answer_is_silent(
    program: str, store: Path, daemon: Path, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (open_path / "kratactl").write_text(f"#!/bin/sh\n{program}\n")
    monkeypatch.setattr("ocitui.host.zones._ASK_SECONDS", 0.05)
    zones = read_zones(store / "cache" / "image")
    assert (zones.sure, zones.daemon, len(zones.zones)) == (True, "silent", 3)


@pytest.mark.parametrize(
    "answer", ["", "not json\n", '{"id": 5}\n', "[]\n", '{"id": "x"}\n', '{"spec": {}}\n', "[" * 200_000]
)
def test_an_answer_that_is_none_takes_nothing_away(answer: str, store: Path, daemon: Path) -> None:
    daemon.write_text(answer)
    zones = read_zones(store / "cache" / "image")
    assert {zone.name for zone in zones.zones} == {"web", "db", ""}


def test_the_daemon_s_answer_does_where_the_database_does_not_read(
    store: Path, daemon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "krata.db").write_bytes(database("44-recovery-flip-in-leaf"))
    daemon.write_text(zone_lines(expected("03-three")["zones"]))
    zones = read_zones(store / "cache" / "image")
    assert (zones.sure, zones.daemon, len(zones.zones)) == (False, "alone", 3), "another store's may have answered"
    monkeypatch.setattr("ocitui.host.zones.is_served", lambda _: True)
    zones = read_zones(store / "cache" / "image")
    assert (zones.sure, zones.database, len(zones.zones)) == (True, DatabaseState.DAMAGED, 3)
    (store / "daemon.socket").unlink()
    zones = read_zones(store / "cache" / "image")
    assert (zones.sure, zones.zones) == (False, ())
    assert zones.doubt.startswith("krata.db: page")


def test_a_row_that_does_not_read_leaves_it_unsure_and_is_told(store: Path) -> None:
    (store / "krata.db").write_bytes(database("04b-protobuf"))
    zones = read_zones(store / "cache" / "image")
    assert not zones.sure
    assert {zone.uuid for zone in zones.zones if zone.problem} == {
        row["uuid"] for row in expected("04b-protobuf")["zones"] if row.get("invalid")
    }


def test_a_host_that_never_had_a_daemon_has_no_zones_for_sure(store: Path) -> None:
    (store / "krata.db").unlink()
    zones = read_zones(store / "cache" / "image")
    assert (zones.sure, zones.makes_anew) == (False, True)
    (store / "host.uuid").unlink()
    zones = read_zones(store / "cache" / "image")
    assert (zones.sure, zones.zones, zones.makes_anew) == (True, (), False)


def test_nothing_of_the_store_is_written(store: Path) -> None:
    before = {path: path.stat() for path in store.iterdir()}
    read_zones(store / "cache" / "image")
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in store.iterdir()} == {
        path: (found.st_mtime_ns, found.st_size) for path, found in before.items()
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(found.st_mode) for path, found in before.items())


def test_a_file_that_no_zone_accounts_for_is_a_leak(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row["name"]: row for row in expected("03-three")["zones"]}
    pinned = f"{rows['web']['image']['digest']}.squashfs"
    users = {pinned: ["/dev/loop3"], f"{DIGEST}.erofs": ["/dev/loop4"]}
    monkeypatch.setattr("ocitui.host.zones.users_of", lambda _: uses_of(users))
    # A launch is under way, whose loop may be there already.
    assert read_zones(store / "cache" / "image").leaks == ()
    (store / "krata.db").write_bytes(database("02-one"))
    one = expected("02-one")["zones"][0]
    users[f"{one['image']['digest']}.{one['image']['format']}"] = ["/dev/loop5"]
    leaks = read_zones(store / "cache" / "image").leaks
    assert f"/dev/loop4 holds {DIGEST}.erofs" in leaks
    assert not any("loop5" in leak for leak in leaks)


ROWS = {row["name"]: row for row in expected("03-three")["zones"]}
STRANGER = "a3b1c6de-6d0c-4a1e-9d35-0a3a5a2f7f10"


def image_of(row: dict[str, Any]) -> str:
    return f"{row['image']['digest']}.{row['image']['format']}"


@pytest.fixture
def xenstore(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return StandIn(open_path, monkeypatch)


@pytest.mark.parametrize(
    ("state", "runs", "held", "whens"),
    [
        ("created", True, True, [When.PINNED, When.NEXT_START]),
        ("failed", True, True, [When.PINNED, When.NEXT_START]),
        ("created", True, False, [When.NEXT_START, When.NEXT_START]),
        ("created", False, True, [When.NEXT_START, When.NEXT_START]),
        ("failed", False, True, [When.NONE, When.NONE]),
        ("creating", True, True, [When.NOW, When.NOW]),
        ("creating", False, True, [When.NOW, When.NOW]),
    ],
)
def test_what_runs_is_known_by_its_domain(state: str, runs: bool, held: bool, whens: list[When]) -> None:
    """A device may hold the image of a guest that is no more, and then pins it for nobody."""
    zone = make_zone("u", "web", state, NEEDS)
    domain = Domain(7, "u" if runs else "v", loops={"/dev/loop3": f"{DIGEST}.squashfs"} if held else {})
    loops = uses_of({f"{DIGEST}.squashfs": ["/dev/loop3"]} if held else {})
    (found,) = placed([zone], loops, [domain])
    assert ([need.when for need in found.needs], found.domid) == (whens, 7 if runs else None)
    (found,) = placed([zone], {}, [domain])
    assert [need.when for need in found.needs] == (whens if runs or state != "failed" else [When.NONE, When.NONE])


def test_a_zone_without_a_domain_is_made_anew_and_one_with_another_number_runs(store: Path, xenstore: StandIn) -> None:
    web = ROWS["web"]
    xenstore.prints(guest(99, web["uuid"], "web", loops_of(store, web["uuid"], image_of(web))))
    zones = read_zones(store / "cache" / "image")
    assert [(zone.label, zone.domid) for zone in zones.zones if zone.domid] == [("web", 99)]
    assert {need.role: need.when for zone, need in zones.needs() if zone.name == "web"} == {
        NeedRole.IMAGE: When.PINNED,
        NeedRole.KERNEL: When.NEXT_START,
        NeedRole.INITRD: When.NEXT_START,
    }
    assert (zones.sure, zones.rowless) == (True, ())
    xenstore.prints({})
    zones = read_zones(store / "cache" / "image")
    assert {zone.domid for zone in zones.zones} == {None}
    assert When.PINNED not in {need.when for _, need in zones.needs()}
    xenstore.runs("list", "#!/bin/sh\nexit 1\n")
    zones = read_zones(store / "cache" / "image")
    assert (zones.domains, zones.sure) == (None, True)


@pytest.mark.parametrize(
    ("name", "rowless"),
    [("03-three", [9]), ("35-zero-length", [3, 9]), ("45-recovery-all-pages", []), ("47-version-9", [])],
)
def test_a_domain_of_which_there_is_no_row_goes(name: str, rowless: list[int], store: Path, xenstore: StandIn) -> None:
    """Where the rows are known, as they are where the daemon would start with none."""
    (store / "krata.db").write_bytes(database(name))
    nodes = {**guest(3, ROWS["web"]["uuid"]), **guest(9, STRANGER, "lost")}
    xenstore.prints(nodes)
    assert [domain.domid for domain in read_zones(store / "cache" / "image").rowless] == rowless
    xenstore.prints(nodes, then={})
    assert read_zones(store / "cache" / "image").rowless == (), "they went meanwhile"


def test_the_daemon_s_zones_do_where_the_rows_do_not_read(
    store: Path, daemon: Path, xenstore: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "krata.db").write_bytes(database("44-recovery-flip-in-leaf"))
    daemon.write_text(zone_lines(expected("03-three")["zones"]))
    xenstore.prints({**guest(3, ROWS["web"]["uuid"]), **guest(9, STRANGER)})
    assert read_zones(store / "cache" / "image").rowless == (), "another store's may have answered"
    monkeypatch.setattr("ocitui.host.zones.is_served", lambda _: True)
    assert [domain.domid for domain in read_zones(store / "cache" / "image").rowless] == [9]


def test_a_row_that_does_not_read_is_none_for_the_daemon(store: Path, xenstore: StandIn) -> None:
    (store / "krata.db").write_bytes(database("04b-protobuf"))
    uuid = next(row["uuid"] for row in expected("04b-protobuf")["zones"] if row.get("invalid"))
    xenstore.prints(guest(9, uuid))
    assert [domain.uuid for domain in read_zones(store / "cache" / "image").rowless] == [uuid]


def test_a_copy_of_a_cache_has_no_say_in_the_guests_of_the_host(store: Path, xenstore: StandIn) -> None:
    xenstore.prints(guest(9, STRANGER))
    for mark in ("krata.db", "host.uuid"):
        (store / mark).unlink()
    assert read_zones(store / "cache" / "image").rowless == ()


def test_a_device_that_no_domain_has_is_a_leak_where_domains_are_known(
    store: Path, xenstore: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "krata.db").write_bytes(database("02-one"))
    (row,) = expected("02-one")["zones"]
    image, uuid = image_of(row), row["uuid"]
    held = uses_of({image: ["/dev/loop3", "/dev/loop8", "/dev/loop9"], f"{DIGEST}.erofs": ["/dev/loop5"]})
    held[image][-1] = replace(held[image][-1], mounts=("/mnt",))
    monkeypatch.setattr("ocitui.host.zones.users_of", lambda _: held)
    running = guest(9, uuid, loops=loops_of(store, uuid, image))

    def leaks() -> list[str]:
        return [leak.split()[0] for leak in read_zones(store / "cache" / "image").leaks]

    xenstore.prints(running)
    assert leaks() == ["/dev/loop8", "/dev/loop5"]
    xenstore.prints({})
    assert leaks() == ["/dev/loop3", "/dev/loop8", "/dev/loop5"]
    xenstore.prints(running, then={})
    assert leaks() == ["/dev/loop8", "/dev/loop5"], "it goes, and its device with it"
    xenstore.prints({}, then=running)
    assert leaks() == ["/dev/loop8", "/dev/loop5"], "it came meanwhile"
    xenstore.runs("list", "#!/bin/sh\nexit 1\n")
    assert leaks() == ["/dev/loop5"], "what a zone needs may be held for it"


def test_zones_and_devices_use_a_file(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, image = (expected("03-three")["zones"][0][role] for role in ("kernel", "image"))
    files = [f"{kernel['digest']}.tar", f"{image['digest']}.squashfs"]
    looks = list[Path]()

    def held(directory: Path) -> dict[str, list[LoopUse]]:
        looks.append(directory)
        return uses_of({files[1]: ["/dev/loop3"], "other": ["/dev/loop4"]})

    monkeypatch.setattr("ocitui.host.zones.users_of", held)
    users = find_users(store / "cache" / "image")
    assert len(looks) == 1, "one look at the devices serves all"
    assert find_users(store / "cache" / "image", loops=held(store)).names == users.names
    assert len(looks) == 2
    assert [users.by_file[file] for file in files] == [
        ("zone db (kernel, now)", "zone web (kernel, next-start)"),
        ("zone dd1c84e4 (image, pinned)", "zone web (image, pinned)", "/dev/loop3"),
    ]
    assert [users.names[file] for file in (*files, "other")] == ["db, web", "dd1c84e4, web, loop3", "loop4"]
    assert users.doubt == ""
    (store / "krata.db").write_bytes(b"")
    users = find_users(store / "cache" / "image")
    assert set(users.by_file) == {files[1], "other"}
    assert "it is empty" in users.doubt


def test_a_file_that_is_needed_by_now_makes_another_plan_though_others_were_needed_so(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, files, devices = store / "cache" / "image", ["a.tar", "b.tar"], {"a.tar": ["/dev/loop3"]}
    monkeypatch.setattr("ocitui.host.zones.users_of", lambda _: uses_of(devices))
    shown = find_users(cache)
    check_users(cache, files, shown)
    devices["b.tar"] = ["/dev/loop3"]
    with pytest.raises(PlanChangedError, match="zones came or went"):
        check_users(cache, files, shown)
    check_users(cache, files[:1], shown)
    (store / "krata.db").write_bytes(b"")
    with pytest.raises(PlanChangedError):
        check_users(cache, files[:1], shown)


def test_the_store_of_a_linked_cache_is_where_the_cache_is(store: Path, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    link = tmp_path / "a" / "b" / "link"
    link.symlink_to(store / "cache" / "image")
    for way in (link, store / "cache" / "image" / ".." / "image"):
        assert len(read_zones(way).zones) == 3


def test_a_row_that_is_too_large_is_told_and_not_decoded(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.host.zones._MOST_OF_ROW", 100)
    zones = read_zones(store / "cache" / "image")
    assert not zones.sure
    assert all(zone.problem.startswith("it has ") for zone in zones.zones)

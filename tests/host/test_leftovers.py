"""What a daemon leaves among its temporary files, and which of it nobody needs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ocitui.host.daemon import temporary_folder
from ocitui.host.zones import Leftover, daemon_leftovers
from tests.host.loops import uses_of
from tests.host.test_daemon import opens, process
from tests.host.test_redb import database, expected
from tests.host.xenstore import StandIn, guest

UUID = "a3b1c6de-6d0c-4a1e-9d35-0a3a5a2f7f10"
WEB = next(row["uuid"] for row in expected("03-three")["zones"] if row["name"] == "web")
PULL, ZONE, RUNNING = f"oci-assemble-{UUID}", f"krata-cfg-{UUID}", f"krata-cfg-{WEB}"
LATER = 3600.0
"""Seconds from now to when a daemon started that is younger than all that a test makes."""


class Host:
    """A store with its database, a folder for temporary files with what a daemon left, and a /proc."""

    def __init__(self, root: Path) -> None:
        self.cache, self.proc, self.place = root / "store" / "cache" / "image", root / "proc", root / "tmp dir"
        self.cache.mkdir(parents=True)
        (root / "store" / "krata.db").write_bytes(database("03-three"))
        (root / "other").mkdir()
        (root / "other" / "krata.db").touch()
        process(self.proc, 1, "init")
        (self.proc / "stat").write_text(f"btime {int(time.time())}\n")
        (self.proc / "self" / "ns").mkdir(parents=True)
        (self.proc / "self" / "ns" / "pid").symlink_to("pid:[4026531836]")
        opens(self.proc, 1, "/dev/null")
        for name in (PULL, ZONE, RUNNING):
            (self.place / name / "work").mkdir(parents=True)
            (self.place / name / "work" / "some.layer").write_bytes(bytes(1000))

    def runs(self, number: int, after: float, *, store: str = "store") -> None:
        """A daemon that started then, in seconds from now."""
        process(self.proc, number, "kratad", started_ticks=int(after * os.sysconf("SC_CLK_TCK")))
        (self.proc / str(number) / "environ").write_bytes(f"PATH=/bin\0TMPDIR={self.place}\0A=b".encode())
        opens(self.proc, number, self.cache.parents[2] / store / "krata.db")

    def over(self) -> set[str]:
        """The names of what nobody needs."""
        return {one.path.name for one in daemon_leftovers(self.cache, self.proc) if not one.live}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr("ocitui.host.zones.temporary_folder", lambda *_: made.place)
    return made


def test_where_no_daemon_runs_pulls_are_over_and_what_no_zone_has(host: Host) -> None:
    found = daemon_leftovers(host.cache, host.proc)
    assert {one.path.name: (one.kind, one.bytes, one.live, one.removal) for one in found} == {
        RUNNING: ("zone", 1000, True, ""),
        ZONE: ("zone", 1000, False, f"rm -r '{host.place}/{ZONE}'"),
        PULL: ("pull", 1000, False, f"rm -r '{host.place}/{PULL}'"),
    }
    assert all(one.since == one.path.stat().st_ctime for one in found)


@pytest.mark.parametrize(
    ("after", "over"), [(LATER, {PULL, ZONE}), (-LATER, {ZONE}), (1, {ZONE})], ids=["before", "since", "about then"]
)
def test_a_pull_of_before_the_daemon_s_start_is_over(after: float, over: set[str], host: Host) -> None:
    (host.proc / "stat").write_text(f"btime {int((host.place / PULL).stat().st_ctime)}\n")
    host.runs(77, after)
    assert host.over() == over


def test_where_the_daemon_does_not_say_since_when_it_runs_no_pull_is_over(host: Host) -> None:
    host.runs(77, LATER)
    (host.proc / "77" / "stat").write_text("77 (kratad) S 0\n")
    assert host.over() == {ZONE}


@pytest.mark.parametrize("name", [PULL, ZONE])
def test_what_is_open_is_not_over(name: str, host: Host) -> None:
    host.runs(77, LATER)
    assert name in host.over()
    (host.proc / "1" / "fd" / "9").symlink_to(host.place / name / "image.pack")
    assert host.over() == {PULL, ZONE} - {name}


def test_what_a_loop_device_holds_is_not_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    held = uses_of({f"{ZONE}/config.squashfs": ["/dev/loop4"]})
    monkeypatch.setattr("ocitui.host.zones.users_of", lambda _: held)
    assert host.over() == {PULL}


def test_what_is_of_a_guest_that_runs_is_not_over(host: Host, open_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StandIn(open_path, monkeypatch).prints(guest(7, UUID))
    assert host.over() == {PULL}


@pytest.mark.parametrize("store", ["other", "none"])
def test_beside_the_daemon_of_another_store_nobody_can_tell(store: str, host: Host) -> None:
    host.runs(77, LATER)
    assert host.over() == {PULL, ZONE}
    host.runs(99, LATER, store=store)
    assert host.over() == set()


def test_of_a_daemon_that_has_no_database_open_nobody_can_tell_whose_it_is(host: Host) -> None:
    process(host.proc, 77, "kratad", started_ticks=int(LATER * os.sysconf("SC_CLK_TCK")))
    opens(host.proc, 77, "/dev/zero")
    assert host.over() == set()


@pytest.mark.parametrize("why", ["another namespace", "hidden processes", "another user", "no proc"])
def test_where_not_all_processes_are_seen_nobody_can_tell(
    why: str, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.listdir
    if why == "another namespace":
        (host.proc / "self" / "ns" / "pid").unlink()
        (host.proc / "self" / "ns" / "pid").symlink_to("pid:[4026532001]")
    elif why == "hidden processes":
        (host.proc / "1").rename(host.proc / "5")
    elif why == "another user":

        def refusing(path: Path) -> list[str]:
            if str(path).endswith("/1/fd"):
                raise PermissionError
            return listed(path)

        monkeypatch.setattr("os.listdir", refusing)
    else:
        host.proc = host.proc / "nothing"
    found = daemon_leftovers(host.cache, host.proc)
    assert len(found) == 3
    assert all(one.live for one in found)


@pytest.mark.parametrize("name", ["45-recovery-all-pages", "04b-protobuf", None])
def test_where_the_zones_are_not_known_none_is_said_to_be_no_more(name: str | None, host: Host) -> None:
    path = host.cache.parents[1] / "krata.db"
    path.unlink() if name is None else path.write_bytes(database(name))
    assert host.over() == {PULL}


def test_only_folders_of_such_names_are_told(host: Host) -> None:
    for name in (f"{PULL}.old", f"x{PULL}", "oci-assemble-", f"oci-assemble-{UUID.upper()}", f"krata-{UUID}"):
        (host.place / name).mkdir()
    other = UUID.replace("a", "b")
    (host.place / f"oci-assemble-{other}").write_bytes(b"a file")
    (host.place / f"krata-cfg-{other}").symlink_to(host.cache)
    assert len(daemon_leftovers(host.cache, host.proc)) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_user_s_folder_is_not_the_daemon_s(host: Host) -> None:
    os.chown(host.place / PULL, 1234, 1234)
    assert host.over() == {ZONE}


def test_links_lead_nowhere(host: Host, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(100_000))
    (host.place / PULL / "link").symlink_to(tmp_path / "large")
    (host.place / PULL / "folder").symlink_to(tmp_path)
    (found,) = [one for one in daemon_leftovers(host.cache, host.proc) if one.path.name == PULL]
    assert found.bytes < 2000


def test_a_daemon_s_own_folder_is_looked_in(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.runs(77, LATER)
    assert host.over() == {PULL, ZONE}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        (b"TMPDIR=/var/tmp\0A=b\0", "/var/tmp"),
        (b"A=b\0TMPDIR=/a b\0TMPDIR=/c", "/a b"),
        (b"XTMPDIR=/nowhere\0", "/tmp"),
        (b"TMPDIR=\0", "/tmp"),
        (b"TMPDIR=relative\0", "/tmp"),
        (b"", "/tmp"),
    ],
)
def test_where_a_daemon_has_its_temporary_files(environment: bytes, place: str, tmp_path: Path) -> None:
    process(tmp_path, 77, "kratad")
    (tmp_path / "77" / "environ").write_bytes(environment)
    assert temporary_folder(77, tmp_path) == Path(place)
    assert temporary_folder(None, tmp_path) == temporary_folder(99, tmp_path) == Path("/tmp")


def test_nothing_is_there_to_be_told(host: Host) -> None:
    host.place.rename(host.place.with_name("gone"))
    assert daemon_leftovers(host.cache, host.proc) == []


def test_the_command_is_one_for_a_shell() -> None:
    one = Leftover(Path("/tmp/a 'b'"), 1, 0.0, "pull", live=False)
    assert one.removal == """rm -r '/tmp/a '"'"'b'"'"''"""

"""What a check says of the zones of a host, and of the database that the daemon would start on."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from ocitui.cache import Change, IndexReplacement, PackedFormat, PackerCache, TransactionKind, see_index
from ocitui.doctor.check.judge import Judge
from ocitui.doctor.findings import Finding
from ocitui.doctor.why import NeedVerdict, files_of_undo, indexes_of_undo, judged_needs
from ocitui.host.redb import DatabaseState
from ocitui.host.zones import Need, NeedRole, When, Zone, Zones, read_zones
from ocitui.threads import AbandonedError, Stop
from tests.cache.scenes import key
from tests.cache.support import entry, index_bytes, write_cache
from tests.host.test_redb import database, expected
from tests.host.xenstore import StandIn, guest


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache in a daemon's store, whose database has three zones."""
    directory = tmp_path / "cache" / "image"
    directory.mkdir(parents=True)
    write_cache(directory, range(2))
    (tmp_path / "host.uuid").touch()
    (tmp_path / "krata.db").write_bytes(database("03-three"))
    return directory


def of_host(directory: Path) -> dict[str, list[Finding]]:
    judge = Judge(directory)
    judge.read()
    found: dict[str, list[Finding]] = {}
    for one in judge.look_at_cache():
        if one.code.startswith(("zone-", "database-", "domain-")):
            found.setdefault(one.code, []).append(one)
    return found


def test_what_zones_need_and_no_entry_is_stands_there_once_each(cache: Path) -> None:
    missing = of_host(cache)["zone-needs-missing"]
    rows = {row["name"]: row for row in expected("03-three")["zones"]}
    web, db = rows["web"], rows["db"]
    wanted = {(web[role]["digest"], web[role]["format"]) for role in ("image", "kernel", "initrd")}
    assert {(one.digest, one.format) for one in missing} == wanted | {(db["image"]["digest"], "erofs")}
    (kernel,) = [one for one in missing if one.digest == web["kernel"]["digest"]]
    assert kernel.seen.endswith("needed by zone db as its kernel, web as its kernel")
    described = [entry(0), {**entry(1, format="tar"), "digest": web["kernel"]["digest"]}]
    (cache / "index.json").write_bytes(index_bytes(described))
    assert kernel.digest not in {one.digest for one in of_host(cache)["zone-needs-missing"]}
    assert not kernel.fault.step
    (cache / f"{web['image']['digest']}.squashfs").write_bytes(b"hsqs")
    (image,) = [one for one in of_host(cache)["zone-needs-missing"] if one.digest == web["image"]["digest"]]
    assert image.fault.step
    assert image.seen.startswith("its files have no entry, and it is needed by zone web as its image")


def _kernel(path: str, kind: bytes = tarfile.REGTYPE, size: int = 3) -> bytes:
    """A tar of one member."""
    made, member = io.BytesIO(), tarfile.TarInfo(path)
    member.type, member.size, member.linkname = kind, size, "other"
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(member, io.BytesIO(b"elf"[:size]))
    return made.getvalue()


@pytest.mark.parametrize(
    ("tar", "problem"),
    [
        (_kernel("kernel/image"), ""),
        (_kernel("kernel/other") + _kernel("kernel/image"), "it holds no kernel/image"),
        (_kernel("./kernel/image"), "it holds no kernel/image"),
        (_kernel("kernel/image", size=0), "its kernel/image is empty"),
        (_kernel("kernel/image", tarfile.SYMTYPE, 0), "its kernel/image is no regular file"),
        (_kernel("kernel/image", tarfile.LNKTYPE, 0), "its kernel/image is no regular file"),
        (_kernel("kernel/image")[:200], ""),  # told as damage of the file
    ],
)
def test_the_tar_of_a_kernel_has_to_hold_it(cache: Path, tar: bytes, problem: str) -> None:
    digest = next(row["kernel"]["digest"] for row in expected("03-three")["zones"] if row["name"] == "web")
    (cache / "index.json").write_bytes(index_bytes([{**entry(1, format="tar"), "digest": digest}]))
    (cache / f"{digest}.tar").write_bytes(tar)
    found = of_host(cache).get("zone-file-missing", [])
    assert [one.seen for one in found] == ([f"{problem}, and zone db, web takes its kernel from it"] if problem else [])


def test_a_check_that_is_to_end_goes_through_no_tar(cache: Path) -> None:
    digest = next(row["kernel"]["digest"] for row in expected("03-three")["zones"] if row["name"] == "web")
    (cache / "index.json").write_bytes(index_bytes([{**entry(1, format="tar"), "digest": digest}]))
    (cache / f"{digest}.tar").write_bytes(_kernel("kernel/other"))
    judge, stop = Judge(cache), Stop()
    judge.read()
    stop.set()
    with pytest.raises(AbandonedError):
        judge.look_at_cache(stop)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("02-one", ""),
        ("10-open", ""),
        ("35-zero-length", "database-lost"),
        ("37-garbage", "database-lost"),
        ("30-truncated-half", "database-damaged"),
        ("20-format3", "database-damaged"),
        ("40-clean-flip-in-value", "database-damaged"),
        ("49-bomb", "database-damaged"),
        (None, "database-lost"),
    ],
)
def test_on_which_database_the_daemon_starts(name: str | None, code: str, cache: Path) -> None:
    path = cache.parent.parent / "krata.db"
    path.unlink() if name is None else path.write_bytes(database(name))
    assert set(of_host(cache)) - {"zone-needs-missing"} == ({code} if code else set())


def test_guests_that_the_daemon_would_destroy_are_told(
    cache: Path, open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    xenstore = StandIn(open_path, monkeypatch)
    web, lost = expected("03-three")["zones"][0]["uuid"], "a3b1c6de-6d0c-4a1e-9d35-0a3a5a2f7f10"
    xenstore.prints({**guest(7, web), **guest(9, lost, "shop")})
    (one,) = of_host(cache)["domain-without-row"]
    assert one.seen == "krata.db has no row of what runs as domain 9 (shop)"
    (cache.parent.parent / "krata.db").write_bytes(b"")
    found = of_host(cache)
    assert "database-lost" in found
    assert f"domain 7 ({web}), 9 (shop)" in found["domain-without-row"][0].seen
    xenstore.prints(guest(7, web))
    (cache.parent.parent / "krata.db").write_bytes(database("03-three"))
    assert "domain-without-row" not in of_host(cache)


def test_a_copy_of_a_cache_has_no_zones(cache: Path) -> None:
    (cache.parent.parent / "krata.db").unlink()
    (cache.parent.parent / "host.uuid").unlink()
    assert of_host(cache) == {}


@pytest.mark.slow
def test_each_need_has_its_verdict(cache: Path) -> None:
    web = {row["name"]: row for row in expected("03-three")["zones"]}["web"]
    image, kernel = web["image"]["digest"], web["kernel"]["digest"]

    def verdicts() -> dict[tuple[str, str], tuple[NeedVerdict, bool]]:
        needs = judged_needs(cache, read_zones(cache))
        return {(one.zone.label, one.need.role): (one.verdict, one.fails) for one in needs}

    assert verdicts()["web", "image"] == (NeedVerdict.MISS, True)
    assert verdicts()["dd1c84e4", "image"] == (NeedVerdict.MISS, False), "a failed zone is not made again"
    (cache / "index.json").write_bytes(
        index_bytes([{**entry(0), "digest": image}, {**entry(1, format="tar"), "digest": kernel}])
    )
    # Entries whose files are not there.
    assert verdicts()["web", "kernel"] == (NeedVerdict.MISS, True)
    (cache / "index.json").write_bytes(b"{")
    assert verdicts()["web", "image"] == (NeedVerdict.UNKNOWN, False)


def test_a_kernel_that_its_tar_lacks_fails_the_zone(tmp_path: Path) -> None:
    write_cache(tmp_path, [0], [PackedFormat.TAR])
    digest, format_ = key(0)[0], PackedFormat.TAR
    need = Need(NeedRole.KERNEL, digest, format_, When.NEXT_START)
    zones = Zones(DatabaseState.EXACT, (Zone("a", needs=(need,)),))
    for path, verdict in (("kernel/image", NeedVerdict.HIT), ("kernel/other", NeedVerdict.DAMAGED)):
        (tmp_path / f"{digest}.tar").write_bytes(_kernel(path))
        (judged,) = judged_needs(tmp_path, zones)
        assert (judged.verdict, judged.fails) == (verdict, verdict is NeedVerdict.DAMAGED)


async def test_what_goes_by_the_undo_of_a_whole_index(cache: Path) -> None:
    (cache / "index.json").write_bytes(index_bytes([entry(0), entry(1)])[:-2])
    change = Change(index=IndexReplacement(see_index(cache), index_bytes([entry(0), entry(2)])))
    done = await PackerCache(cache).change(change, TransactionKind.REPAIR)
    old, now = indexes_of_undo(cache, done)
    assert [[one.key for one in some] for some in (old, now)] == [[key(0), key(1)], [key(0), key(2)]]
    assert files_of_undo(done, old, now) == [f"{key(2)[0]}.squashfs"]
    trash = cache / ".ocitui" / "trash"
    trash.rename(cache.parent / "elsewhere")
    trash.symlink_to(cache.parent / "elsewhere")
    assert indexes_of_undo(cache, done) == ((), now), "what a link leads to is not ours"

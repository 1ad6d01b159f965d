"""Making room: what rules take and what they never do, over random zones, caches and policies; origins, pins, use."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ocitui.cache import Ledger, PackerCache, RecordedSource, Topic
from ocitui.cache.ledger import Note
from ocitui.doctor import (
    ComesBack,
    Origins,
    PruneRules,
    choose,
    note_use,
    parse_rules,
    pin,
    read_policy,
    survey_room,
)
from ocitui.doctor.prune import PolicyError
from ocitui.host import Zones, find_users
from ocitui.host.redb import DatabaseState
from ocitui.host.zones import NeedRole, make_zone
from tests.cache.support import digest_of, documents, entry, index_bytes
from tests.tools import examples, in_memory

DAY, NAMES = 86_400, ("app:1", "app:2", "lib/db:1", "lib/db:2")
COMES_BACK = {
    "nothing": False, "registry": True, "private": True, "old registry": False, "local": True, "local gone": False,
    "local rewritten": False, "asked": True, "gone": False, "asked long ago": False, "unreachable": False,
}  # fmt: skip
"""Whether an image can come back, by what is on record of it."""


class Image(NamedTuple):
    names: tuple[str, ...]
    format: str
    days: int
    origin: str
    pinned: bool
    used: int | None


class Guest(NamedTuple):
    state: str
    image: int
    role: NeedRole


IMAGES = st.builds(
    Image,
    st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple),
    st.sampled_from(["squashfs", "erofs", "tar"]),
    st.integers(0, 100),
    # Mostly such as may go, so that each thing that speaks against one is met alone.
    st.sampled_from([*COMES_BACK, *["registry"] * 12]),
    st.sampled_from([False, False, False, True]),
    st.none() | st.integers(0, 100),
)
GUESTS = st.builds(
    Guest,
    st.sampled_from(["creating", *["created"] * 4, "exited", "destroying", "destroyed", "failed", "unknown"]),
    st.integers(0, 3),
    st.sampled_from([*NeedRole]),
)
SPANS = st.none() | st.sampled_from([0, 0, 10, 40, 90]).map(lambda days: float(days * DAY))
RULES = st.builds(
    PruneRules,
    older_than=SPANS,
    unused=SPANS,
    keep=st.none() | st.integers(0, 3),
    until_free=st.none() | st.just(1 << 60),
    pins=st.sampled_from([(), (), (), ("lib/*",), ("app:1",), ("*",)]),
    high=st.none() | st.just(0.01),
    low=st.none() | st.just(0.005),
)


def digest(number: int) -> str:
    return digest_of(documents(str(number))[0])


def file(number: int, image: Image) -> str:
    return f"{digest(number)}.{image.format}"


def make(directory: Path, images: list[Image]) -> Ledger:
    """A cache of these, and what is on record of them."""
    directory.mkdir(parents=True)
    (directory.parent / "layout").mkdir()
    descriptors, now = [], time.time()
    for number, image in enumerate(images):
        manifest, config = documents(str(number))
        (directory / f"{digest(number)}.manifest.json").write_bytes(manifest)
        (directory / f"{digest(number)}.config.json").write_bytes(config)
        packed = directory / file(number, image)
        packed.write_bytes(b"packed" * (number + 1))
        os.utime(packed, (now - image.days * DAY,) * 2)
        for name in image.names or (None,):
            descriptor = entry(number, name=name, format=image.format)
            if name is None:
                descriptor["annotations"] = {"dev.krata.oci.packer.format": image.format}
            descriptors.append(descriptor)
    (directory / "index.json").write_bytes(index_bytes(descriptors))
    ledger = Ledger(directory)
    for number, image in enumerate(images):
        _record(ledger, directory.parent, file(number, image), image)
    ledger.flush()
    return Ledger.open(directory)


def _record(ledger: Ledger, folder: Path, name: str, image: Image) -> None:
    now, origin = int(time.time()), image.origin
    if origin in ("registry", "private", "old registry"):
        when = now - (40 * DAY if origin == "old registry" else DAY)
        ledger.record_source(name, RecordedSource("docker://registry.example/app:1", when, origin == "private"))
    elif origin.startswith("local"):
        source = folder / f"{name.partition(':')[2]}.packed"
        if origin != "local gone":
            source.write_bytes(b"")
            os.utime(source, (now + 60,) * 2 if origin == "local rewritten" else (now - DAY,) * 2)
        ledger.record_source(name, RecordedSource(f"packed:{source}", now - DAY // 2))
    elif origin != "nothing":
        word = {"gone": "gone", "unreachable": "unknown"}.get(origin, "daemon")
        _note(ledger, Topic.ASKED, name, f"{word} told", 40 if origin == "asked long ago" else 1)
    if image.used is not None:
        _note(ledger, Topic.USED, name, "web", image.used)
    if image.pinned:
        ledger.note(Topic.PINNED, name, "why, by whom")
    _note(ledger, Topic.WATCHED, "-", "-", 50)


def _note(ledger: Ledger, topic: Topic, name: str, text: str, days: int) -> None:
    """As it was noted so many days ago."""
    now = time.time
    time.time = lambda: now() - days * DAY
    try:
        ledger.note(topic, name, text)
    finally:
        time.time = now


def zones_of(guests: list[Guest], images: list[Image], doubt: str) -> Zones:
    numbers = {"squashfs": 1, "erofs": 2, "tar": 3}
    zones = []
    for at, (state, number, role) in enumerate(guests):
        if number < len(images):
            needs = {role: (digest(number), numbers[images[number].format])}
            zones.append(make_zone(f"00000000-0000-4000-8000-{at:012x}", f"zone{at}", state, needs))
    return Zones(DatabaseState.EXACT, tuple(zones), doubt=doubt)


@pytest.mark.slow
@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(IMAGES, min_size=1, max_size=8),
    st.lists(GUESTS, max_size=4),
    st.sampled_from(["", "", "", "", "krata.db: it is damaged"]),
    RULES,
    st.sets(st.integers(0, 7), max_size=2),
)
def test_nothing_needed_pinned_or_lost_for_ever_goes_unless_it_is_named(
    images: list[Image], guests: list[Guest], doubt: str, rules: PruneRules, named: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch, in_memory(Path("/tmp")) as folder:
        directory, zones = folder / "store" / "cache" / "image", zones_of(guests, images, doubt)
        patch.setattr("ocitui.host.zones.read_zones", lambda *_, **__: zones)
        ledger = make(directory, images)
        room = survey_room(directory, ledger, find_users(directory))
        keys = {(digest(number), images[number].format) for number in named if number < len(images)}
        choice = choose(room, rules, keys)
        going = {one.key for one in choice.going}
        assert keys <= going
        needed = {(need.digest, str(need.format)) for _, need in zones.needs()}
        for number, image in enumerate(images):
            key = digest(number), image.format
            if key in going - keys:
                assert key not in needed
                assert not image.pinned
                assert COMES_BACK[image.origin]
                assert not doubt
                assert not rules.empty
                assert not any(fnmatchcase(name, pattern) for name in image.names for pattern in rules.pins)
                if rules.older_than is not None:
                    used = image.days if image.used is None else min(image.days, image.used)
                    assert used * DAY >= rules.older_than - 60
                if rules.unused:
                    assert (50 if image.used is None else image.used) * DAY >= rules.unused - 60
        assert {one.key for one, _ in choice.staying}.isdisjoint(going)
        _check_keep(images, going, rules, keys)
        assert _stand_for(images, going).items() <= _stand_for(images, keys).items()
        if going:
            _check_done(directory, images, going)
        shutil.rmtree(folder / "store")


def _check_keep(
    images: list[Image], going: set[tuple[str, str | None]], rules: PruneRules, named: set[tuple[str, str]]
) -> None:
    """So many images of each name stay as are to be kept, if there are as many, but for those that were named."""
    for stem in ("app", "lib/db") if rules.keep is not None else ():
        of_it = [number for number, one in enumerate(images) if any(name.startswith(f"{stem}:") for name in one.names)]
        left = [number for number in of_it if (digest(number), images[number].format) not in going - set(named)]
        assert len(left) >= min(rules.keep or 0, len(of_it))


def _stand_for(images: list[Image], gone: Collection[tuple[str, str | None]]) -> dict[str, str]:
    """The image that each name stands for, by the entries that are not gone."""
    there = [(number, image) for number, image in enumerate(images) if (digest(number), image.format) not in gone]
    return {name: digest(number) for number, image in there for name in image.names}


def _check_done(directory: Path, images: list[Image], going: set[tuple[str, str | None]]) -> None:
    """What goes is what was chosen; an undo brings all of it back."""
    before = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}

    async def act() -> None:
        cache = PackerCache(directory)
        done = await cache.delete(list(going))
        index = json.loads((directory / "index.json").read_text())
        left = {(one["digest"], one["annotations"]["dev.krata.oci.packer.format"]) for one in index["manifests"]}
        assert left == {(digest(number), image.format) for number, image in enumerate(images)} - going
        assert all((directory / f"{one}.{form}").exists() for one, form in left)
        await cache.undo(done.id)
        await cache.close()

    asyncio.run(act())
    after = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
    assert after == before


@pytest.mark.parametrize("origin", COMES_BACK)
def test_whether_an_image_can_come_back(origin: str, tmp_path: Path) -> None:
    image = Image(("app:1",), "tar", 1, origin, False, None)
    ledger = make(tmp_path / "image", [image])
    found = Origins(tmp_path / "image", ledger).of(file(0, image))
    assert found.is_sure is COMES_BACK[origin]
    expected = {
        "registry": ComesBack.DAEMON, "asked": ComesBack.DAEMON, "private": ComesBack.OCITUI, "local": ComesBack.LOCAL,
        "local gone": ComesBack.NO, "local rewritten": ComesBack.NO, "gone": ComesBack.NO,
    }  # fmt: skip
    assert found.comes_back is expected.get(origin, ComesBack.UNKNOWN)
    assert found.text


@pytest.mark.parametrize("place", ["layout", "layout/below"])
def test_a_layout_that_lost_the_image_is_no_way_back(place: str, tmp_path: Path) -> None:
    """An import takes one that is a folder further down, too."""
    image = Image(("app:1",), "tar", 1, "nothing", False, None)
    directory, blobs = tmp_path / "image", tmp_path / place / "blobs" / "sha256"
    ledger = make(directory, [image])
    ledger.record_source(file(0, image), RecordedSource(f"oci:{tmp_path}/layout:1"))
    blobs.mkdir(parents=True)
    (tmp_path / place / "oci-layout").touch()
    assert Origins(directory, ledger).of(file(0, image)).comes_back is ComesBack.NO
    (blobs / digest(0).partition(":")[2]).write_bytes(b"")
    assert Origins(directory, ledger).of(file(0, image)).comes_back is ComesBack.LOCAL


@pytest.mark.parametrize("prefix", ["packed:", "oci:", "docker-archive:", "cache:", ""])
def test_a_source_that_is_no_path_is_no_way_back(prefix: str, tmp_path: Path) -> None:
    image = Image(("app:1",), "tar", 1, "nothing", False, None)
    ledger = make(tmp_path / "image", [image])
    ledger.record_source(file(0, image), RecordedSource(f"{prefix}/tmp/a\0b"))
    assert Origins(tmp_path / "image", ledger).of(file(0, image)).comes_back is ComesBack.NO


def test_the_cache_s_own_file_is_no_way_back(tmp_path: Path) -> None:
    image = Image(("app:1",), "tar", 1, "nothing", False, None)
    ledger = make(tmp_path / "image", [image])
    ledger.record_source(file(0, image), RecordedSource(f"packed:{tmp_path}/image/{file(0, image)}"))
    assert not Origins(tmp_path / "image", ledger).of(file(0, image)).is_sure


def test_the_longest_unused_goes_first_until_there_is_room(tmp_path: Path) -> None:
    images = [Image((f"app:{days}",), "tar", days, "registry", False, None) for days in (5, 50, 20)]
    ledger = make(tmp_path / "image", images)
    room = survey_room(tmp_path / "image", ledger)
    choice = choose(room, PruneRules(until_free=room.free + 7))
    assert [one.name for one in choice.going] == ["app:50"]
    assert not choice.short
    none = choose(room, PruneRules(until_free=room.free + (1 << 40)))
    assert [one.name for one in none.going] == ["app:50", "app:20", "app:5"]
    assert none.short


def test_what_lies_in_the_trash_is_room_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each run of a timer would take more, as long as nobody empties it."""
    images = [Image((f"app:{number}",), "tar", 50, "registry", False, None) for number in (1, 2)]
    directory = tmp_path / "image"
    make(directory, images)
    disk = os.statvfs(tmp_path)
    monkeypatch.setattr("os.statvfs", lambda path: disk)
    wanted = survey_room(directory).free + 5
    first = choose(survey_room(directory), PruneRules(until_free=wanted))
    asyncio.run(PackerCache(directory).delete([one.key for one in first.going]))
    again = choose(survey_room(directory), PruneRules(until_free=wanted))
    assert (len(first.going), again.going) == (1, ())


def test_who_empties_no_trash_has_no_room_by_it(tmp_path: Path) -> None:
    """As one who removes for good, by a goal or by how full the disk is."""
    room = survey_room(tmp_path / "image", make(tmp_path / "image", [Image(("a:1",), "tar", 50, "asked", False, None)]))
    room = replace(room, total=100, free=10, trash=85)
    for rules in (PruneRules(until_free=80), PruneRules(high=0.85, low=0.2)):
        assert choose(room, rules).short == 0
        choice = choose(room, rules, with_trash=False)
        assert (choice.wanted, len(choice.going)) == (80, 1)
        assert choice.short > 0


def test_a_name_is_not_uncovered(tmp_path: Path) -> None:
    """Of two images of a name the one that wins it goes only after the other."""
    old, new = (Image(("app:1",), "tar", 50, origin, False, None) for origin in ("nothing", "registry"))
    room = survey_room(tmp_path / "image", make(tmp_path / "image", [old, new]))
    choice = choose(room, PruneRules(unused=0.0))
    assert not choice.going
    assert any("would stand for another image" in why for _, why in choice.staying)


def test_a_name_whose_winner_was_named_is_not_uncovered_further(tmp_path: Path) -> None:
    kept, middle, winner = (
        Image(("app:1",), "tar", 50, origin, False, None) for origin in ("nothing", "asked", "asked")
    )
    room = survey_room(tmp_path / "image", make(tmp_path / "image", [kept, middle, winner]))
    choice = choose(room, PruneRules(unused=0.0), [(digest(2), "tar")])
    assert [one.key[0] for one in choice.going] == [digest(2)]


def test_use_is_noted_and_seen_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, directory = Image(("app:1",), "squashfs", 90, "registry", False, None), tmp_path / "image"
    make(directory, [image])
    zones = [zones_of([Guest("created", 0, NeedRole.IMAGE)], [image], "")]
    monkeypatch.setattr("ocitui.host.zones.read_zones", lambda *_, **__: zones[0])
    note_use(directory, find_users(directory))
    assert survey_room(directory).entries[0].users
    zones[0] = zones_of([], [image], "")
    (one,) = survey_room(directory).entries
    assert one.users == ()
    assert one.used is not None
    assert choose(survey_room(directory), PruneRules(unused=DAY)).going == ()
    lines = (directory / ".ocitui" / "ledger").read_bytes()
    note_use(directory, find_users(directory))
    assert (directory / ".ocitui" / "ledger").read_bytes() == lines, "nothing new is not written"


def test_what_was_never_watched_is_not_unused(tmp_path: Path) -> None:
    image = Image(("app:1",), "tar", 90, "registry", False, None)
    room = survey_room(tmp_path / "image", make(tmp_path / "image", [image]))
    assert choose(room, PruneRules(unused=40 * DAY)).going
    ((_, why),) = choose(room, PruneRules(unused=60 * DAY)).staying
    assert why.startswith("unseen")


def test_pins_last_whatever_becomes_of_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocitui.cache.ledger._SLACK_LINES", 3)
    ledger = make(tmp_path / "image", [Image((), "tar", 1, "nothing", False, None)])
    pin(ledger, [(digest(0), "tar"), ("sha256:gone", "erofs")], "for the release")
    later = b"9 of a later version"
    with (tmp_path / "image" / ".ocitui" / "ledger").open("ab") as opened:
        import zlib

        opened.write(b"%s %08x\n" % (later, zlib.crc32(later)))
    for number in range(30):
        ledger.note(Topic.USED, f"{digest(0)}.tar", f"web{number}")
        ledger.flush()
    found = Ledger.open(tmp_path / "image")
    assert set(found.noted(Topic.PINNED)) == {f"{digest(0)}.tar", "sha256:gone.erofs"}
    assert found.noted(Topic.PINNED)[f"{digest(0)}.tar"].text.startswith("for the release, by ")
    assert found.noted(Topic.USED)[f"{digest(0)}.tar"].text == "web29"
    assert later in (tmp_path / "image" / ".ocitui" / "ledger").read_bytes()
    pin(found, [(digest(0), "tar")], "")
    assert f"{digest(0)}.tar" not in Ledger.open(tmp_path / "image").noted(Topic.PINNED)


@given(st.text(max_size=30), st.integers(0, 1 << 33))
def test_a_note_is_read_as_it_was_written(text: str, when: int) -> None:
    from ocitui.cache.ledger import LedgerRecords, note_line

    read = LedgerRecords()
    text = text.encode(errors="replace").decode()
    read.read(note_line(Topic.PINNED, "a b", Note(text, when)))
    assert read.noted(Topic.PINNED) == ({"a b": Note(text, when)} if text else {})


POLICY = """
high = "90%"
low = "80%"
older-than = "30d"
unused = true
keep = 2
pins = ["base/*"]
for-good = true
"""


def test_a_policy_is_read(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    policy = read_policy(path)
    assert policy.for_good
    assert policy.rules == PruneRules(30.0 * DAY, 0.0, 2, None, ("base/*",), 0.9, 0.8)
    path.write_text('high = "90%"\n')
    assert read_policy(path).rules.low == 0.9


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "says of no entry"),
        ('pins = ["a"]', "says of no entry"),
        ("keep = -1", ">= 0"),
        ("keep = true", "Expected"),
        ('older_than = "30d"', "unknown field"),
        ('older-than = "soon"', "no span of time"),
        ('low = "80%"', "from high on"),
        ('high = "80%"\nlow = "90%"', "which is less"),
        ('high = "0.9"', "no share of the disk"),
        ("keep = ", "no policy"),
        (f"keep = {'[' * 30_000}", "no policy"),
        ("\x00", "no policy"),
    ],
)
def test_a_policy_that_is_none(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(PolicyError) as refused:
        read_policy(tmp_path / "policy.toml")
    assert why in refused.value.message


def test_rules_in_a_line() -> None:
    assert parse_rules("age>30d unused keep=2") == PruneRules(30.0 * DAY, 0.0, 2)
    assert parse_rules("unused>12h").unused == 12 * 3600
    for text in ("age<3d", "keep>2", "keep=x", "old", "unused=3d", f"keep={'9' * 5000}"):
        with pytest.raises(PolicyError):
            parse_rules(text)

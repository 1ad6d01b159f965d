"""The chain from what was typed to what the daemon answers: every link, whatever is wrong with the one before."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from ocitui.cache import (
    AmbiguousDigestError,
    CacheDirectoryError,
    ImageName,
    IndexOutcome,
    InvalidNameError,
    PackedFormat,
    PackerCache,
)
from ocitui.cache.ledger import Ledger
from ocitui.contents import FoundProgram
from ocitui.doctor.findings import Answer
from ocitui.doctor.why import Chain, Link, LinkState, chain_of
from tests.cache.support import entry, index_bytes, write_cache
from tests.doctor.examine_support import NAME, Sample, descriptor
from tests.host.test_redb import database, expected

SQUASHFS, EROFS, TAR = PackedFormat


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is being written here, so there is nothing to wait for."""
    monkeypatch.setattr("ocitui.cache.index.PATIENCE_SECONDS", 0.0)


def bad(links: tuple[Link, ...]) -> list[str]:
    return [link.title for link in links if link.standing is LinkState.BAD]


def answers(chain: Chain) -> dict[PackedFormat, Answer]:
    return {one.format: one.answer for one in chain.formats}


def link(chain: Chain, title: str, format_: PackedFormat = SQUASHFS) -> Link:
    links = chain.links + next((one.links for one in chain.formats if one.format is format_), ())
    (found,) = [one for one in links if one.title == title]
    return found


async def test_a_sound_name_is_ok_from_end_to_end(sample: Sample) -> None:
    chain = await chain_of(sample.directory, NAME)
    assert (chain.name, chain.digest, chain.outcome) == (NAME, sample.digest, IndexOutcome.LOADED)
    assert answers(chain) == {SQUASHFS: Answer.HIT, EROFS: Answer.HIT, TAR: Answer.HIT}
    assert bad(chain.links) == []
    assert [one.title for one in chain.links] == ["index", "name", "carriers", "carriers", "carriers"]
    for one in chain.formats:
        assert [found.title for found in one.links] == [
            "entry", "packed file", "manifest", "config", "manifest's content", "config's content", "header", "content",
            "program", "comes back",
        ]  # fmt: skip
        assert one.program == FoundProgram("/bin/sh", (), "/bin/sh is not executable")
        assert bad(one.links) == []
        assert one.links[-1].standing is LinkState.UNKNOWN
        assert one.text == f"a hit: {sample.digest}.{one.format}"


async def test_it_says_what_the_daemon_s_lookups_say(krata_cache: Path) -> None:
    async with await PackerCache.open(krata_cache) as cache:
        for one in await cache.list():
            name = one.image_name or ""
            chain = await chain_of(krata_cache, name)
            for format_, answer in answers(chain).items():
                hit = await cache.resolve(ImageName.parse(name), format_) is not None
                assert (answer is Answer.HIT) == hit
            found = await chain_of(krata_cache, one.digest, PackedFormat(one.format or ""))
            assert answers(found) == {PackedFormat(one.format or ""): Answer.HIT}


async def test_krata_s_spelling(sample: Sample) -> None:
    chain = await chain_of(sample.directory, "mirror.gcr.io/library/busybox:1.36", EROFS)
    assert chain.name == NAME
    assert link(chain, "name").text == f"krata spells the name {NAME!r}"
    assert answers(chain) == {EROFS: Answer.HIT}


async def test_a_name_that_nothing_carries_and_what_is_like_it(sample: Sample) -> None:
    chain = await chain_of(sample.directory, "BusyBox:1.35")
    assert answers(chain) == {SQUASHFS: Answer.MISS}
    carriers = link(chain, "carriers")
    assert (carriers.standing, carriers.advice) == (LinkState.BAD, f"there is {NAME}")
    assert link(await chain_of(sample.directory, "nothing:1"), "carriers").advice == ""


async def test_latest_is_never_resolved(sample: Sample) -> None:
    sample.index.write_bytes(index_bytes([descriptor(sample.digest, 1, "squashfs", "busybox:latest")]))
    chain = await chain_of(sample.directory, "busybox:latest")
    assert answers(chain) == {SQUASHFS: Answer.MISS}
    assert "without a tag" in link(chain, "carriers").advice
    by_digest = await chain_of(sample.directory, sample.digest, SQUASHFS)
    assert answers(by_digest) == {SQUASHFS: Answer.HIT}
    assert "never resolved" in link(by_digest, "names").text


async def test_a_moved_tag_names_the_winner_and_what_would_be_a_hit(sample: Sample) -> None:
    gone = entry(5, name=NAME)
    sample.index.write_bytes(index_bytes([descriptor(sample.digest, 1, "squashfs", NAME), gone]))
    chain = await chain_of(sample.directory, NAME, SQUASHFS)
    assert chain.digest == gone["digest"]
    assert answers(chain) == {SQUASHFS: Answer.MISS}
    assert [one.advice for one in chain.links if one.advice] == [
        f"`ocitui point {NAME} {sample.digest}` lets it win, and deletes nothing"
    ]
    by_digest = await chain_of(sample.directory, sample.digest, SQUASHFS)
    assert answers(by_digest) == {SQUASHFS: Answer.HIT}
    assert f"which {gone['digest']} wins" in link(by_digest, "names").text


async def test_missing_files_are_all_told(sample: Sample) -> None:
    sample.file("squashfs").unlink()
    sample.file("config.json").unlink()
    sample.file("config.json").symlink_to("nowhere")
    chain = await chain_of(sample.directory, NAME, SQUASHFS)
    assert answers(chain) == {SQUASHFS: Answer.MISS}
    (one,) = chain.formats
    assert bad(one.links) == ["packed file", "config"]
    assert link(chain, "config").text.endswith("a link to nothing")
    assert "stored zone" in one.text


async def test_an_error_does_not_heal(sample: Sample) -> None:
    sample.file("manifest.json").write_bytes(b"{")
    chain = await chain_of(sample.directory, NAME)
    assert set(answers(chain).values()) == {Answer.ERROR}
    assert "EOF while parsing an object" in link(chain, "manifest's content").text
    assert "becomes a miss" in link(chain, "manifest's content").advice
    assert link(chain, "config's content").standing is LinkState.UNKNOWN


async def test_what_the_daemon_does_not_look_at(sample: Sample) -> None:
    raw = sample.file("config.json").read_bytes()
    sample.file("config.json").write_bytes(raw.replace(b"arm64", b"amd64"))
    os.truncate(sample.file("squashfs"), 5000)
    chain = await chain_of(sample.directory, NAME, SQUASHFS)
    assert answers(chain) == {SQUASHFS: Answer.HIT}
    assert bad(chain.formats[0].links) == ["config's content", "header"]
    assert "the guest fails later" in link(chain, "header").text


async def test_another_format_in_the_packed_file(sample: Sample) -> None:
    sample.file("tar").write_bytes(sample.file("erofs").read_bytes())
    chain = await chain_of(sample.directory, NAME, TAR)
    assert link(chain, "header", TAR).text.startswith("it is erofs by its magic, and the entry says tar")


async def test_what_the_ledger_says_of_the_content(sample: Sample) -> None:
    ledger, packed = Ledger.open(sample.directory), sample.file("squashfs")
    with patch("time.time", return_value=1_000_000):
        ledger.record(packed.name, packed.stat(), hashlib.sha256(packed.read_bytes()).hexdigest())
    ledger.flush()
    chain = await chain_of(sample.directory, NAME, SQUASHFS)
    content = link(chain, "content")
    assert (content.standing, "1970-01-12 13:46:40Z" in content.text) == (LinkState.OK, True)
    os.utime(packed, (1, 1))
    content = link(await chain_of(sample.directory, NAME, SQUASHFS), "content")
    assert (content.standing, "was written since" in content.text) == (LinkState.UNKNOWN, True)


async def test_an_orphan(sample: Sample) -> None:
    sample.index.write_bytes(index_bytes([]))
    chain = await chain_of(sample.directory, sample.digest[:20])
    assert chain.digest == sample.digest
    assert set(answers(chain).values()) == {Answer.MISS}
    assert "its files are there" in link(chain, "names").advice
    assert "its files are there" in link(chain, "entry").advice
    assert bad(chain.formats[0].links) == ["entry"]


async def test_the_beginning_of_a_digest(sample: Sample) -> None:
    hexadecimal = sample.other.removeprefix("sha256:")
    assert (await chain_of(sample.directory, hexadecimal[:10])).digest == sample.other
    assert (await chain_of(sample.directory, f"sha256:{hexadecimal[:10]}")).digest == sample.other
    assert (await chain_of(sample.directory, sample.other)).digest == sample.other
    unknown = await chain_of(sample.directory, "sha256:" + "0" * 64)
    assert bad(unknown.links) == ["names"]
    assert answers(unknown) == {SQUASHFS: Answer.MISS}


async def test_the_beginning_of_several_digests_is_an_error_with_the_choices(tmp_path: Path) -> None:
    digests = ["sha256:" + f"abcd{number}".ljust(64, "0") for number in range(3)]
    entries = [{**entry(0), "digest": digest} for digest in digests]
    (tmp_path / "index.json").write_bytes(index_bytes(entries))
    with pytest.raises(AmbiguousDigestError) as raised:
        await chain_of(tmp_path, "abcd")
    assert all(digest in raised.value.message for digest in digests)
    assert (await chain_of(tmp_path, "abcd2")).digest == digests[2]


async def test_a_name_of_hexadecimal_digits(tmp_path: Path) -> None:
    entries = [entry(0, name="abcd"), {**entry(1), "digest": "sha256:" + "abcd".ljust(64, "0")}]
    (tmp_path / "index.json").write_bytes(index_bytes(entries))
    assert (await chain_of(tmp_path, "abcd")).name == "abcd"
    assert (await chain_of(tmp_path, "abcd0")).digest == entries[1]["digest"]
    assert (await chain_of(tmp_path, "beef")).name == "beef"
    assert (await chain_of(tmp_path, "abc")).name == "abc"


async def test_a_digest_that_cannot_be_a_file_name(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(index_bytes([{**entry(0, name="app:1"), "digest": "../../etc/passwd"}]))
    chain = await chain_of(tmp_path, "app:1")
    assert answers(chain) == {SQUASHFS: Answer.MISS}
    assert link(chain, "files").text == "'../../etc/passwd' cannot be a file name"


@pytest.mark.parametrize(
    ("damage", "outcome"),
    [(b"garbage", IndexOutcome.RESET), (b"\xff", IndexOutcome.ERROR)],
)
async def test_a_corrupt_index(sample: Sample, damage: bytes, outcome: IndexOutcome) -> None:
    sample.index.write_bytes(sample.index.read_bytes() + damage)
    for asked in (NAME, sample.digest):
        chain = await chain_of(sample.directory, asked)
        assert (chain.outcome, chain.assumed) == (outcome, True)
        assert link(chain, "index").standing is LinkState.BAD
        assert "4 descriptors can be salvaged" in link(chain, "salvage").text
        assert answers(chain) == {SQUASHFS: Answer.HIT, EROFS: Answer.HIT, TAR: Answer.HIT}
        assert "header" in [one.title for one in chain.formats[0].links]


async def test_an_index_of_which_nothing_is_left(sample: Sample) -> None:
    sample.index.write_bytes(b"garbage")
    chain = await chain_of(sample.directory, NAME)
    assert (chain.assumed, answers(chain)) == (True, {SQUASHFS: Answer.MISS})
    assert bad(chain.links) == ["index", "salvage", "carriers"]


async def test_no_index(tmp_path: Path) -> None:
    write_cache(tmp_path, [0])
    (tmp_path / "index.json").unlink()
    chain = await chain_of(tmp_path, "image0:1")
    assert chain.outcome is IndexOutcome.CREATED
    assert bad(chain.links) == ["index", "carriers"]


async def test_what_cannot_be_asked(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_bytes(index_bytes([]))
    with pytest.raises(InvalidNameError):
        await chain_of(tmp_path, "host.example:99999/app/x")
    with pytest.raises(CacheDirectoryError):
        await chain_of(tmp_path / "nowhere", "app")


async def test_which_zones_have_what_the_name_gives_and_which_another(tmp_path: Path) -> None:
    rows = {row["name"]: row for row in expected("03-three")["zones"]}
    cache = tmp_path / "cache" / "image"
    cache.mkdir(parents=True)
    write_cache(cache, range(1))
    (tmp_path / "krata.db").write_bytes(database("03-three"))
    name = entry(0)["annotations"]["io.containerd.image.name"]
    old, new = ({**entry(0), "digest": rows[zone]["image"]["digest"]} for zone in ("web", "db"))
    (cache / "index.json").write_bytes(index_bytes([old, new]))
    chain = await chain_of(cache, name)
    told = {one.text.partition(",")[0]: one for one in chain.links if one.title == "zone"}
    assert set(told) == {"web", "db"}
    assert told["db"].standing is LinkState.OK
    assert told["web"].standing is LinkState.BAD
    assert told["web"].text.endswith(f"has {old['digest']} for its image, which {name} gives no more")
    assert "knows a digest, and no name" in told["web"].advice
    by_digest = await chain_of(cache, old["digest"])
    assert [one.standing for one in by_digest.links if one.title == "zone"] == [LinkState.OK]
    (tmp_path / "krata.db").write_bytes(b"x")
    chain = await chain_of(cache, name)
    assert [one.standing for one in chain.links if one.title == "zone"] == [LinkState.UNKNOWN]

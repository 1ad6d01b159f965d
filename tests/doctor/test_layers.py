"""A check against layers: what a packer lost, cut or added is found path by path, and the import that is offered mends
it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import re
import shlex
import shutil
import tarfile
from io import FileIO
from pathlib import Path

import pytest

from ocitui.cache import ImageName, PackedFormat, PackerCache, RecordedSource, open_bounded
from ocitui.doctor import (
    Depth,
    ExamineOptions,
    Finding,
    RepairOptions,
    Report,
    Severity,
    apply_plan,
    examine_layers,
    plan_repair,
)
from ocitui.importing import ImportOutcome, ImportResult, SourceOptions, note_stored, open_source
from ocitui.importing.layers.layers import LayerLimits
from ocitui.importing.sources.images import Source
from ocitui.text import human_size
from tests.cli.conftest import Ocitui
from tests.cli.conftest import ocitui as ocitui  # a fixture
from tests.cli.import_support import downloaded, running, staged
from tests.importing.conftest import packed_here as packed_here  # a fixture
from tests.importing.image_makers import Made, put
from tests.importing.layer_support import Item, flattened, folder, hard, layer, link, pack_layers, sources
from tests.importing.pipeline import image_of, layout_of
from tests.importing.registry_server import FaultyRegistry
from tests.tools import need

pytestmark = pytest.mark.slow

CAPABILITY = {"security.capability": "\1\0\0\2\0\4" + "\0" * 14}
PING = Item("bin/ping", data=b"ping" * 500, mode=0o755, xattrs=CAPABILITY)
LOWER = (folder("bin"), PING, Item("bin/sh", data=b"sh" * 5000, mode=0o755), Item("gone", data=b"x"), link("l", "bin"))
UPPER = (Item(".wh.gone"), hard("bin/ash", "bin/sh"), Item("motd", data=b"hello", xattrs={"user.a": "b"}), Item("none"))
LAYERS = (layer(*LOWER), layer(*UPPER))
NAME = "registry.example/team/app:1"


def without(*names: str, **changed: Item) -> tuple[bytes, ...]:
    """The layers as another would have them: some entries left out, others changed."""
    made = (
        [changed.get(one.name.rpartition("/")[2], one) for one in some if one.name not in names]
        for some in (LOWER, UPPER)
    )
    return tuple(layer(*some) for some in made)


@pytest.fixture
def image() -> Made:
    return image_of(*LAYERS)


@pytest.fixture
def layout(tmp_path: Path, image: Made) -> Path:
    return layout_of(tmp_path / "layout", image)


@pytest.fixture
def cache(tmp_path: Path, layout: Path, ocitui: Ocitui) -> Path:
    """As a daemon leaves it: nothing is recorded."""
    directory = tmp_path / "cache"
    directory.mkdir()
    assert ocitui("import", f"oci:{layout}", "--name", NAME, "--format", "tar", "-C", directory).status == 0
    shutil.rmtree(directory / ".ocitui")
    return directory


def packed_as(cache: Path, tmp_path: Path, *layers: bytes) -> None:
    """Have its packed file be of other layers."""
    (packed,) = cache.glob("*.tar")
    packed.write_bytes(flattened(sources(tmp_path / "other", layers)))


def checked(cache: Path, *texts: str, access: SourceOptions | None = None) -> Report:
    report = asyncio.run(examine_layers(cache, ExamineOptions(Depth.LAYERS), sources=texts, access=access))
    assert staged(cache) == []
    assert downloaded(cache) == 0
    return report


def told(report: Report) -> list[Finding]:
    return [one for one in report.findings if one.code in ("packed-unlike-layers", "packed-xattrs")]


@pytest.mark.parametrize("format", PackedFormat)
def test_what_was_packed_rightly_is_said_to_be(
    cache: Path, layout: Path, tmp_path: Path, ocitui: Ocitui, format: PackedFormat
) -> None:
    need("mksquashfs")
    assert ocitui("import", f"oci:{layout}", "--name", NAME, "--format", format, "-C", cache).status == 0
    report = checked(cache, f"oci:{layout}")
    assert (told(report), report.coverage.layers) == ([], report.coverage.entries)
    assert not report.coverage.unchecked


@pytest.mark.parametrize(
    ("layers", "seen"),
    [
        (without(".wh.gone"), "1 path not as the layers make it: /gone (added)"),
        (
            without("bin/ash", "l"),
            "3 paths not as the layers make it: /bin/ash (lacking), /bin/sh (link), /l (lacking)",
        ),
        (without(ping=Item("bin/ping", data=b"pong" * 500, mode=0o755, xattrs=CAPABILITY)), "/bin/ping (content)"),
        (without(ping=Item("bin/ping", data=b"ping", xattrs=CAPABILITY)), "/bin/ping (mode, size)"),
        (without(ash=Item("bin/ash", data=b"sh" * 5000, mode=0o755)), "/bin/sh (link)"),
        (without("bin", "bin/ping", "bin/sh", "bin/ash", "gone", ".wh.gone"), "/bin/ping (lacking) and 1 more"),
    ],
    ids=["whiteout", "lacking", "content", "cut", "hard link", "tree"],
)
@pytest.mark.usefixtures("packed_here")
def test_what_a_packer_gets_wrong(
    cache: Path, layout: Path, tmp_path: Path, layers: tuple[bytes, ...], seen: str
) -> None:
    packed_as(cache, tmp_path, *layers)
    report = checked(cache, f"oci:{layout}")
    (finding,) = told(report)
    assert (finding.code, finding.severity) == ("packed-unlike-layers", Severity.MEDIUM)
    assert seen in finding.seen
    assert report.coverage.layers == 1


@pytest.mark.usefixtures("packed_here")
def test_lost_attributes_are_less_and_lost_capabilities_more_than_a_note(
    cache: Path, layout: Path, tmp_path: Path
) -> None:
    packed_as(cache, tmp_path, *without(motd=Item("motd", data=b"hello")))
    (finding,) = told(checked(cache, f"oci:{layout}"))
    assert (finding.code, finding.severity) == ("packed-xattrs", Severity.INFO)
    assert "1 path with other extended attributes than the layers give: /motd (xattrs); " in finding.seen
    plain = Item("bin/ping", data=b"ping" * 500, mode=0o755)
    packed_as(cache, tmp_path, *without(ping=plain, motd=Item("motd", data=b"hello")))
    (finding,) = told(checked(cache, f"oci:{layout}"))
    assert finding.severity == Severity.LOW
    assert "2 paths with other extended attributes than the layers give, 1 without the capab" in finding.seen


@pytest.mark.usefixtures("packed_here")
def test_the_import_that_is_offered_mends_it(cache: Path, layout: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    packed_as(cache, tmp_path, *without("l"))
    words = ("check", "--depth", "layers", "--from", f"oci:{layout}", "-C", cache, "--json")
    found = ocitui(*words)
    assert found.status == 1
    (finding,) = told(checked(cache, f"oci:{layout}"))
    command = shlex.split(finding.seen.partition("mended by ocitui ")[2])
    assert ocitui(*command, "-C", cache).status == 0
    # Where it came from is on record now.
    assert ocitui("check", "--depth", "layers", "-C", cache).status == 0
    report = checked(cache)
    assert (told(report), report.coverage.layers) == ([], 1)


def advised(said: str) -> list[str]:
    """The command that a check tells, in words."""
    (line,) = [one for one in said.splitlines() if " shows what would mend it" in one]
    return shlex.split(line.partition(" shows ")[0].removeprefix("ocitui "))


@pytest.mark.usefixtures("packed_here")
def test_repair_packs_anew_what_is_not_as_its_layers(cache: Path, layout: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    packed_as(cache, tmp_path, *without("l", "bin/ash"))
    (packed,) = cache.glob("*.tar")
    wrong = packed.read_bytes()
    command = advised(ocitui("check", "--depth", "layers", "--from", f"oci:{layout}", "-C", cache).out)
    assert command == ["repair", "--depth", "layers", "--from", f"oci:{layout}"]
    plan = ocitui(*command, "-C", cache)
    assert (plan.status, packed.read_bytes() == wrong) == (1, True)
    said = " ".join(plan.out.split())
    assert f"mends packed-unlike-layers {checked(cache, f'oci:{layout}').findings[0].fingerprint[:8]}" in said
    assert f"from the layers in oci:{layout}" in said
    assert f"{human_size(len(wrong))}, goes to the trash, and another comes in" in said
    done = ocitui(*command, "--apply", "--yes", "-C", cache)
    assert (done.status, "checked again" in done.out) == (0, True), done.out
    assert packed.read_bytes() == flattened(sources(tmp_path / "right", LAYERS))
    assert any(one.read_bytes() == wrong for one in (cache / ".ocitui" / "trash").iterdir())
    assert (told(checked(cache, f"oci:{layout}")), staged(cache), downloaded(cache)) == ([], [], 0)
    assert ocitui("undo", "--yes", "-C", cache).status == 0
    assert packed.read_bytes() == wrong


@pytest.mark.usefixtures("packed_here")
def test_repair_takes_layers_from_where_the_image_came_and_from_nothing_else(
    cache: Path, layout: Path, image: Made, tmp_path: Path, ocitui: Ocitui
) -> None:
    """Not what is packed so elsewhere, as it may be as wrong; nor is it held against another format that is."""
    assert ocitui("import", f"oci:{layout}", "--name", NAME, "--format", "erofs", "-C", cache).status == 0
    (packed,) = cache.glob("*.tar")
    (other,) = cache.glob("*.erofs")
    right, more = packed.read_bytes(), (*LAYERS, layer(Item("more")))
    packed_as(cache, tmp_path, *more)
    # The very same bytes lie in another cache, and the other format holds what the layers do not.
    shutil.copytree(cache, tmp_path / "twin")
    asyncio.run(pack_layers(sources(tmp_path / "more", more), tmp_path / "f", PackedFormat.EROFS))
    shutil.move(tmp_path / "f", other)
    # On record as sound, as only such a one is held against.
    there = asyncio.run(PackerCache(cache).recall(ImageName.parse(NAME), image.digest, PackedFormat.EROFS))
    assert there is not None
    note_stored(cache, ImportResult(there, ImportOutcome.STORED, source=RecordedSource(f"oci:{layout}")))
    done = ocitui("repair", "--depth", "layers", "--from", tmp_path / "twin", "--apply", "--yes", "-C", cache)
    assert packed.read_bytes() == right, done.out + done.err


@pytest.mark.usefixtures("packed_here")
def test_what_repair_leaves_is_told_with_what_would_mend_it(
    cache: Path, layout: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    packed_as(cache, tmp_path, *without(motd=Item("motd", data=b"hello")))
    (packed,) = cache.glob("*.tar")
    wrong = packed.read_bytes()
    of_layers = ("repair", "--depth", "layers", "--from", f"oci:{layout}", "-C", cache)
    # A note is no reason to replace a file, unless that is asked for.
    plan = ocitui(*of_layers)
    assert (plan.status, "offered, and done only" in plan.out) == (0, True)
    assert ocitui(*of_layers, "--apply", "--yes").status == 0
    assert packed.read_bytes() == wrong
    assert ocitui(*of_layers, "--only", "packed-xattrs", "--apply", "--yes").status == 0
    assert packed.read_bytes() == flattened(sources(tmp_path / "right", LAYERS))


@pytest.mark.usefixtures("packed_here")
def test_findings_by_layers_that_no_step_mended_remain(cache: Path, layout: Path, tmp_path: Path) -> None:
    packed_as(cache, tmp_path, *without("l"))
    report = checked(cache, f"oci:{layout}")

    async def mended() -> Report:
        plan = await plan_repair(PackerCache(cache), report, RepairOptions())
        (left,) = plan.left
        assert (left.finding.code, plan.made) == ("packed-unlike-layers", ())
        assert left.would.startswith("<from> a layout or an archive that holds an image with the same digest")
        return (await apply_plan(PackerCache(cache), plan)).report

    after = asyncio.run(mended())
    (finding,) = told(after)
    assert finding.fingerprint in after.deep_only


def test_layers_come_from_the_registry_of_the_name(tmp_path: Path, image: Made, ocitui: Ocitui) -> None:
    cache, registry = tmp_path / "cache", FaultyRegistry()
    cache.mkdir()
    put(registry, image, "v1")
    with running(registry):
        name = f"{registry.host}/team/app:v1"
        assert ocitui("import", name, "--format", "tar", "-C", cache).status == 0
        shutil.rmtree(cache / ".ocitui")
        packed_as(cache, tmp_path, *without("l"))
        (finding,) = told(checked(cache))
        command = advised(ocitui("check", "--depth", "layers", "-C", cache).out)
        assert command == ["repair", "--depth", "layers", "--registry"]
        assert ocitui(*command, "--apply", "--yes", "-C", cache).status == 0
    assert f"ocitui import docker://{registry.host}/team/app@{image.digest} --name {name}" in finding.seen


@pytest.mark.usefixtures("packed_here")
def test_each_name_of_an_image_is_asked_for_its_layers_and_a_source_once(
    cache: Path, layout: Path, image: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[str]()

    async def noted(text: str, access: SourceOptions) -> Source:
        opened.append(text)
        return await open_source(text, access)

    async def names(_: object) -> list[str]:
        return [f"oci:{layout.with_name('gone')}", f"oci:{layout}"]

    monkeypatch.setattr("ocitui.doctor.layers.open_source", noted)
    monkeypatch.setattr("ocitui.doctor.layers.registry_origins", names)
    other = layout_of(layout.with_name("other"), image_of(layer(Item("a"))))
    report = checked(cache, f"oci:{other}", f"oci:{other}")
    assert (report.coverage.layers, report.coverage.unchecked) == (1, ())
    assert opened == [f"oci:{other}@{image.digest}", *asyncio.run(names(None))]


@pytest.mark.usefixtures("packed_here")
def test_where_there_are_no_layers_that_is_said(cache: Path, tmp_path: Path, ocitui: Ocitui) -> None:
    other = layout_of(tmp_path / "other", image_of(layer(Item("a"))))
    (packed,) = cache.glob("*.tar")
    # A name of which no registry is asked.
    index = (cache / "index.json").read_text().replace(NAME, "UPPER")
    (cache / "index.json").write_text(index)
    report = checked(cache, f"oci:{other}")
    assert told(report) == []
    (unchecked,) = report.coverage.unchecked
    assert unchecked.startswith(f"{packed.name}: not compared with its layers: ")
    assert report.coverage.layers == 0
    refused = ocitui("check", "--depth", "layers", "--from", f"oci:{tmp_path / 'nowhere'}", "-C", cache)
    assert (refused.status, "does not exist" in refused.err) == (4, True)
    for text in (f"cache:{cache}", str(cache), "ssh://other"):
        refused = ocitui("check", "--depth", "layers", "--from", text, "-C", cache)
        assert (refused.status, f"{text} is a cache, which has no layers" in refused.err) == (2, True)


@pytest.mark.usefixtures("packed_here")
def test_a_repair_says_what_was_not_compared_and_asks_no_cache_for_layers(
    cache: Path, tmp_path: Path, ocitui: Ocitui
) -> None:
    index = (cache / "index.json").read_text().replace(NAME, "UPPER")
    (cache / "index.json").write_text(index)
    shutil.copytree(cache, tmp_path / "other")
    packed_as(cache, tmp_path, *without("l"))
    (unchecked,) = checked(cache, f"cache:{tmp_path / 'other'}", "ssh://other").coverage.unchecked
    assert "ssh" not in unchecked
    assert "has no entry" not in unchecked
    words = ("repair", "--depth", "layers", "--from", f"cache:{tmp_path / 'other'}", "-C", cache)
    said = " ".join(ocitui(*words).out.split())
    assert re.search(r"not checked: \S+\.tar: not compared with its layers: they are nowhere at hand", said)
    assert ocitui(*words, "--json").json["unchecked"] == [unchecked]
    # Where something was mended, and is checked again, too.
    (cache / f"sha256:{'a' * 64}.tar").write_bytes(b"x")
    said = " ".join(ocitui(*words, "--trash-orphans", "--apply", "--yes").out.split())
    assert "mended; transaction" in said
    assert said.partition("checked again:")[2].count("not compared with its layers: they are nowhere at hand") == 1


@pytest.mark.usefixtures("packed_here")
def test_a_damaged_file_is_not_compared(cache: Path, layout: Path) -> None:
    (packed,) = cache.glob("*.tar")
    packed.write_bytes(packed.read_bytes()[:2048])
    report = checked(cache, f"oci:{layout}")
    assert report.coverage.layers == 0
    assert any(one.severity is Severity.HIGH for one in report.findings)


@pytest.mark.usefixtures("packed_here")
def test_layers_beyond_the_limits_are_not_compared(cache: Path, layout: Path) -> None:
    few = SourceOptions(limits=LayerLimits(unpacked_bytes=100))
    report = checked(cache, f"oci:{layout}", access=few)
    assert report.coverage.layers == 0
    assert "more than" in report.coverage.unchecked[0]


def test_hashes_stand_for_what_the_tar_would_hold(tmp_path: Path) -> None:
    """What is told of layers without packing them is the very tar, but for what its files hold."""
    made = sources(tmp_path / "layers", LAYERS)
    asyncio.run(pack_layers(made, tmp_path / "hashes", None))
    whole, hashes = bytearray(flattened(made)), b""
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        for one in archive:
            if one.isreg():
                body = slice(one.offset_data, one.offset_data + one.size)
                hashes += hashlib.sha256(whole[body]).digest()
                whole[body] = bytes(one.size)
    assert (tmp_path / "hashes").read_bytes() == whole + hashes


@pytest.mark.usefixtures("packed_here")
def test_options_of_another_depth_are_refused(cache: Path, layout: Path, ocitui: Ocitui) -> None:
    for words in (["--from", f"oci:{layout}"], ["--login", "registry.example"]):
        refused = ocitui("check", "-C", cache, *words)
        assert (refused.status, f"{words[0]} is for --depth layers" in refused.err) == (2, True)
    for command in ("check", "repair"):
        refused = ocitui(command, "-C", cache, "--depth", "layers", "--read-only")
        assert (refused.status, "--read-only" in refused.err) == (4, True)


@pytest.mark.usefixtures("packed_here")
def test_a_packed_file_that_cannot_be_read_costs_the_others_nothing(
    cache: Path, layout: Path, tmp_path: Path, ocitui: Ocitui, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ocitui("import", f"oci:{layout}", "--name", NAME, "--format", "erofs", "-C", cache).status == 0
    packed_as(cache, tmp_path, *without(motd=Item("motd", data=b"hello")))
    shutil.rmtree(cache / ".ocitui")

    def failing(path: Path) -> FileIO:
        if path.suffix == ".erofs":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open_bounded(path)

    monkeypatch.setattr("ocitui.doctor.layers.open_bounded", failing)
    report = checked(cache, f"oci:{layout}", f"oci:{layout}")
    assert [(one.code, one.format) for one in told(report)] == [("packed-xattrs", PackedFormat.TAR)]
    assert report.coverage.layers == 1
    assert len(report.coverage.unchecked) == 1

"""The import form: it shows what a source holds before anything is written, and `y` begins just that."""

from __future__ import annotations

import base64
import os
import random
import re
from pathlib import Path

import pytest
from textual import events
from textual.widgets import Input

from ocitui import importing
from ocitui.cache import PackedFormat
from ocitui.host.daemon import DaemonState
from ocitui.importing.errors import SourceError
from ocitui.importing.inspect import ImportRequest, Inspection, Standing, inspect_source
from ocitui.importing.jobs import JobState
from ocitui.importing.sources.images import SourceKind, SourceListing
from ocitui.importing.sources.references import Credentials
from ocitui.importing.staging import BlobStore
from ocitui.tui.screens.import_image import FIELDS, preview_lines
from ocitui.tui.widgets.bars import Choice, Question, complete_source
from ocitui.tui.widgets.lines import LinesView, PickList
from ocitui.words.lines import memory_warning, said
from tests.importing.builders import SAVED
from tests.importing.image_makers import OCI_INDEX, in_index, make_image, make_index, put
from tests.importing.pulling import write_auths
from tests.importing.registry_server import FaultyRegistry, Reply, digest_of, serving
from tests.tui.cache_support import every_byte, make_cache, tree
from tests.tui.import_support import ALPINE, BUSYBOX, begin, layout_of, layout_with_names, look, show_jobs
from tests.tui.screen_support import SMALL, WIDE, Desk, desk, text_of

pytestmark = pytest.mark.slow

RANDOM = random.Random(1).randbytes(300_000)


def _value(one: Desk, field: str) -> str:
    return one.app.screen.query_one(f"#{field}", Input).value


async def _previewed(one: Desk) -> None:
    await one.until(lambda: "nothing is changed before" in one.status, "the preview")


@pytest.mark.parametrize("size", [SMALL, WIDE])
async def test_a_preview_and_then_an_import(tmp_path: Path, size: tuple[int, int]) -> None:
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", ALPINE)
    before = tree(cache)
    async with desk(cache, size) as one:
        await look(one, f"oci:{layout}")
        await _previewed(one)
        assert "FOUND in an OCI layout: 1 image; nothing is written yet" in one.text
        assert "free" in one.lines
        assert f"{ALPINE} leads to it" in one.lines
        assert "linux/amd64, 1 layer" in one.lines
        assert "it has nothing of this digest in format squashfs" in one.lines
        assert _value(one, "name") == ALPINE
        await one.press("enter", "enter")
        await one.rest()
        assert one.top == "ImportScreen"
        assert tree(cache) == before
        await one.press("y")
        await one.until(lambda: one.table.total == 8, "the entry")
        await one.until(lambda: "; u undoes it" in one.status, "the end is told")
        assert one.names[-1] == "registry.example.com/team/alpine squashfs ok"
        await one.open("i", "ImportScreen")
        await look_again(one, str(layout))
        assert "under this name: nothing is fetched or packed" in " ".join(one.lines.split())


async def look_again(one: Desk, source: str) -> None:
    one.app.screen.query_one("#source", Input).value = source
    await one.press("enter")
    await _previewed(one)


async def test_one_of_several_images_is_chosen(tmp_path: Path) -> None:
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", ALPINE, BUSYBOX)
    async with desk(cache) as one:
        await look(one, f"oci:{layout}")
        await one.until(lambda: "choose one of them" in one.status, "the question which")
        assert [row.rule for row in one.app.screen.query_one(PickList).rows] == [True, False, False]
        await one.press("y")
        assert one.top == "ImportScreen"
        await one.press("j", "enter")
        await _previewed(one)
        assert _value(one, "source") == f"oci:{layout}:{BUSYBOX}"
        assert _value(one, "name") == BUSYBOX
        await one.press("k", "enter")
        await one.until(lambda: _value(one, "name") == ALPINE, "the other one")
        assert _value(one, "source") == f"oci:{layout}:{ALPINE}"


async def test_images_without_names_are_chosen_by_digest(tmp_path: Path) -> None:
    images = {"one": make_image(b"1"), "two": make_image(b"2")}
    layout = layout_of(tmp_path / "layout", **images)
    platforms = ("linux/arm64", "linux/s390x")
    index = make_index(*(in_index(image, name) for image, name in zip(images.values(), platforms, strict=True)))
    (layout / "index.json").write_bytes(index)
    async with desk(make_cache(tmp_path / "image")) as one:
        await look(one, str(layout))
        await one.until(lambda: "choose one of them" in one.status, "the question which")
        await one.press("down", "enter")
        await one.until(lambda: "type the one it is to have" in one.status, "a name is asked for")
        assert _value(one, "source") == f"{layout}@{images['two'].digest}"
        assert one.app.focused is one.app.screen.query_one("#name")
        await one.press(*"a", "colon", *"1", "enter")
        await _previewed(one)
        assert images["two"].digest[7:] in one.lines


def test_what_is_to_be_known_of_a_source_is_said_where_nothing_is_taken_too() -> None:
    listing = SourceListing("a", (), notes=("an attestation is left out", "there is no image"))
    inspection = Inspection(SourceKind.OCI_LAYOUT, listing, refusal=SourceError("there is no image"))
    lines = preview_lines(inspection, Standing(), ImportRequest(source="a"))
    assert [line.text for line in lines if line.label == "note"] == ["an attestation is left out"]


async def test_what_an_earlier_import_left_is_not_fetched_again(tmp_path: Path) -> None:
    async with serving(FaultyRegistry()) as registry, desk(make_cache(tmp_path / "image")) as one:
        image = put(registry, make_image(RANDOM), "v1")
        blobs = BlobStore(tmp_path / "image")
        blobs.make_directory()
        (blobs.directory / f"{digest_of(image.layers[0])}.partial").write_bytes(image.layers[0][:204_800])
        await look(one, f"{registry.host}/team/app:v1")
        await _previewed(one)
        assert re.search(r"takes +\d+K to fetch   ✓", one.lines)
        assert re.search(r"on disk +about \d+K as squashfs, which is an estimate by its layers", one.lines)
        assert re.search(r"kept +200K, from earlier imports: not fetched again", one.lines)


async def test_what_the_cache_has_is_not_fetched(tmp_path: Path) -> None:
    async with serving(FaultyRegistry()) as registry, desk(make_cache(tmp_path / "image")) as one:
        put(registry, make_image(b"once"), "v1")
        for there in (False, True):
            await look(one, f"{registry.host}/team/app:v1")
            await _previewed(one)
            assert ("to fetch" in one.lines) != there
            await one.press("escape" if there else "y")
            await one.until(lambda: one.table.total == 8, "the entry")


async def test_whose_login_it_is_is_said(tmp_path: Path) -> None:
    async with serving(FaultyRegistry()) as registry, desk(make_cache(tmp_path / "image")) as one:
        put(registry, make_image(b"once"), "v1")
        refusal = Reply(401, {"WWW-Authenticate": 'Basic realm="ours"'})
        registry.rules.append(lambda request: None if request.authorization else refusal)
        await one.open("i", "ImportScreen")
        one.app.screen.query_one("#source", Input).value = f"{registry.host}/team/app:v1"
        auth = base64.b64encode(b"an\x1bna:secret").decode()
        one.app.screen.query_one("#authfile", Input).value = str(write_auths(tmp_path / "a", registry.host, auth=auth))
        await one.press("enter")
        await _previewed(one)
        assert re.search(r"login +as an�na", one.lines)


@pytest.mark.parametrize("tool", ["docker", "buildkit-gzip"])
async def test_archives_of_other_tools(tmp_path: Path, tool: str) -> None:
    archive = SAVED[tool].archive.write(tmp_path / "a.tar")
    async with desk(make_cache(tmp_path / "image")) as one:
        await look(one, str(archive))
        await one.until(lambda: "digest" in one.lines, "what was found")
        assert "1 image" in one.bar_at("#found")
        assert ("docker save kept no manifest" in one.lines) == (tool == "docker")


async def _answer_login(one: Desk, name: str, password: str) -> None:
    await one.until(lambda: one.top == "LoginScreen", "the question")
    # In one go: what is typed ahead is not to land in the field that shows it.
    one.send_at_once(*name, "enter", *password)
    wanted = [name, password]
    await one.until(lambda: [field.value for field in one.app.screen.query(Question)] == wanted, "each in its field")
    await one.until(lambda: "•" * len(password) in one.text, "as many dots")
    assert password not in one.text
    await one.press("home", "shift+end", "ctrl+x")
    assert [field.value for field in one.app.screen.query(Question)] == wanted
    assert password not in one.app.clipboard
    await one.press("enter")


async def test_a_registry_that_wants_a_login_is_asked_with_one_for_this_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path / "image")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(write_auths(tmp_path / "none.json", "other.example")))
    async with serving(FaultyRegistry()) as registry, desk(cache) as one:
        put(registry, make_image(b"once"), "v1")
        refusal = Reply(401, {"WWW-Authenticate": 'Basic realm="ours"'})
        wanted = Credentials("anna", "s3cretpass").basic()
        registry.rules.append(lambda request: None if request.authorization == wanted else refusal)
        await look(one, f"{registry.host}/team/app:v1")
        await one.until(lambda: one.top == "LoginScreen" and bool(one.text), "the question")
        assert f"log in at {registry.host}" in one.text
        await one.press("escape")
        await one.until(lambda: one.top == "ImportScreen", "the form")
        assert "wants a name and password, and none are known" in one.lines
        assert "or import it with enter in the form, which asks" in " ".join(one.lines.split())
        below = one.app.screen.query_one(LinesView)
        await one.press("enter")
        await _answer_login(one, "anna", "wrongpass")
        await one.until(lambda: "refuses the password of anna" in text_of(below), "the refusal")
        await _answer_login(one, "anna", "s3cretpass")
        await _previewed(one)
        assert re.search(r"login +as anna", one.lines)
        await one.press("y")
        await one.until(lambda: "; u undoes it" in one.status, "the end is told")
        assert b"s3cretpass" not in every_byte(cache)
        await one.open("i", "ImportScreen")
        await look(one, f"{registry.host}/team/app:v1")
        await one.until(lambda: one.top == "LoginScreen", "it was for one import")


@pytest.mark.parametrize("keys", [["enter"], ["y", "escape"], ["n"], ["s"]])
async def test_another_host_gets_a_login_only_where_that_is_agreed_to(
    keys: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    async with serving(FaultyRegistry()) as registry, desk(make_cache(tmp_path / "image")) as one:
        put(registry, make_image(b"once"), "v1")
        realm = f"localhost:{registry.host.rpartition(':')[2]}"
        challenge = Reply(401, {"WWW-Authenticate": f'Bearer realm="http://{realm}/token",service="s"'})
        registry.rules.append(lambda request: Reply(body=b'{"token": "t"}') if request.path == "/token" else None)
        registry.rules.append(lambda request: None if request.authorization == "Bearer t" else challenge)
        authfile = write_auths(tmp_path / "auth.json", registry.host, username="anna", password="s3cretpass")
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(authfile))
        await look(one, f"{registry.host}/team/app:v1")
        await one.until(lambda: one.top == "MenuScreen" and bool(one.text), "the question")
        assert f"the login of {registry.host}" in one.text
        assert f"send it to {realm}, now and from now on" in one.text
        await one.press(*keys)
        await one.until(lambda: one.top == "ImportScreen", "the form")
        if keys == ["s"]:
            await _previewed(one)
            assert (tmp_path / "config" / "ocitui" / "realms.toml").read_text() == f'"{registry.host}" = ["{realm}"]\n'
        else:
            assert f"wants its login sent to {realm}" in one.lines
            assert registry.asked("/token") == []
            assert not (tmp_path / "config").exists()


async def test_the_platforms_of_a_registry(tmp_path: Path) -> None:
    async with serving(FaultyRegistry()) as registry, desk(make_cache(tmp_path / "image"), WIDE) as one:
        platforms = {
            name: put(registry, make_image(name.encode(), platform=name)) for name in ("linux/amd64", "linux/arm64")
        }
        registry.add_manifest(OCI_INDEX, make_index(*(in_index(i, name) for name, i in platforms.items())), "v1")
        source = f"{registry.host}/team/app:v1"
        await look(one, source)
        await _previewed(one)
        assert "a registry: 2 images" in one.bar_at("#found")
        assert re.search(r"takes +\d+B to fetch   ✓", one.lines)
        assert re.search(r"login +none needed", one.lines)
        await one.press("down", "enter")
        await one.until(lambda: _value(one, "platform") == "linux/arm64", "the platform")
        await one.until(lambda: platforms["linux/arm64"].digest[7:] in one.lines, "the other image")
        assert _value(one, "name") == source
        await _previewed(one)
        # What is fetched is what was shown, whatever the tag stands for by then.
        put(registry, make_image(b"another"), "v1")
        await one.press("y")
        await one.until(lambda: one.table.total == 8, "the entry")
        [job] = one.session.imports.queue.jobs
        assert job.request.source == f"{source}@{platforms['linux/arm64'].digest}"
        assert (tmp_path / "image" / f"{platforms['linux/arm64'].digest}.squashfs").is_file()


async def test_a_look_that_stalls_is_stopped(tmp_path: Path) -> None:
    async with serving(FaultyRegistry()) as registry, desk(make_cache(tmp_path / "image")) as one:
        registry.always("/manifests/", Reply(body=b"{}", cut=1, stall=True))
        await look(one, f"{registry.host}/team/app:v1")
        await one.until(lambda: bool(registry.asked("/manifests/")), "the registry is asked")
        assert "ctrl+c stops it" in one.status
        await one.press("ctrl+c")
        await one.until(lambda: "stopped looking" in one.status, "it is stopped")
        await one.press("escape")
        await one.until(lambda: one.top == "MainScreen", "back")


async def test_a_digest_that_has_another_name(tmp_path: Path) -> None:
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", ALPINE)
    async with desk(cache) as one:
        await begin(one, str(layout))
        await one.until(lambda: one.table.total == 8, "the entry")
        await look(one, str(layout))
        await _previewed(one)
        one.app.screen.query_one("#name", Input).focus()
        one.app.screen.query_one("#name", Input).value = BUSYBOX
        await one.until(lambda: "changed: enter looks again" in one.status)
        await one.press("enter")
        await one.until(lambda: "nothing is changed before Y" in one.status, "the question")
        assert f"in format squashfs as {ALPINE}" in one.lines
        await one.press("y")
        assert one.top == "ImportScreen"
        await one.press("Y")
        await one.until(lambda: "the cache had it already, and names it" in one.status, "the entry has the new name")
        await one.until(lambda: "registry.example.com/team/busybox squashfs ok" in one.names, "the row")
        assert one.table.total == 8


async def test_a_typed_name_stays(tmp_path: Path) -> None:
    layout = layout_with_names(tmp_path / "layout", ALPINE)
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("i", "ImportScreen")
        one.app.screen.query_one("#name", Input).value = "mine:1"
        await look_again(one, str(layout))
        assert _value(one, "name") == "mine:1"


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("source", "", "no source yet"),
        ("source", "/nowhere/at/all", "does not exist"),
        ("source", "docker-daemon:a", "this kind of source is not read"),
        ("level", "high", "is not a number"),
        ("level", "11", "levels 1 to 9"),
        ("max_entries", "9" * 5_000, "is not a number"),
        ("max_bytes", "much", "is not a size"),
        ("platform", "a/b/c/d", "is not a platform"),
    ],
)
async def test_what_cannot_be_is_said(tmp_path: Path, field: str, text: str, says: str) -> None:
    layout = layout_with_names(tmp_path / "layout", ALPINE)
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("i", "ImportScreen")
        one.app.screen.query_one("#source", Input).value = str(layout)
        one.app.screen.query_one(f"#{field}", Input).value = text
        await one.press("enter")
        await one.until(lambda: says in one.lines, says)
        await one.press("y")
        assert not one.session.has_imports


async def test_all_options_can_be_reached_in_a_small_terminal(tmp_path: Path) -> None:
    layout = layout_with_names(tmp_path / "layout", ALPINE)
    async with desk(make_cache(tmp_path / "image"), SMALL) as one:
        await one.open("i", "ImportScreen")
        assert "TLS CA file" not in one.text
        await one.press("f2")
        await one.until(lambda: "TLS CA file" in one.text, "the other options")
        for label in (
            "compression",
            "level",
            "most bytes",
            "auth file",
            "mirror",
            "manifest",
            "config",
            "plain http",
            "again",
        ):
            assert label in one.text
        await one.press(*"gzip", "tab", *"1", "shift+tab", "up", "up", "up", "up", "right")
        assert one.app.screen.query_one("#format", Choice).value == "erofs"
        await one.press("left")
        await look_again(one, str(layout))
        await one.press("y")
        await one.until(lambda: one.table.total == 8, "the entry")
        [job] = one.session.imports.queue.jobs
        assert (job.request.compression, job.request.level) == ("gzip", 1)


async def test_packed_files(tmp_path: Path, krata_cache: Path) -> None:
    packed = next(krata_cache.glob("*.erofs"))
    async with desk(make_cache(tmp_path / "image")) as one:
        await look(one, f"packed:{packed}")
        await one.until(lambda: "type the one it is to have" in one.status, "a name is asked for")
        await one.press(*"a", "colon", *"1", "enter")
        await _previewed(one)
        assert "erofs, linux/" in one.lines
        await one.press("y")
        await one.until(lambda: one.table.total == 8, "the entry")
        assert one.session.imports.queue.jobs[0].state is JobState.DONE
        assert packed.is_file()


def test_sources_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "layout").mkdir()
    (tmp_path / "image.tar").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    begun = {
        "oci:la": "oci:layout/",
        f"docker-archive:{tmp_path}/im": f"docker-archive:{tmp_path}/image.tar",
        "im": "image.tar",
        "~/im": "~/image.tar",
        "pack": "packed:",
        "oci:layout/": None,
        "image.tar": None,
        "docker://la": None,
        "": None,
    }
    assert {text: complete_source(text) for text in begun} == begun


def test_a_name_that_a_terminal_would_obey_is_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lay\x1b[2J", "lay\x9b2J", "layout"):
        (tmp_path / name).touch()
    assert complete_source("lay") == "layout"
    assert complete_source("oci:./lay") == "oci:./layout"
    (tmp_path / "layout").unlink()
    assert complete_source("lay") is None


async def test_a_completed_path_is_taken_with_an_arrow(tmp_path: Path) -> None:
    layout_with_names(tmp_path / "layout", ALPINE)
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("i", "ImportScreen")
        field = one.app.screen.query_one("#source", Input)
        field.value = f"oci:{tmp_path}/lay"
        field.cursor_position = len(field.value)
        await one.until(lambda: field._suggestion != "", "a suggestion")
        await one.press("right", "enter")
        await _previewed(one)
        assert os.path.basename(os.path.normpath(field.value)) == "layout"


async def test_what_is_typed_ahead_lands_in_its_field(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("i", "ImportScreen")
        for key in ("down", "down", "a", "up", "up", "b", "tab", "tab", "c"):
            one.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await one.until(lambda: (_value(one, "source"), _value(one, "name")) == ("b", "ac"), "each in its field")


def test_a_hint_names_the_fields_of_the_form() -> None:
    assert said("name the file with --tls-ca", FIELDS) == 'name the file with "TLS CA file" (F2)'
    command = "`podman save --format oci-archive` makes one"
    assert said(command, FIELDS) == command
    assert said("choose one with --platform; or --odd", FIELDS) == 'choose one with "platform"; or --odd'


def test_every_option_that_a_hint_names_is_a_field() -> None:
    named: set[str] = set()
    for path in Path(importing.__file__).parent.rglob("*.py"):
        lines = [line for line in path.read_text().splitlines() if re.search(r"hint|raised_with|return \"", line)]
        named.update(
            re.findall(r"[ \"](--[a-z]+(?:-[a-z]+)*)", "".join(line for line in lines if "ocitui " not in line))
        )
    # The new name is taken with a key of its own, and what it stands for was shown.
    assert {"--plain-http", "--tls-ca", "--max-bytes", "--format"} < named - {"--rename"} <= FIELDS.keys()


async def test_what_is_typed_behind_more_lands_where_that_leads(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("i", "ImportScreen")
        one.send_at_once("f2", *"zstd", "tab", "tab", *"mksq", "f2", *"oci")
        await one.until(lambda: one.app.screen.query_one("#source", Input).value == "oci", "the source")
        values = {
            id: one.app.screen.query_one(f"#{id}", Input).value for id in ("compression", "level", "packer", "name")
        }
        assert values == {"compression": "zstd", "level": "", "packer": "mksq", "name": ""}


async def test_what_more_leads_to_is_in_view(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image"), (80, 11)) as one:
        await one.open("i", "ImportScreen")
        one.send_at_once("f2", *"zstd")
        await one.until(lambda: one.app.screen.query_one("#compression", Input).value == "zstd", "the compression")
        await one.until(lambda: any("compression   zstd" in line for line in one.text.splitlines()), "it in view")


async def test_what_is_under_way_stands_below_what_was_found(tmp_path: Path) -> None:
    async with desk(make_cache(tmp_path / "image")) as one:
        await one.open("i", "ImportScreen")
        assert "UNDER WAY" not in one.text
        show_jobs(one)
        await one.until(lambda: "UNDER WAY 3" in one.text, "the imports")
        packing, fetching, waiting = one.bar_at("#jobs").split("\n")[1:]
        assert "41 % pack      doc…/library/postgres:16.3" in packing
        assert packing.endswith("  51M of 124M  7s left")
        assert "docker…/library/nginx:1.27" in fetching
        assert "waiting" in waiting
        assert all(line in one.text for line in (packing, fetching, waiting.rstrip())), "none is cut"


async def test_the_form_warns_of_a_daemon_that_runs_and_says_what_will_be_found(tmp_path: Path) -> None:
    """In the words of every other plan."""
    cache, layout = make_cache(tmp_path / "image"), layout_with_names(tmp_path / "layout", ALPINE)
    async with desk(cache, daemon=DaemonState(7, 0.0, True)) as one:
        await look(one, str(layout))
        await _previewed(one)
        lines = " ".join(one.lines.split())
        assert f"{memory_warning('write back what it remembers')}." in lines
        assert f"{ALPINE} leads to it as squashfs" in lines
    async with desk(cache) as one:
        await look(one, str(layout))
        await _previewed(one)
        assert "keeps the index in memory" not in " ".join(one.lines.split())


async def test_a_preview_names_the_formats_that_are_missed_then(tmp_path: Path) -> None:
    layout = layout_with_names(tmp_path / "layout", ALPINE)
    request = ImportRequest(source=f"oci:{layout}", name="a/b:1", format=PackedFormat.TAR)
    hits, misses = (PackedFormat.TAR,), (PackedFormat.SQUASHFS, PackedFormat.EROFS)
    standing = Standing(displaced=f"sha256:{'a' * 64}", hits=hits, misses=misses)
    lines = preview_lines(await inspect_source(request), standing, request)
    (line,) = [line for line in lines if line.label == "then"]
    assert line.text == "▲ a/b:1 leads to it as tar, and no more to aaaaaaaaaaaa; a miss then as squashfs, erofs"
    assert line.kind == "bad"

"""Import: from where, under which name, in which format; what was found, before anything is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar

import msgspec
from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Input

from ocitui.cache import CacheError, ImageName, PackedFormat
from ocitui.importing import (
    Credentials,
    DeniedError,
    ImportJob,
    ImportRequest,
    Inspection,
    JobState,
    PackedSource,
    SourceImage,
    SourceKind,
    Standing,
    UnknownRealmError,
    allow_realm,
    check_choice,
    chosen_source,
    expanded_source,
    inspect_source,
    pinned_request,
    standing_of,
)
from ocitui.text import clean, counted, human_size, parse_size, short_digest, short_digests
from ocitui.words import (
    Ways,
    bytes_text,
    import_label,
    import_pace,
    import_percent,
    memory_warning,
    said,
    size_lines,
    with_text,
)

from ..widgets.bars import RULE, Choice, FieldRow, Part, PathSuggester, Question, RuleBar
from ..widgets.lines import BAD, GOOD, MARK, Line, LinesView, PickList, PickRow, bound, fit, heading
from .base import DRAW_SECONDS, TYPED_INTO, WAYS, FullScreen, Throttle, error_lines, run_beside
from .popups import MenuScreen, PopUp


class Field(msgspec.Struct, frozen=True):
    """A line to type in. ``path`` says that paths are completed; fields in one ``row`` stand beside each other."""

    id: str
    label: str
    hint: str
    path: bool = False
    row: int = 0


SOURCE = Field("source", "from", "path, oci: oci-archive: docker-archive: packed: registry name", path=True)
BASIC = (
    Field("name", "name", "as the daemon is to find it; empty: what the source calls it"),
    Field("platform", "platform", "this machine's; or linux/arm64"),
)
ADVANCED = (
    Field("compression", "compression", "its own", row=1),
    Field("level", "level", "its own", row=1),
    Field("packer", "packer", "ocitui", row=1),
    Field("max_bytes", "most bytes", "64G unpacked", row=2),
    Field("max_entries", "most files", "1000000", row=2),
    Field("tls_ca", "TLS CA file", "trusted besides the system's authorities", path=True, row=3),
    Field("authfile", "auth file", "credentials; empty: those of skopeo login or docker login", path=True, row=4),
    Field("mirror", "mirror", "HOST[:PORT] that serves the images of Docker Hub", row=5),
    Field("manifest", "manifest", "of packed files; empty: FILE.manifest.json beside them", path=True, row=6),
    Field("config", "config", "of packed files; empty: FILE.config.json beside them", path=True, row=7),
)
SWITCHES = (("plain_http", "plain http"), ("again", "again"), ("complete_config", "add history"))
SOURCE_FIELDS = (
    *("source", "platform", "tls_ca", "authfile", "mirror", "manifest", "config", "plain_http"),
    "complete_config",
)
"""What a look at the source depends on."""
_LABELS = {
    **{field.id: f'"{field.label}"' for field in (SOURCE, *BASIC)},
    **{field.id: f'"{field.label}" (F2)' for field in ADVANCED},
    **{id: f'"{label}" (F2)' for id, label in SWITCHES},
    "format": '"as"',
    "yes": "y in the form",
}
_ASKED = dict.fromkeys(("--allow-realm", "--login"), "enter in the form, which asks")
FIELDS: Ways = {**WAYS, **_ASKED, **{f"--{id.replace('_', '-')}": label for id, label in _LABELS.items()}}
"""What the form calls each option that a hint names."""


class FormError(CacheError):
    """What was typed into a field is not what it takes."""

    code = "form"


def make_request(typed: Mapping[str, str]) -> ImportRequest:
    """The import that the fields ask for. Raises FormError, InvalidNameError, PackingChoiceError."""
    if not typed["source"]:
        raise FormError("no source yet", hint="type a path, or a name in a registry")
    asked: dict[str, Any] = {field.id: typed[field.id] or None for field in (*BASIC, *ADVANCED)}
    asked |= {id: typed[id] == "yes" for id, _ in SWITCHES}
    asked |= {"format": PackedFormat(typed["format"]), "level": _number(typed["level"], "level", least=0)}
    check_choice(asked["format"], asked["compression"], asked["level"], asked["packer"])
    asked |= {
        "source": expanded_source(typed["source"]),
        "name": str(ImageName.parse(typed["name"])) if typed["name"] else None,
        "max_bytes": _size(typed["max_bytes"]),
        "max_entries": _number(typed["max_entries"], "most files", least=1),
    }
    return ImportRequest(**asked)


def _number(text: str, label: str, *, least: int) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) >= least):
        raise FormError(f"{label}: {text!r} is not a number from {least}")
    return int(text)


def _size(text: str) -> int | None:
    if not text:
        return None
    size = parse_size(text)
    if not size:
        raise FormError(f"most bytes: {text!r} is not a size like 500M or 64G")
    return size


class LoginScreen(PopUp[Credentials]):
    """Asks for a registry's name and password. Dismissed with them."""

    AUTO_FOCUS = "Question"
    # At once: a password that is typed ahead is not to land in the field that shows it.
    BINDINGS = bound({"enter": "step"}, priority=True)

    def __init__(self, registry: str) -> None:
        super().__init__(f"log in at {registry}", "for this import only: enter logs in, esc goes back")

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Question(placeholder="name")
            yield Question(placeholder="password", password=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "step" or self.focused is self.query(Question).first()

    def action_step(self) -> None:
        self.focus_next()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        name, password = (question.value for question in self.query(Question))
        if name.strip() and password:
            self.dismiss(Credentials(name.strip(), password))
        elif not name.strip():
            self.focus_next()


_FIELDS = (SOURCE, *BASIC, *ADVANCED)
_HEIGHTS = [(0, "-low"), (18, "-high"), (24, "-tall")]
_KEYS = (("enter", "Look"), ("→", "Complete"), ("↑ ↓", "Field"), ("F2", "More"))


class ImportScreen(FullScreen[str | None]):
    """Enter looks, and writes nothing; `y` puts the import of what was shown into the queue. The fields are filled as
    an import was ``asked`` for, where there is one to go on from."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bound({"y": "start(False)", "Y": "start(True)"}),
        # First of all, so that keys typed ahead land in the field that they were typed for.
        *bound({"up,shift+tab": "field(-1)", "down,tab": "field(1)", "f2": "more"}, priority=True),
    ]
    AUTO_FOCUS = "#source"
    VERTICAL_BREAKPOINTS = _HEIGHTS
    subject = "import"
    keys, always = _KEYS, TYPED_INTO

    def __init__(self, asked: ImportRequest | None = None) -> None:
        super().__init__()
        self._asked = asked
        self._throttle = Throttle(self, DRAW_SECONDS, self._draw_jobs)
        self._inspection: Inspection | None = None
        self._seen: tuple[str, ...] = ()
        self._request: ImportRequest | None = None
        self._standing = Standing()
        self._name_is_ours = True
        self._logins: dict[str, Credentials] = {}

    # The fields

    def compose_body(self) -> Iterable[Widget]:
        with Vertical(id="form"):
            yield _row(SOURCE)
            yield FieldRow(("as", Choice([*PackedFormat], id="format")))
            yield from map(_row, BASIC)
            yield FieldRow(("more options", Choice(["hidden", "shown"], id="more")))
            for _, fields in groupby(ADVANCED, lambda field: field.row):
                yield _row(*fields, classes="advanced")
            switches = ((label, Choice(["no", "yes"], id=id)) for id, label in SWITCHES)
            yield FieldRow(*switches, classes="advanced")
        yield RuleBar(id="found")
        yield PickList(id="images")
        yield LinesView()
        yield RuleBar(id="jobs")

    def begin(self) -> None:
        text = "enter looks at the source: what it holds is shown before anything is written"
        self._head("nothing yet")
        self.show_lines([Line(text, kind="muted")])
        self._draw_jobs()
        if self._asked is not None:
            for field in _FIELDS:
                value = getattr(self._asked, field.id)
                self._fill(field.id, "" if value is None else str(value))
            self.query_one("#format", Choice).value = self._asked.format
            for id, _ in SWITCHES:
                self.query_one(f"#{id}", Choice).value = "yes" if getattr(self._asked, id) else "no"
            self._name_is_ours = not self._asked.name

    def _typed(self) -> dict[str, str]:
        typed = {field.id: self.query_one(f"#{field.id}", Input).value.strip() for field in _FIELDS}
        return typed | {id: self.query_one(f"#{id}", Choice).value for id in ("format", *(id for id, _ in SWITCHES))}

    def _fill(self, field: str, text: str) -> None:
        question = self.query_one(f"#{field}", Input)
        with question.prevent(Input.Changed):
            question.value = text

    @on(Input.Changed)
    @on(Choice.Changed)
    def _edited(self, event: Input.Changed | Choice.Changed) -> None:
        """What was shown is no longer what is asked for."""
        if isinstance(event, Choice.Changed) and event.choice.id == "more":
            self.set_class(event.choice.value == "shown", "-more")
            return
        if isinstance(event, Input.Changed) and event.input.id == "name":
            self._name_is_ours = not event.value
        if self._request is not None:
            self._request = None
            self.show_keys(_KEYS)
            self.conclude("changed: enter looks again")

    async def action_more(self) -> None:
        more = self.query_one("#more", Choice)
        more.action_step(1)
        shown = more.value == "shown"
        self.set_class(shown, "-more")
        # What is not laid out yet is not brought into view; the keys that follow wait for it, as they are meant for it.
        await self.wait_for_refresh()
        self.set_focus(self.query_one("#compression" if shown else "#source"))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A list keeps the keys that move in it."""
        if action == "field":
            return not isinstance(self.focused, PickList | LinesView)
        return super().check_action(action, parameters)

    def action_field(self, by: int) -> None:
        self.focus_next() if by > 0 else self.focus_previous()

    def _head(self, what: str) -> None:
        for rule in self.query("#found").results(RuleBar):
            rule.part((" FOUND", "strong"), (f" {what} ", "muted"))

    def imports_changed(self) -> None:
        self._throttle.ask()

    def _draw_jobs(self) -> None:
        active = self.session.imports.queue.active if self.session.has_imports else []
        self.set_class(bool(active), "-busy")
        lines = [_job_parts(job, self.app.size.width) for job in active[:_MOST_JOBS]]
        for rule in self.query("#jobs").results(RuleBar):
            rule.styles.height = 1 + len(lines)
            rule.part((" UNDER WAY", "strong"), (f" {len(active)} ", "muted"), below=lines)

    # The look

    @on(Input.Submitted)
    @on(Choice.Submitted)
    def _submitted(self) -> None:
        self._look()

    @work(exclusive=True, group="look")
    async def _look(self) -> None:
        """See what the source holds and what the cache has of it; the source is not asked twice for a mere name."""
        typed = self._typed()
        try:
            request = make_request(typed)
            seen = tuple(typed[field] for field in SOURCE_FIELDS)
            if self._inspection is None or seen != self._seen or self._request is not None:
                self._head("looking")
                self.conclude(f"looking at {request.source}; ctrl+c stops it")
                self._inspection, self._seen = None, seen
                self._inspection = await run_beside(lambda: inspect_source(request, self._note, logins=self._logins))
            inspection = self._inspection
            if self._name_is_ours:
                self._fill("name", str(inspection.name) if inspection.name else "")
            self._standing = await standing_of(self.session.cache, inspection, make_request(self._typed()))
            self._show(inspection, make_request(self._typed()))
        except CacheError as error:
            self._request = None
            self._show_images([])
            self._head("nothing")
            self.show_lines(error_lines(error, FIELDS))
            self.show_keys(_KEYS)
            self.conclude("nothing was changed")
            if isinstance(error, UnknownRealmError):
                await self._ask_realm(error)
            elif isinstance(error, DeniedError):
                await self._ask_login(await asyncio.to_thread(lambda: request.registry))

    async def _ask_realm(self, error: UnknownRealmError) -> None:
        # Not y, which a hand that is used to the form presses next.
        rows = {"n": "do not send it there", "s": f"send it to {error.realm}, now and from now on"}
        menu = MenuScreen(f"the login of {error.registry}", rows, "esc goes back")
        if (await self.app.push_screen_wait(menu) or ("n", False))[0] == "s":
            with self.saying_errors():
                await asyncio.to_thread(allow_realm, self.session.directory, error.registry, error.realm)
                self._look()

    async def _ask_login(self, registry: str) -> None:
        self._logins.pop(registry, None)
        if (login := await self.app.push_screen_wait(LoginScreen(registry))) is not None:
            self._logins[registry] = login
            self._look()

    def _note(self, text: str) -> None:
        """Called from the thread that looks."""
        self.call_later(self.say, text)

    def _show(self, inspection: Inspection, request: ImportRequest) -> None:
        rows = image_rows(inspection)
        self._show_images(rows)
        count = counted(len(inspection.images), "image") if inspection.listing else "an image"
        self._head(f"in {_KINDS[inspection.kind]}: {count}; nothing is written yet")
        host = self.session.live.host
        lines = preview_lines(inspection, self._standing, request, host.disk[1] if host.disk else None)
        if host.daemon.running:
            lines.insert(0, Line(f"{memory_warning('write back what it remembers')}.", kind="bad"))
        self.show_lines(lines)
        if not inspection.can_be_taken:
            if rows:
                self.query_one(PickList).focus()
                self.show_keys([("enter", "Take it"), ("shift+tab", "Fields")])
            self.conclude("choose one of them: enter takes it" if rows else "not to be imported as it is")
        elif request.name is None:
            self.query_one("#name").focus()
            self.show_keys(_KEYS)
            self.conclude("the source says no name: type the one it is to have")
        else:
            self._wait_for_start(request, several=bool(rows))

    def _wait_for_start(self, request: ImportRequest, *, several: bool) -> None:
        self._request = request
        self.query_one(PickList if several else LinesView).focus()
        other = self._standing.is_other(request.name or "")
        keys = [("Y", "Rename") if other else ("y", "Import"), ("shift+tab", "Fields")]
        self.show_keys([*keys, ("enter", "Take another")] if several else keys)
        self.conclude(f"on {self.session.host}: nothing is changed before {'Y' if other else 'y'}")

    def _show_images(self, rows: Sequence[PickRow]) -> None:
        self.query_one(PickList).set_rows(rows)
        self.set_class(bool(rows), "-images")

    @on(PickList.Picked)
    def _picked(self) -> None:
        """Write the chosen image into the fields, and look at it."""
        key = self.query_one(PickList).key
        if self._inspection is None or key is None:
            return
        source, platform = chosen_source(self._typed()["source"], self._inspection, int(key))
        self._fill("source", source)
        if platform is not None:
            self._fill("platform", platform)
        self._look()

    # The start

    def action_start(self, rename: bool) -> None:
        request, inspection = self._request, self._inspection
        if request is None or inspection is None:
            return
        if self._standing.is_other(request.name or "") and not rename:
            self.say("not done: Y gives the entry that is there the new name")
        elif self.may("import_image"):
            # What the name stands for now was shown.
            request = pinned_request(msgspec.structs.replace(request, rename=rename, repoint=True), inspection)
            number = self.session.imports.queue.submit(request, logins={**self._logins})
            self.dismiss(f"import {number} of {request.name} is in the queue; I shows it")

    def action_interrupt(self) -> None:
        looking = self.workers.cancel_group(self, "look")
        self.conclude("stopped looking" if looking else "nothing is running; esc goes back")


def _row(*fields: Field, classes: str = "") -> FieldRow:
    def question(field: Field) -> Question:
        suggester = PathSuggester(sources=field.id == "source") if field.path else None
        return Question(id=field.id, placeholder=field.hint, suggester=suggester)

    return FieldRow(*((field.label, question(field)) for field in fields), classes=classes)


_GAUGE, _MOST_JOBS, _MOST_DIGITS = 12, 4, 18


def _job_parts(job: ImportJob, width: int) -> list[Part]:
    now = job.progress
    full = min(now.done * _GAUGE // now.total, _GAUGE) if now.total else 0
    doing = now.phase if job.state is JobState.RUNNING else job.state
    said = "".join(f"  {one}" for one in (bytes_text(now), import_pace(now)[1]) if one)
    gauge: list[Part] = ["  ", ("━" * full, "gauge"), (RULE * (_GAUGE - full), "faint")]
    name = fit(clean(import_label(job.request)), max(width - _GAUGE - len(said) - 20, 0), middle=True)
    return [*gauge, f" {import_percent(now):>5} ", (f"{doing:<10}", "muted"), name, (said, "muted")]


_KINDS = {
    SourceKind.OCI_LAYOUT: "an OCI layout",
    SourceKind.OCI_ARCHIVE: "an OCI archive",
    SourceKind.DOCKER_ARCHIVE: "a Docker archive",
    SourceKind.REGISTRY: "a registry",
    SourceKind.PACKED: "packed files",
}
_VERBS = {SourceKind.REGISTRY: "fetch", SourceKind.PACKED: "copy"}


def image_rows(inspection: Inspection) -> list[PickRow]:
    """A row for each image, where there are several to choose from."""
    if len(inspection.images) < 2:
        return []
    rows = [PickRow("", "  NAME", f"{'PLATFORM':<14} {'SIZE':>5} {'DIGEST':<12}", "muted", rule=True)]
    for number, image in enumerate(inspection.images):
        sign = MARK if inspection.is_taken(image) else " "
        right = f"{image.platform or 'unknown'!s:<14} {human_size(image.size):>5} {short_digest(image.digest)}"
        rows.append(PickRow(str(number), f"{sign} {', '.join(image.names) or 'no name'}", right))
    return rows


def preview_lines(
    inspection: Inspection, standing: Standing, request: ImportRequest, free: int | None = None
) -> list[Line]:
    """All that is to be known before `y`; ``free`` is how many bytes the disk has."""
    lines: list[Line] = []
    if inspection.packed is not None:
        lines += _packed_lines(inspection.packed)
    elif inspection.image is not None:
        lines += _image_lines(inspection.image)
    if inspection.refusal is not None:
        several = len(inspection.images) > 1
        lines.append(Line(inspection.refusal.message, kind="plain" if several else "bad"))
        lines.append(Line("choose one above: enter takes it" if several else said(inspection.refusal.hint, FIELDS)))
    if inspection.can_be_taken:
        taken = inspection.packed or inspection.image
        if taken is not None and free is not None and (not standing.there or request.again):
            # At the least: an image is unpacked, and packed again.
            enough, verb = free > taken.size - standing.kept, _VERBS.get(inspection.kind, "read")
            text = f"{human_size(taken.size - standing.kept)} to {verb}   {GOOD if enough else BAD} "
            lines.append(Line(f"{text}{human_size(free)} free", "takes", "plain" if enough else "bad"))
            lines += size_lines(inspection.image, standing, request) if inspection.image is not None else []
        lines += _cache_lines(inspection, standing, request)
        if inspection.listing is not None and (login := inspection.listing.login) is not None:
            lines.append(Line(f"as {clean(login)}" if login else "none needed", "login"))
    return [*lines, *(Line(said(short_digests(note), FIELDS), "note") for note in inspection.notes)]


def _image_lines(image: SourceImage) -> Iterator[Line]:
    layers = counted(len(image.layers), "layer")
    yield Line(image.digest.removeprefix("sha256:"), "digest")
    yield Line(f"{image.platform}, {layers}, {human_size(image.size)}", "image")
    yield from with_text(Line(", ".join(image.names), "called"))


def _packed_lines(packed: PackedSource) -> Iterator[Line]:
    format_, platform = packed.format or "no known format", packed.platform or "no platform"
    yield Line((packed.digest or "unknown").removeprefix("sha256:"), "digest")
    yield Line(f"{format_}, {platform}, {human_size(packed.size)}", "image")
    if packed.problems:
        yield Line()
        yield heading("It cannot be imported")
        yield from (Line(problem, kind="bad") for problem in packed.problems)


def _cache_lines(inspection: Inspection, standing: Standing, request: ImportRequest) -> Iterator[Line]:
    name = request.name or ""
    format_ = inspection.format(request.format)
    if not name:
        yield Line("none: a name is needed", "then", "bad")
    elif ImageName.parse(name).reference == "latest":
        yield Line("the daemon never resolves the tag latest from its cache", "then", "bad")
    else:
        no_more = f", and no more to {short_digest(standing.displaced)}" if standing.displaced else ""
        missed = f"; a miss then as {', '.join(standing.misses)}" if standing.misses else ""
        text = f"▲ {name} leads to it as {', '.join(standing.hits)}{no_more}{missed}"
        yield Line(text, "then", "bad" if no_more or missed else "plain")
    if not standing.there:
        yield Line(f"it has nothing of this digest in format {format_}", "cache")
    elif standing.is_other(name):
        called = standing.called or "an entry without a name"
        yield Line(f"it has it in format {format_} as {called}", "cache", "bad")
        yield Line("A digest and format has one name: Y gives that entry the new one, and nothing is packed again.")
    elif request.again:
        yield Line(f"it has it in format {format_} under this name, and it is packed again", "cache")
    else:
        won = "nothing is fetched or packed" if standing.wins else "the name only is made to stand for it"
        yield Line(f"it has it in format {format_} under this name: {won}", "cache", "good")

"""Options that several commands share, and how a command does its work by them: the cache, and what is asynchronous.
What can be asked of the screen and of an image's source stands here too; nothing heavy is imported for it."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from ocitui.cache import PackedFormat
from ocitui.directory import DEFAULT_DIRECTORY, DIRECTORY_VARIABLE, default_directory, default_place
from ocitui.directory import FAR as FAR
from ocitui.text import parse_size, parse_span

from .output import Call, InterruptedBySignalError, UsageProblemError, is_terminal, say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ocitui.cache import PackerCache
    from ocitui.doctor import ExamineOptions, Finding, Progress, Report
    from ocitui.importing import SourceOptions
    from ocitui.remote import HostMirror, SshPlace


P = ParamSpec("P")
T = TypeVar("T")
F = Callable[..., Any]
Asking = Callable[[Call, Mapping[str, Any]], AbstractContextManager[object]]
"""What a host is asked within, by the Call and what else was typed."""
# The doctor's own names for these are a heavy import; a test holds them together.
DEPTHS = ("quick", "header", "deep", "layers")


def span(text: str) -> float:
    """Seconds, written as 30d, 12h or 90m; a bare number is days. Raises BadParameter."""
    seconds = parse_span(f"{text}d" if text[-1:].isdigit() else text)
    if seconds is None:
        raise click.BadParameter(f"{text!r} is not a span of time like 30d or 12h")
    return seconds


def moment(text: str) -> float:
    """Seconds since the epoch, written as RFC 3339, or as an age like 2d; the end of the second, or of the microsecond,
    that is written, as times are shown cut. Raises BadParameter."""
    if (age := parse_span(text)) is not None:
        return time.time() - age
    with suppress(ValueError):
        if (found := datetime.fromisoformat(text)).tzinfo is not None:
            return found.timestamp() + (1e-6 if found.microsecond else 1)
    raise click.BadParameter(f"{text!r} is neither a time like 2026-01-31T12:00:00Z nor an age like 2d")


def byte_size(text: str) -> int:
    """Bytes, written as 64G or 1.5T: powers of 1024. Raises BadParameter."""
    size = parse_size(text)
    if not size:
        raise click.BadParameter(f"{text!r} is not a size like 500M or 64G")
    return size


depth_option = click.option(
    "--depth",
    type=click.Choice(DEPTHS),
    default="header",
    show_default=True,
    help="quick: index, names, documents; header: the packed files' headers too; deep: every byte; layers: what is in "
    "it against the image's layers.",
)


def with_options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Gives a command these options, in this order."""

    def give(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return give


def repeatable(*names: str, metavar: str, help: str, complete: Callable[..., Any]) -> Callable[[F], F]:
    """An option that may be given several times, with words that a shell can complete."""
    return click.option(*names, metavar=metavar, multiple=True, shell_complete=complete, help=help)


FORMATS = tuple(one.value for one in PackedFormat)
THEMES = ("dark", "light", "ansi")


class _CacheWord(click.Path):
    """A directory, or what names another host, which stays the text that it is. Whether it can be read is the core's to
    say: it knows why, and what the status is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if str(value).startswith(FAR) else super().convert(value, param, ctx)


CACHE_WORD = _CacheWord(path_type=Path, readable=False)
directory_option = click.option(
    "-C",
    "directory",
    metavar="DIR",
    type=CACHE_WORD,
    help=f"The cache directory, or a report [default: {DIRECTORY_VARIABLE}, else {DEFAULT_DIRECTORY}].",
)
sudo_option = click.option("--sudo", is_flag=True, help="Over ssh: read as root there, by sudo without a password.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
read_only_option = click.option("--read-only", is_flag=True, help="Refuse whatever would write.")
# For those who always type it: a command that only reads has nothing to refuse, and no lock to wait for.
_read_only_anyway_option = click.option("--read-only", is_flag=True, hidden=True)
_SECONDS = click.FloatRange(min=0, max=86_400)
wait_option = click.option(
    "--wait", metavar="SECONDS", type=_SECONDS, help="Wait for the lock of another ocitui [default: 0]."
)
_wait_anyway_option = click.option("--wait", type=_SECONDS, hidden=True)
theme_option = click.option("--theme", type=click.Choice(THEMES), help="Colours [default: by the terminal].")
no_mouse_option = click.option("--no-mouse", is_flag=True, help="Leave the mouse to the terminal.")
_whole_frames_option = click.option(
    "--whole-frames",
    is_flag=True,
    envvar="OCITUI_WHOLE_FRAMES",
    show_envvar=True,
    help="Write whole frames, not only the cells that changed.",
)
look_options = with_options(theme_option, no_mouse_option, _whole_frames_option)
"""How a screen is drawn."""
screen_options = with_options(directory_option, sudo_option, read_only_option, look_options, wait_option)
shared_options = with_options(directory_option, json_option, read_only_option, wait_option)
format_option = click.option(
    "--format", "format_", type=click.Choice(FORMATS), help=f"The packed format [default: {FORMATS[0]}]."
)
images_option = click.option(
    "--images", is_flag=True, help="Read the packed files, though it is stored what is in them."
)
level_option = click.option(
    "--level",
    type=click.Choice(("content", "xattrs", "full")),
    default="content",
    show_default=True,
    help="How much of the tree.",
)
_yes_option = click.option("--yes", "agreed", is_flag=True, help="Do it without asking.")


def likely(word: str, known: Iterable[str]) -> str:
    """What was meant by a word that is none of these, as the end of a sentence; empty where none is like it."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


class NoTerminalError(click.UsageError):
    """There is nothing to draw the screen on."""

    hint = (
        "these need none: ocitui check (what is wrong), list, why NAME, repair, delete NAME, undo, log, import SOURCE; "
        "ocitui help keys has one for each key"
    )

    def __init__(self, message: str = "there is no terminal to draw on", hint: str = hint) -> None:
        super().__init__(message)
        self.hint = hint


def why_no_screen() -> NoTerminalError | None:
    """What is in the way of drawing on the terminal; None where nothing is."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        return NoTerminalError()
    kind = os.environ.get("TERM", "").lower()
    # Rich takes any such terminal for one of 80x25, and the screen would be laid out again without end.
    return NoTerminalError(f"a terminal of the type {kind} cannot be drawn on") if kind in ("dumb", "unknown") else None


def pass_on(context: click.Context, names: Iterable[str], typed: Mapping[str, Any]) -> None:
    """Have the commands of these names take what was typed before their own, where it is not typed behind them too."""
    given = {name: value for name, value in typed.items() if value is not None and value is not False}
    context.default_map = dict.fromkeys(names, given)


def taking(
    *options: Callable[[F], F], far: bool = False, asking: Asking = lambda call, typed: nullcontext()
) -> Callable[[Callable[Concatenate[Call, P], int]], F]:
    """Gives a command these options, and its function the Call that they make. ``far``: the facts that a mirror of
    another host's cache has are all that it looks at, and it is asked within ``asking``."""

    def give(function: Callable[Concatenate[Call, P], int]) -> F:
        @wraps(function)
        def command(*args: P.args, **kwargs: P.kwargs) -> int:
            usual = default_place() if "directory" in kwargs else default_directory()
            typed: dict[str, Any] = {name: kwargs.pop(name, None) for name in _SHARED}
            directory, as_json, read_only, wait, agreed = typed.values()
            directory, sudo = directory or usual, far and bool(kwargs.pop("sudo"))
            if isinstance(directory, str):
                return on_mirror(
                    Call(Path(directory), bool(as_json)),
                    directory,
                    lambda there, _: function(there, *args, **kwargs),
                    lambda there: asking(there, kwargs),
                    far=far,
                    sudo=sudo,
                )
            refuse_sudo(sudo)
            call = Call(directory, bool(as_json), bool(read_only), wait or 0.0, bool(agreed))
            return call.reported(lambda: on_cache(call, lambda there: function(there, *args, **kwargs)))

        return with_options(*options, *((sudo_option,) if far else ()))(command)

    return give


def refuse_sudo(sudo: bool) -> None:
    """Of a cache that is here. Raises UsageError."""
    if sudo:
        raise click.UsageError("--sudo is for a cache that is reached over ssh")


def on_mirror(
    call: Call,
    text: str,
    work: Callable[[Call, HostMirror], int],
    asking: Callable[[Call], AbstractContextManager[object]] = lambda call: nullcontext(),
    *,
    far: bool = True,
    sudo: bool = False,
    shared: bool = False,
) -> int:
    """Do a command's work on what stands for the cache of another host, which is asked within ``asking``; not ``far``:
    that is not enough for it."""

    def work_far() -> int:
        from ocitui.remote import HostMirror, SshPlace

        place = SshPlace.parse(text)
        if not far:
            raise UsageProblemError("this is done only on the host that has the cache", hint=f"there: {there(place)}")
        mirror = HostMirror(place, sudo=sudo, shared=shared)

        def work_on_it(there: Call) -> int:
            with asking(there):
                run_async(mirror.ask())
            return work(there, mirror)

        try:
            with ended_by_signals("what was begun has ended whole"):
                return on_stand_in(call, mirror.directory, work_on_it)
        finally:
            mirror.remove()

    return call.reported(work_far)


def there(place: SshPlace) -> str:
    """The command that does on another host what was asked for here."""
    # ocitui, and the command with the group that it is of.
    path = ["ocitui", *click.get_current_context().command_path.split(" ")[1:]]
    directory = ["-C", str(place.directory)] if place.directory else []
    # Two shells read it: the one here, and the one there.
    return f"{place.login.replace('ssh', 'ssh -t', 1)} {shlex.join(map(shlex.quote, [*path, *directory]))}"


def on_cache(call: Call, work: Callable[[Call], int]) -> int:
    """Do a command's work; where a report is named in place of a directory, on the cache that is told of in it, which
    cannot be changed. Raises ReportError."""
    # A name that is too long is for who opens it to tell.
    if not os.path.isfile(call.directory):
        return work(call)
    from ocitui.doctor import is_report, opened_report

    if not is_report(call.directory):
        return work(call)
    with ExitStack() as stack, ended_by_signals():
        directory = stack.enter_context(opened_report(call.directory))
        return on_stand_in(call, directory, work)


def on_stand_in(call: Call, directory: Path, work: Callable[[Call], int]) -> int:
    """Do a command's work on what stands for a cache, and cannot be changed."""
    there = replace(call, directory=directory, read_only=True)
    return there.reported(lambda: work(there))


_SHARED = ("directory", "as_json", "read_only", "wait", "agreed")
reading = taking(directory_option, json_option, _read_only_anyway_option)
"""For a command that only reads."""
looking = taking(directory_option, json_option, _read_only_anyway_option, far=True)
"""For one that reads no more than a mirror of another host's cache has."""
agreeing = taking(_yes_option, directory_option, json_option, _read_only_anyway_option)
"""For one that only reads the cache, and asks before it writes over what is elsewhere."""
noting_options = with_options(directory_option, json_option, read_only_option, _wait_anyway_option)
keeping = taking(noting_options)
"""For a command that writes nothing but notes in `.ocitui`, for which it needs no lock."""
noting = taking(noting_options, far=True)
"""For one of these to which a mirror is enough."""
writing = taking(shared_options)
"""For a command that writes."""
changing = taking(_yes_option, shared_options)
"""For a command that shows what it is going to change, and asks."""


# A signal that came as the work ended takes the loop two turns to be told.
_TURNS = 3
_MOST_NOTES = 10
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def writing_cache(call: Call, doing: str) -> PackerCache:
    """The cache, for a command that writes: what is pending is finished before it looks at anything else, but for what
    click refuses, as no cache is known then. Raises ReadOnlyError, and what `PackerCache.prepare` raises."""
    call.refuse_read_only(doing)
    cache = call.cache()
    tell_notes(run_async(cache.prepare()).notes)
    return cache


def tell_notes(notes: Sequence[str]) -> None:
    """Say what lies in `.ocitui` and was found, or made, to be otherwise than it should."""
    for note in notes[:_MOST_NOTES]:
        say(f"note: {note}", err=True)
    if len(notes) > _MOST_NOTES:
        say(f"note: and {len(notes) - _MOST_NOTES} more; ocitui log and ocitui check show them", err=True)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """The outcome of ``work``. A signal cancels it, but a thread that writes is waited for when the loop ends, so a
    transaction ends whole; then they do what they did before. Raises InterruptedBySignalError."""
    import asyncio

    with _signals_kept():
        return asyncio.run(_cancelled_by_signals(work))


async def _cancelled_by_signals(work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        caught.append(number)
        task.cancel()
        # A second one ends the program at once, whatever it waits for: the next writer finishes what is pending.
        for each in _SIGNALS:
            if loop.remove_signal_handler(each):
                signal.signal(each, signal.SIG_DFL)

    for number in _heeded():
        loop.add_signal_handler(number, stop, number)
    try:
        result = await task
    except asyncio.CancelledError:
        if not caught:
            raise
    else:
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if not caught:
            return result
    raise InterruptedBySignalError(caught[0])


@contextmanager
def ended_by_signals(left: str = "nothing was changed") -> Iterator[None]:
    """What only reads, here and now: a signal ends it at once. Raises InterruptedBySignalError, which says what is
    ``left`` of it."""

    def stop(number: int, _: object) -> None:
        raise InterruptedBySignalError(number, left)

    with _signals_kept():
        for each in _heeded():
            signal.signal(each, stop)
        yield


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Behind it, signals do again what they did before."""
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _heeded() -> list[signal.Signals]:
    """The signals that end a command; nohup(1) has one of them ignored."""
    return [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


async def examined(
    call: Call,
    options: ExamineOptions,
    progress: Callable[[Progress], object],
    tell: Callable[[list[Finding]], object] = lambda findings: None,
    sources: Sequence[str] = (),
    access: SourceOptions | None = None,
) -> tuple[Report, tuple[str, ...]]:
    """What `examine` reports, or `examine_layers` by ``sources`` and ``access``, and notes on the index: a corrupt one
    is copied aside, of a sound one a backup is kept, unless nothing may be written. Raises CacheDirectoryError."""
    import asyncio

    from msgspec import structs

    from ocitui.doctor import examine, examine_layers, keep_index, note_use
    from ocitui.host import find_users

    look = partial(examine_layers, sources=sources, access=access) if options.depth == DEPTHS[-1] else examine
    if call.read_only:
        return await look(call.directory, structs.replace(options, ledger_writes=False), progress, tell), ()
    # Corrupt bytes are kept first: a daemon that starts meanwhile overwrites them. So one index is in memory at a time.
    note = await asyncio.to_thread(keep_index, call.directory)
    report = await look(call.directory, options, progress, tell)
    if report.judge is not None:
        await asyncio.to_thread(note_use, call.directory, find_users(call.directory), report.judge.remembered)
    return report, (note,) if note else ()


# These are known to the importing library too, which is a heavy import; a test holds them together.
COMPRESSIONS = ("gzip", "lzo", "lz4", "xz", "zstd", "lzma", "lz4hc", "deflate", "libdeflate")
PACKERS = ("mksquashfs",)
_FILE = click.Path()


def complete_source(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """The kinds of sources, and the paths behind them."""
    from click.shell_completion import CompletionItem

    from ocitui.directory import FILE_PREFIXES, PREFIXES, paths_from

    prefix = next((prefix for prefix in PREFIXES if word.startswith(prefix)), "")
    if prefix in FILE_PREFIXES:
        return [CompletionItem(prefix + path) for path in paths_from(word.removeprefix(prefix))]
    begun = [CompletionItem(prefix) for prefix in PREFIXES if word and prefix.startswith(word)]
    return begun or ([] if prefix else [CompletionItem(word, type="file")])


source_argument = click.argument("source", shell_complete=complete_source)


def sources_option(help_text: str) -> Callable[[F], F]:
    """What a command looks into beside the cache."""
    return repeatable("--from", "sources", metavar="SOURCE", complete=complete_source, help=f"{help_text} Repeatable.")


# Their values are fields of ImportRequest, None and False where nothing was typed.
registry_options = with_options(
    click.option("--tls-ca", metavar="FILE", type=_FILE, help="Trust this authority (PEM) besides the system's."),
    click.option("--plain-http", is_flag=True, help="Speak http without TLS; this machine itself is asked so anyway."),
    click.option(
        "--authfile",
        metavar="FILE",
        type=_FILE,
        help="Credentials [default: REGISTRY_AUTH_FILE, else those of skopeo login, else of docker login].",
    ),
    click.option("--mirror", metavar="HOST[:PORT]", help="Fetch images of Docker Hub from this mirror."),
)
# Where no source says which registry is asked.
registries_options = with_options(
    registry_options,
    click.option(
        "--login",
        "logins",
        metavar="HOST[:PORT]",
        multiple=True,
        help="Ask for the name and password of this registry, and keep them nowhere. Repeatable.",
    ),
)
source_options = with_options(
    click.option(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="The image's platform, as linux/arm64 [default: this machine's].",
    ),
    registry_options,
    click.option("--login", is_flag=True, help="Ask for the registry's name and password, and keep them nowhere."),
    click.option("--allow-realm", metavar="HOST", help="Let HOST be sent the registry's login, from now on."),
    click.option(
        "--max-bytes", metavar="SIZE", type=byte_size, help="The most that the layers may unpack to [default: 64G]."
    ),
    click.option("--complete-config", is_flag=True, help="Add an empty history to a config that has none."),
    click.option("--manifest", metavar="FILE", type=_FILE, help="For packed: its manifest [default: beside the file]."),
    click.option("--config", metavar="FILE", type=_FILE, help="For packed: its config [default: beside the file]."),
)

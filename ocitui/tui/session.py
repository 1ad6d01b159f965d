"""The session: what every screen asks for, one of each, made by the application: the cache and what is known of it,
imports, settings, and what may be done now. A screen needs no other: it can be shown alone."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import cached_property, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace
from textual import events, on, work
from textual._styles_cache import StylesCache
from textual.app import App
from textual.await_complete import AwaitComplete
from textual.screen import Screen

from ocitui.cache import OWN_NAME, CacheDirectoryError, CacheError, Condition, identity_of
from ocitui.host import config_path, read_config, write_config
from ocitui.stand_in import fact_of
from ocitui.text import timestamp
from ocitui.threads import settled

from .actions import BY_NAME
from .live import P_SHOWS_IT, DeepCheck, LiveCache, LiveChange
from .terminal import HOST_COLOURS, THEMES, Terminal
from .widgets.entry_rows import BY_NAME as BY_COLUMN

if TYPE_CHECKING:
    from ocitui.cache import PackerCache
    from ocitui.doctor import Depth, Progress
    from ocitui.importing import ImportJob, ImportQueue, LayerProgress, Logins, UnfinishedImport
    from ocitui.remote import HostMirror, SshPlace

R = TypeVar("R")
_HOST = "host"
_SMALLEST = (40, 10)
"""The columns and lines that a screen needs."""
LAYOUTS = ("split", "table", "pane")
_TOLD = 5
_M_MMAP_THRESHOLD, _LARGE = -3, 1 << 18  # mallopt(3), bytes


def give_memory_back() -> None:
    """From here on, what is large goes back to the system as soon as it is freed. Left alone, the C library keeps more
    the larger it was, for each thread: 14 MB of a screen with 100,000 entries."""
    from ctypes import CDLL

    with suppress(OSError, AttributeError):
        CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


class ScreenOptions(msgspec.Struct, frozen=True):
    """What the command line asks of the screen: ``theme`` is dark, light or ansi, None to choose by the terminal;
    ``wait`` is seconds for the lock; ``whole_frames`` has Textual's own driver write, not the changed cells only;
    ``mirror`` is asked again for another host's cache; ``hosts`` are shown first of all, ``sudo`` as root there."""

    directory: Path
    read_only: bool = False
    theme: str | None = None
    mouse: bool = True
    wait: float = 0.0
    whole_frames: bool = False
    mirror: HostMirror | None = None
    hosts: Sequence[SshPlace] = ()
    sudo: bool = False


class ScreenSettings(msgspec.Struct):
    """How the screen is to look, as it was kept from an earlier start; its file is written when an operator asks, and
    never else. ``split`` and ``wide_split`` are the table's share of the room in percent, with the pane below and
    beside it; ``sort`` is a column, empty for the order of the index."""

    theme: str = ""
    layout: str = "split"
    split: int = 50
    wide_split: int = 61
    sort: str = ""
    reverse: bool = False
    host_colour: str = "blue"


_ALLOWED: dict[str, Container[object]] = {
    "theme": ("", *THEMES),
    "layout": LAYOUTS,
    "split": range(20, 81),
    "wide_split": range(20, 81),
    "sort": ("", *BY_COLUMN),
    "reverse": (False, True),
    "host_colour": tuple(HOST_COLOURS),
}


def settings_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where they lie."""
    return config_path("settings.toml", environment)


def read_settings(path: Path) -> tuple[ScreenSettings, str]:
    """What is kept there, and what is wrong with it; what is not understood counts as not said."""
    settings, odd = ScreenSettings(), list[str]()
    try:
        kept = read_config(path)
    except FileNotFoundError:
        return settings, ""
    except (OSError, ValueError) as error:
        return settings, f"{path} is not read: {getattr(error, 'strerror', None) or error}"
    for name, value in kept.items():
        if name in _ALLOWED and type(value) is type(getattr(settings, name)) and value in _ALLOWED[name]:
            setattr(settings, name, value)
        else:
            odd.append(name)
    return settings, f"{path}: not understood: {', '.join(odd[:_TOLD])}" if odd else ""


def keep_settings(directory: Path, path: Path, settings: ScreenSettings) -> None:
    """Write them. Raises StorageError, and ConflictError where the file would lie in the cache's ``directory``."""
    write_config(directory, path, msgspec.structs.asdict(settings))


class Session:
    """One cache as it is worked on. ``imports_changed``, for a screen to set, is called from the thread of imports."""

    def __init__(
        self, options: ScreenOptions, terminal: Terminal | None = None, settings: ScreenSettings | None = None
    ) -> None:
        """Without ``settings`` those that were kept are read."""
        self.options = options
        self.settings, self.odd_settings = (settings, "") if settings else read_settings(settings_path())
        self.directory = options.directory
        self.terminal = terminal or Terminal.of_environment()
        when = fact_of(self.directory, "when")
        # Of a mirror, which is asked again, the age is told.
        then = "" if when is None or options.mirror is not None else f" at {timestamp(when)}"
        self.host = f"{fact_of(self.directory, 'host') or socket.gethostname()}{then}"
        self.place: str = fact_of(self.directory, "cache") or str(self.directory)
        self.imports_changed: Callable[[], object] = lambda: None
        self.live = LiveCache(self.directory, lambda: self.cache, writable=not options.read_only)

    @cached_property
    def cache(self) -> PackerCache:
        """The core; imported and made after the first frame is painted."""
        from ocitui.cache import PackerCache

        give_memory_back()
        return PackerCache(self.directory, read_only=self.options.read_only, wait=self.options.wait)

    @cached_property
    def imports(self) -> Imports:
        """The imports; what they need is loaded with the first of them."""
        return Imports(self.cache, self.imports_changed)

    @property
    def has_cache(self) -> bool:
        """Whether the core was made; nothing can be under way before."""
        return "cache" in self.__dict__

    @property
    def has_imports(self) -> bool:
        """Whether there is anything to know of imports, so that nothing is loaded to learn that there are none."""
        return "imports" in self.__dict__

    def say(self, message: str) -> None:
        """Put a message in the status line of the lowest screen."""
        self.live.tell(LiveChange(said=message))

    def refusal(self, action: str) -> str:
        """Why an action that writes is off now; empty where it is not."""
        if action not in BY_NAME or not BY_NAME[action].writes:
            return ""
        health = self.live.health
        gone = health.condition in (Condition.GONE, Condition.UNREADABLE)
        if not health.sound and (gone or not BY_NAME[action].mends):
            what = "the directory" if health.condition is Condition.GONE else "index.json"
            return f"nothing is written while {what} is {health.condition}"
        return self.live.read_only

    def take_stock(self) -> int:
        """Remove what killed imports left; gives how many can go on. Not on the event loop. Raises StorageError."""
        if not leaves_of_imports(self.directory):
            return 0
        from ocitui.importing import remove_abandoned

        remove_abandoned(self.directory)
        self.imports.read_interrupted()
        return len(self.imports.interrupted)

    async def of_host(self, place: SshPlace) -> Session:
        """The session of a host's cache as it is asked now, with this one's settings. Raises CacheError."""
        from ocitui.remote import HostMirror

        mirror = HostMirror(place, sudo=self.options.sudo, shared=True)
        try:
            await mirror.ask()
        except BaseException:
            await settled(asyncio.to_thread(mirror.remove))
            raise
        options = replace(self.options, directory=mirror.directory, read_only=True, mirror=mirror, hosts=())
        return Session(options, self.terminal, self.settings)

    def finish_work(self) -> None:
        """Stop imports, which can be gone on with, and return once that is done and no transaction is under way."""
        if self.has_imports:
            self.imports.queue.close()
        if self.has_cache:
            with self.cache.between_transactions():
                return


class SessionApp(App[int], inherit_bindings=False):
    """An application with a session: what screens know of theirs."""

    session: Session
    """That of what is shown."""
    home: Session
    """That of which it began, which a host of a fleet is left for."""

    def use(self, session: Session) -> None:
        """Show another."""
        self.session = session

    async def visit(self, session: Session) -> None:
        """Show a host's cache, on a main screen of its own, until `come_back`."""
        self.use(session)
        # Textual 8.2 goes back to no mode that it was not told of, and add_mode does not take the first one.
        self._modes.setdefault(self.DEFAULT_MODE, self.get_default_screen)
        self.add_mode(_HOST, self.get_default_screen)
        await self.switch_mode(_HOST)

    @work(group="host", exclusive=True)
    async def come_back(self) -> None:
        """From a host's cache; there may be none that is visited."""
        if self.current_mode == _HOST:
            self.cancel_check()
            self.session.live.tell = lambda change: None
            self.use(self.home)
            await self.switch_mode(self.DEFAULT_MODE)
            await self.remove_mode(_HOST)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """What the style of screens asks of every theme beside Textual's own."""
        return {"rule": "ansi_bright_black"}

    async def action_on_main(self, action: str) -> None:
        """Leave every screen but the lowest, and do there what its table of keys has."""
        stack = self.screen_stack
        if busy := next((one for one in stack if isinstance(one, SessionScreen) and one.busy), None):
            busy.say(busy.busy)
            return
        while len(self.screen_stack) > 1:
            self.pop_screen()
        lowest = stack[0]
        if not await self.run_action(action, lowest) and isinstance(lowest, SessionScreen):
            lowest.say(f"{BY_NAME[action].label} is for the cache of one host: enter opens that")

    @work(group="check", exclusive=True)
    async def check_deep(self, depth: Depth) -> None:
        """Read all bytes, and fetch layers where that deep; what is found is known to the judge, but for what layers
        tell. Cancelled, it ends once its threads have."""
        from ocitui.doctor import LAYER_FAULTS, Depth, ExamineOptions, examine, examine_layers, tally

        live, look = self.session.live, examine_layers if depth is Depth.LAYERS else examine
        passing = [one for one in live.deep.passing if one[1].code in LAYER_FAULTS and look is examine]
        deep = live.deep = DeepCheck(running=True, passing=passing)
        context, waiting, ledger_writes = copy_context(), set[asyncio.Future[None]](), not live.read_only

        def advance(progress: Progress) -> None:
            if progress.phase == "deep" and (deep.progress is None or deep.progress.phase != "deep"):
                # The judge looked at what had changed, and nobody told of it.
                waiting.add(asyncio.ensure_future(live.look_over()))
            deep.progress = progress
            live.tell(LiveChange(only_progress=True))

        live.tell(LiveChange())
        try:
            await live.settle()
            if (judge := live.judge) is None:
                deep.error = "not checked: the directory cannot be read"
                return
            # It is called in the context of other threads, which know of no application.
            report = await look(
                judge.directory,
                ExamineOptions(depth, ledger_writes=ledger_writes),
                lambda progress: context.run(advance, progress),
                deep.found.extend,
                judge=judge,
            )
            told = [one for one in report.findings if one.fingerprint in report.deep_only]
            deep.passing += [(identity_of(judge.directory / one.file), one) for one in told]
            deep.said = f"deep check: {report.coverage}; {tally(report.shown()) or 'nothing wrong'}"
        except CacheDirectoryError as error:
            deep.error = f"not checked: {error.message}"
        except asyncio.CancelledError:
            remembered = "; what it read is remembered" if ledger_writes and deep.progress else ""
            deep.error = f"the deep check was cancelled{remembered}"
            raise
        finally:
            deep.running, deep.progress = False, None
            try:
                await settled(asyncio.gather(live.look_over(), *waiting))
            finally:
                live.tell(LiveChange(said=f"{deep.said}{P_SHOWS_IT}" if deep.said else ""))

    def cancel_check(self) -> None:
        """End a deep check; what it read is remembered."""
        self.workers.cancel_group(self, "check")


class SessionScreen(Screen[R]):
    """A screen that asks the session for all that it shows, and is dismissed once, when no other stands above it."""

    app: SessionApp
    message = ""
    """What was said last; it goes with the next key."""
    _outcome: tuple[R | None] | None = None

    @property
    def session(self) -> Session:
        return self.app.session

    @property
    def is_tiny(self) -> bool:
        """Whether all that is seen of it is that it is too small."""
        return self.has_class("-tiny")

    @on(events.Unmount)
    def _let_go(self) -> None:
        # Textual 8.2 meant a method of the class: it keeps each widget's lines for as long as it keeps its colours.
        if (clear := getattr(StylesCache.get_inner_outer, "cache_clear", None)) is not None:
            clear()

    @on(events.ScreenResume)
    def _style_once(self, event: events.ScreenResume) -> None:
        # Textual styles all widgets again as a screen opens, which were styled as they were mounted a moment before.
        event.refresh_styles = event.refresh_styles and self.stack_updates > 0

    @on(events.Resize)
    def _hide_what_has_no_room(self, event: events.Resize) -> None:
        was, (width, height) = self.is_tiny, event.size
        self.set_class(bool(self.query("TooSmall")) and (width < _SMALLEST[0] or height < _SMALLEST[1]), "-tiny")
        if was and not self.is_tiny:
            self.call_after_refresh(self.give_keys)

    def give_keys(self) -> None:
        """What had the keys was hidden, and lost them."""
        if self.focused is None and self.AUTO_FOCUS:
            self.query(self.AUTO_FOCUS).first().focus()

    @property
    def is_current(self) -> bool:
        """Whether any of it is seen. Textual has the screen above drawn again for each change of one right below it."""
        stack = self.app.screen_stack
        above = stack[stack.index(self) + 1 :] if self in stack else []
        return super().is_current and all(screen.styles.background.a < 1 for screen in above)

    @property
    def busy(self) -> str:
        """Why it cannot be left now; empty where it can."""
        return ""

    def action_leave(self) -> None:
        self.dismiss(None)

    def say(self, message: str) -> None:
        """Put a message in the status line, until the next key."""
        self.message = message
        self.draw_status()

    def draw_status(self) -> None:
        """Show the message, or what stands there without one."""

    def key_came(self) -> None:
        """Called for each key, before anything has it."""
        if self.message:
            self.say("")

    def key_unknown(self, key: str) -> None:
        """Called for a key that nothing took; ``key`` is as it is printed on a keyboard."""
        self.say(f"no key {key} here")

    def dismiss(self, result: R | None = None) -> AwaitComplete:
        """End the screen. Keys typed ahead may ask for it again; what it waited for may end while help stands above."""
        stack = self.app.screen_stack
        if stack and stack[-1] is self:
            return super().dismiss(result)
        if self in stack:
            self._outcome = (result,)
        return AwaitComplete()

    @on(events.ScreenResume)
    def _dismiss_by_now(self) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self.dismiss(*outcome)

    async def _have_app(self, action: str) -> None:
        await self.app.run_action(action)

    action_commands, action_help = partialmethod(_have_app, "commands"), partialmethod(_have_app, "show_help")
    action_suspend, action_redraw = partialmethod(_have_app, "suspend"), partialmethod(_have_app, "redraw")
    action_next_theme = partialmethod(_have_app, "next_theme")

    def action_host_colour(self) -> None:
        """So that the window of one host is told from that of another."""
        settings, colours = self.session.settings, [*HOST_COLOURS]
        settings.host_colour = colours[(colours.index(settings.host_colour) + 1) % len(colours)]
        self.draw_header()
        self.say(f"the host's name stands on {settings.host_colour}; K keeps it for the next start")

    def draw_header(self) -> None:
        """Which host it is."""

    def action_keep_settings(self) -> None:
        self._keep_settings()

    @work(group="settings", exclusive=True)
    async def _keep_settings(self) -> None:
        session, path = self.session, settings_path()
        try:
            await asyncio.to_thread(keep_settings, session.directory, path, session.settings)
        except CacheError as error:
            self.say(error.one_line)
        else:
            self.say(f"the next start looks like this: {path}")

    def live_changed(self, change: LiveChange) -> None:
        """What is known of the cache is no longer as it was drawn; called while the screen is on top, or the lowest."""

    def imports_changed(self) -> None:
        """Imports are no longer as they were drawn; called while the screen is on top."""


class Imports:
    """The imports of this program as screens see them: the queue, what its thread says, what was interrupted. ``tell``
    is called in that thread at a change, and not again before `take_news`: one call waits at most."""

    def __init__(self, cache: PackerCache, tell: Callable[[], object]) -> None:
        from ocitui.importing import ImportQueue

        self._tell = tell
        self._told = False
        self.layers: dict[int, tuple[LayerProgress, ...]] = {}
        """What each job downloaded, by its number, also once it is past that."""
        self._cache = cache
        self.queue: ImportQueue = ImportQueue(cache, self._changed)
        self.interrupted: list[UnfinishedImport] = []

    def go_on(self, unfinished: UnfinishedImport, logins: Logins | None = None) -> int:
        """Take up an interrupted import, its record held meanwhile; gives its number."""
        self.interrupted = [one for one in self.interrupted if one.id != unfinished.id]
        return self.queue.submit(unfinished.request, unfinished.id, logins)

    def try_again(self, job: ImportJob) -> int:
        """The same once more, by its record where that is still there; gives its number."""
        record = next((one for one in self.interrupted if one.id == job.resumes), None)
        return self.go_on(record, job.logins) if record else self.queue.submit(job.request, logins=job.logins)

    def take_news(self) -> None:
        """What changes from here on is told again."""
        self._told = False

    def read_interrupted(self) -> None:
        """Look for interrupted imports; not on the event loop. Raises StorageError."""
        from ocitui.importing import unfinished_imports

        # One that waits for its thread's first step does not hold its record yet.
        taken = {job.resumes for job in self.queue.active}
        self.interrupted = [one for one in unfinished_imports(self._cache.directory) if one.id not in taken]

    def forget(self, unfinished: UnfinishedImport) -> None:
        """Remove its record; not on the event loop. Raises StorageError, ReadOnlyError."""
        from ocitui.importing import forget_import

        forget_import(self._cache.directory, unfinished.id)
        self.read_interrupted()

    def _changed(self, job: ImportJob) -> None:
        """Called from the queue's thread."""
        if job.progress.layers:
            self.layers[job.id] = job.progress.layers
        if job.result is not None and job.result.outcome == "stored":
            from ocitui.importing import note_stored

            # It takes as long as reading the file; what is killed in it is made up for by the first deep check.
            stored = self._cache.directory, job.result
            threading.Thread(target=note_stored, args=stored, name="ocitui-ledger", daemon=True).start()
        if not self._told:
            self._told = True
            self._tell()


def leaves_of_imports(directory: Path) -> bool:
    """Whether imports left anything at all: a look that is cheaper than loading what deals with it."""
    for name in ("imports", "import", "blobs"):
        with suppress(OSError), os.scandir(directory / OWN_NAME / name) as found:
            if any(found):
                return True
    return False

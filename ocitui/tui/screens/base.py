"""What the screens share: host and daemon on top, lines or a list with lines, a plan with a question; and work beside
the screen, in a thread and loop of its own, drawn as often as a slow line bears."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.message_pump import MessagePump
from textual.timer import Timer
from textual.widget import Widget

from ocitui.cache import CacheError, LockedError
from ocitui.text import clean, first_of
from ocitui.words import KEYS, Ways, markdown, memory_warning, said, with_text

from ..live import LiveChange
from ..session import R, SessionScreen
from ..widgets import bars
from ..widgets.lines import Line, LinesView, LongList, PickList, PickRow, bound, every_line, heading
from .popups import Copyable, offer_copies

if TYPE_CHECKING:
    from ocitui.host import Users

_LOCK_SECONDS = 0.2
_WIDTHS = [(0, "-below"), (160, "-beside")]
TYPED_INTO: bars.Keys = (("F1", "help"), ("esc", "back"))
"""The keys at the right end where the others would be typed into a field."""
DRAW_SECONDS, STATUS_SECONDS = 0.25, 1.0
"""How often a screen of its own is drawn while something goes on, and the main screen's status line."""
Row = TypeVar("Row", bound=PickRow)
T = TypeVar("T")
EntryToShow = tuple[str, str, str]
"""What a screen is dismissed with where the main screen is to show an entry: its digest, format and name."""


class FullScreen(SessionScreen[R]):
    """A screen with a title; `esc` only goes back. One that ``asks`` has a line to type in, with all keys meanwhile."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bound({"escape": "leave", "f1,question_mark": "app.show_help", "c": "copy", "colon": "app.commands"}),
        *bound({"q": "app.on_main('quit')", "pageup": "scroll(-1)", "pagedown": "scroll(1)"}),
        *bound({"ctrl+c": "interrupt"}, priority=True),
    ]
    AUTO_FOCUS = "LinesView"
    subject: ClassVar[str] = ""
    keys: ClassVar[bars.Keys] = ()
    always: ClassVar[bars.Keys] = ((":", "all"), ("?", "help"), ("esc", "back"))
    """Those at the right end: what is typed into a screen's field is no key."""
    shown_as: ClassVar[str] = "what is shown"
    """What its lines are, where they are copied."""
    asks: ClassVar[bool] = False
    takes_nothing: ClassVar[bool] = False
    """Whether an empty line is an answer."""
    _stands = ""
    _keys_now: bars.Keys = ()

    def compose(self) -> ComposeResult:
        yield bars.TooSmall()
        yield bars.HeaderBar()
        yield bars.HealthBar()
        yield from self.compose_body()
        if self.asks:
            yield bars.OneLineQuestion(self._end_asking)
        yield bars.StatusBar()
        yield bars.KeyBar()

    def compose_body(self) -> Iterable[Widget]:
        """What stands between header and keys."""
        yield LinesView()

    def on_mount(self) -> None:
        self.draw_header()
        self.show_keys(self.keys)
        self.begin()

    def begin(self) -> None:
        """Called once the screen stands."""

    def on_resize(self) -> None:
        self.draw_header()
        self.show_keys(self._keys_now)

    def draw_header(self) -> None:
        """Which host, which directory, which daemon: the wrong window is the costliest mistake."""
        bars.draw_frame(self, self.subject)

    def live_changed(self, change: LiveChange) -> None:
        self.draw_header()
        if change.another or change.rows:
            self.entries_changed()

    def entries_changed(self) -> None:
        """An entry, a file or a zone came or went."""

    def show_keys(self, keys: bars.Keys) -> None:
        self._keys_now = keys
        bars.show_keys(self, keys, self.always)

    def show_lines(self, lines: Iterable[Line | LongList], *, keep_place: bool = False) -> None:
        # None is left for an answer that comes when the screen was just closed.
        for view in self.query(LinesView):
            view.set_lines(lines, keep_place=keep_place)

    def stand(self, text: str) -> None:
        """Put a text in the status line that stays there; what was said covers it until the next key."""
        self._stands = text
        self.draw_status()

    def conclude(self, text: str) -> None:
        """Put a text there that goes over what was said: what came of it."""
        self.message = ""
        self.stand(text)

    def draw_status(self) -> None:
        for bar in bars.lines_of(self, bars.StatusBar):
            bar.show([f" {clean(self.message or self._stands)}"])

    def ask(self, text: str, about: str) -> None:
        """Ask, with ``text`` to go on from."""
        self.query_one(bars.OneLineQuestion).ask(text, about)

    def _end_asking(self, keep: bool) -> None:
        question = self.query_one(bars.OneLineQuestion)
        if self.focused is question:
            self.set_focus(self.query(self.AUTO_FOCUS).first())
        question.close()
        text = question.value.strip()
        if keep and (text or self.takes_nothing):
            self.answered(text)

    def answered(self, text: str) -> None:
        """Enter was pressed, or the keys went elsewhere."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action == "interrupt" or not any(one.open for one in bars.lines_of(self, bars.OneLineQuestion))

    def on_key(self, event: events.Key) -> None:
        """Keys that were sent to another widget before the question was open, in their order."""
        for question in bars.lines_of(self, bars.OneLineQuestion):
            question.take(event)

    def copied_lines(self) -> Iterable[Line | LongList]:
        """What is copied as Markdown."""
        return [line for view in self.query(LinesView) for line in view.lines]

    def copies(self) -> list[Copyable]:
        """What can be copied from here."""
        lines = list(self.copied_lines())
        return [Copyable("m", f"{self.shown_as}, as Markdown", lambda: markdown(every_line(lines)))] if lines else []

    def action_copy(self) -> None:
        offer_copies(self, self.copies())

    @contextmanager
    def saying_errors(self, what: str = "") -> Iterator[None]:
        """Say why something could not be done, and leave out the rest of it."""
        try:
            yield
        except CacheError as error:
            self.say(f"{what}{said(error.one_line, WAYS)}")

    def may(self, action: str) -> bool:
        """Whether an action of the table may be done now; says why not."""
        if reason := self.session.refusal(action):
            self.say(f"not done: {reason}")
        return not reason

    def action_scroll(self, pages: int) -> None:
        for view in self.query(LinesView):
            view.action_page(pages)

    def action_interrupt(self) -> None:
        """What runs on this screen is stopped by it; most have nothing that runs."""
        self.say("nothing is running; esc goes back")


class ListScreen(FullScreen[R], Generic[R, Row]):
    """A list, and below it, or beside it, what `draw_detail` shows of the row under the cursor."""

    AUTO_FOCUS = "PickList"
    HORIZONTAL_BREAKPOINTS = _WIDTHS
    DEFAULT_CSS = """
    ListScreen {
        #list, #detail, PickList, LinesView { height: 1fr; }
        LinesView { border-top: solid $rule; }
        &.-beside {
            #list { layout: horizontal; }
            PickList { width: 1fr; height: 100%; max-height: 100%; }
            #detail { width: 1fr; border-left: solid $rule; }
            LinesView { border-top: none; }
        }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Row] = {}
        """The rows by their keys."""

    def compose_body(self) -> Iterable[Widget]:
        yield Vertical(PickList(), Vertical(*self.compose_detail(), id="detail"), id="list")

    def compose_detail(self) -> Iterable[Widget]:
        yield LinesView()

    def show_rows(self, rows: Iterable[Row]) -> None:
        listed = list(rows)
        self.rows = {row.key: row for row in listed}
        for view in self.query(PickList):
            with view.prevent(PickList.CursorMoved):  # it is drawn below, whichever row that is
                view.set_rows(listed)
        self.draw_detail()

    def draw_detail(self) -> None:
        raise AssertionError("a screen of its own says this")

    @on(PickList.CursorMoved)
    def _cursor_moved(self) -> None:
        self.draw_detail()

    @property
    def key(self) -> str:
        """The key of the row under the cursor; empty where there is none."""
        return next((view.key or "" for view in self.query(PickList)), "")

    @property
    def row(self) -> Row | None:
        return self.rows.get(self.key)


class ConfirmScreen(FullScreen[str | None]):
    """Shows what `plan` says; `y` does it, and `Y` after it where what goes is in use; `w` once the lock is free, where
    another program had it. Dismissed with a message for the status line, None when cancelled."""

    BINDINGS = bound({"enter": "leave", "y": "confirm", "Y": "confirm_used", "w": "confirm_once_free"})
    shown_as = "the plan"
    verb: ClassVar[str] = "Do it"
    stay: ClassVar[str] = "Cancel"
    more_keys: ClassVar[bars.Keys] = ()
    """What else can be pressed while it waits for an answer."""
    writes: ClassVar[bool] = True
    """Whether it changes the cache, and so waits until that may be done."""
    action: str = "delete"
    """The action of the table of keys whose refusal is this one's."""
    asked: str = "nothing is changed before y"
    """What the status line says while it waits for an answer."""
    has_steps: bool = True
    """Whether there is anything to do in the plan."""
    used_by: Sequence[str] = ()
    """Who needs what the plan drops: who drops it is asked twice."""
    _going: Sequence[str] = ()
    _users: Users

    def begin(self) -> None:
        # Ready: a plan is shown that waits for an answer.
        self._ready = self._acting = self._asked_twice = self._locked = self._waiting = False
        self.make_plan()

    @work(group="plan", exclusive=True)
    async def make_plan(self, note: str = "") -> None:
        """Ask the core what would be done, and show it."""
        self._ready = self._asked_twice = self._waiting = False
        self.conclude(f"on {self.session.host}: making the plan; esc cancels")
        try:
            lines = await self.plan()
        except CacheError as error:
            self.show_lines(error_lines(error))
            self.conclude("enter or esc goes back")
            return
        self.show_lines([Line(note, kind="bad"), Line(), *lines] if note else lines)
        self._ready = True
        self.wait_for_answer()

    def wait_for_answer(self) -> None:
        """Say what can be answered to the plan as it is shown."""
        keys = [("y", self.verb)] if self.has_steps else []
        keys += [("w", "Wait")] if self._locked else []
        self.show_keys([("enter", self.stay), *keys, *self.more_keys])
        self.conclude(f"on {self.session.host}: {self.asked}")

    async def plan(self) -> Iterable[Line | LongList]:
        """The plan's lines. Raises CacheError where there is none."""
        raise AssertionError("a screen of its own says this")

    def opening(self, title: str, memory: str = "") -> list[Line | LongList]:
        """A plan's first lines: on which host; and what a daemon that runs there would do from memory, if anything."""
        lines: list[Line | LongList] = [heading(f"On {self.session.host}: {title}")]
        if memory and self.session.live.host.daemon.running:
            lines.append(Line(f"{memory_warning(memory)}.", kind="bad"))
        return lines

    async def look_for_users(self, going: Sequence[str]) -> list[Line]:
        """What the plan says of who needs the packed files that go by it; looked at again before it is done."""
        from ocitui.host import find_users

        users = await asyncio.to_thread(find_users, self.session.directory)
        self._going, self._users, self.used_by = going, users, users.of_files(going)
        lines = [Line(f"{first_of(self.used_by)}: it is asked twice", "in use", "bad")] if self.used_by else []
        return lines + ([Line(f"others may be needed too: {users.doubt}", "not sure", "warn")] if users.doubt else [])

    async def act(self) -> str:
        """Do what was planned; gives the message for the status line. Raises CacheError."""
        raise AssertionError("a screen of its own says this")

    @property
    def busy(self) -> str:
        return "at work; it is finished first" if self._acting else ""

    def acting(self) -> str:
        """What the status line says once it was answered."""
        seconds = self.session.options.wait
        waits = f"the lock is waited for {seconds:g} seconds; " if seconds else ""
        return f"at work; {waits}it is finished even if this window goes"

    def action_confirm_once_free(self) -> None:
        if self._locked and self._may_act():
            self._waiting = True
            self.action_confirm()

    def action_confirm(self) -> None:
        if not self._may_act():
            return
        if self.used_by:
            self._asked_twice = True
            self.conclude(f"Y drops it all the same, enter cancels: needed by {first_of(self.used_by)}")
        else:
            self._act()

    def action_confirm_used(self) -> None:
        if self._asked_twice and self._may_act():
            self._act()

    def _may_act(self) -> bool:
        if not self._ready or self.is_tiny:
            return False
        return not self.writes or self.may(self.action)

    def _act(self) -> None:
        self._acting, self._ready, self._locked = True, False, False
        self.show_keys([("esc", "Stop waiting")] if self._waiting else [])
        self.conclude(self.acting())
        self._run_act()

    @work(group="act")
    async def _run_act(self) -> None:
        """Do it, again and again for as long as another program holds the lock and that is waited for."""
        from ocitui.host import check_users

        while True:
            try:
                if self._going:
                    await asyncio.to_thread(check_users, self.session.directory, self._going, self._users)
                self.done(await self.act())
                return
            except CacheError as error:
                if not (self._waiting and isinstance(error, LockedError)):
                    self._acting = self._waiting = False
                    self.failed(error)
                    return
                self.stand(f"waiting: {error.message}; esc stops waiting")
            await asyncio.sleep(_LOCK_SECONDS)

    def done(self, message: str) -> None:
        self.dismiss(message)

    def failed(self, error: CacheError) -> None:
        """Say why it was not done; the plan is made and shown again."""
        self._locked = isinstance(error, LockedError)
        hint = "w does it once the lock is free" if self._locked else error.hint
        self.make_plan(f"Not done: {error.message}. {hint}")

    def action_leave(self) -> None:
        if self._acting:
            self._waiting = False
        else:
            self.dismiss(None)

    def action_interrupt(self) -> None:
        """A change under way is never cut in two; before it, this cancels."""
        if self._acting and not self._waiting:
            self.say("at work; it is finished first")
        else:
            self.action_leave()


WAYS: Ways = {**KEYS, "with --wait SECONDS": "and try again"}
"""What an operator of the screen does instead of giving an option."""


def error_lines(error: CacheError, ways: Ways = WAYS) -> list[Line]:
    """An error as lines: what, and what to do, in the words of ``ways``."""
    return [Line(error.message, kind="bad"), *with_text(Line(said(error.hint, ways)))]


async def run_beside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What ``work`` gives. A cancelled caller cancels it, and does not wait for its end."""
    outcome: Future[T] = Future()

    async def run() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work())

        def give_up(outcome: Future[T]) -> None:
            # By the one that asked; it may come before the work began, or once it is over.
            if outcome.cancelled() and not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        outcome.add_done_callback(give_up)
        await asyncio.wait([task])
        if outcome.cancelled() or not outcome.set_running_or_notify_cancel():
            task.cancelled() or task.exception()
        elif task.cancelled():
            outcome.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    threading.Thread(target=lambda: asyncio.run(run()), name="ocitui-look", daemon=True).start()
    return await asyncio.wrap_future(outcome)


class Throttle:
    """Calls at most once in ``seconds``, and always once after the last time it was asked; no timer runs at rest."""

    def __init__(self, pump: MessagePump, seconds: float, call: Callable[[], object]) -> None:
        self._pump, self._seconds, self._call = pump, seconds, call
        self._last = float("-inf")
        self._timer: Timer | None = None

    def ask(self) -> None:
        """Call now, or as soon as it is time."""
        if self._timer is not None:
            return
        wait = self._last + self._seconds - monotonic()
        if wait <= 0:
            self._now()
        else:
            self._timer = self._pump.set_timer(wait, self._now)

    def _now(self) -> None:
        self._timer = None
        self._last = monotonic()
        self._call()

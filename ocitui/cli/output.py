"""A command as it was called: the question before what cannot be taken back lightly (the host is named, and only the
whole word yes confirms), and the status that it exits with. The one place that writes (lines for people, JSON for
programs, errors for both) and lays out for a terminal (rows of text in columns that fit, wrapped sentences)."""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, TypeVar

from ocitui import __version__
from ocitui.cache import (
    AmbiguousDigestError,
    CacheError,
    InvalidNameError,
    LockedError,
    NoSuchEntryError,
    NoSuchTransactionError,
    PlanChangedError,
    ReadOnlyError,
)
from ocitui.stand_in import as_there, fact_of
from ocitui.text import Column as Column
from ocitui.text import clean, escaped, first_of, fit_columns, short_digest, timestamp

if TYPE_CHECKING:
    from ocitui.cache import PackerCache, Transaction
    from ocitui.words import Line


T = TypeVar("T")
SCHEMA = 1
_BLOCK, _BLOCK_SECONDS = 1 << 15, 0.05


class ExitCode(IntEnum):
    """CLEAN: it was done, or found. PROBLEMS: a miss, nothing of that name, or an index the daemon would not load.
    USAGE: the command line is wrong, or there is no terminal to ask on. REMAINING: problems remain after a repair.
    UNCHECKED: the cache could not be read or changed. LOCKED: another ocitui works on it. CANCELLED: by the operator.

    A signal ends with 128 and its number, a reader that went away with 141, as it does for other programs, and a fault
    of ocitui's own with 70: see `ocitui.last_resort`.
    """

    CLEAN = 0
    PROBLEMS = 1
    USAGE = 2
    REMAINING = 3
    UNCHECKED = 4
    LOCKED = 5
    CANCELLED = 130


def say(*lines: str, err: bool = False) -> None:
    """Print lines; whatever in them could command the terminal is replaced."""
    _write("".join(f"{clean(line)}\n" for line in lines), sys.stderr if err else sys.stdout)


def ask(question: str) -> str:
    """Put a question on standard error and read the answer's line; empty at the end of input, and after ctrl+c."""
    try:
        # Within, as who has read it answers before the next line runs.
        _write(f"{clean(question)} ", sys.stderr)
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        _write("\n", sys.stderr)
    return answer.strip()


def can_ask() -> bool:
    """Whether somebody is there to see a question and answer it."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is there and is a terminal; one that was closed before the program began is None."""
    return stream is not None and stream.isatty()


def say_lines(lines: Iterable[str]) -> int:
    """Print lines as `say` does, as they come, but not one by one where they come quickly; gives how many."""
    return _write_in_blocks(clean(line) + "\n" for line in lines)


def _write_in_blocks(texts: Iterable[str]) -> int:
    # The first is written at once: the next may take a while.
    block, count, size, written = list[str](), 0, 0, 0.0
    for text in texts:
        block.append(text)
        count += 1
        size += len(text)
        if size > _BLOCK or time.monotonic() - written > _BLOCK_SECONDS:
            _write("".join(block), sys.stdout)
            block, size, written = [], 0, time.monotonic()
    _write("".join(block), sys.stdout)
    return count


def emit_bytes(data: bytes) -> None:
    """Print a document as it is, byte for byte."""
    if sys.stdout is not None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def bytes_json(raw: bytes | None) -> dict[str, Any]:
    """The bytes under ``raw`` where they are UTF-8, else under ``base64``."""
    import base64

    if raw is None:
        return {"raw": None}
    try:
        return {"raw": raw.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def complain(message: str, hint: str) -> None:
    """Print an error's one line on standard error."""
    say(f"ocitui: {message} ({hint})" if hint else f"ocitui: {message}", err=True)


def _write(text: str, stream: TextIO | None) -> None:
    """Write at once, unlike click as a stream's own encoding has it; that a terminal hung up is no reason to fail."""
    if stream is None:
        return
    try:
        stream.write(as_there(text))
        stream.flush()
    except OSError:
        if stream is not sys.stderr:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class UsageProblemError(CacheError):
    """The command cannot be carried out as it was typed."""

    code = "usage"


class CancelledError(CacheError):
    code = "cancelled"
    default_hint = "nothing was changed"


class InterruptedBySignalError(Exception):
    """A signal ended the command; what was begun has ended whole. ``message`` and ``hint`` say what is left of it."""

    def __init__(self, number: int, hint: str = "a transaction that was begun has ended whole; see ocitui log") -> None:
        super().__init__(number)
        self.number, self.hint = number, hint
        self.message = f"interrupted by {signal.Signals(number).name}"


_STATUSES: tuple[tuple[ExitCode, tuple[type[CacheError], ...]], ...] = (
    (ExitCode.LOCKED, (LockedError,)),
    (ExitCode.PROBLEMS, (NoSuchEntryError, NoSuchTransactionError)),
    (ExitCode.USAGE, (AmbiguousDigestError, InvalidNameError, UsageProblemError)),
    (ExitCode.CANCELLED, (CancelledError,)),
)


def status_of(error: CacheError) -> ExitCode:
    """The status a command exits with where this stopped it."""
    return next((status for status, kinds in _STATUSES if isinstance(error, kinds)), ExitCode.UNCHECKED)


def complained(error: CacheError, of: str = "") -> ExitCode:
    """Print the line of an error that stopped a part of a command, and what it is ``of``; gives its status."""
    complain(f"{of}{error.message}", error.hint)
    return status_of(error)


class Unread:
    """What of several packed files could not be read, once each: of which entry, at which path, and why."""

    def __init__(self) -> None:
        self._told = dict[tuple[str, str, str], None]()

    def add(self, word: str, place: bytes, message: str) -> None:
        self._told[word, escaped(place), message] = None

    def told(self) -> dict[str, Any]:
        """What programs are told behind the rest; nothing where all could be read."""
        if not self._told:
            return {}
        from ocitui.contents import DamagedError

        damage = [dict(zip(("entry", "path", "message"), one, strict=True)) for one in self._told]
        error = {"code": DamagedError.code, "message": next(self._lines()), "hint": DamagedError.default_hint}
        return {"damage": damage, "error": error}

    def complained(self) -> bool:
        """Whether there was anything; the first few are told on standard error."""
        for line in islice(self._lines(), _MOST_COMPLAINTS):
            complain(line, "")
        if self._told:
            from ocitui.contents import DamagedError

            more = len(self._told) - _MOST_COMPLAINTS
            complain(f"not all can be read{f': {more} more' if more > 0 else ''}", DamagedError.default_hint)
        return bool(self._told)

    def _lines(self) -> Iterator[str]:
        return (": ".join(filter(None, one)) for one in self._told)


class NotAskedError(UsageProblemError):
    """There is nobody to ask; ``keys`` are what programs are told besides: what it was to be about."""

    code = "not-confirmed"
    default_hint = "look at what it says, then give --yes"

    def __init__(self, message: str, *, hint: str = "", keys: Mapping[str, Any]) -> None:
        super().__init__(message, hint=hint)
        self.keys = keys


Told: TypeAlias = Callable[[], dict[str, Any]]
"""What programs are told, worked out when it is."""

_MOST_COMPLAINTS = 10
CONFIRMATION = "yes"
TRIES = 3
"""How many plans are made where nobody is asked and the cache goes on changing."""


@dataclass(frozen=True, slots=True)
class Call:
    """A command as it was called, and how it asks, answers and fails by that. ``as_json`` asks for one JSON document,
    with ``as_lines`` for an object a line; ``wait`` is seconds to wait for the lock; ``agreed`` answers questions."""

    directory: Path
    as_json: bool = False
    read_only: bool = False
    wait: float = 0.0
    agreed: bool = False
    as_lines: bool = False

    def cache(self) -> PackerCache:
        """The cache to work on; nothing is read yet, so that a corrupt index stops only what needs it."""
        from ocitui.cache import PackerCache

        return PackerCache(self.directory, read_only=self.read_only, wait=self.wait)

    def refuse_read_only(self, doing: str) -> None:
        """Raises ReadOnlyError where --read-only was given, before anything is looked at or asked."""
        self.refuse_told(doing)
        if self.read_only:
            raise ReadOnlyError(f"cannot {doing}: --read-only was given", hint="leave --read-only out to write")

    def refuse_told(self, doing: str) -> None:
        """Raises ReadOnlyError where the cache is only told of, for what needs the files or the path of one."""
        if (form := fact_of(self.directory, "form")) is not None:
            told = f"cannot {doing}: it is {form} of {fact_of(self.directory, 'host')}"
            raise ReadOnlyError(told, hint="give the command on that host")

    def reported(self, command: Callable[[], int]) -> int:
        """Run a command; an error is printed, and gives its status."""
        try:
            return command()
        except CacheError as error:
            keys = error.keys if isinstance(error, NotAskedError) else {}
            self.fail(error.code, error.message, error.hint, **keys)
            return status_of(error)
        except InterruptedBySignalError as error:
            self.fail("interrupted", error.message, error.hint)
            return 128 + error.number

    def fail(self, code: str, message: str, hint: str, **keys: Any) -> None:
        """Print an error, with --json as a document, or an object on a line, too, which has ``keys`` besides."""
        complain(message, hint)
        keys["error"] = {"code": code, "message": message, "hint": hint}
        if self.as_lines:
            self.emit_line("error", **keys)
        elif self.as_json:
            self.emit(**keys)

    def answer(self, told: Told, lines: Iterable[str]) -> None:
        """Say lines to people, or print the one document for programs."""
        if self.as_json:
            self.emit(**told())
        else:
            say(*lines)

    def tell_done(self, done: Transaction, undoing: str, said: Iterable[str], told: Told) -> None:
        """Say what was done, and what ``undoing`` it would do; programs are ``told`` of it and of the transaction."""
        from ocitui.words import transaction_json

        lines = [*said, f"transaction {done.id} (ocitui undo {done.id} {undoing})"]
        lines += [f"note: {done.note}"] if done.note else []
        self.answer(lambda: {**told(), "transaction": transaction_json(done)}, lines)

    def emit(self, **keys: Any) -> None:
        """Print the command's one JSON document; it is ASCII, so nothing in it can command a terminal."""
        import json

        _write(json.dumps(self._common() | keys, indent=2) + "\n", sys.stdout)

    def emit_line(self, kind: str, /, **keys: Any) -> None:
        """Print a JSON object, on a line, that says of what ``type`` it is."""
        import json

        say(json.dumps(self._common() | {"type": kind} | keys, separators=(",", ":")))

    def emit_list(self, key: str, items: Iterable[Any], after: Told = dict, **keys: Any) -> None:
        """Print the same document with a list behind its other ``keys``, each item as soon as it is made, and what is
        told ``after`` the last of them."""
        import json

        texts = (textwrap.indent(json.dumps(item, indent=2), "    ") for item in items)
        first = next(texts, None)
        if first is None:
            self.emit(**keys, **{key: []}, **after())
            return
        head = json.dumps(self._common() | keys | {key: []}, indent=2)[: -len("]\n}")]

        def end() -> Iterator[str]:
            told = after()
            yield f"\n  ],{json.dumps(told, indent=2)[1:]}\n" if told else "\n  ]\n}\n"

        _write_in_blocks(chain((head + "\n" + first,), (",\n" + text for text in texts), end()))

    def _common(self) -> dict[str, Any]:
        host, cache = self._where()
        return {"schema": SCHEMA, "version": __version__, "host": host, "cache": cache}

    def _where(self) -> tuple[str, str]:
        """The host and the path of the cache, as they are or were."""
        host, cache = fact_of(self.directory, "host"), fact_of(self.directory, "cache")
        return host or os.uname().nodename, cache or os.path.abspath(self.directory)

    def place(self) -> list[str]:
        """Where it is going to happen, and whether a daemon there will meet it."""
        when, (host, cache) = fact_of(self.directory, "when"), self._where()
        then = "" if when is None else f", as it was at {timestamp(when)}"
        return [f"on {host}, in {cache}{then}", *self.daemon_warning()]

    def daemon_warning(self) -> list[str]:
        """What a daemon that runs there may do to what is changed."""
        from ocitui.host import find_daemon
        from ocitui.words import memory_warning

        daemon = find_daemon(self.directory)
        warning = memory_warning("write back what it remembers", timestamp(daemon.since))
        return list(paragraph(warning)) if daemon.running else []

    def agree(self, lines: Iterable[str], question: str, told: Told = dict, expected: str = "") -> None:
        """Show what is about to be done, and ask unless it is agreed to already; with a question the lines go where it
        goes, to standard error. Only the whole word that is ``expected`` confirms, yes where none is. Raises
        NotAskedError, with what is ``told``, CancelledError."""
        asking = not self.agreed and can_ask()
        if asking or not self.as_json:
            say(*self.place(), *lines, err=asking)
        if self.agreed:
            return
        if not asking:
            raise NotAskedError("nothing was done: there is no terminal to ask on", keys=told())
        word = expected or CONFIRMATION
        if ask(f"{question} Type {word} to confirm, anything else leaves it:") != word:
            raise CancelledError("cancelled")

    def agree_to_drop_used(self, used_by: Sequence[str], question: str, told: Told) -> None:
        """Ask again, agreed or not, where somebody needs what is to go. Raises NotAskedError, CancelledError."""
        if used_by:
            text = f"needed by {first_of(used_by)}"
            if not can_ask():
                hint = "stop what runs on them, or answer on a terminal: --yes does not stand for this"
                raise NotAskedError(f"nothing was done: {text}", hint=hint, keys=told())
            replace(self, agreed=False).agree(paragraph(text), question, told)

    def as_agreed(self, carry_out: Callable[[], T], plan_anew: Callable[[], None] = lambda: None) -> T:
        """Make, show and carry out a plan; a new one where it no longer holds, made by ``carry_out``, or before it by
        ``plan_anew``. Raises PlanChangedError where nobody is asked and the cache goes on changing."""
        tries = 0
        while True:
            try:
                return carry_out()
            except PlanChangedError as error:
                tries += 1
                if self.agreed and tries == TRIES:
                    raise
                say(f"{error.message}: here is what would be done now", err=True)
                plan_anew()


_GAP = "  "
ELLIPSIS = "…"


def terminal_width() -> int | None:
    """The columns of the terminal on standard output; None where it is not one, and nothing is to be cut."""
    if not is_terminal(sys.stdout):
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of `lay_out` for the terminal that there is."""
    return lay_out(columns, rows, terminal_width())


def lay_out(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None, widest: Sequence[int] | None = None
) -> Iterator[str]:
    """The title line and a line for each row, at most ``width`` cells wide. With ``widest``, how wide the texts of each
    column get at most, each line comes as soon as its row does."""
    titles = [column.title for column in columns]
    if widest is None:
        rows = cells = [[clean(text) for text in row] for row in rows]
        widest = [max((cell_width(row[at]) for row in cells), default=0) for at in range(len(columns))]
    widths = [max(cell_width(title), wide) for title, wide in zip(titles, widest, strict=True)]
    shown = fit_columns(columns, widths, width, len(_GAP))
    plain = _GAP.join(f"%{'' if columns[at].right else '-'}{widths[at]}s" for at in shown)
    whole = sum(widths[at] + len(_GAP) for at in shown) - len(_GAP)
    for row in chain((titles,), rows):
        line = plain % tuple([row[at] or "-" for at in shown])
        # What fits and has a cell for each character, as nearly every row.
        if len(line) != whole or not line.isascii() or not line.isprintable():
            line = _GAP.join(_pad(clean(row[at]) or "-", widths[at], columns[at].right) for at in shown)
        yield line.rstrip()


def cell_width(text: str) -> int:
    """How many cells a terminal takes for it."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _pad(text: str, width: int, right: bool) -> str:
    text = cut(text, width)
    filling = " " * (width - cell_width(text))
    return filling + text if right else text + filling


def cut(text: str, width: int) -> str:
    """The text where it takes no more cells, else the beginning that fits, with an ellipsis."""
    if cell_width(text) <= width:
        return text
    kept, room = "", width - 1
    for character in text:
        room -= _character_width(character)
        if room < 0:
            break
        kept += character
    return kept + ELLIPSIS


_DIGEST = re.compile(r"\b(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})(\.[a-z][.a-z]*[a-z])?")
USUAL_WIDTH, _WIDEST = 80, 100


def text_width() -> int:
    """The cells of a line of prose: as many as the terminal has, 80 where there is none, 100 at most."""
    return min(terminal_width() or USUAL_WIDTH, _WIDEST)


def shortened(text: str) -> str:
    """The text with every digest cut to twelve digits; of a file's name the ending is kept."""
    return _DIGEST.sub(_short, text)


def paragraph(text: str, first: str = "") -> list[str]:
    """The text in lines of at most `text_width`, but for long words; ``first`` begins them, the others are set in."""
    lines = textwrap.wrap(
        clean(shortened(text)),
        max(text_width(), len(first) + 20),
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [first.rstrip()]


def laid_out(lines: Iterable[Line]) -> Iterator[str]:
    """Lines with their labels before them, set in beneath a title."""
    from ocitui.words import CommandLine

    for line in lines:
        if isinstance(line, CommandLine):
            yield f"    {line.label:<9} {line.text}"
        elif line.kind == "heading":
            yield from paragraph(line.text, "  ")
        elif line.text or line.label:
            yield from paragraph(line.text, f"    {line.label:<9} ")


def _short(match: re.Match[str]) -> str:
    digits = short_digest(match[0].partition(".")[0])
    return f"{digits}{ELLIPSIS}{match[1]}" if match[1] else digits

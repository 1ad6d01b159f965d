"""The last resort of both front ends: what nobody foresaw is one line, a status of its own, and a file to send.

The file tells where in the program it happened. It has no environment, no argument, no value of any variable, and no
message of an error: any of these may hold a label, a path or what stands in a document.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

FAULT_STATUS = 70
"""EX_SOFTWARE of sysexits(3): no other end of the program has it."""
_INTERRUPTED = 130
_MOST_FRAMES = 60
_AGAIN_SECONDS = 0.01
_PACKAGE = Path(__file__).parent


def guarded(program: Callable[[], int]) -> int:
    """The status of a program, whatever it raises."""
    threading.excepthook = _ended_by_a_thread
    sys.unraisablehook = _interrupted_where_nothing_is_raised
    try:
        return program()
    except KeyboardInterrupt:
        with suppress(AttributeError, OSError):  # where there is none to tell
            sys.stderr.write("ocitui: interrupted\n")
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001
        return tell(error)


def tell(error: BaseException) -> int:
    """Write the file, and say so in one line on standard error; gives the status to exit with."""
    try:
        # Only now: no program that goes well is to pay for it.
        import tempfile

        fd, path = tempfile.mkstemp(prefix="ocitui-fault-", suffix=".txt")
        with open(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n".join(_report(error)) + "\n")
        where = f"send {path}"
    except (OSError, ImportError) as refused:
        where = f"no file could be written: {getattr(refused, 'strerror', None) or type(refused).__name__}"
    line = f"ocitui: a fault of its own: {_kind(error)}{_place(error)} ({where})\n"
    # Where it was closed before the program began, another file may have its number by now.
    if sys.__stderr__ is not None:
        with suppress(OSError), open(os.dup(2), "w", errors="replace") as stream:
            stream.write(line)
    return FAULT_STATUS


def _ended_by_a_thread(failed: threading.ExceptHookArgs) -> None:
    """A thread that is gone may be waited for by all others: what was begun, the next writer finishes."""
    if failed.exc_value is not None:
        os._exit(tell(failed.exc_value))


def _interrupted_where_nothing_is_raised(ignored: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in a callback of its own, as when a module is loaded: ctrl+c is to come once more."""
    if ignored.exc_type is KeyboardInterrupt:
        from signal import SIGINT

        # To the whole process, whose main thread may wait by then.
        threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), SIGINT)).start()
    else:
        sys.__unraisablehook__(ignored)


def _report(error: BaseException) -> Iterator[str]:
    import platform
    from datetime import UTC, datetime

    from ocitui import __version__

    yield f"ocitui {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}"
    yield "Messages and values are left out: they may hold what is nobody else's business."
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield ""
        yield _kind(cause)
        yield from _frames(cause)
        for number, one in enumerate(cause.exceptions if isinstance(cause, BaseExceptionGroup) else (), 1):
            yield f"  {number}: {_kind(one)}{_place(one)}"
        cause = cause.__cause__ or cause.__context__


def _frames(error: BaseException) -> Iterator[str]:
    from traceback import extract_tb

    frames, half = extract_tb(error.__traceback__), _MOST_FRAMES // 2
    left_out = len(frames) - _MOST_FRAMES
    for number, frame in enumerate(frames):
        if number == half and left_out > 0:
            yield f"  {left_out} more"
        if half <= number < half + left_out:
            continue
        yield f"  {_file(frame.filename)}, line {frame.lineno}, in {frame.name}"
        if frame.line:
            yield f"    {frame.line}"


def _kind(error: BaseException) -> str:
    """The error's type, and its number where the system gave it."""
    number = f" {error.errno}" if isinstance(error, OSError) and error.errno is not None else ""
    return f"{type(error).__name__}{number}"


def _place(error: BaseException) -> str:
    """Where in ocitui it was raised, or what of it called what raised."""
    from traceback import walk_tb

    steps = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    ours = [step for step in steps if Path(step[0]).is_relative_to(_PACKAGE)]
    last = (ours or steps)[-1:]
    return f" in {_file(last[0][0])}, line {last[0][1]}" if last else ""


def _file(name: str) -> str:
    """A source file without the directories that are this host's."""
    path = Path(name)
    for root in (_PACKAGE.parent, *map(Path, sys.path)):
        if root != Path() and path.is_relative_to(root):
            return str(path.relative_to(root))
    return path.name

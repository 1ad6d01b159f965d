"""The host's own programs: where they are, and what kratactl and Xen's tools print, bounded in time and bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedReader

from ocitui.cache import read_to_end

_MOST_ANSWER = 64 << 20


def find_program(name: str) -> str | None:
    """The path of a program by PATH; None where it is not there. A relative entry of PATH counts for nothing: what lies
    in the current directory may be anybody's."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return shutil.which(name, path=os.pathsep.join(filter(os.path.isabs, places)))


def answer_of(command: Sequence[str], seconds: float) -> bytes | None:
    """What a command prints; None where it cannot be started, fails, takes longer or prints too much. Never raises."""

    def end() -> None:
        # With all that it started, which may have its output open.
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)

    nowhere, pipe, timer = subprocess.DEVNULL, subprocess.PIPE, threading.Timer(seconds, end)
    try:
        with subprocess.Popen(command, stdin=nowhere, stdout=pipe, stderr=nowhere, start_new_session=True) as running:
            timer.start()
            assert isinstance(running.stdout, BufferedReader)
            answer = read_to_end(running.stdout, _MOST_ANSWER)
            return answer if running.wait() == 0 else None
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    finally:
        timer.cancel()

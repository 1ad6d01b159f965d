"""Who acts: this program as other operators should see it, in records, in the lock, and in the host's log."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from pathlib import Path

SYSLOG_VARIABLE = "OCITUI_SYSLOG"
"""The environment variable that names the socket of the host's log; where it is empty, none is written to."""
_SYSLOG = "/dev/log"
_PRIORITY = "<13>"  # user.notice: RFC 3164
_LONGEST_LINE = 1000  # bytes; older daemons cut at 1,024
_LONGEST_NAME = 400  # of a host 64 signs, of a user 64
_USER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}\$?")


def whoami() -> str:
    """This program, its process, user and host; with the user that sudo(8) was called by, where it was."""
    program = Path(sys.argv[0] or "python")
    # `python -m ocitui` runs a file that every package has.
    name = program.parent.name if program.name == "__main__.py" else program.name
    return _printable(f"{name} (process {os.getpid()}, {_user()}@{os.uname().nodename})")[:_LONGEST_NAME]


def by_another(by: str) -> bool:
    """Whether what `whoami` told, perhaps elsewhere, names another user or host than this program's."""
    return author_of(by) != author_of(whoami())


def author_of(by: str) -> str:
    """The user and host of what `whoami` told, perhaps elsewhere."""
    return by.rpartition(", ")[2].rstrip(")")


def _user() -> str:
    from getpass import getuser

    try:
        user = getuser()
    except (KeyError, OSError):
        user = f"uid {os.getuid()}"
    caller = os.environ.get("SUDO_USER", "")
    return f"{caller} as {user}" if _USER_NAME.fullmatch(caller) and caller != user else user


def log_to_host(text: str) -> None:
    """One line to the host's log, where there is one: never a wait, never a failure."""
    path = os.environ.get(SYSLOG_VARIABLE, _SYSLOG)
    if not path:
        return
    from socket import AF_UNIX, SOCK_DGRAM, SOCK_NONBLOCK, socket

    data = f"{_PRIORITY}ocitui[{os.getpid()}]: {_printable(text)}".encode()[:_LONGEST_LINE]
    with suppress(OSError, ValueError), socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK) as log:
        log.connect(path)
        log.send(data)


def _printable(text: str) -> str:
    """Without what moves a terminal's cursor, or is no text: names of hosts, users and programs may be any bytes."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)

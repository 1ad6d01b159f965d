"""The host's own programs: where they are, and what kratactl and Xen's tools print, bounded in time and bytes; and the
guests that run, by what krata wrote of each in xenstore when it launched it (`crates/runtime/src/launch.rs`).

Xen's tools print a line for each node (`tools/xenstore/xenstore_client.c`), with escapes in its value. Only what krata
wrote is asked for: all that a store holds takes a second for fifty guests.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedReader

import msgspec

from ocitui.cache import read_to_end

_MOST_ANSWER = 64 << 20
_MOST_LINES = 2000
UUID_FORM = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""A uuid as krata writes it."""
_LIST, _READ, _SECONDS = "xenstore-list", "xenstore-read", 2.0
_ROOT, _OWN = "/local/domain", "/local/domain/0"
_NODE = re.compile(r"/local/domain/([1-9][0-9]{0,9})/krata/(uuid|loops|name)")
_uuid = re.compile(UUID_FORM).fullmatch
_VALUE = re.compile(r"(?:[^\\]|\\(?:[tnr\\]|00[0-7]|x[0-9a-f]{2}))*")


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


def unit_log() -> bytes:
    """The last lines of the daemon's log, as the journal has them; empty where there is none, or it may not be read."""
    program = find_program("journalctl")
    lines = ["-u", "kratad", "-n", str(_MOST_LINES), "--no-pager", "-o", "short-iso"]
    return (answer_of([program, *lines], _SECONDS) if program else None) or b""


class Domain(msgspec.Struct, frozen=True):
    """A domain of Xen's that krata made for the zone ``uuid``; ``loops`` are the loop devices that it was given, each
    with the name of the file that the device held then."""

    domid: int
    uuid: str
    name: str = ""
    loops: dict[str, str] = {}

    @property
    def label(self) -> str:
        return f"{self.domid} ({self.name or self.uuid})"


def read_domains() -> tuple[Domain, ...] | None:
    """All of krata's domains, by their numbers; None where nobody can tell, as without Xen, or where a guest goes
    meanwhile. Takes up to some seconds where xenstore does not answer. Never raises."""
    with suppress(LookupError):
        domains = _told(_LIST, [_ROOT])
        if _OWN not in domains:  # it is what a guest sees
            return None
        of_krata = [one for one in _told(_LIST, domains) if one.endswith("/krata")]
        nodes = [one for one in _told(_LIST, of_krata) if _NODE.fullmatch(one)]
        return domains_of(nodes, _told(_READ, nodes))
    return None


def _told(tool: str, paths: Sequence[str]) -> list[str]:
    """The lines that a tool prints of nodes, or of what is right below them. Raises LookupError where nobody tells."""
    if not paths:
        return []
    program = find_program(tool)
    answer = answer_of([program, "-p", *paths], _SECONDS) if program else None
    if answer is None:
        raise LookupError
    return answer.decode("latin-1").split("\n")[:-1]


def domains_of(nodes: Sequence[str], lines: Sequence[str]) -> tuple[Domain, ...] | None:
    """The domains by what the tool prints of these nodes, a line ``PATH: VALUE`` for each; None where it is not that.
    Of a uuid that is none krata gives up its own look at the domains."""
    told: dict[int, dict[str, str]] = {}
    for node, line in zip(nodes, lines, strict=False):
        path, _, value = line.partition(": ")
        found = _NODE.fullmatch(node)
        if found is None or path != node or not _VALUE.fullmatch(value):
            return None
        raw = value.encode("latin-1").decode("unicode_escape").encode("latin-1")
        told.setdefault(int(found[1]), {})[found[2]] = raw.decode(errors="replace")
    ours = sorted((domid, keys) for domid, keys in told.items() if "uuid" in keys)
    if len(nodes) != len(lines) or not all(_uuid(keys["uuid"]) for _, keys in ours):
        return None
    return tuple(Domain(at, one["uuid"], one.get("name", ""), loops_in(one.get("loops", ""))) for at, one in ours)


def loops_in(text: str) -> dict[str, str]:
    """The devices of a list ``DEVICE:FILE:DELETE,...``, with the files' names, in which there may be colons."""
    found: dict[str, str] = {}
    for one in text.split(","):
        device, _, rest = one.partition(":")
        if device:
            found[device] = rest.rpartition(":")[0].rpartition("/")[2]
    return found

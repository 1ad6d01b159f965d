"""The way to another host: plain `ssh`, as its operator has configured it, with his keys, jumps and masters.

What runs there prints a line `MARKER`, before which a login's files may print what they like; then records, each behind
a line of its length and sha256, and at the end a line that counts them, which alone proves that all of it came::

    ocitui 1
    12 3b1e...
    twelve bytes
    end 1

Nothing is installed there, nobody is asked for a password, and all that comes is bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import shlex
import shutil
import signal
import socket
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

from ocitui.cache import CacheError, InvalidNameError
from ocitui.directory import DEFAULT_DIRECTORY
from ocitui.text import printable
from ocitui.threads import settled

T = TypeVar("T")
MARKER = b"ocitui 1\n"
"""What what runs there prints before its first record: the number is that of the protocol."""
MOST_RECORD = 8 << 20
"""Bytes of a record: more is not taken."""
_MOST_NOISE, _MOST_STDERR, _MOST_LINE = 1 << 16, 1 << 16, 1 << 12
_HEAD = re.compile(rb"([1-9][0-9]{0,8}) ([0-9a-f]{64})\n").fullmatch
_OTHER_PROTOCOL = re.compile(rb"ocitui [0-9]{1,9}\n").fullmatch
_END = re.compile(rb"end ([0-9]{1,12})\n").fullmatch
_LONGEST_RUNTIME = 32  # of a socket's path of 108 bytes ssh takes 57 for a hash and a temporary ending
_GONE_SECONDS = 5.0


class RemoteError(CacheError):
    """What goes wrong between two hosts; each kind has its code."""

    code = "remote"


class InvalidPlaceError(RemoteError, InvalidNameError):
    code = "invalid-place"
    default_hint = "write it as ssh://[USER@]HOST[:PORT][/DIR]"


class UnreachableError(RemoteError):
    code = "unreachable"


class HostKeyError(RemoteError):
    """``changed``: another key than the known one, else one that nobody confirmed yet."""

    code = "host-key"

    def __init__(self, message: str, *, hint: str = "", changed: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.changed = changed


class LoginRefusedError(RemoteError):
    code = "login-refused"


class HostSilentError(RemoteError):
    code = "host-silent"


class LostConnectionError(RemoteError):
    code = "connection-lost"
    default_hint = "try again: nothing of it was taken, and what a pull brought so far is kept"


class NoPythonError(RemoteError):
    code = "no-python"
    default_hint = "install python3 there (3.6 or newer), or run ocitui there: its export | import brings entries here"


class SudoRefusedError(RemoteError):
    code = "sudo-refused"
    default_hint = "let that user run python3 by sudo without a password, or log in as one who may read the cache"


class FarAnswerError(RemoteError):
    """What came is not what was asked for: nothing of it is believed."""

    code = "far-answer"
    default_hint = "see what runs on that host, and who may write there"


_PLACE = re.compile(r"(?:ssh://)?(?:([^@/]+)@)?(\[[^\]/]*\]|[^:/@\[\]]+)(?::([0-9]{1,5}))?(/.*)?", re.DOTALL)
# An alias of the operator's configuration is a host too; none begins with a dash, which ssh may take for an option.
_HOST = re.compile(r"\w[\w.-]{0,254}|\[[0-9A-Fa-f:.]{2,45}(?:%\w{1,16})?\]")
_USER = re.compile(r"\w[\w.@\\+-]{0,127}\$?")


class SshPlace(msgspec.Struct, frozen=True):
    """A host as its operator names it to `ssh`, and a directory there, None for the usual one."""

    host: str
    user: str = ""
    port: int | None = None
    directory: PurePosixPath | None = None

    @classmethod
    def parse(cls, text: str) -> SshPlace:
        """``[ssh://][USER@]HOST[:PORT][/DIR]``. Raises InvalidPlaceError."""
        found = _PLACE.fullmatch(text)
        user, host, port, directory = found.groups() if found else ("", "", "", "")
        fits = _HOST.fullmatch(host or "") and (not user or _USER.fullmatch(user)) and 0 < int(port or 22) < 1 << 16
        if not fits or not (directory or "").isprintable():
            raise InvalidPlaceError(f"{printable(os.fsencode(text))} names no host")
        at = PurePosixPath(directory) if directory and directory.strip("/") else None
        return cls(host.strip("[]"), user or "", int(port) if port else None, at)

    @property
    def name(self) -> str:
        """The host, with user and port where they are given."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}"[not self.user :] + (f":{self.port}" if self.port else "")

    def __str__(self) -> str:
        return f"ssh://{self.name}{self.directory or ''}"

    @property
    def there(self) -> str:
        """The cache's directory on its host."""
        return str(self.directory or DEFAULT_DIRECTORY)

    @property
    def words(self) -> list[str]:
        """What names the host to `ssh`, behind all options."""
        user, port = ["-l", self.user] if self.user else [], ["-p", str(self.port)] if self.port else []
        return [*user, *port, "--", self.host]

    @property
    def login(self) -> str:
        """What an operator types to log in."""
        return shlex.join(["ssh", *(word for word in self.words if word != "--")])


class Patience(msgspec.Struct, frozen=True):
    """Seconds: until a host has answered, between two signs of life of which ``missed`` may fail to come, until the
    next record is whole, and for all that is asked at once, one more for each ``slowest`` bytes that came."""

    connect: int = 10
    alive: int = 5
    missed: int = 3
    record: float = 120.0
    whole: float = 300.0
    slowest: int = 1 << 14


_USUAL = Patience()


class Connection:
    """The way to one host. Within `async with` and ``shared``, all that is asked goes over one connection: over the
    operator's own master where he has one, as another would ask for his second factor again, else over one of ours."""

    def __init__(self, place: SshPlace, *, patience: Patience = _USUAL, shared: bool = False) -> None:
        self.place, self._patience, self._shared = place, patience, shared
        self._through: list[str] = []
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Connection:
        if self._shared:
            # Without a master each asking has a connection of its own, and tells what is wrong.
            with suppress(RemoteError, OSError):
                await self._open.enter_async_context(self._master())
        return self

    async def __aexit__(self, *_: object) -> None:
        await settled(self._open.aclose())

    async def configuration(self) -> Mapping[str, str]:
        """What the operator's configuration says of the host, by `ssh -G`, in small letters. Raises UnreachableError
        where it cannot be read, HostSilentError where it runs a command that does not end."""
        process = await _started(["ssh", "-G", *self.place.words], DEVNULL)
        try:
            async with asyncio.timeout(self._patience.record):
                out, err = await process.communicate()
        except TimeoutError:
            told = f"what is configured of {self.place.name} is not told within {self._patience.record:.0f} seconds"
            command = self.place.login.replace("ssh", "ssh -G", 1)
            hint = f"see whether this ends, and what its Match exec runs: {command}"
            raise HostSilentError(told, hint=hint) from None
        finally:
            await settled(_ended(process))
        if process.returncode != 0:
            raise _failure(self.place, process.returncode or 0, err, b"")
        lines = (line.partition(" ") for line in out.decode(errors="replace").splitlines())
        return {key: value for key, _, value in lines}

    async def borrow(self) -> None:
        """Have all that is asked go over a master of the operator's that is open already, or fail. Raises RemoteError
        where there is none, or one that has him confirm each use."""
        told = await self.configuration()
        path = told.get("controlpath", "none")
        if told.get("controlmaster") in ("ask", "autoask") or not _is_heard(path):
            raise UnreachableError(f"no connection to {self.place.name} is open")
        # Where it turns a session away ssh would open a connection after all.
        self._through = ["-S", path.replace("%", "%%"), "-o", "ControlMaster=no", "-o", "ProxyCommand=false"]

    @asynccontextmanager
    async def ask(self, program: str, *, sudo: bool = False, reads: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """Run a program of Python there, which needs nothing but the standard library; within it, its records as they
        come. Bytes that it ``reads`` and does not send give it time as what comes does. Whatever is left of it ends
        with the block. Raises RemoteError, also between the records."""
        # -S and -I: nothing of that host's but Python itself is loaded. sudo's words are to be understood.
        python = "python3 -I -S -"
        command = f"exec env LC_ALL=C sudo -n -- {python}" if sudo else f"exec {python}"
        async with self._begun(command, program.encode()) as child:
            yield child.records(reads)

    @asynccontextmanager
    async def _begun(self, command: str, sent: bytes, *options: str, ends: bool = True) -> AsyncIterator[_Child]:
        """A command that runs there and has printed the marker; its input ``ends`` behind what is sent."""
        for turned_away in (False, True):
            words = ["ssh", *self._options(), *self._through, *options, *self.place.words, command]
            child = _Child(self.place, await _started(words, PIPE), self._patience)
            try:
                await child.begin(sent, ends=ends)
            except _TurnedAwayError:
                await child.end()
                if turned_away:
                    raise
                await asyncio.sleep(random.uniform(0.5, 2.0))
                continue
            except BaseException:
                await child.end()
                raise
            try:
                yield child
            finally:
                await child.end()
            return

    def _options(self) -> list[str]:
        """What has to be so, whatever the operator's configuration says: nobody is asked, nothing waits for ever,
        packed files are not compressed again, and there is no other command than ours."""
        wait = self._patience
        settings = {
            "BatchMode": "yes",
            "ConnectTimeout": wait.connect,
            "ServerAliveInterval": wait.alive,
            "ServerAliveCountMax": wait.missed,
            "Compression": "no",
            "ClearAllForwardings": "yes",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "PermitLocalCommand": "no",
            "RemoteCommand": "none",
            "LogLevel": "INFO",
        }
        return ["-T", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]

    @asynccontextmanager
    async def _master(self) -> AsyncIterator[None]:
        told = await self.configuration()
        theirs = told.get("controlpath", "none")
        if theirs != "none" and (told.get("controlmaster", "no") not in ("no", "false") or _is_heard(theirs)):
            yield
            return
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        # After `su` it may be that of another user.
        fits = os.path.isabs(runtime) and len(os.fsencode(runtime)) <= _LONGEST_RUNTIME and os.path.isdir(runtime)
        fits = fits and os.access(runtime, os.W_OK | os.X_OK)
        folder = tempfile.mkdtemp(prefix="ocitui-", dir=runtime if fits else "/tmp")
        try:
            path = ["-o", f"ControlPath={folder}/%C"]
            own = ("-o", "ControlMaster=yes", "-o", "ControlPersist=no", *path)
            # It tells by an echo that it is there, and ends with this process, whose end of the pipe it reads.
            async with self._begun("exec cat", MARKER, *own, ends=False):
                self._through = ["-o", "ControlMaster=no", *path]
                yield
        finally:
            self._through = []
            shutil.rmtree(folder, ignore_errors=True)


def _is_heard(path: str) -> bool:
    """Whether a process listens at a socket: one that was killed leaves it."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as tried:
        tried.setblocking(False)
        tried.connect(path)
        return True
    return False


class _TurnedAwayError(UnreachableError):
    """A server that has too many at its door just now."""


async def _started(words: list[str], stdin: int) -> Process:
    # In a session of its own: it has no terminal to ask on, and is ended with all that it started.
    try:
        return await asyncio.create_subprocess_exec(
            *words, stdin=stdin, stdout=PIPE, stderr=PIPE, limit=_MOST_LINE, start_new_session=True
        )
    except OSError as error:
        raise UnreachableError(f"cannot start ssh: {error.strerror}", hint="apt install openssh-client") from error


async def _ended(process: Process) -> None:
    """End it, with all that it started."""
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    # Of a pipe that nobody reads any more, or that somebody else holds open, the end would never be seen.
    transport = vars(process)["_transport"]
    for pipe in filter(None, map(transport.get_pipe_transport, range(3))):
        pipe.close()
    await process.wait()


class _Child:
    """An `ssh` that runs a command there."""

    def __init__(self, place: SshPlace, process: Process, patience: Patience) -> None:
        self._place, self._process, self._patience = place, process, patience
        self._errors, self._sending, self._noise = bytearray(), asyncio.ensure_future(_nothing()), b""
        self._began, self._came = time.monotonic(), 0
        self._hearing = asyncio.ensure_future(self._hear())

    async def begin(self, sent: bytes, *, ends: bool) -> None:
        """Send the input, and pass over what comes before the marker. Raises RemoteError."""
        self._sending = asyncio.ensure_future(self._send(sent, ends=ends))
        while (line := await self._within(self._line)) != MARKER:
            if _OTHER_PROTOCOL(line):
                raise FarAnswerError(f"{self._place.name} speaks another protocol: {printable(line[:80])}")
            self._noise += line
            if len(self._noise) > _MOST_NOISE:
                raise FarAnswerError(f"{self._place.name} prints more before the answer than a login does")
            if not line:
                raise await self._failed()

    async def records(self, reads: int = 0) -> AsyncIterator[bytes]:
        """What comes, each record held against its sha256. Raises RemoteError, also where there is no end record."""
        self._came, count = reads, 0
        while True:
            record = await self._within(partial(self._record, count))
            if record is None:
                return
            count += 1
            self._came += len(record)
            yield record

    async def _record(self, count: int) -> bytes | None:
        line = await self._line()
        if found := _END(line):
            if int(found[1]) != count:
                raise FarAnswerError(f"{self._place.name} sent {count} records and tells of {int(found[1])}")
            return None
        found = _HEAD(line)
        if found is None and len(line) < _MOST_LINE and not line.endswith(b"\n"):
            raise await self._failed(begun=True)
        if found is None or (length := int(found[1])) > MOST_RECORD:
            raise FarAnswerError(f"{self._place.name} sends what is no record: {printable(line[:80])}")
        try:
            data = await self._out.readexactly(length)
        except asyncio.IncompleteReadError:
            raise await self._failed(begun=True) from None
        if hashlib.sha256(data).hexdigest().encode() != found[2]:
            raise FarAnswerError(f"a record of {self._place.name} does not have its sha256")
        return data

    async def end(self) -> None:
        """End it, with all that it started."""
        for one in (self._sending, self._hearing):
            one.cancel()
        ended = _ended(self._process)
        await settled(asyncio.gather(self._sending, self._hearing, ended, return_exceptions=True))

    @property
    def _out(self) -> asyncio.StreamReader:
        if self._process.stdout is None:
            raise LostConnectionError("ssh has no output")
        return self._process.stdout

    async def _line(self) -> bytes:
        """The next line, or the beginning of one that is too long, or what is left without an end; empty at the end."""
        try:
            return await self._out.readuntil()
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError as error:
            return await self._out.readexactly(max(1, min(error.consumed, _MOST_LINE)))

    async def _within(self, work: Callable[[], Awaitable[T]]) -> T:
        """What is waited for, as long as that may take, and as all that is asked may."""
        patience, since = self._patience, time.monotonic() - self._began
        left = patience.whole + self._came / patience.slowest - since
        try:
            async with asyncio.timeout(min(patience.record, left)):
                return await work()
        except TimeoutError:
            hint = f"see whether this ends: {self._place.login} true"
            told = f"has said nothing whole for {patience.record:.0f} seconds"
            told = told if left > patience.record else f"has not told all within {since + left:.0f} seconds"
            raise HostSilentError(f"{self._place.name} {told}", hint=hint) from None

    async def _send(self, sent: bytes, *, ends: bool) -> None:
        if (stdin := self._process.stdin) is not None:
            # That it ended is heard elsewhere.
            with suppress(ConnectionError):
                stdin.write(sent)
                await stdin.drain()
                if ends:
                    stdin.close()

    async def _hear(self) -> None:
        """Take what it says of itself, as far as that tells anything."""
        while self._process.stderr is not None and (data := await self._process.stderr.read(_MOST_LINE)):
            self._errors += data[: _MOST_STDERR - len(self._errors)]

    async def _failed(self, *, begun: bool = False) -> RemoteError:
        """Why it ended before its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GONE_SECONDS):
                await self._process.wait()
                # A master that goes on behind it may hold this open.
                await asyncio.shield(self._hearing)
        code = self._process.returncode
        return _failure(self._place, 0 if code is None else code, bytes(self._errors), self._noise, begun=begun)


async def _nothing() -> None: ...


_TURNED_AWAY = re.compile(
    r"(?:kex_exchange_identification|banner exchange).{0,200}(?:closed|reset)|Exceeded MaxStartups"
)
_KNOWN_IN = re.compile(r"Add correct host key in ([ -~]{1,200}) to get rid of")
_KNOWN_AS = re.compile(r"Host key for ([!-~]{1,200}) has changed")
_TIMED_OUT = re.compile(r"timed out|Timeout, server")
_NO_WAY = re.compile(r"ssh: |refused|unreachable|not resolve|Name or service|No route|UNKNOWN port")
_CUT = re.compile(r"closed by|reset by|Broken pipe|client_loop|Timeout, server")


def _failure(place: SshPlace, code: int, errors: bytes, noise: bytes, *, begun: bool = False) -> RemoteError:
    """What ssh's status and words say: 255 may be its own or the command's, so that its words are looked at first."""
    said, name, login = errors.decode("utf-8", "replace").replace("\r", ""), place.name, place.login
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    shown = printable(last.strip().encode())
    if begun:
        if "Timeout, server" in said:
            return HostSilentError(f"{name} froze while it was asked", hint="try again once it answers")
        what = f": {shown}" if last else f", and its command ended with {code}"
        return LostConnectionError(f"the connection to {name} ended before all had come{what}")
    if "IDENTIFICATION HAS CHANGED" in said:
        # As it is known: by its real name, with its port, in whichever file.
        where, known = _KNOWN_IN.search(said), _KNOWN_AS.search(said)
        file = f"-f {shlex.quote(where[1])} " if where else ""
        command = f"ssh-keygen {file}-R {shlex.quote(known[1] if known else place.host)}"
        hint = f"ask who runs it whether that is right; then: {command}"
        return HostKeyError(f"{name} shows another key than the known one", hint=hint, changed=True)
    if "Host key verification failed" in said or "host key is known" in said:
        return HostKeyError(f"the key of {name} is not known here", hint=f"log in once, and confirm it: {login}")
    if "Permission denied" in said or "Too many authentication failures" in said:
        hint = f"give it a key, or load it into the agent, so that this asks for nothing: {login} true"
        return LoginRefusedError(f"{name} asks for a password, or lets this user not in", hint=hint)
    if code == 255 and (_TURNED_AWAY.search(said)):
        return _TurnedAwayError(f"{name} turns new connections away: {shown}", hint="try again, with fewer at once")
    if code == 255 and _TIMED_OUT.search(said):
        return HostSilentError(f"{name} does not answer: {shown}", hint=f"see whether this ends: {login} true")
    if code == 255 and (line := next(filter(_NO_WAY.search, said.splitlines()), "")):
        told = printable(line[max(line.find("ssh: "), 0) :].encode())
        return UnreachableError(f"{name} cannot be reached: {told}", hint=f"try: {login} true")
    if "sudo:" in said:
        return SudoRefusedError(f"sudo on {name} refuses: {shown}")
    if code == 127 and "'sudo'" in said:
        return SudoRefusedError(f"there is no sudo on {name}", hint="log in as one who may read the cache")
    if code in (126, 127):
        return NoPythonError(f"there is no python3 on {name}")
    if code == 255 and (not last or _CUT.search(said)):
        return LostConnectionError(f"{name} ended the connection" + (f": {shown}" if last else ""))
    told = shown if last else printable(noise.strip()[-200:])
    return RemoteError(
        f"what was asked of {name} does not run there: it ended with {code}: {told}", hint=f"try: {login}"
    )


def program_of(path: Path, request: Mapping[str, Any]) -> str:
    """A file of ours that runs on another host, told what to do: its ``main`` is called with the request."""
    asked = msgspec.json.encode(request).decode()
    return f"{path.read_text(encoding='utf-8')}\n\nmain({asked!a})\n"

"""The way to another host, over a real sshd: every row of what can go wrong ends, and is told as what it is."""

from __future__ import annotations

import asyncio
import os
import random
import shlex
import socket
import subprocess
import threading
import time
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

from ocitui.remote import ssh
from ocitui.remote.ssh import (
    MOST_RECORD,
    Connection,
    FarAnswerError,
    HostKeyError,
    HostSilentError,
    InvalidPlaceError,
    LoginRefusedError,
    LostConnectionError,
    NoPythonError,
    Patience,
    RemoteError,
    SshPlace,
    SudoRefusedError,
    UnreachableError,
)
from tests.cache.support import until
from tests.remote.support import Hosts
from tests.sshd import make_key

pytestmark = pytest.mark.slow

HURRIED = Patience(connect=2, alive=1, missed=2, record=60.0)
SENDER = """
import hashlib, sys
def send(data, told=None):
    head = "%d %s" % (len(data), told or hashlib.sha256(data).hexdigest())
    sys.stdout.buffer.write(head.encode() + b"\\n" + data)
sys.stdout.buffer.write(b"ocitui 1\\n")
"""
END = "print('end %d' % {count}, flush=True)\n"


async def asked(name: str, program: str, *, sudo: bool = False, patience: Patience = HURRIED) -> list[bytes]:
    async with Connection(SshPlace.parse(name), patience=patience).ask(program, sudo=sudo) as records:
        return [record async for record in records]


SOME = SENDER + "for number in range(3): send(b'x' * 5 ** (number * 4))\nsys.stdout.flush()\n" + END.format(count=3)
GOT = [b"x", b"x" * 625, b"x" * 390625]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("ssh://web1", SshPlace("web1")),
        ("web1", SshPlace("web1")),
        ("ssh://root@web1:2222/srv/cache", SshPlace("web1", "root", 2222, PurePosixPath("/srv/cache"))),
        ("ssh://[fe80::1%eth0]:22", SshPlace("fe80::1%eth0", "", 22)),
        ("ssh://web1/", SshPlace("web1")),
    ],
)
def test_a_place(text: str, place: SshPlace) -> None:
    assert SshPlace.parse(text) == place
    assert SshPlace.parse(str(place)) == place


def test_what_is_typed_to_log_in_is_read_by_a_shell_as_it_is_meant() -> None:
    place = SshPlace.parse("ssh://DOM\\user$@web1:2222")
    assert shlex.split(place.login) == ["ssh", "-l", "DOM\\user$", "-p", "2222", "web1"]
    assert place.login == r"ssh -l 'DOM\user$' -p 2222 web1"


@pytest.mark.parametrize(
    "text",
    [
        *("", "ssh://", "ssh:///srv", "-oProxyCommand=touch x", "ssh://-oProxyCommand=touch%20x/", "ssh://a@-b", "a b"),
        *(
            "ssh://web1:0",
            "ssh://web1:65536",
            "ssh://$(id)",
            "ssh://we;b",
            "ssh://-u@web1",
            "web\n1",
            "ssh://a/\x1b[2J",
        ),
    ],
)
def test_what_names_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlaceError) as raised:
        SshPlace.parse(text)
    assert raised.value.message.isprintable()


async def test_records_come_as_they_were_sent(hosts: Hosts) -> None:
    assert await asked("good", SOME) == GOT


async def test_what_a_login_prints_is_passed_over(hosts: Hosts) -> None:
    hosts.alias("shouting", hosts.ports["noisy"])
    assert await asked("shouting", SOME.replace('b"ocitui 1', 'b"\\nocitui 1')) == GOT


async def test_what_is_asked_of_a_shared_connection_goes_over_it(hosts: Hosts, tmp_path: Path) -> None:
    tell = SENDER + "import os\nsend(os.environ['SSH_CONNECTION'].encode())\nsys.stdout.flush()\n" + END.format(count=1)

    async def port_of(connection: Connection) -> bytes:
        async with connection.ask(tell) as records:
            return b"".join([record async for record in records])

    place = SshPlace.parse("good")
    async with Connection(place, patience=HURRIED, shared=True) as shared:
        assert await port_of(shared) == await port_of(shared)
        sockets = [one for one in os.listdir("/tmp") if one.startswith("ocitui-")]
        assert sockets or os.environ.get("XDG_RUNTIME_DIR")
    async with Connection(place, patience=HURRIED) as each:
        assert await port_of(each) != await port_of(each)


async def test_a_runtime_directory_of_another_user_stops_nothing(near: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is left behind by su; even root may make nothing in this one."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc")
    async with Connection(SshPlace.parse("good"), patience=HURRIED, shared=True) as shared, shared.ask(SOME) as records:
        assert [record async for record in records] == GOT


async def test_the_operators_own_master_is_used(hosts: Hosts, tmp_path: Path) -> None:
    path = tmp_path / "m"
    hosts.alias("mastered", hosts.ports["good"], "ControlMaster auto", f"ControlPath {path}", "ControlPersist 5")
    async with Connection(SshPlace.parse("mastered"), patience=HURRIED, shared=True) as shared:
        for _ in range(2):
            async with shared.ask(SOME) as records:
                assert [record async for record in records] == GOT
        assert path.is_socket()


async def test_a_master_that_the_operator_began_himself_is_used(hosts: Hosts, tmp_path: Path) -> None:
    """Another connection would ask for his second factor again. What is left of one that was killed is none."""
    path, counted = tmp_path / "m", f"KnownHostsCommand /usr/bin/touch {tmp_path / 'connected'}"
    hosts.alias("begun", hosts.ports["good"], f"ControlPath {path}", counted)
    run = partial(subprocess.run, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    run(["ssh", "-M", "-N", "-f", "-o", "KnownHostsCommand=none", "begun"])
    begun = Connection(SshPlace.parse("begun"), patience=HURRIED, shared=True)
    async with begun as shared, shared.ask(SOME) as records:
        assert [record async for record in records] == GOT
    assert not (tmp_path / "connected").exists()
    run(["ssh", "-O", "exit", "begun"])
    await until(lambda: not path.exists())
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    async with Connection(SshPlace.parse("begun"), patience=HURRIED, shared=True) as shared:
        (tmp_path / "connected").unlink(missing_ok=True)
        for _ in range(2):
            async with shared.ask(SOME) as records:
                assert [record async for record in records] == GOT
    assert not (tmp_path / "connected").exists()


async def test_what_is_asked_by_an_open_master_alone_opens_no_connection(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)
    hosts.alias("gone", hosts.ports["good"], f'ControlPath "{tmp_path}/m %p"')
    hosts.alias("confirmed", hosts.ports["good"], "ControlMaster ask", f'ControlPath "{tmp_path}/m %p"')
    gone = Connection(SshPlace.parse("gone"), patience=HURRIED)
    with pytest.raises(UnreachableError, match="no connection to gone is open"):
        await gone.borrow()
    # What a master that was killed leaves.
    left = tmp_path / f"m {hosts.ports['good']}"
    left.touch()
    with pytest.raises(UnreachableError, match="no connection to gone is open"):
        await gone.borrow()
    left.unlink()
    # It turns away whoever comes, as a master that has as many sessions as it may: ssh would go on without it.
    async with await asyncio.start_unix_server(lambda _, writer: writer.close(), left):
        await gone.borrow()
        with pytest.raises(RemoteError):
            async with gone.ask(SOME):
                pass
    with pytest.raises(UnreachableError, match="no connection to confirmed is open"):
        await Connection(SshPlace.parse("confirmed")).borrow()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("nopython", NoPythonError, "no python3"),
        ("nologin", RemoteError, "This account is currently not available."),
        ("killed", LostConnectionError, "ended the connection"),
        ("fails", LostConnectionError, "ended the connection"),
        ("locked", LoginRefusedError, "asks for a password"),
    ],
)
async def test_a_host_that_runs_nothing(hosts: Hosts, name: str, error: type[RemoteError], said: str) -> None:
    with pytest.raises(error) as raised:
        await asked(name, SOME)
    assert said in raised.value.message
    assert raised.value.hint


async def test_a_key_that_nobody_confirmed_and_one_that_changed(hosts: Hosts, tmp_path: Path) -> None:
    hosts.known.write_text("")
    with pytest.raises(HostKeyError) as unknown:
        await asked("good", SOME)
    make_key(tmp_path / "stranger")
    hosts.know([hosts.ports["good"]], tmp_path / "stranger")
    with pytest.raises(HostKeyError) as changed:
        await asked("good", SOME)
    assert (unknown.value.changed, changed.value.changed) == (False, True)
    advice = shlex.split(changed.value.hint.partition("then: ")[2])
    await asyncio.to_thread(subprocess.run, advice, check=True, capture_output=True)
    assert not hosts.known.read_text()


async def test_a_port_where_nobody_listens_and_one_that_is_silent(hosts: Hosts) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        hosts.alias("closed", closed.getsockname()[1])
        with pytest.raises(UnreachableError, match="refused"):
            await asked("closed", SOME)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts.alias("silent", silent.getsockname()[1])
        with pytest.raises(HostSilentError, match="does not answer"):
            await asked("silent", SOME)


async def test_a_server_that_turns_new_connections_away_is_asked_once_more(hosts: Hosts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        hosts.alias("busy", busy.getsockname()[1])
        came = []

        def turn_away() -> None:
            for _ in range(2):
                one, _ = busy.accept()
                came.append(one.getpeername())
                one.close()

        door = threading.Thread(target=turn_away)
        door.start()
        with pytest.raises(UnreachableError, match="turns new connections away"):
            await asked("busy", SOME)
        door.join()
        assert len(came) == 2


LONG = SENDER + "for number in range(200): send(b'x' * 10000)\nsys.stdout.flush()\n" + END.format(count=200)


@pytest.mark.parametrize("at", [100, 3_000, 20_000, 500_000])
async def test_a_connection_that_is_cut_is_never_taken_for_a_whole_one(hosts: Hosts, at: int) -> None:
    hosts.proxied("cut", "cut", at)
    with pytest.raises((LostConnectionError, UnreachableError)):
        await asked("cut", LONG)


async def test_a_host_that_freezes_in_mid_stream_is_given_up(hosts: Hosts) -> None:
    hosts.proxied("frozen", "freeze", 100_000)
    with pytest.raises(HostSilentError, match="froze"):
        await asked("frozen", LONG)


async def test_a_far_line_only_takes_longer(hosts: Hosts) -> None:
    hosts.proxied("far", "delay", 20)
    assert await asked("far", SOME) == GOT


async def test_sudo_runs_it_or_refuses(hosts: Hosts) -> None:
    assert await asked("sudo", SOME, sudo=True) == GOT
    with pytest.raises(SudoRefusedError, match="refuses"):
        await asked("nosudo", SOME, sudo=True)


def test_a_host_without_sudo_is_not_said_to_have_no_python() -> None:
    """The words of a real one, of its env(1)."""
    error = ssh._failure(SshPlace("h"), 127, b"env: 'sudo': No such file or directory\n", b"")
    assert (error.code, error.message) == ("sudo-refused", "there is no sudo on h")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (f"send(b'abc', '{'0' * 64}')\n" + END.format(count=1), "sha256"),
        ("send(b'abc')\n" + END.format(count=2), "tells of 2"),
        ("print('0 ' + 64 * 'a')\n", "no record"),
        (f"print('{MOST_RECORD + 1} ' + 64 * 'a')\n", "no record"),
        ("print('\\x1b[2Jgotcha')\n", "no record"),
        ("while True: print('y' * 999)\n", "no record"),
        ("while True: sys.stdout.write('y' * 9999)\n", "no record"),
    ],
)
async def test_a_peer_that_lies(hosts: Hosts, sent: str, said: str) -> None:
    with pytest.raises((FarAnswerError, LostConnectionError)) as raised:
        await asked("good", SENDER + "sys.stdout.flush()\n" + sent)
    assert said in raised.value.message
    assert raised.value.message.isprintable()


async def test_a_peer_that_prints_without_end_before_the_marker(hosts: Hosts) -> None:
    with pytest.raises(RemoteError):
        await asked("good", "while True: print('y' * 999)\n")


async def test_a_peer_of_another_protocol(hosts: Hosts) -> None:
    with pytest.raises(FarAnswerError, match="another protocol"):
        await asked("good", "print('ocitui 2')\n")


async def test_a_record_that_never_comes(hosts: Hosts) -> None:
    slow = SENDER + "sys.stdout.flush()\nimport time\nwhile True: time.sleep(9)\n"
    with pytest.raises(HostSilentError, match="nothing whole"):
        await asked("good", slow, patience=Patience(record=1.0))


def _command_of(pid: str) -> bytes:
    """Empty where it has ended."""
    with suppress(OSError):
        return Path("/proc", pid, "cmdline").read_bytes()
    return b""


async def test_a_configuration_that_runs_what_does_not_end(hosts: Hosts, tmp_path: Path) -> None:
    """Neither that nor `ssh` is left."""
    with hosts.config.open("a") as config:
        config.write(f'Match exec "echo $$ >>{tmp_path / "pid"}; exec sleep 999"\n')
    connection = Connection(SshPlace.parse("good"), patience=Patience(record=1.0))
    with pytest.raises(HostSilentError, match="is not told within 1 seconds") as raised:
        await connection.configuration()
    assert raised.value.hint.endswith("runs: ssh -G good")
    work = asyncio.ensure_future(Connection(SshPlace.parse("good")).configuration())
    await until(lambda: len((tmp_path / "pid").read_text().split()) == 2)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    pids = (tmp_path / "pid").read_text().split()
    await until(lambda: not any(map(_command_of, pids)))


async def test_that_nothing_can_be_shared_is_told_by_what_is_asked(hosts: Hosts) -> None:
    async with Connection(SshPlace.parse("locked"), patience=HURRIED, shared=True) as connection:
        for _ in range(2):
            with pytest.raises(LoginRefusedError):
                async with connection.ask(SOME) as records:
                    assert not [record async for record in records]


@pytest.mark.parametrize("slowest", [1, 1 << 14])
async def test_a_host_that_drips_is_given_up_unless_enough_comes(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, slowest: int
) -> None:
    """Each record of 10,000 bytes takes ten seconds, of a clock that only what asks looks at."""
    seconds = count(0, 10)
    monkeypatch.setattr(ssh, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    patience = Patience(whole=300.0, slowest=slowest)
    if slowest == 1:
        assert len(await asked("good", LONG, patience=patience)) == 200
        return
    with pytest.raises(HostSilentError, match="has not told all within"):
        await asked("good", LONG, patience=patience)


@pytest.mark.parametrize("said", [b"a" * (1 << 16), b"banner exchange" * 4369, b"ssh: " * 13_000])
def test_what_a_host_says_is_looked_at_in_no_time(said: bytes) -> None:
    began = time.process_time()
    ssh._failure(SshPlace("h"), 255, said, b"")
    assert time.process_time() - began < 0.5

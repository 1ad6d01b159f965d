"""Real sshd on this machine: one server, a port for each way in which a host may behave, and the operator's own ssh
with a configuration of the tests'."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.tools import need, wait_for

PROXY = Path(__file__).with_name("proxy.py")
_RUN = 'eval "$SSH_ORIGINAL_COMMAND"'
WAYS = {
    "good": "",
    "noisy": f"echo 'Last login: never'; printf 'ocitui said hello'; echo; {_RUN}",
    "nopython": f"PATH=/nowhere; {_RUN}",
    "nologin": "echo This account is currently not available.; exit 1",
    "killed": "kill -9 $PPID",
    "fails": "exit 255",
    "locked": "",
    "sudo": "",
    "nosudo": "",
}
"""What each port does with a command; an empty one runs it."""


class Hosts:
    """Where the servers are; `alias` adds one to the operator's configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports = folder, dict[str, int]()
        self.config, self.known, self.key = folder / "config", folder / "known", folder / "key"

    def alias(self, name: str, port: int | None = None, *lines: str) -> None:
        """A host of the operator's; it goes to the port of that name unless another is given."""
        port = self.ports[name] if port is None else port
        with self.config.open("a", encoding="utf-8") as config:
            config.write("\n  ".join((f"Host {name}", f"Port {port}", *lines)) + "\n")

    def proxied(self, name: str, mode: str, number: int) -> None:
        """One that is reached through `proxy.py`."""
        command = f"ProxyCommand {sys.executable} {PROXY} {self.ports['good']} {mode} {number}"
        self.alias(name, self.ports["good"], command)

    def know(self, ports: Sequence[int], key: Path | None = None) -> None:
        """Let the operator know the key of these ports."""
        kind, text = (key or self.folder / "host_key").with_suffix(".pub").read_text().split()[:2]
        with self.known.open("a", encoding="utf-8") as known:
            known.writelines(f"[127.0.0.1]:{port} {kind} {text}\n" for port in ports)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


@contextmanager
def serving(folder: Path, ports: Sequence[int], lines: Sequence[str] = ()) -> Iterator[None]:
    """A server on these ports, at most 16, with the keys in a folder."""
    config = folder / f"sshd-{ports[0]}"
    settings = [
        *(f"ListenAddress 127.0.0.1:{port}" for port in ports),
        f"HostKey {folder / 'host_key'}",
        f"AuthorizedKeysFile {folder / 'key.pub'}",
        *("StrictModes no", "UsePAM no", "PidFile none", "PasswordAuthentication no", "PermitRootLogin yes"),
        *("KbdInteractiveAuthentication no", "MaxStartups 500", "LogLevel ERROR", "AcceptEnv TEST_*"),
        *lines,
    ]
    config.write_text("\n".join(settings) + "\n")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([_sshd(), "-D", "-f", config, "-E", folder / "sshd.log"])
    try:
        wait_for(lambda: all(map(_listens, ports)), f"sshd on {ports}")
        yield
    finally:
        server.terminate()
        server.wait()


def _sshd() -> str:
    return shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or "sshd"


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def hosts_in(folder: Path) -> Iterator[Hosts]:
    """A server with a port for each of `WAYS`, all of which the operator knows but ``locked``'s key."""
    need("ssh", "ssh-keygen")
    if not Path(_sshd()).is_absolute():
        need("sshd")
    hosts = Hosts(folder)
    hosts.ports = dict(zip(WAYS, free_ports(len(WAYS)), strict=True))
    for name in ("host_key", "key", "other_key"):
        make_key(folder / name)
    for name, word in (("sudo", 'shift; [ "$1" = -- ] && shift; exec "$@"'), ("nosudo", "echo 'sudo: no' >&2; exit 1")):
        (folder / name).mkdir()
        (folder / name / "sudo").write_text(f"#!/bin/sh\n{word}\n")
        (folder / name / "sudo").chmod(0o755)
    hosts.config.write_text(f"UserKnownHostsFile {hosts.known}\nIdentityFile {hosts.key}\nHostName 127.0.0.1\n")
    with hosts.config.open("a") as config:
        config.write("IdentitiesOnly yes\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n")
    hosts.know(list(hosts.ports.values()))
    matches = []
    for name, command in WAYS.items():
        hosts.alias(name)
        matches.append(f"Match LocalPort {hosts.ports[name]}")
        if name.endswith("sudo"):
            command = f"PATH={folder / name}:$PATH; {_RUN}"
        if name == "locked":
            matches.append("  AuthorizedKeysFile none")
        elif command:
            matches.append(f"  ForceCommand {command}")
    with serving(folder, list(hosts.ports.values()), matches):
        yield hosts


def use_ssh(folder: Path, config: Path) -> str:
    """The PATH with an `ssh` that reads this configuration; the real one reads that of the user's home, by his name."""
    folder.mkdir(exist_ok=True)
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    (folder / "ssh").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"

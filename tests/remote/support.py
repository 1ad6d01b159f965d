"""Real sshd on this machine: a port for each way in which a host may behave, and the operator's own ssh
with a configuration of the tests'."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.sshd import QUICK_EXCHANGE, loopback_hosts
from tests.tools import need

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
        self.config, self.known, self.key = folder / "config", folder / "known", folder / "user"

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
        kind, text = (key or self.folder / "host").with_suffix(".pub").read_text().split()[:2]
        with self.known.open("a", encoding="utf-8") as known:
            known.writelines(f"[127.0.0.1]:{port} {kind} {text}\n" for port in ports)


@contextmanager
def hosts_in(folder: Path, exchange: str = QUICK_EXCHANGE) -> Iterator[Hosts]:
    """A server with a port for each of `WAYS`, all of which the operator knows; keys are exchanged so."""
    need("ssh")
    hosts = Hosts(folder)
    for name, word in (("sudo", 'shift; [ "$1" = -- ] && shift; exec "$@"'), ("nosudo", "echo 'sudo: no' >&2; exit 1")):
        (folder / name).mkdir()
        (folder / name / "sudo").write_text(f"#!/bin/sh\n{word}\n")
        (folder / name / "sudo").chmod(0o755)
    hosts.config.write_text(f"UserKnownHostsFile {hosts.known}\nIdentityFile {hosts.key}\nHostName 127.0.0.1\n")
    with hosts.config.open("a") as config:
        config.write("IdentitiesOnly yes\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n")
        config.write(f"KexAlgorithms {exchange}\n")

    def settings(ports: Sequence[int]) -> list[str]:
        hosts.ports = dict(zip(WAYS, ports, strict=True))
        return ["AcceptEnv TEST_*", *(line for way in WAYS for line in _match(hosts, way))]

    with loopback_hosts(folder, len(WAYS), settings):
        for name in WAYS:
            hosts.alias(name)
        hosts.know(list(hosts.ports.values()))
        yield hosts


def _match(hosts: Hosts, way: str) -> list[str]:
    """What a server does at the port of a way."""
    command = f"PATH={hosts.folder / way}:$PATH; {_RUN}" if way.endswith("sudo") else WAYS[way]
    asks = "AuthorizedKeysFile none" if way == "locked" else f"ForceCommand {command}" if command else ""
    return [f"Match LocalPort {hosts.ports[way]}", f"  {asks}"] if asks else []


def near_ssh(folder: Path) -> str:
    """The PATH with an `ssh` that leads to this machine, at once, and has no configuration."""
    folder.mkdir()
    (folder / "ssh").write_text('#!/bin/sh\n[ "$1" = -G ] && exit\nfor last; do :; done\nexec sh -c "$last"\n')
    (folder / "ssh").chmod(0o755)
    return f"{folder}:/usr/bin:{os.environ['PATH']}"


def use_ssh(folder: Path, config: Path) -> str:
    """The PATH with an `ssh` that reads this configuration; the real one reads that of the user's home, by his name."""
    folder.mkdir(exist_ok=True)
    (folder / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {config} "$@"\n')
    (folder / "ssh").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"

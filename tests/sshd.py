"""Hosts for tests: on loopback, each with an sshd of its own that lets this user in by a key."""

from __future__ import annotations

import getpass
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.tools import need


class LoopbackHost(socketserver.ThreadingTCPServer):
    """Accepts on a port that the kernel chose, and has an sshd serve each connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, config: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        # By its whole path, as it starts itself again.
        self.command = [str(shutil.which("sshd")), "-i", "-e", "-f", str(config)]

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, LoopbackHost)
        subprocess.run(
            self.server.command, stdin=self.request, stdout=self.request, stderr=subprocess.DEVNULL, check=False
        )


QUICK_EXCHANGE = "curve25519-sha256"
"""A key exchange of few CPU ms; what ssh takes by itself may be one of 80."""


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


@contextmanager
def loopback_hosts(
    folder: Path, count: int, more: Callable[[Sequence[int]], Sequence[str]] = lambda ports: ()
) -> Iterator[list[LoopbackHost]]:
    """So many hosts; in the folder are the key `user` and their `known_hosts`. ``more`` gives further lines of their
    configuration, by their ports."""
    need("sshd", "ssh-keygen")
    for name in ("host", "user"):
        make_key(folder / name)
    if os.getuid() == 0:
        # Where it leaves its rights; Debian makes it when the service starts.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    hosts = [LoopbackHost(folder / "sshd_config") for _ in range(count)]
    # A login reads nothing of this user's own.
    (folder / "home").mkdir()
    lines = "".join(f"{line}\n" for line in (f"SetEnv HOME={folder}/home", *more([host.port for host in hosts])))
    (folder / "sshd_config").write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nPidFile none\nStrictModes no\n"
        "UsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"{lines}"
    )
    key = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text("".join(f"[127.0.0.1]:{host.port} {key}" for host in hosts))
    for host in hosts:
        threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hosts
    finally:
        for host in hosts:
            host.shutdown()
            host.server_close()


def ssh_arguments(folder: Path) -> str:
    """What ssh takes so that it uses these keys and nothing of the user's own."""
    known = f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes"
    keys = f"-i {folder}/user -o IdentitiesOnly=yes -o KexAlgorithms={QUICK_EXCHANGE}"
    return f"-F none {keys} {known} -l {getpass.getuser()}"

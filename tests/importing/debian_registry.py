"""Debian's docker-registry on loopback: plain or with TLS and a password, or with a token service of the tests' own, or
as a mirror of another one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.importing.image_makers import run
from tests.tools import need

USER, PASSWORD = "anna", "let me in"
# Of the password above; a program that makes one is not everywhere.
_HASH = "$2b$04$zPcjCONqb2KO8K6pl2p38.IDyF3QYQqlBGiPOqB5Ctx40Ds2sKwui"
_CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}/storage}}, delete: {{enabled: false}}}}
http: {{addr: "127.0.0.1:{port}", secret: ours{tls}}}
{more}
"""


@dataclass(frozen=True)
class DebianRegistry:
    """``ca`` is the file of the authority that signed its certificate; None where it speaks plain http."""

    host: str
    ca: Path | None = None

    def put(self, source: str, name: str) -> None:
        """Copy an image there with skopeo."""
        login = [] if self.ca is None else ["--dest-creds", f"{USER}:{PASSWORD}"]
        run("skopeo", "copy", "-q", "--dest-tls-verify=false", *login, source, f"docker://{self.host}/{name}")


@contextmanager
def debian_registry(root: Path, secure: bool, *, more: str = "", expired: bool = False) -> Iterator[DebianRegistry]:
    """Run it until the end of the block; ``more`` is added to its configuration in place of the password, and with
    ``expired`` the certificate is of yesterday."""
    need("docker-registry", "skopeo", *(["openssl"] if secure else []))
    root.mkdir(exist_ok=True)
    port = _free_port()
    config = root / "config.yml"
    tls = f", tls: {{certificate: {root}/leaf.pem, key: {root}/leaf.key}}" if secure else ""
    more = more or (f"auth: {{htpasswd: {{realm: ours, path: {root}/htpasswd}}}}" if secure else "")
    if secure:
        make_certificate(root, expired=expired)
        (root / "htpasswd").write_text(f"{USER}:{_HASH}\n")
    config.write_text(_CONFIG.format(root=root, port=port, tls=tls, more=more))
    program = shutil.which("docker-registry") or ""
    environment = {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"}
    # To a file, as nobody reads a pipe while the tests go on, and a full one holds it up.
    log = root / "registry.log"
    with (
        log.open("wb") as output,
        subprocess.Popen([program, "serve", config], stderr=output, env=environment) as process,
    ):
        try:
            while "listening on" not in log.read_text():
                assert process.poll() is None, f"docker-registry ended: {log.read_text()}"
                time.sleep(0.01)
            yield DebianRegistry(f"127.0.0.1:{port}", root / "ca.pem" if secure else None)
        finally:
            process.terminate()
            process.wait()


def make_certificate(root: Path, *, expired: bool = False) -> None:
    """An authority of our own (`ca.pem`) and a certificate of it for loopback (`leaf.pem`, `leaf.key`), which was valid
    until yesterday where it is ``expired``: as strictly as Python 3.13 asks (RFC 5280, key usage and identifiers)."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    ca, leaf = root / "ca", root / "leaf"
    authority = ("-days", "2", "-subj", "/CN=ours", "-addext", "keyUsage=critical,keyCertSign")
    run("openssl", "req", "-x509", *key, *authority, "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"
    (root / "names").write_text(names)
    run("openssl", "req", "-new", *key, "-subj", "/CN=leaf", "-keyout", f"{leaf}.key", "-out", f"{leaf}.csr")
    signed = ("-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-extfile", str(root / "names"))
    days = "-1" if expired else "2"
    run("openssl", "x509", "-req", "-in", f"{leaf}.csr", *signed, "-days", days, "-out", f"{leaf}.pem")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""A token service of the tests' own, whose tokens Debian's docker-registry takes (distribution, "Token Authentication
Specification" and "Token Authentication Implementation": a JSON web token, signed by a key whose certificate stands in
its header)."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.importing.debian_registry import PASSWORD, USER
from tests.importing.image_makers import run
from tests.importing.registry_server import FaultyRegistry, Reply, Request
from tests.tools import need

SERVICE, ISSUER = "our registry", "our tokens"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class TokenService(FaultyRegistry):
    """Gives anybody a token who logs in; to be served, and named by `config` to a registry."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        need("openssl")
        self._key, self._certificate = root / "tokens.key", root / "tokens.pem"
        made = ("-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens")
        run("openssl", "req", "-x509", *made, "-keyout", str(self._key), "-out", str(self._certificate))
        self.rules.append(self._give)

    def config(self, realm: str) -> str:
        """What a registry's configuration says of it."""
        told = {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self._certificate)}
        return json.dumps({"auth": {"token": told}})[1:-1]

    def _give(self, request: Request) -> Reply:
        if request.authorization != BASIC:
            return Reply(401, body=b'{"details": "incorrect username or password"}')
        _, name, actions = request.query["scope"][0].split(":")
        access = [{"type": "repository", "name": name, "actions": actions.split(",")}]
        return Reply(body=json.dumps({"token": self._token(access)}).encode())

    def _token(self, access: list[Any]) -> str:
        der = ssl.PEM_cert_to_DER_cert(self._certificate.read_text())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        now = int(time.time())
        times = {"exp": now + 60, "nbf": now - 10, "iat": now}
        body = {"iss": ISSUER, "sub": USER, "aud": SERVICE, "jti": "1", "access": access, **times}
        text = f"{_coded(json.dumps(head).encode())}.{_coded(json.dumps(body).encode())}"
        command = ["openssl", "dgst", "-sha256", "-sign", str(self._key)]
        signed = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
        return f"{text}.{_coded(signed)}"


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")

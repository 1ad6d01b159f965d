"""Docker's credential helpers: a program `docker-credential-NAME` that is told a server and answers in JSON."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import msgspec

from ..source_errors import CredentialsError
from .failures import printable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_NOT_FOUND = b"credentials not found"
# A helper may have to ask its user for a password.
_TIMEOUT = 60


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str
    secret: str


_decode_answer = msgspec.json.Decoder(_Answer).decode


async def ask_helper(name: str, server: str) -> tuple[str, str] | None:
    """The user's name and secret for a server; None where the helper has none. Raises CredentialsError."""
    if not _NAME.fullmatch(name):
        raise CredentialsError(f"{name!r} is not the name of a credential helper")
    program = f"docker-credential-{name}"
    status, output, errors = await _run(program, server)
    if status != 0:
        if _NOT_FOUND in output + errors:
            return None
        said = printable((errors or output).decode("utf-8", "replace"))
        raise CredentialsError(f"{program} fails with status {status}: {said}", hint="see that the helper works")
    try:
        answer = _decode_answer(output)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CredentialsError(f"{program} gives no credentials: {error}", hint="see that the helper works") from error
    return (answer.username, answer.secret) if answer.secret else None


async def _run(program: str, server: str) -> tuple[int | None, bytes, bytes]:
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(program, "get", stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise CredentialsError(
            f"the credential helper {program} cannot be run: {error.strerror}",
            hint="install it, or name other credentials with --authfile",
        ) from error
    try:
        output, errors = await asyncio.wait_for(process.communicate(server.encode()), _TIMEOUT)
    except TimeoutError as error:
        raise CredentialsError(f"{program} does not answer within {_TIMEOUT} seconds") from error
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode, output, errors

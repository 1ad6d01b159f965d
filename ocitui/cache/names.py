"""Image names, parsed and printed as krata does, and the formats an image is packed in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from .errors import InvalidNameError

DEFAULT_HOSTNAME = "mirror.gcr.io"
DEFAULT_NAMESPACE = "library/"
_PORT = re.compile(r"\+?[0-9]+", re.ASCII)
_LARGEST_PORT = 65_535
_PORT_DIGITS = 5


@dataclass(frozen=True, slots=True)
class ImageName:
    """A name in the parts krata splits it into; ``str()`` gives krata's spelling, which is the one in the index."""

    hostname: str
    port: int | None
    name: str
    reference: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Read ``[HOST[:PORT]/]NAME[:REFERENCE][@DIGEST]`` by krata's rule, which takes nearly any text.

        Without a slash, or with one slash and no dot before it, there is no host: the whole is a name on
        ``mirror.gcr.io``. Raises InvalidNameError where the port is not a number of 16 bits.
        """
        hostname, port, rest = _split_host(text)
        name, reference, digest = _split_name(rest)
        if "/" not in text:
            name = DEFAULT_NAMESPACE + name
        return cls(hostname, port, name, reference, digest)

    def __str__(self) -> str:
        host, name = self.hostname, self.name
        if host == DEFAULT_HOSTNAME and self.port is None:
            prefix, name = "", name.removeprefix(DEFAULT_NAMESPACE)
        else:
            prefix = f"{host}/" if self.port is None else f"{host}:{self.port}/"
        tag = "" if self.reference is None else f":{self.reference}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{prefix}{name}{tag}{digest}"


def _split_host(text: str) -> tuple[str, int | None, str]:
    before, slash, after = text.partition("/")
    if not slash or ("/" not in after and "." not in before):
        return DEFAULT_HOSTNAME, None, text
    hostname, colon, port = before.partition(":")
    return hostname, _parse_port(port, text) if colon else None, after


def _parse_port(port: str, text: str) -> int:
    digits = port.removeprefix("+").lstrip("0") or "0"
    if not _PORT.fullmatch(port) or len(digits) > _PORT_DIGITS or int(digits) > _LARGEST_PORT:
        raise InvalidNameError(f"{text!r} is not an image name: {port!r} is not a port")
    return int(digits)


def _split_name(text: str) -> tuple[str, str | None, str | None]:
    at, colon = text.find("@"), text.find(":")
    if at >= 0 and (colon < 0 or at < colon):
        return text[:at], None, text[at + 1 :]
    name, has_reference, rest = text.partition(":")
    if not has_reference:
        return name, None, None
    reference, has_digest, digest = rest.partition("@")
    return name, reference, digest if has_digest else None


class PackedFormat(StrEnum):
    """A packed format; its value is the file's extension and the value of the format annotation."""

    SQUASHFS = "squashfs"
    EROFS = "erofs"
    TAR = "tar"

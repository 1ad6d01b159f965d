"""A document without what it says of its image: what the judge needs of it stays, at the same place, and every other
text is overwritten, so that whoever reads it comes to the same answer, to the line and column of an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from ocitui.cache import (
    BlobDescriptor,
    ContainerConfig,
    DocumentError,
    HistoryItem,
    ImageConfiguration,
    ImageManifest,
    Platform,
)

_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*+)(?:"|\\?\Z)|[{}\[\]:,]', re.DOTALL)
_SHOWN, _CONTROL = re.compile(rb"[^\x00-\x1f]"), re.compile(rb"[\x00-\x1f]")
_DIGEST = re.compile(rb"[a-z0-9]{1,10}:[0-9a-fA-F]{32,128}")
_TYPE = re.compile(rb"application/vnd\.[a-z0-9.+-]{1,80}")
_WORD = re.compile(rb"[\w./-]{0,24}", re.ASCII)
_TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,20}(?:Z|[+-][0-9:]{5})")
_BLOBS = ("config", "layers", "manifests", "subject")
_KEPT = {
    **dict.fromkeys(("mediaType", *(f"{one}.mediaType" for one in _BLOBS)), _TYPE),
    **dict.fromkeys(("rootfs.diff_ids", *(f"{one}.digest" for one in _BLOBS)), _DIGEST),
    **dict.fromkeys(("architecture", "os", "variant", "os.version", "rootfs.type"), _WORD),
    **dict.fromkeys(("created", "history.created"), _TIME),
}
"""By their paths, the texts that stay where they look like that."""
_OBJECTS = frozenset(("", *_BLOBS, *(f"{one}.platform" for one in _BLOBS), "rootfs", "history"))
_VIEWS: tuple[Any, ...] = (ImageManifest, BlobDescriptor, ImageConfiguration, ContainerConfig, HistoryItem, Platform)
_KEYS = frozenset(("manifests", "type", "diff_ids", *(key for view in _VIEWS for key in view.__struct_encode_fields__)))
# Before the place of an error: an escape that is wrong, or is one half of two.
_ESCAPE = re.compile(rb"(?:\\u[0-9a-fA-F]{4})?\\(?:u[0-9a-fA-F]{0,4})?.?\Z", re.DOTALL)


def redacted(raw: bytes, read: Callable[[bytes], object], filler: str) -> bytes:
    """A manifest or config with ``filler``, over and over, in place of all else; as long as it was. ``read`` is the
    daemon's reader of it, which comes to the same answer."""
    blank = filler.encode() * (len(raw) // len(filler) + 1)
    blanked = _blanked(raw, blank)
    with suppress(ValueError, RecursionError):
        msgspec.json.decode(raw)
        return bytes(blanked)
    # Nobody reads on from where it is no JSON; a byte there, or the escape, is what the error is about.
    error = _answer(read, raw)
    at = sum(len(line) + 1 for line in raw.split(b"\n")[: max(error[1] - 1, 0)]) + error[2] if error else 0
    escape = _ESCAPE.search(raw, max(at - 14, 0), at)
    for kept in (1, 0, len(escape[0]) if escape else 1):
        start = max(at - kept, 0)
        found = bytes(blanked[:start]) + raw[start:at] + blank[at : len(raw)]
        if _answer(read, found) == error:
            break
    return found


def _answer(read: Callable[[bytes], object], raw: bytes) -> tuple[str, int, int] | None:
    """The error of a document, and where."""
    try:
        read(raw)
    except DocumentError as error:
        return error.message, error.line, error.column
    return None


def _blanked(raw: bytes, blank: bytes) -> bytearray:
    found, stack, path, key, is_key = bytearray(raw), list[tuple[str, bool]](), "", "", False
    in_object = False
    for token in _TOKEN.finditer(raw):
        sign, text = token[0][:1], token[1]
        if text is not None:
            if is_key:
                stays = path in _OBJECTS and text.decode(errors="replace") in _KEYS
                key = text.decode() if stays else "?"
            else:
                wanted = _KEPT.get(_joined(path, key) if in_object else path)
                stays = wanted is not None and wanted.fullmatch(text) is not None
            if not stays:
                start, end = token.span(1)
                found[start:end] = _overwritten(text, blank[start:end])
        elif sign in b"{[":
            stack.append((path, in_object))
            path, in_object = _joined(path, key) if in_object else path, sign == b"{"
            is_key = in_object
        elif sign in b"}]" and stack:
            path, in_object = stack.pop()
            is_key = False
        else:
            is_key = in_object and sign == b","
    return found


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _overwritten(text: bytes, blank: bytes) -> bytes:
    """What stands in its place: a character that is none, or makes a line, stays one."""
    if _CONTROL.search(text):
        return _SHOWN.sub(b"x", text)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return blank[: error.start] + b"\xff" + blank[error.start + 1 :]
    return blank

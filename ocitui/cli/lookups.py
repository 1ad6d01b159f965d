"""`ocitui resolve` and `ocitui recall`: what the daemon would find, and why."""

from __future__ import annotations

from typing import Any

from ocitui.cache import Explanation, ImageIndex, ImageName, PackedFormat
from ocitui.cache.index_file import read_patiently
from ocitui.cache.lookup import explain_recall, explain_resolve

from .digests import find_digest
from .exits import ExitCode
from .options import Settings
from .output import emit, fail, say

_DAEMON_ERROR_HINT = "it heals only when that file is moved aside"


def resolve(settings: Settings, name_text: str, format_text: str) -> ExitCode:
    """Look a name up. Raises InvalidNameError, CorruptIndexError, CacheDirectoryError."""
    name = ImageName.parse(name_text)
    found = explain_resolve(settings.directory, _index(settings), name, PackedFormat(format_text))
    return _answer(settings, found, digest=found.descriptor.digest if found.descriptor else None, **_described(found))


def recall(settings: Settings, digest_text: str, format_text: str) -> ExitCode:
    """Look a digest up. Raises AmbiguousDigestError, CorruptIndexError, CacheDirectoryError."""
    index, format_ = _index(settings), PackedFormat(format_text)
    digest = find_digest(index.digests, digest_text)
    descriptor = index.by_key(digest, format_)
    name = ImageName.parse((descriptor.image_name if descriptor else None) or "")
    found = explain_recall(settings.directory, index, name, digest, format_)
    return _answer(settings, found, path=str(found.image.path) if found.image else None)


def _index(settings: Settings) -> ImageIndex:
    """Raises CorruptIndexError, CacheDirectoryError."""
    seen = read_patiently(settings.directory)
    seen.require_sound(settings.directory)
    return seen.contents


def _described(found: Explanation) -> dict[str, Any]:
    return {"descriptor": found.descriptor.as_dict() if found.descriptor else None}


def _answer(settings: Settings, found: Explanation, **keys: Any) -> ExitCode:
    keys = {"hit": found.hit, **keys, "reasons": [reason.text for reason in found.reasons]}
    if not settings.as_json:
        for step, reason in enumerate(found.reasons, 1):
            say(f"{step}. {reason.text}")
    if found.error:
        fail(settings, "document", f"the daemon fails at {found.error}", _DAEMON_ERROR_HINT, **keys)
        return ExitCode.UNCHECKED
    if settings.as_json:
        emit(settings, **keys)
    else:
        say(f"hit: {found.image.path}" if found.image else "miss: the daemon does not have it")
    return ExitCode.CLEAN if found.hit else ExitCode.PROBLEMS

"""`ocitui resolve` and `ocitui recall`: what the daemon would find, and why."""

from __future__ import annotations

from typing import Any

from ocitui.cache import Explanation, ImageName, PackedFormat

from .digests import find_digest
from .exits import ExitCode
from .options import Settings
from .output import emit, fail, say
from .running import cache_of, run_async

_DAEMON_ERROR_HINT = "it heals only when that file is moved aside"


def resolve(settings: Settings, name_text: str, format_text: str) -> ExitCode:
    """Look a name up. Raises InvalidNameError, CorruptIndexError, CacheDirectoryError."""
    name = ImageName.parse(name_text)
    found = run_async(cache_of(settings).explain_resolve(name, PackedFormat(format_text)))
    return _answer(settings, found, digest=found.descriptor.digest if found.descriptor else None, **_described(found))


def recall(settings: Settings, digest_text: str, format_text: str) -> ExitCode:
    """Look a digest up. Raises AmbiguousDigestError, CorruptIndexError, CacheDirectoryError."""
    cache, format_ = cache_of(settings), PackedFormat(format_text)

    async def look() -> Explanation:
        index = await cache.index()
        digest = find_digest(index.digests, digest_text)
        descriptor = index.by_key(digest, format_)
        name = ImageName.parse((descriptor.image_name if descriptor else None) or "")
        return await cache.explain_recall(name, digest, format_)

    found = run_async(look())
    return _answer(settings, found, path=str(found.image.path) if found.image else None)


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

"""Digests as an operator types them: whole, or by their beginning."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .failures import AmbiguousDigestError, UsageProblemError

_WHOLE = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def is_whole(text: str) -> bool:
    """Whether this is a digest that needs no index to be understood."""
    return _WHOLE.fullmatch(text) is not None


def find_digest(digests: Iterable[str], text: str) -> str:
    """The digest that ``text`` is, or begins, with or without the algorithm; ``text`` itself where none does.

    Raises AmbiguousDigestError with the candidates, UsageProblemError for a text without a single digit.
    """
    if not text.rpartition(":")[2]:
        raise UsageProblemError("a digest is needed, or its beginning", hint="ocitui list shows them")
    candidates = list(dict.fromkeys(digest for digest in digests if _begins(digest, text)))
    if text in candidates or not candidates:
        return text
    if len(candidates) > 1:
        raise AmbiguousDigestError(f"{text!r} begins {len(candidates)} digests: {', '.join(candidates)}")
    return candidates[0]


def _begins(digest: str, text: str) -> bool:
    return digest.startswith(text) or digest.rpartition(":")[2].startswith(text)

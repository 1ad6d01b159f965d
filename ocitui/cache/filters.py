"""The filter language of the table and of `list --filter`.

Words are joined by AND; each is a substring of the name, tag, digest, format, platform or state, without regard to
case; ``!word`` excludes; ``name: tag: digest: format: platform: state:`` look in one field; ``size>100M`` and
``size<1G`` compare the packed file (powers of 1024); ``state:bad`` is every entry that is not ok; ``used:`` every one
whose packed file a loop device holds, ``used:loop3`` those that this one does.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .entries import Entry

Predicate = Callable[[Entry], bool]
_SIZE = re.compile(r"size([<>])(\d+(?:\.\d+)?)([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_FIELDS: dict[str, Callable[[Entry], str]] = {
    "name": lambda entry: entry.name,
    "tag": lambda entry: entry.reference,
    "digest": lambda entry: entry.digest,
    "format": lambda entry: entry.format,
    "platform": lambda entry: entry.platform,
    "state": lambda entry: entry.state.word,
    "used": lambda entry: entry.used,
}


def compile_filter(text: str) -> Predicate:
    """A test for entries; an empty text lets all pass."""
    tests = [_compile_word(word) for word in text.split()]
    if len(tests) == 1:
        return tests[0]
    return lambda entry: all(test(entry) for test in tests)


def misread_sizes(text: str) -> list[str]:
    """The words that look like a comparison of sizes and are none, so that they are searched for as they stand."""
    words = (word.lstrip("!") for word in text.split())
    return [word for word in words if word.lower().startswith(("size<", "size>")) and not _SIZE.fullmatch(word)]


def _compile_word(word: str) -> Predicate:
    wanted = word.lstrip("!") or "!"
    test = _compile_wanted(wanted)
    return (lambda entry: not test(entry)) if (len(word) - len(wanted)) % 2 else test


def _compile_wanted(word: str) -> Predicate:
    if comparison := _SIZE.fullmatch(word):
        return _compile_size(comparison[1], float(comparison[2]) * _UNITS[comparison[3].lower()])
    field, colon, wanted = word.lower().partition(":")
    if colon and field in _FIELDS:
        if field == "state" and wanted == "bad":
            return lambda entry: entry.state.bad
        if field == "used":
            return lambda entry: bool(entry.used) and wanted in entry.used
        read = _FIELDS[field]
        return lambda entry: wanted in read(entry).lower()
    return _compile_substring(word.lower())


def _compile_size(sign: str, bound: float) -> Predicate:
    if sign == ">":
        return lambda entry: entry.packed_size is not None and entry.packed_size > bound
    return lambda entry: entry.packed_size is not None and entry.packed_size < bound


def _compile_substring(wanted: str) -> Predicate:
    def test(entry: Entry) -> bool:
        text = f"{entry.name}:{entry.reference} {entry.digest} {entry.format} {entry.platform} {entry.state.word}"
        return wanted in text.lower()

    return test

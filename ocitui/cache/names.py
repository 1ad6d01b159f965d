"""Image names, parsed and printed as krata does, and how an operator names an entry by them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from .errors import AmbiguousDigestError, InvalidNameError
from .files import PackedFormat

DEFAULT_HOSTNAME = "mirror.gcr.io"
DEFAULT_NAMESPACE = "library/"
_PORT = re.compile(r"\+?0*([0-9]{1,5})")
_LARGEST_PORT = 65_535
_PARTS = re.compile(r"([^:@]*)(?::([^@]*))?(?:@(.*))?", re.DOTALL)
"""A name, its reference and its digest; any text has this form."""


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
        """Read ``[HOST[:PORT]/]NAME[:REFERENCE][@DIGEST]`` by krata's rule, which takes nearly any text. Without a
        slash, or with one slash and no dot before it, there is no host: the whole is a name on ``mirror.gcr.io``.
        Raises InvalidNameError where the port is not a number of 16 bits."""
        hostname, port, rest = _split_host(text)
        parts = _PARTS.fullmatch(rest)
        assert parts is not None
        name, reference, digest = parts.groups()
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
    if not colon:
        return hostname, None, after
    found = _PORT.fullmatch(port)
    if found is None or int(found[1]) > _LARGEST_PORT:
        raise InvalidNameError(f"{text!r} is not an image name: {port!r} is not a port")
    return hostname, int(found[1]), after


LEAST_DIGITS = 4
"""Of a digest or an id, for which a word is taken that is the beginning of one."""
_TOO_SHORT = re.compile(r"(?:sha(?:256|384|512):[0-9a-f]{0,3})?")


class NamedEntry(NamedTuple):
    """What a word names: the entries of a digest, those in ``format`` alone where the word ends with one. ``text`` is
    the word without its format, ``by_name`` whether that is a name, and ``overruled`` are the other digests that carry
    the same name, and that the daemon passes over."""

    text: str
    digest: str
    by_name: bool = False
    overruled: tuple[str, ...] = ()
    format: PackedFormat | None = None

    def asked_format(self, asked: str | None) -> PackedFormat | None:
        """The word's format, or the one ``asked`` for besides. Raises AmbiguousDigestError where they differ."""
        if self.format and asked and self.format != asked:
            both = f"{self.text}.{self.format} is in {self.format}, and {asked} is asked for"
            raise AmbiguousDigestError(both, hint="leave one of the two formats out")
        return self.format or (PackedFormat(asked) if asked else None)


def find_entry(
    word: str, digests: Sequence[str], names: Sequence[str | None], held: Iterable[str] = ()
) -> NamedEntry | None:
    """What a word names among entries with these digests and image names, in the order of the index; None: nothing.

    The whole word is a name, as it is written or as krata spells it, and of several that carry it the last, as for the
    daemon; else a digest or its beginning, with or without the algorithm; else either of them and ``.FORMAT``. ``held``
    are digests that are known besides. Raises AmbiguousDigestError where more than one is meant, or may be.
    """
    held = tuple(held)

    def find(text: str) -> NamedEntry | None:
        return _by_name(text, digests, names) or _by_digest(text, chain(digests, held))

    if (found := find(word)) is not None:
        return found
    for form in PackedFormat:
        if word.endswith(f".{form}") and (found := find(word.removesuffix(f".{form}"))) is not None:
            return found._replace(format=form)
    if _TOO_SHORT.fullmatch(word):
        hint = f"give {LEAST_DIGITS} digits or more; ocitui list shows them"
        raise AmbiguousDigestError(f"{word!r} is too short to tell a digest by", hint=hint)
    return None


def spelled(word: str) -> str:
    """A name as krata spells it; what is none stays as it is."""
    try:
        return str(ImageName.parse(word))
    except InvalidNameError:
        return word


def stem_of(name: str) -> str:
    """A name without its tag and digest, in lower case, for telling what is alike."""
    name = name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}".lower()


def _by_name(word: str, digests: Sequence[str], names: Sequence[str | None]) -> NamedEntry | None:
    """Raises AmbiguousDigestError."""
    spellings = [one for one in dict.fromkeys((spelled(word), word)) if one in names]
    carriers = [[at for at, name in enumerate(names) if name == one] for one in spellings]
    winners = dict.fromkeys(digests[places[-1]] for places in carriers)
    if len(winners) > 1:
        told = " and ".join(f"{one!r} of {digest}" for one, digest in zip(spellings, winners, strict=True))
        raise AmbiguousDigestError(f"two entries have that name: {told}", hint="give the digest")
    all_of_them = dict.fromkeys(digests[at] for places in carriers for at in places)
    for one in winners:
        return NamedEntry(word, one, True, tuple(other for other in all_of_them if other != one))
    return None


def _by_digest(word: str, digests: Iterable[str]) -> NamedEntry | None:
    """Raises AmbiguousDigestError."""
    digits = word.rpartition(":")[2]
    begun = [one for one in dict.fromkeys(digests) if (one if digits != word else _digits(one)).startswith(word)]
    whole = [one for one in begun if word in (one, _digits(one))]
    if not digits or (not whole and len(digits) < LEAST_DIGITS):
        return None
    if len(begun) > 1 and len(whole) != 1:
        raise AmbiguousDigestError(f"{word!r} begins {len(begun)} digests: {', '.join(begun)}")
    return next((NamedEntry(word, one) for one in whole or begun), None)


def _digits(digest: str) -> str:
    return digest.rpartition(":")[2]

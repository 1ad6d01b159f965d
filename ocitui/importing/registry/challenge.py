"""What a registry asks for: the `WWW-Authenticate` field of RFC 9110, 11.6.1.

    challenge  = auth-scheme [ 1*SP ( token68 / [ auth-param *( OWS "," OWS auth-param ) ] ) ]
    auth-param = token BWS "=" BWS ( token / quoted-string )

Challenges are separated by commas, and so are their parameters; a quoted string may hold commas too, as the scope
`repository:a:pull,push` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"({_TOKEN})(?=[ \t,]|\Z)")
_TOKEN68 = re.compile(r"([A-Za-z0-9._~+/-]+=*)(?=[ \t]*(?:,|\Z))")
# Some registries leave out the quotes of an address, though it holds what no token may.
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))', re.DOTALL)
_BETWEEN = re.compile(r"[ \t,]*")
_SPACE = re.compile(r"[ \t]*")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: ``scheme`` and the names of ``parameters`` in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)
    token68: str = ""


def parse_challenges(fields: Iterable[str]) -> list[Challenge]:
    """All challenges of the field's lines, in order. What follows something that fits no rule is left out."""
    return [challenge for line in fields for challenge in _parse_line(line)]


def _parse_line(line: str) -> list[Challenge]:
    challenges = []
    position = _after(_BETWEEN, line, 0)
    while match := _SCHEME.match(line, position):
        challenge, position = _parse_rest(match[1].lower(), line, _after(_SPACE, line, match.end()))
        challenges.append(challenge)
        position = _after(_BETWEEN, line, position)
    return challenges


def _parse_rest(scheme: str, line: str, position: int) -> tuple[Challenge, int]:
    """What follows a scheme, and where the next challenge may begin."""
    if match := _TOKEN68.match(line, position):
        return Challenge(scheme, token68=match[1]), match.end()
    parameters: dict[str, str] = {}
    while match := _PARAMETER.match(line, position):
        name, quoted, plain = match.groups()
        parameters.setdefault(name.lower(), plain if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted))
        position = _after(_BETWEEN, line, match.end())
    return Challenge(scheme, parameters), position


def _after(pattern: re.Pattern[str], line: str, position: int) -> int:
    match = pattern.match(line, position)
    return match.end() if match else position

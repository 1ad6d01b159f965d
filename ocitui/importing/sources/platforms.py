"""Platforms: as an operator writes them, this machine's, and which of several fits best.

Names are Go's (`GOOS`, `GOARCH`), as the OCI image-spec says (image-index.md). Other spellings and the variant that
goes without saying are those of containerd's `platforms` package.
"""

from __future__ import annotations

import platform as machine
import re
import sys

from ocitui.cache import Platform

from ..errors import NoSuchImageError

_ARCHITECTURES = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", None),
    "i486": ("386", None),
    "i586": ("386", None),
    "i686": ("386", None),
    "x86": ("386", None),
    "loongarch64": ("loong64", None),
}
# The variant that is meant where none is written.
_UNSAID = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
_VARIANT = re.compile(r"v?([0-9]+)(?:\.([0-9]+))?", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def parse_platform(text: str) -> Platform:
    """Read ``OS/ARCHITECTURE[/VARIANT]``, or an architecture of linux alone. Raises NoSuchImageError."""
    words = text.split("/")
    if len(words) > 3 or not all(_WORD.fullmatch(word) for word in words):
        raise NoSuchImageError(f"{text!r} is not a platform", hint="write it as linux/arm64 or linux/arm/v7")
    if len(words) == 1:
        words = ["linux", *words]
    return _normal(words[0].lower(), words[1].lower(), words[2].lower() if len(words) == 3 else None)


def this_platform() -> Platform:
    """The platform of this machine."""
    return _normal(sys.platform, machine.machine().lower(), None)


def fit(wanted: Platform, offered: Platform) -> tuple[int, ...] | None:
    """How well ``offered`` runs on ``wanted``: the greater the better; None where it does not.

    A processor runs what was made for an earlier variant of its architecture.
    """
    wanted, offered = normal(wanted), normal(offered)
    if (wanted.os, wanted.architecture) != (offered.os, offered.architecture):
        return None
    if wanted.variant == offered.variant:
        return (sys.maxsize,)
    mine, its = _number(wanted), _number(offered)
    return its if mine and its and its <= mine else None


def normal(platform: Platform) -> Platform:
    """The same in the usual spelling: `x86_64` is amd64, arm64's v8 goes without saying."""
    return _normal(platform.os.lower(), platform.architecture.lower(), platform.variant)


def _normal(os: str, architecture: str, variant: str | None) -> Platform:
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, None))
    variant = variant.lower() if variant else implied
    if variant and variant.isascii() and variant[0].isdigit():
        variant = f"v{variant}"
    if architecture == "arm":
        variant = variant or _UNSAID["arm"]
    elif variant == _UNSAID.get(architecture):
        variant = None
    return Platform(architecture, os, variant=variant)


def _number(platform: Platform) -> tuple[int, ...] | None:
    match = _VARIANT.fullmatch(platform.variant or _UNSAID.get(platform.architecture, ""))
    return (int(match[1]), int(match[2] or 0)) if match else None

"""From the descriptors at the root of a source, through nested indexes, to its images, and the choice of one.

The choice is by platform. Names are Go's (`GOOS`, `GOARCH`), as the OCI image-spec says (image-index.md). Other
spellings and the variant that goes without saying are those of containerd's `platforms` package.
"""

from __future__ import annotations

import platform as machine
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ocitui.cache import Document, ImageConfiguration, ImageManifest, ImageName, InvalidNameError, Platform
from ocitui.cache.documents import BlobDescriptor

from ..errors import NoSuchImageError, UnsoundSourceError
from .images import (
    INDEXES,
    LARGEST_CONFIG,
    LARGEST_DOCUMENT,
    MANIFESTS,
    SourceImage,
    check_bytes,
    check_descriptor,
    digest_of,
    layers_of,
    media_type_of,
    read_config,
    read_index,
    read_manifest,
)

_ARCHITECTURES = {
    **dict.fromkeys(("x86_64", "x86-64"), ("amd64", None)),
    "aarch64": ("arm64", None),
    **dict.fromkeys(("armhf", "armv7l", "armv8l"), ("arm", "v7")),
    **dict.fromkeys(("armel", "armv6l"), ("arm", "v6")),
    **dict.fromkeys(("i386", "i486", "i586", "i686", "x86"), ("386", None)),
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
    return normal(Platform(words[1], words[0], variant=words[2] if len(words) == 3 else None))


def this_platform() -> Platform:
    """The platform of this machine."""
    return normal(Platform(machine.machine(), sys.platform))


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
    architecture = platform.architecture.lower()
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, None))
    variant = platform.variant.lower() if platform.variant else implied
    if variant and variant.isascii() and variant[0].isdigit():
        variant = f"v{variant}"
    if architecture == "arm":
        variant = variant or _UNSAID["arm"]
    elif variant == _UNSAID.get(architecture):
        variant = None
    return Platform(architecture, platform.os.lower(), variant=variant)


def _number(platform: Platform) -> tuple[int, ...] | None:
    match = _VARIANT.fullmatch(platform.variant or _UNSAID.get(platform.architecture, ""))
    return (int(match[1]), int(match[2] or 0)) if match else None


ReadBlob = Callable[[BlobDescriptor, int], Awaitable[bytes]]
"""Gives a document's bytes, at most so many; who calls it checks the digest."""

_DEEPEST = 8
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Leaf:
    """A manifest in the tree. ``indexes`` are the digests above it; without any it stands at the root."""

    descriptor: BlobDescriptor
    names: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    platform: Platform | None = None

    @property
    def digest(self) -> str:
        return self.descriptor.digest


async def find_leaves(roots: Iterable[tuple[BlobDescriptor, tuple[str, ...]]], read: ReadBlob) -> list[Leaf]:
    """All manifests below the roots, in order; attestations and the like are left out. Raises SourceError."""
    leaves: dict[tuple[str, tuple[str, ...]], Leaf] = {}
    pending = [_leaf(descriptor, names) for descriptor, names in reversed(list(roots))]
    seen = 0
    while pending:
        leaf = pending.pop()
        seen += 1
        if seen > _MOST or len(leaf.indexes) > _DEEPEST:
            raise UnsoundSourceError("the indexes hold too much, or hold each other")
        if _is_attestation(leaf.descriptor):
            continue
        check_descriptor("a manifest", leaf.descriptor, LARGEST_DOCUMENT)
        below = await _below(leaf, read)
        if below is not None:
            pending.extend(reversed(below))
        else:
            leaves.setdefault((leaf.digest, leaf.names), leaf)
    return list(leaves.values())


async def _below(leaf: Leaf, read: ReadBlob) -> list[Leaf] | None:
    """What stands in an index; None for a manifest."""
    media_type = leaf.descriptor.media_type
    if media_type in MANIFESTS:
        return None
    what = f"the {'index' if media_type in INDEXES else 'manifest'} {leaf.digest}"
    raw = await read_checked(what, leaf.descriptor, LARGEST_DOCUMENT, read)
    if media_type_of(what, raw, media_type) not in INDEXES:
        return None
    return [_leaf(child, leaf.names, (*leaf.indexes, leaf.digest)) for child in read_index(what, raw)]


def _leaf(descriptor: BlobDescriptor, names: tuple[str, ...], indexes: tuple[str, ...] = ()) -> Leaf:
    return Leaf(descriptor, names, indexes, normal(descriptor.platform) if descriptor.platform else None)


async def read_checked(what: str, descriptor: BlobDescriptor, largest: int, read: ReadBlob) -> bytes:
    """A document's bytes, once its descriptor, its size and its digest were checked. Raises SourceError."""
    check_descriptor(what, descriptor, largest)
    raw = await read(descriptor, largest)
    check_bytes(what, raw, descriptor.digest, descriptor.size)
    return raw


def choose(leaves: Sequence[Leaf], wanted: Platform | None) -> Leaf:
    """The leaf of the platform; None is this machine's. Raises NoSuchImageError where there is none, or several.

    One manifest that stands in no index is taken without a word on its platform, which its config says.
    """
    if len({leaf.digest for leaf in leaves}) == 1 and (not leaves[0].indexes or leaves[0].platform is None):
        return leaves[0]
    target = wanted or this_platform()
    fits = [(score, leaf) for leaf in leaves if leaf.platform and (score := fit(target, leaf.platform)) is not None]
    if not fits:
        raise NoSuchImageError(
            f"there is no image for {target}, only for {_platforms(leaves)}", hint="choose one with --platform"
        )
    best = max(score for score, _ in fits)
    chosen = [leaf for score, leaf in fits if score == best]
    if len({leaf.digest for leaf in chosen}) > 1 and len({leaf.names for leaf in chosen}) > 1:
        names = ", ".join(dict.fromkeys(name or leaf.digest for leaf in chosen for name in leaf.names or ("",)))
        raise NoSuchImageError(f"there are several images: {names}", hint="name one of them after the path and a colon")
    return chosen[0]


async def read_image(leaf: Leaf, wanted: Platform | None, image_name: ImageName | None, read: ReadBlob) -> SourceImage:
    """The leaf's manifest and config, read and checked. Raises SourceError; NoSuchImageError for another platform."""
    what = f"the manifest {leaf.digest}"
    raw = await read_checked(what, leaf.descriptor, LARGEST_DOCUMENT, read)
    media_type_of(what, raw, leaf.descriptor.media_type)
    manifest = read_manifest(what, raw)
    what = f"the config {manifest.value.config.digest}"
    config_raw = await read_checked(what, manifest.value.config, LARGEST_CONFIG, read)
    return image_of(leaf.names, image_name, manifest, read_config(what, config_raw, manifest.value), wanted)


def image_of(
    names: tuple[str, ...],
    image_name: ImageName | None,
    manifest: Document[ImageManifest],
    config: Document[ImageConfiguration],
    wanted: Platform | None,
) -> SourceImage:
    """The image of these documents. Raises UnsoundSourceError, NoSuchImageError for another platform."""
    layers = layers_of(manifest.value, config.value)
    notes = check_platform(config.value.platform, wanted)
    return SourceImage(names, image_name, digest_of(manifest.raw), manifest, config, layers, notes=notes)


def check_platform(found: Platform, wanted: Platform | None) -> tuple[str, ...]:
    """A note where the image is not for this machine. Raises NoSuchImageError where it is not as ``wanted``."""
    if wanted is not None and fit(wanted, found) is None:
        raise NoSuchImageError(f"the image is for {found}, not for {wanted}", hint="leave out --platform to take it")
    if wanted is None and fit(this_platform(), found) is None:
        return (f"the image is for {found}, this machine is {this_platform()}",)
    return ()


def first_name(texts: Iterable[str]) -> ImageName | None:
    """krata's reading of the first name that a source gives which is one, and not a mere tag."""
    for text in texts:
        with suppress(InvalidNameError):
            if any(mark in text for mark in ":/"):
                return ImageName.parse(text)
    return None


def _platforms(leaves: Sequence[Leaf]) -> str:
    return ", ".join(dict.fromkeys(str(leaf.platform or "an unknown platform") for leaf in leaves)) or "none"


def _is_attestation(descriptor: BlobDescriptor) -> bool:
    """BuildKit's attestations stand in an index as manifests of the platform unknown/unknown."""
    if "vnd.docker.reference.type" in (descriptor.annotations or {}):
        return True
    platform = descriptor.platform
    return platform is not None and platform.os == "unknown" and platform.architecture == "unknown"

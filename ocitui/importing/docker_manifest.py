"""A manifest for an archive of Docker before 25, which keeps none: made from its config and layers.

The manifest is Docker's schema 2 (distribution, image manifest version 2), as skopeo writes it for such an archive but
for the media type of a layer that is not compressed: the same archive always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ocitui.cache import Document, DocumentError
from ocitui.threads import Stop

from .archive import Archive
from .archive_headers import Member
from .image_documents import DOCKER_CONFIG, DOCKER_MANIFEST, digest_of
from .layer_places import digests_of
from .references import is_digest
from .source_errors import UnsoundSourceError, UnsupportedImageError

_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class MadeManifest:
    """The manifest's bytes, and the files of its layers by digest."""

    raw: bytes
    members: dict[str, Member]


def make_manifest(archive: Archive, config: str, config_raw: bytes, layers: Sequence[str], stop: Stop) -> MadeManifest:
    """Describe the layers, which stand in the archive by these names. Raises SourceError.

    A layer that is not compressed has its diff_id for a digest, so it need not be read here.
    """
    diff_ids = _diff_ids(config, config_raw)
    if len(diff_ids) != len(layers):
        raise UnsoundSourceError(f"manifest.json names {len(layers)} layers for {config}, which has {len(diff_ids)}")
    members = [_member(archive, name) for name in layers]
    suffixes = [_compression(archive.start_of(member)) for member in members]
    read = digests_of(archive, [member for member, suffix in zip(members, suffixes, strict=True) if suffix], stop)
    digests = [read.get(member, diff_id) for member, diff_id in zip(members, diff_ids, strict=True)]
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _descriptor(DOCKER_CONFIG, len(config_raw), digest_of(config_raw)),
        "layers": [
            _descriptor(_LAYER + suffix, member.size, digest)
            for member, suffix, digest in zip(members, suffixes, digests, strict=True)
        ],
    }
    return MadeManifest(msgspec.json.encode(document), dict(zip(digests, members, strict=True)))


def _diff_ids(config: str, raw: bytes) -> list[str]:
    try:
        diff_ids = Document.config(raw).value.rootfs.diff_ids
    except DocumentError as error:
        raise UnsupportedImageError(f"the config {config} is one that the daemon refuses: {error.message}") from error
    for number, diff_id in enumerate(diff_ids, 1):
        if not is_digest(diff_id):
            raise UnsoundSourceError(f"layer {number} has the diff_id {diff_id[:80]!r}, which is no sha256 digest")
    return diff_ids


def _member(archive: Archive, name: str) -> Member:
    member = archive.find(name)
    if member is None:
        raise UnsoundSourceError(f"the layer {name} is not in {archive.path}")
    return member


def _compression(start: bytes) -> str:
    if start.startswith(_GZIP):
        return ".gzip"
    return ".zstd" if start == _ZSTD else ""


def _descriptor(media_type: str, size: int, digest: str) -> dict[str, str | int]:
    return {"mediaType": media_type, "size": size, "digest": digest}

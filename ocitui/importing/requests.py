"""What an import is asked to do, as it was typed: kept on disk while it runs, so that it can be gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import msgspec

from ocitui.cache import ImageName, PackedFormat

from .home_paths import optional_path
from .layers.layers import LayerLimits
from .packing.flatten_messages import FlattenOptions
from .packing.packer_base import PackOptions
from .registry.options import RegistryOptions
from .sources.base import SourceKind
from .sources.opening import SourceOptions, recognise
from .sources.platforms import parse_platform

_VERSION = 2


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``source`` in skopeo's spelling, or a path. ``name`` is None for what the source calls the image.

    ``rename`` lets the name take over an entry of the same digest and format; ``again`` fetches and packs an image that
    the cache has already. ``manifest`` and ``config`` are for packed files only, paths that do not stand beside them.
    No secret is in here: ``authfile`` is where credentials are.
    """

    source: str
    name: str | None = None
    format: PackedFormat = PackedFormat.SQUASHFS
    platform: str | None = None
    compression: str | None = None
    level: int | None = None
    max_bytes: int | None = None
    max_entries: int | None = None
    tls_ca: str | None = None
    plain_http: bool = False
    authfile: str | None = None
    mirror: str | None = None
    manifest: str | None = None
    config: str | None = None
    rename: bool = False
    again: bool = False

    @classmethod
    def from_json(cls, data: bytes) -> ImportRequest:
        """What `to_json` wrote, or the first version, without its own. Raises ValueError."""
        fields = json.loads(data)
        if isinstance(fields, dict) and fields.pop("version", 1) not in (1, _VERSION):
            raise ValueError("it is of a later ocitui")
        return msgspec.convert(fields, ImportRequest)

    def to_json(self) -> bytes:
        """In ASCII, so that paths that are not UTF-8 pass as the surrogates they are."""
        return json.dumps({"version": _VERSION, **msgspec.to_builtins(self)}).encode("ascii")

    @property
    def image_name(self) -> ImageName | None:
        """Raises InvalidNameError."""
        return ImageName.parse(self.name) if self.name else None

    def source_options(self, notify: Callable[[str], None] = lambda message: None) -> SourceOptions:
        """How to open the source; ``notify`` is told why a registry is asked again. Raises NoSuchImageError."""
        return SourceOptions(
            platform=parse_platform(self.platform) if self.platform else None,
            registry=RegistryOptions(
                tls_ca=optional_path(self.tls_ca),
                plain_http=self.plain_http,
                authfile=optional_path(self.authfile),
                mirror=self.mirror,
                notify=notify,
            ),
        )

    @property
    def flatten_options(self) -> FlattenOptions:
        """How to flatten and pack."""
        limits = LayerLimits()
        return FlattenOptions(
            LayerLimits(
                unpacked_bytes=self.max_bytes or limits.unpacked_bytes, entries=self.max_entries or limits.entries
            ),
            PackOptions(compression=self.compression, level=self.level),
        )

    def with_absolute_paths(self) -> ImportRequest:
        """The same, whatever the working directory is later. Raises SourceError where there is no such source."""
        found = recognise(self.source)
        source = self.source
        if found.kind is not SourceKind.REGISTRY:
            rest = found.rest.removeprefix("./")
            source = f"{found.kind}:{os.path.join(os.getcwd(), rest)}"
        files = {
            name: os.path.abspath(os.path.expanduser(path))
            for name in ("tls_ca", "authfile", "manifest", "config")
            if (path := getattr(self, name)) is not None
        }
        return msgspec.structs.replace(self, source=source, **files)


# It reads the type before there are threads, two of which may not convert to it for the first time together.
_DECODER = msgspec.json.Decoder(ImportRequest)

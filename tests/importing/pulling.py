"""Pulls in tests: without the operator's credentials, without waiting, and with what was waited for on record."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from ocitui.cache import Platform
from ocitui.importing.layers.layers import LayerSource
from ocitui.importing.registry.client import RegistrySource
from ocitui.importing.sources.images import SourceImage
from ocitui.importing.sources.references import Credentials, RegistryOptions, SourceOptions
from ocitui.importing.staging import BlobProgress, BlobStore, unheard
from tests.importing.image_makers import Made

AMD64 = Platform("amd64", "linux")


@dataclass
class Waits:
    """Stands for `asyncio.sleep`."""

    seconds: list[float] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


@dataclass
class Pull:
    """One pull of ``name`` into ``blobs``."""

    name: str
    blobs: BlobStore
    waits: Waits = field(default_factory=Waits)
    authfile: Path | None = None
    tls_ca: Path | None = None
    plain_http: bool = True
    timeout: float = 10
    mirror: str | None = None
    platform: Platform | None = AMD64
    environment: dict[str, str] = field(default_factory=dict)
    logins: dict[str, Credentials] = field(default_factory=dict)

    def source(self) -> RegistrySource:
        options = RegistryOptions(
            tls_ca=self.tls_ca,
            plain_http=self.plain_http,
            authfile=self.authfile,
            mirror=self.mirror,
            timeout=self.timeout,
            sleep=self.waits.sleep,
            notify=self.waits.messages.append,
            environment=self.environment,
            logins=self.logins,
        )
        return RegistrySource(self.name, SourceOptions(self.platform, options))

    async def resolve(self) -> SourceImage:
        source = self.source()
        try:
            return await source.resolve()
        finally:
            await source.aclose()

    async def run(self, progress: BlobProgress = unheard) -> list[LayerSource]:
        source = self.source()
        try:
            return [one async for one in source.fetch(await source.resolve(), self.blobs, progress)]
        finally:
            await source.aclose()


def is_whole(layers: list[LayerSource], image: Made) -> bool:
    """Whether these files hold the image's layers."""
    return [layer.path.read_bytes() for layer in layers] == list(image.layers)


def write_auths(path: Path, host: str, **entry: str) -> Path:
    path.write_text(json.dumps({"auths": {host: entry}}))
    return path

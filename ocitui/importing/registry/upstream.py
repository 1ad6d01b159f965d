"""What a registry gives krata's own client today, for who asks whether an image can come back: nothing is pulled.

The rules are those of `crates/oci/src/registry.rs` and `fetch.rs`: the daemon's seed first, then the registry of the
name, as one whom nobody knows."""

from __future__ import annotations

from contextlib import aclosing, suppress
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec.structs import replace

from ocitui.cache import MOST_DOCUMENT_BYTES, ImageName

from ..errors import DeniedError, NoSuchImageError, SourceError
from ..sources.images import INDEXES, check_bytes, digest_of, media_type_of, read_index, read_manifest, this_platform
from ..sources.opening import open_source
from ..sources.references import Reference, RegistryOptions
from .client import RegistryClient

_SEED_PREFIX, _REGISTRY_PREFIX = "oci-archive:", "docker://"


class Upstream(StrEnum):
    """DAEMON: its own client gets the image, from its seed or the registry. LOGIN: ocitui gets it, with what the daemon
    has not. GONE: nobody does. UNKNOWN: it could not be asked."""

    DAEMON = "daemon"
    LOGIN = "login"
    GONE = "gone"
    UNKNOWN = "unknown"


class UpstreamAnswer(msgspec.Struct, frozen=True):
    """``text`` says who gives it, or why nobody does; ``today`` is what the name gives there now, empty if unknown."""

    upstream: Upstream
    text: str
    today: str = ""


async def ask_upstream(
    name: ImageName, digest: str, options: RegistryOptions, *, seed: Path | None = None, source: str = ""
) -> UpstreamAnswer:
    """Whether an image of this name and digest can be had whole: by the daemon, whose first place is ``seed``, else by
    ocitui with its own ``options``, from the registry that is its recorded ``source``. Never raises."""
    if seed is not None:
        try:
            if digest in await _seeded(seed):
                return UpstreamAnswer(Upstream.DAEMON, f"the daemon's seed {seed} holds it")
        except SourceError as error:
            return UpstreamAnswer(Upstream.UNKNOWN, f"the daemon pulls nothing: its seed fails: {error.message}")
    options, today, refusals = replace(options, tries=1, timeout=min(options.timeout, 10)), "", list[SourceError]()
    # The daemon has neither option.
    for access in (replace(options, plain_http=False, tls_ca=None, as_daemon=True), options):
        as_daemon = access.as_daemon
        host, path = _of_daemon(name) if as_daemon else _of_source(source) or _of_daemon(name)
        async with aclosing(RegistryClient(host, path, access)) as client:
            try:
                if as_daemon:
                    today = await _digest_today(client, name.digest or name.reference or "latest")
            except NoSuchImageError:
                # The tag is gone, and what it stood for need not be.
                pass
            except SourceError as error:
                refusals.append(error)
                continue
            try:
                await _need_whole(client, digest)
            except SourceError as error:
                refusals.append(error)
            else:
                who = "the daemon's own client" if as_daemon else "ocitui, with what the daemon has not"
                return UpstreamAnswer(_GIVEN[as_daemon], f"{host} gives it to {who}", today)
    gone = all(isinstance(one, NoSuchImageError | DeniedError) for one in refusals)
    return UpstreamAnswer(Upstream.GONE if gone else Upstream.UNKNOWN, refusals[0].message, today)


_GIVEN = {True: Upstream.DAEMON, False: Upstream.LOGIN}


def _of_daemon(name: ImageName) -> tuple[str, str]:
    """The host, and the path there, that the daemon asks for a name."""
    return name.hostname if name.port is None else f"{name.hostname}:{name.port}", name.name


def _of_source(source: str) -> tuple[str, str] | None:
    # A bare name on record is a registry's: every other kind has its prefix and a path, which no reference has.
    with suppress(SourceError):
        reference = Reference.parse(source.removeprefix(_REGISTRY_PREFIX))
        return reference.registry, reference.path
    return None


async def _seeded(seed: Path) -> set[str]:
    """The digests of the images that a seed holds. Raises SourceError."""
    async with aclosing(await open_source(f"{_SEED_PREFIX}{seed}")) as source:
        return {image.digest for image in (await source.listing()).images}


async def _digest_today(client: RegistryClient, wanted: str) -> str:
    """What the daemon is given: of an index the first of linux and this machine, if any. Raises SourceError."""
    raw, sent_as = await client.manifest(wanted)
    if media_type_of(f"the manifest of {wanted}", raw, sent_as) not in INDEXES:
        return digest_of(raw)
    own = ("linux", this_platform().architecture)
    platforms = ((one.digest, one.platform) for one in read_index(f"the index of {wanted}", raw))
    return next((digest for digest, one in platforms if one is not None and (one.os, one.architecture) == own), "")


async def _need_whole(client: RegistryClient, digest: str) -> None:
    """See that the manifest, config and layers of an image are there. Raises SourceError."""
    raw, _ = await client.manifest(digest)
    check_bytes(f"the manifest {digest}", raw, digest)
    manifest = read_manifest(f"the manifest {digest}", raw).value
    await client.small_blob(manifest.config.digest, MOST_DOCUMENT_BYTES)
    for one in {layer.digest: layer for layer in manifest.layers}.values():
        if not one.urls:
            await client.need_blob(one.digest)

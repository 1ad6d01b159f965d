"""The descriptor that an index needs of an image that comes in."""

from __future__ import annotations

from collections.abc import Mapping

from ocitui.cache import Descriptor, Document, ImageConfiguration, ImageManifest

from .image_documents import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_MANIFEST


def describe_image(
    digest: str,
    manifest: Document[ImageManifest],
    config: ImageConfiguration,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """The descriptor of a manifest, with its platform (OCI image-spec, descriptor.md and image-index.md)."""
    by_config = DOCKER_MANIFEST if manifest.value.config.media_type == DOCKER_CONFIG else OCI_MANIFEST
    platform = {"architecture": config.architecture, "os": config.os}
    if config.variant is not None:
        platform["variant"] = config.variant
    return Descriptor.from_dict(
        {
            "mediaType": manifest.value.media_type or by_config,
            "digest": digest,
            "size": len(manifest.raw),
            **({} if annotations is None else {"annotations": annotations}),
            "platform": platform,
        }
    )

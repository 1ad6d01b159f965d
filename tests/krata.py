"""A cache as krata's own store leaves it: raw documents of several builders, real packed files, the daemon's index.

Seven entries in all three formats, one digest in each of the three, a name by digest, and one with the tag latest. The
index is laid out as serde_json's pretty printer does, its annotations in the random order of a Rust HashMap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.cache.support import MANIFEST_TYPE, index_bytes
from tests.importing import builders
from tests.importing.builders import BASE, CHANGE, SITE
from tests.importing.image_makers import Made
from tests.importing.layer_support import Item, layer
from tests.importing.sources import make_root, pack

BUSYBOX = builders.umoci_image(BASE)
_SITE = builders.umoci_image(BASE, SITE, User="1000", ExposedPorts={"80/tcp": {}}, WorkingDir="/srv")
_TOOLBOX = builders.docker_image(BASE, *(layer(Item(f"step{number}", data=b"x" * number)) for number in range(13)))
_WHITEOUT = builders.bazel_image(BASE, CHANGE)
_ARM = builders.buildkit_image(BASE, platform="linux/arm64", compression="zstd")
_ENTRIES: tuple[tuple[Made, str, str], ...] = (
    (BUSYBOX, "busybox:1.36", "squashfs"),
    (BUSYBOX, "busybox:1.36", "erofs"),
    (BUSYBOX, "busybox:1.36", "tar"),
    (_SITE, "registry.example.com:5000/team/site:2024.06", "squashfs"),
    (_TOOLBOX, "docker.io/example/toolbox:latest", "squashfs"),
    (_WHITEOUT, f"ghcr.io/example/whiteout@{_WHITEOUT.digest}", "tar"),
    (_ARM, "quay.io/org/zstd-layers:v1", "erofs"),
)


def make_krata_cache(directory: Path) -> Path:
    """The cache in ``directory``/image; the test is skipped where a packer is missing."""
    cache, root = directory / "image", make_root(directory)
    cache.mkdir()
    for image, _, format in _ENTRIES:
        pack(format, root, cache / f"{image.digest}.{format}")
        # A store writes the documents whole each time, over those that are there.
        (cache / f"{image.digest}.config.json").write_bytes(image.config)
        (cache / f"{image.digest}.manifest.json").write_bytes(image.manifest)
    descriptors = (_descriptor(number, *entry) for number, entry in enumerate(_ENTRIES))
    (cache / "index.json").write_bytes(index_bytes(descriptors))
    return cache


def _descriptor(number: int, image: Made, name: str, format: str) -> dict[str, Any]:
    annotations = {"dev.krata.oci.packer.format": format, "io.containerd.image.name": name}
    if "@" not in name:
        annotations["org.opencontainers.image.ref.name"] = name.rpartition(":")[2]
    keys = sorted(annotations, reverse=number % 2 == 0)
    return {
        "mediaType": MANIFEST_TYPE,
        "digest": image.digest,
        "size": len(image.manifest),
        "annotations": {key: annotations[key] for key in keys},
    }

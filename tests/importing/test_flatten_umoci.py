"""Random stacks of layers: whatever umoci unpacks, the same tree."""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocitui.importing.errors import LayerError
from tests.importing.layer_support import Found, Item, flattened, layer, sources, tree_of_directory, tree_of_tar
from tests.tools import examples, need

pytestmark = pytest.mark.slow

NAMES = st.sampled_from(["a", "b", "c", "a/b", "a/c", "b/a", "a/b/c", "c/a/b", "./a", "../b", "a/../c", "/c/b"])
TARGETS = st.sampled_from(["a", "b", "/c", "../a", "a/b", ".", "..", "nowhere/x"])
WHITEOUTS = st.sampled_from([".wh.a", ".wh.b", "a/.wh.b", "b/.wh.a", "a/b/.wh.c", ".wh..wh..opq", "a/.wh..wh..opq"])


def items() -> st.SearchStrategy[Item]:
    modes = st.sampled_from([0o644, 0o755, 0o4711, 0o1777])
    ids = st.sampled_from([0, 1000])
    return st.one_of(
        st.builds(Item, NAMES, data=st.binary(max_size=3), mode=modes, uid=ids),
        st.builds(Item, NAMES, st.just(tarfile.DIRTYPE), mode=modes, gid=ids),
        st.builds(lambda name, link: Item(name, tarfile.SYMTYPE, link=link), NAMES, TARGETS),
        st.builds(lambda name, link: Item(name, tarfile.LNKTYPE, link=link), NAMES, NAMES),
        st.builds(Item, NAMES, st.sampled_from([tarfile.FIFOTYPE, tarfile.CHRTYPE]), device=st.just((1, 3))),
        st.builds(Item, WHITEOUTS),
    )


STACKS = st.lists(st.lists(items(), max_size=7), min_size=1, max_size=4)


def unpacked_by_umoci(directory: Path, layers: list[bytes]) -> Found | None:
    """None where umoci refuses the image."""
    layout = directory / "layout"
    make_layout(layout, layers)
    root = directory / "root"
    done = subprocess.run(
        ["umoci", "raw", "unpack", "--image", f"{layout}:x", str(root)], capture_output=True, check=False, timeout=60
    )
    return None if done.returncode else tree_of_directory(root)


def make_layout(layout: Path, layers: list[bytes], compressed: list[bytes] | None = None) -> None:
    """An OCI layout of these layers, plain or in gzip, by the image-spec's image-layout.md."""
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    kind = "layer.v1.tar+gzip" if compressed else "layer.v1.tar"
    descriptors = [put(data, kind) for data in compressed or layers]
    root = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]}
    config = put(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": root}).encode(), "config.v1+json")
    manifest = put(
        json.dumps({"schemaVersion": 2, "config": config, "layers": descriptors}).encode(), "manifest.v1+json"
    )
    named = manifest | {"annotations": {"org.opencontainers.image.ref.name": "x"}}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners and devices")
@settings(max_examples=examples(40))
@given(stack=STACKS)
def test_the_same_tree_as_umoci(stack: list[list[Item]]) -> None:
    need("umoci")
    directory = Path(tempfile.mkdtemp(prefix="ocitui-umoci-"))
    try:
        layers = [layer(*entries) for entries in stack]
        expected = unpacked_by_umoci(directory, layers)
        if expected is None:
            return
        found = tree_of_tar(flattened(sources(directory / "layers", layers)))
        assert found.tree == expected.tree
        assert found.hardlinks == expected.hardlinks
    finally:
        shutil.rmtree(directory)


def tree_or_error(layers: list[bytes]) -> Found | LayerError:
    with tempfile.TemporaryDirectory(prefix="ocitui-layers-") as directory:
        try:
            return tree_of_tar(flattened(sources(Path(directory), layers)))
        except LayerError as error:
            return error


@settings(max_examples=examples(300))
@given(stack=STACKS)
def test_any_stack_gives_a_tree_or_names_what_is_wrong(stack: list[list[Item]]) -> None:
    found = tree_or_error([layer(*entries) for entries in stack])
    if isinstance(found, LayerError):
        assert found.layer
        assert found.entry is not None
    else:
        assert all(str(Path(path).parent) in found.tree for path in found.tree)

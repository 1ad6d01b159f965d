"""Every recorded case of layers, and the rules behind them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ocitui.importing.layer_errors import LayerError
from tests.importing.layer_support import flattened, sources, tree_of_tar
from tests.tools import recorded, shared, unpack

RECORDS = recorded("layers.json")


@pytest.mark.parametrize("record", RECORDS, ids=[record["case"] for record in RECORDS])
def test_a_recorded_image_gives_the_recorded_tree(record: dict[str, Any], tmp_path: Path) -> None:
    layers = sources(tmp_path, map(base64.b64decode, record["layers"]))
    expected = record["expect"]
    if "error" in expected:
        with pytest.raises(LayerError, match="layer 1, '"):
            flattened(layers)
        return
    found = tree_of_tar(flattened(layers))
    if "." not in expected["tree"]:
        assert found.tree.pop(".") == {"type": "directory", "uid": 0, "gid": 0, "mode": "755"}
    assert found.tree == expected["tree"]
    assert found.hardlinks == sorted(map(sorted, expected["hardlinks"]))


@pytest.mark.parametrize(
    ("archive", "expected"),
    [
        ("dive-test-docker-image", {"bin/busybox", "root/saved.txt"}),
        ("ggcr-overwritten_file", {"foo.txt"}),
        ("ggcr-test_link", {"."}),
        ("ggcr-whiteout_image", {"."}),
    ],
)
def test_layers_that_other_tools_made(archive: str, expected: set[str], tmp_path: Path) -> None:
    unpack(shared(f"images/{archive}.tar"), tmp_path)
    image = json.loads((tmp_path / "manifest.json").read_text())[0]
    data = [(tmp_path / name).read_bytes() for name in image["Layers"]]
    found = tree_of_tar(flattened(sources(tmp_path / "layers", data)))
    assert expected <= set(found.tree)
    assert not any(".wh." in path for path in found.tree)

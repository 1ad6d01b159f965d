"""Every recorded case of layers, and the rules behind them."""

import base64
from pathlib import Path
from typing import Any

import pytest

from ocitui.importing.errors import LayerError
from tests.importing.layer_support import flattened, sources, tree_of_tar
from tests.tools import recorded

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

"""The pictures in screenshots/ are what the application draws."""

from __future__ import annotations

import pytest

from tests.screenshots import PICTURES, SCENES, draw, normalized
from tests.tools import need


@pytest.mark.parametrize("scene", SCENES)
async def test_the_committed_picture_is_what_is_drawn_now(scene: str) -> None:
    need("mksquashfs", "mkfs.erofs")
    committed = (PICTURES / f"{scene}.svg").read_text()
    assert normalized(await draw(scene)).split() == normalized(committed).split(), (
        "python -m tests.screenshots makes them again; look at them before you commit"
    )


def test_there_is_no_other_picture() -> None:
    assert {picture.stem for picture in PICTURES.iterdir()} == set(SCENES)

"""The pictures in screenshots/ are what the application draws."""

from __future__ import annotations

import pytest

from tests.screenshots import PICTURES, SCENES, draw, normalized
from tests.tools import need

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("snapshot", SCENES)
async def test_a_picture_is_what_is_drawn_now(snapshot: str) -> None:
    need("mksquashfs", "mkfs.erofs")
    drawn = normalized((await draw(snapshot)).rstrip())
    kept = normalized((PICTURES / f"{snapshot}.svg").read_text().rstrip())
    assert drawn == kept, "python -m tests.screenshots draws them anew"


def test_there_is_no_other_picture() -> None:
    assert {picture.stem for picture in PICTURES.iterdir()} == SCENES.keys()

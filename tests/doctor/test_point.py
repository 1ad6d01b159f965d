"""A name pointed at another digest: its entry moves to the end, and nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ocitui.cache import ConflictError, ImageName, NoSuchEntryError, PackedFormat, PackerCache, PlanChangedError
from tests.doctor.examine_support import NAME, OTHER_NAME, Sample
from tests.doctor.fault_makers import rename_third
from tests.doctor.repair_support import nobody_else_writes, standing

ROLLED_BACK = ImageName.parse(NAME)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_else_writes(monkeypatch)


@pytest.fixture
def moved_tag(sample: Sample) -> Sample:
    """The name stands for the other image, as the last entry that carries it."""
    rename_third(sample)
    return sample


def manifests(sample: Sample) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sample.index.read_bytes())["manifests"]
    return found


async def test_a_rolled_back_tag_wins_again(moved_tag: Sample) -> None:
    before, stood = standing(moved_tag.directory), manifests(moved_tag)
    cache = PackerCache(moved_tag.directory)
    resolved = await cache.resolve(ROLLED_BACK, PackedFormat.SQUASHFS)
    assert resolved is not None
    assert resolved.digest == moved_tag.other
    plan = await cache.plan_point(ROLLED_BACK, moved_tag.digest, PackedFormat.SQUASHFS)
    assert plan.needed
    assert moved_tag.digest in plan.then
    transaction = await cache.point(plan)
    resolved = await cache.resolve(ROLLED_BACK, PackedFormat.SQUASHFS)
    assert resolved is not None
    assert resolved.digest == moved_tag.digest
    assert manifests(moved_tag) == [*stood[1:], stood[0]]
    assert transaction.trashed == []
    await cache.undo(transaction.id)
    assert standing(moved_tag.directory) == before


async def test_without_a_format_the_digest_wins_in_each(moved_tag: Sample) -> None:
    cache = PackerCache(moved_tag.directory)
    await cache.point(await cache.plan_point(ROLLED_BACK, moved_tag.digest))
    for form in PackedFormat:
        resolved = await cache.resolve(ROLLED_BACK, form)
        assert resolved is not None
        assert resolved.digest == moved_tag.digest


async def test_what_wins_already_is_not_moved(sample: Sample) -> None:
    cache, before = PackerCache(sample.directory), standing(sample.directory)
    plan = await cache.plan_point(ROLLED_BACK, sample.digest)
    assert not plan.needed
    with pytest.raises(ConflictError):
        await cache.point(plan)
    assert standing(sample.directory) == before


@pytest.mark.parametrize("name", [OTHER_NAME, "never:heard"])
async def test_a_name_that_the_digest_does_not_have(sample: Sample, name: str) -> None:
    with pytest.raises(NoSuchEntryError):
        await PackerCache(sample.directory).plan_point(ImageName.parse(name), sample.digest)


async def test_a_plan_for_another_index(moved_tag: Sample) -> None:
    cache = PackerCache(moved_tag.directory)
    plan = await cache.plan_point(ROLLED_BACK, moved_tag.digest)
    moved_tag.edit_index(lambda fields: fields["manifests"].pop(0))
    before = standing(moved_tag.directory)
    with pytest.raises(PlanChangedError):
        await cache.point(plan)
    assert standing(moved_tag.directory) == before

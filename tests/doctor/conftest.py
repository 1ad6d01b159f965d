"""A sound cache for each test, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doctor.examine_support import Sample, copied, make_sample


@pytest.fixture(scope="session")
def made_sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def sample(made_sample: Sample, tmp_path: Path) -> Sample:
    """A copy of a sound cache."""
    return copied(made_sample, tmp_path)

"""A cache with faults to be made in it, as the doctor's tests have."""

from __future__ import annotations

from tests.doctor.conftest import made_sample as made_sample
from tests.doctor.conftest import sample as sample

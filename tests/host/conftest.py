"""A cache with faults to be made in it, as the doctor's tests have."""

from __future__ import annotations

from tests.doctor.conftest import sample as sample

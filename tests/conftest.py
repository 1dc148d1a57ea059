"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("fncells", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fncells")


@pytest.fixture(scope="session")
def data() -> Path:
    """Give the folder of real pictures that FNCELLS_DATA names; skip where there is none (fail if they are required)."""
    place = os.environ.get("FNCELLS_DATA")
    if place and Path(place).is_dir():
        return Path(place)
    if os.environ.get("FNCELLS_REQUIRE_DATA") == "1":
        pytest.fail("FNCELLS_REQUIRE_DATA is 1, and FNCELLS_DATA names no folder of real pictures")
    pytest.skip("FNCELLS_DATA does not name the folder of real pictures")

"""Fixtures shared by all tests."""

import os
import shutil
import subprocess
import sys
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


@pytest.fixture
def disk(tmp_path):
    """Mount a disk in memory; give its folder, and a way to mount it anew with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(words, capture_output=True, text=True)

    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("no mount as Linux has it")
    done = mount("size=64k")
    if done.returncode:
        pytest.skip(f"a disk cannot be mounted here: {done.stderr.strip()}")
    yield folder, lambda options: mount(f"remount,{options}").returncode == 0
    subprocess.run(["umount", str(folder)], check=True)

"""Files that fuzzing has found to hang or break a reader once: each ends in cells or in one line, and soon."""

import shutil
from pathlib import Path

import pytest

from fncells.formats import CODECS
from formats.endings import ending

FINDINGS = sorted(path for path in (Path(__file__).parent / "findings").rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_is_read_or_refused_soon(path, tmp_path):
    codec = CODECS[path.parent.name]
    (tmp_path / "in").mkdir()
    source = Path(shutil.copy(path, tmp_path / "in"))
    target = tmp_path / ("out.json" if codec.one_file else "out")
    assert ending(codec, source if codec.one_file else source.parent, target) in ("value", "refusal")


def test_there_are_findings():
    assert FINDINGS

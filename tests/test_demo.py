"""Tests of the tour."""

from pathlib import Path

import pytest

from fncells import demo


def test_the_tour_ends_with_pages_that_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_SIZE", (240, 180))
    monkeypatch.setattr(demo, "_EPOCHS", 1)
    monkeypatch.setattr(demo, "_CROPS_AN_EPOCH", 4)
    said: list[str] = []
    page = demo.tour(tmp_path / "tour", pictures=6, seed=1, workers=1, say=said.append)
    text = page.read_text(encoding="utf-8")
    for linked in ("counts/report.html", "statistics/report.html", "evaluation/report.html", "check.html"):
        assert f'href="{linked}"' in text
        assert (page.parent / linked).stat().st_size > 1000
    assert "packaged model" in text
    assert [line[:2] for line in said[:7]] == [f"{step}." for step in range(1, 8)]
    assert len((page.parent / "counts" / "counts.csv").read_text().splitlines()) == 1 + 18

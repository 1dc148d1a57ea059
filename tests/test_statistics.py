"""Tests of describing an archive."""

from pathlib import Path

import numpy as np
import pytest

from fncells.archive import Archive
from fncells.ingest import BuildSettings, build
from fncells.measure import measure_cells
from fncells.statistics import describe
from fncells.synthetic import synthesise


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("statistics")
    synthesise(folder / "lab", pictures=5, seed=3, collections=("green", "yellow"), size=(320, 240))
    build(folder / "lab", folder / "archive", BuildSettings())
    return Archive.open(folder / "archive")


def test_values_are_those_of_the_labelled_cells(archive: Archive) -> None:
    description = describe(archive)
    for collection in ("green", "yellow"):
        samples = [sample for sample in archive.samples(collection) if sample.mask_path is not None]
        measured = [measure_cells(sample.read_cells(), sample.pixel_size) for sample in samples]
        areas = np.concatenate([columns["area_um2"] for columns in measured])
        np.testing.assert_allclose(description.distributions["area_um2"][collection], areas)
        assert description.table[collection]["area_um2"]["count"] == len(areas)
        counts = [len(columns["cell"]) for columns in measured]
        assert description.distributions["cell_count"][collection] == counts
        assert sum(description.composition[collection].values()) == 5
        captions = [caption for caption, _ in description.previews[collection]]
        assert captions[:2] == [samples[0].name, f"{counts[0]} cells"]


def test_published_counts_weigh_pictures_by_their_cells(archive: Archive) -> None:
    counts = np.array(describe(archive).distributions["cell_count"]["green"])
    published = describe(archive, "published").table["green"]["cell_count"]
    assert published["count"] == np.maximum(counts, 1).sum()
    assert published["mean"] == pytest.approx((counts**2).sum() / np.maximum(counts, 1).sum())


def test_workers_do_not_change_the_result(archive: Archive) -> None:
    alone, together = describe(archive), describe(archive, workers=2)
    assert alone.table == together.table
    assert alone.distributions == together.distributions


def test_sizes_stay_in_pixels_where_a_pixel_size_is_unknown(archive: Archive, tmp_path: Path) -> None:
    sample = next(one for one in archive.samples("green", "trainval") if one.mask_path)
    for kind, path in (("images", sample.picture_path), ("ground_truths/masks", sample.mask_path)):
        target = tmp_path / "blue" / "trainval" / kind / sample.name
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes())
    description = describe(Archive.open(tmp_path))
    assert "area_px2" in description.table["blue"]
    assert "area_um2" not in description.table["blue"]
    assert set(description.distributions["area_px2"]["blue"]) == set(sample.read_cells().areas.astype(float))

"""Tests of describing an archive."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from fncells.archive import Archive
from fncells.images import Picture, write_png
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


def test_how_hard_pictures_are_is_measured_where_it_is_asked_for(archive: Archive) -> None:
    assert not describe(archive).challenges
    description = describe(archive, challenges=True)
    labelled = [sample.name for sample in archive.samples() if sample.mask_path is not None]
    assert [one.picture for one in description.challenges] == labelled
    assert len(description.difficulty) == len(labelled)
    # Pictures without cells are held against their collection's median cell.
    assert all(one.artefacts is not None for one in description.challenges)
    assert set(description.hardest) == {"green", "yellow"}
    for pictures in description.hardest.values():
        captions = [caption for caption, _ in pictures]
        assert any("crowding" in caption or "close neighbours" in caption for caption in captions)
        assert sum("the hardest in all" in caption for caption in captions) == 1
        assert len({caption.partition(": ")[0] for caption in captions}) == len(captions)
    again = describe(archive, workers=2, challenges=True)
    assert again.challenges == description.challenges


def test_broken_pictures_are_named_and_the_rest_is_described(archive: Archive, tmp_path: Path) -> None:
    copy = Archive.open(shutil.copytree(archive.root, tmp_path / "archive"))
    samples = [sample for sample in copy.samples("green") if sample.mask_path is not None]
    broken, other = samples[0], samples[1]
    assert broken.labels_path is not None
    broken.labels_path.write_bytes(b"x")
    description = describe(copy)
    assert list(description.failed) == [f"green/{broken.partition}/images/{broken.name}"]
    assert description.table["green"]["signal_percent"]["count"] == len(samples) - 1
    # Only who looks at the pictures needs them to fit.
    write_png(other.picture_path, Picture(other.name, np.zeros((9, 9), np.uint8)))
    assert len(describe(copy).failed) == 1
    described = describe(copy, challenges=True)
    assert "(240, 320)" in described.failed[f"green/{other.partition}/images/{other.name}"]
    assert len(described.challenges) == len([one for one in copy.samples() if one.mask_path is not None]) - 2

import json

import cv2
import numpy as np
import pytest

from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import convert, read_annotations, write_annotations
from formats.label_maps import drawn_map


def square(x, y, side, **more):
    return Cell((np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)], dtype=float),), **more)


def holed():
    outer, inner = square(2, 2, 8), square(5, 5, 2)
    return Cell(outer.rings + inner.rings)


def rich():
    """Every kind of thing that can be lost: overlap, hole, two parts, dot, fraction, shape, attributes, marker, score."""
    return AnnotatedImage(
        "sub/a.tif",
        (40, 50),
        (
            square(20, 2, 6, attributes={"n": 1}, marker="CTb", score=0.5),
            square(24, 2, 6),
            holed(),
            Cell(square(2, 20, 3).rings + square(10, 20, 3).rings),
            Cell((np.array([[30.0, 30.0]]),), source_shape="point"),
            square(20.25, 20, 4),
            square(35, 20, 4, source_shape="rect"),
        ),
    )


@pytest.fixture
def source(tmp_path):
    write_annotations(tmp_path / "source.json", [rich(), AnnotatedImage("b.png", (5, 5), ())], "via")
    return tmp_path / "source.json"


LOST = ("dots_lost", "holes_lost", "parts_lost", "overlaps_lost", "shapes_lost", "fractions_lost", "attributes_lost")


def losses(report):
    row = report.as_dict()["per_picture"][0]
    return {key.removesuffix("_lost"): row[key] for key in LOST if row[key]} | {
        "n": row["n_cells_read"] - row["n_cells"]
    }


def test_masks_lose_what_two_colours_cannot_say(tmp_path, source):
    report = convert(source, tmp_path / "out", "masks")
    # The overlapping two become one, the one of two parts becomes two.
    assert losses(report) == {"dots": 1, "parts": 1, "overlaps": 2, "fractions": 1, "attributes": 3, "n": 0}
    row = report.as_dict()["per_picture"][0]
    own = [49, 49, 81 - 1, 32, 25, 25]
    assert row["area_px2"] == sum(own)
    assert row["area_px2_read"] == sum(own) - 21
    assert row["area_change_percent"] == pytest.approx(-100 * 21 / sum(own))


def test_labels_lose_overlaps_and_what_is_no_pixel(tmp_path, source):
    report = convert(source, tmp_path / "out", "labels")
    assert losses(report) == {"dots": 1, "overlaps": 2, "fractions": 1, "attributes": 3, "n": 0}


def test_via_loses_holes_and_parts_for_foreign_readers(tmp_path):
    labels = AnnotatedImage("a.png", (40, 50), (holed(), Cell(square(2, 20, 3).rings + square(10, 20, 3).rings)))
    write_annotations(tmp_path / "labels", [labels], "labels")
    for to in ("via", "via-csv"):
        report = convert(tmp_path / "labels", tmp_path / f"{to}.out", to)
        assert losses(report) == {"holes": 1, "parts": 1, "n": 2}
        assert report.as_dict()["total"]["area_change_percent"] > 0
    [again] = read_annotations(tmp_path / "via.out", "via")
    np.testing.assert_array_equal(again.labels, labels.labels)


def test_via_to_via_csv_loses_nothing_that_via_has(tmp_path, source):
    first = convert(source, tmp_path / "out.csv", "via-csv")
    assert losses(first)["n"] == 2  # the hole and the part, again
    back = convert(tmp_path / "out.csv", tmp_path / "back.json", "via")
    assert (tmp_path / "back.json").read_text() == source.read_text()
    assert (back.source_format, back.target_format) == ("via-csv", "via")


def test_the_report_sums_up_and_can_be_written(tmp_path, source):
    report = convert(source, tmp_path / "out", "masks")
    table = report.as_table()
    assert table["picture"].tolist() == ["sub/a.tif", "b.png", "all 2"]
    assert table["n_cells"].tolist() == [6, 0, 6]
    assert table["area_change_percent"].notna().tolist() == [True, False, True]
    written = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (written["from"], written["to"], len(written["per_picture"])) == ("via", "masks", 2)
    assert written["total"]["overlaps_lost"] == 2
    assert written["loses"]


def test_folders_are_mirrored_with_a_record_and_the_same_bytes(tmp_path, source):
    for out in ("one", "two"):
        convert(source, tmp_path / out, "labels")
    names = sorted(path.relative_to(tmp_path / "one").as_posix() for path in (tmp_path / "one").rglob("*.*"))
    assert names == ["b.png", "fncells-run.json", "sub/a.png"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    record = json.loads((tmp_path / "one" / "fncells-run.json").read_text())
    assert record["settings"] == {"from": "via", "to": "labels", "images": False, "dialect": None, "compress": False}
    assert list(record["inputs"]) == ["source.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "source.json", "two"]


def test_inputs_of_a_folder_are_recorded_by_name(tmp_path):
    write_annotations(tmp_path / "labels", [AnnotatedImage.from_labels("sub/a.png", drawn_map(1))], "labels")
    convert(tmp_path / "labels", tmp_path / "masks", "masks")
    assert list(json.loads((tmp_path / "masks" / "fncells-run.json").read_text())["inputs"]) == ["sub/a.png"]
    # The record is no annotation: the result is a source in its turn.
    assert convert(tmp_path / "masks", tmp_path / "again", "labels").source_format == "masks"


def test_the_same_conversion_may_be_repeated_and_another_is_kept_apart(tmp_path, source):
    convert(source, tmp_path / "out", "labels")
    (tmp_path / "out" / "b.png").unlink()
    convert(source, tmp_path / "out", "labels")
    assert (tmp_path / "out" / "b.png").is_file()
    with pytest.raises(InputError, match="found the result of something else"):
        convert(source, tmp_path / "out", "masks")
    (tmp_path / "other").mkdir()
    convert(source, tmp_path / "other", "masks")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="found other files"):
        convert(source, tmp_path / "mine", "masks")


def three_label_pictures(folder, broken):
    write_annotations(folder, [AnnotatedImage.from_labels(f"{stem}.png", drawn_map(1)) for stem in "abc"], "labels")
    for stem in broken:
        (folder / f"{stem}.png").write_bytes((folder / f"{stem}.png").read_bytes()[:60])
    return folder


@pytest.mark.parametrize("to", ["masks", "via"])
def test_a_broken_picture_is_named_and_the_others_are_converted(tmp_path, to):
    folder = three_label_pictures(tmp_path / "labels", "b")
    report = convert(folder, tmp_path / "out", to, source_format="labels")
    assert [losses.picture for losses in report.pictures] == ["a.png", "c.png"]
    [(name, reason)] = report.failed
    assert name == "b.png"
    assert "b.png: expected a whole PNG" in reason
    assert report.as_dict()["failed"] == [{"picture": "b.png", "reason": reason}]
    assert [image.name for image in read_annotations(tmp_path / "out", to)] == ["a.png", "c.png"]


@pytest.mark.parametrize("to", ["masks", "via"])
def test_nothing_is_written_where_every_picture_fails(tmp_path, to):
    folder = three_label_pictures(tmp_path / "labels", "abc")
    with pytest.raises(InputError, match=r"3 that cannot be converted, the first: .*a\.png"):
        convert(folder, tmp_path / "out", to, source_format="labels")
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_hostile_names_write_nothing_outside_and_the_others_are_converted(tmp_path):
    images = [AnnotatedImage(name, (3, 3), ()) for name in ("../../evil.png", "good.png")]
    write_annotations(tmp_path / "a.json", images, "via")
    report = convert(tmp_path / "a.json", tmp_path / "sub" / "out", "masks")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")] == ["sub/out/good.png"]
    assert "leads upward" in report.failed[0][1]
    assert convert(tmp_path / "a.json", tmp_path / "b.csv", "via-csv").pictures[0].picture == "../../evil.png"


def test_source_and_target_must_lie_apart(tmp_path, source):
    folder = tmp_path / "labels"
    write_annotations(folder, [AnnotatedImage.from_labels("a.png", drawn_map(1))], "labels")
    for origin, target, to in ((source, source, "via"), (folder, folder / "in", "masks"), (source, tmp_path, "masks")):
        with pytest.raises(InputError, match="a target apart from the source"):
            convert(origin, target, to)


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path, source):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the name of one file"):
        convert(source, tmp_path / "folder", "via-csv")
    with pytest.raises(InputError, match="expected a folder, or nothing yet, found a file"):
        convert(source, tmp_path / "file", "masks")


def via_without_size(path, x):
    shape = {"name": "polygon", "all_points_x": [1, x, 5], "all_points_y": [1, 1, x]}
    entry = {"filename": "a.png", "size": 1, "regions": [{"shape_attributes": shape, "region_attributes": {}}]}
    path.write_text(json.dumps({"k": entry}))
    return path


def test_pictures_give_the_size_that_via_lacks(tmp_path):
    source = via_without_size(tmp_path / "a.json", 9)
    with pytest.raises(InputError, match="--images"):
        convert(source, tmp_path / "out", "masks")
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), np.zeros((12, 14), dtype=np.uint8))
    report = convert(source, tmp_path / "out", "masks", images=tmp_path / "pictures")
    assert cv2.imread(str(tmp_path / "out" / "a.png")).shape == (12, 14, 3)
    assert report.as_dict()["total"]["area_change_percent"] == 0


def test_areas_are_measured_without_a_size_unless_cells_lie_too_far_apart(tmp_path):
    near = convert(via_without_size(tmp_path / "a.json", 9), tmp_path / "near.csv", "via-csv").as_dict()
    far = convert(via_without_size(tmp_path / "b.json", 10**6), tmp_path / "far.csv", "via-csv").as_dict()
    assert near["total"]["area_change_percent"] == 0
    assert near["per_picture"][0]["overlaps_lost"] == 0
    assert far["total"]["area_change_percent"] is None
    assert far["per_picture"][0]["overlaps_lost"] is None


def test_no_pictures_make_an_empty_file_and_an_empty_folder(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    assert convert(tmp_path / "a.json", tmp_path / "b.csv", "via-csv", source_format="via").pictures == ()
    assert convert(tmp_path / "a.json", tmp_path / "out", "masks", source_format="via").as_table()[
        "n_cells"
    ].tolist() == [0]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fncells-run.json"]


def test_geojson_is_packed_where_asked_and_pickles_are_written_in_the_dialect(tmp_path, source):
    convert(source, tmp_path / "packed", "geojson", compress=True)
    assert sorted(path.name for path in (tmp_path / "packed").rglob("*.gz")) == ["a.geojson.gz", "b.geojson.gz"]
    assert convert(tmp_path / "packed", tmp_path / "labels", "labels").source_format == "geojson"
    report = convert(source, tmp_path / "archive", "rle", dialect="published")
    assert sorted(path.name for path in (tmp_path / "archive").rglob("*.pickle")) == ["a.pickle", "b.pickle"]
    assert report.as_dict()["total"]["n_cells"] == 6
    assert convert(tmp_path / "archive", tmp_path / "masks", "masks").source_format == "rle"

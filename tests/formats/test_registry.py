import json

import cv2
import numpy as np
import pytest

import fncells.formats
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.formats import CODECS, codec_named, read_annotations, recognise, write_annotations
from formats.label_maps import drawn_map


def folder_of(path, **pictures):
    path.mkdir()
    for name, values in pictures.items():
        assert cv2.imwrite(str(path / f"{name}.png"), np.array([values]))
    return path


def test_the_public_names_are_these():
    assert fncells.formats.__all__ == sorted(fncells.formats.__all__)
    assert all(CODECS[name].name == name for name in CODECS)


@pytest.mark.parametrize("name", CODECS)
def test_what_is_written_is_recognised_and_read(tmp_path, name):
    images = [AnnotatedImage.from_labels(f"{stem}.png", drawn_map(seed)) for stem, seed in (("a", 1), ("sub/b", 2))]
    target = tmp_path / {"via": "a.json", "via-csv": "a.csv", "coco": "a.json"}.get(name, "folder")
    write_annotations(target, iter(images), name)
    assert recognise(target) == name
    assert [image.name for image in read_annotations(target)] == ["a.png", "sub/b.png"]
    for before, after in zip(images, read_annotations(target, name), strict=True):
        np.testing.assert_array_equal(after.mask, before.mask)


EIGHT, SIXTEEN = np.uint8, np.uint16


@pytest.mark.parametrize(
    ("pictures", "name"),
    [
        ({"a": EIGHT([0, 255]), "b": EIGHT([0, 1])}, "masks"),
        ({"a": SIXTEEN([0, 65535]), "b": EIGHT([0, 0])}, "masks"),
        ({"a": EIGHT([0, 1])}, "masks"),
        ({"a": EIGHT([[0, 0, 0], [0, 3, 5]])}, "masks"),
        ({"a": EIGHT([0, 1]), "b": EIGHT([0, 2])}, "labels"),
        ({"a": EIGHT([0, 255]), "b": EIGHT([0, 1, 2])}, "labels"),
        ({"a": EIGHT([1, 255])}, "labels"),
    ],
)
def test_the_whole_folder_tells_masks_from_labels(tmp_path, pictures, name):
    assert recognise(folder_of(tmp_path / "a", **pictures)) == name


def test_jpegs_are_masks_and_one_picture_is_enough(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert recognise(tmp_path) == recognise(tmp_path / "a.jpg") == "masks"


def test_a_project_is_recognised_by_its_content(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": {}}))
    assert recognise(tmp_path / "a.json") == "via"


def test_what_no_format_fits_is_refused_with_advice(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "a.csv").write_text("picture,n\n")
    (tmp_path / "folder").mkdir()
    for name, found in {"a.json": "a file", "a.csv": "a file", "folder": "a folder"}.items():
        with pytest.raises(InputError, match=f"{name}: .*{found} of .*--from"):
            recognise(tmp_path / name)


def test_a_broken_picture_is_named_rather_than_guessed_at(tmp_path):
    folder = folder_of(tmp_path / "a", a=EIGHT([0, 1]))
    (folder / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"b\.png"):
        recognise(folder)


@pytest.mark.parametrize("name", [None, "via"])
def test_missing_annotations_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="nothing of that name"):
        read_annotations(tmp_path / "none.json", name)


def test_unknown_formats_are_refused_with_the_known_ones(tmp_path):
    for attempt in (lambda: read_annotations(tmp_path, "voc2"), lambda: write_annotations(tmp_path / "a", [], "voc2")):
        with pytest.raises(InputError, match=r"masks, labels, .*via, via-csv.*'voc2'"):
            attempt()


def test_a_folder_is_no_file(tmp_path):
    for attempt in (lambda: read_annotations(tmp_path, "via"), lambda: write_annotations(tmp_path, [], "via-csv")):
        with pytest.raises(InputError, match=r"one file.*found a folder"):
            attempt()


def test_only_what_the_archive_has_has_its_dialect_and_only_geojson_is_packed(tmp_path):
    assert [name for name, codec in CODECS.items() if codec.published] == ["rle", "coco", "voc", "via"]
    assert [name for name, codec in CODECS.items() if codec.compressed] == ["geojson"]
    assert codec_named("geojson", compressed=True) is CODECS["geojson"].compressed
    for attempt, said in (
        (lambda: codec_named("yolo", "published"), r"one that can be published \(rle, coco, voc, via\), found yolo"),
        (lambda: codec_named("coco", compressed=True), r"one that can be compressed \(geojson\), found coco"),
        (lambda: codec_named("coco", "klingon"), "dialect: expected one out of published, found 'klingon'"),
        (lambda: codec_named("coco", "published", compressed=True), "compress: expected a format's own dialect"),
    ):
        with pytest.raises(InputError, match=said):
            attempt()

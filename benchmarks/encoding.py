"""Cells to annotation files and back: all formats of the published archive, run lengths, and COCO files of many cells."""

import json
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import measure

from benchmarks import scenes
from benchmarks.timing import Row, compare, medians, report
from fncells.cells import AnnotatedImage, Cell, Region
from fncells.documents import Place
from fncells.formats import CODECS
from fncells.formats.encodings import encodings_of, region_in

FORMATS = {"rle": "rle", "coco": "coco.json", "voc": "voc", "via": "via.json"}
CELLS_A_PICTURE = 300


def run() -> None:
    # In memory where there is such a place: ours waits for the disk to have each file, the published procedure does not.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        report(
            "A mask to RLE, COCO, VOC and VIA files in memory, 1600x1200",
            "outlines of the mask by OpenCV, and their coordinates as JSON",
            [_all_formats(count, Path(folder)) for count in (60, 300)],
        )
    coco_mask = scenes.imported("pycocotools.mask")
    if coco_mask is None:
        print("\nRun lengths and COCO: skipped, pycocotools is not installed")
        return
    report(
        "Run lengths, 1600x1200",
        "one pass over the mask that finds its changes",
        [row for count in (60, 300) for row in _runs(count, coco_mask)],
    )
    with tempfile.TemporaryDirectory() as folder:
        report(
            "Reading a COCO file of 100,000 cells, 300 a picture of 1600x1200",
            "parsing the JSON",
            [_reading(100_000, Path(folder) / "coco.json")],
        )


# ------------------------------------------------------------------------------------------------------------ all formats


def _all_formats(count: int, folder: Path) -> Row:
    mask = np.asarray((scenes.labels(count) > 0) * 255, np.uint8)

    def ours() -> None:
        image = AnnotatedImage.from_mask("a.png", mask > 0)
        for name, place in FORMATS.items():
            CODECS[name].write(folder / place, [image])

    def limit() -> str:
        contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        return json.dumps([contour.tolist() for contour in contours])

    published: Callable[[], object] | None = None
    if scenes.imported("pycocotools.mask") is not None:
        published = lambda: _published(mask, folder)  # noqa: E731
    return compare(f"{count} cells", ours, {"published procedure": published}, limit)


def _published(mask: NDArray[np.uint8], folder: Path) -> None:
    """Do what the published code does for one picture, step by step: each format finds contours and regions anew."""
    from pycocotools import mask as coco_mask

    encoding = coco_mask.encode(np.asfortranarray(mask // 255))
    (folder / "a.pickle").write_bytes(pickle.dumps({"size": encoding["size"], "counts": encoding["counts"]}))

    polygons, boxes, areas, dots = _objects(mask)
    annotation = {"image_id": "a", "segmentation": polygons, "bbox": boxes, "area": areas, "dots": dots}
    (folder / "published.json").write_text(json.dumps({"images": [{"id": "a"}], "annotations": [annotation]}, indent=4))

    polygons, boxes, areas, dots = _objects(mask)
    root = ElementTree.Element("annotation")
    for polygon, box, dot in zip(polygons, boxes, dots, strict=False):
        element = ElementTree.SubElement(root, "object")
        outline = ElementTree.SubElement(element, "polygon")
        for x, y in polygon:
            point = ElementTree.SubElement(outline, "pt")
            ElementTree.SubElement(point, "x").text = str(x)
            ElementTree.SubElement(point, "y").text = str(y)
        corners = (box[0], box[1], box[0] + box[2], box[1] + box[3])
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            ElementTree.SubElement(element, name).text = str(value)
        for name, value in zip("xy", dot, strict=True):
            ElementTree.SubElement(element, name).text = str(value)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(folder / "a.xml")

    polygons, _, _, _ = _objects(mask)
    regions = [
        {"name": "polygon", "all_points_x": [x for x, _ in polygon], "all_points_y": [y for _, y in polygon]}
        for polygon in polygons
    ]
    (folder / "published-via.json").write_text(json.dumps({"a.png1": {"filename": "a.png", "regions": regions}}))


def _objects(mask: NDArray[np.uint8]) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """Contours with their boxes and areas, and centres of regions, as the published code pairs them."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    regions = measure.regionprops(measure.label(mask, connectivity=2))[::-1]  # type: ignore[no-untyped-call]
    polygons = [[[int(x), int(y)] for x, y in contour[:50, 0, :]] for contour in contours]
    boxes = [list(map(int, cv2.boundingRect(contour))) for contour in contours]
    areas = [float(cv2.contourArea(contour)) for contour in contours]
    dots = [[int(region.centroid[1]), int(region.centroid[0])] for region in regions]
    return polygons, boxes, areas, dots


# ------------------------------------------------------------------------------------------------------------ run lengths


def _runs(count: int, coco_mask: Any) -> Iterator[Row]:
    labels = scenes.labels(count)
    mask = labels > 0
    image = AnnotatedImage.from_labels("a.png", labels)
    regions = [region for region in image.regions if region is not None]
    masks = np.asfortranarray(np.stack([labels == number for number in image.numbers], axis=2).astype(np.uint8))
    theirs = coco_mask.encode(masks)
    if [one["counts"] for one in encodings_of(regions, scenes.SHAPE)] != [one["counts"].decode() for one in theirs]:
        raise SystemExit("the encodings differ: nothing to time")
    whole = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))

    def one_pass() -> object:
        flat = mask.ravel()
        return np.flatnonzero(flat[1:] != flat[:-1])

    yield compare(
        f"encode the mask of {count} cells",
        lambda: encodings_of([Region(mask, 0, 0)], scenes.SHAPE),
        {"pycocotools": lambda: coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))},
        one_pass,
    )
    yield compare(
        f"decode the mask of {count} cells",
        lambda: region_in({"size": list(scenes.SHAPE), "counts": whole["counts"]}, scenes.SHAPE, Place(None)),
        {"pycocotools": lambda: coco_mask.decode(whole)},
        one_pass,
    )
    yield compare(
        f"encode {count} cells",
        lambda: encodings_of(regions, scenes.SHAPE),
        {"pycocotools": lambda: coco_mask.encode(masks)},
        one_pass,
        repeats=3,
    )
    yield compare(
        f"decode {count} cells",
        lambda: [region_in(one, scenes.SHAPE, Place(None)) for one in theirs],
        {"pycocotools": lambda: [coco_mask.decode(one) for one in theirs]},
        one_pass,
        repeats=3,
    )


# ------------------------------------------------------------------------------------------------------------------ COCO


def _reading(count: int, path: Path) -> Row:
    from pycocotools.coco import COCO

    pictures = -(-count // CELLS_A_PICTURE)
    cells = AnnotatedImage.from_labels("a", scenes.labels(CELLS_A_PICTURE)).cells
    cells = tuple(Cell(cell.rings, marker="CTb") for cell in cells)
    CODECS["coco"].write(path, (AnnotatedImage(f"{n}.png", scenes.SHAPE, cells) for n in range(pictures)))

    def theirs() -> int:
        reader = COCO(str(path))
        return sum(int(reader.annToMask(annotation)[0, 0]) for annotation in reader.dataset["annotations"])

    found = medians(
        {
            "ours": lambda: sum(len(image.cells) for image in CODECS["coco"].read(path)),
            "pycocotools": theirs,
            "limit": lambda: json.loads(path.read_bytes()),
        },
        repeats=1,
    )
    return Row(f"{pictures} pictures", found["ours"] or 0, {"pycocotools": found["pycocotools"]}, found["limit"] or 0)

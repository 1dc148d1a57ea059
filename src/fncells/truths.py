"""Ground truths of an archive as files: in which formats, and where they lie.

Below ``<collection>/<partition>/ground_truths`` (the first five as in the published archive)::

    masks/<number>.png                                       0/255
    rle/<number>.pickle, rle/<number>.json                   the whole mask; and one encoding a cell
    Pascal_VOC/<number>.xml
    COCO/annotations_<collection>_<partition>.json
    VIA/annotations_<collection>_<partition>.json
    labels/<number>.png                                      one value a cell
    geojson/<number>.geojson, imagej/<number>.zip
    yolo/<number>.txt, yolo/data.yaml
    via-csv/annotations_<collection>_<partition>.csv
"""

from pathlib import PurePosixPath
from typing import NamedTuple

__all__ = ["PARTITION_TRUTHS", "PICTURE_TRUTHS", "Truth", "truth_path"]


class Truth(NamedTuple):
    """One kind of ground-truth file.

    Parameters
    ----------
    format
        Name of the format.
    dialect
        ``published`` where it is as the published archive has it, else None.
    path
        Where it lies below ``ground_truths``; with the number of the picture, or with collection and partition.
    """

    format: str
    dialect: str | None
    path: str


PICTURE_TRUTHS: dict[str, Truth] = {
    "masks": Truth("masks", None, "masks/{number}.png"),
    "labels": Truth("labels", None, "labels/{number}.png"),
    "rle": Truth("rle", None, "rle/{number}.json"),
    "rle-pickle": Truth("rle", "published", "rle/{number}.pickle"),
    "voc": Truth("voc", None, "Pascal_VOC/{number}.xml"),
    "geojson": Truth("geojson", None, "geojson/{number}.geojson"),
    "imagej": Truth("imagej", None, "imagej/{number}.zip"),
}
"""Files of one picture each."""

PARTITION_TRUTHS: dict[str, Truth] = {
    "coco": Truth("coco", None, "COCO/annotations_{collection}_{partition}.json"),
    "via": Truth("via", None, "VIA/annotations_{collection}_{partition}.json"),
    "via-csv": Truth("via-csv", None, "via-csv/annotations_{collection}_{partition}.csv"),
    "yolo": Truth("yolo", None, "yolo"),
}
"""Files, or folders, of all pictures of a partition."""


def truth_path(truth: Truth, collection: str, partition: str, number: str = "") -> PurePosixPath:
    """Tell where a ground-truth file lies, relative to the archive."""
    place = truth.path.format(number=number, collection=collection, partition=partition)
    return PurePosixPath(collection, partition, "ground_truths", place)

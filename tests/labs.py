"""Small labs' raw folders, and what is in archives that were built of them."""

import csv
import json

import numpy as np
import openpyxl
import tifffile
from PIL import Image

from fncells.archive import read_index

WIDTH, HEIGHT = 64, 48
SQUARE = ((4, 5), (14, 5), (14, 15), (4, 15))
OVERLAPPING = ((10, 10), (22, 10), (22, 20), (10, 20))
VIA_HEADER = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)
METADATA_HEADER = ("original_name", "dataset", "animal", "pixel_size_um", "partition", "remark")


def put_picture(path, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in {".jpg", ".jpeg"}:
        Image.fromarray(pixels).save(path, quality=95)
    else:
        tifffile.imwrite(path, pixels, photometric="rgb", description="a test", metadata=None)


def put_outlines(path, outlines):
    """A VIA CSV file of polygons by picture name; a picture with no outline has its one empty row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(VIA_HEADER)
        for name, polygons in outlines.items():
            if not polygons:
                writer.writerow((name, 100, "{}", 0, 0, "{}", "{}"))
            for number, polygon in enumerate(polygons):
                x, y = zip(*polygon, strict=True)
                shape = json.dumps({"name": "polygon", "all_points_x": x, "all_points_y": y})
                writer.writerow((name, 100, "{}", len(polygons), number, shape, "{}"))


def put_metadata(path, rows):
    book = openpyxl.Workbook()
    book.active.title = "metadata"
    for row in (METADATA_HEADER, *rows):
        book.active.append(row)
    book.save(path)


def names_of(collection, animals=range(4), columns=range(1, 4)):
    letter = collection[0]
    return [f"Mar{animal}bS1C{column}R1_LHl_200x_{letter}.TIF" for animal in animals for column in columns]


def put_lab(root, labelled=None, unlabelled=None, *, metadata=True):
    """A raw folder: 12 labelled and 1 unlabelled green picture and their yellow twins, unless told otherwise."""
    if labelled is None:
        labelled = {"green": names_of("green"), "yellow": names_of("yellow")}
        unlabelled = {"green": ["Mar9bS1C1R1_DMr_200x_g.TIF"], "yellow": ["Mar9bS1C1R1_DMr_200x_y.JPG"]}
    rows = []
    for collection, names in labelled.items():
        everything = sorted([*names, *(unlabelled or {}).get(collection, [])])
        for seed, name in enumerate(everything):
            put_picture(root / "raw" / collection / name, seed)
            rows.append((name, collection, None, 0.5, None, f"slice {seed}"))
        outlines = {name: [SQUARE, OVERLAPPING][: number % 3] for number, name in enumerate(sorted(names))}
        put_outlines(root / "annotations" / f"{collection}.csv", outlines)
    if metadata:
        put_metadata(root / "metadata.xlsx", rows)
    return root


def content(archive):
    """Every file of an archive by its path, but for the ledger."""
    return {
        path.relative_to(archive).as_posix(): path.read_bytes()
        for path in sorted(archive.rglob("*"))
        if path.is_file() and "fncells-ledger" not in path.name
    }


def placed(archive):
    index = read_index(archive / "metadata_v2.xlsx")
    return {(row.dataset, row.original_name): (row.image_name, row.partition) for row in index.itertuples(index=False)}

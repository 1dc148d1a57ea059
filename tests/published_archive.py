"""An archive as the published one is, faults included, made of synthetic cells and a tenth as large.

Its layout, names, columns, dialects and defects are those of the description of the published collections: numbered pictures
of two sizes among the red ones, pictures without cells, a green mask `128.png` without its picture, unlabelled pictures with
their metadata alone, pickles, placeholders. The same call gives the same bytes. Files are made without the programs that read
them.
"""

import datetime
from typing import NamedTuple

import cv2
import numpy as np
import xlsxwriter
from PIL import Image

from formats import archive_files

USUAL, LARGE = (120, 160), (170, 227)  # height and width: 1200x1600 and, of the Nikon E4500, 1704x2272, by ten
ORPHAN = "128"
COLUMNS = ("image_name", "original_name", "dataset", "partition", "double_marked", "species", "animal", "marker")
NUMBERS = {
    "green": {"trainval": (2, 7, 9, 10, 30, 127, 131), "test": (1, 5, 40), "unlabelled": (3, 55)},
    "red": {"trainval": (1, 4, 11, 12, 20, 21), "test": (2, 13), "unlabelled": (5,)},
    "yellow": {"trainval": (3, 6, 8, 15, 16, 17), "test": (1, 9), "unlabelled": (2, 25)},
}
EMPTY = {("green", 10), ("green", 5), ("yellow", 8), ("yellow", 9)}
RATS = (11, 12, 13)  # red pictures of rats, which the E4500 took: the large ones
_STAINS = {  # channels that carry signal, marker, structure as the files spell it, category
    "green": ((0, 1, 0), "c-FOS", "nucleus", 1),
    "red": ((1, 0, 0), "Orx", "citoplasm", 3),
    "yellow": ((0.9, 0.7, 0.1), "CTb", "citoplasm", 2),
}
_DOUBLE_MARKED = {("green", 2), ("yellow", 3)}  # one slice under two filters


class Published(NamedTuple):
    """What an archive of the published kind holds: masks by collection, partition and number, 0 and 255."""

    masks: dict[tuple[str, str, int], np.ndarray]
    shapes: dict[tuple[str, str, int], tuple[int, int]]


def put_published_archive(root) -> Published:
    """Write the archive into a folder and tell what is in it."""
    made = Published({}, {})
    rows = []
    for collection, partitions in NUMBERS.items():
        for partition, numbers in partitions.items():
            masks = {}
            for number in numbers:
                mask = _put_picture(root / collection / partition, collection, number)
                made.shapes[collection, partition, number] = mask.shape
                rows.append(_row(collection, partition, number))
                if partition != "unlabelled":
                    masks[str(number)] = made.masks[collection, partition, number] = mask
            if masks:
                _put_truths(root / collection / partition, collection, partition, masks)
    orphan = root / "green" / "trainval" / "ground_truths" / "masks" / f"{ORPHAN}.png"
    Image.fromarray(_cells(np.random.default_rng(0), "green", USUAL, 3)).save(orphan)
    _put_index(root / "metadata_v2.xlsx", rows)
    return made


def _put_picture(folder, collection, number):
    """A picture with its tags, in the file and as Exiv2 lists them; gives the mask of what is on it."""
    random = np.random.default_rng([number, *collection.encode()])
    is_rat = collection == "red" and number in RATS
    shape = LARGE if is_rat else USUAL
    n_cells = 0 if (collection, number) in EMPTY else int(random.integers(3, 7))
    mask = _cells(random, collection, shape, n_cells)
    light = random.normal(20, 4, shape) + cv2.GaussianBlur(mask, (0, 0), 1) * 0.5
    pixels = np.clip(light[..., np.newaxis] * np.array(_STAINS[collection][0]), 0, 255).astype(np.uint8)
    camera = "E4500" if is_rat else "DS-Fi1"
    exif = Image.Exif()
    exif.update({271: "NIKON", 272: camera, 306: f"2010:05:{number % 28 + 1:02} 10:00:00"})
    for name in ("images", "metadata"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / "images" / f"{number}.png", exif=exif)
    tags = {"Exif.Image.Make": "NIKON", "Exif.Image.Model": camera, "Exif.Image.DateTime": exif[306]}
    lines = "".join(f"{key}\t{value}\n" for key, value in tags.items())
    (folder / "metadata" / f"{number}.txt").write_text(f"KEY\tVALUE\n{lines}")
    return mask


def _cells(random, collection, shape, count):
    """Roundish cells apart from each other, 0 and 255; those of red and yellow are larger, with outlines of many points."""
    mask = np.zeros(shape, np.uint8)
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    places = [(x, y) for y in range(22, shape[0] - 20, 38) for x in range(22, shape[1] - 20, 38)]
    for place in random.permutation(len(places))[:count]:
        radius = random.uniform(5, 7) if collection == "green" else random.uniform(13, 17)
        reach = radius * (1 + 0.05 * np.sin(angles * int(random.integers(2, 10)) + random.uniform(0, 6)))
        outline = np.column_stack((np.cos(angles), np.sin(angles))) * reach[:, np.newaxis] + places[place]
        cv2.fillPoly(mask, [np.rint(outline).astype(np.int32)], 255)
    return mask


def _put_truths(folder, collection, partition, masks):
    _, marker, structure, category = _STAINS[collection]
    truths = folder / "ground_truths"
    for name in ("masks", "rle", "Pascal_VOC", "COCO", "VIA"):
        (truths / name).mkdir(parents=True)
    for stem, mask in masks.items():
        Image.fromarray(mask).save(truths / "masks" / f"{stem}.png")
        (truths / "rle" / f"{stem}.pickle").write_bytes(archive_files.rle_pickle(mask))
        xml = archive_files.voc(mask, f"{stem}.png", marker, structure, collection, partition)
        (truths / "Pascal_VOC" / f"{stem}.xml").write_text(xml)
    name = f"annotations_{collection}_{partition}.json"
    (truths / "COCO" / name).write_text(archive_files.coco(masks, collection, partition, category))
    sizes = {stem: (folder / "images" / f"{stem}.png").stat().st_size for stem in masks}
    (truths / "VIA" / name).write_text(archive_files.via(masks, sizes))


def _row(collection, partition, number):
    is_rat = collection == "red" and number in RATS
    double = (collection, number) in _DOUBLE_MARKED
    animal = "Mar99b" if double else f"{'RT' if is_rat else 'Mar'}{number + 200 * list(NUMBERS).index(collection)}"
    original = f"{animal}S2C1R5_r1.JPG" if is_rat else f"{animal}S1C2R1_LHr_200x_{collection[0]}.TIF"
    species = "rat" if is_rat else "mouse"
    return (f"{number}.png", original, collection, partition, double, species, animal, _STAINS[collection][1])


def _put_index(path, rows):
    with xlsxwriter.Workbook(path) as book:
        book.set_properties({"created": datetime.datetime(2023, 1, 1)})
        sheet = book.add_worksheet("metadata")
        for number, row in enumerate((COLUMNS, *rows)):
            sheet.write_row(number, 0, row)

"""The lab around the pictures: slices and animals, file names, cameras and their tags, annotation files and metadata."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.formats import write_annotations
from fncells.formats.pictures import FILE_SIZE
from fncells.names import parse_name
from fncells.published import COLLECTIONS, TABLE_1
from fncells.synthetic.scene import MOST_PIXELS, SMALLEST_SIDE, Scene, draw_scene
from fncells.synthetic.tissue import Anatomy
from fncells.workers import in_parallel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Slide", "plan", "synthesise"]

MOST_PICTURES = 100_000

_SLICES_AN_ANIMAL = 12
_GOLDEN = (5**0.5 - 1) / 2
_E4500_ENLARGED = Fraction(2272, 1600)  # the old camera's pictures against the new one's
_AREAS = {"green": ("DM", "LH", "VLPAG"), "yellow": ("DM", "LH", "VLPAG"), "red": ("DMH", "LH", "PVH")}
_LETTERS = {"green": "g", "red": "r", "yellow": "y"}
_MOUSE_SPELLINGS = ("Mar{}b", "Mar{}b", "Mar{}b", "Mar{}", "MAR{}")
_ANATOMY = 1000  # beyond any number of a collection, so that the two never share a stream of chance


@dataclass(frozen=True)
class Slide:
    """What is decided of a picture before it is made; it depends on the seed and on its own number alone.

    Attributes
    ----------
    collection
        ``green``, ``red`` or ``yellow``.
    number
        Place in its collection, from 0.
    name
        File name of the raw picture.
    pair
        Whether green and yellow both have this field of view, with names that differ in the last letter.
    labelled
        Whether it has been annotated.
    e4500
        Whether the old camera took it.
    level
        Rank by number of cells, from 0 to 1.
    """

    collection: str
    number: int
    name: str
    pair: bool
    labelled: bool
    e4500: bool
    level: float


def synthesise(
    folder: Path,
    pictures: int,
    seed: int,
    collections: Sequence[str] = COLLECTIONS,
    size: tuple[int, int] = (1600, 1200),
    workers: int = 1,
) -> None:
    """Write the raw folder of a made-up lab, as `fncells build` takes it.

    ``raw/<collection>/`` holds TIFF pictures with ImageJ's calibration, and for red also JPEG pictures of an older camera,
    whose 300 dpi mean nothing and whose pixel size ``metadata.xlsx`` tells; ``annotations/<collection>.csv`` is what VIA
    exports; ``truth/<collection>/`` holds the exact labels of every picture, those left without annotations included.

    The same seed gives the same bytes, whatever the number of workers; more pictures, or fewer collections, leave the
    others as they are.

    Parameters
    ----------
    folder
        Folder to make. An earlier result of the same names is replaced.
    pictures
        Number of pictures of each collection; one in five has no annotations.
    seed
        0 or more.
    collections
        Which ones.
    size
        Width and height in pixels. The cells shrink with the width, down to a quarter of the published 1600 px, and the
        pixel size grows as they shrink; pictures of the older camera are 1.42 times as large.
    workers
        Processes.

    Raises
    ------
    InputError
        If an argument cannot be, or the folder holds raw pictures of other names.
    """
    _check(pictures, seed, collections, size, workers)
    slides = [
        slide for collection in COLLECTIONS if collection in collections for slide in plan(collection, pictures, seed)
    ]
    _check_strangers(folder, slides)
    jobs = [(folder, slide, seed, size) for slide in slides]
    made = list(files.progress(in_parallel(_make, jobs, workers), len(jobs), "making pictures"))
    for collection in dict.fromkeys(slide.collection for slide in slides):
        annotated = [
            cells
            for slide, (cells, _) in zip(slides, made, strict=True)
            if slide.collection == collection and slide.labelled
        ]
        write_annotations(folder / "annotations" / f"{collection}.csv", annotated, "via-csv")
    files.write_workbook(folder / "metadata.xlsx", {"metadata": _metadata(slides, [um for _, um in made])})
    settings = {"pictures": pictures, "seed": seed, "collections": sorted(collections), "size": list(size)}
    files.write_record(folder, "synth", settings, {})


def plan(collection: str, pictures: int, seed: int) -> list[Slide]:
    """Decide names, cameras, annotation and numbers of cells of a collection's pictures.

    Parameters
    ----------
    collection
        ``green``, ``red`` or ``yellow``.
    pictures
        How many; the first ones are the same for any number.
    seed
        Source of chance.

    Returns
    -------
    list of Slide
        In order of their numbers.
    """
    first = np.random.default_rng([seed, COLLECTIONS.index(collection)]).random()
    slides = []
    for number in range(pictures):
        pair = collection != "red" and number % 3 == 1
        labelled = number % 5 != 4
        e4500 = collection == "red" and number % 3 == 2
        # Evenly spread ranks: a handful of pictures already has few and many cells, as the whole collection does.
        level = (first + number * _GOLDEN) % 1
        name = _rat_name(number, seed) if e4500 else _mouse_name(collection, number, pair, seed)
        slides.append(Slide(collection, number, name, pair, labelled, e4500, level))
    return slides


def _check(pictures: int, seed: int, collections: Sequence[str], size: tuple[int, int], workers: int) -> None:
    if not 1 <= pictures <= MOST_PICTURES:
        raise InputError("pictures", expected=f"a number from 1 to {MOST_PICTURES}", found=str(pictures))
    if seed < 0:
        raise InputError("seed", expected="0 or more", found=str(seed))
    if workers < 1:
        raise InputError("workers", expected="1 or more", found=str(workers))
    strange = [name for name in collections if name not in COLLECTIONS]
    if strange or not collections or len(set(collections)) < len(collections):
        found = ", ".join(strange or collections) or "none"
        raise InputError("collections", expected=f"some of {', '.join(COLLECTIONS)}, each once", found=found)
    if min(size) < SMALLEST_SIDE or size[0] * size[1] * _E4500_ENLARGED**2 > MOST_PIXELS:
        expected = f"sides of {SMALLEST_SIDE} px or more, and no more than {MOST_PIXELS // 4} pixels"
        raise InputError("size", expected=expected, found=f"{size[0]}x{size[1]}")


def _check_strangers(folder: Path, slides: Iterable[Slide]) -> None:
    known = {(slide.collection, slide.name) for slide in slides}
    for path in sorted(folder.glob("raw/*/*")):
        if (path.parent.name, path.name) not in known and not path.name.startswith("."):
            raise InputError(
                path,
                expected="a folder without other raw pictures",
                found="a picture that this collection would not hold",
                advice="give a new folder",
            )


# Names


def _mouse_name(collection: str, number: int, pair: bool, seed: int) -> str:
    animal, place = divmod(number, _SLICES_AN_ANIMAL)
    # What a pair shares must not depend on the collection.
    rng = np.random.default_rng([seed, _ANATOMY, 1, animal, 0 if pair else 1 + COLLECTIONS.index(collection)])
    spelling = _MOUSE_SPELLINGS[np.random.default_rng([seed, _ANATOMY, 2, animal]).integers(len(_MOUSE_SPELLINGS))]
    areas = _AREAS[collection]
    area = (
        areas[(number // 2) % len(areas)] if pair else areas[(number // 2 + int(rng.integers(len(areas)))) % len(areas)]
    )
    sample, column = divmod(place, 4)
    row = 1 if pair else 2 + COLLECTIONS.index(collection)
    position = f"S{sample + 1}C{column + 1}R{row}"
    side = "lr"[number % 2]
    stem, letter = f"{spelling.format(19 + animal)}{position}", _LETTERS[collection]
    oddity = np.random.default_rng([seed, _ANATOMY, 3, COLLECTIONS.index(collection), number]).random()
    if not pair and oddity < 0.04:
        return f"{stem.upper()}_{(area + side).upper()}_20_{'o' if collection == 'yellow' else letter}.TIF"
    if not pair and oddity < 0.07:
        return f"{stem}_{area}{side}_200x.TIF"
    return f"{stem}_{area}{side}_200x_{letter}.TIF"


def _rat_name(number: int, seed: int) -> str:
    animal, place = divmod(number, _SLICES_AN_ANIMAL)
    first = 340 + int(np.random.default_rng([seed, _ANATOMY, 4]).integers(40))
    sample, row = divmod(place, 6)
    region = "12"[(number // 3) % 2]
    return f"RT{first + animal}S{sample + 1}C1R{row + 1}_r{region}.JPG"


# Pictures


def _make(job: tuple[Path, Slide, int, tuple[int, int]]) -> tuple[AnnotatedImage, float]:
    """Write one picture and its truth; give its annotations and its pixel size."""
    folder, slide, seed, size = job
    index = COLLECTIONS.index(slide.collection)
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, slide.number]))
    # A pair shares its anatomy; the others have each their own.
    shared = (0, slide.number) if slide.pair else (1 + index, slide.number)
    anatomy = Anatomy.draw(np.random.default_rng([seed, _ANATOMY, 5, *shared]), size[1] / size[0])
    scale = max(0.25, size[0] / 1600)
    if slide.e4500:
        size = (round(size[0] * _E4500_ENLARGED), round(size[1] * _E4500_ENLARGED))
    scene = draw_scene(slide.collection, rng, size, scale, e4500=slide.e4500, anatomy=anatomy, level=slide.level)
    path = folder / "raw" / slide.collection / slide.name
    if slide.e4500:
        _write_jpeg(path, scene.pixels)
    else:
        _write_tiff(path, scene)
    _write_truth(folder / "truth" / slide.collection / f"{path.stem}.png", scene.truth)
    # VIA knows a picture by its name and the size of its file, and nothing of its width and height.
    said = {FILE_SIZE: path.stat().st_size}
    return AnnotatedImage(slide.name, None, scene.annotations, said), scene.pixel_size_um


def _write_tiff(path: Path, scene: Scene) -> None:
    """Write a picture of the lab's camera, calibrated and saved by ImageJ."""
    pixels_a_um = Fraction(1 / scene.pixel_size_um).limit_denominator(100_000)
    resolution = (pixels_a_um.numerator, pixels_a_um.denominator)
    data = io.BytesIO()
    tifffile.imwrite(
        data,
        scene.pixels,
        photometric="rgb",
        description="ImageJ=1.53t\nunit=um\n",
        metadata=None,
        software="NIS-Elements F 3.0",
        resolution=(resolution, resolution),
        resolutionunit="NONE",
        extratags=[(271, "s", 0, "Nikon", True), (272, "s", 0, "DS-Vi1", True)],
    )
    files.write_bytes(path, data.getvalue())


def _write_jpeg(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture as the Nikon E4500 leaves it: a clock never set, and 300 dpi that tell nothing of the specimen."""
    height, width = pixels.shape[:2]
    exif = Image.Exif()
    never = "0000:00:00 00:00:00"
    exif.update(
        {
            270: "          ",
            271: "NIKON",
            272: "E4500",
            274: 1,
            282: 300.0,
            283: 300.0,
            296: 2,
            305: "E4500v1.3",
            306: never,
        }
    )
    exif.get_ifd(0x8769).update(
        {33434: 1 / 30, 33437: 3.1, 34855: 100, 36864: b"0220", 36867: never, 36868: never, 40962: width, 40963: height}
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling="4:2:2", exif=exif, dpi=(300, 300))
    files.write_bytes(path, buffer.getvalue())


def _write_truth(path: Path, truth: NDArray[np.int32]) -> None:
    _, data = cv2.imencode(".png", truth.astype(np.uint16))
    files.write_bytes(path, data.tobytes())


# Metadata


def _metadata(slides: Sequence[Slide], pixel_sizes: Sequence[float]) -> "pd.DataFrame":
    import pandas as pd

    whole = {(slide.number, slide.collection) for slide in slides if slide.pair}
    rows = []
    for slide, um in zip(slides, pixel_sizes, strict=True):
        specimen = parse_name(slide.name)
        table = TABLE_1[slide.collection]
        rows.append(
            {
                "original_name": slide.name,
                "dataset": slide.collection,
                "animal": specimen.animal,
                "species": specimen.species,
                "sample": specimen.sample,
                "column": specimen.column,
                "row": specimen.row,
                "area": specimen.area,
                "side": specimen.side,
                "zoom": "200x",
                "marker": table.marker,
                "structure": table.structure,
                "double_marked": slide.pair and {(slide.number, name) for name in ("green", "yellow")} <= whole,
                "pixel_size_um": round(um, 6),
                "partition": None if slide.labelled else "unlabelled",
            }
        )
    return pd.DataFrame(rows)

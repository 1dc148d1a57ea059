"""The lab around the pictures: slices and animals, file names, cameras and their tags, annotation files and metadata."""

import csv
import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from fncells import files
from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats import write_annotations
from fncells.formats.pictures import FILE_SIZE
from fncells.names import parse_name
from fncells.published import COLLECTIONS, TABLE_1
from fncells.synthetic.annotators import Annotator, draw_annotators
from fncells.synthetic.looks import Challenges
from fncells.synthetic.scene import MOST_PIXELS, SMALLEST_SIDE, Scene, draw_scene
from fncells.synthetic.sizes import level_of, stature_of
from fncells.synthetic.tissue import Anatomy
from fncells.workers import in_parallel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SPREAD", "Slide", "draw_slide", "plan", "synthesise"]

SPREAD = (0.7548776662466927, 0.5698402909980532)
"""Steps of the most even sequence of pairs (powers of the inverse of the plastic number): multiples of them, less their whole
parts, fill the unit square evenly however many are taken."""

MOST_PICTURES = 100_000
MOST_ANNOTATORS = 20

_SLICES_AN_ANIMAL = 12
_E4500_ENLARGED = Fraction(2272, 1600)  # the old camera's pictures against the new one's
_AREAS = {"green": ("DM", "LH", "VLPAG"), "yellow": ("DM", "LH", "VLPAG"), "red": ("DMH", "LH", "PVH")}
_LETTERS = {"green": "g", "red": "r", "yellow": "y"}
_MOUSE_SPELLINGS = ("Mar{}b", "Mar{}b", "Mar{}b", "Mar{}", "MAR{}")
_AS_PUBLISHED = Challenges()
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
    level, stature
        Ranks by number and by size of cells, from 0 to 1.
    """

    collection: str
    number: int
    name: str
    pair: bool
    labelled: bool
    e4500: bool
    level: float
    stature: float


def synthesise(
    folder: Path,
    pictures: int,
    seed: int,
    collections: Sequence[str] = COLLECTIONS,
    size: tuple[int, int] = (1600, 1200),
    workers: int = 1,
    challenges: Challenges = _AS_PUBLISHED,
    annotators: int = 1,
) -> None:
    """Write the raw folder of a made-up lab, as `fncells build` takes it.

    ``raw/<collection>/`` holds TIFF pictures with ImageJ's calibration, and for red also JPEG pictures of an older camera,
    whose 300 dpi mean nothing and whose pixel size ``metadata.xlsx`` tells; ``annotations/<collection>.csv`` is what VIA
    exports; ``truth/<collection>/`` holds the exact labels of the cells to be marked in every picture, those left without
    annotations included, and ``truth_all/<collection>/`` the same with the cells that annotators leave out, numbered after
    the others. Where several people annotate, ``annotators/<person>/<collection>.csv`` is what each marked.

    The same seed gives the same bytes, whatever the number of workers; more pictures, fewer collections or fewer people
    leave the others as they are.

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
    challenges
        What makes the pictures hard.
    annotators
        People who mark every picture: the careful one, and others who each have their habits.

    Raises
    ------
    InputError
        If an argument cannot be, or the folder holds raw pictures of other names.
    """
    _check(pictures, seed, collections, size, workers, annotators)
    slides = [
        slide for collection in COLLECTIONS if collection in collections for slide in plan(collection, pictures, seed)
    ]
    _check_strangers(folder, slides)
    rng = np.random.default_rng([seed, _ANATOMY, 6])
    people = draw_annotators(annotators - 1, challenges.subjectivity, rng)
    jobs = [(folder, slide, seed, size, challenges, people) for slide in slides]
    made = list(files.progress(in_parallel(_make, jobs, workers), len(jobs), "making pictures"))
    for collection in dict.fromkeys(slide.collection for slide in slides):
        marked = [
            opinions
            for slide, (opinions, _) in zip(slides, made, strict=True)
            if slide.collection == collection and slide.labelled
        ]
        _write_export(folder / "annotations" / f"{collection}.csv", [opinions[0] for opinions in marked])
        for number in range(1, annotators):
            _write_export(
                folder / "annotators" / f"{number + 1}" / f"{collection}.csv", [one[number] for one in marked]
            )
    files.write_workbook(folder / "metadata.xlsx", {"metadata": _metadata(slides, [um for _, um in made])})
    settings = {"pictures": pictures, "seed": seed, "collections": sorted(collections), "size": list(size)}
    settings |= {"challenges": asdict(challenges)} if challenges != _AS_PUBLISHED else {}
    settings |= {"annotators": annotators} if annotators > 1 else {}
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
    first = np.random.default_rng([seed, COLLECTIONS.index(collection)]).random(2)
    slides = []
    for number in range(pictures):
        pair = collection != "red" and number % 3 == 1
        labelled = number % 5 != 4
        e4500 = collection == "red" and number % 3 == 2
        # Evenly spread ranks: a handful of pictures already has few and many cells, small and large ones.
        level, stature = ((start + number * step) % 1 for start, step in zip(first, SPREAD, strict=True))
        if collection == "red":
            level = level_of(level, e4500)
        stature = stature_of(collection, stature, level)
        name = _rat_name(number, seed) if e4500 else _mouse_name(collection, number, pair, seed)
        slides.append(Slide(collection, number, name, pair, labelled, e4500, level, stature))
    return slides


def _check(
    pictures: int, seed: int, collections: Sequence[str], size: tuple[int, int], workers: int, annotators: int
) -> None:
    if not 1 <= pictures <= MOST_PICTURES:
        raise InputError("pictures", expected=f"a number from 1 to {MOST_PICTURES}", found=str(pictures))
    if seed < 0:
        raise InputError("seed", expected="0 or more", found=str(seed))
    if workers < 1:
        raise InputError("workers", expected="1 or more", found=str(workers))
    if not 1 <= annotators <= MOST_ANNOTATORS:
        raise InputError("annotators", expected=f"a number from 1 to {MOST_ANNOTATORS}", found=str(annotators))
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


_Job = tuple[Path, Slide, int, tuple[int, int], Challenges, Sequence[Annotator]]


def draw_slide(
    slide: Slide,
    seed: int,
    size: tuple[int, int] = (1600, 1200),
    challenges: Challenges = _AS_PUBLISHED,
    people: Sequence[Annotator] = (),
) -> Scene:
    """Make the picture of a slide, as `synthesise` writes it.

    Parameters
    ----------
    slide
        One of `plan`.
    seed
        The seed that it was planned with.
    size, challenges
        As `synthesise` takes them.
    people
        Who marks it besides the careful annotator.
    """
    index = COLLECTIONS.index(slide.collection)
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, slide.number]))
    # A pair shares its anatomy; the others have each their own.
    shared = (0, slide.number) if slide.pair else (1 + index, slide.number)
    anatomy = Anatomy.draw(np.random.default_rng([seed, _ANATOMY, 5, *shared]), size[1] / size[0])
    scale = max(0.25, size[0] / 1600)
    if slide.e4500:
        size = (round(size[0] * _E4500_ENLARGED), round(size[1] * _E4500_ENLARGED))
    return draw_scene(
        slide.collection,
        rng,
        size,
        scale,
        e4500=slide.e4500,
        anatomy=anatomy,
        level=slide.level,
        stature=slide.stature,
        challenges=challenges,
        people=people,
    )


def _make(job: _Job) -> tuple[list[AnnotatedImage], float]:
    """Write one picture and its truth; give what each annotator marked, the careful one first, and the pixel size."""
    folder, slide, seed, size, challenges, people = job
    scene = draw_slide(slide, seed, size, challenges, people)
    path = folder / "raw" / slide.collection / slide.name
    if slide.e4500:
        _write_jpeg(path, scene.pixels)
    else:
        _write_tiff(path, scene)
    _write_labels(folder / "truth" / slide.collection / f"{path.stem}.png", scene.truth)
    _write_labels(folder / "truth_all" / slide.collection / f"{path.stem}.png", scene.everything)
    # VIA knows a picture by its name and the size of its file, and nothing of its width and height.
    said = {FILE_SIZE: path.stat().st_size}
    opinions = (scene.annotations, *scene.opinions)
    return [AnnotatedImage(slide.name, None, cells, said) for cells in opinions], scene.pixel_size_um


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
        {
            33434: 1 / 30,
            33437: 3.1,
            34855: 100,
            36864: b"0220",
            36867: never,
            36868: never,
            37500: _maker_note(),
            40962: width,
            40963: height,
        }
    )
    small = Image.fromarray(pixels).resize((160, 120), Image.Resampling.BOX)
    data = _with_thumbnail(exif.tobytes(), _jpeg(small, quality=80))
    picture = _jpeg(Image.fromarray(pixels), quality=95, subsampling="4:2:2", exif=data, dpi=(300, 300))
    files.write_bytes(path, picture)


def _jpeg(picture: Image.Image, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **settings)
    return buffer.getvalue()


def _maker_note() -> bytes:
    """Give what Nikon's cameras keep of their own settings: a TIFF of its own after their name."""
    note = Image.Exif()
    note.update({1: "0210", 3: "COLOR", 4: "FINE", 5: "AUTO", 6: "AUTO", 7: "AF-S", 8: "NORMAL"})
    return b"Nikon\0\x02\x10\0\0" + note.tobytes()[6:]


def _with_thumbnail(exif: bytes, thumbnail: bytes) -> bytes:
    """Add the second directory, which Pillow does not write: a small picture of the same."""
    head, block = exif[:6], bytearray(exif[6:])
    order = "<" if block[:2] == b"II" else ">"
    (first,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, first)
    block += b"\0" * (len(block) % 2)
    struct.pack_into(f"{order}I", block, first + 2 + 12 * count, len(block))
    entries = [(259, 3, 6), (513, 4, len(block) + 2 + 3 * 12 + 4), (514, 4, len(thumbnail))]
    block += struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        # Short values lie at the start of their four bytes, whatever the order.
        held = struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}I", value)
        block += struct.pack(f"{order}HHI", tag, kind, 1) + held
    return head + bytes(block) + b"\0\0\0\0" + thumbnail


def _write_labels(path: Path, labels: NDArray[np.int32]) -> None:
    _, data = cv2.imencode(".png", labels.astype(np.uint16))
    files.write_bytes(path, data.tobytes())


# Annotation files


def _write_export(path: Path, images: Sequence[AnnotatedImage]) -> None:
    """Write what VIA exports, with the oddities of files that people have really worked on.

    Of every seven pictures one has closed polygons, as VIA 1 writes them, one comes from an address on the web and so has no
    file size, and one has a remark on its first cell; and in one the number of regions was counted before the last was
    deleted.
    """
    odd = [_as_people_do(image, number % 7) for number, image in enumerate(images)]
    write_annotations(path, odd, "via-csv")
    miscounted = {image.name for image in images[3::7]}
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    for row in rows[1:]:
        if row[0] in miscounted and row[3] != "0":
            row[3] = str(int(row[3]) + 1)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    files.write_text(path, text.getvalue())


def _as_people_do(image: AnnotatedImage, kind: int) -> AnnotatedImage:
    cells = image.cells
    if kind == 0:
        cells = tuple(replace(cell, rings=(np.concatenate([cell.rings[0], cell.rings[0][:1]]),)) for cell in cells)
    if kind == 1:
        return replace(image, attributes={**image.attributes, FILE_SIZE: -1})
    if kind == 2 and cells:
        first = Cell(cells[0].rings, attributes={"remark": 'neben dem "Ventrikel", 1½ Zellen?', "sure": "no"})
        cells = (first, *cells[1:])
    return replace(image, cells=cells)


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

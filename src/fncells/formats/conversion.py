"""Any format to any other, and a true account of what was lost on the way."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fncells import files
from fncells.cells import AnnotatedImage, Cell
from fncells.errors import InputError
from fncells.formats.codec import Codec, Unread
from fncells.formats.pictures import own_attributes
from fncells.formats.registry import codec_named, find_annotations, recognise
from fncells.outlines import ring_roles

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ConversionReport", "Losses", "Tally", "convert", "tally"]

_LARGEST_CANVAS = 10**8  # px; what a picture of unknown size may take to measure its cells on


@dataclass(frozen=True)
class Tally:
    """What one reader finds on one picture.

    Parameters
    ----------
    n_cells
        Cells that are not dots.
    dots
        Cells that are.
    holes, parts
        Outlines that are holes; parts beyond the first of each cell.
    overlaps
        Cells that share a pixel with another.
    shapes
        Cells drawn as something else than a polygon or a dot.
    fractions
        Cells with a vertex between pixel centres.
    attributes
        Values known of cells: attributes, markers and scores.
    area_px2
        Sum of the cells' own areas in pixels; None where the picture's size is unknown and its cells lie too far apart.
    """

    n_cells: int
    dots: int
    holes: int
    parts: int
    overlaps: int | None
    shapes: int
    fractions: int
    attributes: int
    area_px2: int | None


@dataclass(frozen=True)
class Losses:
    """One picture before a conversion, and as a foreign reader finds it afterwards.

    Parameters
    ----------
    picture
        Its name.
    before, after
        What the source held, and what is read from the file written.
    """

    picture: str
    before: Tally
    after: Tally

    @property
    def area_change_percent(self) -> float | None:
        """Change of the summed area, in percent of what it was; None where there was none or it is unknown."""
        if not self.before.area_px2 or self.after.area_px2 is None:
            return None
        return 100 * (self.after.area_px2 - self.before.area_px2) / self.before.area_px2

    def as_dict(self) -> dict[str, object]:
        """Give counts before and after, what is lost of each kind (never below 0), and the change of area."""
        before, after = asdict(self.before), asdict(self.after)
        row: dict[str, object] = {"picture": self.picture}
        for key in ("n_cells", "area_px2"):
            row |= {key: before[key], f"{key}_read": after[key]}
        row["area_change_percent"] = self.area_change_percent
        for key in ("dots", "holes", "parts", "overlaps", "shapes", "fractions", "attributes"):
            unknown = before[key] is None or after[key] is None
            row[f"{key}_lost"] = None if unknown else max(0, before[key] - after[key])
        return row


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did and what it lost, as a reader of the new format finds it that does not know fncells.

    Parameters
    ----------
    source_format, target_format
        Names of the formats.
    pictures
        One entry a picture, in the order of the source.
    loses
        What the target format cannot tell other readers, in words.
    failed
        Name and reason of every picture that could not be converted.
    """

    source_format: str
    target_format: str
    pictures: tuple[Losses, ...]
    loses: tuple[str, ...]
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def total(self) -> dict[str, object]:
        """Sums over all pictures, unknown ones left out."""
        rows = [losses.as_dict() for losses in self.pictures]
        keys = Losses("", _NOTHING, _NOTHING).as_dict()
        total: dict[str, object] = {"picture": f"all {len(rows)}"}
        for key in keys:
            if key not in total:
                total[key] = sum(value for row in rows if isinstance(value := row[key], int))
        known = [losses for losses in self.pictures if losses.area_change_percent is not None]
        before = sum(losses.before.area_px2 or 0 for losses in known)
        after = sum(losses.after.area_px2 or 0 for losses in known)
        total["area_change_percent"] = 100 * (after - before) / before if before else None
        return total

    def as_dict(self) -> dict[str, object]:
        """Everything as JSON can hold it."""
        return {
            "from": self.source_format,
            "to": self.target_format,
            "loses": list(self.loses),
            "total": {key: value for key, value in self.total.items() if key != "picture"},
            "per_picture": [losses.as_dict() for losses in self.pictures],
            "failed": [{"picture": name, "reason": reason} for name, reason in self.failed],
        }

    def as_table(self) -> "pd.DataFrame":
        """One row a picture, and the sums as the last row."""
        import pandas as pd

        return pd.DataFrame([*(losses.as_dict() for losses in self.pictures), self.total])


def tally(image: AnnotatedImage, shape: tuple[int, int] | None) -> Tally:
    """Count what a picture's annotations hold.

    Parameters
    ----------
    image
        The picture's cells.
    shape
        Height and width to measure areas on; None leaves areas and overlaps unknown.
    """
    roles = [ring_roles(cell.rings) for cell in image.cells if not cell.is_dot]
    area, overlaps = (None, None) if shape is None else _areas(image.with_shape(shape))
    return Tally(
        n_cells=len(roles),
        dots=sum(cell.is_dot for cell in image.cells),
        holes=sum(found.count("hole") for found in roles),
        parts=sum(max(0, found.count("outer") - 1) for found in roles),
        overlaps=overlaps,
        shapes=sum(cell.source_shape not in ("polygon", "point") for cell in image.cells),
        fractions=sum(any(bool((ring % 1).any()) for ring in cell.rings) for cell in image.cells),
        attributes=sum(_known(cell) for cell in image.cells),
        area_px2=area,
    )


def convert(
    source: Path,
    target: Path,
    to: str,
    source_format: str | None = None,
    images: Path | None = None,
    dialect: str | None = None,
    *,
    compress: bool = False,
) -> ConversionReport:
    """Convert annotations, and measure what was lost by reading the result as a foreign reader would.

    A picture that cannot be read, or that the target cannot hold, is left out and reported. The result is put into place
    when all of it has been written.

    Parameters
    ----------
    source
        The annotations.
    target
        The file or folder to make. A folder must be new, empty, or the result of the same conversion.
    to
        Name of the target's format.
    source_format
        Name of the source's format; recognised if not given.
    images
        The folder of the pictures, where the source does not hold their shapes.
    dialect
        ``published`` writes the format as the published archive has it. Reading needs no such word.
    compress
        Pack the files, where the format's readers take packed ones. Reading needs no such word.

    Returns
    -------
    ConversionReport

    Raises
    ------
    InputError
        If the source cannot be read, the target cannot be made, or every single picture fails.
    """
    codec = codec_named(to, dialect, compressed=compress)
    _check_apart(source, target)
    name = source_format or recognise(source)
    target = target.absolute()
    transfer = _Transfer(find_annotations(source, name, images), codec)
    if codec.one_file:
        if target.is_dir():
            raise InputError(target, expected=f"the name of one file, as {to} is", found="a folder")
        with files.whole(target) as temporary:
            transfer.run(temporary, source)
    else:
        settings = {"from": name, "to": to, "images": images is not None, "dialect": dialect, "compress": compress}
        inputs = _digests(source)
        _check_free(target, settings, inputs)
        _into_folder(transfer, target, source, (settings, inputs))
    return ConversionReport(name, to, transfer.losses, codec.loses, tuple(transfer.failed))


_NOTHING = Tally(0, 0, 0, 0, 0, 0, 0, 0, 0)


class _Transfer:
    """Pictures on their way from a reader to a writer, one by one, noting what each held and what is found of it then.

    Parameters
    ----------
    pictures
        What there is to transfer.
    codec
        The format to write.
    """

    def __init__(self, pictures: Iterable[Unread], codec: Codec) -> None:
        self.failed: list[tuple[str, str]] = []
        self._pictures = pictures
        self._codec = codec
        self._before: dict[str, tuple[str, tuple[int, int] | None, Tally]] = {}
        self._after: dict[str, Tally] = {}

    @property
    def losses(self) -> tuple[Losses, ...]:
        """What each picture held before, and what a foreign reader finds."""
        return tuple(
            Losses(name, before, self._after.get(key, _NOTHING)) for key, (name, _, before) in self._before.items()
        )

    def run(self, path: Path, source: Path) -> None:
        """Write the file or folder and read it back."""
        with self._codec.writing(path) as add:
            for picture in self._pictures:
                try:
                    image = picture.read()
                    add(image)
                except InputError as error:
                    self.failed.append((picture.name, str(error)))
                else:
                    shape = image.shape or _canvas(image)
                    self._before[self._key(image)] = image.name, shape, tally(image, shape)
        if self.failed and not self._before:
            found = f"{len(self.failed)} that cannot be converted, the first: {self.failed[0][1]}"
            raise InputError(source, expected="annotations of pictures", found=found)
        self._read_back(path)

    def _read_back(self, path: Path) -> None:
        """Tell what a foreign reader finds; a picture that it does not find, or cannot read, holds nothing."""
        for picture in self._codec.find_foreign(path, None) if self._before else ():
            with suppress(InputError):
                image = picture.read()
                key = self._key(image)
                if key in self._before:
                    self._after[key] = tally(image, self._before[key][1])

    def _key(self, image: AnnotatedImage) -> str:
        """Files of a folder are named by the stem; one file names its pictures itself."""
        return image.name if self._codec.one_file else image.stem


def _into_folder(
    transfer: _Transfer, target: Path, source: Path, record: tuple[Mapping[str, object], Mapping[str, str]]
) -> None:
    """Write into a hidden sibling, measure there, then move file by file; the record first, so that a rerun can go on."""
    stage = target.with_name(f".{target.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    try:
        stage.mkdir(parents=True)
        transfer.run(stage, source)
        written = sorted(path for path in stage.rglob("*") if path.is_file())
        target.mkdir(parents=True, exist_ok=True)
        files.write_record(target, "convert", *record)
        for path in written:
            place = target / path.relative_to(stage)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _check_apart(source: Path, target: Path) -> None:
    inside, outside = target.resolve(), source.resolve()
    if inside == outside or outside in inside.parents or inside in outside.parents:
        raise InputError(target, expected="a target apart from the source", found=f"one that overlaps {source}")


def _check_free(target: Path, settings: Mapping[str, object], inputs: Mapping[str, str]) -> None:
    """Old files beside new ones would pass for results of this conversion."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(target, expected="a folder, or nothing yet", found="a file")
    files.remove_leftovers(target)
    record = files.read_record(target) or {}
    same = (record.get("command"), record.get("settings"), record.get("inputs")) == ("convert", settings, inputs)
    if not same and any(target.iterdir()):
        found = "the result of something else" if record else "other files"
        raise InputError(target, expected="a new or empty folder", found=found, advice="give another or empty it")


def _digests(source: Path) -> dict[str, str]:
    if source.is_file():
        return {source.name: files.sha256(source)}
    relative = ((path, path.relative_to(source)) for path in sorted(source.rglob("*")) if path.is_file())
    return {
        name.as_posix(): files.sha256(path)
        for path, name in relative
        if name.name != files.RECORD_NAME and not any(part.startswith(".") for part in name.parts)
    }


def _canvas(image: AnnotatedImage) -> tuple[int, int] | None:
    """Give the smallest picture that holds all cells, to measure them on where the true size is unknown."""
    rings = [ring.max(axis=0) for cell in image.cells for ring in cell.rings]
    width, height = (np.max(rings, axis=0) + 2).clip(1).astype(int).tolist() if rings else (1, 1)
    return (height, width) if height * width <= _LARGEST_CANVAS else None


def _areas(image: AnnotatedImage) -> tuple[int, int]:
    """Sum of the cells' own areas, and how many cells share pixels with others."""
    total = int(image.areas.sum())
    if total == 0 or total == np.count_nonzero(image.labels):
        return total, 0
    covered = np.zeros(image.labels.size, dtype=np.int32)
    for indices in image.pixels:
        covered[indices] += 1
    return total, sum(bool((covered[indices] > 1).any()) for indices in image.pixels)


def _known(cell: Cell) -> int:
    own = own_attributes(cell.attributes)
    return len(own.keys() | {key for key in ("marker", "score") if getattr(cell, key) is not None})

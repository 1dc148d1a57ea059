"""An archive of collections as it lies on disk, and the index that tells what each picture is.

The layout is that of the published collections (Clissa et al., FNC v2, figure 4 and Data Records)::

    metadata_v2.xlsx                                              the index: one row a picture
    <collection>/{trainval,test}/images/<number>.png
    <collection>/{trainval,test}/metadata/<number>.txt
    <collection>/{trainval,test}/ground_truths/                   masks and the other formats; see `fncells.truths`
    <collection>/unlabelled/{images,metadata}/

The folders decide which picture belongs to which partition; the index adds what it knows and need not be there.
"""

import csv
import datetime
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import ParseError

import numpy as np

from fncells import files
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.images import Picture, PixelSize, read_picture
from fncells.truths import PICTURE_TRUTHS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "INDEX_COLUMNS",
    "INDEX_NAME",
    "LABELLED",
    "PARTITIONS",
    "Archive",
    "Sample",
    "index_frame",
    "path_of",
    "read_index",
    "write_index",
]

INDEX_NAME = "metadata_v2.xlsx"
SHEET = "metadata"
LABELLED = ("trainval", "test")
PARTITIONS = (*LABELLED, "unlabelled")
INDEX_COLUMNS = (
    "image_name",
    "original_name",
    "dataset",
    "partition",
    "double_marked",
    "species",
    "animal",
    "sample",
    "column",
    "row",
    "area",
    "side",
    "region",
    "zoom",
    "marker",
    "structure",
    "width",
    "height",
    "pixel_size_um",
    "pixel_size_source",
    "n_cells",
    "sha256",
)

_FILES = {
    "images": "images/{number}.png",
    "metadata": "metadata/{number}.txt",
    **{kind: f"ground_truths/{truth.path}" for kind, truth in PICTURE_TRUTHS.items()},
}
_TRUE = frozenset({"true", "yes", "y", "1", "x"})
_FALSE = frozenset({"false", "no", "n", "0"})
_UNKNOWN = frozenset({"", "-", "?", "u", "na", "n/a", "nan", "none"})
_HEADER_WITHIN = 20  # rows that may stand above the header: titles, notes


def path_of(kind: str, collection: str, partition: str, stem: str) -> PurePosixPath:
    """Tell where a picture's file lies, relative to the archive.

    Parameters
    ----------
    kind
        ``images``, ``metadata``, or one of :data:`fncells.truths.PICTURE_TRUTHS`.
    collection, partition, stem
        Whose file; ``stem`` is the picture's name in the archive without suffix.

    Returns
    -------
    pathlib.PurePosixPath
        Relative path with forward slashes.
    """
    return PurePosixPath(collection, partition, _FILES[kind].format(number=stem))


@dataclass(frozen=True)
class Sample:
    """One picture of an archive with its ground truth.

    Parameters
    ----------
    collection, partition
        Where it belongs; ``partition`` is ``trainval``, ``test`` or ``unlabelled``.
    name
        File name in the archive, such as ``128.png``.
    picture_path
        The picture.
    mask_path, labels_path
        Binary mask and label picture; None where there is none.
    pixel_size
        From the index; None where it does not tell.
    original_name
        Name of the raw picture, from the index.
    """

    collection: str
    partition: str
    name: str
    picture_path: Path
    mask_path: Path | None = None
    labels_path: Path | None = None
    pixel_size: PixelSize | None = None
    original_name: str | None = None

    def read_picture(self) -> Picture:
        """Read the picture; the index's pixel size stands in where the picture has none itself."""
        picture = read_picture(self.picture_path, self.name)
        return picture if picture.pixel_size is not None else replace(picture, pixel_size=self.pixel_size)

    def read_cells(self) -> AnnotatedImage:
        """Read the annotated cells: the label picture's where there is one, else the mask's 8-connected components.

        Returns
        -------
        AnnotatedImage
            Without cells where the mask is empty.

        Raises
        ------
        InputError
            If the picture has no ground truth, or its file is no picture of one channel.
        """
        if self.labels_path is not None:
            return AnnotatedImage.from_labels(self.name, read_picture(self.labels_path).pixels)
        if self.mask_path is None:
            raise InputError(
                self.picture_path,
                expected="a picture with ground truth",
                found=f"no mask of that name in {self.collection}/{self.partition}",
                advice="choose the partitions trainval and test, and run `fncells check` on the archive",
            )
        values = read_picture(self.mask_path).pixels
        flat = values.max(axis=2) if values.ndim == 3 else values
        # Half of what is there, so that 0/1, 0/255 and 0/65535 are all read alike.
        return AnnotatedImage.from_mask(self.name, flat > np.float64(flat.max(initial=0)) / 2)


@dataclass(frozen=True, eq=False)
class Archive:
    """Collections of pictures with ground truth, as published or as `fncells build` makes them.

    Parameters
    ----------
    root
        The archive's folder.
    collections
        Names of the collections in it, sorted.
    """

    root: Path
    collections: tuple[str, ...]

    @classmethod
    def open(cls, path: Path | str) -> "Archive":
        """Open an archive, or one collection of it.

        Parameters
        ----------
        path
            The folder that holds the collections, or the folder of one collection.

        Returns
        -------
        Archive
            Nothing is read yet but the names of the folders.

        Raises
        ------
        InputError
            If there is no collection: no folder with ``trainval``, ``test`` or ``unlabelled`` pictures in it.
        """
        root = Path(path)
        if not root.is_dir():
            found = "a file" if root.exists() else "nothing of that name"
            raise InputError(root, expected="the folder of an archive", found=found)
        if _is_collection(root):
            resolved = root.resolve()
            return cls(resolved.parent, (resolved.name,))
        collections = tuple(sorted(folder.name for folder in root.iterdir() if _is_collection(folder)))
        if not collections:
            raise InputError(
                root,
                expected="collections, folders that hold trainval/images, test/images or unlabelled/images",
                found="none",
                advice="make an archive with `fncells build`, or get the published one with `fncells fetch`",
            )
        return cls(root, collections)

    @cached_property
    def index(self) -> "pd.DataFrame":
        """One row a picture with at least `INDEX_COLUMNS`; what is unknown is NA.

        Without ``metadata_v2.xlsx`` it holds what the folders tell: name, collection and partition.
        """
        path = self.root / INDEX_NAME
        if path.exists():
            return read_index(path, required=("image_name", "dataset"))
        rows = [
            {"image_name": picture.name, "dataset": collection, "partition": partition}
            for collection in self.collections
            for partition in PARTITIONS
            for picture in self._pictures(collection, partition)
        ]
        return index_frame(rows)

    def samples(self, collection: str | None = None, partition: str | None = None) -> list[Sample]:
        """List the pictures, by collection, partition and number.

        Parameters
        ----------
        collection, partition
            Only these; None takes all.

        Returns
        -------
        list of Sample
            Masks without a picture are not among them (see `unpaired_masks`).

        Raises
        ------
        InputError
            If there is no such collection or partition, or the index cannot be read.
        """
        collections = _chosen(self.root, "collection", collection, self.collections)
        partitions = _chosen(self.root, "partition", partition, PARTITIONS)
        return [
            self._sample(one, part, picture)
            for one in collections
            for part in partitions
            for picture in self._pictures(one, part)
        ]

    def unpaired_masks(self) -> list[Path]:
        """List masks that belong to no picture; the published green collection has one."""
        return [
            mask
            for collection in self.collections
            for partition in LABELLED
            for mask in _by_number(self.root / collection / partition / "ground_truths" / "masks")
            if not (self.root / path_of("images", collection, partition, mask.stem)).exists()
        ]

    def _pictures(self, collection: str, partition: str) -> list[Path]:
        return _by_number(self.root / collection / partition / "images")

    @cached_property
    def _known(self) -> dict[tuple[str, str], tuple[str | None, PixelSize | None]]:
        """Original name and pixel size by collection and stem: some indexes name pictures without the suffix."""
        import pandas as pd

        known = {}
        columns = ("dataset", "image_name", "original_name", "pixel_size_um", "pixel_size_source")
        for dataset, image, original, um, source in self.index[list(columns)].itertuples(index=False, name=None):
            if pd.isna(dataset) or pd.isna(image):
                continue
            size = None if pd.isna(um) else PixelSize(float(um), "index" if pd.isna(source) else str(source))
            known[str(dataset).lower(), _stem(str(image))] = (None if pd.isna(original) else str(original), size)
        return known

    def _sample(self, collection: str, partition: str, picture: Path) -> Sample:
        mask = self.root / path_of("masks", collection, partition, picture.stem)
        labels = self.root / path_of("labels", collection, partition, picture.stem)
        original, size = self._known.get((collection.lower(), picture.stem), (None, None))
        return Sample(
            collection=collection,
            partition=partition,
            name=picture.name,
            picture_path=picture,
            mask_path=mask if mask.exists() else None,
            labels_path=labels if labels.exists() else None,
            pixel_size=size,
            original_name=original,
        )


def read_index(path: Path, required: Sequence[str] = ("original_name",)) -> "pd.DataFrame":
    """Read an index of pictures, or a lab's own metadata, from an Excel workbook or a CSV file.

    The columns may be in any order, with others among them; their names may differ in case, spaces and hyphens. Rows above
    the header and empty rows are passed over. Dates in columns of the lab's own become ISO texts.

    Parameters
    ----------
    path
        ``.xlsx`` with the sheet ``metadata``, or with one sheet of any name; or ``.csv``.
    required
        Columns that must be there.

    Returns
    -------
    pandas.DataFrame
        `INDEX_COLUMNS` first, then the file's other columns; what is empty or unknown (``u``) is NA.

    Raises
    ------
    InputError
        If the file cannot be read or a cell does not hold what its column asks; it names sheet, row and column.
    """
    sheet, lines = _read_csv(path) if path.suffix.lower() == ".csv" else _read_workbook(path)
    table = iter(lines)
    columns = _header(path, sheet, table, required)
    rows = []
    for number, values in table:
        if all(value is None or value == "" for value in values):
            continue
        row = {}
        for position, name in columns.items():
            value = values[position] if position < len(values) else None
            row[name] = _cell(value, name, path, f"{sheet}row {number}, column {name}")
        rows.append(row)
    extra = [name for name in columns.values() if name not in INDEX_COLUMNS]
    return index_frame(rows, (*INDEX_COLUMNS, *extra))


def write_index(path: Path, index: "pd.DataFrame") -> None:
    """Write an index as the sheet ``metadata`` of an Excel workbook; the same index gives the same bytes.

    Parameters
    ----------
    path
        The workbook to write.
    index
        One row a picture; columns out of `INDEX_COLUMNS` that are not there stay empty, others are put behind them.
    """
    columns = [*INDEX_COLUMNS, *(name for name in index.columns if name not in INDEX_COLUMNS)]
    files.write_workbook(path, {SHEET: index.reindex(columns=columns)})


def _is_collection(folder: Path) -> bool:
    return any((folder / partition / "images").is_dir() for partition in PARTITIONS)


def _stem(name: str) -> str:
    return name[:-4] if name.lower().endswith(".png") else name


def _by_number(folder: Path) -> list[Path]:
    """PNG files of a folder, numbers in their own order (2 before 10) and before other names."""

    def key(path: Path) -> tuple[bool, int, str]:
        numbered = path.stem.isdecimal() and path.stem.isascii()
        return not numbered, int(path.stem[:18]) if numbered else 0, path.name

    found = folder.glob("*.png") if folder.is_dir() else ()
    return sorted((path for path in found if not path.name.startswith(".")), key=key)


def _chosen(root: Path, what: str, chosen: str | None, known: Sequence[str]) -> Sequence[str]:
    if chosen is None:
        return known
    if chosen not in known:
        raise InputError(root, expected=f"a {what} out of {', '.join(known)}", found=repr(chosen))
    return (chosen,)


Line = tuple[int, Sequence[object]]


def _read_csv(path: Path) -> tuple[str, Iterable[Line]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, "a CSV file in UTF-8", error) from error
    return "", lines


def _read_workbook(path: Path) -> tuple[str, Iterable[Line]]:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with warnings.catch_warnings():
            # openpyxl warns of every feature of Excel that it drops; none of them holds a value.
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(path, data_only=True)
    except (OSError, zipfile.BadZipFile, InvalidFileException, KeyError, ValueError, ParseError, EOFError) as error:
        raise _unreadable(path, "an Excel workbook (.xlsx)", error) from error
    names = {sheet.title.strip().lower(): sheet for sheet in book.worksheets}
    sheet = names.get(SHEET, book.worksheets[0] if len(book.worksheets) == 1 else None)
    if sheet is None:
        raise InputError(
            path, expected=f"a sheet named {SHEET!r}", found=f"sheets named {', '.join(book.sheetnames) or 'nothing'}"
        )
    lines = enumerate(sheet.iter_rows(values_only=True), 1)
    return f"sheet {sheet.title}, ", lines


def _unreadable(path: Path, expected: str, error: Exception) -> InputError:
    found = "nothing of that name" if isinstance(error, FileNotFoundError) else f"something else ({error})"
    return InputError(path, expected=expected, found=found)


def _header(path: Path, sheet: str, lines: Iterator[Line], required: Sequence[str]) -> dict[int, str]:
    """Find the header row and give the column names by their positions."""
    best: list[str] = []
    for _, (number, values) in zip(range(_HEADER_WITHIN), lines, strict=False):
        names = [re.sub(r"[\s-]+", "_", str(value).strip().lower()) if value is not None else "" for value in values]
        if all(name in names for name in required):
            twice = next((name for name in names if name and names.count(name) > 1), None)
            if twice:
                place = f"{sheet}row {number}"
                raise InputError(path, place=place, expected="every column once", found=f"column {twice} twice")
            return {position: name for position, name in enumerate(names) if name}
        best = max(best, [name for name in names if name], key=len)
    missing = ", ".join(name for name in required if name not in best)
    raise InputError(
        path,
        place=sheet.rstrip(", ") or None,
        expected=f"a header row with the columns {', '.join(required)}",
        found=f"no {missing} among {', '.join(best[:12])}" if best else "no row at all",
    )


def _cell(value: object, column: str, path: Path, place: str) -> object:
    """Turn one cell of the sheet into what its column holds."""
    if isinstance(value, str):
        value = value.strip()
    if value is None or value in ("", "#N/A"):
        return None
    kind = _KINDS.get(column)
    if kind is None:
        return _as_date_text(value) or (value if isinstance(value, int | float) else str(value))
    expected, reader = kind
    result = reader(value)
    if result is _WRONG:
        dated = _as_date_text(value)
        raise InputError(
            path,
            place=place,
            expected=expected,
            found=f"the date {dated}" if dated else repr(value),
            advice="format the cell as text and write it again: Excel takes names like Mar19 for dates"
            if dated
            else None,
        )
    return result


_WRONG = object()


def _as_date_text(value: object) -> str | None:
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ") if value.time() != datetime.time() else value.date().isoformat()
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else None


def _text(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    wrong = _as_date_text(value) is not None or (isinstance(value, str) and value.startswith("#"))
    return _WRONG if wrong else str(value)


def _whole(value: object) -> object:
    if isinstance(value, str) and value.lower() in _UNKNOWN:
        return None
    number = _number(value)
    return int(number) if number is not None and 0 <= number < 2**53 and number.is_integer() else _WRONG


def _positive(value: object) -> object:
    if isinstance(value, str) and value.lower() in _UNKNOWN:
        return None
    number = _number(value)
    return number if number is not None and 0 < number < float("inf") else _WRONG


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        # Labs in half of Europe type the decimal comma.
        return float(value.replace(",", ".") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None


def _flag(value: object) -> object:
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    return None if text in _UNKNOWN else _WRONG


def _partition(value: object) -> object:
    text = str(value).lower().replace("unlabeled", "unlabelled")
    return text if text in PARTITIONS else _WRONG


_Kind = tuple[str, Callable[[object], object]]
_TEXT: _Kind = ("text", _text)
_WHOLE: _Kind = ("a whole number, or u for unknown", _whole)
_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(INDEX_COLUMNS, _TEXT),
    **dict.fromkeys(("sample", "column", "row", "width", "height", "n_cells"), _WHOLE),
    "pixel_size_um": ("a size in µm above 0", _positive),
    "double_marked": ("yes or no", _flag),
    "partition": (f"one of {', '.join(PARTITIONS)}, or nothing", _partition),
}
_DTYPES: dict[object, Literal["Int64", "Float64", "boolean"]] = {
    _whole: "Int64",
    _positive: "Float64",
    _flag: "boolean",
}


def index_frame(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = INDEX_COLUMNS) -> "pd.DataFrame":
    """Make an index in which every known column has one type, whatever the rows leave unknown.

    Parameters
    ----------
    rows
        One mapping a picture; None or a missing key is unknown.
    columns
        Columns of the result, in order.

    Returns
    -------
    pandas.DataFrame
        Texts as ``string``, whole numbers as ``Int64``, sizes as ``Float64``, yes or no as ``boolean``.
    """
    import pandas as pd

    return pd.DataFrame(
        {
            name: pd.Series(
                [row.get(name) for row in rows],
                dtype=_DTYPES.get(_KINDS[name][1], "string") if name in _KINDS else "object",
            )
            for name in columns
        }
    )

"""The index of an archive, and a lab's own metadata: a table with one row a picture, as a workbook, CSV or Parquet."""

import csv
import datetime
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fncells import files
from fncells.errors import InputError, MissingExtraError
from fncells.names import Specimen

if TYPE_CHECKING:
    import pandas as pd
    from openpyxl import Workbook

__all__ = [
    "INDEX_COLUMNS",
    "INDEX_NAME",
    "INDEX_SUFFIXES",
    "LABELLED",
    "PARTITIONS",
    "index_frame",
    "index_records",
    "read_index",
    "specimen_told",
    "write_index",
]

INDEX_NAME = "metadata_v2.xlsx"
INDEX_SUFFIXES = (".xlsx", ".csv", ".parquet")
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
    "camera",
    "taken",
    "pixel_size_um",
    "pixel_size_source",
    "n_cells",
    "sha256",
)

_TRUE = frozenset({"true", "yes", "y", "1", "x"})
_FALSE = frozenset({"false", "no", "n", "0"})
_EXCEL_ERROR = re.compile(r"#(N/A|NAME\?|GETTING_DATA|(NULL|DIV/0|VALUE|REF|NUM|SPILL|CALC|FIELD|BLOCKED|CONNECT)!)")
_UNKNOWN = frozenset({"", "-", "?", "u", "na", "n/a", "nan", "none"})
_HEADER_WITHIN = 20  # rows that may stand above the header: titles, notes
_MOST_UNPACKED = 2**28  # bytes of a workbook; the index of a hundred thousand pictures has a tenth


def read_index(path: Path, required: Sequence[str] = ("original_name",)) -> "pd.DataFrame":
    """Read an index of pictures, or a lab's own metadata, from an Excel workbook, a CSV file or a Parquet file.

    The columns may be in any order, with others among them; their names may differ in case, spaces and hyphens. Rows above
    the header and empty rows are passed over. Dates in columns of the lab's own, and in ``taken``, become ISO texts.

    Parameters
    ----------
    path
        ``.xlsx`` with the sheet ``metadata``, or with one sheet of any name; ``.csv``; or ``.parquet``.
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
    MissingExtraError
        If it is a Parquet file and the extra ``tables`` is not installed.
    """
    sheet, lines = _READERS.get(path.suffix.lower(), _read_workbook)(path)
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


def specimen_told(row: Mapping[str, Any]) -> Specimen:
    """Give what a row of an index, or of a lab's metadata, says of the specimen."""
    return Specimen(**{name: row.get(name) for name in Specimen.__dataclass_fields__})


def index_records(index: "pd.DataFrame") -> list[dict[str, Any]]:
    """Give the rows of an index as mappings, with None for what is unknown."""
    columns = [str(name) for name in index.columns]
    plain = index.astype(object).where(index.notna(), None)
    return [dict(zip(columns, row, strict=True)) for row in plain.itertuples(index=False, name=None)]


def write_index(path: Path, index: "pd.DataFrame") -> None:
    """Write an index; the same index gives the same bytes.

    A workbook has the sheet ``metadata``, whose cells for partitions and for yes or no offer what they may hold.

    Parameters
    ----------
    path
        The file to write: ``.xlsx``, ``.csv`` or ``.parquet``.
    index
        One row a picture; columns out of `INDEX_COLUMNS` that are not there stay empty, others are put behind them.

    Raises
    ------
    InputError
        If the suffix is another one.
    MissingExtraError
        If it is ``.parquet`` and the extra ``tables`` is not installed.
    """
    columns = [*INDEX_COLUMNS, *(name for name in index.columns if name not in INDEX_COLUMNS)]
    table, suffix = index.reindex(columns=columns), path.suffix.lower()
    if suffix == ".xlsx":
        files.write_workbook(path, {SHEET: table}, choices=_CHOICES)
    elif suffix == ".csv":
        files.write_csv(path, table)
    elif suffix == ".parquet":
        _write_parquet(path, table)
    else:
        raise InputError(path, expected=f"a name that ends in {' or '.join(INDEX_SUFFIXES)}", found=repr(path.suffix))


Line = tuple[int, Sequence[object]]


def _read_csv(path: Path) -> tuple[str, Iterable[Line]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
        lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, "a CSV file in UTF-8", error, "in Excel: save as CSV UTF-8") from error
    return "", lines


def _read_parquet(path: Path) -> tuple[str, Iterable[Line]]:
    pandas = _with_parquet(path)
    try:
        table = pandas.read_parquet(path, engine="pyarrow").reset_index(drop=True)
    except Exception as error:  # pyarrow's own errors, and whatever broken bytes lead it to
        raise _unreadable(path, "a Parquet file", error) from error
    plain = table.astype(object).where(table.notna(), None)
    header: Line = (0, [str(name) for name in table.columns])
    return "", [header, *enumerate(plain.itertuples(index=False, name=None), 1)]


def _write_parquet(path: Path, table: "pd.DataFrame") -> None:
    pandas = _with_parquet(path)
    texts = {name: "string" for name in table.columns if table[name].dtype == object}
    plain = pandas.DataFrame(table).astype(texts)
    with files.whole(path) as temporary:
        plain.to_parquet(temporary, engine="pyarrow", index=False)


def _with_parquet(path: Path) -> Any:
    import pandas as pd

    try:
        import pyarrow  # noqa: F401 - what pandas reads and writes Parquet with
    except ImportError as error:
        raise MissingExtraError("tables", f"the Parquet file {path.name}") from error
    return pd


def _read_workbook(path: Path) -> tuple[str, Iterable[Line]]:
    import openpyxl

    try:
        _check_size(path)
        with warnings.catch_warnings():
            # openpyxl warns of every feature of Excel that it drops; none of them holds a value.
            warnings.simplefilter("ignore")
            # Read as a stream: what a sheet says of its size may be all of Excel's seventeen milliards of cells.
            book = openpyxl.load_workbook(path, data_only=True, read_only=True)
            try:
                return _read_sheet(path, book)
            finally:
                book.close()
    except InputError:
        raise
    except Exception as error:  # a broken workbook leads openpyxl anywhere from KeyError to zlib.error
        raise _unreadable(path, "an Excel workbook (.xlsx)", error) from error


def _read_sheet(path: Path, book: "Workbook") -> tuple[str, Iterable[Line]]:
    names = {sheet.title.strip().lower(): sheet for sheet in book.worksheets}
    sheet = names.get(SHEET, book.worksheets[0] if len(book.worksheets) == 1 else None)
    if sheet is None:
        raise InputError(
            path, expected=f"a sheet named {SHEET!r}", found=f"sheets named {', '.join(book.sheetnames) or 'nothing'}"
        )
    sheet.reset_dimensions()
    rows = enumerate(sheet.iter_rows(values_only=True), 1)
    return f"sheet {sheet.title}, ", [(number, row) for number, row in rows if any(value is not None for value in row)]


def _check_size(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > _MOST_UNPACKED:
        expected = f"a workbook that unpacks to at most {_MOST_UNPACKED >> 20} MiB"
        raise InputError(path, expected=expected, found=f"{size >> 20} MiB")


def _unreadable(path: Path, expected: str, error: Exception, advice: str | None = None) -> InputError:
    missing = isinstance(error, FileNotFoundError)
    found = "nothing of that name" if missing else f"something else ({' '.join(str(error).split())})"
    return InputError(path, expected=expected, found=found, advice=None if missing else advice)


_READERS: dict[str, Callable[[Path], tuple[str, Iterable[Line]]]] = {".csv": _read_csv, ".parquet": _read_parquet}


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


def _date(value: object) -> object:
    dated = _as_date_text(value)
    return dated.replace(" ", "T") if dated else _text(value)


def _text(value: object) -> object:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    wrong = _as_date_text(value) is not None or (isinstance(value, str) and _EXCEL_ERROR.fullmatch(value))
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
    "taken": ("a date", _date),
    "partition": (f"one of {', '.join(PARTITIONS)}, or nothing", _partition),
}
_CHOICES = {"partition": PARTITIONS, "double_marked": ("TRUE", "FALSE")}
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

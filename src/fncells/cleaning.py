"""Masks made by thresholding, cleaned as the yellow masks of the first version were for the second.

The rule is that of the published collections (Clissa et al., FNC v2, Data annotation and figure 3): outlines are smoothed by an
opening and a closing, grey levels become yes or no, small holes are filled and small objects removed. Masks that people drew by
hand are not smoothed, for their outlines are meant.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import fncells
from fncells import files
from fncells.errors import FncellsError, InputError
from fncells.files import Source
from fncells.formats.rasters import read_raster, write_raster
from fncells.ledger import LEDGER_NAME, Ledger
from fncells.workers import in_parallel

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CHANGES_NAME",
    "MASKS_FOLDER",
    "CleanSettings",
    "CleanSummary",
    "clean",
    "clean_mask",
    "drawn_by_hand",
    "mask_levels",
    "read_names",
]

CHANGES_NAME = "changes.csv"
MASKS_FOLDER = "masks"

_COLUMNS = (
    "picture",
    "status",
    "smoothed",
    "objects_before",
    "objects_after",
    "pixels_before",
    "pixels_after",
    "added_px",
    "removed_px",
    "iou",
    "reason",
)
_COUNTED = ("objects_before", "objects_after", "pixels_before", "pixels_after", "added_px", "removed_px")

# The 31 pictures of the first version that were segmented by hand: all whose names end so, and these eight.
_HAND_DRAWN_ENDING = "_o"
_HAND_DRAWN = frozenset(
    {
        "mar31bs2c1r2_vlpagr_200x_y",
        "mar31bs2c3r4_dmr_200x_y",
        "mar32bs2c2r2_dml_200x_y",
        "mar33bs1c4r2_dml_200x_y",
        "mar33bs1c4r2_dmr_200x_y",
        "mar33bs2c1r1_dml_200x_y",
        "mar36bs1c6r2_dml_200x_y",
        "mar36bs1c6r2_dmr_200x_y",
    }
)


@dataclass(frozen=True)
class CleanSettings:
    """How masks are cleaned; the defaults are the published rule.

    Attributes
    ----------
    radius
        Radius in pixels of the disk of the opening and the closing; 0 smooths nothing.
    threshold
        Levels above it, strictly, are cells, where white is 255; masks of 16 bit are held against the same share of theirs.
    min_hole
        Holes of fewer pixels are filled, small pockets at the picture's border too.
    min_area
        Objects of fewer pixels are removed; pixels that touch at a corner alone are two objects here.
    by_hand
        File with the names of masks that were drawn by hand and are not smoothed, one a line; without it, the published ones.
    workers
        Masks worked on at the same time. The results do not depend on it.
    """

    radius: int = 3
    threshold: int = 150
    min_hole: int = 25
    min_area: int = 40
    by_hand: Path | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name, least, most in (
            ("radius", 0, 100),
            ("threshold", 0, 254),
            ("min_hole", 0, 2**31),
            ("min_area", 0, 2**31),
            ("workers", 1, 1024),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(name.replace("_", " "), expected=f"{least} to {most}", found=str(value))


@dataclass(frozen=True)
class CleanSummary:
    """What a run did.

    Attributes
    ----------
    out
        The folder that was written.
    rows
        A row for every mask, ordered by name: ``picture``, ``status`` (``cleaned`` or ``failed``), ``smoothed``, the number of
        8-connected objects and of cell pixels before and after, the pixels added and removed, the ``iou`` of before and after
        (None where both are empty), and the ``reason`` of a failure or what was odd.
    sources
        Where each mask came from.
    threshold
        Levels above it are cells.
    """

    out: Path
    rows: tuple[Mapping[str, Any], ...]
    sources: Mapping[str, Path]
    threshold: int

    @property
    def failures(self) -> dict[str, str]:
        """Reason of each mask that failed, by its name."""
        return {row["picture"]: row["reason"] for row in self.rows if row["status"] == "failed"}

    @property
    def cleaned(self) -> list[Mapping[str, Any]]:
        """Rows of the masks that did not fail."""
        return [row for row in self.rows if row["status"] == "cleaned"]

    def as_dict(self) -> dict[str, object]:
        """Give the summary as values that JSON holds."""
        totals = {name: sum(row[name] for row in self.cleaned) for name in _COUNTED}
        return {
            "pictures": len(self.rows),
            "cleaned": len(self.cleaned),
            "failed": len(self.failures),
            **totals,
            "failures": self.failures,
            "per_picture": [dict(row) for row in self.rows],
        }


def clean_mask(
    levels: NDArray[Any], settings: CleanSettings | None = None, *, smooth: bool = True
) -> NDArray[np.bool_]:
    """Clean one mask.

    Parameters
    ----------
    levels
        Shape (h, w): truth values, or levels of which 255 is white.
    settings
        None takes the published rule.
    smooth
        Whether outlines are smoothed; masks drawn by hand are not.

    Returns
    -------
    NDArray[np.bool_]
        Shape (h, w).
    """
    settings = settings or CleanSettings()
    # Opening and closing commute with a threshold, and run far faster on what is left after it.
    mask = levels if levels.dtype == np.bool_ else levels > settings.threshold
    if not mask.size:
        return np.asarray(mask, np.bool_)
    if smooth and settings.radius > 0:
        disk = _disk(settings.radius)
        opened = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, disk)
        mask = np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, disk), np.uint8).view(np.bool_)
    filled = ~_without_small(~mask, settings.min_hole)
    return _without_small(filled, settings.min_area)


def mask_levels(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    """Tell what the pixels of a mask file mean.

    Parameters
    ----------
    pixels
        As :func:`fncells.formats.rasters.read_raster` gives them; colours count by their brightest channel.
    path
        The file, for refusals.

    Returns
    -------
    numpy.ndarray
        Shape (h, w): truth values where the picture holds 0 and one other value, else levels of which 255 is white (of 16 bit
        and of fractions too).

    Raises
    ------
    InputError
        If values are negative, not finite or of no such scale, or look like labels.
    """
    grey = pixels.max(axis=2) if pixels.ndim == 3 else pixels
    if grey.dtype == np.bool_ or not grey.size:
        return grey.astype(bool)
    low, high = grey.min(), grey.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise InputError(path, expected="a mask of levels from 0 upward", found=f"values from {low} to {high}")
    if bool(((grey == 0) | (grey == high)).all()):
        return np.asarray(grey != 0)
    if grey.dtype == np.uint8:
        return grey
    white = 1.0 if np.issubdtype(grey.dtype, np.floating) else 65535.0
    if high > white or (white > 1 and high <= 255):
        raise InputError(
            path,
            expected="a mask: 0 and one other value, or grey levels of 8 or 16 bit",
            found=f"{grey.dtype} values up to {high}",
            advice="make masks of label pictures with `fncells convert LABELS MASKS --to masks`",
        )
    return np.asarray(grey.astype(np.float64) * (255 / white))


def drawn_by_hand(name: str, names: Iterable[str] | None = None) -> bool:
    """Tell whether a mask was drawn by hand and is not to be smoothed.

    Parameters
    ----------
    name
        Its file name; folders, suffixes (also two, as in ``….png.tiff``) and upper or lower case do not matter.
    names
        The masks that were; None takes the 31 of the published collection.
    """
    stem = _stem(name)
    if names is None:
        return stem.endswith(_HAND_DRAWN_ENDING) or stem in _HAND_DRAWN
    return stem in {_stem(one) for one in names}


def read_names(path: Path) -> list[str]:
    """Read names from a text file, one a line; empty lines and those that begin with ``#`` are passed over.

    Raises
    ------
    InputError
        If the file cannot be read as UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found = "nothing of that name" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError(path, expected="a text file of names, one a line", found=found) from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def clean(masks: Path, out: Path, settings: CleanSettings | None = None) -> CleanSummary:
    """Clean a folder of masks.

    A mask that cannot be read becomes a row ``failed`` with its reason and does not stop the others. The same call again after
    an interruption goes on where it stopped and ends with the same bytes.

    Parameters
    ----------
    masks
        A folder of masks, with its sub-folders, or one mask: PNG, TIFF or JPEG.
    out
        Folder for ``masks/`` (PNG, 0 and 255), ``changes.csv`` and ``fncells-run.json``.
    settings
        How; None takes the published rule.

    Returns
    -------
    CleanSummary

    Raises
    ------
    InputError
        If there is no mask at all, two would share a name, or the output folder is that of the masks.
    """
    settings = settings or CleanSettings()
    sources = _sources(masks, out)
    names = None if settings.by_hand is None else read_names(settings.by_hand)
    out.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(out)
    # Written last: a folder without it is one whose run has not come to its end.
    (out / files.RECORD_NAME).unlink(missing_ok=True)
    with Ledger(out / LEDGER_NAME) as ledger:
        tasks = [_Task(source, not drawn_by_hand(source.name, names), out, settings) for source in sources]
        done = _all_cleaned(tasks, ledger, settings.workers)
        made = [_place(source.name) for source, one in zip(sources, done, strict=True) if one.made]
        _remove_stale(out / MASKS_FOLDER, made, ledger)
    rows = tuple({name: one.row.get(name) for name in _COLUMNS} for one in done)
    files.write_csv(out / CHANGES_NAME, _table(rows))
    rule = {name: value for name, value in asdict(settings).items() if name not in ("workers", "by_hand")}
    rule["by_hand"] = "published" if names is None else sorted({_stem(name) for name in names})
    inputs = {source.name: one.sha256 for source, one in zip(sources, done, strict=True) if one.sha256}
    files.write_record(out, "clean", rule, inputs)
    return CleanSummary(out, rows, {source.name: source.path for source in sources}, settings.threshold)


class _Task(NamedTuple):
    """A mask to clean; it crosses to the worker process."""

    source: Source
    smooth: bool
    out: Path
    settings: CleanSettings

    @property
    def target(self) -> Path:
        return self.out / MASKS_FOLDER / _place(self.source.name)

    def digest(self, sha256: str) -> str:
        """Digest of all that the result depends on."""
        rule = self.settings
        parts = [fncells.__version__, sha256, self.source.name, self.smooth]
        parts += [rule.radius, rule.threshold, rule.min_hole, rule.min_area]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class _Done(NamedTuple):
    """What became of a mask: its row, and checksums of it and of what was made of it (None where it failed)."""

    row: Mapping[str, Any]
    sha256: str | None
    made: str | None


def _all_cleaned(tasks: Sequence[_Task], ledger: Ledger, workers: int) -> list[_Done]:
    """Clean what has not been cleaned yet, and keep each result as soon as it is there."""
    done: dict[int, _Done] = {}
    open_tasks = []
    for position, task in enumerate(tasks):
        known = _known(task, ledger)
        if known is None:
            open_tasks.append(position)
        else:
            done[position] = known
    work = in_parallel(_clean_file, [tasks[position] for position in open_tasks], workers)
    for position, result in zip(open_tasks, files.progress(work, len(open_tasks), "cleaning"), strict=True):
        if result.made is not None and result.sha256 is not None:
            ledger.put("clean", tasks[position].digest(result.sha256), result._asdict())
        done[position] = result
    return [done[position] for position in range(len(tasks))]


def _known(task: _Task, ledger: Ledger) -> _Done | None:
    """Give what an earlier run made of a mask, where it is still there as it was made."""
    try:
        kept = ledger.get("clean", task.digest(files.sha256(task.source.path)))
        return _Done(**kept) if kept and files.sha256(task.target) == kept["made"] else None
    except OSError:
        return None


def _clean_file(task: _Task) -> _Done:
    """Clean one file; what is wrong with it stays with it."""
    try:
        sha256 = files.sha256(task.source.path)
        pixels = read_raster(task.source.path)
        if not pixels.size:
            raise InputError(task.source.path, expected="a mask", found="a picture without pixels")
        levels = mask_levels(pixels, task.source.path)
    except (FncellsError, OSError) as error:
        return _Done({"picture": task.source.name, "status": "failed", "reason": str(error)}, None, None)
    after = clean_mask(levels, task.settings, smooth=task.smooth)
    write_raster(task.target, after.astype(np.uint8) * np.uint8(255))
    before = levels if levels.dtype == np.bool_ else levels > task.settings.threshold
    row = {
        "picture": task.source.name,
        "status": "cleaned",
        "smoothed": task.smooth,
        **_changes(np.asarray(before, np.bool_), after),
        "reason": ""
        if before.any() or not levels.any()
        else f"nothing is brighter than {task.settings.threshold} of 255",
    }
    return _Done(row, sha256, files.sha256(task.target))


def _changes(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> dict[str, Any]:
    both, either = int((before & after).sum()), int((before | after).sum())
    return {
        "objects_before": _count_objects(before),
        "objects_after": _count_objects(after),
        "pixels_before": int(before.sum()),
        "pixels_after": int(after.sum()),
        "added_px": int((after & ~before).sum()),
        "removed_px": int((before & ~after).sum()),
        "iou": both / either if either else None,
    }


def _count_objects(mask: NDArray[np.bool_]) -> int:
    return int(cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0]) - 1


@lru_cache(maxsize=8)
def _disk(radius: int) -> NDArray[np.uint8]:
    """All pixels whose centres are within the radius; OpenCV's own ellipses are another shape."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius, np.uint8)


def _without_small(mask: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Remove 4-connected objects of fewer pixels."""
    _, objects, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    kept = stats[:, cv2.CC_STAT_AREA] >= least
    kept[0] = False
    return np.asarray(kept[objects])


def _sources(masks: Path, out: Path) -> list[Source]:
    own = out.resolve()
    if masks.is_dir() and masks.resolve() == own:
        raise InputError(out, expected="a folder for results", found="the folder of the masks")
    if out.exists() and not out.is_dir():
        raise InputError(out, expected="a folder, or nothing yet", found="a file")
    sources = [one for one in files.find_pictures([masks]) if own not in one.path.resolve().parents]
    if not sources:
        suffixes = " ".join(sorted(files.PICTURE_SUFFIXES))
        raise InputError(masks, expected=f"masks ({suffixes})", found="none")
    return sources


def _place(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".png"))


def _stem(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/").lower())
    while path.suffix in files.PICTURE_SUFFIXES:
        path = path.with_suffix("")
    return path.name


def _remove_stale(folder: Path, made: Sequence[str], ledger: Ledger) -> None:
    """Remove what earlier runs made of masks that are gone or have failed since; other files are not touched."""
    for name in set(ledger.get("made", "") or ()) - set(made):
        (folder / name).unlink(missing_ok=True)
    ledger.put("made", "", made)


def _table(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    whole = {name: "Int64" for name in _COUNTED}
    return pd.DataFrame(list(rows), columns=list(_COLUMNS)).astype({**whole, "smoothed": "boolean", "iou": "Float64"})

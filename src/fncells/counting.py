"""The lab's main job: pictures in, counted cells out, one row for every picture whatever happens to it.

::

    pictures ─ look at each (in parallel) ─> ledger ─> counts.csv, cells.csv, counts.xlsx, cells.via.json
                     └─> labels/, overlays/

What was found in a picture is kept in the ledger under a digest of all that it depends on, so that an interrupted run goes on
where it stopped, and the tables are made from the ledger alone, in the order of the names. That is why neither an interruption
nor the number of workers shows in the results.
"""

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

import fncells
from fncells import files
from fncells.cells import AnnotatedImage, Cell
from fncells.count_tables import PictureCount, write_tables
from fncells.errors import FncellsError, InputError, OutputError
from fncells.files import Source
from fncells.formats import CODECS, write_annotations
from fncells.formats.pictures import FILE_SIZE
from fncells.formats.rasters import write_raster
from fncells.images import Picture, PixelSize, Plane, read_picture
from fncells.inference import Model
from fncells.ledger import LEDGER_NAME, Ledger
from fncells.measure import measure_cells
from fncells.names import NamePattern, Specimen, parse_name
from fncells.overlay import overlay
from fncells.predictions import Prediction, Predictions
from fncells.published import LEVELS, TABLE_1
from fncells.separation import SeparationSettings, separate
from fncells.workers import in_parallel

__all__ = ["CountSettings", "CountSummary", "Detector", "PictureCount", "count", "predict"]

_log = logging.getLogger(__name__)

# Pictures that microscopes and people make and that cannot be read here: each gets its row, so that none is missed in silence.
_OTHER_PICTURES = frozenset({".bmp", ".gif", ".heic", ".jp2", ".mrxs", ".ndpi", ".scn", ".svs", ".webp"})
_ENOUGH_CELLS = 5  # below this a median says little, and only what no annotated cell measures is remarked upon
_SATURATED_PERCENT = 1.0
_DARK_SHARE = 5 / 255  # of the full scale
_SIGNAL_PERCENT = 0.2  # of the pixels, which the smallest picture with a cell exceeds
_FULL_SCALES = (4095, 16383, 65535)  # cameras of 12, 14 and 16 bit


class Detector(Protocol):
    """What counting needs of a model; :class:`fncells.inference.Model` is one."""

    @property
    def sha256(self) -> str:
        """Checksum that stands for the model."""
        ...

    @property
    def separation(self) -> SeparationSettings:
        """How to part its heat maps into cells."""
        ...

    @property
    def diameter_px(self) -> float:
        """Typical diameter in pixels of the cells that it looks for where none is told."""
        ...

    def heat_map(self, pixels: NDArray[Any], diameter_px: float | None = None) -> NDArray[np.float32]:
        """Belief in a cell for each pixel, 0 to 1, shape (h, w), of a picture whose cells have the given diameter."""
        ...


@dataclass(frozen=True)
class CountSettings:
    """How to count.

    Attributes
    ----------
    model
        An ONNX model, the folder of a training run, or one that comes with fncells: cells, for nuclei and cells of any kind, or
        neurons, for cell bodies as in the published collections. None is cells.
    pixel_size
        Micrometres a pixel, where the files do not tell it or tell it wrongly; it goes before what the files say.
    diameter
        Typical diameter of the cells in pixels: they are looked for at that size, and what covers less than a tenth of
        their area is no cell.
    predictions
        Cells found by any other tool, which then replace the model: label pictures or masks with the names of the pictures, or
        annotations in any format.
    workers
        Pictures worked on at the same time. The results do not depend on it.
    overlays
        Whether pictures with the cells outlined are written.
    name_pattern
        The rule of the file names where it is not that of the collections: a regular expression whose named groups are
        species, animal, sample, column, row, area, side, zoom, collection, region (see docs/pictures.md).
    plane
        Which picture to take of files that hold several.
    """

    model: Path | None = None
    pixel_size: float | None = None
    diameter: float | None = None
    predictions: Path | None = None
    workers: int = 1
    overlays: bool = True
    name_pattern: str | None = None
    plane: Plane = field(default_factory=Plane)

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for name, value in (("pixel size", self.pixel_size), ("diameter", self.diameter)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(name, expected="a number above 0", found=str(value))
        if self.workers < 1:
            found = str(self.workers)
            raise InputError("workers", expected="1 or more", found=found)
        if self.model is not None and self.predictions is not None:
            raise InputError("model", expected="a model or predictions", found="both", advice="leave one out")
        if self.name_pattern is not None:
            NamePattern(self.name_pattern)


@dataclass(frozen=True)
class CountSummary:
    """What a run did.

    Attributes
    ----------
    out
        The folder or file that was written.
    pictures
        One entry for every input, ordered by name.
    model_sha256
        Checksum of the model; None where predictions replaced it.
    """

    out: Path
    pictures: tuple[PictureCount, ...]
    model_sha256: str | None

    @property
    def failures(self) -> dict[str, str]:
        """Reason of each picture that failed, by its name."""
        return {picture.picture: picture.reason for picture in self.pictures if picture.status == "failed"}

    @property
    def n_cells(self) -> int:
        """Cells in all counted pictures."""
        return sum(picture.n_cells or 0 for picture in self.pictures)

    def as_dict(self) -> dict[str, object]:
        """Give the summary as values that JSON holds."""
        return {
            "pictures": len(self.pictures),
            "counted": len(self.pictures) - len(self.failures),
            "failed": len(self.failures),
            "cells": self.n_cells,
            "model_sha256": self.model_sha256,
            "failures": self.failures,
            "per_picture": [
                {"picture": one.picture, "status": one.status, "n_cells": one.n_cells} for one in self.pictures
            ],
        }


def count(
    inputs: Sequence[Path], out: Path, settings: CountSettings | None = None, *, detector: Detector | None = None
) -> CountSummary:
    """Count the cells of pictures.

    A picture that cannot be used becomes a row ``failed`` with its reason and does not stop the others. The same call again
    after an interruption goes on where it stopped and ends with the same bytes. Labels and overlays that an earlier call made
    of pictures that are no longer among the inputs are removed; files that fncells did not make are not touched.

    Parameters
    ----------
    inputs
        Pictures and folders of pictures; sub-folders are searched.
    out
        Folder for ``counts.csv``, ``cells.csv``, ``counts.xlsx``, ``cells.via.json``, ``labels/``, ``overlays/`` and
        ``fncells-run.json``. If it lies in an input folder it is not searched.
    settings
        See :class:`CountSettings`.
    detector
        Used in place of the settings' model. It is sent to the worker processes, so it must be picklable where there are
        several.

    Returns
    -------
    CountSummary

    Raises
    ------
    InputError
        If there is no picture at all, or the model, the predictions or the settings cannot be used.
    """
    settings = settings or CountSettings()
    plan = _planned(inputs, out, settings)
    engine = _Engine(settings, out, detector)
    _prepare(out)
    with Ledger(out / LEDGER_NAME) as ledger:
        # The record is written last: a folder without it is one whose run has not come to its end.
        (out / files.RECORD_NAME).unlink(missing_ok=True)
        artefacts = _Artefacts(out, ledger)
        results = _results(plan, engine, ledger, artefacts)
        summary = CountSummary(out, _picture_counts(plan, results, settings.name_pattern), engine.model_sha256)
        found = {name: result.finding["measures"] for name, result in results.items() if result.finding is not None}
        write_tables(out, summary.pictures, found, engine.model_sha256)
        write_annotations(out / "cells.via.json", _images(plan, results, ledger), "via")
        artefacts.remove_stale()
    _write_record(out, "count", plan, results, engine, {"overlays": settings.overlays})
    return summary


def predict(
    inputs: Sequence[Path],
    out: Path,
    to: str = "labels",
    settings: CountSettings | None = None,
    *,
    detector: Detector | None = None,
) -> CountSummary:
    """Find the cells of pictures and write them in any annotation format.

    Parameters
    ----------
    inputs
        Pictures and folders of pictures; sub-folders are searched.
    out
        What to write: a folder, or a file for the formats that are one file (``via``, ``via-csv``, ``coco``).
    to
        Name of the format.
    settings
        See :class:`CountSettings`.
    detector
        Used in place of the settings' model, as in :func:`count`.

    Returns
    -------
    CountSummary
        Pictures that failed are in it and not in the output.

    Raises
    ------
    InputError
        If there is no such format, no picture at all, or the model or the settings cannot be used.
    """
    settings = settings or CountSettings()
    if to not in CODECS:
        raise InputError("format", expected=f"one of {', '.join(CODECS)}", found=repr(to))
    one_file = CODECS[to].one_file
    plan = _planned(inputs, out, settings)
    engine = _Engine(settings, None, detector)
    if one_file and out.is_dir():
        raise InputError(out, expected=f"a file for the format {to}", found="a folder", advice="add a file name")
    if not one_file:
        _prepare(out)
    place = out.with_name(f".{out.name}{LEDGER_NAME}") if one_file else out / LEDGER_NAME
    with Ledger(place) as ledger:
        results = _results(plan, engine, ledger, None)
        write_annotations(out, _images(plan, results, ledger), to)
    if one_file:
        place.unlink()
    else:
        _write_record(out, "predict", plan, results, engine, {"format": to})
    return CountSummary(out, _picture_counts(plan, results, settings.name_pattern), engine.model_sha256)


# --------------------------------------------------------------------------------------------------------------- the plan


@dataclass(frozen=True)
class _Plan:
    """What there is to do: pictures with their predictions, and inputs that cannot be pictures, with the reason."""

    sources: list[Source]
    hopeless: dict[str, str]
    predictions: Predictions | None


def _planned(inputs: Sequence[Path], out: Path, settings: CountSettings) -> _Plan:
    hopeless = {
        path.name: "expected a picture or a folder of pictures, found nothing of that name" for path in _absent(inputs)
    }
    present = [path for path in inputs if path.exists()]
    own = out.resolve()
    for path in present:
        if path.is_dir() and path.resolve() == own:
            raise InputError(out, expected="a folder for results", found="the folder of the pictures")
    hopeless |= {name: reason for path in present for name, reason in _unreadable_kinds(path, own)}
    sources = [source for source in files.find_pictures(present) if own not in source.path.resolve().parents]
    predictions = None
    if settings.predictions is not None:
        predictions = Predictions(settings.predictions, sources)
        sources = [source for source in sources if not predictions.holds(source)]
    if not sources:
        given = ", ".join(str(path) for path in inputs) or "nothing given"
        detail = f"none ({len(hopeless)} cannot be read)" if hopeless else "none"
        raise InputError(given, expected="pictures (.png, .tif, .jpg)", found=detail)
    return _Plan(sources, hopeless, predictions)


def _absent(inputs: Sequence[Path]) -> list[Path]:
    return [path for path in inputs if not path.exists()]


def _unreadable_kinds(path: Path, own: Path) -> Iterator[tuple[str, str]]:
    if not path.is_dir():
        return
    for found in path.rglob("*"):
        if found.suffix.lower() in _OTHER_PICTURES and found.is_file() and own not in found.resolve().parents:
            reason = f"expected a TIFF, JPEG or PNG picture, found {found.suffix.lower()}; export it as TIFF"
            yield found.relative_to(path).as_posix(), reason


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _prepare(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(out, expected="a folder, or nothing yet", found="a file")
    out.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(out)


# ------------------------------------------------------------------------------------------------------------- one picture


class _Task(NamedTuple):
    """A picture to look at; what was found in it earlier, where only its pictures are missing."""

    source: Source
    prediction: Prediction | None
    known: dict[str, Any] | None


class _Basis(NamedTuple):
    """What a result depends on: checksums of the picture and of its prediction, and one of everything."""

    picture: str
    prediction: str | None
    digest: str


class _Result(NamedTuple):
    """What was found in a picture, or the reason why nothing could be.

    ``finding`` holds what JSON can: shape, pixel_size, notes, signal_percent, saturated_percent, cells, measures. In the
    parent process the bulky ``cells`` stay in the ledger.
    """

    finding: dict[str, Any] | None
    artefacts: dict[str, str]
    reason: str = ""
    basis: _Basis | None = None


class _Engine:
    """Looks at one picture; everything that workers share, and nothing that they cannot be sent.

    Parameters
    ----------
    settings
        As the user gave them.
    out
        Where labels and overlays go; None makes none.
    detector
        In place of the settings' model.
    """

    def __init__(self, settings: CountSettings, out: Path | None, detector: Detector | None) -> None:
        self.settings, self.out, self._given = settings, out, detector
        self._threads = max(1, _processors() // settings.workers)
        self.model_sha256: str | None = None
        self.separation: SeparationSettings | None = None
        if settings.predictions is None:
            self.model_sha256, separation = self.detector.sha256, self.detector.separation
            self.separation = separation.for_diameter(settings.diameter) if settings.diameter else separation

    @property
    def detector(self) -> Detector:
        """The model, loaded once in each process."""
        return self._given or _loaded(self.settings.model, self._threads)

    def basis(self, source: Source, prediction: Prediction | None) -> _Basis:
        """Tell all that the cells of a picture depend on."""
        sha256, origin = files.sha256(source.path), _told(prediction) if prediction else None
        separation = None if self.separation is None else asdict(self.separation)
        detection = [self.model_sha256, self.settings.diameter, separation]
        plane = self.settings.plane.as_dict()
        digest = _digest(
            [fncells.__version__, sha256, origin, detection, self.settings.pixel_size, *([plane] if plane else [])]
        )
        return _Basis(sha256, origin, digest)

    def look(self, task: _Task) -> _Result:
        """Find the cells of a picture and draw what is to be drawn; whatever is wrong with it stays with it."""
        try:
            picture = read_picture(task.source.path, task.source.name, self.settings.plane)
            finding = task.known or self._finding(picture, task)
            return _Result(finding, self._artefacts(picture, finding))
        except OutputError:
            raise
        except Exception as error:
            _log.debug("%s failed", task.source.name, exc_info=True)
            return _Result(None, {}, reason=_reason(error, task.source))

    def _finding(self, picture: Picture, task: _Task) -> dict[str, Any]:
        notes = list(picture.notes)
        image, heat = self._cells(picture, task)
        pixel_size = self._pixel_size(picture, notes)
        table = measure_cells(image, pixel_size, picture.pixels)
        measures = {name: _plain(values) for name, values in table.items() if name not in ("picture", "cell")}
        saturated = _percent(picture.pixels == _full_scale(picture.pixels))
        notes += _oddities(picture.pixels, saturated)
        if heat is not None:
            notes += self._size_note(measures["equivalent_diameter_px"])
        measures = {"cell": image.numbers.tolist(), **measures, "score": [cell.score for cell in image.cells]}
        return {
            "shape": list(picture.pixels.shape[:2]),
            "pixel_size": None if pixel_size is None else [pixel_size.um, pixel_size.source],
            "notes": notes,
            "signal_percent": round(100 * float(image.mask.mean()), 4),
            "saturated_percent": round(saturated, 4),
            "cells": _as_json(image),
            "measures": measures,
        }

    def _cells(self, picture: Picture, task: _Task) -> tuple[AnnotatedImage, NDArray[np.float32] | None]:
        height, width = picture.pixels.shape[:2]
        if task.prediction is not None:
            return task.prediction.read(task.source, (height, width)), None
        heat = self.detector.heat_map(picture.pixels, self.settings.diameter)
        image = AnnotatedImage.from_labels(picture.name, separate(heat, self.separation))
        beliefs = [round(float(heat.ravel()[own].mean(dtype=np.float64)), 4) for own in image.pixels]
        cells = tuple(replace(cell, score=score) for cell, score in zip(image.cells, beliefs, strict=True))
        return replace(image, cells=cells), heat

    def _pixel_size(self, picture: Picture, notes: list[str]) -> PixelSize | None:
        told = picture.pixel_size
        if self.settings.pixel_size is None:
            return told
        if told is not None and abs(told.um / self.settings.pixel_size - 1) > 0.01:
            notes.append(f"the file ({told.source}) says {told.um:.4g} µm a pixel")
        return PixelSize(self.settings.pixel_size, "user")

    def _size_note(self, diameters: Sequence[float | None]) -> list[str]:
        known = [value for value in diameters if value is not None]
        usual = self.settings.diameter or self.detector.diameter_px
        if len(known) < _ENOUGH_CELLS:
            return []
        median = float(np.median(known))
        if usual / 2 <= median <= usual * 2:
            return []
        return [f"median diameter {median:.3g} px, far from the {usual:.3g} px looked for; see --diameter"]

    def _artefacts(self, picture: Picture, finding: dict[str, Any]) -> dict[str, str]:
        """Write labels and overlay; their checksums by their paths relative to the output folder."""
        if self.out is None:
            return {}
        image = _from_json(picture.name, finding)
        write_annotations(self.out / "labels", [image], "labels")
        suffix = ".tif" if image.labels.max(initial=0) > np.iinfo(np.uint16).max else ".png"
        made = [f"labels/{image.stem}{suffix}"]
        if self.settings.overlays:
            made.append(f"overlays/{image.stem}.png")
            _write_rgb(self.out / made[1], overlay(picture.pixels, image))
        return {path: files.sha256(self.out / path) for path in made}


@lru_cache(maxsize=1)
def _loaded(model: Path | None, threads: int) -> Detector:
    return Model.load(model, threads)


def _told(prediction: Prediction) -> str:
    """Checksum of what another tool says."""
    told = prediction.image
    checksum = files.sha256(prediction.place) if told is None else _digest([_as_json(told), told.shape])
    return f"{prediction.kind} {checksum}"


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_rgb(path: Path, rgb: NDArray[np.uint8]) -> None:
    write_raster(path, np.ascontiguousarray(rgb[..., ::-1]))  # OpenCV writes blue first


def _plain(values: NDArray[Any]) -> list[Any]:
    """Numbers as JSON holds them, rounded to what a measure can mean, unknown ones None."""
    if not np.issubdtype(values.dtype, np.floating):
        return list(values.tolist())
    return [round(value, 4) if math.isfinite(value) else None for value in values.tolist()]


def _as_json(image: AnnotatedImage) -> list[dict[str, Any]]:
    return [
        {
            "rings": [ring.tolist() for ring in cell.rings],
            "number": int(number),
            "marker": cell.marker,
            "score": cell.score,
            "source_shape": cell.source_shape,
        }
        for cell, number in zip(image.cells, image.numbers, strict=True)
    ]


def _from_json(name: str, finding: Mapping[str, Any], attributes: Mapping[str, object] | None = None) -> AnnotatedImage:
    height, width = finding["shape"]
    cells = tuple(
        Cell(**{**cell, "rings": tuple(np.array(ring, dtype=np.float64) for ring in cell["rings"])})
        for cell in finding["cells"]
    )
    return AnnotatedImage(name, (height, width), cells, attributes or {})


def _full_scale(pixels: NDArray[Any]) -> int:
    """Largest value of the camera, which in 16-bit files often has fewer bits than the file."""
    if pixels.dtype == np.uint8:
        return 255
    brightest = int(pixels.max())
    return next(scale for scale in _FULL_SCALES if brightest <= scale)


def _percent(chosen: NDArray[np.bool_]) -> float:
    return 100 * float((chosen.any(axis=2) if chosen.ndim == 3 else chosen).mean())


def _oddities(pixels: NDArray[Any], saturated: float) -> list[str]:
    notes = []
    if saturated > _SATURATED_PERCENT:
        notes.append(f"{saturated:.1f} % of the pixels are saturated")
    if _percent(pixels > _DARK_SHARE * _full_scale(pixels)) < _SIGNAL_PERCENT:
        notes.append(f"very dark: hardly a pixel exceeds {100 * _DARK_SHARE:.0f} % of the scale")
    return notes


def _reason(error: Exception, source: Source) -> str:
    """Say what is wrong in one line, without the path, which differs from machine to machine."""
    if isinstance(error, InputError):
        elsewhere = error.path not in (None, source.path, str(source.path), source.name)
        parts = [Path(str(error.path)).name if elsewhere else None, error.place]
        where = ", ".join(part for part in parts if part)
        text = f"{where}: " if where else ""
        text += f"expected {error.expected}, found {error.found}"
        return text + (f"; {error.advice}" if error.advice else "")
    if isinstance(error, FncellsError):
        return str(error)
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(told.split())}"


# ----------------------------------------------------------------------------------------------------------------- the run


class _Artefacts:
    """Which files in ``labels/`` and ``overlays/`` fncells made, kept in the ledger.

    Parameters
    ----------
    out
        The output folder.
    ledger
        Where it is kept.
    """

    def __init__(self, out: Path, ledger: Ledger) -> None:
        self._out, self._ledger = out, ledger
        self._earlier: dict[str, str | None] = ledger.get("artefacts", "made") or {}
        self._current: dict[str, str | None] = {}

    def announce(self, names: Sequence[str], overlays: bool) -> None:
        """Note what is going to be made before it is, so that the files of a run that is killed are known as ours."""
        stems = [PurePosixPath(name).with_suffix("") for name in names]
        coming = [f"labels/{stem}.png" for stem in stems]
        coming += [f"overlays/{stem}.png" for stem in stems if overlays]
        # A label picture of very many cells is a TIFF; a file of that name that is there already is somebody else's.
        large = (f"labels/{stem}.tif" for stem in stems)
        coming += [path for path in large if path in self._earlier or not (self._out / path).exists()]
        self._earlier |= dict.fromkeys(coming)
        self._ledger.put("artefacts", "made", self._earlier)

    def are_whole(self, made: Mapping[str, str]) -> bool:
        """Whether files are there as they were written."""
        return all((self._out / path).is_file() and files.sha256(self._out / path) == sha for path, sha in made.items())

    def keep(self, made: Mapping[str, str]) -> None:
        """Note files that belong to this run's results."""
        self._current.update(made)

    def remove_stale(self) -> None:
        """Delete what earlier runs made and this one did not, unless somebody has changed it since."""
        for path in sorted(self._earlier.keys() - self._current.keys()):
            file, sha = self._out / path, self._earlier[path]
            if file.is_file() and (sha is None or files.sha256(file) == sha):
                file.unlink()
                self._remove_empty(file.parent)
        self._ledger.put("artefacts", "made", self._current)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._out and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


class _Pending(NamedTuple):
    """A task with what its result depends on."""

    task: _Task
    basis: _Basis


def _results(plan: _Plan, engine: _Engine, ledger: Ledger, artefacts: _Artefacts | None) -> dict[str, _Result]:
    """Look at every picture that has not been looked at yet; results by name, in the order of the names."""
    results: dict[str, _Result] = {}
    pending: list[_Pending] = []
    drawn = "overlays" if engine.settings.overlays else "labels"
    for source in plan.sources:
        try:
            prediction = plan.predictions.of(source) if plan.predictions else None
            basis = engine.basis(source, prediction)
        except (OSError, FncellsError) as error:
            results[source.name] = _Result(None, {}, reason=_reason(error, source))
            continue
        known = ledger.get("cells", basis.digest)
        made = ledger.get(drawn, _digest([source.name, basis.digest])) if artefacts else {}
        if known is not None and made is not None and (artefacts is None or artefacts.are_whole(made)):
            results[source.name] = _slim(_Result(known, made, basis=basis))
        else:
            pending.append(_Pending(_Task(source, prediction, known), basis))
    if artefacts is not None:
        artefacts.announce([one.task.source.name for one in pending], engine.settings.overlays)
    for index, result in _looked_at(engine, [one.task for one in pending]):
        task, basis = pending[index]
        if result.finding is not None:
            ledger.put("cells", basis.digest, result.finding)
            ledger.put(drawn, _digest([task.source.name, basis.digest]), result.artefacts)
        results[task.source.name] = _slim(result._replace(basis=basis))
    if artefacts is not None:
        for result in results.values():
            artefacts.keep(result.artefacts)
    return {source.name: results[source.name] for source in plan.sources}


def _slim(result: _Result) -> _Result:
    """Leave the outlines in the ledger: those of thousands of pictures would fill the memory."""
    if result.finding is None:
        return result
    return result._replace(finding={key: value for key, value in result.finding.items() if key != "cells"})


def _looked_at(engine: _Engine, tasks: Sequence[_Task]) -> Iterator[tuple[int, _Result]]:
    """Results as they come, with their positions."""
    work = in_parallel(partial(_look, engine), list(enumerate(tasks)), engine.settings.workers, ordered=False)
    yield from files.progress(work, len(tasks), "counting")


def _look(engine: _Engine, numbered: tuple[int, _Task]) -> tuple[int, _Result]:
    index, task = numbered
    return index, engine.look(task)


def _images(plan: _Plan, results: Mapping[str, _Result], ledger: Ledger) -> Iterator[AnnotatedImage]:
    """Give the counted pictures' cells, one picture in memory at a time."""
    for source in plan.sources:
        result = results[source.name]
        if result.finding is not None and result.basis is not None:
            finding = ledger.get("cells", result.basis.digest) or {}
            yield _from_json(source.name, finding, _size_of(source.path))


def _size_of(path: Path) -> dict[str, object]:
    """Tell a file's bytes for VIA's keys; a picture that was moved away after it was counted stays counted."""
    try:
        return {FILE_SIZE: path.stat().st_size}
    except OSError:
        return {}


# ---------------------------------------------------------------------------------------------------------------- the rows


def _picture_counts(plan: _Plan, results: Mapping[str, _Result], rule: str | None) -> tuple[PictureCount, ...]:
    pattern = None if rule is None else NamePattern(rule)
    counts = [
        PictureCount(name, "failed", reason=why, specimen=parse_name(name, pattern))
        for name, why in plan.hopeless.items()
    ]
    counts += [_picture_count(name, result, parse_name(name, pattern)) for name, result in results.items()]
    return tuple(sorted(counts, key=lambda one: one.picture))


def _picture_count(name: str, result: _Result, specimen: Specimen) -> PictureCount:
    finding = result.finding
    if finding is None:
        return PictureCount(name, "failed", reason=result.reason, specimen=specimen)
    height, width = finding["shape"]
    um, source = finding["pixel_size"] or (None, None)
    diameters = [value for value in finding["measures"]["equivalent_diameter_px"] if value]
    median = round(float(np.median(diameters)), 4) if diameters else None
    median_um = None if um is None or median is None else round(median * um, 4)
    cells = len(finding["measures"]["cell"])
    notes = [*finding["notes"], *_diameter_note(median_um, len(diameters), specimen.collection)]
    return PictureCount(
        name,
        "counted",
        n_cells=cells,
        notes="; ".join(notes),
        width_px=width,
        height_px=height,
        signal_percent=finding["signal_percent"],
        saturated_percent=finding["saturated_percent"],
        median_diameter_px=median,
        median_diameter_um=median_um,
        density_per_mm2=None if um is None else round(cells / (width * height * um * um * 1e-6), 4),
        pixel_size_um=um,
        pixel_size_source=source,
        specimen=specimen,
    )


def _diameter_note(median: float | None, cells: int, collection: str | None) -> list[str]:
    """Remark on cells whose size no neuron of the collection has; most often the pixel size is wrong."""
    if median is None:
        return []
    known = [one for name, one in TABLE_1.items() if name == collection] or list(TABLE_1.values())
    low, high = (0.0, 1.0) if cells < _ENOUGH_CELLS or len(known) > 1 else (0.1, 0.9)
    usual = [dict(zip(LEVELS, one.equivalent_diameter_um.quantiles, strict=True)) for one in known]
    least, most = min(diameters[low] for diameters in usual), max(diameters[high] for diameters in usual)
    if least <= median <= most:
        return []
    whose = f"for {collection}" if len(known) == 1 else "for neurons of the FNC collections"
    return [
        f"diameter implausible {whose}: median {median:.3g} µm, usual {least:.3g} to {most:.3g}; check the pixel size"
    ]


def _write_record(
    out: Path, command: str, plan: _Plan, results: Mapping[str, _Result], engine: _Engine, more: Mapping[str, object]
) -> None:
    settings: dict[str, object] = {
        "pixel_size": engine.settings.pixel_size,
        "diameter": engine.settings.diameter,
        **more,
    }
    if engine.settings.name_pattern is not None:
        settings["name_pattern"] = engine.settings.name_pattern
    if plane := engine.settings.plane.as_dict():
        settings["plane"] = plane
    known = {name: result.basis for name, result in results.items() if result.basis is not None}
    if engine.separation is not None:
        settings["separation"] = asdict(engine.separation)
    if plan.predictions is not None:
        settings["predictions"] = {name: basis.prediction for name, basis in known.items()}
    inputs = {name: basis.picture for name, basis in known.items()}
    files.write_record(out, command, settings, inputs, engine.model_sha256)

"""Pictures to heat maps with onnxruntime: how sure the network is, pixel by pixel, to see a cell.

A picture goes in as the microscope made it; `normalise` brings it to what the network saw in training and
`Model.heat_map` runs the network over it in tiles whose result is that of the whole picture at once. What a model
file says of itself, its card, is a JSON object under the key ``fncells.card`` of the ONNX metadata.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from fncells.errors import InputError
from fncells.separation import SeparationSettings

__all__ = ["CARD_KEY", "NORMALISATIONS", "PACKAGED", "Model", "normalise"]

CARD_KEY = "fncells.card"
"""Key of the model card in the metadata of an ONNX file."""

NORMALISATIONS = ("brightness", "rgb")
"""What `normalise` and the ``normalisation`` of a model card may be."""

PACKAGED = ("cells", "neurons")
"""Models that come with the package, by the names that `Model.load` takes; the first is the usual one."""

_DARKEST, _BRIGHTEST = 1.0, 99.8
# Below this share of the full scale a spread of brightness is noise: an empty picture must not be stretched into cells.
_LEAST_SPREAD = 5 / 255

# One pass over 1600 x 1200 pixels, the paper's picture, is fastest in one window; larger ones are cut to bound memory.
_LARGEST_WINDOW = 1 << 21
# A rescaled picture is held as a whole; this many pixels of three float32 channels are 1.2 GB.
_LARGEST_RESCALED = 100_000_000

# What is assumed of a model that brings no card: the published network (Clissa et al., FNC v2).
_CARD_DEFAULTS: dict[str, object] = {
    "normalisation": "rgb",
    "diameter_px": 30.0,
    "threshold": 0.5,
    "halo": 96,
    "multiple": 8,
}

Window = Callable[[slice, slice], NDArray[np.float32]]


def normalise(pixels: NDArray[Any], mode: str) -> NDArray[np.float32]:
    """Bring a picture to the values the network takes.

    Parameters
    ----------
    pixels
        Shape (h, w) or (h, w, 3), uint8 or uint16.
    mode
        ``"rgb"``: the values over the full scale of their type, as the published weights take them (Clissa et al.,
        FNC v2). ``"brightness"``: the brightest channel of every pixel, stretched so that the picture's 1st percentile
        is 0 and its 99.8th is 1, whatever the hue of the marker; a spread under 5/255 of the full scale is not
        stretched further.

    Returns
    -------
    NDArray[np.float32]
        Shape (h, w, 3), values 0 to 1; a picture of one channel is repeated in all three.

    Raises
    ------
    InputError
        Where the picture's shape or type, or the mode, is another.

    Examples
    --------
    >>> normalise(np.array([[0, 51, 255]], np.uint8), "rgb")[0, :, 0].tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    return _levels(pixels, mode).apply(pixels)


class Model:
    """A trained network as an ONNX file, ready to look at pictures.

    Make one with `Model.load`. The same model, picture and processor give the same heat map, bit for bit, whatever
    the number of threads; a model can be pickled to worker processes.

    Attributes
    ----------
    sha256 : str
        Checksum of the model file.
    card : Mapping[str, object]
        What the file says of itself (``name``, ``version``, ``licence``…), with at least ``normalisation``,
        ``diameter_px``, ``usual_diameter_px``, ``threshold``, ``halo`` and ``multiple`` (pixels), filled with the published
        network's where the file is silent.
    separation : SeparationSettings
        How to part this model's heat maps into cells: ``threshold`` and the mapping ``separation`` of the card.
    """

    def __init__(self, content: bytes, path: str, threads: int, largest_window: int) -> None:
        self._content, self._path, self._threads, self._largest_window = content, path, threads, largest_window
        self._session = _open_session(content, path, threads)
        self._input = _only_input(self._session, path)
        self.sha256: str = hashlib.sha256(content).hexdigest()
        self.card: Mapping[str, Any] = _read_card(self._session.get_modelmeta().custom_metadata_map, path)
        self.separation: SeparationSettings = _read_separation(self.card, path)

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        threads: int | None = None,
        *,
        largest_window: int = _LARGEST_WINDOW,
    ) -> Self:
        """Read a model.

        Parameters
        ----------
        source
            An ONNX file, the folder of a training run, which holds ``model.onnx``, or one of `PACKAGED`; None is the first of
            these. The network takes float32 (1, 3, h, w) of any h and w that are multiples of
            ``card["multiple"]`` and gives probabilities (1, 1, h, w), or (1, 2, h, w) as published, cells last.
        threads
            Threads for one picture; None takes every processor this process may use.
        largest_window
            Pixels of the largest piece of a picture that is looked at at once; it bounds the memory, some 0.4 kB a
            pixel for the packaged network. The heat map does not depend on it.

        Raises
        ------
        InputError
            Where the file is missing, is no ONNX model of this kind, keeps weights in other files, or its card is
            wrong.
        """
        if threads is not None and threads < 1:
            argument = "threads"
            raise InputError(argument, expected="1 or more", found=str(threads))
        content, path = _read(source)
        _refuse_weights_elsewhere(content, path)
        return cls(content, path, threads or _processors(), largest_window)

    @property
    def diameter_px(self) -> float:
        """Typical diameter, in pixels, of the cells it looks for where no other is told."""
        return float(self.card["usual_diameter_px"])

    def heat_map(self, pixels: NDArray[Any], diameter_px: float | None = None) -> NDArray[np.float32]:
        """Say for every pixel how sure the network is that it belongs to a cell.

        The picture is filled up with zeros at its right and lower border to the next multiple the network takes, and
        looked at in overlapping windows; the result is that of one look at the whole, but for rounding (below 1e-5).

        Parameters
        ----------
        pixels
            Shape (h, w) or (h, w, 3), uint8 or uint16.
        diameter_px
            Typical diameter of the cells in this picture: it is rescaled so that they come out as large as those
            of the training, and the heat map is brought back to the picture's size. None takes the model's usual one.

        Returns
        -------
        NDArray[np.float32]
            Shape (h, w), values 0 to 1.

        Raises
        ------
        InputError
            Where the picture or the diameter cannot be used, or the network's answer is no probability.
        """
        levels = _levels(pixels, str(self.card["normalisation"]))
        height, width = pixels.shape[:2]
        trained = float(self.card["diameter_px"])
        diameter_px = self.diameter_px if diameter_px is None else diameter_px
        if diameter_px == trained:
            return self._look((height, width), lambda rows, columns: levels.apply(pixels[rows, columns]))
        scaled = _rescale(levels.apply(pixels), trained, diameter_px)
        heat = self._look(scaled.shape[:2], lambda rows, columns: scaled[rows, columns])
        return _within_limits(_resize(heat, (height, width)))

    def _look(self, shape: tuple[int, int], window: Window) -> NDArray[np.float32]:
        """Run the network over a picture given by its windows, and keep the core of each."""
        multiple = int(self.card["multiple"])
        full = (_round_up(shape[0], multiple), _round_up(shape[1], multiple))
        heat = np.empty(full, np.float32)
        for tile in _tiles(full, _round_up(int(self.card["halo"]), multiple), multiple, self._largest_window):
            seen = _filled(window(tile.rows, tile.columns), tile)
            answer = self._run(seen)
            heat[tile.core_rows, tile.core_columns] = answer[tile.kept]
        return np.ascontiguousarray(heat[: shape[0], : shape[1]])

    def _run(self, seen: NDArray[np.float32]) -> NDArray[np.float32]:
        """One pass of the network: (h, w, 3) to (h, w), refused where the answer is no probability."""
        batch = np.ascontiguousarray(seen.transpose(2, 0, 1)[np.newaxis])
        try:
            answer = self._session.run(None, {self._input: batch})[0]
        except Exception as error:
            raise InputError(
                self._path, expected=f"a network that takes {batch.shape}", found=_reason(error), advice=_NOT_OURS
            ) from error
        if answer.ndim != 4 or answer.shape[0] != 1 or answer.shape[1] > 2 or answer.shape[2:] != seen.shape[:2]:
            raise InputError(
                self._path, expected=f"one value a pixel of {batch.shape}", found=str(answer.shape), advice=_NOT_OURS
            )
        heat = answer[0, -1].astype(np.float32, copy=False)
        if not (heat.min() >= -_TOLERANCE and heat.max() <= 1 + _TOLERANCE):  # also where it is not a number
            found = f"{heat.min():.4g} to {heat.max():.4g}"
            raise InputError(self._path, expected="probabilities from 0 to 1", found=found, advice=_NOT_OURS)
        return _within_limits(heat)

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the file's content, since the running session cannot cross to another process."""
        return (type(self), (self._content, self._path, self._threads, self._largest_window))


def _within_limits(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped: NDArray[np.float32] = np.clip(heat, np.float32(0), np.float32(1))
    return clipped


_TOLERANCE = 1e-4
_NOT_OURS = "use a model that fncells exported"


# --- brightness


@dataclass(frozen=True)
class _Levels:
    """From the values of a whole picture to 0..1, for any part of it."""

    low: float
    spread: float
    brightest_channel: bool

    def apply(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        value = _brightness(pixels) if self.brightest_channel else pixels
        scaled = value.astype(np.float32)
        scaled -= np.float32(self.low)
        scaled /= np.float32(self.spread)
        np.clip(scaled, 0, 1, out=scaled)
        return scaled if scaled.ndim == 3 else np.repeat(scaled[:, :, np.newaxis], 3, axis=2)


def _levels(pixels: NDArray[Any], mode: str) -> _Levels:
    _refuse_odd(pixels)
    full_scale = float(np.iinfo(pixels.dtype).max)
    if mode == "rgb":
        return _Levels(0.0, full_scale, brightest_channel=False)
    if mode == "brightness":
        low, high = _percentiles(_brightness(pixels), (_DARKEST, _BRIGHTEST))
        return _Levels(low, max(high - low, _LEAST_SPREAD * full_scale), brightest_channel=True)
    argument = "normalisation"
    raise InputError(argument, expected=" or ".join(NORMALISATIONS), found=repr(mode))


def _brightness(pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.ndim == 2:
        return pixels
    brightest: NDArray[Any] = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return brightest


def _percentiles(value: NDArray[Any], percents: tuple[float, ...]) -> list[float]:
    """Percentiles with linear interpolation, from a histogram: no sorting, no copy of the picture as floats."""
    upto = np.cumsum(np.bincount(value.ravel(), minlength=1))
    ranks = np.asarray(percents) / 100 * (value.size - 1)
    below = np.floor(ranks).astype(np.int64)
    lower = np.searchsorted(upto, below, side="right")
    upper = np.searchsorted(upto, np.minimum(below + 1, value.size - 1), side="right")
    return [float(v) for v in lower + (upper - lower) * (ranks - below)]


def _refuse_odd(pixels: NDArray[Any]) -> None:
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not fits or pixels.size == 0 or pixels.dtype not in (np.uint8, np.uint16):
        shape = "x".join(map(str, pixels.shape))
        argument = "picture"
        raise InputError(
            argument,
            expected="a grey or RGB picture of 8 or 16 bits",
            found=f"an array {shape} of {pixels.dtype}",
        )


# --- size


def _rescale(seen: NDArray[np.float32], trained_px: float, diameter_px: float) -> NDArray[np.float32]:
    if not (math.isfinite(diameter_px) and diameter_px > 0):
        argument = "diameter"
        raise InputError(argument, expected="a number of pixels above 0", found=str(diameter_px))
    scale = trained_px / diameter_px
    height, width = seen.shape[:2]
    if scale * scale * height * width > _LARGEST_RESCALED:
        argument = "diameter"
        raise InputError(
            argument,
            expected=f"cells less than {_LARGEST_RESCALED:,} pixels can show at {trained_px:g} px",
            found=f"{diameter_px:g} px in a picture of {width}x{height}, enlarged {scale:.3g} times",
            advice="give the true diameter of the cells, or cut the picture",
        )
    return _resize(seen, (max(1, round(height * scale)), max(1, round(width * scale))))


def _resize(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    smaller = shape[0] < values.shape[0]
    resized = cv2.resize(values, shape[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


# --- tiles


class _Tile(NamedTuple):
    """A window of the picture, and the core of it whose result is kept."""

    rows: slice
    columns: slice
    core_rows: slice
    core_columns: slice

    @property
    def kept(self) -> tuple[slice, slice]:
        """The core, counted within the window."""
        return (_shifted(self.core_rows, self.rows.start), _shifted(self.core_columns, self.columns.start))


def _shifted(inner: slice, start: int) -> slice:
    return slice(inner.start - start, inner.stop - start)


def _tiles(shape: tuple[int, int], halo: int, multiple: int, largest: int) -> Iterator[_Tile]:
    """Cut a picture whose sides are multiples of ``multiple`` into windows that reach ``halo`` beyond their cores.

    Cores start at multiples, so that the network's pooling grid is that of the whole picture; windows end at the
    picture's own border, so that the network pads there, and only there, as it does on the whole.
    """
    step_rows, step_columns = _cheapest_steps(shape, halo, multiple, largest)
    for top in range(0, shape[0], step_rows):
        core_rows = slice(top, min(top + step_rows, shape[0]))
        rows = slice(max(0, core_rows.start - halo), min(shape[0], core_rows.stop + halo))
        for left in range(0, shape[1], step_columns):
            core_columns = slice(left, min(left + step_columns, shape[1]))
            columns = slice(max(0, core_columns.start - halo), min(shape[1], core_columns.stop + halo))
            yield _Tile(rows, columns, core_rows, core_columns)


def _cheapest_steps(shape: tuple[int, int], halo: int, multiple: int, largest: int) -> tuple[int, int]:
    """Sides of the cores: of all grids whose windows hold at most ``largest`` pixels, that with the least to compute."""
    best, steps = math.inf, (multiple, multiple)
    for step_rows in _even_steps(shape[0], multiple):
        window_rows = min(shape[0], step_rows + 2 * halo)
        for step_columns in _even_steps(shape[1], multiple):
            window_columns = min(shape[1], step_columns + 2 * halo)
            if window_rows * window_columns > largest:
                continue
            tiles = math.ceil(shape[0] / step_rows) * math.ceil(shape[1] / step_columns)
            if tiles * window_rows * window_columns < best:
                best, steps = tiles * window_rows * window_columns, (step_rows, step_columns)
            break  # narrower cores in these rows only add halo
    return steps


def _even_steps(length: int, multiple: int) -> list[int]:
    """Sides of cores that cut a length into 1, 2, 3… nearly equal parts, largest first, each once."""
    blocks = length // multiple
    return sorted({-(-blocks // parts) * multiple for parts in range(1, blocks + 1)}, reverse=True)


def _filled(seen: NDArray[np.float32], tile: _Tile) -> NDArray[np.float32]:
    """Fill a window that reaches beyond the picture with zeros."""
    below = tile.rows.stop - tile.rows.start - seen.shape[0]
    right = tile.columns.stop - tile.columns.start - seen.shape[1]
    return np.pad(seen, ((0, below), (0, right), (0, 0))) if below or right else seen


# --- the model file


def _read(source: str | Path | None) -> tuple[bytes, str]:
    """Content and name of a model file."""
    named = Path(PACKAGED[0] if source is None else source)
    path = named / "model.onnx" if named.is_dir() else named
    if source is None or (str(named) in PACKAGED and not path.exists()):
        name = f"fncells/models/{named}.onnx"
        packaged = resources.files("fncells").joinpath("models", f"{named}.onnx")
        if not packaged.is_file():
            raise InputError(
                name,
                expected="a model that comes with the package",
                found="none in this installation",
                advice="install fncells again, or name a model with --model",
            )
        return packaged.read_bytes(), name
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise InputError(
            path,
            expected=f"an ONNX model, a run folder with model.onnx, or {' or '.join(PACKAGED)}",
            found=error.strerror or "no readable file",
        ) from error


def _open_session(content: bytes, path: str, threads: int) -> Any:
    import onnxruntime  # takes a quarter of a second

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and said once
    # Windows differ in size: a plan of one would be kept for each.
    options.enable_mem_pattern = False
    # Idle threads that spin take the processor from other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise InputError(path, expected="an ONNX model", found=_reason(error), advice=_advice(path)) from error


def _only_input(session: Any, path: str) -> str:
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if inputs else []
    free = len(shape) == 4 and not any(isinstance(side, int) for side in shape[2:])
    if len(inputs) != 1 or not free or shape[1] != 3 or inputs[0].type != "tensor(float)":
        found = "; ".join(f"{node.name} {node.type} {node.shape}" for node in inputs) or "no input"
        raise InputError(path, expected="one float input (1, 3, height, width) of any size", found=found)
    return str(inputs[0].name)


def _reason(error: Exception) -> str:
    """First line of onnxruntime's message, without its codes."""
    text = str(error).strip().split("\n", 1)[0]
    return text.rsplit(" : ", 1)[-1][:200] or type(error).__name__


def _advice(path: str) -> str | None:
    if Path(path).suffix.lower() in {".pth", ".pt", ".ckpt", ".safetensors"}:
        return "turn weights into a model with: fncells export RUN --to onnx OUT"
    return None


def _processors() -> int:
    """Processors this process may use, which in a container are fewer than the machine has."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


# --- the model card


def _read_card(metadata: Mapping[str, str], path: str) -> Mapping[str, Any]:
    try:
        own = json.loads(metadata.get(CARD_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise InputError(path, place=CARD_KEY, expected="a JSON object", found=f"broken JSON: {error}") from error
    if not isinstance(own, dict):
        raise InputError(path, place=CARD_KEY, expected="a JSON object", found=type(own).__name__)
    card: dict[str, Any] = {**_CARD_DEFAULTS, **own}
    card.setdefault("usual_diameter_px", card["diameter_px"])
    whole = {"halo": (0, 512), "multiple": (1, 256)}
    real = {"diameter_px": (0.1, 10_000.0), "usual_diameter_px": (0.1, 10_000.0), "threshold": (0.0, 1.0)}
    if card["normalisation"] not in NORMALISATIONS:
        _refuse_card(path, "normalisation", " or ".join(NORMALISATIONS), card)
    for key, (least, most) in (whole | real).items():
        kinds = (int,) if key in whole else (int, float)
        if isinstance(card[key], bool) or not isinstance(card[key], kinds) or not least <= card[key] <= most:
            _refuse_card(path, key, f"a number from {least:g} to {most:g}", card)
    return MappingProxyType(card)


def _read_separation(card: Mapping[str, Any], path: str) -> SeparationSettings:
    own = card.get("separation", {})
    known = {field.name for field in fields(SeparationSettings)}
    if not isinstance(own, dict) or not set(own) <= known:
        _refuse_card(path, "separation", f"a mapping of {', '.join(sorted(known))}", card)
    try:
        return SeparationSettings(**{"threshold": float(card["threshold"]), **own})
    except InputError as error:
        raise InputError(
            path, place=f"{CARD_KEY}, separation, {error.path}", expected=error.expected, found=error.found
        ) from error


def _refuse_card(path: str, key: str, expected: str, card: Mapping[str, Any]) -> None:
    raise InputError(path, place=f"{CARD_KEY}, {key}", expected=expected, found=repr(card[key])[:100])


# --- weights kept in other files: onnxruntime would open whatever path the model names

_TENSOR = "tensor"
# Where tensors can hide: message type -> field number -> message type (onnx.proto, version 3).
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
}
_EXTERNAL_FIELDS = (13, 14)  # external_data, data_location
_DEEPEST = 64


def _refuse_weights_elsewhere(content: bytes, path: str) -> None:
    try:
        elsewhere = _has_external(memoryview(content), "model", 0)
    except (ValueError, IndexError) as error:
        raise InputError(
            path, expected="an ONNX model", found="a file of another kind", advice=_advice(path)
        ) from error
    if elsewhere:
        raise InputError(
            path,
            expected="a model that holds its own weights",
            found="weights in other files",
            advice="export it again as one file",
        )


def _has_external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _DEEPEST:
        msg = "nested too deeply"
        raise ValueError(msg)
    for number, value in _protobuf_fields(message):
        if kind == _TENSOR:
            # data_location is 0 where the tensor is in the file.
            if number in _EXTERNAL_FIELDS and value != 0:
                return True
            continue
        nested = _NESTED[kind].get(number)
        if nested and isinstance(value, memoryview) and _has_external(value, nested, depth + 1):
            return True
    return False


def _protobuf_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one protobuf message; ValueError or IndexError where it is none."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            msg = "no protobuf message"
            raise ValueError(msg)
        if at + size > len(message):
            msg = "cut short"
            raise ValueError(msg)
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    msg = "no protobuf number"
    raise ValueError(msg)

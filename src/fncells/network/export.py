"""A trained network as an ONNX file that `fncells.inference` and other tools read, with its card inside."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

import fncells
from fncells import files
from fncells.errors import InputError
from fncells.inference import CARD_KEY, NORMALISATIONS
from fncells.network.cresunet import MULTIPLE, CResUnet, load_weights

__all__ = ["HALO_PX", "export_onnx"]

HALO_PX = 96
"""A pixel's result does not depend on what lies further away than this."""

_OPSET = 20
_LARGEST = 1 << 16  # eighths of a side


class _Whole(nn.Module):
    """Probabilities without filling up: whoever runs the file does that, and says so to the file's tiles too."""

    def __init__(self, network: CResUnet) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        return torch.sigmoid(self.network.forward_logits(picture))


def export_onnx(source: Path | CResUnet, out: Path, card: Mapping[str, object]) -> None:
    """Write a network as ONNX: float32 (1, 3, h, w), h and w any multiples of 8, to probabilities (1, 1, h, w).

    The same weights and card give the same bytes with the same release of torch.

    Parameters
    ----------
    source
        Folder of a run, a file of weights as `load_weights` takes it, or a network.
    out
        The file to write.
    card
        What the file is to say of itself. Needed: ``name``, ``version``, ``normalisation``, ``diameter_px`` (median
        equivalent diameter of the cells of the training), ``threshold``, ``licence``. ``halo`` and ``multiple`` are
        added; anything else that JSON can hold may come along.

    Raises
    ------
    InputError
        Where the weights cannot be used, or the card lacks something or says something impossible.
    """
    content = _checked(card)
    network = source if isinstance(source, CResUnet) else load_weights(_weights_of(source))
    model = _to_onnx(network)
    _strip(model)
    model.producer_name, model.producer_version = "fncells", fncells.__version__
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, json.dumps(content, ensure_ascii=False, allow_nan=False)
    onnx.checker.check_model(model)
    files.write_bytes(out, model.SerializeToString(deterministic=True))


_NEEDED = ("name", "version", "normalisation", "diameter_px", "threshold", "licence")


def _checked(card: Mapping[str, object]) -> dict[str, object]:
    for key in _NEEDED:
        if key not in card:
            raise InputError("card", expected=f"an entry {key}", found=", ".join(card) or "none")
    if card["normalisation"] not in NORMALISATIONS:
        raise InputError(
            "card", place="normalisation", expected=" or ".join(NORMALISATIONS), found=repr(card["normalisation"])
        )
    for key, least, most in (("threshold", 0.0, 1.0), ("diameter_px", 0.0, 10_000.0)):
        value = card[key]
        if not isinstance(value, int | float) or not least < value < most:
            raise InputError("card", place=key, expected=f"a number between {least:g} and {most:g}", found=repr(value))
    return dict(card) | {"halo": HALO_PX, "multiple": MULTIPLE}


def _weights_of(source: Path) -> Path:
    return source / "best.safetensors" if source.is_dir() else source


def _to_onnx(network: CResUnet) -> Any:
    height, width = (torch.export.Dim(name, min=1, max=_LARGEST) for name in ("height", "width"))
    whole = _Whole(network).eval()
    # Two sides that differ: the exporter must not conclude that pictures are square.
    example = torch.zeros(1, 3, 8 * MULTIPLE, 9 * MULTIPLE)
    with _quiet():
        program = torch.onnx.export(
            whole,
            (example,),
            dynamo=True,
            dynamic_shapes=({2: MULTIPLE * height, 3: MULTIPLE * width},),
            input_names=["picture"],
            output_names=["heat"],
            opset_version=_OPSET,
            verbose=False,
        )
    if program is None:  # only where no dynamo is asked for
        message = "torch exported nothing"
        raise RuntimeError(message)
    return program.model_proto


def _strip(model: Any) -> None:
    """Drop what the exporter notes of its own making: the paths of this machine are in it."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says four times that torchvision is missing
    try:
        with warnings.catch_warnings():
            # torch 2.13 raises it at itself while it copies the exported program
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)

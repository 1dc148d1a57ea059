"""A finished training run as a model that the rest of fncells, and other tools, can use."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fncells
from fncells.errors import InputError
from fncells.network.export import export_onnx

__all__ = ["export_run", "run_card"]

_USUAL_DIAMETER_PX = 30.0


def run_card(run: Path) -> dict[str, object]:
    """Tell what a model made from a training run says of itself.

    Parameters
    ----------
    run
        Folder of the run.

    Returns
    -------
    dict
        The card that :func:`fncells.network.export.export_onnx` takes: the run's own normalisation, learning rate and typical
        diameter. The licence is that of the pictures it learned from, which the run does not know.

    Raises
    ------
    InputError
        If the folder holds no finished run.
    """
    settings = _read(run / "settings.json")
    used = settings.get("used", {})
    return {
        "name": run.resolve().name,
        "version": fncells.__version__,
        "normalisation": settings["settings"]["crops"]["normalisation"],
        "diameter_px": used.get("diameter_px") or _USUAL_DIAMETER_PX,
        "threshold": 0.5,
        "licence": "that of the training pictures",
        "training": {
            "pictures": len(settings["training"]),
            "validation_pictures": len(settings["validation"]),
            "loss": settings["settings"]["loss"],
            "epochs": settings["settings"]["epochs"],
            "learning_rate": used.get("learning_rate"),
            "seed": settings["settings"]["seed"],
        },
    }


def export_run(run: Path, out: Path, card: Mapping[str, object] | None = None) -> None:
    """Export the best weights of a training run as ONNX.

    Parameters
    ----------
    run
        Folder of the run.
    out
        The file to write.
    card
        Entries to put in place of those of :func:`run_card`.

    Raises
    ------
    InputError
        If the folder holds no finished run.
    """
    export_onnx(run, out, run_card(run) | dict(card or {}))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            path.parent, expected="the folder of a training run, with settings.json", found=str(error)
        ) from error

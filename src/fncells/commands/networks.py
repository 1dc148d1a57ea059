"""Networks trained, and exported for other tools."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from fncells import files
from fncells.commands.common import AS_USUAL, Common

__all__ = ["export", "train"]


def train(
    archive: Path,
    /,
    *,
    collection: str,
    out: Path,
    recipe: Literal["paper", "published", "best"] = "paper",
    init: Path | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    crop: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    common: Common = AS_USUAL,
) -> int:
    """Train a c-ResUnet on a collection of an archive.

    The same command again goes on where an interrupted one stopped.

    Example: fncells train archive --collection yellow --out run

    Parameters
    ----------
    archive
        The archive.
    collection
        Its collection to train on; a share of trainval is set aside for validation.
    out
        Folder of the run.
    recipe
        The paper's, the published code's (with its faults), or ours.
    init
        A run or weight file to start from.
    epochs
        Length of the training, instead of the recipe's.
    batch
        Crops a step, instead of the recipe's.
    crop
        Side of the crops in pixels, instead of the recipe's.
    learning_rate
        Instead of the one that the learning-rate test suggests.
    seed
        Seed of everything random, instead of the recipe's.
    """
    from fncells.network import RECIPES, train_archive

    settings = RECIPES[recipe]
    wanted: dict[str, Any] = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate, "seed": seed}
    settings = dataclasses.replace(settings, **{name: value for name, value in wanted.items() if value is not None})
    if crop is not None:
        settings = dataclasses.replace(settings, crops=dataclasses.replace(settings.crops, size_px=crop))
    result = train_archive(archive, collection, out, settings, init=init)
    summary = {"run": out.as_posix(), "best_epoch": result.best_epoch, "best_dice": result.best_dice}
    common.result(summary, f"best validation Dice {result.best_dice:.4f} in epoch {result.best_epoch}; run in {out}")
    return 0


def export(run: Path, out: Path, /, *, to: Literal["onnx"] = "onnx", common: Common = AS_USUAL) -> int:
    """Export a trained network for other tools.

    Example: fncells export run model.onnx

    Parameters
    ----------
    run
        Folder of a training run.
    out
        The file to write.
    to
        Format of the file.
    """
    from fncells.network import export_run

    export_run(run, out)
    common.result({"model": out.as_posix(), "sha256": files.sha256(out)}, f"exported as {to} to {out}")
    return 0

"""Training c-ResUnet.

A run is a folder: ``settings.json`` (what was really used), ``history.csv`` (every epoch), ``best.safetensors`` and
``best.pth`` (the weights with the best validation Dice), ``last.ckpt`` (to go on from after an interruption).
"""

import dataclasses
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.tuner.tuning import Tuner
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from monai.losses.dice import DiceLoss
from safetensors.torch import save as safetensors_bytes
from torch import Tensor
from torch.nn import functional

from fncells import files
from fncells.errors import InputError
from fncells.network.cresunet import CResUnet, load_weights
from fncells.network.crops import Crops, Draws, TrainingPicture
from fncells.network.data import (
    Batch,
    CellsDataModule,
    crop_loader,
    crops_of,
    loader_to_learn,
    loader_to_validate,
)
from fncells.network.settings import TrainSettings

__all__ = ["TrainResult", "train", "train_archive"]


@dataclass(frozen=True)
class TrainResult:
    """What came of a training.

    Parameters
    ----------
    run
        Folder of the run.
    best_epoch
        Epoch, from 1, whose weights were kept.
    best_dice
        Its validation Dice, pooled over all pixels of the validation crops.
    learning_rate
        Peak of the schedule that was really used.
    suggested_learning_rate
        What the learning-rate test suggested; None where it was not run.
    """

    run: Path
    best_epoch: int
    best_dice: float
    learning_rate: float
    suggested_learning_rate: float | None


def train(
    learn: Sequence[TrainingPicture],
    validate: Sequence[TrainingPicture],
    settings: TrainSettings,
    run: Path,
    *,
    weights: Sequence[float] | None = None,
    init: Path | None = None,
    inputs: Mapping[str, str] | None = None,
) -> TrainResult:
    """Train the network; the same settings, pictures and seed give the same weights on the same kind of processor.

    The same call goes on from ``last.ckpt`` where a run was interrupted.

    Parameters
    ----------
    learn, validate
        Pictures to learn from, and pictures to choose the best epoch by.
    settings
        How to train.
    run
        Folder of the run.
    weights
        How often each of ``learn`` is taken, in relation to the others.
    init
        A run's folder or a file of weights to begin with; None begins with random ones.
    inputs
        SHA-256 of the input files by name, for the record.

    Raises
    ------
    InputError
        Where there is nothing to learn from, the weights to begin with cannot be used, or the folder holds another run.
    """
    crops, checks = crops_of(learn, validate, settings, weights)
    record = _record(settings, crops, checks, init)
    known = _earlier_rates(run, record)
    if (run / files.RECORD_NAME).is_file() and known:
        return _result(run, *known)
    with _quiet():
        suggested = known[1] if known else _test_learning_rate(crops, settings, init)
        rate = known[0] if known else _rate_to_use(settings, suggested)
        used = {"learning_rate": rate, "suggested": suggested, "diameter_px": _median_diameter(learn)}
        files.write_json(run / "settings.json", record | {"used": used})
        lesson = _Lesson(settings, _first_network(settings, init), rate)
        keeper = ModelCheckpoint(run, save_top_k=0, save_last=True, save_on_train_epoch_end=True)
        callbacks = [_History(run, settings.epochs), keeper]
        trainer = _trainer(settings, run, max_epochs=settings.epochs, callbacks=callbacks)
        lessons, tests = loader_to_learn(crops, settings), loader_to_validate(checks, settings)
        last = run / "last.ckpt"
        trainer.fit(lesson, lessons, tests, ckpt_path=last if last.exists() else None, weights_only=True)
    files.write_record(run, "train", record, inputs or {})
    last.unlink()
    return _result(run, rate, suggested)


def train_archive(
    archive: Path, collection: str, run: Path, settings: TrainSettings, *, init: Path | None = None
) -> TrainResult:
    """Train on the ``trainval`` pictures of one collection of an archive.

    Parameters
    ----------
    archive
        Folder of the archive.
    collection
        Name of the collection.
    run, settings, init
        As `train` takes them.

    Raises
    ------
    InputError
        Where the archive lacks them or holds pictures of fewer than two slices, and as `train` does.
    """
    data = CellsDataModule(archive, collection, settings)
    learn, validate = data.crops
    inputs = {
        path.relative_to(archive).as_posix(): files.sha256(path)
        for sample in data.labelled
        for path in (sample.picture_path, sample.labels_path or sample.mask_path)
        if path is not None
    }
    return train(learn.pictures, validate.pictures, settings, run, init=init, inputs=inputs)


def _result(run: Path, rate: float, suggested: float | None) -> TrainResult:
    history = pd.read_csv(run / "history.csv")
    best = history[history["kept"] == 1].iloc[-1]
    return TrainResult(run, int(best["epoch"]), float(best["validation_dice"]), rate, suggested)


# --- the lesson


class _Lesson(lightning.LightningModule):
    """One step of training and of validation."""

    kept_dice: Tensor

    def __init__(self, settings: TrainSettings, network: CResUnet, learning_rate: float) -> None:
        super().__init__()
        self.settings = settings
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.learning_rate = learning_rate  # the learning-rate test sets it under this name
        self.register_buffer("kept_dice", torch.tensor(-torch.inf))
        self.overlap = np.zeros(3, np.int64)  # pixels found and true, found, true
        self.losses: list[float] = []

    def training_step(self, batch: Batch, _number: int) -> Tensor:
        loss = self._loss(batch, self._logits(batch))
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: Batch, _number: int) -> None:
        found = self._logits(batch) > 0
        true = batch["target"] > 0.5
        self.overlap += [int(pixels.sum()) for pixels in (found & true, found, true)]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        kind = torch.optim.Adam if self.settings.optimiser == "adam" else torch.optim.AdamW
        optimiser = kind(self.network.parameters(), lr=self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def take_stock(self) -> dict[str, float]:
        """Sum up the epoch that ends, begin the next, and keep count of the best."""
        both, found, true = self.overlap
        dice = float(2 * both / (found + true)) if found + true else 1.0
        better = dice > float(self.kept_dice) + self.settings.least_improvement
        if better:
            self.kept_dice.fill_(dice)
        loss = float(np.mean(self.losses))
        self.overlap[:] = 0
        self.losses.clear()
        return {"loss": loss, "validation_dice": dice, "kept": int(better)}

    def _logits(self, batch: Batch) -> Tensor:
        pictures = batch["picture"].to(memory_format=torch.channels_last)
        logits: Tensor = self.network.forward_logits(pictures)
        return logits.float()

    def _loss(self, batch: Batch, logits: Tensor) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            return _LOSSES[self.settings.loss](logits, batch["target"], batch["weight"])


def _dice(logits: Tensor, target: Tensor, _weight: Tensor) -> Tensor:
    """Dice of the whole batch, so that crops without cells do not count as much as those with many."""
    loss: Tensor = DiceLoss(batch=True, smooth_nr=1.0, smooth_dr=1.0)(logits.sigmoid(), target)
    return loss


def _dice_after_softmax(logits: Tensor, target: Tensor, _weight: Tensor) -> Tensor:
    probability = logits.sigmoid()
    channels = torch.cat([1 - probability, probability], dim=1)
    squeezed = DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=1e-6, smooth_dr=1e-6)
    loss: Tensor = squeezed(channels, target)
    return loss


def _dice_and_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return _dice(logits, target, weight) + functional.binary_cross_entropy_with_logits(logits, target, weight)


_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "dice": _dice,
    "dice-after-softmax": _dice_after_softmax,
    "dice+bce": _dice_and_entropy,
}


class _History(Callback):
    """Writes what every epoch brought, and the weights whenever they are the best so far."""

    def __init__(self, run: Path, epochs: int) -> None:
        self.run = run
        self.rows: list[dict[str, float]] = []
        self.ticks = files.progress(range(epochs), epochs, "training")
        next(self.ticks)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        lesson = cast("_Lesson", pl_module)
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        row = lesson.take_stock()
        if row["kept"]:
            _save(lesson.network, self.run)
        self.rows.append({"epoch": trainer.current_epoch + 1, "learning_rate": rate} | row)
        files.write_csv(self.run / "history.csv", pd.DataFrame(self.rows))
        next(self.ticks, None)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        for _ in self.rows:
            next(self.ticks, None)


def _save(network: CResUnet, run: Path) -> None:
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    files.write_bytes(run / "best.safetensors", safetensors_bytes(weights))
    buffer = io.BytesIO()  # given a file, torch would write that file's name into it
    torch.save({"model": weights}, buffer)
    files.write_bytes(run / "best.pth", buffer.getvalue())


# --- what is needed around it

_LOWEST_RATE, _HIGHEST_RATE = 1e-6, 1.0


def _first_network(settings: TrainSettings, init: Path | None) -> CResUnet:
    if init is not None:
        return load_weights(init / "best.safetensors" if init.is_dir() else init).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return CResUnet()


def _trainer(settings: TrainSettings, run: Path, **more: Any) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="auto",
        devices=1,
        precision=settings.precision,
        default_root_dir=run,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **more,
    )


def _test_learning_rate(crops: Crops, settings: TrainSettings, init: Path | None) -> float | None:
    """Raise the rate batch by batch, and take the one where the loss falls most steeply (Smith 2017)."""
    if settings.learning_rate is not None and not settings.test_learning_rate:
        return None
    steps = settings.learning_rate_steps
    draws = Draws(steps * settings.batch, settings.seed)
    lesson = _Lesson(settings, _first_network(settings, init), _LOWEST_RATE)
    with TemporaryDirectory(prefix="fncells-") as folder:  # Lightning puts the weights to go back to there
        trainer = _trainer(settings, Path(folder), max_epochs=1, enable_checkpointing=False)
        with redirect_stderr(io.StringIO()):  # its bar cannot be switched off
            found = Tuner(trainer).lr_find(
                lesson,
                crop_loader(crops, settings, draws),
                min_lr=_LOWEST_RATE,
                max_lr=_HIGHEST_RATE,
                num_training=steps,
                update_attr=False,
            )
    suggestion = None if found is None else found.suggestion()
    return None if suggestion is None else float(suggestion)


def _rate_to_use(settings: TrainSettings, suggested: float | None) -> float:
    if settings.learning_rate is not None:
        return settings.learning_rate
    if suggested is None:
        raise InputError("learning_rate", expected="a learning-rate test that ends with a suggestion", found="none")
    return suggested


def _median_diameter(pictures: Sequence[TrainingPicture]) -> float | None:
    """Typical diameter, in pixels, of the cells that the network learns; pictures without any tell nothing."""
    known = [picture.diameter_px for picture in pictures if np.isfinite(picture.diameter_px)]
    return float(np.median(known)) if known else None


def _record(settings: TrainSettings, crops: Crops, checks: Crops, init: Path | None) -> dict[str, Any]:
    return {
        "settings": dataclasses.asdict(settings),
        "init": None if init is None else init.name,
        "training": [picture.name for picture in crops.pictures],
        "validation": [picture.name for picture in checks.pictures],
    }


def _earlier_rates(run: Path, record: dict[str, Any]) -> tuple[float, float | None] | None:
    """Read the learning rates of the run that this call goes on with; None where the folder holds no run."""
    path = run / "settings.json"
    if not path.is_file():
        return None
    earlier = json.loads(path.read_text(encoding="utf-8"))
    used = earlier.pop("used")
    if earlier != json.loads(json.dumps(record)):
        raise InputError(
            run,
            expected="a new folder, or the same run to go on with",
            found="a run with other settings or pictures",
            advice="choose another folder",
        )
    return used["learning_rate"], used["suggested"]


_PASSED_OVER = (
    "You defined a `validation_step` but have no `val_dataloader`",  # the learning-rate test needs none
    ".*does not have many workers",  # crops are cut in a tenth of the time that a step takes
    "Checkpoint directory .* exists and is not empty",  # a run's folder also holds its settings
    ".*LeafSpec.* is deprecated",  # Lightning 2.6 with torch 2.13; the call is Lightning's own
)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from talking, and pass over the advice that does not fit here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in _PASSED_OVER:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)

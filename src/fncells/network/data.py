"""Pictures and cells of an archive for torch and Lightning: whole pictures one by one, or crops to learn from.

`CellsDataset` gives whole pictures with all that is known of their cells, `CellsDataModule` the loaders of one collection of
an archive: the same crops that `fncells train` learns from, and whole pictures to test on.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import lightning
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from fncells import files
from fncells.archive import Archive, Sample
from fncells.cells import AnnotatedImage
from fncells.errors import InputError
from fncells.inference import normalise
from fncells.names import group_keys
from fncells.network.cresunet import MULTIPLE
from fncells.network.crops import Crops, Draws, TrainingPicture
from fncells.network.settings import TrainSettings

__all__ = [
    "Batch",
    "CellsDataModule",
    "CellsDataset",
    "collate_cells",
    "crop_loader",
    "crops_of",
    "loader_to_learn",
    "loader_to_validate",
    "split_validation",
]

Batch = dict[str, Tensor]
Item = dict[str, Any]


class CellsDataset(Dataset[Item]):
    """Whole pictures of an archive with their cells, read when they are asked for.

    Parameters
    ----------
    samples
        Of :meth:`fncells.archive.Archive.samples`.
    target
        The ground truth to take the cells from, as :meth:`fncells.archive.Sample.read_cells` has it: ``"masks"``, ``"coco"``
        and so on; None takes its choice.
    normalisation
        As `fncells.inference.normalise` takes it.

    Notes
    -----
    An item is a dict. Of every picture there are ``name``, a text, and ``picture``, float32 (3, h, w), 0 to 1. Where it has
    ground truth there are also

    - ``mask``: float32 (1, h, w), 1 in cells;
    - ``labels``: int64 (h, w), 0 for background, i + 1 for cell i; where cells overlap the later one;
    - ``boxes``: float32 (n, 4), x and y of the left upper and of the right lower corner along the edges of pixels, as
      torchvision has them: a cell of the first pixel alone has 0, 0, 1, 1;
    - ``centres``: float32 (n, 2), x and y of the mean of each cell's pixels, where the middle of the first pixel is 0, 0;
    - ``count``: int64 (), the number n of cells.
    """

    def __init__(self, samples: Sequence[Sample], target: str | None = None, normalisation: str = "rgb") -> None:
        self.samples = samples
        self.target = target
        self.normalisation = normalisation

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, place: int) -> Item:
        """Read the picture at this place; InputError where it, or its ground truth, cannot be used."""
        sample = self.samples[place]
        seen = normalise(sample.read_picture().pixels, self.normalisation)
        item = {"name": sample.name, "picture": torch.from_numpy(np.array(seen.transpose(2, 0, 1), order="C"))}
        if not sample.formats:
            return item
        cells = sample.read_cells(self.target)
        if cells.shape != seen.shape[:2]:
            expected, found = (f"{shape[1]} x {shape[0]} pixels" for shape in (seen.shape, cells.mask.shape))
            raise InputError(sample.picture_path, expected=f"ground truth of {expected}", found=found)
        return item | _targets(cells)


def _targets(cells: AnnotatedImage) -> Item:
    # Without numbers of their own cells are numbered as they stand, so that labels and rows of boxes belong together.
    cells = dataclasses.replace(cells, cells=tuple(dataclasses.replace(cell, number=None) for cell in cells.cells))
    boxes = cells.boxes + np.array([0, 0, 1, 1])
    return {
        "mask": torch.from_numpy(cells.mask[np.newaxis].astype(np.float32)),
        "labels": torch.from_numpy(cells.labels.astype(np.int64)),
        "boxes": torch.from_numpy(boxes.astype(np.float32)),
        "centres": torch.from_numpy(cells.centres.astype(np.float32)),
        "count": torch.tensor(len(cells.cells)),
    }


_PLANES = ("picture", "mask", "labels")


def collate_cells(items: Sequence[Mapping[str, Any]]) -> Item:
    """Make one batch of pictures of any sizes, for `torch.utils.data.DataLoader`.

    Parameters
    ----------
    items
        As `CellsDataset` gives them.

    Returns
    -------
    dict
        ``picture``, ``mask`` and ``labels`` of all pictures stacked, each filled up with zeros on the right and below to the
        greatest height and width, rounded up to a multiple of 8 as c-ResUnet needs it; ``shape``, int64 (pictures, 2), the
        height and width that each really has; ``count``, int64 (pictures,); ``boxes``, ``centres`` and ``name`` as lists.
        What one of the pictures lacks, the batch lacks.
    """
    shapes = torch.tensor([item["picture"].shape[1:] for item in items])
    height, width = (-(-int(side) // MULTIPLE) * MULTIPLE for side in shapes.amax(dim=0))
    batch: Item = {"shape": shapes}
    for key in [key for key in items[0] if all(key in item for item in items)]:
        values = [item[key] for item in items]
        if key in _PLANES:
            values = [functional.pad(one, (0, width - one.shape[-1], 0, height - one.shape[-2])) for one in values]
        batch[key] = torch.stack(values) if key in (*_PLANES, "count") else values
    return batch


class CellsDataModule(lightning.LightningDataModule):
    """The pictures of one collection of an archive for Lightning's trainer.

    Training and validation have crops of the ``trainval`` pictures, as `fncells.network.train_archive` takes them: dicts of
    ``picture``, ``target`` and ``weight``, see `fncells.network.crops.Crops`. Testing has the whole ``test`` pictures and
    prediction the ``unlabelled`` ones, one a batch, see `CellsDataset` and `collate_cells`. The same settings give the same
    batches, whatever the number of workers.

    Parameters
    ----------
    archive
        The archive's folder.
    collection
        Name of the collection.
    settings
        Crops, batch, seed, and how validation is set apart: by whole slices or whole animals, never across the two.
    workers
        Processes that make batches; 0 makes them in this one.

    Attributes
    ----------
    labelled : tuple of Sample
        The ``trainval`` pictures with ground truth.

    Raises
    ------
    InputError
        If there is no such archive or collection; when crops are asked for, if there are pictures of fewer than two slices.
    """

    def __init__(
        self, archive: Path | str, collection: str, settings: TrainSettings | None = None, *, workers: int = 0
    ) -> None:
        super().__init__()
        self.settings = settings or TrainSettings()
        self.workers = workers
        opened = Archive.open(archive)
        trainval = opened.samples(collection, "trainval")
        self.labelled = tuple(sample for sample in trainval if sample.mask_path or sample.labels_path)
        self._test = tuple(sample for sample in opened.samples(collection, "test") if sample.formats)
        self._unlabelled = opened.samples(collection, "unlabelled")

    @cached_property
    def validation(self) -> tuple[bool, ...]:
        """Which of the labelled pictures are set apart for validation."""
        slices = {sample: sample.slice or sample.name for sample in self.labelled}
        groups: Mapping[Sample, str] = slices
        if self.settings.validation_group == "animal":
            groups = group_keys(slices, {sample: sample.animal for sample in self.labelled})
        return tuple(split_validation(list(groups.values()), self.settings.validation_share, self.settings.seed))

    @cached_property
    def crops(self) -> tuple[Crops, Crops]:
        """Crops to learn from and crops to validate by; their pictures are read now and stay in memory."""
        apart, normalisation = self.validation, self.settings.crops.normalisation
        pictures = [
            TrainingPicture(sample.name, sample.read_picture().pixels, sample.read_cells().labels, normalisation)
            for sample in files.progress(self.labelled, len(self.labelled), "reading")
        ]
        learn, validate = (
            [picture for picture, held in zip(pictures, apart, strict=True) if held is side] for side in (False, True)
        )
        return crops_of(learn, validate, self.settings)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Crops, others in every epoch."""
        return loader_to_learn(self.crops[0], self.settings, self.workers)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Crops, the same in every epoch."""
        return loader_to_validate(self.crops[1], self.settings, self.workers)

    def test_dataloader(self) -> DataLoader[Item]:
        """Whole pictures with their cells."""
        return self._whole(self._test)

    def predict_dataloader(self) -> DataLoader[Item]:
        """Whole pictures without cells."""
        return self._whole(self._unlabelled)

    def _whole(self, samples: Sequence[Sample]) -> DataLoader[Item]:
        pictures = CellsDataset(samples, normalisation=self.settings.crops.normalisation)
        return DataLoader(pictures, collate_fn=collate_cells, **_by(self.workers))


# --- crops


def crops_of(
    learn: Sequence[TrainingPicture],
    validate: Sequence[TrainingPicture],
    settings: TrainSettings,
    weights: Sequence[float] | None = None,
) -> tuple[Crops, Crops]:
    """Give the crops to learn from, and those to validate by, which are cut and changed no further."""
    unchanged = dataclasses.replace(settings.crops, augmentation=None)
    crops = Crops(learn, settings.crops, settings.seed, weights)
    return crops, Crops(validate, unchanged, settings.seed + 1)


def loader_to_learn(crops: Crops, settings: TrainSettings, workers: int = 0) -> DataLoader[Batch]:
    """Load an epoch's crops; every epoch has others."""
    return crop_loader(crops, settings, Draws(settings.crops_per_epoch or len(crops), settings.seed), workers)


def loader_to_validate(crops: Crops, settings: TrainSettings, workers: int = 0) -> DataLoader[Batch]:
    """Load the crops that every epoch is validated by."""
    draws = Draws(settings.validation_crops * len(crops), settings.seed, fixed=True)
    return crop_loader(crops, settings, draws, workers)


def crop_loader(crops: Crops, settings: TrainSettings, draws: Draws, workers: int = 0) -> DataLoader[Batch]:
    """Load batches of the crops that are drawn."""
    # A last batch of few crops would upset the batch norms; in validation every crop counts.
    whole_batches = not draws.fixed and len(draws) >= settings.batch
    return DataLoader(crops, settings.batch, sampler=draws, drop_last=whole_batches, **_by(workers))


def _by(workers: int) -> dict[str, Any]:
    return {"num_workers": workers, "worker_init_fn": _one_thread, "persistent_workers": workers > 0}


def _one_thread(_worker: int) -> None:
    """Keep OpenCV from starting threads in a worker: there are workers enough, and a forked process may hang on them."""
    cv2.setNumThreads(0)


def split_validation(groups: Sequence[str], share: float, seed: int) -> list[bool]:
    """Say which pictures are for validation, such that all pictures of a group are on one side.

    Parameters
    ----------
    groups
        Slice or animal of each picture.
    share
        Share of the pictures to set aside; at least one group is, and one is left.
    seed
        Another seed sets others aside.

    Raises
    ------
    InputError
        Where there is one group alone.
    """
    order = sorted(set(groups))
    if len(order) < 2:
        raise InputError(None, expected="pictures of two or more slices or animals to train on", found=str(len(order)))
    np.random.default_rng(seed).shuffle(order)
    wanted = max(1, round(share * len(groups)))
    chosen: set[str] = set()
    for group in order[:-1]:
        if sum(name in chosen for name in groups) >= wanted:
            break
        chosen.add(group)
    return [group in chosen for group in groups]

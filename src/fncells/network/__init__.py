"""c-ResUnet: the network, its training and its export; the one room that knows torch."""

from fncells.errors import MissingExtraError

try:
    import lightning as _lightning  # noqa: F401
    import monai as _monai  # noqa: F401
    import onnx as _onnx  # noqa: F401
    import torch as _torch  # noqa: F401
except ImportError as error:  # pragma: no cover - the tests need them
    raise MissingExtraError("train", "training a network") from error

from fncells.network.cresunet import CResUnet
from fncells.network.data import CellsDataModule, CellsDataset, collate_cells
from fncells.network.export import export_onnx
from fncells.network.runs import export_run, run_card
from fncells.network.settings import RECIPES, TrainSettings
from fncells.network.training import TrainResult, train, train_archive

__all__ = [
    "RECIPES",
    "CResUnet",
    "CellsDataModule",
    "CellsDataset",
    "TrainResult",
    "TrainSettings",
    "collate_cells",
    "export_onnx",
    "export_run",
    "run_card",
    "train",
    "train_archive",
]

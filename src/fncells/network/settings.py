"""How to train: the paper's recipe, the published code's, and ours."""

from dataclasses import dataclass, field
from typing import Literal

from fncells.errors import InputError
from fncells.network.cresunet import MULTIPLE
from fncells.network.crops import Augmentation, CropSettings

__all__ = ["RECIPES", "TrainSettings"]


@dataclass(frozen=True)
class TrainSettings:
    """How to train; `RECIPES` holds the ready ones.

    Parameters
    ----------
    loss
        ``"dice"``: on the probabilities, as the paper says. ``"dice-after-softmax"``: as the published code does, a
        softmax over ``[1 - p, p]``, which squeezes p into 0.27..0.73 before the loss sees it. ``"dice+bce"``: Dice plus
        cross-entropy, weighted by the crops' weights.
    optimiser
        ``"adam"`` or ``"adamw"``.
    learning_rate
        Peak of the one-cycle schedule; None takes what the learning-rate test suggests.
    test_learning_rate
        Run the learning-rate test and record its suggestion even where ``learning_rate`` is given.
    learning_rate_steps
        Batches of the learning-rate test.
    epochs
        Length of the one cycle.
    batch
        Crops a step.
    crops_per_epoch
        Crops an epoch; None takes one of each picture.
    least_improvement
        Validation Dice must rise by more than this to count as better.
    validation_share
        Share of the pictures set aside for validation.
    validation_group
        What stays together there: ``"slice"``, the pictures of one field of view, or ``"animal"``.
    validation_crops
        Crops of each validation picture, the same in every epoch.
    precision
        ``"32-true"`` or ``"bf16-mixed"`` (twice as fast on processors that know bf16).
    seed
        Decides the network's first weights, the split and the crops.
    crops
        What the crops are.
    """

    loss: Literal["dice", "dice-after-softmax", "dice+bce"] = "dice"
    optimiser: Literal["adam", "adamw"] = "adam"
    learning_rate: float | None = None
    test_learning_rate: bool = True
    learning_rate_steps: int = 100
    epochs: int = 100
    batch: int = 8
    crops_per_epoch: int | None = None
    least_improvement: float = 0.0
    validation_share: float = 0.2
    validation_group: Literal["slice", "animal"] = "slice"
    validation_crops: int = 4
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    seed: int = 10
    crops: CropSettings = field(default_factory=CropSettings)

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("validation_crops", 1), ("learning_rate_steps", 20)):
            if getattr(self, name) < least:
                raise InputError(name, expected=f"{least} or more", found=str(getattr(self, name)))
        if self.crops.size_px < MULTIPLE or self.crops.size_px % MULTIPLE:
            raise InputError("size_px", expected=f"a multiple of {MULTIPLE}", found=str(self.crops.size_px))
        if not 0 < self.validation_share < 1:
            raise InputError("validation_share", expected="a share between 0 and 1", found=str(self.validation_share))
        if self.validation_group not in ("slice", "animal"):
            raise InputError("validation_group", expected="slice or animal", found=repr(self.validation_group))


RECIPES: dict[str, TrainSettings] = {
    "paper": TrainSettings(),
    "published": TrainSettings(loss="dice-after-softmax", learning_rate=1e-3, batch=32, least_improvement=0.005),
    # The test's suggestion, where the loss falls most steeply, is too low for this loss: it falls most steeply while the
    # network only learns how rare cells are. The rate is the one that the packaged model was trained with.
    "best": TrainSettings(
        loss="dice+bce",
        optimiser="adamw",
        learning_rate=3e-3,
        test_learning_rate=False,
        precision="bf16-mixed",
        crops=CropSettings(
            size_px=256,
            on_cells=0.7,
            gap_px=2,
            between_weight=3.0,
            augmentation=Augmentation(
                quarter_turns=True,
                zoom=(0.8, 1.25),
                lighting=0.2,
                gamma=0.3,
                blur=0.2,
                noise=0.2,
                gradient=0.2,
                distractors=0.2,
            ),
        ),
    ),
}
"""Ready settings by name: ``paper``, ``published``, ``best``."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from fncells import files
from fncells.errors import InputError
from fncells.images import Picture, write_png
from fncells.names import slice_key
from fncells.network import training
from fncells.network.cresunet import load_weights
from fncells.network.crops import CropSettings, TrainingPicture
from fncells.network.data import split_validation
from fncells.network.settings import RECIPES, TrainSettings
from fncells.network.training import train, train_archive

TINY = TrainSettings(
    learning_rate=3e-3,
    test_learning_rate=False,
    epochs=3,
    batch=2,
    crops_per_epoch=4,
    seed=1,
    crops=CropSettings(size_px=16, on_cells=0.5),
)


def pictures(count, seed=0, side=32):
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        labels = np.zeros((side, side), np.int32)
        rows, columns = np.indices(labels.shape)
        for cell in range(1, 4):
            y, x = random.uniform(0, side, 2)
            labels[(rows - y) ** 2 + (columns - x) ** 2 < 16] = cell
        pixels = np.clip(random.normal(20, 5, labels.shape) + (labels > 0) * 150, 0, 255).astype(np.uint8)
        made.append(TrainingPicture(f"{seed}-{number}.png", pixels, labels))
    return made


LEARN, CHECK = pictures(4), pictures(2, seed=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a"
    result = train(LEARN, CHECK, TINY, folder, inputs={"b.png": "22", "a.png": "11"})
    return folder, result


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_leaves_what_it_should(run):
    folder, result = run
    assert sorted(contents(folder)) == [
        "best.pth",
        "best.safetensors",
        "fncells-run.json",
        "history.csv",
        "settings.json",
    ]
    history = pd.read_csv(folder / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert result.best_dice == history["validation_dice"].max() == history["validation_dice"][result.best_epoch - 1]
    assert result.learning_rate == 3e-3
    assert result.suggested_learning_rate is None
    record = json.loads((folder / files.RECORD_NAME).read_text())
    assert record["command"] == "train"
    assert record["inputs"] == {"a.png": "11", "b.png": "22"}
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["settings"] == json.loads(json.dumps(dataclasses.asdict(TINY)))
    known = np.median([picture.diameter_px for picture in LEARN])
    assert settings["used"] == {"learning_rate": 3e-3, "suggested": None, "diameter_px": known}
    assert settings["validation"] == [picture.name for picture in CHECK]


def test_both_weight_files_hold_the_same_network(run):
    folder, _ = run
    one, two = load_weights(folder / "best.safetensors"), load_weights(folder / "best.pth")
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    assert set(torch.load(folder / "best.pth", weights_only=True)) == {"model"}


def test_the_best_weights_score_what_the_history_says(run):
    """The kept file is the network of the kept epoch: scored anew on the validation crops, it gives its Dice."""
    folder, result = run
    network = load_weights(folder / "best.safetensors")
    crops = training.Crops(CHECK, dataclasses.replace(TINY.crops, augmentation=None), TINY.seed + 1)
    items = [crops[number] for number in range(TINY.validation_crops * len(CHECK))]
    with torch.no_grad():
        found = network(torch.stack([item["picture"] for item in items])) > 0.5
    true = torch.stack([item["target"] for item in items]) > 0.5
    dice = 2 * (found & true).sum() / (found.sum() + true.sum())
    assert dice.item() == pytest.approx(result.best_dice, abs=1e-6)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(run, tmp_path):
    folder, _ = run
    train(LEARN, CHECK, TINY, tmp_path / "again", inputs={"b.png": "22", "a.png": "11"})
    assert contents(tmp_path / "again") == contents(folder)
    train(LEARN, CHECK, dataclasses.replace(TINY, seed=2, epochs=1), tmp_path / "other")
    assert (tmp_path / "other" / "best.pth").read_bytes() != (folder / "best.pth").read_bytes()


def test_an_interrupted_run_goes_on_to_the_same_bytes(run, tmp_path, monkeypatch):
    folder, result = run
    write_csv = files.write_csv

    def die_in_the_second_epoch(path, table):
        if len(table) == 2:
            raise KeyboardInterrupt
        write_csv(path, table)

    monkeypatch.setattr(files, "write_csv", die_in_the_second_epoch)
    inputs = {"b.png": "22", "a.png": "11"}
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(LEARN, CHECK, TINY, tmp_path / "b", inputs=inputs)
    assert not (tmp_path / "b" / files.RECORD_NAME).exists()
    monkeypatch.undo()
    resumed = train(LEARN, CHECK, TINY, tmp_path / "b", inputs=inputs)
    assert contents(tmp_path / "b") == contents(folder)
    assert resumed == dataclasses.replace(result, run=tmp_path / "b")


def test_a_finished_run_is_not_repeated(run, monkeypatch):
    folder, result = run
    monkeypatch.setattr(training, "_trainer", None)
    assert train(LEARN, CHECK, TINY, folder) == result


@pytest.mark.parametrize("change", [{"epochs": 4}, {"seed": 5}])
def test_a_folder_with_another_run_is_refused(run, change):
    folder, _ = run
    before = contents(folder)
    with pytest.raises(InputError, match="other settings or pictures"):
        train(LEARN, CHECK, dataclasses.replace(TINY, **change), folder)
    assert contents(folder) == before


def test_training_learns(tmp_path):
    settings = dataclasses.replace(TINY, epochs=12, batch=4, crops_per_epoch=24, learning_rate=1e-2)
    settings = dataclasses.replace(settings, loss="dice+bce", optimiser="adamw")
    result = train(LEARN, CHECK, settings, tmp_path / "run")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert result.best_dice > 0.8
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    assert history["learning_rate"].iloc[-1] < 0.01 * history["learning_rate"].max()  # one cycle, down to nothing


def test_the_learning_rate_test_is_used_and_recorded(tmp_path):
    settings = dataclasses.replace(TINY, learning_rate=None, epochs=1, learning_rate_steps=25)
    result = train(LEARN, CHECK, settings, tmp_path / "run")
    assert result.learning_rate == result.suggested_learning_rate
    assert 1e-6 < result.learning_rate < 1
    used = json.loads((tmp_path / "run" / "settings.json").read_text())["used"]
    assert (used["learning_rate"], used["suggested"]) == (result.learning_rate, result.suggested_learning_rate)
    # 2 steps of one cycle: the last one is at the end of the way from the peak, the first at a 25th of it
    assert pd.read_csv(tmp_path / "run" / "history.csv")["learning_rate"].iloc[-1] < result.learning_rate


def test_a_given_learning_rate_stands_and_the_suggested_one_is_recorded(tmp_path):
    settings = dataclasses.replace(TINY, test_learning_rate=True, epochs=1, learning_rate_steps=25)
    result = train(LEARN, CHECK, settings, tmp_path / "run")
    assert result.learning_rate == 3e-3
    assert result.suggested_learning_rate is not None
    assert result.suggested_learning_rate != 3e-3


def test_without_a_suggestion_the_learning_rate_must_be_given(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_test_learning_rate", lambda *_: None)
    with pytest.raises(InputError, match="learning_rate"):
        train(LEARN, CHECK, dataclasses.replace(TINY, learning_rate=None), tmp_path / "run")


@pytest.mark.parametrize("as_folder", [True, False])
def test_training_can_begin_with_another_run(run, tmp_path, as_folder):
    folder, _ = run
    init = folder if as_folder else folder / "best.pth"
    still = dataclasses.replace(TINY, learning_rate=1e-12, epochs=1)
    train(LEARN, CHECK, still, tmp_path / "run", init=init)
    before, after = load_weights(folder / "best.pth"), load_weights(tmp_path / "run" / "best.pth")
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(old, new, msg=name)


def test_small_gains_do_not_count_as_better(tmp_path):
    settings = dataclasses.replace(TINY, least_improvement=2.0)
    assert train(LEARN, CHECK, settings, tmp_path / "run").best_epoch == 1


@pytest.mark.parametrize("p", [0.01, 0.5, 0.99])
def test_the_published_loss_sees_a_squeezed_probability(p):
    logits = torch.full((1, 1, 8, 8), math.log(p / (1 - p)))
    target = torch.ones(1, 1, 8, 8)
    squeezed = 1 / (1 + math.exp(1 - 2 * p))  # softmax over [1 - p, p]
    # Dice of the cells, and of the background, of which there is none to find
    cells = 1 - 2 * squeezed / (squeezed + 1)
    loss = training._dice_after_softmax(logits, target, target).item()
    assert loss == pytest.approx((cells + 1) / 2, abs=1e-4)
    assert 0.26 < squeezed < 0.74


def test_the_papers_loss_is_dice_on_the_probabilities():
    logits = torch.tensor([[[[2.0, -1.0], [0.5, -3.0]]]])
    target = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]])
    p = logits.sigmoid()
    expected = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
    assert training._dice(logits, target, target).item() == pytest.approx(expected.item())


def test_our_loss_adds_the_weighted_cross_entropy():
    logits, target = torch.randn(2, 1, 4, 4), (torch.rand(2, 1, 4, 4) > 0.5).float()
    weight = torch.rand(2, 1, 4, 4)
    p = logits.sigmoid()
    entropy = -(weight * (target * p.log() + (1 - target) * (1 - p).log())).mean()
    expected = training._dice(logits, target, weight) + entropy
    assert training._dice_and_entropy(logits, target, weight).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_trains(recipe, tmp_path):
    small = dataclasses.replace(RECIPES[recipe].crops, size_px=16)
    settings = dataclasses.replace(
        RECIPES[recipe], crops=small, epochs=1, batch=2, crops_per_epoch=4, learning_rate_steps=20
    )
    result = train(LEARN, CHECK, settings, tmp_path / "run")
    assert (result.suggested_learning_rate is None) == (recipe == "best")
    rates = {"published": 1e-3, "best": 3e-3, "paper": result.suggested_learning_rate}
    assert result.learning_rate == rates[recipe]


def test_recipes_say_what_paper_and_code_did():
    paper, published = RECIPES["paper"], RECIPES["published"]
    assert (paper.loss, paper.optimiser, paper.learning_rate, paper.epochs) == ("dice", "adam", None, 100)
    assert (published.loss, published.learning_rate) == ("dice-after-softmax", 1e-3)
    assert (published.batch, published.crops.size_px, published.least_improvement) == (32, 512, 0.005)
    assert paper.crops.gap_px == published.crops.gap_px == 0
    assert RECIPES["best"].crops.gap_px > 0


def test_slices_stay_on_one_side():
    names = [
        f"Mar{animal}S1C{column}R{row}_LHr_200x_{mark}.png"
        for animal in (19, 24)
        for column in (1, 2, 3)
        for row in (1, 2)
        for mark in "yr"
    ]
    groups = [slice_key(name) for name in names]
    held = split_validation(groups, 0.25, 3)
    sides = {}
    for name, side in zip(names, held, strict=True):
        sides.setdefault(slice_key(name), set()).add(side)
    assert len(sides) == 12
    assert all(len(side) == 1 for side in sides.values())
    assert sum(held) == 6
    assert split_validation(groups, 0.25, 3) == held
    assert any(split_validation(groups, 0.25, seed) != held for seed in range(4, 8))


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_both_sides_get_a_slice(share):
    held = split_validation(["a.png", "b.png", "c.png"], share, 0)
    assert set(held) == {True, False}


@pytest.fixture
def archive(tmp_path):
    """An archive of one collection with three labelled pictures, one of them without cells."""
    trainval = tmp_path / "archive" / "green" / "trainval"
    for folder in (trainval / "images", trainval / "ground_truths" / "masks"):
        folder.mkdir(parents=True)
    for number in range(3):
        labels = np.zeros((24, 32), np.uint8)
        labels[6:12, 8:14] = 255 if number else 0
        write_png(trainval / "ground_truths" / "masks" / f"{number}.png", Picture(f"{number}.png", labels))
        colours = np.stack([labels // 2 + number] * 3, axis=-1)
        write_png(trainval / "images" / f"{number}.png", Picture(f"{number}.png", colours))
    return tmp_path / "archive"


def test_an_archive_can_be_trained_on(archive, tmp_path):
    result = train_archive(archive, "green", tmp_path / "run", dataclasses.replace(TINY, epochs=1))
    settings = json.loads((result.run / "settings.json").read_text())
    assert sorted(settings["training"] + settings["validation"]) == ["0.png", "1.png", "2.png"]
    assert len(settings["validation"]) == 1
    inputs = json.loads((result.run / files.RECORD_NAME).read_text())["inputs"]
    assert len(inputs) == 6
    one = "green/trainval/ground_truths/masks/1.png"
    assert inputs[one] == files.sha256(archive / one)


def test_a_collection_that_the_archive_lacks_is_refused(archive, tmp_path):
    with pytest.raises(InputError, match="red"):
        train_archive(archive, "red", tmp_path / "run", TINY)
    assert not (tmp_path / "run").exists()


def test_one_slice_cannot_be_split():
    with pytest.raises(InputError, match="two or more slices"):
        split_validation(["mar19b_s1c1r1_lhr", "mar19b_s1c1r1_lhr"], 0.2, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("batch", 0), ("validation_share", 1.0), ("crops", CropSettings(size_px=20))],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(InputError, match="expected"):
        TrainSettings(**{name: value})
    TrainSettings(epochs=1, batch=1, validation_share=0.5, crops=CropSettings(size_px=24))

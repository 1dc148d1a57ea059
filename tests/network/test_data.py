"""Pictures and cells of an archive as torch and Lightning take them."""

import dataclasses
import pickle

import lightning
import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from fncells.archive import INDEX_NAME, Archive, path_of, read_index, write_index
from fncells.errors import InputError
from fncells.images import Picture, write_png
from fncells.network import CellsDataModule, CellsDataset, CResUnet, TrainSettings, collate_cells, train_archive
from fncells.network.crops import CropSettings
from published_archive import LARGE, NUMBERS, USUAL, put_published_archive

TINY = TrainSettings(
    learning_rate=1e-3, test_learning_rate=False, epochs=1, batch=2, seed=4, crops=CropSettings(size_px=32)
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    put_published_archive(root)
    return root


@pytest.fixture
def own_root(tmp_path):
    put_published_archive(tmp_path / "fnc")
    return tmp_path / "fnc"


def same(one, other):
    """Whether two items or batches are the same to the last bit."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        pairs = zip(value, other[key], strict=True) if isinstance(value, list) else [(value, other[key])]
        for mine, theirs in pairs:
            is_tensor = isinstance(mine, torch.Tensor)
            assert torch.equal(mine, theirs) and mine.dtype == theirs.dtype if is_tensor else mine == theirs
    return True


# Whole pictures


@pytest.mark.parametrize("target", [None, "masks", "rle", "voc", "via"])
def test_items_hold_pictures_and_all_of_their_cells(root, target):
    samples = Archive.open(root).samples("red", "trainval")
    dataset = CellsDataset(samples, target)
    assert len(dataset) == len(samples)
    for place, sample in enumerate(samples):
        item, pixels, cells = dataset[place], sample.read_picture().pixels, sample.read_cells()
        height, width = pixels.shape[:2]
        assert item["name"] == sample.name
        assert item["picture"].dtype == torch.float32
        np.testing.assert_array_equal(item["picture"].numpy(), np.float32(pixels.transpose(2, 0, 1)) / np.float32(255))
        assert (item["mask"].dtype, tuple(item["mask"].shape)) == (torch.float32, (1, height, width))
        assert np.array_equal(item["mask"][0].numpy() == 1, cells.mask)
        assert item["labels"].dtype == torch.int64
        assert int(item["count"]) == len(cells.cells)
        assert sorted(item["labels"].unique().tolist()) == list(range(len(cells.cells) + 1))
        assert tuple(item["boxes"].shape) == (len(cells.cells), 4)
        for number, (box, centre) in enumerate(zip(item["boxes"].tolist(), item["centres"], strict=True), 1):
            y, x = torch.nonzero(item["labels"] == number, as_tuple=True)
            assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
            torch.testing.assert_close(centre, torch.stack((x.float().mean(), y.float().mean())))


def test_numbers_of_label_pictures_become_places_in_the_lists(own_root):
    labels = np.zeros(USUAL, np.uint16)
    labels[2:5, 2:5], labels[2:5, 5:9] = 300, 7  # they touch
    write_png(own_root / path_of("labels", "green", "trainval", "2"), Picture("2.png", labels))
    item = CellsDataset(Archive.open(own_root).samples("green", "trainval"))[0]
    assert item["boxes"].tolist() == [[5, 2, 9, 5], [2, 2, 5, 5]]
    assert [int((item["labels"] == number).sum()) for number in (1, 2)] == [12, 9]
    assert item["centres"].tolist() == [[6.5, 3], [3, 3]]


def test_a_picture_without_cells_has_lists_of_none(root):
    sample = next(one for one in Archive.open(root).samples("green", "trainval") if one.name == "10.png")
    item = CellsDataset([sample])[0]
    assert {key: tuple(item[key].shape) for key in ("boxes", "centres", "count")} == {
        "boxes": (0, 4),
        "centres": (0, 2),
        "count": (),
    }
    assert not item["mask"].any()
    assert not item["labels"].any()


def test_ground_truth_of_another_size_is_refused(own_root):
    write_png(own_root / path_of("masks", "green", "trainval", "2"), Picture("2.png", np.zeros((10, 12), np.uint8)))
    with pytest.raises(InputError, match=r"2\.png: expected ground truth of 160 x 120 pixels, found 12 x 10"):
        CellsDataset(Archive.open(own_root).samples("green", "trainval"))[0]


def test_pictures_of_different_sizes_make_a_batch(root):
    samples = Archive.open(root).samples("red", "trainval")
    dataset = CellsDataset(samples)
    batch = next(iter(DataLoader(dataset, batch_size=len(samples), collate_fn=collate_cells)))
    height, width = LARGE
    assert batch["picture"].shape == (len(samples), 3, height + 6, width + 5)  # multiples of 8
    assert {tuple(shape) for shape in batch["shape"].tolist()} == {USUAL, LARGE}
    assert batch["name"] == [sample.name for sample in samples]
    assert batch["count"].tolist() == [len(boxes) for boxes in batch["boxes"]]
    for place, (h, w) in enumerate(batch["shape"].tolist()):
        item = dataset[place]
        for key in ("picture", "mask", "labels"):
            assert torch.equal(batch[key][place, ..., :h, :w], item[key])
            assert batch[key][place, ..., h:, :].abs().sum() == batch[key][place, ..., w:].abs().sum() == 0
        assert torch.equal(batch["centres"][place], item["centres"])
    with torch.no_grad():
        assert CResUnet().eval()(batch["picture"][:1]).shape[2:] == (height + 6, width + 5)


def test_unlabelled_pictures_have_no_cells_in_items_and_batches(root):
    archive = Archive.open(root)
    mixed = CellsDataset([*archive.samples("red", "unlabelled"), *archive.samples("red", "test")])
    assert sorted(mixed[0]) == ["name", "picture"]
    assert sorted(collate_cells([mixed[0], mixed[1]])) == ["name", "picture", "shape"]


def test_two_workers_give_the_same_items(root):
    dataset = CellsDataset(Archive.open(root).samples("yellow"), "coco")
    labelled = CellsDataset([one for one in dataset.samples if one.formats], "coco")
    loaders = [DataLoader(labelled, 3, collate_fn=collate_cells, num_workers=workers) for workers in (0, 2)]
    assert all(same(*pair) for pair in zip(*loaders, strict=True))
    again = pickle.loads(pickle.dumps(labelled))
    assert same(again[1], labelled[1])


# One collection for Lightning


def test_crops_are_the_same_whatever_the_workers_and_other_in_every_epoch(root):
    modules = [CellsDataModule(root, "red", TINY, workers=workers) for workers in (0, 2)]
    epochs = []
    for epoch in range(2):
        loaders = [module.train_dataloader() for module in modules]
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        alone, shared = (list(loader) for loader in loaders)
        assert all(same(*pair) for pair in zip(alone, shared, strict=True))
        epochs.append(alone)
    assert epochs[0][0]["picture"].shape == (2, 3, 32, 32)
    assert not torch.equal(epochs[0][0]["picture"], epochs[1][0]["picture"])
    checks = [list(module.val_dataloader()) for module in modules for _ in range(2)]
    assert all(same(*pair) for other in checks[1:] for pair in zip(checks[0], other, strict=True))


def test_whole_pictures_are_for_tests_and_predictions(root):
    module = CellsDataModule(root, "red", TINY, workers=2)
    tests = list(module.test_dataloader())
    assert [batch["name"] for batch in tests] == [[f"{number}.png"] for number in NUMBERS["red"]["test"]]
    assert all(int(batch["count"]) == len(batch["boxes"][0]) > 0 for batch in tests)
    predictions = list(module.predict_dataloader())
    assert [batch["name"] for batch in predictions] == [[f"{number}.png"] for number in NUMBERS["red"]["unlabelled"]]
    assert all("mask" not in batch for batch in predictions)


def by_field(root):
    """Name the pictures such that every two are of one slice, and slices are of three animals."""
    index = read_index(root / INDEX_NAME)
    names = [f"Mar{place // 2 % 3}S1C{place // 2}R1_LHr_200x_y.TIF" for place in range(len(index))]
    write_index(root / INDEX_NAME, index.assign(original_name=names, animal=None))


@pytest.mark.parametrize("group", ["slice", "animal"])
@pytest.mark.parametrize("seed", range(4))
def test_validation_tears_no_slice_and_where_asked_no_animal(own_root, group, seed):
    by_field(own_root)
    settings = dataclasses.replace(TINY, seed=seed, validation_group=group, validation_share=0.4)
    module = CellsDataModule(own_root, "green", settings)
    sides = {}
    for sample, apart in zip(module.labelled, module.validation, strict=True):
        sides.setdefault(getattr(sample, group), set()).add(apart)
    assert len(sides) >= 3
    assert all(len(side) == 1 for side in sides.values())
    assert len(set(module.validation)) == 2


def test_train_takes_the_modules_pictures(root, tmp_path):
    module = CellsDataModule(root, "red", TINY)
    train_archive(root, "red", tmp_path / "run", TINY)
    told = (tmp_path / "run" / "settings.json").read_text()
    learn, validate = module.crops
    for crops in (learn, validate):
        assert all(f'"{picture.name}"' in told for picture in crops.pictures)
    assert [picture.name for picture in validate.pictures] == [
        sample.name for sample, apart in zip(module.labelled, module.validation, strict=True) if apart
    ]


class Small(lightning.LightningModule):
    """What a user would write around the network."""

    def __init__(self):
        super().__init__()
        self.network = CResUnet()
        self.tested = []

    def training_step(self, batch):
        logits = self.network.forward_logits(batch["picture"])
        return functional.binary_cross_entropy_with_logits(logits, batch["target"])

    def validation_step(self, batch):
        self.log("loss", self.training_step(batch))

    def test_step(self, batch):
        self.tested += batch["name"]

    def predict_step(self, batch):
        return batch["name"]

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*GPU available")
def test_lightnings_trainer_fits_tests_and_predicts_with_it(root, tmp_path):
    module, small = CellsDataModule(root, "red", TINY), Small()
    before = {name: value.clone() for name, value in small.network.named_parameters()}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_steps=2,
        accelerator="cpu",
        default_root_dir=tmp_path,
        enable_model_summary=False,
        log_every_n_steps=1,
        **quiet,
    )
    trainer.fit(small, datamodule=module)
    assert trainer.global_step == 2
    assert any(not torch.equal(value, before[name]) for name, value in small.network.named_parameters())
    trainer.test(small, datamodule=module, verbose=False)
    predicted = trainer.predict(small, datamodule=module)
    assert small.tested == [f"{number}.png" for number in NUMBERS["red"]["test"]]
    assert predicted == [[f"{number}.png"] for number in NUMBERS["red"]["unlabelled"]]


def test_what_the_archive_lacks_is_refused(root):
    with pytest.raises(InputError, match="blue"):
        CellsDataModule(root, "blue")
    with pytest.raises(InputError, match="validation_group: expected slice or animal"):
        TrainSettings(validation_group="cage")

"""The c-ResUnet in tiles gives what it gives on the whole picture, and what torch gives."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fncells.inference import Model, normalise
from fncells.network.cresunet import CResUnet
from fncells.network.export import export_onnx

CARD = {
    "name": "random",
    "version": "1",
    "normalisation": "brightness",
    "diameter_px": 25.0,
    "threshold": 0.5,
    "licence": "Apache-2.0",
}


@pytest.fixture(scope="module")
def network() -> CResUnet:
    """Give a network with random weights whose answers are neither all 0 nor all 1."""
    torch.manual_seed(1)
    network = CResUnet().train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(2, 3, 96, 96))
        network.eval()
        logits = network.forward_logits(torch.rand(1, 3, 128, 128))
        last = network.head.heatmap[0]
        last.weight /= logits.std()
        last.bias.copy_((last.bias - logits.mean()) / logits.std())
    return network


@pytest.fixture(scope="module")
def exported(network: CResUnet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(network, path, CARD)
    return path


def test_tiles_equal_the_whole_picture_and_torch(network: CResUnet, exported: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 4096, (251, 402, 3), dtype=np.uint16)
    whole = Model.load(exported, 1).heat_map(pixels)
    assert whole.std() > 0.05
    np.testing.assert_allclose(Model.load(exported, 1, largest_window=256 * 304).heat_map(pixels), whole, atol=1e-5)
    with torch.no_grad():
        picture = torch.from_numpy(normalise(pixels, "brightness").transpose(2, 0, 1)[None].copy())
        expected = network(picture)[0, 0].numpy()
    np.testing.assert_allclose(whole, expected, atol=1e-4)


def test_a_halo_that_is_too_small_shows(exported: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (64, 480), dtype=np.uint8)
    whole = Model.load(exported, 1).heat_map(pixels)
    careless = Model.load(exported, 1, largest_window=64 * 256)
    careless.card = {**careless.card, "halo": 16}
    assert np.abs(careless.heat_map(pixels) - whole).max() > 1e-4

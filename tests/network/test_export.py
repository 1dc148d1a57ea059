import json

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from fncells.errors import InputError
from fncells.inference import CARD_KEY, Model
from fncells.network.cresunet import CResUnet
from fncells.network.export import export_onnx

CARD = {
    "name": "test",
    "version": "1",
    "normalisation": "brightness",
    "diameter_px": 21.5,
    "threshold": 0.4,
    "licence": "Apache-2.0",
    "training": {"note": "±µ"},
}


@pytest.fixture(scope="module")
def network():
    """A network whose batch norms have seen pictures: with those of the start its logits are far off, in the hundreds."""
    torch.manual_seed(5)
    network = CResUnet()
    with torch.no_grad():
        for _ in range(300):  # with the momentum of 0.01, they come near the mean only slowly
            network(torch.rand(4, 3, 16, 16))
        network.head.heatmap.conv2d.weight *= 0.05
    return network.eval()


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "deep" / "model.onnx"
    export_onnx(network, path, CARD)
    return path


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 72), (72, 64), (200, 136)])
def test_onnxruntime_gives_what_torch_gives(network, exported, height, width):
    session = onnxruntime.InferenceSession(exported)
    picture = torch.rand(1, 3, height, width)
    (heat,) = session.run(None, {"picture": picture.numpy()})
    with torch.no_grad():
        expected = network(picture).numpy()
    assert heat.shape == (1, 1, height, width)
    assert heat.std() > 0.01
    np.testing.assert_allclose(heat, expected, rtol=0, atol=1e-5)


def test_our_own_inference_reads_the_file_and_its_card(exported):
    model = Model.load(exported)
    assert dict(model.card) == CARD | {"halo": 96, "multiple": 8, "usual_diameter_px": CARD["diameter_px"]}
    assert model.separation.threshold == 0.4
    assert model.diameter_px == 21.5
    heat = model.heat_map(np.random.default_rng(0).integers(0, 256, (37, 50), np.uint8))
    assert heat.shape == (37, 50)


def test_the_halo_is_wide_enough(exported):
    """What lies further away than the halo changes nothing."""
    session = onnxruntime.InferenceSession(exported)
    random = np.random.default_rng(1)
    picture = random.random((1, 3, 8, 256), np.float32)
    other = picture.copy()
    other[..., 136:] = random.random((1, 3, 8, 120), np.float32)
    one, two = (session.run(None, {"picture": value})[0] for value in (picture, other))
    np.testing.assert_allclose(one[..., :40], two[..., :40], rtol=0, atol=1e-5)
    assert np.abs(one[..., 136:] - two[..., 136:]).max() > 1e-3


def test_the_file_says_nothing_of_the_machine_and_is_small(exported):
    content = exported.read_bytes()
    assert len(content) < 8_000_000
    assert b".py" not in content
    assert [path.name for path in exported.parent.iterdir()] == ["model.onnx"]  # no weights in other files


def test_the_same_weights_give_the_same_bytes_from_a_run_too(network, exported, tmp_path):
    save_file(network.state_dict(), tmp_path / "best.safetensors")
    export_onnx(tmp_path, tmp_path / "out.onnx", CARD)
    assert (tmp_path / "out.onnx").read_bytes() == exported.read_bytes()


def test_the_card_is_json_in_the_metadata(exported):
    metadata = onnxruntime.InferenceSession(exported).get_modelmeta().custom_metadata_map
    assert json.loads(metadata[CARD_KEY])["training"] == {"note": "±µ"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threshold": 1.5}, "threshold: expected a number between 0 and 1"),
        ({"threshold": "high"}, "threshold"),
        ({"diameter_px": 0}, "diameter_px"),
        ({"normalisation": "grey"}, "normalisation: expected brightness or rgb"),
    ],
)
def test_impossible_cards_are_refused_and_nothing_is_written(network, tmp_path, change, says):
    with pytest.raises(InputError, match=says):
        export_onnx(network, tmp_path / "a.onnx", CARD | change)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["name", "version", "normalisation", "diameter_px", "threshold", "licence"])
def test_incomplete_cards_are_refused(network, tmp_path, missing):
    with pytest.raises(InputError, match=f"an entry {missing}"):
        export_onnx(network, tmp_path / "a.onnx", {key: value for key, value in CARD.items() if key != missing})
    assert not list(tmp_path.iterdir())

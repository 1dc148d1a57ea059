import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import fncells.inference
from fncells.errors import InputError
from fncells.inference import CARD_KEY, PACKAGED, Model, normalise
from fncells.separation import SeparationSettings, separate

BRIGHT = {"normalisation": "brightness", "diameter_px": 12.0, "threshold": 0.4, "halo": 24, "multiple": 4}


def conv(
    name: str, source: str, channels: tuple[int, int], side: int, seed: int, scale: float = 1.0
) -> tuple[Any, ...]:
    """Give one 'same'-padded convolution with random weights and a bias, and its weights."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, scale / side / channels[0] ** 0.5, (channels[1], channels[0], side, side))
    bias = rng.normal(0, 0.3, channels[1])
    kept = [
        numpy_helper.from_array(weights.astype(np.float32), f"{name}_weights"),
        numpy_helper.from_array(bias.astype(np.float32), f"{name}_bias"),
    ]
    pads = [side // 2] * 4
    node = helper.make_node("Conv", [source, kept[0].name, kept[1].name], [name], pads=pads, kernel_shape=[side, side])
    return node, kept


def network(card: object = None, outputs: int = 1, channels: int = 3, last: str = "Sigmoid", **changes: Any) -> bytes:
    """Build a small network with a real receptive field: convolutions on two scales, joined, as in a U-Net."""
    first, first_kept = conv("first", "picture", (channels, 6), 5, 1, 3.0)
    deep, deep_kept = conv("deep", "half", (6, 6), 5, 2)
    deeper, deeper_kept = conv("deeper", "quarter", (6, 6), 5, 3)
    end, end_kept = conv("end", "joined", (12, outputs), 3, 4, 4.0)
    scales = numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales")
    nodes = [
        first,
        helper.make_node("MaxPool", ["first"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        deep,
        helper.make_node("MaxPool", ["deep"], ["quarter"], kernel_shape=[2, 2], strides=[2, 2]),
        deeper,
        helper.make_node("Resize", ["deeper", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Concat", ["first", "large"], ["joined"], axis=1),
        end,
        helper.make_node(last, ["end"], ["heat"]),
    ]
    size = changes.get("size", ["height", "width"])
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, channels, *size])],
        [helper.make_tensor_value_info("heat", TensorProto.FLOAT, None)],
        [*first_kept, *deep_kept, *deeper_kept, *end_kept, scales],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if card is not None:
        helper.set_model_props(model, {CARD_KEY: card if isinstance(card, str) else json.dumps(card)})
    return model.SerializeToString()


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "net.onnx"
        path.write_bytes(content)
        return path

    return write


def noise(shape: tuple[int, ...], dtype: type = np.uint8, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


# --- normalise


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 65535)])
def test_rgb_divides_by_the_full_scale(dtype: type, most: int) -> None:
    pixels = np.array([[[0, most, most // 5]]], dtype)
    np.testing.assert_allclose(normalise(pixels, "rgb"), [[[0, 1, 0.2]]], rtol=1e-6)
    grey = normalise(pixels[..., 2], "rgb")
    assert grey.dtype == np.float32
    np.testing.assert_allclose(grey, np.full((1, 1, 3), 0.2), rtol=1e-6)


def test_brightness_takes_the_brightest_channel_between_two_percentiles() -> None:
    pixels = noise((40, 50, 3), np.uint16)
    value = pixels.max(axis=2).astype(np.float64)
    low, high = np.percentile(value, (1, 99.8))
    expected = np.clip((value - low) / (high - low), 0, 1)
    found = normalise(pixels, "brightness")
    assert found.dtype == np.float32
    for channel in range(3):
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-6)


def test_brightness_does_not_depend_on_the_hue() -> None:
    value = noise((30, 30))
    hues = []
    for channel in range(3):
        pixels = np.zeros((30, 30, 3), np.uint8)
        pixels[..., channel] = value
        hues.append(normalise(pixels, "brightness"))
    assert np.array_equal(hues[0], hues[1])
    assert np.array_equal(hues[0], hues[2])


@pytest.mark.parametrize(("dtype", "step"), [(np.uint8, 1), (np.uint16, 257)])
def test_an_empty_picture_is_not_stretched_into_cells(dtype: type, step: int) -> None:
    faint = (noise((50, 50)) % 2).astype(dtype) * dtype(step)
    assert normalise(faint, "brightness").max() == pytest.approx(1 / 5)
    assert normalise(faint * dtype(100), "brightness").max() == pytest.approx(1)


def test_a_flat_picture_is_dark() -> None:
    assert normalise(np.full((8, 8), 200, np.uint8), "brightness").max() == 0


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(np.uint8), np.dtype(np.uint16)]),
        st.one_of(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), st.just((4, 5, 3))),
    ),
    st.sampled_from(["rgb", "brightness"]),
)
def test_any_picture_comes_between_0_and_1(pixels: NDArray[Any], mode: str) -> None:
    found = normalise(pixels, mode)
    assert found.shape == (*pixels.shape[:2], 3)
    assert found.min() >= 0
    assert found.max() <= 1
    if mode == "brightness":
        value = (pixels if pixels.ndim == 2 else pixels.max(axis=2)).astype(np.float64)
        low, high = np.percentile(value, (1, 99.8))
        spread = max(high - low, 5 / 255 * np.iinfo(pixels.dtype).max)
        np.testing.assert_allclose(found[..., 0], np.clip((value - low) / spread, 0, 1), atol=2e-6)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8), np.zeros(4, np.uint8)],
)
def test_no_picture_is_refused(pixels: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="grey or RGB picture of 8 or 16 bits"):
        normalise(pixels, "rgb")


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(InputError, match="brightness or rgb, found 'zscore'"):
        normalise(np.zeros((4, 4), np.uint8), "zscore")


# --- tiles


@pytest.mark.parametrize("shape", [(64, 64), (61, 90), (100, 37), (8, 8), (3, 5), (1, 1)])
@pytest.mark.parametrize("card", [BRIGHT, {**BRIGHT, "normalisation": "rgb"}])
def test_tiles_give_what_the_whole_picture_gives(
    save: Callable[[bytes], Path], shape: tuple[int, int], card: dict[str, object]
) -> None:
    path = save(network(card))
    pixels = noise((*shape, 3))
    whole = Model.load(path, 1).heat_map(pixels)
    assert whole.shape == shape
    assert whole.dtype == np.float32
    for largest in (1, 3600, 6000):
        np.testing.assert_allclose(Model.load(path, 1, largest_window=largest).heat_map(pixels), whole, atol=1e-5)


def test_the_whole_is_the_network_on_the_picture_filled_with_zeros(save: Callable[[bytes], Path]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    content = network(BRIGHT)
    pixels = noise((61, 90))
    filled = np.pad(normalise(pixels, "brightness"), ((0, 3), (0, 2), (0, 0)))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"picture": filled.transpose(2, 0, 1)[None]})[0][0, 0, :61, :90]
    found = Model.load(save(content), 1, largest_window=4000).heat_map(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected) > 0.1


def test_too_small_a_halo_shows(save: Callable[[bytes], Path]) -> None:
    path = save(network({**BRIGHT, "halo": 0}))
    pixels = noise((64, 64))
    whole = Model.load(path, 1).heat_map(pixels)
    assert np.abs(Model.load(path, 1, largest_window=1024).heat_map(pixels) - whole).max() > 1e-3


def test_windows_stay_within_their_limit(save: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.load(save(network(BRIGHT)), 1, largest_window=5000)
    seen: list[tuple[int, ...]] = []
    run = Model._run
    monkeypatch.setattr(Model, "_run", lambda self, window: (seen.append(window.shape[:2]), run(self, window))[1])
    model.heat_map(noise((150, 201)))
    assert len(seen) > 1
    assert all(height * width <= 5000 and height % 4 == width % 4 == 0 for height, width in seen)


def test_the_number_of_threads_changes_nothing(save: Callable[[bytes], Path]) -> None:
    path = save(network(BRIGHT))
    pixels = noise((200, 240, 3))
    one = Model.load(path, 1).heat_map(pixels)
    for threads in (2, 3, None):
        assert np.array_equal(Model.load(path, threads).heat_map(pixels), one)


def test_a_model_crosses_to_another_process(save: Callable[[bytes], Path]) -> None:
    model = Model.load(save(network(BRIGHT)), 1)
    other = pickle.loads(pickle.dumps(model))
    pixels = noise((40, 40))
    assert np.array_equal(other.heat_map(pixels), model.heat_map(pixels))
    assert other.sha256 == model.sha256


def test_the_published_pair_of_channels_gives_the_cells(save: Callable[[bytes], Path]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    content = network(BRIGHT, outputs=2)
    pixels = noise((32, 32))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    picture = normalise(pixels, "brightness").transpose(2, 0, 1)[None]
    expected = session.run(None, {"picture": picture})[0][0, 1]
    np.testing.assert_allclose(Model.load(save(content), 1).heat_map(pixels), expected, atol=1e-6)


# --- diameter


def test_the_diameter_brings_cells_to_the_size_of_the_training(
    save: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(save(network(BRIGHT)), 1)  # trained at 12 px
    seen: list[NDArray[np.float32]] = []
    monkeypatch.setattr(Model, "_run", lambda self, window: (seen.append(window), window[..., 0])[1])
    pixels = np.zeros((147, 196), np.uint8)
    cv2.circle(pixels, (70, 50), 24, 255, -1)
    heat = model.heat_map(pixels, diameter_px=49)
    assert seen[0].shape == (36, 48, 3)
    assert np.count_nonzero(seen[0][..., 0] > 0.5) == pytest.approx(np.count_nonzero(pixels) * (12 / 49) ** 2, rel=0.05)
    assert heat.shape == (147, 196)
    overlap = np.count_nonzero((heat > 0.5) & (pixels > 0)) / np.count_nonzero((heat > 0.5) | (pixels > 0))
    assert overlap > 0.9
    enlarged = model.heat_map(pixels, diameter_px=6)
    assert seen[1].shape == (296, 392, 3)  # 294 filled to a multiple of 4
    assert enlarged.shape == (147, 196)
    assert np.array_equal(model.heat_map(pixels, 12.0), model.heat_map(pixels))


@pytest.mark.parametrize("diameter", [0, -3.0, float("nan"), float("inf"), 0.001])
def test_an_impossible_diameter_is_refused(save: Callable[[bytes], Path], diameter: float) -> None:
    model = Model.load(save(network(BRIGHT)), 1)
    with pytest.raises(InputError, match=r"^diameter: expected"):
        model.heat_map(noise((40, 40)), diameter)


# --- the model file


def test_a_model_says_what_it_is(save: Callable[[bytes], Path]) -> None:
    card = {**BRIGHT, "name": "little", "separation": {"min_area": 7}}
    content = network(card)
    path = save(content)
    model = Model.load(path)
    assert model.card == card | {"usual_diameter_px": 12.0}
    assert model.sha256 == hashlib.sha256(content).hexdigest()
    assert model.diameter_px == 12.0
    assert model.separation == SeparationSettings(threshold=0.4, min_area=7)


def test_a_model_without_a_card_is_taken_as_the_published_network(save: Callable[[bytes], Path]) -> None:
    model = Model.load(save(network()), 1)
    assert model.card["normalisation"] == "rgb"
    assert model.separation == SeparationSettings()
    assert model.heat_map(noise((20, 20, 3))).shape == (20, 20)


def test_a_run_folder_gives_its_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(network(BRIGHT))
    assert Model.load(str(tmp_path)).diameter_px == 12.0


def test_the_packaged_model_is_taken_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fncells.inference.resources, "files", lambda package: tmp_path / package)
    with pytest.raises(InputError, match="model that comes with the package"):
        Model.load()
    (tmp_path / "fncells" / "models").mkdir(parents=True)
    (tmp_path / "fncells" / "models" / "cells.onnx").write_bytes(network(BRIGHT))
    (tmp_path / "fncells" / "models" / "neurons.onnx").write_bytes(network(BRIGHT | {"diameter_px": 25.0}))
    assert Model.load().diameter_px == 12.0
    assert Model.load("cells").diameter_px == 12.0
    assert Model.load(Path("neurons")).diameter_px == 25.0


def test_a_file_goes_before_the_packaged_model_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neurons").mkdir()
    assert Model.load("neurons").diameter_px == 50.0  # a folder of pictures, say
    (tmp_path / "neurons" / "model.onnx").write_bytes(network(BRIGHT | {"diameter_px": 17.0}))
    assert Model.load("neurons").diameter_px == 17.0


@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_models_find_a_cell_as_large_as_they_look_for(name: str) -> None:
    model = Model.load(name)
    pixels = np.zeros((256, 320, 3), np.uint8)
    pixels[..., 0] = 15
    cv2.circle(pixels, (150, 120), round(model.diameter_px / 2), (130, 0, 0), -1)
    pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 2))
    labels = separate(model.heat_map(pixels), model.separation)
    assert labels.max() == 1
    area = np.pi / 4 * model.diameter_px**2
    assert 0.6 * area < np.count_nonzero(labels) < 1.6 * area


def test_a_card_may_tell_another_usual_diameter_than_that_of_the_training(save: Callable[[bytes], Path]) -> None:
    pixels = noise((40, 48, 3))
    plain, shrinking = (Model.load(save(network(BRIGHT | more))) for more in ({}, {"usual_diameter_px": 24.0}))
    assert (plain.diameter_px, shrinking.diameter_px) == (12.0, 24.0)
    assert np.array_equal(shrinking.heat_map(pixels), plain.heat_map(pixels, 24.0))
    assert np.array_equal(shrinking.heat_map(pixels, 12.0), plain.heat_map(pixels))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.onnx: expected an ONNX model.*No such file"):
        Model.load(tmp_path / "none.onnx")
    with pytest.raises(InputError, match=r"model\.onnx: expected"):
        Model.load(tmp_path)


def test_weights_are_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(InputError, match="fncells export RUN --to onnx"):
        Model.load(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 50, b"GIF89a" * 20, b"\xff" * 40, b"\x0a\x05ab", b"\x39abc"])
def test_what_is_no_model_is_refused(save: Callable[[bytes], Path], content: bytes, capfd: Any) -> None:
    with pytest.raises(InputError, match="expected an ONNX model") as caught:
        Model.load(save(content))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@given(st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_a_damaged_model_loads_or_is_refused(place: int, value: int, cut: bool) -> None:
    content = bytearray(network(BRIGHT))
    place %= len(content)
    content[place] = value
    damaged = bytes(content[:place] if cut else content)
    try:
        model = Model(damaged, "net.onnx", 1, 1 << 20)
        fncells.inference._refuse_weights_elsewhere(damaged, "net.onnx")
        heat = model.heat_map(noise((16, 16)))
    except InputError as error:
        assert str(error).startswith(("net.onnx", "picture"))  # noqa: PT017 - either outcome is right
    else:
        assert heat.shape == (16, 16)


@pytest.mark.parametrize("hidden", ["initializer", "attribute", "subgraph"])
def test_weights_in_other_files_are_refused(save: Callable[[bytes], Path], tmp_path: Path, hidden: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    model = onnx.load_from_string(network(BRIGHT))
    tensor = TensorProto(name="elsewhere", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.bin")
    if hidden == "initializer":
        model.graph.initializer.append(tensor)
    elif hidden == "attribute":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], value=tensor))
    else:
        branch = helper.make_graph([helper.make_node("Identity", ["elsewhere"], ["out"])], "branch", [], [], [tensor])
        model.graph.node.insert(0, helper.make_node("If", ["flag"], ["unused"], then_branch=branch, else_branch=branch))
    with pytest.raises(InputError, match="holds its own weights, found weights in other files"):
        Model.load(save(model.SerializeToString()))


def test_endless_nesting_is_refused(save: Callable[[bytes], Path]) -> None:
    def holding(number: int, content: bytes) -> bytes:
        size = len(content)
        digits = [size >> shift & 0x7F | 0x80 for shift in (0, 7)] + [size >> 14]
        return bytes([number << 3 | 2, *digits]) + content

    content = b""
    for _ in range(60):  # graph: node: attribute: graph
        content = holding(1, holding(5, holding(6, content)))
    with pytest.raises(InputError, match="expected an ONNX model"):
        Model.load(save(holding(7, content)))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (network(channels=1), r"found picture tensor\(float\) \[1, 1,"),
        (network(size=[64, 64]), r"\[1, 3, 64, 64\]"),
    ],
)
def test_a_network_that_takes_something_else_is_refused(
    save: Callable[[bytes], Path], content: bytes, found: str
) -> None:
    with pytest.raises(InputError, match=found):
        Model.load(save(content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (network(BRIGHT, outputs=3), "expected one value a pixel"),
        (network(BRIGHT, last="Exp"), "expected probabilities from 0 to 1"),
        (network(BRIGHT, last="Log"), "expected probabilities from 0 to 1, found nan"),
        (network({**BRIGHT, "multiple": 1}), r"expected a network that takes \(1, 3, 33, 33\)"),
    ],
)
def test_an_answer_that_is_no_heat_map_is_refused(save: Callable[[bytes], Path], content: bytes, reason: str) -> None:
    model = Model.load(save(content), 1)
    with pytest.raises(InputError, match=reason):
        model.heat_map(noise((33, 33)))


@pytest.mark.parametrize(
    ("card", "place"),
    [
        ("{", "broken JSON"),
        ("[1]", "expected a JSON object, found list"),
        ({"normalisation": "zscore"}, "normalisation: expected brightness or rgb"),
        ({"halo": -1}, "halo: expected a number from 0 to 512"),
        ({"halo": 8.5}, "halo: expected"),
        ({"multiple": True}, "multiple: expected"),
        ({"diameter_px": "large"}, "diameter_px: expected"),
        ({"usual_diameter_px": 0}, "usual_diameter_px: expected"),
        ({"threshold": 2}, "threshold: expected a number from 0 to 1"),
        ({"separation": {"colour": 1}}, "separation: expected a mapping of dividing_line"),
        ({"separation": {"min_area": -1}}, "separation, min area: expected a number"),
    ],
)
def test_a_wrong_card_is_refused(save: Callable[[bytes], Path], card: object, place: str) -> None:
    with pytest.raises(InputError, match=place):
        Model.load(save(network(card)))


def test_no_threads_are_refused(save: Callable[[bytes], Path]) -> None:
    with pytest.raises(InputError, match="threads: expected 1 or more, found 0"):
        Model.load(save(network()), threads=0)

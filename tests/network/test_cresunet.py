import csv
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fncells.errors import InputError
from fncells.network.cresunet import CResUnet, TwoChannels, load_weights

TABLE = Path(__file__).with_name("cresunet_parameters.csv")  # names and shapes in the published checkpoints


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return CResUnet().eval()


def weights_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_parameters_are_the_published_ones(network):
    with TABLE.open(newline="") as file:
        published = [(row["name"], row["shape"]) for row in csv.DictReader(file)]
    ours = [(name, "x".join(map(str, value.shape)) or "scalar") for name, value in network.state_dict().items()]
    assert ours == published
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_707_287


def test_batch_norms_and_paddings_are_the_published_ones(network):
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert all(c.padding == (c.kernel_size[0] // 2,) * 2 and c.bias is not None for c in convolutions)


def test_convolutions_start_kaiming_normal_by_fan_in(network):
    weight = network.encoder.bottleneck.residual_block2.conv_path.conv_block.conv2d_5.weight
    assert weight.std().item() == pytest.approx((2 / (128 * 25)) ** 0.5, rel=0.01)
    up = network.decoder.upconv_block1.id_path.up_conv.weight  # every output pixel sees each of 128 inputs once
    assert up.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    assert not network.head.heatmap.conv2d.bias.any()


def test_the_paths_are_joined_as_published():
    """With zero convolutions only the short cuts are left, which shows where they are."""
    network = CResUnet().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "conv_path" in name and "conv2d_5" in name:
                parameter.zero_()
        picture = torch.rand(1, 3, 16, 24)
        encoder, decoder = network.encoder, network.decoder
        full = encoder.conv_block(encoder.colorspace(picture))
        pool = torch.nn.functional.max_pool2d
        half = encoder.residual_block1.id_path(pool(full, 2))
        quarter = encoder.residual_block2.id_path(pool(half, 2))
        eighth = encoder.bottleneck.residual_block1.id_path(pool(quarter, 2))
        up = eighth
        for block in (decoder.upconv_block1, decoder.upconv_block2, decoder.upconv_block3):
            up = block.id_path(up)
        torch.testing.assert_close(network.forward_logits(picture), network.head.heatmap(up))


def test_skips_reach_the_decoder(network):
    """A change that pooling hides is still seen, through the skip connection at full size."""
    full, half, quarter, eighth = network.encoder(torch.rand(1, 3, 16, 16))
    for number in range(3):
        changed = [full, half, quarter]
        before = network.decoder(*changed, eighth)
        changed[number] = changed[number] + 1
        assert not torch.allclose(network.decoder(*changed, eighth), before)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 15), (1, 30), (40, 24)])
def test_any_size_gives_probabilities_of_that_size(network, height, width):
    with torch.no_grad():
        probability = network(torch.rand(2, 3, height, width))
    assert probability.shape == (2, 1, height, width)
    assert probability.min() >= 0
    assert probability.max() <= 1


def test_filling_up_is_zeros_at_the_right_and_lower_border(network):
    picture = torch.rand(1, 3, 13, 18)
    filled = torch.zeros(1, 3, 16, 24)
    filled[..., :13, :18] = picture
    with torch.no_grad():
        assert torch.equal(network(picture), network(filled)[..., :13, :18])


def test_two_channels_are_the_published_output(network):
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        background, cell = TwoChannels(network)(picture)[0]
        assert torch.equal(cell, network(picture)[0, 0])
    torch.testing.assert_close(background + cell, torch.ones(16, 16))


def as_safetensors(weights, path):
    save_file(weights, path)


def as_published(weights, path):
    torch.save({"model": weights, "opt": {"step": 3}}, path)


def as_plain_dict(weights, path):
    torch.save(weights, path)


@pytest.mark.parametrize(
    ("write", "name"),
    [(as_safetensors, "best.safetensors"), (as_published, "model.pth"), (as_plain_dict, "weights.pt")],
)
def test_weights_load_from(network, tmp_path, write, name):
    write(weights_of(network), tmp_path / name)
    loaded = load_weights(tmp_path / name)
    assert not loaded.training
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


class _Malice:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def _hostile(path, target):
    torch.save({"model": {"weight": _Malice(target)}}, path)


def _hostile_plain_pickle(path, target):
    path.write_bytes(pickle.dumps(_Malice(target)))


@pytest.mark.parametrize("write", [_hostile, _hostile_plain_pickle])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path, write):
    path, target = tmp_path / "model.pth", tmp_path / "ran"
    write(path, target)
    with pytest.raises(InputError, match="model") as caught:
        load_weights(path)
    assert "would run code" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def _without_one(weights):
    del weights["head.heatmap.conv2d.bias"]
    return weights


def _with_one_more(weights):
    return weights | {"extra": torch.zeros(1)}


def _of_another_shape(weights):
    return weights | {"head.heatmap.conv2d.weight": torch.zeros(2, 16, 1, 1)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without_one, "no head.heatmap.conv2d.bias"),
        (_with_one_more, "also extra"),
        (_of_another_shape, r"head.heatmap.conv2d.weight: expected shape \(1, 16, 1, 1\), found \(2, 16, 1, 1\)"),
    ],
)
def test_weights_of_another_network_are_refused(network, tmp_path, change, says):
    save_file(change(weights_of(network)), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=says):
        load_weights(tmp_path / "other.safetensors")


def test_files_that_hold_no_weights_are_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no tensors here")
    (tmp_path / "b.pth").write_bytes(b"nor here")
    torch.save([1, 2], tmp_path / "c.pth")
    torch.save({"model": 5}, tmp_path / "d.pth")
    for name in ("a.safetensors", "b.pth", "c.pth", "d.pth", "missing.pth"):
        with pytest.raises(InputError, match=name):
            load_weights(tmp_path / name)

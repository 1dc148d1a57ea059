"""c-ResUnet, the network of the paper (Morelli et al. 2021; Clissa et al., FNC v2): 1,707,287 parameters.

A U-net of residual blocks that first learns which mixture of the three colours matters. The names of the parameters are
those of the published checkpoints, so that their weights load as they are.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from fncells.errors import InputError

__all__ = ["MULTIPLE", "CResUnet", "TwoChannels", "load_weights"]

MULTIPLE = 8
"""Three poolings halve the picture: its height and width must be multiples of this."""


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class _ConvBlock(nn.Module):
    """Twice: batch norm, ELU, convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            OrderedDict(
                batchnorm2d_0=nn.BatchNorm2d(inputs, eps=1e-3, momentum=0.01),
                elu_1=nn.ELU(),
                conv2d_2=_convolution(inputs, outputs, kernel),
                batchnorm2d_3=nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
                elu_4=nn.ELU(),
                conv2d_5=_convolution(outputs, outputs, kernel),
            )
        )

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.conv_block(value)
        return result


class _ResidualBlock(nn.Module):
    """A convolution block plus its input, which passes a 1x1 convolution where the number of channels changes."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv_path = _ConvBlock(inputs, outputs, kernel)
        self.id_path: nn.Module = nn.Identity()
        if inputs != outputs:
            self.id_path = nn.Sequential(OrderedDict(conv2d_1=_convolution(inputs, outputs, 1)))

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.conv_path(value) + self.id_path(value)
        return result


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual_block1 = _ResidualBlock(inputs, outputs, kernel=5)
        self.residual_block2 = _ResidualBlock(outputs, outputs, kernel=5)

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.residual_block2(self.residual_block1(value))
        return result


class _UpBlock(nn.Module):
    """Twice as large, joined with what the encoder saw at that size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.id_path = nn.Sequential(OrderedDict(up_conv=nn.ConvTranspose2d(inputs, outputs, 2, stride=2)))
        self.conv_path = _ConvBlock(inputs, outputs)

    def forward(self, value: Tensor, skip: Tensor) -> Tensor:
        up = self.id_path(value)
        result: Tensor = self.conv_path(torch.cat([up, skip], dim=1)) + up
        return result


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.colorspace = _convolution(3, 1, 1)
        self.conv_block = _ConvBlock(1, 16)
        self.residual_block1 = _ResidualBlock(16, 32)
        self.residual_block2 = _ResidualBlock(32, 64)
        self.bottleneck = _Bottleneck(64, 128)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        full = self.conv_block(self.colorspace(picture))
        half = self.residual_block1(functional.max_pool2d(full, 2))
        quarter = self.residual_block2(functional.max_pool2d(half, 2))
        return full, half, quarter, self.bottleneck(functional.max_pool2d(quarter, 2))


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.upconv_block1 = _UpBlock(128, 64)
        self.upconv_block2 = _UpBlock(64, 32)
        self.upconv_block3 = _UpBlock(32, 16)

    def forward(self, full: Tensor, half: Tensor, quarter: Tensor, eighth: Tensor) -> Tensor:
        value = self.upconv_block1(eighth, quarter)
        value = self.upconv_block2(value, half)
        result: Tensor = self.upconv_block3(value, full)
        return result


class _Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heatmap = nn.Sequential(OrderedDict(conv2d=_convolution(16, 1, 1)))

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.heatmap(value)
        return result


class CResUnet(nn.Module):
    """The network: RGB pictures to the probability, pixel by pixel, of a cell.

    Convolutions start Kaiming-normal (fan-in) with biases of 0, drawn from torch's own random numbers.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in CResUnet().parameters())
    1707287
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        self.decoder = _Decoder()
        self.head = _Head()
        self.apply(_initialise)

    def forward_logits(self, pictures: Tensor) -> Tensor:
        """Look at pictures (n, 3, h, w), h and w multiples of 8; give logits (n, 1, h, w)."""
        logits: Tensor = self.head(self.decoder(*self.encoder(pictures)))
        return logits

    def forward(self, pictures: Tensor) -> Tensor:
        """Look at pictures (n, 3, h, w), values 0 to 1; give probabilities (n, 1, h, w).

        Heights and widths that are no multiples of 8 are filled up with zeros at the right and lower border for the
        look, and the result is cut to the picture.
        """
        height, width = pictures.shape[-2:]
        filled = functional.pad(pictures, (0, -width % MULTIPLE, 0, -height % MULTIPLE))
        return torch.sigmoid(self.forward_logits(filled))[..., :height, :width]


class TwoChannels(nn.Module):
    """The network with the published output, the two channels ``[1 - p, p]``."""

    def __init__(self, network: CResUnet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """Look at pictures (n, 3, h, w); give (n, 2, h, w), background first."""
        probability = self.network(pictures)
        return torch.cat([1 - probability, probability], dim=1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # torch counts the fan of a transposed convolution over its outputs; each of its outputs sees every input once.
        fan_in = module.in_channels
        if isinstance(module, nn.Conv2d):
            fan_in *= module.kernel_size[0] * module.kernel_size[1]
        nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def load_weights(path: Path) -> CResUnet:
    """Read trained weights into a network, without ever running code from the file.

    Parameters
    ----------
    path
        A ``.safetensors`` file, or a torch file (``model.pth``, a Lightning checkpoint's weights…): the weights by name,
        or a dict that has them under ``model`` as the published checkpoints do.

    Returns
    -------
    CResUnet
        In evaluation mode.

    Raises
    ------
    InputError
        Where the file is missing, is of another kind, holds more than plain tensors, or weights of another network.
    """
    weights = _read_weights(path)
    network = CResUnet()
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name, shape in expected.items():
        if name not in weights:
            raise InputError(path, expected="the weights of c-ResUnet", found=f"no {name}", advice=_WRONG_FILE)
        if tuple(weights[name].shape) != shape:
            raise InputError(
                path,
                place=name,
                expected=f"shape {shape}",
                found=str(tuple(weights[name].shape)),
                advice=_WRONG_FILE,
            )
    surplus = sorted(weights.keys() - expected.keys())
    if surplus:
        raise InputError(path, expected="the weights of c-ResUnet", found=f"also {surplus[0]}", advice=_WRONG_FILE)
    network.load_state_dict(weights)
    return network.eval()


_WRONG_FILE = "give a best.safetensors, best.pth or model.pth of this network"


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(path, expected="a file of weights", found="no such file")
    if path.suffix == ".safetensors":
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except SafetensorError as error:
            raise InputError(path, expected="a safetensors file", found=str(error), advice=_WRONG_FILE) from error
        return tensors
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise InputError(
            path,
            expected="a torch file that holds weights and nothing else",
            found="a file that cannot be read as such, or would run code",
            advice="do not open it with other tools unless you trust where it comes from",
        ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(path, expected="weights by name", found=type(content).__name__, advice=_WRONG_FILE)
    return content

"""U-Net of any depth. A skip concatenation ties two consumers, the way down and the way up, to one group."""

from torch import nn

from .plain import chain, conv_norm
from .table import Skip

# the upsampling has no weights, so the lowest level keeps 512 channels (17 M parameters, not 31 M)
DOWN = [64, 64, 128, 128, 256, 256, 512, 512]
UP = [512, 256, 256, 128, 128, 64, 64, 64]
WIDTHS = [*DOWN, 512, 512, *UP]


def unet(widths, *, inputs=1, outputs=1):
    """U-Net: maps (N, inputs, H, W) to logits (N, outputs, H, W), H and W ≥ 2 to the number of levels.

    Widths: two for each level down, two at the bottom, two for each level up; 4·levels + 2 in all.
    """
    if len(widths) % 4 != 2 or len(widths) < 6:
        raise ValueError(f"unet takes 4·levels + 2 widths (6, 10, 14, …), got {len(widths)}")
    return chain(_level(widths, inputs, depth=1) | {"out": nn.Conv2d(widths[-1], outputs, 1)})


def _level(widths, inputs, *, depth):
    """Two convolutions, all levels below, two convolutions; the lowest level has the first two only."""
    first, second, *below = widths
    layers = _double(inputs, first, second, mark=f"{depth}a")
    if below:
        *below, third, fourth = below
        layers[f"skip{depth}"] = Skip(chain(_level(below, second, depth=depth + 1)))
        layers |= _double(second + below[-1], third, fourth, mark=f"{depth}b")
    return layers


def _double(inputs, first, second, *, mark):
    return conv_norm(inputs, first, mark=f"{mark}1") | conv_norm(first, second, mark=f"{mark}2")

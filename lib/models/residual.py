"""Networks with residual trunks: `resnet56`, `resnet50`, `mobilenetv2`. Each trunk is one group.

Where a stage changes its width the shortcut is a convolution with batch norm (option B of arXiv 1512.03385).
Option A pads the old channels with zeros, which would tie the trunks of all stages into one group.
"""

from torch import nn

from .. import checks
from .plain import chain, conv_norm, head
from .table import DepthwiseConv2d, Residual


def resnet56(widths, *, inputs=3, outputs=10):
    """ResNet-56 for CIFAR. Widths: per stage the trunk's, then the inner one of each of nine basic blocks."""
    widths, layers = iter(widths), {}
    trunk = next(widths)
    layers |= conv_norm(inputs, trunk)
    for stage in (1, 2, 3):
        fan_in, trunk = trunk, trunk if stage == 1 else next(widths)
        for i in range(9):
            stride = 2 if stage > 1 and i == 0 else 1
            inner = next(widths)
            body = conv_norm(fan_in, inner, stride=stride, mark=1) | conv_norm(inner, trunk, act=None, mark=2)
            layers[f"stage{stage}_{i + 1}"] = _block(body, fan_in, trunk, stride=stride, project=stride > 1)
            fan_in = trunk
    return chain(layers | head(trunk, outputs))


def resnet50(widths, *, inputs=3, outputs=100, stem="cifar"):
    """ResNet-50. Widths: the stem's, then per stage the trunk's and two inner ones per bottleneck block.

    stem="cifar" is one 3×3 convolution at full size, "imagenet" 7×7 with stride 2 and a pooling.
    """
    large = checks.one_of("stem", stem, ("cifar", "imagenet")) == "imagenet"
    widths = iter(widths)
    fan_in = next(widths)
    layers = conv_norm(inputs, fan_in, kernel=7 if large else 3, stride=2 if large else 1)
    if large:
        layers["pool0"] = nn.MaxPool2d(3, 2, padding=1)
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        trunk = next(widths)
        for i in range(blocks):
            stride = 2 if stage > 1 and i == 0 else 1
            first, second = next(widths), next(widths)
            body = conv_norm(fan_in, first, kernel=1, mark=1)
            body |= conv_norm(first, second, stride=stride, mark=2)
            body |= conv_norm(second, trunk, kernel=1, act=None, mark=3)
            layers[f"stage{stage}_{i + 1}"] = _block(body, fan_in, trunk, stride=stride, project=i == 0)
            fan_in = trunk
    return chain(layers | head(fan_in, outputs))


# (expansion, output width, blocks, stride) of arXiv 1801.04381, Table 2, with the strides usual for CIFAR
INVERTED = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenetv2(widths, *, inputs=3, outputs=10):
    """MobileNetV2 for CIFAR. Widths: stem; per block the expanded and, first in a stage, trunk's; last."""
    widths = iter(widths)
    fan_in = next(widths)
    layers = conv_norm(inputs, fan_in, act=nn.ReLU6, mark=0)
    for stage, (expansion, _, blocks, stride) in enumerate(INVERTED, 1):
        for i in range(blocks):
            wide, body = fan_in, {}
            if expansion > 1:
                wide = next(widths)
                body = conv_norm(fan_in, wide, kernel=1, act=nn.ReLU6, mark=1)
            trunk = next(widths) if i == 0 else fan_in
            body["conv2"] = DepthwiseConv2d(wide, 3, stride if i == 0 else 1)
            body |= {"norm2": nn.BatchNorm2d(wide), "act2": nn.ReLU6(inplace=True)}
            body |= conv_norm(wide, trunk, kernel=1, act=None, mark=3)
            layers[f"stage{stage}_{i + 1}"] = Residual(chain(body)) if i else chain(body)
            fan_in = trunk
    last = next(widths)
    return chain(layers | conv_norm(fan_in, last, kernel=1, act=nn.ReLU6) | head(last, outputs))


def _block(body, fan_in, trunk, *, stride, project):
    shortcut = chain(conv_norm(fan_in, trunk, kernel=1, stride=stride, act=None)) if project else None
    return Residual(chain(body), shortcut, nn.ReLU(inplace=True))


def resnet50_widths():
    """Published widths: bottlenecks of 64, 128, 256 and 512 channels in trunks four times as wide."""
    stages = zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True)
    return [64] + [w for width, blocks in stages for w in [4 * width] + [width] * 2 * blocks]


def mobilenetv2_widths():
    """Published widths, the expanded ones six times those of the block's input."""
    widths, fan_in = [32], 32
    for expansion, trunk, blocks, _ in INVERTED:
        for i in range(blocks):
            widths += [expansion * fan_in] * (expansion > 1) + [trunk] * (i == 0)
            fan_in = trunk
    return [*widths, 1280]

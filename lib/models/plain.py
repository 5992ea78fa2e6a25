"""Networks that are one chain of layers: `mlp`, `lenet5`, `vgg16`, `ct_cnn`."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from .. import checks

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def chain(layers):
    """nn.Sequential of named layers, from a dict."""
    return nn.Sequential(OrderedDict(layers))


def conv_norm(inputs, outputs, *, kernel=3, stride=1, act=nn.ReLU, mark=""):
    """Same-padded convolution, batch norm and activation (None: without) as named layers."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    layers = {f"conv{mark}": conv, f"norm{mark}": nn.BatchNorm2d(outputs)}
    return layers if act is None else {**layers, f"act{mark}": act(inplace=True)}


def mlp(widths, *, inputs=784, outputs=10, activation="relu", init="torch"):
    """Fully connected network of any depth on flattened input (N, …) with `inputs` features.

    init="truncated_normal" is that of the authors' demo (arXiv 2009.01395): weights normal, σ = 0.1, cut at 2σ, biases
    0.1.
    """
    act = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
    checks.one_of("init", init, ("torch", "truncated_normal"))
    layers = {"flatten": nn.Flatten()}
    for i, (fan_in, fan_out) in enumerate(pairwise([inputs, *widths, outputs]), 1):
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out)
        if i <= len(widths):
            layers[f"act{i}"] = act()
    net = chain(layers)
    return net.apply(_truncated_normal) if init == "truncated_normal" else net


def _truncated_normal(layer):
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
        nn.init.constant_(layer.bias, 0.1)


def lenet5(widths, *, inputs=1, outputs=10, size=28):
    """LeNet-5 of Caffe's layers and widths, a ReLU after each: two 5×5 convolutions without padding, two linear."""
    first, second, hidden = widths
    side = ((size - 4) // 2 - 4) // 2
    if side < 1:
        raise ValueError(f"lenet5 needs size >= 16, got {size}")
    return chain(
        {
            "conv1": nn.Conv2d(inputs, first, 5),
            "act1": nn.ReLU(inplace=True),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(first, second, 5),
            "act2": nn.ReLU(inplace=True),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "fc1": nn.Linear(second * side * side, hidden),
            "act3": nn.ReLU(inplace=True),
            "fc2": nn.Linear(hidden, outputs),
        }
    )


def vgg16(widths, *, inputs=3, outputs=10, size=32):
    """VGG-16 for CIFAR: 13 convolutions with batch norm, five poolings and a single linear layer."""
    if size < 32:
        raise ValueError(f"vgg16 halves its input five times and needs size >= 32, got {size}")
    layers = _convolutions(widths, inputs, pooled=(2, 4, 7, 10, 13))
    return chain(layers | {"flatten": nn.Flatten(), "fc": nn.Linear(widths[-1] * (size // 32) ** 2, outputs)})


def ct_cnn(widths, *, inputs=1, outputs=2):
    """Small CNN of any depth for images (N, inputs, H, W), pooled globally before a linear layer.

    H and W are at least 2 to the power of the number of widths, less one.
    """
    if not widths:
        raise ValueError("ct_cnn takes one width at least, got none")
    return chain(_convolutions(widths, inputs, pooled=range(1, len(widths))) | head(widths[-1], outputs))


def _convolutions(widths, inputs, *, pooled):
    """Convolutions of these widths, a pooling behind those of these numbers, from 1 on, as named layers."""
    layers = {}
    for i, (fan_in, width) in enumerate(pairwise([inputs, *widths]), 1):
        layers |= conv_norm(fan_in, width, mark=i)
        if i in pooled:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
    return layers


def head(fan_in, outputs):
    """A global pooling and a linear layer as named layers."""
    return {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(fan_in, outputs)}

"""Networks as builder and widths: `build(name, widths=…)`, their tables of groups, their prunable weights."""

import inspect

from torch.nn.modules.batchnorm import _BatchNorm

from lib.models.plain import ct_cnn, lenet5, mlp, vgg16
from lib.models.residual import mobilenetv2, mobilenetv2_widths, resnet50, resnet50_widths, resnet56
from lib.models.table import Act, Consume, Depthwise, Group, Produce, table
from lib.models.unet import WIDTHS as UNET_WIDTHS
from lib.models.unet import unet

__all__ = [
    "BUILDERS",
    "Act",
    "Consume",
    "Depthwise",
    "Group",
    "Produce",
    "build",
    "groups",
    "table",
    "unit_views",
    "weights",
    "widths",
]

BUILDERS = {
    "mlp": mlp,
    "lenet5": lenet5,
    "vgg16": vgg16,
    "resnet56": resnet56,
    "resnet50": resnet50,
    "mobilenetv2": mobilenetv2,
    "unet": unet,
    "ct_cnn": ct_cnn,
}

WIDTHS = {
    "mlp": [300, 100],
    "lenet5": [20, 50, 500],
    "vgg16": [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6,
    "resnet56": [16] * 10 + [32] * 10 + [64] * 10,
    "resnet50": resnet50_widths(),
    "mobilenetv2": mobilenetv2_widths(),
    "unet": UNET_WIDTHS,
    "ct_cnn": [32, 64, 128, 256],
}
ANY_DEPTH = ("mlp", "unet", "ct_cnn")


def build(name, *, widths=None, **options):
    """Network with one width per independent group of channels, by default the published ones.

    It carries `config`, plain data from which build(**config) makes it again, and `groups`, its table.
    The random state is the caller's. ValueError on an unknown name or option or on widths that do not fit.
    """
    builder = _builder(name)
    widths = _checked(name, default_widths(name) if widths is None else widths)
    known = {k: p.default for k, p in list(inspect.signature(builder).parameters.items())[1:]}
    if unknown := options.keys() - known.keys():
        raise ValueError(f"{name} has no option {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    net = builder(widths, **options)
    net.config = {"name": name, "widths": widths, **known, **options}
    net.groups = table(net)
    return net


def widths(name, *, scale=1.0):
    """Published widths of a builder, times scale, each at least 1."""
    _builder(name)
    return [max(1, round(scale * width)) for width in WIDTHS[name]]


default_widths = widths  # `build` has a parameter of this name


def weights(net):
    """Prunable weights by name in layer order: parameters of two axes or more, so no biases and no norms."""
    return {name: p for name, p in net.named_parameters() if p.dim() >= 2}


def norms(net):
    """Scales and shifts of the batch norms."""
    layers = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    return [p for layer in layers for p in layer.parameters()]


def groups(net):
    """The table of groups that `build` gave a network; empty for others (torchvision's have a number of that name)."""
    found = getattr(net, "groups", ())
    return found if isinstance(found, tuple) else ()


def unit_views(net):
    """A function for each entry of `weights(net)` that views such a tensor with one input unit per index of axis 1.

    Behind a flatten the columns of a channel become (out, channels, positions); a depthwise filter (channels, 1, …)
    is turned to (1, channels, …); all else is seen as it is.
    """
    blocks = {step.layer: step.block for group in groups(net) for step in group.consumers}
    depthwise = {step.layer for group in groups(net) for step in group.depthwise}

    def view(layer):
        if layer in depthwise:
            return lambda w: w.transpose(0, 1)
        block = blocks.get(layer, 1)
        return (lambda w: w.unflatten(1, (-1, block))) if block > 1 else (lambda w: w)

    return [view(name.removesuffix(".weight")) for name in weights(net)]


def _builder(name):
    if name not in BUILDERS:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(BUILDERS)}")
    return BUILDERS[name]


def _checked(name, widths):
    widths = [int(width) for width in widths]
    if name not in ANY_DEPTH and len(widths) != len(WIDTHS[name]):
        raise ValueError(f"{name} takes {len(WIDTHS[name])} widths, got {len(widths)}: see models.widths({name!r})")
    if bad := [width for width in widths if width < 1]:
        raise ValueError(f"widths of {name} must be at least 1, got {bad[0]} in {widths}")
    return widths

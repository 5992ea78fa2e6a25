"""Networks as builder and widths: `build(name, widths=…)`, their tables of groups, their prunable weights."""

import contextlib
import copy
import inspect
import re
import warnings

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._pytree import tree_leaves

from .. import checks
from ..arguments import a_network, told
from . import plain, residual, unet
from .table import Act, Consume, Depthwise, Group, Produce, table

# A builder takes its widths first, one a group in the order in which `table` meets the groups' first layers (of a
# residual block the shortcut before the body), so that a shrunk
# network is built from what is left of them; every option has a default. It chains modules that `table` has a rule for:
# a class with a `forward` of its own would be read as a plain sequence.
#: name → builder, widths (published ones, but for `ct_cnn` and the bottom of `unet`), whether it takes any number
BUILDERS = {
    "mlp": (plain.mlp, [300, 100], True),
    "lenet5": (plain.lenet5, [20, 50, 500], False),
    "vgg16": (plain.vgg16, [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6, False),
    "resnet56": (residual.resnet56, [16] * 10 + [32] * 10 + [64] * 10, False),
    "resnet50": (residual.resnet50, residual.resnet50_widths(), False),
    "mobilenetv2": (residual.mobilenetv2, residual.mobilenetv2_widths(), False),
    "unet": (unet.unet, unet.WIDTHS, True),
    "ct_cnn": (plain.ct_cnn, [32, 64, 128, 256], True),
}
MADE = (
    "{!r} is made before each call (nn.utils.prune, weight_norm, a parametrization) and not among the prunable "
    "weights; end that first, by torch.nn.utils.prune.remove or remove_parametrizations"
)


def build(name, *, widths=None, **options):
    """Network with one width per independent group of channels, by default those of `widths`.

    It carries `config`, plain data from which build(**config) makes it again, and `groups`, its table.
    The random state is the caller's. ValueError on an unknown name or option or on widths that do not fit.
    """
    builder, published, any_depth = _known(name)
    widths = _checked(name, published if widths is None else widths, None if any_depth else len(published))
    known = {k: p.default for k, p in list(inspect.signature(builder).parameters.items())[1:]}
    if unknown := options.keys() - known.keys():
        raise ValueError(f"{name} has no option {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    for key in {key for key, default in known.items() if type(default) is int} & options.keys():
        checks.number(f"{key} of {name}", options[key], "[1, inf)", whole=True)
    net = builder(widths, **options)
    net.config = {"name": name, "widths": widths, **known, **options}
    net.groups = table(net)
    return net


def built(net):
    """The configuration that `build` made a network of; None for others, which may have a `config` of their own."""
    config = getattr(net, "config", None)
    known = isinstance(config, dict) and config.get("name") in BUILDERS
    return config if known and isinstance(getattr(net, "groups", None), tuple) else None


def altered(net):
    """The first layer of a network of `build` that is not what its configuration makes, by its tensors too, or None.

    Those that an inference form has folded may be others, and so may what changes no output: `momentum` and `inplace`.
    """
    with torch.device("meta"):
        fresh = build(**net.config)
    folded = {name for pair in getattr(net, "folded", ()) for name in pair}
    mine, made = (
        {name: _kind(m) for name, m in n.named_modules(remove_duplicate=False) if name not in folded}
        for n in (net, fresh)
    )
    return next((name for name in mine | made if mine.get(name) != made.get(name)), None)


def _kind(layer):
    kept = {key: b for key, b in layer._buffers.items() if key not in layer._non_persistent_buffers_set}
    shapes = {key: t.shape for key, t in (layer._parameters | kept).items() if t is not None}
    return type(layer), re.sub(r"(momentum|inplace)=[\w.]+", "", layer.extra_repr()), shapes


def unaltered(net, remedy, *, error=ValueError, form=False):
    """An error where a network of `build` is not what its configuration makes. form: but for what a form has folded."""
    if getattr(net, "folded", ()) and not form:
        raise error("an inference form has layers that its config does not say; take the network that it was made of")
    if (name := altered(net)) is not None:
        what = repr(name) if name else "the network"
        raise error(f"{what} was changed since models.build made the network, which its config does not say; {remedy}")


def renew(net):
    """Make `config` and `groups` of a network, and of those in it, true again where layers became narrower.

    One that `build` does not make any more loses both.
    """
    for part in [part for part in net.modules() if "config" in vars(part) and built(part)]:
        config, part.config = part.config, None
        with contextlib.suppress(Exception):  # of any kind, for layers of any kind
            part.groups = table(part)
            part.config = config | {"widths": [group.width for group in part.groups]}
            part.config = part.config if altered(part) is None else None
        if part.config is None:
            del part.config, part.groups


def copied(net):
    """A deep copy, also of a network that keeps tensors of its last pass, which torch does not copy."""
    kept = [value for module in net.modules() for value in tree_leaves(vars(module)) if torch.is_tensor(value)]
    return copy.deepcopy(net, {id(t): t.detach().clone() for t in kept if not t.is_leaf})


def widths(name, *, scale=1.0):
    """Widths of a builder, the published ones where there are any, times scale, each at least 1."""
    _, published, _ = _known(name)
    checks.number("scale", scale, "(0, inf)")
    return [max(1, round(scale * width)) for width in published]


def weights(net):
    """Prunable weights by name in layer order: those of all Linear, Conv and ConvTranspose layers.

    Also the other matrices that inputs are multiplied by: weight_ih and weight_hh of recurrent layers, the in_proj
    and q, k, v ones of nn.MultiheadAttention. Not embeddings, tokens, scales, norms or biases; a weight that is made
    before each call (weight_norm, nn.utils.prune) is none, which a warning says. `net.prunable`, a list of names of
    parameters, takes the place of this choice.
    """
    if not isinstance(net, nn.Module):
        raise ValueError(f"a network is needed, an nn.Module, got {type(net).__name__}")
    named = getattr(net, "prunable", None)
    if isinstance(named, list | tuple):
        return _named(net, named)
    found, seen = {}, set()
    for name, module in net.named_modules():
        for key in _matrices(module):
            p = module._parameters.get(key)
            if key not in module._parameters:
                warnings.warn(MADE.format(f"{name}.{key}"), stacklevel=2)
            if nn.parameter.is_lazy(p):
                raise ValueError(f"{name!r} has no weight yet; call the network once on an example, net(x[:1])")
            if p is not None and p not in seen:  # shared ones once
                found[f"{name}.{key}".lstrip(".")] = p
                seen.add(p)
    return found


def prunable(net):
    """The prunable weights by name; ValueError where there are none."""
    if not (ws := weights(net)):
        raise ValueError(f"{type(net).__name__} has no prunable weights; see {__name__}.weights for which are")
    return ws


def _named(net, names):
    known = dict(net.named_parameters(remove_duplicate=False))
    if wrong := [name for name in names if name not in known or known[name].dim() < 2]:
        raise ValueError(f"prunable names {wrong[0]!r}, which is no parameter of two axes or more of the network")
    first = {id(known[name]): name for name in reversed(names)}  # of shared ones, which count once
    return {name: known[name] for name in names if first[id(known[name])] == name}


def _matrices(module):
    """Names of a layer's own parameters that are prunable."""
    if isinstance(module, _ConvNd | nn.Linear):
        return ("weight",)
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return [key for key in module._parameters if key.startswith("weight_")]
    if isinstance(module, nn.MultiheadAttention):
        return [key for key in module._parameters if key.endswith("proj_weight")]
    return ()


def trained(tensors):
    """Whether training moves each of the tensors: no frozen parameter and, where one has a gradient, none without."""
    some = any(t.grad is not None for t in tensors)
    return [(t.grad is not None or not some) and (t.requires_grad or not isinstance(t, nn.Parameter)) for t in tensors]


@contextlib.contextmanager
def in_mode(*nets, training):
    """Networks in training or eval mode; each layer has its own mode again afterwards.

    In training, layers that a network in training mode has in eval mode stay in it, and so do batch norms whose
    parameters are frozen: they keep their statistics.
    """
    before = [(layer, layer.training) for net in nets for layer in net.modules()]
    resting = [layer for net in nets if training for layer in net.modules() if _rests(net, layer)]
    for net in nets:
        net.train(training)
    for layer in resting:
        layer.training = False
    try:
        yield
    finally:
        for layer, mode in before:
            layer.training = mode


def _rests(net, layer):
    own = list(layer.parameters(recurse=False)) if isinstance(layer, _BatchNorm) else []
    return (net.training and not layer.training) or (own and not any(p.requires_grad for p in own))


@told(net=a_network)
def norms(net):
    """Scales and shifts of the batch norms."""
    layers = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    return [p for layer in layers for p in layer.parameters()]


def groups(net):
    """The table of groups that `build` gave a network; empty for others, which may have something else of that name."""
    found = getattr(net, "groups", ())
    return found if isinstance(found, tuple) and all(isinstance(group, Group) for group in found) else ()


def unwrapped(net):
    """The network that `torch.compile` was given, whose layers have the names of its table; others as they are."""
    return getattr(net, "_orig_mod", net)


def place(net, name):
    """The layer that has a parameter, and the name that it has there."""
    layer, _, name = name.rpartition(".")
    return net.get_submodule(layer), name


def intervened(layer):
    """Whether something comes before, after or instead of what the layer's class computes."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


def replaced(places):
    """Whether a layer has another tensor now than the one of (layer, name, tensor), as where weights were loaded."""
    return any(getattr(layer, name) is not w for layer, name, w in places)


def unit_views(net):
    """A function for each entry of `weights(net)` that shows such a tensor with one input unit per index of axis 1.

    A Linear or Conv weight is seen as it is, behind a flatten with the columns of a channel as (out, channels,
    positions). A transposed convolution's (in, out, …) is turned to (out, in, …), a grouped one's (out, in/groups, …)
    to (out/groups, in, …). They are views, but for groups of several channels in and out: a copy. What lies behind a
    flatten is known of networks of `build`, also within others; elsewhere a unit is a column there.
    """
    layers = [name.rpartition(".")[0] for name in weights(net)]
    tables = [(name, group) for name, part in net.named_modules() for group in groups(part)]
    steps = [(name, step) for name, group in tables for step in group.consumers]
    blocks = {f"{name}.{step.layer}".lstrip("."): step.block for name, step in steps}
    return [_unit_view(net.get_submodule(layer), blocks.get(layer, 1)) for layer in layers]


def _unit_view(layer, block):
    if isinstance(layer, _ConvTransposeNd):
        return lambda w: w.transpose(0, 1)
    if isinstance(layer, _ConvNd) and layer.groups > 1:
        return lambda w: w.unflatten(0, (layer.groups, -1)).transpose(0, 1).flatten(1, 2)
    return (lambda w: w.unflatten(1, (-1, block))) if block > 1 else (lambda w: w)


def _known(name):
    return BUILDERS[checks.one_of("network", name, BUILDERS)]


def _checked(name, widths, count):
    if isinstance(widths, (str, bytes)) or not hasattr(widths, "__iter__"):
        raise ValueError(f"{name} takes a list of widths, got {widths!r}")
    widths = [int(checks.number(f"widths of {name}", width, "[1, inf)", whole=True)) for width in widths]
    if count not in (None, len(widths)):
        raise ValueError(f"{name} takes {count} widths, got {len(widths)}: see models.widths({name!r})")
    return widths

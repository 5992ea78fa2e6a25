"""The table of groups: which layers make, pass on and read each independent group of channels.

It is read off the module tree, so a builder only builds. A group's steps stand in an order in which producers come
before the readers of their sum; a residual trunk is one group with several producers, each of which adds to what came
before.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class Produce(NamedTuple):
    """A layer whose rows (weight axis 0) are the channels, and the batch norm behind it; further ones add."""

    layer: str
    norm: str | None = None


class Depthwise(NamedTuple):
    """A convolution that filters each channel on its own, and the batch norm behind it."""

    layer: str
    norm: str | None = None


class Act(NamedTuple):
    """An elementwise activation."""

    layer: str


class Consume(NamedTuple):
    """A layer that reads channel c in its columns (offset + c) * block … + block of weight axis 1."""

    layer: str
    offset: int
    block: int


@dataclass(frozen=True)
class Group:
    """Channels that live and die together across layers: one entry of a builder's widths."""

    name: str
    width: int
    steps: tuple

    producers = property(lambda self: tuple(s for s in self.steps if isinstance(s, Produce)))
    depthwise = property(lambda self: tuple(s for s in self.steps if isinstance(s, Depthwise)))
    consumers = property(lambda self: tuple(s for s in self.steps if isinstance(s, Consume)))

    def __deepcopy__(self, memo):
        return self  # nothing in it can change, and networks are copied often


class DepthwiseConv2d(nn.Conv2d):
    """A same-padded filter per channel. A type of its own: with one channel left, `groups` would not tell."""

    def __init__(self, channels, kernel, stride):
        super().__init__(channels, channels, kernel, stride, padding=kernel // 2, groups=channels, bias=False)


class Residual(nn.Module):
    """act(body(x) + shortcut(x)); without arguments the shortcut and the activation are identities."""

    def __init__(self, body, shortcut=None, act=None):
        super().__init__()
        self.body, self.shortcut, self.act = body, shortcut or nn.Identity(), act or nn.Identity()

    def forward(self, x):
        return self.act(self.body(x) + self.shortcut(x))


class Skip(nn.Module):
    """x beside inner(x halved) brought back to the size of x: one level of a U-Net, any height and width."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        low = self.inner(F.max_pool2d(x, 2))
        return torch.cat([x, F.interpolate(low, size=x.shape[-2:])], dim=1)


# A channel that is constant stays so through both; ACTIVATIONS change its value.
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Tanh, nn.Sigmoid)
CONSTANT_KEEPING = (nn.Flatten, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Dropout, nn.Identity)


def table(net):
    """Groups of a network in the order of their first producers; its inputs and outputs are none."""
    drafts = []  # groups whose steps are lists as yet
    outputs = _through(net, "", (), drafts)
    return tuple(replace(draft, steps=tuple(draft.steps)) for draft in drafts if draft not in outputs)


def _through(module, name, stream, drafts):
    """Follow the drafts whose channels make up the stream, in order of concatenation, through a module."""

    def child(key, stream):
        return _through(getattr(module, key), f"{name}.{key}".lstrip("."), stream, drafts)

    if isinstance(module, nn.Sequential):
        for key in module._modules:
            stream = child(key, stream)
    elif isinstance(module, Residual):
        (trunk,), (branch,) = child("shortcut", stream), child("body", stream)
        trunk.steps.extend(branch.steps)
        drafts.remove(branch)
        stream = child("act", (trunk,))
    elif isinstance(module, Skip):
        stream = stream + child("inner", stream)
    elif isinstance(module, DepthwiseConv2d):
        stream[0].steps.append(Depthwise(name))
    elif isinstance(module, nn.Conv2d | nn.Linear) and getattr(module, "groups", 1) == 1:
        stream = _layer(module, name, stream, drafts)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        stream[0].steps[-1] = stream[0].steps[-1]._replace(norm=name)
    elif isinstance(module, ACTIVATIONS):
        for draft in stream:
            draft.steps.append(Act(name))
    elif not isinstance(module, CONSTANT_KEEPING):
        kind = f"{type(module).__name__}{' with groups' * (getattr(module, 'groups', 1) != 1)}"
        raise TypeError(f"no rule for layer {name!r} of type {kind}; add one to {__name__}")
    return stream


def _layer(module, name, stream, drafts):
    rows, columns = module.weight.shape[:2]
    channels, offset = sum(d.width for d in stream), 0
    for draft in stream:
        draft.steps.append(Consume(name, offset, columns // channels))
        offset += draft.width
    drafts.append(Group(name, rows, [Produce(name)]))
    return (drafts[-1],)

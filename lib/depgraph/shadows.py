"""What is known of tensors beside their numbers: which channel each number is of, and which are a parameter's.

Beside every storage lies a shadow: for each number the channel that it belongs to (0: none) and whether it depends on
the network's inputs. Views share their storage with what they view, and so its shadow.
"""

import bisect
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch


@dataclass(eq=False)
class Param:
    """A parameter or buffer, the numbers of its slots along each axis, and how often it was used."""

    name: str
    tensor: torch.Tensor
    slots: list
    grouped: tuple = None  # `sides`, where a grouped convolution uses it
    alone: bool = False  # whether it is a depthwise convolution's; groups cut to one channel each are none
    uses: int = 0

    @property
    def sides(self):
        """Numbers of its rows and columns, (groups, n) each."""
        return self.grouped or (self.slots[0][None], self.slots[1][None])


class Elements(NamedTuple):
    """What a tensor has of a parameter: for each of its dimensions the parameter's axis, and the numbers of its slots.

    The axis is None where a dimension runs along none, and -1 where it runs along several: there are no numbers then.
    """

    param: Param
    dims: tuple


@dataclass(eq=False)
class Reader:
    """Where channels are summed over: inputs read, outputs made, and which weights are not zero (groups, out, in)."""

    inputs: torch.Tensor
    outputs: torch.Tensor
    nonzero: torch.Tensor
    value: torch.Tensor  # of the inputs that are constant, nan of the others
    weight: Param = None
    matrix: torch.Tensor = None  # the weight as (groups, out, in, …) where a constant is summed with it everywhere
    bias: Param = None
    norm: Param = None  # the running mean of a batch norm that reads what this makes
    read: int = 0  # how often that is read

    @property
    def shift(self):
        """The parameter that takes up a constant and its sign, or None."""
        if self.matrix is None or self.weight.uses > 1:
            return None
        if self.bias is not None:
            whole = self.bias.tensor.numel() == len(self.outputs)
            return (self.bias, 1) if whole and self.bias.uses == 1 else None
        return (self.norm, -1) if self.norm is not None and self.read == self.norm.uses == 1 else None


class State(NamedTuple):
    """The channels of a tensor's elements, and whether they depend on the network's inputs."""

    ids: torch.Tensor
    taint: torch.Tensor


class Shadows:
    """What is known of all tensors, and what a pass has found: `classes` of channels, their `readers`, `records`."""

    def __init__(self, params, classes):
        self.classes, self.params = classes, params
        self.shadows, self.owned, self.made = {}, {}, {}
        self.held = []  # all storages, so that the address of none is used again
        self.readers, self.records = [], []
        self.loose = self.forks = False  # whether a number that was read back may be in anything, or choose the way
        self.training = self.draws = False  # whether this pass is one of training; one in eval mode draws numbers
        self.firsts = [1, *(1 + n for n in itertools.accumulate(p.tensor.numel() for p in params))]
        self.kind = torch.int32 if self.firsts[-1] < 2**31 else torch.int64
        for param, first in zip(params, self.firsts, strict=False):
            if n := param.tensor.dim() and param.tensor.numel():
                self.own(param.tensor, torch.arange(first, first + n, dtype=self.kind).view(param.tensor.shape))

    def own(self, tensor, places):
        """Note which numbers of parameters a tensor's are, from 1 on; a sparse one has them in an order of its own."""
        if tensor.layout is not torch.strided:
            return
        for d in (d for d, stride in enumerate(tensor.stride()) if stride == 0):  # one number in many places
            tensor, places = tensor.narrow(d, 0, 1), places.narrow(d, 0, 1)
        self.held.append(tensor.untyped_storage())
        kept = self.owned.setdefault(storage_of(tensor), torch.zeros(_numbers(tensor), dtype=self.kind))
        _view(kept, tensor).copy_(places)

    def places(self, tensor):
        """Which numbers of parameters a tensor's are, or None."""
        if (found := self.owned.get(storage_of(tensor))) is None or not tensor.numel():
            return None
        return _view(found, tensor) if len(found) == _numbers(tensor) else None

    def elements(self, tensor):
        """What a tensor has of a parameter, or None, as of what is no tensor."""
        places = None if tensor is None else self.places(tensor)
        if places is None or not (first := int(places[(0,) * places.dim()])):
            return None
        k, dims = bisect.bisect(self.firsts, first) - 1, []
        for d in range(places.dim()):
            line = places.movedim(d, -1)[(0,) * (places.dim() - 1)].long() - self.firsts[k]
            found = enumerate(torch.unravel_index(line, self.params[k].tensor.shape))
            moving = [(axis, self.params[k].slots[axis][at]) for axis, at in found if (at != at[0]).any()]
            dims.append(moving[0] if len(moving) == 1 else (-1 if moving else None, None))
        return Elements(self.params[k], tuple(dims))

    def state(self, tensor):
        """Ids and taint of a tensor's elements, views of the shadow."""
        shadow = self.shadows.get(storage_of(tensor))
        if shadow is None:
            fresh = tensor.layout is not torch.strided or (self.loose and storage_of(tensor) not in self.owned)
            return State(*(torch.tensor(v).expand(tensor.shape) for v in (0, fresh)))
        if len(shadow.ids) != _numbers(tensor):
            self.classes.pin(shadow.ids, "its numbers are read as another type")
            return State(torch.zeros(tensor.shape, dtype=torch.int64), shadow.taint.any().expand(tensor.shape))
        return State(_view(shadow.ids, tensor), _view(shadow.taint, tensor))

    def put(self, tensor, ids, taint):
        """Write down ids, where they are others, and taint of a tensor."""
        if tensor.layout is not torch.strided:
            return
        shadow, n = self.shadows.get(storage_of(tensor)), _numbers(tensor)
        if shadow is None or len(shadow.ids) != n:
            self.held.append(tensor.untyped_storage())
            shadow = State(torch.zeros(n, dtype=torch.int64), torch.zeros(n, dtype=torch.bool))
            self.shadows[storage_of(tensor)] = shadow
        if ids is not None:
            _view(shadow.ids, tensor).copy_(ids)
        _view(shadow.taint, tensor).copy_(taint if not self.loose else torch.ones_like(taint))

    def pin(self, tensor, reason):
        """Keep all channels of a tensor, those of its parameter, too."""
        self.classes.pin(self.state(tensor).ids, reason)
        if owned := self.elements(tensor):
            self.keep(owned.param, reason)

    def keep(self, param, reason):
        """A parameter stays whole."""
        for slots in (*param.slots, *(param.grouped or ())):
            self.classes.pin(slots, reason)


def storage_of(tensor):
    """What tensors of one storage have in common; sparse ones have none."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else id(tensor)


def _numbers(tensor):
    """How many numbers of its type a tensor's storage holds."""
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _view(kept, tensor):
    """What lies beside a storage, as a tensor views it."""
    return kept.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())

"""One forward pass, followed channel by channel: which numbers of which tensor are the same channel.

Beside every storage lies a shadow: for each number the channel that it belongs to (0: none) and whether it depends on
the network's inputs. Views need no rule, as they share their storage; `lib.depgraph.rules` has one for all else.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .classes import Classes


class TooLong(Exception):
    """The time that was given is over."""


@dataclass(eq=False)
class Param:
    """A parameter or buffer, the numbers of its slots along each axis, and how often it was used."""

    name: str
    tensor: torch.Tensor
    slots: list
    grouped: tuple = None  # numbers of its rows and columns, (groups, n) each, where a grouped convolution uses it
    alone: bool = False  # whether it is a depthwise convolution's; groups cut to one channel each are none
    uses: int = 0


class Elements(NamedTuple):
    """What a tensor has of a parameter: for each of its dimensions the parameter's axis (or None) and indices there."""

    param: Param
    dims: tuple


class Owner(NamedTuple):
    """A dense tensor in a storage whose elements are a parameter's."""

    offset: int
    shape: tuple
    strides: tuple
    elements: Elements


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


@dataclass(eq=False)
class Shadow:
    ids: torch.Tensor
    taint: torch.Tensor
    itemsize: int
    storage: object  # held, so that its address is not used again


class Trace(TorchDispatchMode):
    """Follows the operations of a forward pass; `readers` and `classes` are what it finds."""

    def __init__(self, params, classes=None, *, until=None):
        super().__init__()
        self.classes, self.params, self.until = classes or Classes(), params, until
        self.shadows, self.owners, self.made = {}, {}, {}
        self.readers, self.records, self.widths, self.held = [], [], [], []
        self.loose = self.forks = False  # whether a number that was read back may be in anything, or choose the way
        self.training = self.draws = False  # whether this pass is one of training; one in eval mode draws numbers
        for param in params:
            dims = tuple((a, torch.arange(n)) for a, n in enumerate(param.tensor.shape))
            self.own(param.tensor, Elements(param, dims))

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # or the first pass imports the whole compiler, ten seconds

    # --- what is known of a tensor

    def own(self, tensor, elements):
        """Note that a new tensor has the elements of a parameter; a sparse one has them in an order of its own."""
        if tensor.layout is not torch.strided:
            return
        owner = Owner(tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), elements)
        self.owners.setdefault(storage_of(tensor), []).append(owner)
        self.held.append(tensor)  # so that its address is not used again

    def state(self, tensor):
        """Ids and taint of a tensor's elements, views of the shadow."""
        shadow = self.shadows.get(storage_of(tensor))
        if shadow is None:
            taint = torch.tensor(
                tensor.layout is not torch.strided or (self.loose and storage_of(tensor) not in self.owners)
            )
            return State(torch.zeros((), dtype=torch.int64).expand(tensor.shape), taint.expand(tensor.shape))
        if shadow.itemsize != tensor.element_size():
            self.classes.pin(shadow.ids, "its numbers are read as another type")
            return State(torch.zeros(tensor.shape, dtype=torch.int64), shadow.taint.any().expand(tensor.shape))
        place = tensor.size(), tensor.stride(), tensor.storage_offset()
        return State(shadow.ids.as_strided(*place), shadow.taint.as_strided(*place))

    def put(self, tensor, ids=None, taint=None):
        """Write down ids and taint of a tensor."""
        if tensor.layout is not torch.strided:
            return
        shadow, size = self.shadows.get(storage_of(tensor)), tensor.element_size()
        n = tensor.untyped_storage().nbytes() // size
        if shadow is None or len(shadow.ids) != n:
            flags = torch.zeros(n, dtype=torch.bool)
            shadow = Shadow(torch.zeros(n, dtype=torch.int64), flags, size, tensor.untyped_storage())
            self.shadows[storage_of(tensor)] = shadow
        place = tensor.size(), tensor.stride(), tensor.storage_offset()
        if ids is not None:
            shadow.ids.as_strided(*place).copy_(ids)
        if taint is not None:
            shadow.taint.as_strided(*place).copy_(taint if not self.loose else torch.ones_like(taint))

    def elements(self, tensor):
        """What a tensor has of a parameter, or None, as of what is no tensor."""
        for owner in self.owners.get(storage_of(tensor), ()) if tensor is not None else ():
            at = tensor.storage_offset() - owner.offset
            if 0 <= at < max(1, owner.elements.param.tensor.numel()) and len(owner.shape):
                return _aligned(owner, at, tensor)
        return None

    def keep(self, param, reason):
        """A parameter stays whole."""
        for slots in (*param.slots, *(param.grouped or ())):
            self.classes.pin(slots, reason)

    # --- the pass

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        from .rules import apply

        if self.until is not None and time.monotonic() > self.until:
            raise TooLong
        return apply(self, func, args, kwargs or {})


def storage_of(tensor):
    """What tensors of one storage have in common; sparse ones have none."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else id(tensor)


def _aligned(owner, at, tensor):
    """Elements of a view; its dimensions that run along no single axis have the axis -1."""
    moving = (a for a, n in enumerate(owner.shape) if n > 1 and owner.strides[a])
    order = sorted(moving, key=lambda a: -owner.strides[a])
    base = _coordinates(owner, order, torch.tensor([at]))
    dims = []
    for n, stride in zip(tensor.shape, tensor.stride(), strict=True):
        found = _coordinates(owner, order, at + torch.arange(n) * stride) if n > 1 and stride else base
        moving = [a for a in order if (found[a] != base[a]).any()]
        if not moving:
            dims.append((None, None))
        elif len(moving) > 1:
            dims.append((-1, None))
        else:
            axis, indices = owner.elements.dims[moving[0]]
            dims.append((axis, None if indices is None else indices[found[moving[0]]]))
    return Elements(owner.elements.param, tuple(dims))


def _coordinates(owner, order, offsets):
    """The coordinates along each axis of a dense tensor at offsets into its storage."""
    found = {}
    for axis in order:
        found[axis] = (offsets // owner.strides[axis]).clamp(0, owner.shape[axis] - 1)
        offsets = offsets - found[axis] * owner.strides[axis]
    return found

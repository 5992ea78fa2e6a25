"""One forward pass, followed channel by channel: each operation is run, and what it does to channels looked up."""

import functools
import re
import time

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import contractions, layouts, mixing, rules
from .records import note
from .rules import Call, pointwise, unknown
from .shadows import Shadows, storage_of

RULES = contractions.RULES | layouts.RULES | mixing.RULES | rules.RULES
RESHAPING = "as_strided_ transpose_ t_ squeeze_ unsqueeze_ swapaxes_ swapdims_ detach_"  # no number changes


class TooLong(Exception):
    """The time that was given is over."""


class Trace(Shadows, TorchDispatchMode):
    """Follows the operations of a forward pass. until: when to stop, by the monotonic clock; TooLong: it is then."""

    def __init__(self, params, classes, until):
        TorchDispatchMode.__init__(self)
        Shadows.__init__(self, params, classes)
        self.until = until

    @classmethod
    def _should_skip_dynamo(cls):
        return False  # or the first pass imports the whole compiler, ten seconds

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if time.monotonic() > self.until:
            raise TooLong
        named = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | (kwargs or {})
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        call = Call(self, func, named, tensors, [])
        if call.name in ("mul", "mul_"):
            call.zeros = [self._zeros(t) for t in tensors]
        result = func(*args, **(kwargs or {}))
        call.outs = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
        view, call.rule = _is_view(call), _rule(call.name)
        if not view:
            for t in tensors:
                self._count(t)
            try:
                (call.rule if all(t.layout is torch.strided for t in tensors + call.outs) else unknown)(call)
            except (RuntimeError, IndexError, KeyError, ValueError, TypeError):  # a form that the rule does not know
                unknown(call)
            call.tensors = tensors  # a rule may have put others there
        self.records.append(note(call, view))
        return result

    def _zeros(self, tensor):
        """Where a tensor is zero whatever the network's inputs."""
        taint = self.state(tensor).taint
        return ~taint & (tensor == 0).cpu() if not taint.all() else torch.zeros_like(taint)

    def _count(self, tensor):
        if owned := self.elements(tensor):
            owned.param.uses += 1
        if reader := self.made.get(storage_of(tensor)):
            reader.read += 1


class Read(TorchFunctionMode):
    """Notes in a trace where numbers are read back by no operation: they may choose the way of the pass.

    What is read as a list stays as wide as it is, as it may be put out.
    """

    def __init__(self, trace):
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.trace.forks |= func in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__)
        if func is torch.Tensor.tolist:
            self.trace.pin(args[0], "read as a list")
        return func(*args, **(kwargs or {}))


@functools.cache
def _rule(name):
    """What is done to channels by an operation."""
    for pattern, rule in RULES.items():
        if re.fullmatch(pattern, name):
            return rule
    kinds = [getattr(torch.ops.aten, key, None) for key in (name, name.removesuffix("_"))]
    tagged = any(torch.Tag.pointwise in getattr(kind, key).tags for kind in kinds if kind for key in kind.overloads())
    return pointwise if tagged else unknown


def _is_view(call):
    shared = set(map(storage_of, call.tensors))
    mutable = call.func._schema.is_mutable and call.name not in RESHAPING.split()
    return bool(call.outs) and not mutable and shared.issuperset(map(storage_of, call.outs))

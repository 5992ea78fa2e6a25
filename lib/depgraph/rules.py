"""What each kind of operation does with channels. One without a rule leaves those that it reads where they are."""

from dataclasses import dataclass

import torch
from torch.utils._pytree import tree_leaves

from .trace import Trace, storage_of

aten = torch.ops.aten


@dataclass(eq=False)
class Call:
    """An operation of a trace: its arguments by name, the tensors among them and among its results."""

    trace: Trace
    func: object
    named: dict
    tensors: list
    outs: list
    zeros: list = ()

    name = property(lambda self: self.func.overloadpacket.__name__)
    chance = property(lambda self: torch.Tag.nondeterministic_seeded in self.func.tags)

    @property
    def inputs(self):
        """States of the tensors that it reads."""
        return [self.trace.state(t) for t in self.tensors]

    def tainted(self):
        """Whether anything that it reads depends on the network's inputs."""
        return any(bool(s.taint.any()) for s in self.inputs)

    def pin(self, tensor, reason):
        """Keep all channels of a tensor, those of its parameter, too."""
        self.trace.classes.pin(self.trace.state(tensor).ids, reason)
        if owned := self.trace.elements(tensor):
            self.trace.keep(owned.param, reason)


def apply(trace, func, args, kwargs):
    """Run an operation and follow what it did."""
    from .records import note

    named = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    call = Call(trace, func, named, tensors, [])
    if func.overloadpacket in PRODUCTS:
        call.zeros = [_zeros(trace, t) for t in tensors]
    result = func(*args, **kwargs)
    call.outs = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor)]
    if not (view := _is_view(trace, call)):
        for t in tensors:
            _count(trace, t)
        try:
            (rule(func) if all(t.layout is torch.strided for t in tensors + call.outs) else unknown)(call)
        except (RuntimeError, IndexError, KeyError, ValueError, TypeError):  # a form that the rule does not know
            unknown(call)
    trace.records.append(note(call, view))
    return result


def _zeros(trace, tensor):
    """Where a tensor is zero whatever the network's inputs."""
    taint = trace.state(tensor).taint
    return ~taint & (tensor == 0).cpu() if not taint.all() else torch.zeros_like(taint)


def _is_view(trace, call):
    shared = set(map(storage_of, call.tensors))
    mutable = call.func._schema.is_mutable and call.name not in RESHAPING.split()
    return bool(call.outs) and not mutable and shared.issuperset(map(storage_of, call.outs))


def _count(trace, tensor):
    if owned := trace.elements(tensor):
        owned.param.uses += 1
    if reader := trace.made.get(storage_of(tensor)):
        reader.read += 1


def rule(func):
    """What is done to channels by an operation."""
    from . import contractions, layouts, mixing

    for rules in (contractions.RULES, layouts.RULES, mixing.RULES):
        if func.overloadpacket in rules:
            return rules[func.overloadpacket]
    if torch.Tag.pointwise in func.tags or func.overloadpacket in POINTWISE:
        return pointwise
    return unknown


def unknown(call):
    """Nothing is known: what is read stays, what is written is no channel."""
    trace = call.trace
    taint = torch.tensor(call.tainted() or call.chance)
    for t in call.tensors:
        call.pin(t, f"read by {call.name}, for which there is no rule")
    if not call.outs and taint:
        number = call.func.overloadpacket is aten._local_scalar_dense and call.tensors[0].is_floating_point()
        trace.loose, trace.forks = trace.loose or number, True
    mutable = call.func._schema.is_mutable
    for t in call.tensors if mutable and not call.outs else call.outs:  # lists of tensors are changed, too
        trace.put(t, None if mutable else torch.tensor(0), taint)


# --- number by number ----------------------------------------------------------------------------------------------


def pointwise(call):
    """Each number of the result is made of those in its place; the channels that meet are one class."""
    trace, shape = call.trace, call.outs[0].shape
    ids, free, params = torch.zeros((), dtype=torch.int64).expand(shape), set(range(len(shape))), []
    taint = torch.tensor(call.chance).expand(shape)
    for t, state in zip(call.tensors, call.inputs, strict=True):
        taint = taint | state.taint
        if state.ids.any():
            ids, free = _meet(trace, (ids, free), (state.ids.expand(shape), _broadcast(t, shape)))
        elif (owned := trace.elements(t)) is not None:
            params.append((t, owned))
    if call.zeros:
        taint = taint & ~(call.zeros[0] | call.zeros[-1]).expand(shape)
    if ids.any():
        for _, owned in params:
            bind(trace, owned, ids)
    for t in call.outs:
        if t.shape == shape:
            trace.put(t, ids, taint)
    if params and not ids.any():
        _derive(call, params)


def _broadcast(tensor, shape):
    """Dimensions along which a tensor has one value for many places."""
    lead = len(shape) - tensor.dim()
    sizes = zip(tensor.shape, tensor.stride(), shape[lead:], strict=True)
    return {*range(lead), *(lead + d for d, (n, stride, m) in enumerate(sizes) if m > 1 and (n == 1 or stride == 0))}


def _meet(trace, one, other):
    """Channels of two operands in the same places; one that stands for many channels of the other stays."""
    (a, a_free), (b, b_free) = one, other
    if not a.any():
        return b, b_free
    lost_a = any(varies(b, d) for d in a_free - b_free)
    lost_b = any(varies(a, d) for d in b_free - a_free)
    for ids, lost in ((a, lost_a), (b, lost_b)):
        if lost:
            trace.classes.pin(ids, "one channel is spread over many")
    if not (lost_a or lost_b):
        trace.classes.join(a, b)
    ids = b if lost_a and not lost_b else torch.where(a != 0, a, b)
    return ids, a_free & b_free


def varies(ids, dim):
    """Whether there are different channels along a dimension."""
    return ids.shape[dim] > 1 and bool((ids != ids.narrow(dim, 0, 1)).any())


def bind(trace, owned, ids):
    """A parameter's elements, where there are any, meet channels: its slots along one axis are theirs."""
    if owned is None:
        return
    lead = ids.dim() - len(owned.dims)
    dims = [lead + d for d, (axis, _) in enumerate(owned.dims) if axis is not None and varies(ids, lead + d)]
    if not dims:
        return
    axis, indices = owned.dims[dims[0] - lead]
    if len(dims) > 1 or axis < 0:
        reason = f"{owned.param.name} has values along two axes of channels"
        trace.keep(owned.param, reason)
        trace.classes.pin(ids, reason)
        return
    slots, along = owned.param.slots[axis][indices], ids.movedim(dims[0], -1).reshape(-1, ids.shape[dims[0]])
    trace.classes.join(slots, along)  # all that one value of the parameter meets is one class
    if not along.all():
        trace.classes.pin(slots[(along == 0).any(0)], "beside what is no channel")


def _derive(call, params):
    """What is made of parameters alone, number by number, stands for the largest of them."""
    trace, out = call.trace, call.outs[0]
    main = max(params, key=lambda p: p[0].numel())
    for other in params:
        if other[1].param is not main[1].param:
            _align(trace, main, other)
    if main[0].shape == out.shape and not call.func._schema.is_mutable:
        trace.own(out, main[1])
    elif not call.func._schema.is_mutable:
        call.pin(main[0], "its parameter is spread")


def _align(trace, main, other):
    """Slots of two parameters that meet number by number are the same along each axis, or stay."""
    (a, one), (b, two) = main, other
    lead = a.dim() - b.dim()
    for d, (axis, indices) in enumerate(two.dims):
        if axis is None:
            continue
        fits = lead + d >= 0 and axis >= 0 and (one.dims[lead + d][0] or 0) >= 0
        if fits and one.dims[lead + d][0] is not None:
            theirs, places = one.dims[lead + d]
            trace.classes.join(one.param.slots[theirs][places], two.param.slots[axis][indices])
        else:
            for param in (one.param, two.param):
                trace.keep(param, f"{one.param.name} and {two.param.name} do not meet axis by axis")


PRODUCTS = {aten.mul, aten.mul_}
RESHAPING = "as_strided_ transpose_ t_ squeeze_ unsqueeze_ swapaxes_ swapdims_ detach_"  # no number changes
UNTAGGED = """_prelu_kernel _to_copy clone copy fill detach alias lift_fresh_copy native_dropout dropout masked_fill_
    hardswish hardswish_ threshold_ rrelu_with_noise rrelu_with_noise_ mish_ gelu_ log_sigmoid_forward abs_ rsub normal_
    uniform_ bernoulli_ leaky_relu_ hardtanh_"""
POINTWISE = {getattr(aten, name) for name in UNTAGGED.split() if hasattr(aten, name)}

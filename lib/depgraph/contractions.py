"""Sums over channels: linear layers, convolutions, products of matrices. Here channels are read, and others made."""

import math

import torch

from . import rules
from .trace import Reader, State, storage_of

aten = torch.ops.aten


def product(call):
    """A product of two matrices, or of batches of them, with what is added to it."""
    named = call.named
    a, b, added = (named.get(key) for key in ARGUMENTS[call.func.overloadpacket])
    if a.dim() > 3 and not a.is_contiguous():
        return rules.unknown(call)
    if call.func.overloadpacket is aten.linear:
        b = b.t()
    out = call.outs[0]
    a, b = (a[None] if a.dim() == 1 else a.flatten(0, -2) if a.dim() > 3 else a), (b[:, None] if b.dim() == 1 else b)
    a, b = (t if t.dim() == 3 else t[None] for t in (a, b))
    shape = (max(len(a), len(b)), a.shape[1], b.shape[2])
    known = [call.trace.elements(t) for t in (a, b)]
    if known[0] is not None and known[1] is not None:
        _of_parameters(call, a, *known)
    if known[1] is not None:
        reader, ids, taint = _weighted(call, a, b, known[1])
    elif known[0] is not None:
        reader, ids, taint = _weighted(call, b.mT, a.mT, call.trace.elements(a.mT))
        ids, taint = ids.mT, taint.mT
    else:
        reader, ids, taint = _of_activations(call, a, b)
    ids, taint = ids.expand(shape).reshape(out.shape), taint.expand(shape).reshape(out.shape)
    if added is not None:
        ids, taint = _plus(call, reader, (ids, taint), added)
    _finish(call, reader, ids, taint)


def _finish(call, reader, ids, taint):
    """Note the result and who reads for it."""
    trace, out = call.trace, call.outs[0]
    trace.put(out, ids, taint)
    if reader is not None:
        trace.readers.append(reader)
        trace.made[storage_of(out)] = reader
        trace.widths += [reader.inputs, reader.outputs]


def _plus(call, reader, state, added):
    """Channels and taint of a sum with a bias, whose parameter a constant may be added to, or with anything else."""
    (ids, taint), other, owned = state, call.trace.state(added), call.trace.elements(added)
    if owned is not None and ids.any():
        rules.bind(call.trace, owned, ids)
    elif other.ids.any():
        ids, _ = rules._meet(call.trace, (ids, set()), (other.ids.expand(ids.shape), set()))
    plain = call.named.get("alpha", 1) == 1 == call.named.get("beta", 1)
    if owned is not None and plain and reader is not None and added.shape == reader.outputs.shape:
        reader.bias = owned.param
    return ids, taint | other.taint


def _of_parameters(call, data, one, two):
    """A parameter that is read as data stays, and so do the inputs of the weight that it meets."""
    (axis, indices), (other, places) = one.dims[2], two.dims[1]
    if (axis or 0) >= 0 and (other or 0) >= 0 and axis is not None and other is not None:
        call.trace.classes.join(one.param.slots[axis][indices], two.param.slots[other][places])
    call.pin(data, "its parameter is read as data")


def _weighted(call, x, weight, owned):
    """Rows x (batch, rows, in) times a parameter (batch, in, out)."""
    sides = _sides(owned, weight)
    if sides is None:
        for t in (x, weight):
            call.pin(t, "its weight is laid out in a way of its own")
        return None, torch.tensor(0), torch.tensor(call.tainted())
    rows = State(*(t.reshape(-1, t.shape[-1]) for t in call.trace.state(x)))
    blocks = weight.permute(2, 1, 0)[None]  # (1, out, in, batch)
    reader, taint = _reader(call, owned, sides, rows, x.reshape(-1, x.shape[-1]).T, blocks, uneven=len(weight) > 1)
    return reader, sides[1], taint


def _reader(call, owned, sides, rows, x, blocks, *, uneven):
    """Who reads channels, and the taint of what it makes.

    rows: the state of its inputs, (…, in). x: their numbers, (in, …). blocks: the weight, (groups, out, in, …).
    uneven: whether a constant gives other sums in other places, at a border.
    """
    inputs, nonzero = _read(call.trace, rows, sides[0]), (blocks != 0).flatten(3).any(3).cpu()
    value = constants(x, rows.taint.T)
    moving = rows.taint.any(0) | (value.isnan() | (value != 0)) & uneven
    reader = Reader(inputs, sides[1], nonzero, value, owned.param)
    reader.matrix = None if uneven else blocks
    return reader, (nonzero & moving.view(len(blocks), 1, -1)).any(2).view(-1)


def _sides(owned, weight):
    """Slots of the inputs and outputs of a weight (batch, in, out), or None where they lie along no axis."""
    axes = [axis for axis, _ in owned.dims]
    known = [axis for axis in axes if axis is not None]
    if min(known, default=0) < 0 or len(set(known)) < len(known):
        return None
    single = [a for a, slots in enumerate(owned.param.slots) if len(slots) == 1 and a not in known]
    sides = []
    for dim in (1, 2):  # an axis of length one is known by what is left, as nn.Linear has its axes
        axis, indices = owned.dims[dim]
        if axis is None and weight.shape[dim] == 1 and single:
            axis, indices = single.pop(), torch.zeros(1, dtype=torch.int64)
        if axis is None:
            return None
        sides.append(owned.param.slots[axis][indices])
    return sides


def _read(trace, state, slots):
    """Join the channels that a layer reads, the same in all rows, with its slots; the numbers of its inputs.

    A constant made by the network may be no channel; whether it becomes smaller with the layer is seen later.
    """
    rows, taint = state
    trace.classes.join(rows, slots)
    if (free := ((rows == 0) & taint).any(0)).any():
        trace.classes.pin(slots[free], "it reads what is no channel")
    return slots


def constants(x, taint):
    """The values of the rows of x that are constant whatever the network's inputs, nan for the others."""
    value = torch.full((len(x),), math.nan, dtype=torch.float64)
    fixed = (~taint.any(1)).nonzero().flatten()
    if len(fixed) and x.shape[1]:
        low, high = x[fixed.to(x.device)].double().aminmax(dim=1)
        same = high - low <= 8 * torch.finfo(x.dtype if x.is_floating_point() else torch.float32).eps * high.abs()
        value[fixed] = torch.where(same, low, math.nan).cpu()
    return value


def _of_activations(call, a, b):
    """Two things that depend on the inputs, (batch, i, k) and (batch, k, j), as in attention."""
    classes, (one, two) = call.trace.classes, (call.trace.state(t) for t in (a, b))
    along = rules.varies(one.ids, 2), rules.varies(two.ids, 1)
    zero = [~s.taint.any(d) & (t == 0).all(d).cpu() for s, t, d in ((one, a, 2), (two, b, 1))]
    taint = one.taint.any(2)[:, :, None] | two.taint.any(1)[:, None]
    taint = taint & ~zero[0][:, :, None] & ~zero[1][:, None]
    if all(along):
        return _contracted(call, a, b), torch.zeros((), dtype=torch.int64), taint
    for state, inner in zip((one, two), along, strict=True):
        if inner:
            classes.pin(state.ids, "summed over with what is no channel")
    rows, columns = one.ids[:, :, :1], two.ids[:, :1]
    free = [rules.varies(rows, 1) and not along[0], rules.varies(columns, 2) and not along[1]]
    if all(free) or not any(free):
        for ids in (rows, columns):
            classes.pin(ids, "multiplied with other channels")
        return None, torch.zeros((), dtype=torch.int64), taint
    classes.pin(columns if free[0] else rows, "multiplied with other channels")
    return None, rows if free[0] else columns, taint


def _contracted(call, a, b):
    """Channels of two operands are multiplied and summed over: they go where one of both is zero."""
    classes, (one, two) = call.trace.classes, (call.trace.state(t) for t in (a, b))
    left, right = one.ids[:, 0], two.ids[:, :, 0]
    if rules.varies(one.ids, 1) or rules.varies(two.ids, 2):
        for ids in (one.ids, two.ids):
            classes.pin(ids, "multiplied with other channels")
    classes.join(left, right)
    for ids in (left[right == 0], right[left == 0]):
        classes.pin(ids, "it reads what is no channel")
    dead = (~one.taint & (a == 0).cpu()).all(1) | (~two.taint & (b == 0).cpu()).all(2)
    n = left.numel()
    value = torch.where(dead.reshape(-1).expand(n), 0.0, math.nan).double()
    return Reader(left.reshape(-1), torch.zeros(1, dtype=torch.int64), torch.ones(1, 1, n, dtype=torch.bool), value)


def convolution(call):
    """A convolution, transposed or not, of one or several groups."""
    trace, named = call.trace, call.named
    x, weight, groups = named["input"], named["weight"], named["groups"]
    owned, state = trace.elements(weight), trace.state(x)
    if owned is None or not _plain(owned, groups):
        return rules.unknown(call)
    flat, shape = State(*(t.transpose(0, 1).flatten(1).T for t in state)), [1, -1] + [1] * (x.dim() - 2)
    inputs, outputs = sides = _slots(trace, owned, weight, groups, named["transposed"])
    blocks = weight.unflatten(0, (groups, -1))
    blocks = blocks.transpose(1, 2) if named["transposed"] else blocks
    uneven = named["transposed"] or any(named["padding"])
    reader, taint = _reader(call, owned, sides, flat, x.transpose(0, 1).flatten(1), blocks, uneven=uneven)
    if not trace.classes.strict:
        owned.param.alone = owned.param.grouped is not None and inputs.numel() == outputs.numel() == groups
    if owned.param.alone:
        trace.classes.join(inputs, outputs)
        reader = None
    bias = named.get("bias")
    ids, taint = (outputs, taint) if bias is None else _plus(call, reader, (outputs, taint), bias)
    _finish(call, reader, ids.view(shape).expand(call.outs[0].shape), taint.view(shape))


def _plain(owned, groups):
    """Whether a weight is a whole parameter, or at least no group's part of it."""
    axes = [axis for axis, _ in owned.dims]
    whole = all(n == len(i) for n, (a, i) in zip(owned.param.tensor.shape, owned.dims, strict=False) if i is not None)
    return all(axis is None or axis == d for d, axis in enumerate(axes)) and (groups == 1 or whole)


def _slots(trace, owned, weight, groups, transposed):
    """Numbers of a convolution's inputs and outputs."""
    param = owned.param
    if groups == 1 and param.grouped is None:  # one group may be what is left of several
        axes = zip(param.slots, owned.dims, strict=False)
        sides = [slots if indices is None else slots[indices] for slots, (_, indices) in axes][:2]
    else:
        if param.grouped is None:
            columns = trace.classes.new(groups * weight.shape[1]).view(groups, -1)
            param.grouped = param.slots[0].view(groups, -1), columns
        sides = [side.reshape(-1) for side in param.grouped]
    return sides if transposed else sides[::-1]


ARGUMENTS = {
    aten.mm: ("self", "mat2", ""),
    aten.bmm: ("self", "mat2", ""),
    aten.addmm: ("mat1", "mat2", "self"),
    aten.baddbmm: ("batch1", "batch2", "self"),
    aten.mv: ("self", "vec", ""),
    aten.addmv: ("mat", "vec", "self"),
    aten.dot: ("self", "tensor", ""),
    aten.linear: ("input", "weight", "bias"),
}
RULES = dict.fromkeys(ARGUMENTS, product) | {aten.convolution: convolution}

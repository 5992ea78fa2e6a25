"""Sums over channels: linear layers, convolutions, products of matrices. Here channels are read, and others made."""

import math

import torch

from .rules import pointwise, unknown, varies
from .shadows import Reader, storage_of


def product(call):
    """A product of two matrices, or of batches of them, with what is added to it."""
    trace, (*added, a, b), (out,) = call.trace, call.tensors, call.outs
    a, b = (a[None] if a.dim() == 1 else a), (b[:, None] if b.dim() == 1 else b)
    a, b = (t if t.dim() == 3 else t[None] for t in (a, b))
    turned = trace.elements(a) is not None and trace.elements(b) is None
    a, b = (b.mT, a.mT) if turned else (a, b)
    reader, *state = (_of_activations if trace.elements(b) is None else _weighted)(call, a, b)
    shape = (max(len(a), len(b)), a.shape[1], b.shape[2])
    state = (t.expand(shape).mT if turned else t.expand(shape) for t in state)
    _finish(call, reader, *(t.reshape(out.shape) for t in state), added)


def _finish(call, reader, ids, taint, added, behind=0):
    """Note the result, who reads for it, and what is added: number by number, where a bias may take up a constant.

    behind: how many dimensions lie behind that of the channels.
    """
    trace, (out,) = call.trace, call.outs
    trace.put(out, ids, taint)
    if reader is not None:
        trace.readers.append(reader)
        trace.made[storage_of(out)] = reader
    for t in added:
        owned, plain = trace.elements(t), call.named.get("alpha", 1) == 1 == call.named.get("beta", 1)
        if owned is not None and reader is not None and plain and t.shape == reader.outputs.shape:
            reader.bias = owned.param
        if owned is None or ids.any():
            call.tensors = [out, t[(..., *[None] * behind)]]
            pointwise(call)


def _weighted(call, x, weight):
    """Rows x (batch, rows, in) times a parameter (batch, in, out): the reader, ids and taint of what it makes."""
    owned = call.trace.elements(weight)
    if (sides := _sides(owned, weight, (1, 2))) is None:
        for t in (x, weight):
            call.trace.pin(t, "its weight is laid out in a way of its own")
        return None, torch.tensor(0), torch.tensor(call.tainted())
    blocks = weight.permute(2, 1, 0)[None]  # (1, out, in, batch)
    reader, taint = _reader(call, x.movedim(-1, 0), blocks, owned.param, sides, uneven=len(weight) > 1)
    return reader, sides[1], taint


def _reader(call, x, blocks, param, sides, *, uneven):
    """Who reads channels, and the taint of what it makes.

    x: what is read, (in, …). blocks: the weight, (groups, out, in, …). sides: the numbers of its inputs and outputs.
    uneven: whether a constant gives other sums in other places, at a border.
    """
    classes, (inputs, outputs), (ids, taint) = call.trace.classes, sides, (t.flatten(1) for t in call.trace.state(x))
    classes.join(ids.T, inputs)  # the channels that a layer reads are the same in all rows
    if (free := ((ids == 0) & (taint | (x.flatten(1) != 0).cpu())).any(1)).any():  # zeros are what a state begins with
        classes.pin(inputs[free], "it reads what is no channel")
    if call.trace.elements(x) is not None:
        call.trace.pin(x, "its parameter is read as data")
        classes.pin(inputs, "it reads a parameter")
    value, nonzero = _constants(x.flatten(1), taint), (blocks != 0).flatten(3).any(3).cpu()
    moving = taint.any(1) | (value.isnan() | (value != 0)) & uneven
    reader = Reader(inputs, outputs, nonzero, value, param, None if uneven else blocks)
    return reader, (nonzero & moving.view(len(blocks), 1, -1)).any(2).view(-1)


def _sides(owned, weight, dims):
    """Slots along the two dimensions of a weight that run over its inputs and outputs, or None where no axis does."""
    known = [axis for axis, _ in owned.dims if axis is not None]
    if -1 in known or len(set(known)) < len(known):
        return None
    single = [a for a, slots in enumerate(owned.param.slots[:2]) if len(slots) == 1 and a not in known]
    sides = []
    for dim in dims:  # an axis of length one is known by what is left, as layers have theirs: outputs first
        axis, slots = owned.dims[dim]
        if axis is None and weight.shape[dim] > 1:
            return None
        alone = owned.param.slots[single.pop()] if axis is None and single else torch.tensor([0])  # a row of several
        sides.append(alone if axis is None else slots)
    return sides


def _constants(x, taint):
    """The values of the rows of x that are constant whatever the network's inputs, nan for the others."""
    value = torch.full((len(x),), math.nan, dtype=torch.float64)
    fixed = (~taint.any(1)).nonzero().flatten()
    if len(fixed) and x.shape[1]:
        low, high = x[fixed.to(x.device)].double().aminmax(dim=1)
        eps = torch.finfo(x.dtype if x.is_floating_point() else torch.float32).eps
        same = high - low <= min(8 * eps, 1e-3) * high.abs()  # in bfloat16 eight of its steps are no rounding
        value[fixed] = torch.where(same, low, math.nan).cpu()
    return value


def _of_activations(call, a, b):
    """Two things that depend on the inputs, (batch, i, k) and (batch, k, j), as in attention."""
    classes, (one, two) = call.trace.classes, (call.trace.state(t) for t in (a, b))
    zero = [~s.taint & (t == 0).cpu() for s, t in ((one, a), (two, b))]
    dead = zero[0].all(2)[:, :, None] | zero[1].all(1)[:, None]
    taint = (one.taint.any(2)[:, :, None] | two.taint.any(1)[:, None]) & ~dead
    summed, left = ([varies(one.ids, d), varies(two.ids, 3 - d)] for d in (2, 1))
    through = [a and not b for a, b in zip(left, summed, strict=True)]
    for state, passes in zip((one, two), through, strict=True):
        if any(left) if all(summed) else sum(through) != 1 or not passes:
            classes.pin(state.ids, "multiplied with other channels")
    if all(summed):
        dead = zero[0].all(1) | zero[1].all(2)
        return _contracted(classes, one.ids[:, 0], two.ids[:, :, 0], dead), torch.tensor(0), taint
    ends = one.ids[:, :, :1], two.ids[:, :1]
    return None, ends[through[1]] if sum(through) == 1 else torch.tensor(0), taint


def _contracted(classes, one, two, dead):
    """Channels of two operands are multiplied and summed over: they go where one of both is zero."""
    classes.join(one, two)
    for ids in (one[two == 0], two[one == 0]):
        classes.pin(ids, "it reads what is no channel")
    n = one.numel()
    value = torch.where(dead.reshape(-1).expand(n), 0.0, math.nan).double()
    return Reader(one.reshape(-1), torch.zeros(1, dtype=torch.int64), torch.ones(1, 1, n, dtype=torch.bool), value)


def convolution(call):
    """A convolution, transposed or not, of one or several groups."""
    trace, named = call.trace, call.named
    x, weight, groups, transposed = (named[key] for key in ("input", "weight", "groups", "transposed"))
    owned = trace.elements(weight)
    if owned is None or (sides := _rows_and_columns(trace, owned, weight, groups)) is None:
        return unknown(call)
    param, blocks, behind = owned.param, weight.unflatten(0, (groups, -1)), x.dim() - 2
    sides, blocks = (sides, blocks.transpose(1, 2)) if transposed else (sides[::-1], blocks)
    uneven = transposed or any(named["padding"])
    reader, taint = _reader(call, x.transpose(0, 1), blocks, param, sides, uneven=uneven)
    if not trace.classes.strict:
        param.alone = param.grouped is not None and all(side.numel() == groups for side in sides)
    if param.alone:
        trace.classes.join(*sides)
        reader = None
    added = [named["bias"]] if named.get("bias") is not None else ()
    _finish(call, reader, *(t.view(-1, *[1] * behind) for t in (sides[1], taint)), added, behind)


def _rows_and_columns(trace, owned, weight, groups):
    """Slots of a convolution's weight, or None where it is laid out in a way of its own."""
    param = owned.param
    if groups == 1 and param.grouped is None:  # one group may be what is left of several
        sides = _sides(owned, weight, (1, 0))
        return sides and sides[::-1]
    if weight.shape != param.tensor.shape or any(axis not in (None, d) for d, (axis, _) in enumerate(owned.dims)):
        return None
    if param.grouped is None:
        columns = trace.classes.new(groups * weight.shape[1]).view(groups, -1)
        param.grouped = param.slots[0].view(groups, -1), columns
    return [side.reshape(-1) for side in param.grouped]


RULES = {r"(add|b|badd)?mm|(add)?mv|dot": product, "convolution": convolution}

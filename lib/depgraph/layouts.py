"""Operations that put numbers elsewhere: they are done to the channels, and to the places of a parameter, too."""

import torch
from torch.utils._pytree import tree_map

from .rules import bind, pointwise, unknown, varies


def moved(call):
    """The same operation on channels as on numbers; an index that depends on the inputs may only pick other things.

    Of a condition as an index it depends how many, so that the network may go another way by that.
    """
    trace, (tensor, *index) = call.trace, call.tensors
    state = trace.state(tensor)
    for t in index:
        trace.pin(t, f"index of {call.name}")
    if any(trace.state(t).taint.any() for t in index):
        trace.forks |= any(t.dtype is torch.bool for t in index)
        return trace.put(call.outs[0], ids := _picked(call, state.ids), _picked_taint(call, state.taint, ids))
    if trace.elements(tensor) is not None:
        for out, places in zip(call.outs, _done(call, trace.places(tensor)), strict=True):
            trace.own(out, places)
    for out, *found in zip(call.outs, *(_done(call, s) for s in state), strict=True):
        trace.put(out, *found)


def _done(call, numbers):
    """The results of an operation on other numbers than its own; those of float64 are whole, and every one takes it."""
    given = tree_map(lambda v: v.cpu() if isinstance(v, torch.Tensor) else v, call.named)
    found = call.func(**given | {"self": numbers.double()})
    return [t.to(numbers.dtype) for t in (found if isinstance(found, tuple | list) else [found])]


def _picked(call, ids):
    """The channels of a tensor after rows were picked by what is not known, if all rows have the same."""
    shape, last = call.outs[0].shape, ids[(0,) * (ids.dim() - 1)] if ids.dim() else ids
    if ids.dim() and shape[-1:] == last.shape and (ids == last).all():
        return last.expand(shape)
    call.trace.pin(call.tensors[0], f"read by {call.name} at places that depend on the inputs")
    return torch.tensor(0)


def _picked_taint(call, taint, ids):
    """Where it depends on the inputs which rows were picked: in no channel that is the same in all rows."""
    if not ids.any():
        return torch.tensor(True)
    rows = call.tensors[0].flatten(0, -2).cpu()
    taint = taint.flatten(0, -2) | (rows != rows[:1])
    return taint.any(0).expand(ids.shape)


def joined(call):
    """Tensors side by side, as parts of one dimension or along a new one."""
    trace, dim, (out,) = call.trace, call.named.get("dim", 0), call.outs
    parts = [t.unsqueeze(dim) for t in call.tensors] if call.name == "stack" else call.tensors
    parts = [t for t in parts if t.dim() == out.dim()]  # cat takes an empty one of another shape
    ids, taint = _beside(trace, [(*trace.state(t), trace.elements(t)) for t in parts], dim % out.dim())
    trace.put(out, ids, taint)
    for t in parts if not ids.any() else ():
        trace.pin(t, "its parameter is joined with others")


def _beside(trace, parts, dim):
    """Ids and taint of parts, each (ids, taint, elements of a parameter or None), side by side.

    What is no channel beside channels takes theirs, or is fixed where it has a place alone.
    """
    template = next((ids for ids, *_ in parts if ids.any()), None)
    if template is not None:
        parts = [(i if i.any() else _filled(trace, i, owned, template, dim), taint, owned) for i, taint, owned in parts]
    return [torch.cat([part[k] for part in parts], dim) for k in (0, 1)]


def _filled(trace, ids, owned, template, dim):
    """Channels of a part that has none, beside one that has."""
    if varies(template, dim):
        if owned is not None and (slots := owned.dims[dim][1]) is not None:
            return slots.view([-1 if d == dim else 1 for d in range(ids.dim())]).expand(ids.shape)
        return torch.full_like(ids, trace.classes.fixed("a constant beside channels"))
    ids = template.narrow(dim, 0, 1).expand(ids.shape)
    bind(trace, owned, ids)
    return ids


def padded(call):
    """A constant on both sides is beside what it is put around, or takes numbers off where its width is negative."""
    trace, (tensor,), pads = call.trace, call.tensors, call.named["pad"]
    ids, taint = trace.state(tensor)
    trace.pin(tensor, "padded") if trace.elements(tensor) is not None else None
    for k, pair in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        dim = tensor.dim() - 1 - k
        first, last = (max(0, -n) for n in pair)
        inner = [t.narrow(dim, first, t.shape[dim] - first - last) for t in (ids, taint)]
        shapes = [[max(0, n) if d == dim else m for d, m in enumerate(ids.shape)] for n in pair]
        left, right = ([torch.zeros(shape, dtype=t.dtype) for t in inner] for shape in shapes)
        ids, taint = _beside(trace, [(*part, None) for part in (left, inner, right)], dim)
    trace.put(call.outs[0], ids, taint)


def halves(call):
    """A gated linear unit: the second half of the channels gates the first, number by number."""
    call.tensors = call.tensors[0].chunk(2, call.named.get("dim", -1))
    pointwise(call)


def written(call):
    """Numbers copied into a tensor, or constants: of what was there before the channels alone are left."""
    target, *source = call.tensors
    taint = call.trace.state(source[0]).taint.expand(target.shape).clone() if source else torch.tensor(False)
    if call.name == "copy_":
        pointwise(call)
    call.trace.put(target, None, taint)


def looked_up(call):
    """Rows of a table: its columns are channels, its rows stay."""
    trace, table = call.trace, call.named["weight"]
    owned = trace.elements(table)
    if owned is None or len(owned.dims) != 2 or -1 in (axis for axis, _ in owned.dims):
        return unknown(call)
    out, ((_, rows), (_, columns)) = call.outs[0], owned.dims
    if rows is not None:
        trace.classes.pin(rows, "rows of a table")
    ids = torch.tensor(0) if columns is None else columns
    taint = trace.state(call.named["indices"]).taint.unsqueeze(-1) & (table != 0).any(0).cpu()
    trace.put(out, ids.expand(out.shape), taint.expand(out.shape))


def scattered(call):
    """Rows that are added to rows somewhere: each channel stays in its place, where rows are no channels."""
    dim, (out, *_) = call.named["dim"], call.outs
    target, source = call.named["self"], call.named.get("source", call.named.get("src"))
    if any(varies(call.trace.state(t).ids, dim) for t in (target, source)):
        return unknown(call)
    call.tensors = [t.narrow(dim, 0, 1) for t in (target, source)]
    taint = call.trace.state(target).taint | call.trace.state(source).taint.any(dim, keepdim=True) | (out != 0).cpu()
    pointwise(call)
    call.trace.put(out, None, taint.any(dim, keepdim=True))  # how many meet in a row is another number elsewhere


RULES = {
    r"flip|roll|rot90|repeat|im2col|tril|triu|index(_select)?|unsafe_split.*|.*channel_shuffle|pixel_.*": moved,
    r"(reflection|replication)_pad.*": moved,
    r"cat|stack": joined,
    r"copy_|fill_|zero_": written,
    r"constant_pad_nd": padded,
    r"glu": halves,
    r"embedding": looked_up,
    r"(index|scatter)_(add|reduce)_?": scattered,
}

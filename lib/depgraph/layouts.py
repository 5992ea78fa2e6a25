"""Operations that put numbers elsewhere: they are done to the channels, too."""

import torch
from torch.utils._pytree import tree_map

from . import rules
from .trace import Elements

aten = torch.ops.aten


def moved(call):
    """The same operation on channels as on numbers."""
    if all(call.trace.elements(t) for t in call.tensors) and call.func.overloadpacket is aten.repeat:
        return _repeat(call)
    known = {id(t): s for t, s in zip(call.tensors, call.inputs, strict=True)}
    for t in call.tensors:
        if call.trace.elements(t) is not None:
            call.pin(t, f"its parameter is read by {call.name}")
    ids = _done(call, {key: s.ids for key, s in known.items()})
    taints = _done(call, {key: s.taint.to(torch.int64) for key, s in known.items()})
    for t, i, taint in zip(call.outs, ids, taints, strict=True):
        call.trace.put(t, i.reshape(t.shape), (taint != 0).reshape(t.shape))


def _done(call, replaced):
    """The results of an operation on other tensors in place of its own."""
    named = tree_map(lambda v: replaced[id(v)] if isinstance(v, torch.Tensor) else v, call.named)
    try:
        out = call.func(**named)
    except (RuntimeError, NotImplementedError):  # not for integers; float64 holds the numbers exactly
        double = {id(v): v.double() for v in replaced.values()}
        out = call.func(**tree_map(lambda v: double[id(v)] if isinstance(v, torch.Tensor) else v, named))
    return [o.to(torch.int64) for o in (out if isinstance(out, tuple | list) else [out])]


def _repeat(call):
    """Copies of a parameter: the same slots again and again."""
    owned, (tensor,) = call.trace.elements(call.tensors[0]), call.tensors
    lead = len(call.named["repeats"]) - tensor.dim()
    dims = [(None, None)] * lead
    for n, (axis, indices) in zip(call.named["repeats"][lead:], owned.dims, strict=True):
        dims.append((axis, None if indices is None else indices.repeat(n)))
    call.trace.own(call.outs[0], Elements(owned.param, tuple(dims)))


def joined(call):
    """Tensors side by side; what is no channel beside channels takes theirs, or is fixed where it has a place alone."""
    trace, parts, dim = call.trace, call.named["tensors"], call.named.get("dim", 0)
    states = [trace.state(t) for t in parts]
    if call.func.overloadpacket is aten.stack:
        dim = dim % (parts[0].dim() + 1)
        ids = [s.ids.unsqueeze(dim) for s in states]
        taint = torch.stack([s.taint for s in states], dim)
        elements = [None] * len(parts)
    else:
        parts = [t for t in parts if t.dim() == call.outs[0].dim()]
        dim, states = dim % call.outs[0].dim(), [trace.state(t) for t in parts]
        ids, elements = [s.ids for s in states], [trace.elements(t) for t in parts]
        taint = torch.cat([s.taint for s in states], dim)
    template = next((i for i in ids if i.any()), None)
    if template is None:
        for t in parts:
            call.pin(t, "its parameter is joined with others")
    else:
        ids = [i if i.any() else _filled(trace, i, e, template, dim) for i, e in zip(ids, elements, strict=True)]
    trace.put(call.outs[0], torch.cat(ids, dim), taint)
    if template is not None:
        trace.widths.append(trace.state(call.outs[0]).ids)


def _filled(trace, ids, owned, template, dim):
    """Channels of a part that has none, beside one that has."""
    if rules.varies(template, dim):
        if owned is not None and (owned.dims[dim][0] or -1) >= 0:
            axis, indices = owned.dims[dim]
            shape = [-1 if d == dim else 1 for d in range(ids.dim())]
            return owned.param.slots[axis][indices].view(shape).expand(ids.shape)
        return torch.full_like(ids, trace.classes.fixed("a constant beside channels"))
    ids = template.narrow(dim, 0, 1).expand(ids.shape)
    rules.bind(trace, owned, ids)
    return ids


def padded(call):
    """Constants around: along channels they are fixed, elsewhere they belong to the channel beside them."""
    trace, (tensor,) = call.trace, call.tensors
    (ids, taint), pads = trace.state(tensor), call.named["pad"]
    call.pin(tensor, "padded") if trace.elements(tensor) is not None else None
    for k in range(len(pads) // 2):
        dim, (left, right) = tensor.dim() - 1 - k, pads[2 * k : 2 * k + 2]
        n = ids.shape[dim]
        place = torch.arange(-left, n + right)
        outside = (place < 0) | (place >= n)
        shape = [-1 if d == dim else 1 for d in range(ids.dim())]
        fixed = outside.any() and rules.varies(ids, dim)
        ids, taint = (t.index_select(dim, place.clamp(0, n - 1)) for t in (ids, taint))
        taint = taint & ~outside.view(shape)
        if fixed:
            reason = "padding beside channels"
            ids = torch.where(outside.view(shape), torch.tensor(trace.classes.fixed(reason)), ids)
    trace.put(call.outs[0], ids, taint)


def halves(call):
    """A gated linear unit: the second half of the channels gates the first."""
    trace, (tensor,) = call.trace, call.tensors
    dim = call.named.get("dim", -1)
    ids, taint = (t.chunk(2, dim) for t in trace.state(tensor))
    trace.classes.join(*ids)
    trace.put(call.outs[0], ids[0], taint[0] | taint[1])


def picked(call):
    """Rows by an index: a constant one moves channels, one that depends on the inputs may only pick other things."""
    trace, tensor = call.trace, call.tensors[0]
    state, ids = trace.state(tensor), None
    if all(not trace.state(t).taint.any() for t in call.tensors[1:]):
        if trace.elements(tensor) is not None:
            call.pin(tensor, f"its parameter is read by {call.name}")
        named = dict(call.named)
        named = tree_map(lambda v: v.cpu() if isinstance(v, torch.Tensor) else v, named)
        ids, taint = (call.func(**named | {"self": t}) for t in state)
    else:
        ids, taint = _first(call, state), torch.tensor(True)
    for t in call.tensors[1:]:
        call.pin(t, f"index of {call.name}")
    trace.put(call.outs[0], ids, taint)


def _first(call, state):
    """The channels of a tensor after rows were picked by what is not known, if all rows have the same."""
    out = call.outs[0]
    last = state.ids[(0,) * (state.ids.dim() - 1)] if state.ids.dim() else state.ids
    same = state.ids.dim() and out.dim() and out.shape[-1:] == last.shape and bool((state.ids == last).all())
    if same:
        return last.expand(out.shape)
    call.pin(call.tensors[0], f"read by {call.name} at places that depend on the inputs")
    return torch.zeros(out.shape, dtype=torch.int64)


def written(call):
    """Numbers copied into a tensor, or constants."""
    trace, target = call.trace, call.named["self"]
    if call.func.overloadpacket is not aten.copy_:
        return trace.put(target, None, torch.tensor(call.tainted() and len(call.tensors) > 1))
    source = call.named["src"]
    (old, _), (new, taint) = trace.state(target), trace.state(source)
    new = new.expand(old.shape)
    trace.classes.join(old, new)
    if not new.any() and old.any():
        rules.bind(trace, trace.elements(source), old)
    trace.put(target, torch.where(new != 0, new, old), taint.expand(old.shape))


def looked_up(call):
    """Rows of a table: its columns are channels, its rows stay."""
    trace, table = call.trace, call.named["weight"]
    owned = trace.elements(table)
    if owned is None or len(owned.dims) != 2 or any((axis or 0) < 0 for axis, _ in owned.dims):
        return rules.unknown(call)
    out, (axis, indices) = call.outs[0], owned.dims[1]
    for a, slots in enumerate(owned.param.slots):
        trace.classes.pin(slots, "rows of a table") if a != axis else None
    ids = torch.zeros(out.shape[-1:], dtype=torch.int64) if axis is None else owned.param.slots[axis][indices]
    taint = trace.state(call.named["indices"]).taint.unsqueeze(-1) & (table != 0).any(0).cpu()
    trace.put(out, ids.expand(out.shape), taint.expand(out.shape))


MOVED = (
    "flip roll unsafe_split unsafe_split_with_sizes split_copy split_with_sizes_copy pixel_shuffle pixel_unshuffle "
    "channel_shuffle native_channel_shuffle repeat reflection_pad1d reflection_pad2d reflection_pad3d rot90 "
    "replication_pad1d replication_pad2d replication_pad3d im2col tril triu _reshape_copy view_copy slice_copy "
    "permute_copy expand_copy unfold_copy select_copy transpose_copy diagonal_copy"
)
RULES = {getattr(aten, name): moved for name in MOVED.split() if hasattr(aten, name)}
RULES |= {aten.cat: joined, aten.stack: joined, aten.constant_pad_nd: padded, aten.glu: halves}
RULES |= {aten.index: picked, aten.index_select: picked, aten.embedding: looked_up}
RULES |= {aten.copy_: written, aten.fill_: written, aten.zero_: written}

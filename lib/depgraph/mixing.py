"""Operations that mix what lies along some dimensions: where channels do, they stay."""

import math

import torch

from .rules import bind, pointwise, several, varies
from .shadows import storage_of


def _mix(call, dims):
    """Keep the channels along these dimensions, or tie them where each result has channels of its own.

    The state of the tensor with taint spread along them, and the places of a parameter's numbers, or None.
    """
    trace, tensor = call.trace, call.tensors[0]
    owned, (ids, taint) = trace.elements(tensor), trace.state(tensor)
    along = [d for d in dims if several(trace.classes, ids, d)]
    if along and ids.all() and any(varies(ids, d) for d in range(ids.dim()) if d not in dims):
        trace.classes.join(ids, ids[_first(ids, along)])
    elif along:
        trace.pin(tensor, f"mixed by {call.name}")
    sides = [owned.dims[d] for d in dims] if owned is not None else []
    for _, slots in sides:
        trace.classes.pin(slots if slots is not None else torch.tensor(0), f"mixed by {call.name}")
    if any(axis == -1 for axis, _ in sides):
        trace.pin(tensor, f"mixed by {call.name}")
    places = trace.places(tensor) if owned is not None and not call.tainted() else None
    return ids, taint.any(dims, keepdim=True) if dims else taint, places


def _first(ids, dims):
    """The first of what lies along some dimensions."""
    return tuple(slice(0, 1) if d in dims else slice(None) for d in range(ids.dim()))


def _mixed(call, dims):
    """Each number of the results is made of all that lie along these dimensions."""
    tensor = call.tensors[0]
    dims = [d % tensor.dim() for d in dims] if tensor.dim() else []
    ids, taint, places = _mix(call, dims)
    grows = call.name in GROWING or ("avg" in call.name and any(call.named.get("padding", ())))
    if grows and dims and ids.any():  # a sum of constants is another in an input of another size
        taint = taint | (tensor != 0).cpu().any(dims, keepdim=True)
    chosen = torch.tensor(any(bool(s.taint.any()) for s in call.inputs[1:]))  # an index of what is picked
    for t in call.outs:
        shaped = torch.Tensor.expand if t.dim() == ids.dim() else torch.Tensor.reshape
        same, first = t.shape == ids.shape, _first(ids, dims)
        call.trace.put(t, ids if same else shaped(ids[first], t.shape), shaped(taint, t.shape) | chosen)
        if places is not None and t.dtype == tensor.dtype:
            call.trace.own(t, places if same else shaped(places[first], t.shape))


def reduced(call):
    """A mean, a sum, a maximum: along dimensions that are named, or along all."""
    dims = call.named.get("dim")
    _mixed(call, [dims] if isinstance(dims, int) else dims or range(call.tensors[0].dim()))


def spread(call):
    """A softmax, a sort: as many numbers as before, each made of all along a dimension."""
    _mixed(call, [call.named.get("dim", -1)])


def pooled(call):
    """Pooling and interpolation: along the last dimensions only."""
    n = next((int(c) for c in reversed(call.name) if c in "123"), 2)
    _mixed(call, range(-n, 0))


def folded(call):
    """Patches put beside and over each other: the numbers of a channel's patch are added up in its places."""
    call.tensors, (out,) = [call.tensors[0].unflatten(-2, (-1, math.prod(call.named["kernel_size"])))], call.outs
    ids, taint, _ = _mix(call, [call.tensors[0].dim() - k for k in (2, 1)])
    taint = taint | (call.tensors[0] != 0).cpu().any((-2, -1), keepdim=True)  # fewer meet at a border
    call.trace.put(out, ids[..., :1, :1], taint)


def normalised(call):
    """Layer norm mixes the last dimensions; group norm is taken to mix all channels, unless each group has one."""
    trace, x = call.trace, call.tensors[0]
    last = x.dim() - len(call.named["normalized_shape"]) if "normalized_shape" in call.named else None
    alone = call.named.get("group") == x.shape[1] and x.dim() > 2
    ids, taint, places = _mix(call, list(range(1 + alone if last is None else last, x.dim())))
    for key in ("weight", "bias"):
        bind(trace, trace.elements(call.named.get(key)), ids.movedim(1, -1) if last is None else ids)
    trace.put(call.outs[0], ids, taint.expand(x.shape))
    trace.own(call.outs[0], places) if places is not None else None


def batch_normalised(call):
    """A norm that treats each channel alone: number by number with what it has for each."""
    trace, x, training = call.trace, call.named["input"], call.named.get("training", False)
    if training:  # what lies along the others has its mean taken: a weight that is made even so keeps it
        _mix(call, [d for d in range(x.dim()) if d != 1])
    rows, shape = trace.state(x).ids.transpose(0, 1).flatten(1), [1, -1] + [1] * (x.dim() - 2)
    trace.classes.join(rows, rows[:, :1])  # what has its statistics together is one class
    weight, *others = (call.named.get(key) for key in ("weight", "bias", "running_mean", "running_var"))
    call.tensors = [x, *(t.view(shape) for t in (weight, *others) if t is not None)]
    call.zeros = [(weight == 0).cpu().view(shape)] if weight is not None else ()
    pointwise(call)
    if training:
        taint = trace.state(call.outs[0]).taint.transpose(0, 1).flatten(1).any(1)
        trace.put(call.outs[0], None, taint.view(shape))
    reader, mean = trace.made.get(storage_of(x)), trace.elements(others[1])
    if reader and mean and not training and len(rows) == len(reader.outputs) and (reader.outputs == rows.T).all():
        reader.norm = mean.param  # it reads what is made there, each channel in its place


def made(call):
    """A tensor out of nothing; random numbers count as the inputs do."""
    like = call.name.endswith("_like")
    taint = torch.tensor(call.chance or (not like and not call.name.startswith("new_") and call.tainted()))
    for t in call.outs:  # a tensor like another is as wide, whatever is in it
        call.trace.put(t, call.inputs[0].ids if like and t.dim() else torch.tensor(0), taint)


GROWING = ("sum", "prod", "norm", "linalg_vector_norm", "logsumexp")
RULES = {
    r"(nan)?(mean|sum|median)|prod|a?(min|max)|aminmax|arg(min|max)|any|all|logsumexp": reduced,
    r"(var|std)(_mean)?|(linalg_vector_)?norm": reduced,
    r"_(safe_|log_)?softmax|sort|topk|kthvalue|gather|(log)?cum(sum|prod|max|min|sumexp)": spread,
    r"_?(adaptive_|fractional_)?(avg|max)_pool.*|_?upsample_.*": pooled,
    r"native_(layer|group)_norm": normalised,
    r"col2im": folded,
    r".*batch_norm.*": batch_normalised,
    r"(new_)?(empty|zeros|ones|full)(_like|_strided)?|rand.*|arange|linspace|eye|scalar_tensor": made,
}

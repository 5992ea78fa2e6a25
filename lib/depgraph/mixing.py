"""Operations that mix what lies along some dimensions: where channels do, they stay."""

import torch

from . import rules
from .trace import storage_of

aten = torch.ops.aten


def _mix(call, tensor, dims):
    """Keep the channels along these dimensions; the state of the tensor with taint spread along them."""
    trace, (ids, taint) = call.trace, call.trace.state(tensor)
    if any(rules.varies(ids, d) for d in dims):
        trace.classes.pin(ids, f"mixed by {call.name}")
    if trace.elements(tensor) is not None:
        call.pin(tensor, f"its parameter is mixed by {call.name}")
    for d in dims:
        taint = taint.any(d, keepdim=True)
    return ids, taint


def reduced(call):
    """A mean, a sum, a maximum: the channels along other dimensions go through."""
    tensor = call.tensors[0]
    dims = call.named.get("dim")
    dims = list(range(tensor.dim())) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    dims = sorted({d % tensor.dim() for d in dims}) if tensor.dim() else []
    ids, taint = _mix(call, tensor, dims)
    if call.name in GROWING and dims and ids.any():  # a sum of constants is another in an input of another size
        taint = taint | (tensor != 0).cpu().any(dims, keepdim=True).view(taint.shape)
    for d in dims:
        ids = ids.narrow(d, 0, 1)
    for t in call.outs:
        call.trace.put(t, ids.reshape(t.shape), taint.reshape(t.shape))


def spread(call):
    """A softmax, a sort: as many numbers as before, each made of all along a dimension."""
    tensor = call.tensors[0]
    dim = call.named.get("dim", -1)
    ids, taint = _mix(call, tensor, [dim % tensor.dim()] if tensor.dim() else [])
    places = torch.tensor(any(bool(s.taint.any()) for s in call.inputs[1:]))  # an index of what is picked
    for t in call.outs:
        n = t.shape[dim] if t.dim() else 1
        shape = list(t.shape)
        kept = ids if ids.shape == t.shape else ids.narrow(dim, 0, 1).expand(shape) if n else torch.tensor(0)
        call.trace.put(t, kept, taint.expand(shape) | places)


def pooled(call):
    """Pooling and interpolation: along the last dimensions only."""
    tensor, trace = call.tensors[0], call.trace
    n = next((int(c) for c in reversed(call.name.replace("_vec", "")) if c in "123"), 2)
    dims = list(range(tensor.dim() - n, tensor.dim()))
    ids, taint = _mix(call, tensor, dims)
    if call.name.startswith("avg_pool") and any(call.named.get("padding", ())):
        taint = taint | ((tensor != 0).cpu() & ~trace.state(tensor).taint).flatten(-n).any(-1).view(taint.shape)
    for d in dims:
        ids = ids.narrow(d, 0, 1)
    for t in call.outs:
        trace.put(t, ids.expand(t.shape), taint.expand(t.shape))


def batch_normalised(call):
    """A norm that treats each channel alone."""
    trace, named, out = call.trace, call.named, call.outs[0]
    x = named["input"]
    ids, taint = trace.state(x)
    rows = ids.transpose(0, 1).flatten(1)
    trace.classes.join(rows, rows[:, :1])  # what has its statistics together is one class
    shape, training = [1, -1] + [1] * (x.dim() - 2), named.get("training", False)
    for key in ("weight", "bias", "running_mean", "running_var"):
        rules.bind(trace, trace.elements(named.get(key)), rows[:, 0])
    if training:
        taint = taint.transpose(0, 1).flatten(1).any(1).view(shape).expand(x.shape)
    if named.get("weight") is not None:
        taint = taint & (named["weight"] != 0).cpu().view(shape)
    reader, mean = trace.made.get(storage_of(x)), named.get("running_mean")
    if reader is not None and mean is not None and not training and _are(rows, reader.outputs):
        owned = trace.elements(mean)
        reader.norm = owned.param if owned else None
    trace.put(out, ids, taint)


def _are(rows, channels):
    """Whether each row of numbers is one channel, in this order."""
    return len(rows) == len(channels) and bool((rows == channels[:, None]).all())


def normalised(call):
    """Layer norm: the last dimensions are mixed."""
    trace, x = call.trace, call.named["input"]
    n = len(call.named["normalized_shape"])
    ids, taint = _mix(call, x, list(range(x.dim() - n, x.dim())))
    for key in ("weight", "bias"):
        rules.bind(trace, trace.elements(call.named.get(key)), ids)
    trace.put(call.outs[0], ids, taint.expand(x.shape))


def group_normalised(call):
    """Group norm: it mixes the channels of a group, unless each has one."""
    trace, x = call.trace, call.named["input"]
    ids, taint = trace.state(x)
    if call.named["group"] != x.shape[1] or x.dim() == 2:
        trace.classes.pin(ids, f"mixed by {call.name}")
        taint = taint.flatten(1).any(1).view(-1, *[1] * (x.dim() - 1))
    else:
        taint = taint.flatten(2).any(2).view(*x.shape[:2], *[1] * (x.dim() - 2))
    for key in ("weight", "bias"):
        rules.bind(trace, trace.elements(call.named.get(key)), ids.movedim(1, -1))
    trace.put(call.outs[0], ids, taint.expand(x.shape))


def made(call):
    """A tensor out of nothing; random numbers count as the inputs do."""
    like = call.name.endswith("_like")
    taint = torch.tensor(call.chance or (not like and not call.name.startswith("new_") and call.tainted()))
    for t in call.outs:  # a tensor like another is as wide, whatever is in it
        call.trace.put(t, call.inputs[0].ids if like and t.dim() else torch.tensor(0), taint)


REDUCED = """mean sum amax amin max min var std var_mean std_mean norm linalg_vector_norm prod any all logsumexp argmax
    argmin median nanmean aminmax"""
GROWING = ("sum", "prod", "norm", "linalg_vector_norm", "logsumexp")
SPREAD = "_softmax _safe_softmax _log_softmax sort cumsum cumprod topk logcumsumexp cummax cummin gather kthvalue"
POOLED = """max_pool2d_with_indices max_pool3d_with_indices max_pool1d avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d
    upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa fractional_max_pool2d"""
NORMS = """native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update"""
MADE = """empty zeros ones full arange rand randn randint randperm scalar_tensor linspace eye empty_strided new_zeros
    new_ones new_empty new_full new_empty_strided zeros_like ones_like full_like empty_like rand_like randn_like"""
RULES = {
    getattr(aten, name): rule
    for names, rule in ((REDUCED, reduced), (SPREAD, spread), (POOLED, pooled), (NORMS, batch_normalised), (MADE, made))
    for name in names.split()
    if hasattr(aten, name)
}
RULES |= {aten.native_layer_norm: normalised, aten.native_group_norm: group_normalised}

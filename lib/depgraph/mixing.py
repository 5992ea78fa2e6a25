"""Operations that mix what lies along some dimensions: where channels do, they stay."""

import torch

from .rules import bind, named, varies
from .shadows import storage_of


def _mix(call, dims):
    """Keep the channels along these dimensions; the state of the tensor with taint spread along them."""
    tensor = call.tensors[0]
    ids, taint = call.trace.state(tensor)
    if any(varies(ids, d) for d in dims) or call.trace.elements(tensor) is not None:
        call.pin(tensor, f"mixed by {call.name}")
    return ids, taint.any(dims, keepdim=True) if dims else taint


def _mixed(call, dims):
    """Each number of the results is made of all that lie along these dimensions."""
    tensor = call.tensors[0]
    dims = [d % tensor.dim() for d in dims] if tensor.dim() else []
    ids, taint = _mix(call, dims)
    grows = call.name in GROWING or ("avg" in call.name and any(call.named.get("padding", ())))
    if grows and dims and ids.any():  # a sum of constants is another in an input of another size
        taint = taint | (tensor != 0).cpu().any(dims, keepdim=True)
    first = ids[tuple(slice(0, 1) if d in dims else slice(None) for d in range(ids.dim()))]
    places = torch.tensor(any(bool(s.taint.any()) for s in call.inputs[1:]))  # an index of what is picked
    for t in call.outs:
        shaped = torch.Tensor.expand if t.dim() == ids.dim() else torch.Tensor.reshape
        call.trace.put(t, ids if t.shape == ids.shape else shaped(first, t.shape), shaped(taint, t.shape) | places)


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


def normalised(call):
    """Layer norm mixes the last dimensions, group norm the channels of a group, unless each has one."""
    trace, x = call.trace, call.tensors[0]
    last = x.dim() - len(call.named["normalized_shape"]) if "normalized_shape" in call.named else None
    alone = call.named.get("group") == x.shape[1] and x.dim() > 2
    ids, taint = _mix(call, list(range(1 + alone if last is None else last, x.dim())))
    for key in ("weight", "bias"):
        bind(trace, trace.elements(call.named.get(key)), ids.movedim(1, -1) if last is None else ids)
    trace.put(call.outs[0], ids, taint.expand(x.shape))


def batch_normalised(call):
    """A norm that treats each channel alone."""
    trace, named, x = call.trace, call.named, call.named["input"]
    ids, taint = trace.state(x)
    rows = ids.transpose(0, 1).flatten(1)
    trace.classes.join(rows, rows[:, :1])  # what has its statistics together is one class
    shape, training = [1, -1] + [1] * (x.dim() - 2), named.get("training", False)
    for key in ("weight", "bias", "running_mean", "running_var"):
        bind(trace, trace.elements(named.get(key)), rows[:, 0])
    if training:
        taint = taint.transpose(0, 1).flatten(1).any(1).view(shape).expand(x.shape)
    if named.get("weight") is not None:
        taint = taint & (named["weight"] != 0).cpu().view(shape)
    reader, mean = trace.made.get(storage_of(x)), trace.elements(named.get("running_mean"))
    if reader and mean and not training and len(rows) == len(reader.outputs) and (reader.outputs == rows.T).all():
        reader.norm = mean.param  # it reads what is made there, each channel in its place
    trace.put(call.outs[0], ids, taint)


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
RULES = named(REDUCED, reduced) | named(SPREAD, spread) | named(POOLED, pooled) | named(NORMS, batch_normalised)
RULES |= named("native_layer_norm native_group_norm", normalised) | named(MADE, made)

"""A network without the channels that go: its tensors sliced, what its layers say of their widths set right."""

import functools

import torch
from torch import nn

from ..layers import CONVOLUTIONS, tell_widths
from .shadows import Param


def tensors_of(model):
    """Parameters and buffers by their first name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def remove(model, params, removed):
    """Slice all tensors of a network in place."""
    tensors = tensors_of(model)
    known = {id(tensors[param.name]): param for param in params}
    smaller = {key: sliced(param, tensors[param.name], removed) for key, param in known.items()}
    for layer in model.modules():
        for key, tensor in [*layer._parameters.items(), *layer._buffers.items()]:
            if smaller.get(id(tensor), tensor) is not tensor:
                setattr(layer, key, smaller[id(tensor)])
                layer._non_persistent_buffers_set.discard(key)  # a fresh network makes it as wide as it was
                if known[id(tensor)].grouped is not None and hasattr(layer, "groups"):
                    layer.groups = int(kept_groups(known[id(tensor)], removed).sum())
                    layer.regrouped = not (known[id(tensor)].alone and isinstance(layer, CONVOLUTIONS))
        tell_widths(layer)


def sliced(param, tensor, removed):
    """A tensor without what goes along its axes, itself where nothing does; dtype and memory format stay."""
    small = tensor
    first = 0 if param.grouped is None else 2
    for axis, slots in enumerate(param.slots[first:], first):
        if (gone := removed[slots]).any():
            small = small.index_select(axis, (~gone).nonzero().flatten().to(tensor.device))
    if param.grouped is not None and any(removed[side].any() for side in param.grouped):
        small = _blocks(param, small, removed)
    kept = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim(), torch.contiguous_format)
    if small is not tensor and tensor.is_contiguous(memory_format=kept):
        small = small.contiguous(memory_format=kept)
    if small is not tensor and isinstance(tensor, nn.Parameter):
        small = nn.Parameter(small.detach(), requires_grad=tensor.requires_grad)
    return small


def kept_groups(param, removed):
    """Which groups of a grouped convolution keep a channel on one side at least, bool (groups,)."""
    return ~(removed[param.grouped[0]].all(1) & removed[param.grouped[1]].all(1))


def _blocks(param, weight, removed):
    """A grouped convolution's weight with each group's own rows and columns."""
    blocks = []
    for group in kept_groups(param, removed).nonzero().flatten().tolist():
        part = weight.unflatten(0, (len(param.grouped[0]), -1))[group]
        for axis, side in enumerate(param.grouped):
            part = part.index_select(axis, (~removed[side[group]]).nonzero().flatten().to(weight.device))
        blocks.append(part)
    return torch.cat(blocks)


def left(param, tensor, removed):
    """A parameter after it was sliced."""
    slots, sides = [slots[~removed[slots]] for slots in param.slots], None
    if param.grouped is not None:
        kept = [side[kept_groups(param, removed)] for side in param.grouped]
        sides = tuple(side[~removed[side]].view(len(side), -1) for side in kept)
        slots = [sides[0].reshape(-1), param.slots[1][: sides[1].shape[1]], *param.slots[2:]]
    return Param(param.name, tensor, slots, sides, param.alone)


def watch(running, told):
    """Tell instance norms without tensors how many channels they get, when a copy of their network runs."""
    for one, other in zip(running.modules(), told.modules(), strict=True):
        if isinstance(one, nn.modules.instancenorm._InstanceNorm) and one.weight is one.running_mean is None:
            one.register_forward_pre_hook(functools.partial(_tell, other))


def _tell(norm, _, args):
    norm.num_features = args[0].shape[-norm._get_no_batch_dim()]

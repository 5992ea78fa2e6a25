"""Dead units out of any network: which layers hang together comes from Torch-Pruning's dependency graph.

The graph takes whatever it does not know for elementwise, so nothing is handed out that was not held against the
original. `lib.shrinking` needs neither graph nor example, for the builders' networks.
"""

import copy
import warnings
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import nn

from lib.shrinking import ShrinkError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
MIXING = (*CONVOLUTIONS, nn.Linear)  # each output reads all inputs; all else is followed channel by channel
KINDS = tp.ops.OPTYPE
FOLLOWED = (KINDS.CONV, KINDS.LINEAR, KINDS.DEPTHWISE_CONV, KINDS.BN, KINDS.CONCAT, KINDS.ELEMENTWISE, KINDS.RESHAPE)
SIZES = (1e-3, 1.0, 1e3, 1e6)  # of the noise that finds out what is constant


@dataclass
class Group:
    """Channels that go together: the first layer that makes them, and all (layer, its channels, the first layer's)."""

    name: str
    root: tuple  # Torch-Pruning's module and function
    producers: list
    consumers: list
    removed: torch.Tensor


def shrink(model, example, *, keep=(), keep_one=False):
    """A copy of any network without its dead units, with the same outputs in eval mode.

    example: an input or a tuple of them, with a batch axis, of the size that the network is used with. keep: names of
    layers whose groups are left alone. keep_one: leave one silent unit where a layer died wholly, instead of
    ShrinkError. Units stay where the graph meets an output, a grouped or transposed convolution or a layer that mixes
    channels (layer norm, attention), and where their constant cannot be folded. ShrinkError also where the graph does
    not describe the network.
    """
    inputs = tuple(_double(x) for x in (example if isinstance(example, tuple) else (example,)))
    work = copy.deepcopy(model).double().eval().requires_grad_(True)
    graph, groups = _traced(work, inputs, keep)
    with torch.no_grad():
        while _cut(graph, groups, _arrivals(work, inputs)):
            pass
        _remove(graph, groups, keep_one)
        if wrong := _difference(model, work, inputs):
            names = ", ".join(repr(group.name) for group in groups if group.removed.any())
            raise ShrinkError(
                f"after units of {names} were removed {wrong}: Torch-Pruning's graph does not describe "
                f"{type(model).__name__} there; name the layers to be left alone in keep=[…]"
            )
    for small, parameter in zip(work.parameters(), model.parameters(), strict=True):
        small.requires_grad_(parameter.requires_grad)
    return work.to(next(model.parameters()).dtype).train(model.training)


# --- the graph -----------------------------------------------------------------------------------------------------


def _traced(work, inputs, keep):
    """Torch-Pruning's graph of a network and the groups of it that can be judged here."""
    names = {layer: name for name, layer in work.named_modules()}
    for layer, name in names.items():
        if isinstance(layer, MIXING) and not isinstance(layer._parameters.get("weight"), nn.Parameter):
            raise ShrinkError(
                f"the weight of {name!r} is computed from others; end that first (prune.remove or the like)"
            )
    if unknown := set(keep) - set(names.values()):
        raise ValueError(f"keep names {sorted(unknown)[0]!r}, which is no layer of {type(work).__name__}")

    def ended(outputs):  # an operation behind every output, so that the graph tells them from hidden layers
        return [out + 0 for out in tp.utils.flatten_as_list(outputs)]

    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = tp.DependencyGraph().build_dependency(work, inputs, output_transform=ended, verbose=False)
            found = list(graph.get_all_groups())
    except Exception as failure:
        raise ShrinkError(f"Torch-Pruning cannot trace {type(work).__name__}: {failure}") from failure
    groups = [_group(graph, items, names) for items in found if _followed(items, names, keep)]
    return graph, [group for group in groups if group.consumers]


def _followed(items, names, keep):
    """Whether all that a group passes through treats channels one by one, ends in layers of MIXING, and may change."""
    for item in items:
        layer, kind = item.dep.target.module, item.dep.target.type
        grouped = kind == KINDS.CONV and (layer.groups > 1 or not isinstance(layer, CONVOLUTIONS))
        if kind not in FOLLOWED or grouped or names.get(layer) in keep:
            return False
    return True


def _group(graph, items, names):
    root, sides = items[0].dep, {True: [], False: []}
    for item in items:
        layer = item.dep.target.module
        if item.dep.target.type in (KINDS.CONV, KINDS.LINEAR):
            makes = graph.is_out_channel_pruning_fn(item.dep.handler)
            sides[makes].append((layer, torch.tensor(item.idxs), torch.tensor(item.root_idxs)))
    removed = torch.zeros(len(items[0].idxs), dtype=torch.bool)
    return Group(names[root.target.module], (root.target.module, root.handler), sides[True], sides[False], removed)


# --- what is constant ----------------------------------------------------------------------------------------------


def _arrivals(work, inputs):
    """For each layer of MIXING: (which input channels are constant whatever the network's input, their values).

    All that the layers with weights put out is replaced by noise of several sizes and both signs; a channel that no
    noise reaches is constant. That is more than inputs can do: a unit that is merely silent on some data is not taken.
    """
    draw, ranges = torch.Generator(inputs[0].device).manual_seed(0), {}

    def before(layer, args):
        seen = args[0].movedim(_axis(layer), 0).flatten(1)
        low, high = ranges.get(layer, (seen.amin(1), seen.amax(1)))
        ranges[layer] = torch.minimum(low, seen.amin(1)), torch.maximum(high, seen.amax(1))

    def behind(layer, args, output):
        live = layer.weight.flatten(1).any(1)
        if _depthwise(layer):  # a constant passes through, but for the border where there is padding
            seen = args[0].transpose(0, 1).flatten(1)
            live = live & ((seen.amax(1) > seen.amin(1)) | (seen[:, 0] != 0) & _padded(layer))
        shape = [1] * output.dim()
        shape[_axis(layer)] = -1
        return torch.where(live.view(shape), _noise(output.shape, draw), output)

    layers = [layer for layer in work.modules() if isinstance(layer, MIXING)]
    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(behind) for layer in layers]
    # what is not of floats stays as it is
    rows = [x[:1].expand(4 * len(SIZES), *x.shape[1:]) for x in inputs]
    work(*(_noise(x.shape, draw) if x.is_floating_point() else x for x in rows))
    for hook in hooks:
        hook.remove()
    return {layer: (high - low <= 1e-12 * high.abs(), low) for layer, (low, high) in ranges.items()}


def _noise(shape, draw):
    """Numbers of all SIZES, row by row, in the first half, and their negatives in the second."""
    half = torch.rand(((shape[0] + 1) // 2, *shape[1:]), generator=draw, dtype=torch.float64, device=draw.device) - 0.5
    sizes = torch.tensor(SIZES, device=draw.device).repeat(len(half) // len(SIZES) + 1)[: len(half)]
    half = (half + half.sign()) * sizes.view(-1, *[1] * (len(shape) - 1))
    return torch.cat([half, -half])[: shape[0]]


def _depthwise(layer):
    return isinstance(layer, CONVOLUTIONS) and 1 < layer.groups == layer.out_channels


def _padded(layer):
    return any(getattr(layer, "padding", ()))


def _axis(layer):
    """Where a layer's inputs and outputs have their channels."""
    return -1 if isinstance(layer, nn.Linear) else 1


# --- cutting -------------------------------------------------------------------------------------------------------


def _cut(graph, groups, arrivals):
    """Fold and cut off all units that no consumer reads or whose constant may go; whether there were any."""
    found = {id(group): _judged(graph, group, arrivals) for group in groups}
    for group in groups:
        dead = found[id(group)]
        group.removed |= dead
        for layer, own, roots in group.consumers:
            columns, (constant, value) = own[dead[roots]], arrivals[layer]
            shift = layer.weight.flatten(2).sum(2) if layer.weight.dim() > 2 else layer.weight
            shift = shift[:, columns] @ torch.where(constant, value, 0)[columns]
            layer.weight[:, columns] = 0
            if shift.any():
                tensor, sign = _shift_of(graph, layer)
                tensor.add_(sign * shift)
        for layer, own, roots in group.producers:
            layer.weight[own[dead[roots]]] = 0
    return any(dead.any() for dead in found.values())


def _judged(graph, group, arrivals):
    """The units of a group that can go now without a change: at every consumer unread, zero or foldable."""
    fine = ~group.removed
    for layer, own, roots in group.consumers:
        if layer not in arrivals:  # never called with what was traced
            return torch.zeros_like(fine)
        constant, value = arrivals[layer]
        foldable = not _padded(layer) and _shift_of(graph, layer) is not None
        goes = ~layer.weight.transpose(0, 1).flatten(1).any(1) | constant & ((value == 0) | foldable)
        fine[roots[~goes[own].cpu()]] = False
    return fine


def _shift_of(graph, layer):
    """The tensor that takes up a constant behind a layer, and its sign: the bias, or the mean of the one batch norm."""
    if layer.bias is not None:
        return layer.bias, 1
    behind = graph.module2node[layer].outputs
    if len(behind) == 1 and behind[0].type == KINDS.BN and behind[0].module.running_mean is not None:
        return behind[0].module.running_mean, -1
    return None


def _remove(graph, groups, keep_one):
    """Let Torch-Pruning slice the layers."""
    for group in groups:
        if group.removed.all():
            if not keep_one:
                raise ShrinkError(f"no unit left in {group.name!r}; prune less there or pass keep_one=True")
            group.removed[0] = False
        if group.removed.any():
            graph.get_pruning_group(*group.root, group.removed.nonzero().flatten().tolist()).prune()


# --- proof ---------------------------------------------------------------------------------------------------------


def _difference(model, small, inputs):
    """What is wrong with the outputs on the example and on 16 rows of noise, or nothing."""
    reference, draw = copy.deepcopy(model).double().eval(), torch.Generator(inputs[0].device).manual_seed(1)
    rows = [x[:1].expand(16, *x.shape[1:]) for x in inputs]
    noise = [torch.randn(x.shape, generator=draw, dtype=torch.float64, device=x.device) for x in rows]
    noise = tuple(n if x.is_floating_point() else x for n, x in zip(noise, rows, strict=True))
    for given in (inputs, noise):
        expected = tp.utils.flatten_as_list(reference(*given))
        try:
            found = tp.utils.flatten_as_list(small(*given))
        except RuntimeError as failure:
            return f"it fails ({str(failure).splitlines()[0]})"
        for a, b in zip(expected, found, strict=True):
            if a.shape != b.shape:
                return f"an output has the shape {tuple(b.shape)} instead of {tuple(a.shape)}"
            if not (error := (a - b).abs().max()) <= 1e-10 * a.abs().max():
                return f"an output differs by {error:.2g}"
    return None


def _double(x):
    return x.double() if x.is_floating_point() else x

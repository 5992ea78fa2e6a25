"""Masks: dicts of boolean tensors, True where the weight stays, by the names of the parameters."""

import torch

from .. import checks, models, shrinking
from ..models import prunable
from .options import ShareOptions, UnitsOptions


@torch.no_grad()
def magnitude(model, sparsity, *, scope="global"):
    """The mask that zeroes the given share of the smallest |w|, over all prunable weights or layer by layer.

    Other parameters of two axes or more (embeddings, scales) are in it, too: all True, they stay.
    """
    ws = prunable(model)
    if lost := [name for name, w in ws.items() if w.isnan().any()]:
        raise ValueError(f"{lost[0]!r} has weights that are NaN, of which none is smaller; train again, lr lower")
    others = [(name, p) for name, p in _matrices(model).items() if all(p is not w for w in ws.values())]
    return smallest(ws, sparsity, scope) | {name: torch.ones_like(p, dtype=torch.bool) for name, p in others}


def smallest(ws, sparsity, scope):
    """The mask that zeroes the given share of the smallest |w| of named tensors."""
    if ShareOptions(sparsity=sparsity, scope=scope).scope == "layer":
        return {name: _largest(w.abs().flatten(), sparsity).view(w.shape) for name, w in ws.items()}
    keep = _largest(torch.cat([w.abs().flatten() for w in ws.values()]), sparsity)
    parts = keep.split([w.numel() for w in ws.values()])
    return {name: part.view(w.shape) for (name, w), part in zip(ws.items(), parts, strict=True)}


def _largest(sizes, sparsity):
    """True for all but exactly ⌊sparsity·n⌋ of the entries, the smallest; ties go by position."""
    count = min(int(round(sparsity * len(sizes), 6)), len(sizes) - 1)  # 0.29 · 100 is 28.999999999999996
    if count <= 0:
        return torch.ones_like(sizes, dtype=torch.bool)
    threshold = sizes.kthvalue(count).values  # several times faster than sorting
    gone = sizes < threshold
    gone[(sizes == threshold).nonzero().flatten()[: count - int(gone.sum())]] = True
    return ~gone


def random(model, sparsity, *, scope="global"):
    """The mask that zeroes as many weights of each layer as `magnitude` does, drawn by chance: a control."""
    masks = magnitude(model, sparsity, scope=scope)
    return {name: m.flatten()[torch.randperm(m.numel()).to(m.device)].view(m.shape) for name, m in masks.items()}


@torch.no_grad()
def units(model, widths):
    """The mask that keeps `widths` units of each group, those with the largest Σ|w| coming in (arXiv 1608.08710)."""
    if (inner := models.unwrapped(model)) is not model:
        return {f"_orig_mod.{name}": mask for name, mask in units(inner, widths).items()}
    ws, groups, widths = prunable(model), models.groups(model), UnitsOptions(widths=widths).widths
    if len(groups) != len(widths) or not groups:
        raise ValueError(f"units takes a width for each of the {len(groups)} groups of the network, got {widths!r}")
    layers = [s.layer for group in groups for s in group.producers + group.depthwise + group.consumers]
    if left := [name for name in layers if f"{name}.weight" not in ws]:
        raise ValueError(f"units prunes whole units, part of whose weights, {left[0]}.weight, net.prunable leaves out")
    masks = {name: torch.ones_like(w, dtype=torch.bool) for name, w in ws.items()}
    for group, width in zip(groups, widths, strict=True):
        checks.number(f"units: the width of {group.name!r}", width, f"[1, {group.width}]", whole=True)
        made = [ws[f"{s.layer}.weight"].abs().flatten(1) for s in group.producers]
        sizes = sum(w.sum(1, dtype=torch.promote_types(w.dtype, torch.float32)) for w in made)  # float32 at least
        gone = torch.ones_like(sizes, dtype=torch.bool)
        gone[sizes.topk(width).indices] = False
        for step in group.producers + group.depthwise:
            masks[f"{step.layer}.weight"][gone] = False
        for step in group.consumers:
            shrinking.columns(masks, step, group)[:, gone] = False
    return masks


RULES = {"magnitude": magnitude, "random": random, "units": units}


@torch.no_grad()
def apply(model, masks):
    """Zero the weights that the masks leave out, in place, in frozen layers too."""
    ws = _masked(model, masks)
    for name, mask in masks.items():
        ws[name].masked_fill_(~mask.to(ws[name].device), 0)


def nonzero_masks(model):
    """The masks that are already in the weights: True where a weight is not zero."""
    return {name: w.detach() != 0 for name, w in models.weights(model).items()}


def hold(masks):
    """An `after_step` hook that keeps at zero the weights that the masks leave out, in the layers that training moves.

    One product over all layers, with masks of the weights' own type and memory format: far cheaper than `apply`. In a
    loop of your own call it before `zero_grad`, after which it holds layers that the step did not move, too.
    """
    bound = {}

    @torch.no_grad()
    def hook(model, step):
        if bound.get("model") is not model or step == 0 or models.replaced(bound["at"]):  # as by load_state_dict
            ws = _masked(model, masks)
            bound.update(model=model, ws=[ws[name] for name in masks])
            bound["masks"] = [torch.empty_like(ws[name]).copy_(mask) for name, mask in masks.items()]
            bound["at"] = [(*models.place(model, name), ws[name]) for name in masks]
        moved = models.trained(bound["ws"])
        ws, kept = ([t for t, moves in zip(bound[key], moved, strict=True) if moves] for key in ("ws", "masks"))
        if ws:
            torch._foreach_mul_(ws, kept)

    hook.masks = masks  # by which a checkpoint knows it
    return hook


def _matrices(model):
    """What a mask may be for by name: the prunable weights, and every other parameter of two axes or more."""
    return models.weights(model) | {name: p for name, p in model.named_parameters() if p.dim() >= 2}


def _masked(model, masks):
    """The weights by name, which the masks must fit."""
    ws = _matrices(model)
    if not isinstance(masks, dict):
        raise ValueError(f"masks are a dict of tensors by the names of weights, got {type(masks).__name__}")
    for name, mask in masks.items():
        if name not in ws:
            raise ValueError(f"a mask for {name!r}, which is no weight; known: {', '.join(ws)}")
        fits = torch.is_tensor(mask) and mask.dtype == torch.bool and mask.shape == ws[name].shape
        if not fits or (mask.is_meta and not ws[name].is_meta):
            what = f"{mask.dtype} {tuple(mask.shape)}" if torch.is_tensor(mask) else f"{mask!r:.40}"
            shape = tuple(ws[name].shape)
            raise ValueError(f"the mask of {name!r} must be a tensor of torch.bool and shape {shape}, got {what}")
    return ws

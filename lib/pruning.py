"""Masks: which weights go. A mask is a dict of boolean tensors, True where the weight stays."""

import torch

from lib import models


@torch.no_grad()
def magnitude(model, sparsity, *, scope="global"):
    """The mask that zeroes the given share of the smallest |w|, over all prunable weights or layer by layer."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity!r}")
    if scope not in ("global", "layer"):
        raise ValueError(f"unknown scope {scope!r}; known: global, layer")
    ws = models.weights(model)
    if scope == "layer":
        return {name: _largest(w.abs().flatten(), sparsity).view(w.shape) for name, w in ws.items()}
    keep = _largest(torch.cat([w.abs().flatten() for w in ws.values()]), sparsity)
    parts = keep.split([w.numel() for w in ws.values()])
    return {name: part.view(w.shape) for (name, w), part in zip(ws.items(), parts, strict=True)}


def _largest(sizes, sparsity):
    """True for all but exactly ⌊sparsity·n⌋ of the entries, the smallest; ties go by position."""
    keep = torch.ones_like(sizes, dtype=torch.bool)
    keep[sizes.argsort(stable=True)[: int(sparsity * len(sizes))]] = False
    return keep


@torch.no_grad()
def apply(model, masks):
    """Zero the weights that the masks leave out, in place."""
    ws = models.weights(model)
    for name, mask in masks.items():
        ws[name].mul_(mask)


def nonzero_masks(model):
    """The masks that are already in the weights: True where a weight is not zero."""
    return {name: w.detach() != 0 for name, w in models.weights(model).items()}


def hold(masks):
    """An `after_step` hook that keeps the masked weights at zero."""

    def hook(model, step):
        apply(model, masks)

    return hook

"""Losses of segmentation: instance ids (N, H, W) become three classes, in which touching objects stay apart."""

import torch
import torch.nn.functional as F

BOUNDARY_WEIGHT = 3.0  # boundary pixels are few, and a gap in them joins two objects


def regions(ids):
    """Classes of pixels: 0 background, 1 interior, 2 boundary; ids (N, H, W), 0 = none → int64 (N, H, W).

    The boundary is the outermost pixel of every object: one of the eight around it is background or another's.
    """
    maps = ids[:, None].float()  # exact: ids are small
    differs = (F.max_pool2d(maps, 3, 1, 1) != maps) | (-F.max_pool2d(-maps, 3, 1, 1) != maps)
    return ((maps > 0) * (1 + differs.long()))[:, 0]


def boundary(logits, ids):
    """Cross-entropy of (N, 3, H, W) logits against the regions of instance ids, boundary pixels weighted up."""
    weight = torch.tensor([1.0, 1.0, BOUNDARY_WEIGHT], device=logits.device)
    return F.cross_entropy(logits, regions(ids), weight=weight)


def boundary_dice(logits, ids):
    """`boundary` plus 1 − the soft Dice coefficient of interior and boundary together, of all pixels of the batch."""
    inside, true = 1 - logits.softmax(1)[:, 0], (ids > 0).float()
    overlap = 2 * (inside * true).sum() + 1
    return boundary(logits, ids) + 1 - overlap / (inside.sum() + true.sum() + 1)

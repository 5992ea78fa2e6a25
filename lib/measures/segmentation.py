"""Scores of segmentations: maps (H, W) of integers, 0 the background and one number per object."""

import numpy as np
import torch

from ..arguments import a_tensor, numbers, told
from ..checks import needing


def instances(mask):
    """Instance map of a bool mask (H, W): its 4-connected components, numbered from 1."""
    with needing("data"):
        from scipy import ndimage

    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind != "b":
        raise ValueError(f"instances: mask must be bools (H, W), got {mask.dtype} {mask.shape}")
    return ndimage.label(mask)[0]


@told(logits=a_tensor, smallest="whole [0, inf)")
def split(logits, *, smallest=5):
    """Instance maps of the logits (N, 3, H, W) of background, interior and boundary: a list of (H, W).

    A watershed on the interior's probability, in what is not background, from the connected interiors on; those of
    fewer than `smallest` pixels are specks, from which nothing is grown. ValueError: a logit is NaN.
    """
    with needing("data"):
        from scipy import ndimage
        from skimage.segmentation import watershed

    three_classes(logits)
    if logits.isnan().any():
        raise ValueError("split: logits are NaN, so that there is nothing to part; the network has diverged")
    maps = []
    wide = torch.promote_types(logits.dtype, torch.float32)  # NumPy knows no bfloat16
    for chances in logits.detach().softmax(1, dtype=wide).cpu().numpy():
        interior = chances[1]
        seeds = ndimage.label(interior > 0.5)[0]
        seeds[(np.bincount(seeds.ravel()) < smallest)[seeds]] = 0
        maps.append(watershed(-interior, seeds, mask=chances[0] < 0.5))
    return maps


@told(logits=a_tensor, ids=a_tensor)
def foreground_dice(logits, ids):
    """Mean Dice coefficient over images of what is not background: logits (N, 3, H, W), instance ids (N, H, W).

    NaN where a logit is.
    """
    three_classes(logits, ids)
    if logits.isnan().any():
        return float("nan")
    inside, true = (logits.softmax(1)[:, 0] < 0.5).flatten(1), (ids > 0).flatten(1)
    both, total = (inside & true).sum(1).double(), (inside.sum(1) + true.sum(1)).double()
    return torch.where(total > 0, 2 * both / total.clamp_min(1), 1.0).mean().item()


def three_classes(logits, ids=None):
    """ValueError: these are no logits (N, 3, H, W), or the maps are not those of as many images of that size."""
    if logits.ndim != 4 or logits.shape[1] != 3:
        raise ValueError(f"logits are (N, 3, H, W), background, interior and boundary, got {tuple(logits.shape)}")
    if ids is not None and ids.shape != logits[:, 0].shape:
        raise ValueError(f"maps {tuple(ids.shape)} do not fit logits {tuple(logits.shape)}")


def same_size(predicted, true):
    """Two maps as arrays. ValueError: they are no maps (H, W) of whole numbers from 0 on, or not of one size."""
    maps = [np.asarray(m) for m in (predicted, true)]
    one_size = maps[0].shape == maps[1].shape and maps[0].ndim == 2
    if not one_size or any(m.dtype.kind not in "biu" for m in maps):
        told = " and ".join(f"{m.dtype} {m.shape}" for m in maps)
        raise ValueError(f"maps are (H, W), of one size and of whole numbers, got {told}; instance_scores takes lists")
    if any(m.dtype.kind == "i" and m.min(initial=0) < 0 for m in maps):
        raise ValueError(f"maps have numbers from 0 on, 0 for none, got {min(m.min() for m in maps)}")
    return maps


def instance_scores(predicted, true):
    """Scores of lists of maps: means over images of dice, of ap at IoU 0.5 to 0.95 (ap_at: at each of them) and at 0.5.

    seg is the mean over all objects, NaN without any.
    """
    if not all(isinstance(maps, list | tuple | np.ndarray | torch.Tensor) for maps in (predicted, true)):
        kinds = " and ".join(type(maps).__name__ for maps in (predicted, true))
        raise ValueError(f"instance_scores: predicted and true must be lists of maps, got {kinds}")
    if not len(predicted) == len(true) > 0:
        raise ValueError(f"instance_scores: there must be a map for each, got {len(predicted)} and {len(true)}")
    steps = [precisions(p, t) for p, t in zip(predicted, true, strict=True)]
    at = np.mean(steps, axis=0)
    counts = [len(np.unique(np.asarray(t))) - bool((np.asarray(t) == 0).any()) for t in true]
    covered = [n * seg(p, t) for n, p, t in zip(counts, predicted, true, strict=True) if n]
    return {
        "dice": float(np.mean([dice(p, t) for p, t in zip(predicted, true, strict=True)])),
        "ap": float(at.mean()),
        "ap50": float(at[0]),
        "ap_at": at.tolist(),
        "seg": sum(covered) / sum(counts) if covered else float("nan"),
    }


def dice(predicted, true):
    """Dice coefficient of the foregrounds, 2|P ∩ T| / (|P| + |T|); 1 where both are empty."""
    p, t = (m > 0 for m in same_size(predicted, true))
    total = p.sum() + t.sum()
    return float(2 * (p & t).sum() / total) if total else 1.0


THRESHOLDS = tuple(t / 100 for t in range(50, 100, 5))


def average_precision(predicted, true, *, thresholds=THRESHOLDS):
    """Mean over thresholds of `precisions`: the score of the 2018 Data Science Bowl."""
    return float(np.mean(precisions(predicted, true, thresholds=thresholds)))


@told(thresholds=numbers("[0.5, 1)"))  # from 0.5 on no object can match two, so no assignment is solved
def precisions(predicted, true, *, thresholds=THRESHOLDS):
    """TP / (TP + FP + FN) at each threshold, an object being found when IoU > threshold; 1 where both are empty."""
    _, iou, p, t = _overlaps(predicted, true)
    found = [int((iou > threshold).sum()) for threshold in thresholds]
    return [tp / (len(p) + len(t) - tp) if len(p) + len(t) else 1.0 for tp in found]


def seg(predicted, true):
    """SEG of the Cell Tracking Challenge: mean IoU of each true object with the one covering over half of it.

    0 for an object that none covers so; NaN where there is no true object.
    """
    overlap, iou, _, t = _overlaps(predicted, true)
    return float(np.where(overlap > t / 2, iou, 0).sum(0).mean()) if len(t) else float("nan")


def _overlaps(predicted, true):
    """Pixels shared by each predicted and true object, their IoU, both (P, T), and the areas (P,) and (T,)."""
    predicted, true = same_size(predicted, true)
    p_ids, p = np.unique(predicted, return_inverse=True)
    t_ids, t = np.unique(true, return_inverse=True)
    table = np.bincount(p.ravel() * len(t_ids) + t.ravel(), minlength=len(p_ids) * len(t_ids))
    table = table.reshape(len(p_ids), len(t_ids))
    there = p_ids != 0, t_ids != 0
    overlap, p, t = table[np.ix_(*there)], table.sum(1)[there[0]], table.sum(0)[there[1]]
    return overlap, overlap / np.maximum(p[:, None] + t - overlap, 1), p, t

"""Scores of segmentations: maps (H, W) of integers, 0 the background and one number per object."""

import numpy as np
from scipy import ndimage


def instances(mask):
    """Instance map of a bool mask (H, W): its 4-connected components, numbered from 1."""
    return ndimage.label(np.asarray(mask))[0]


def dice(predicted, true):
    """Dice coefficient of the foregrounds, 2|P ∩ T| / (|P| + |T|); 1 where both are empty."""
    p, t = np.asarray(predicted) > 0, np.asarray(true) > 0
    total = p.sum() + t.sum()
    return float(2 * (p & t).sum() / total) if total else 1.0


def average_precision(predicted, true, *, thresholds=tuple(t / 100 for t in range(50, 100, 5))):
    """Mean over thresholds of TP / (TP + FP + FN), an object being found when IoU > threshold.

    The score of the 2018 Data Science Bowl; 1 where both maps are empty. From 0.5 on no object
    can match two, so no assignment is solved.
    """
    if min(thresholds) < 0.5:
        raise ValueError(f"matches are unique from IoU 0.5 on, got threshold {min(thresholds)}")
    overlap, p, t = _overlaps(predicted, true)
    iou = overlap / np.maximum(p[:, None] + t - overlap, 1)
    found = [int((iou > threshold).sum()) for threshold in thresholds]
    return float(np.mean([tp / (len(p) + len(t) - tp) if len(p) + len(t) else 1.0 for tp in found]))


def seg(predicted, true):
    """SEG of the Cell Tracking Challenge: mean IoU of each true object with the one covering over half of it.

    0 for an object that none covers so; NaN where there is no true object.
    """
    overlap, p, t = _overlaps(predicted, true)
    iou = overlap / np.maximum(p[:, None] + t - overlap, 1)
    return float(np.where(overlap > t / 2, iou, 0).sum(0).mean()) if len(t) else float("nan")


def _overlaps(predicted, true):
    """Pixels shared by each predicted and true object (P, T), and the areas (P,) and (T,)."""
    p_ids, p = np.unique(np.asarray(predicted), return_inverse=True)
    t_ids, t = np.unique(np.asarray(true), return_inverse=True)
    table = np.bincount(p.ravel() * len(t_ids) + t.ravel(), minlength=len(p_ids) * len(t_ids))
    table = table.reshape(len(p_ids), len(t_ids))
    p, t = p_ids != 0, t_ids != 0
    return table[np.ix_(p, t)], table.sum(1)[p], table.sum(0)[t]

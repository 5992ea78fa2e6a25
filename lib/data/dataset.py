"""What a loaded data set is: three parts of tensors, normalised by the first, with a fingerprint."""

import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .files import DataError
from .sources import SOURCES, VARIANTS

SEED = 0  # of every split drawn here; RandomState, because its stream is frozen for good


class Part(NamedTuple):
    x: Tensor
    y: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Train, validation and test part of one data set, as in-memory tensors.

    x: float32, images (N, C, H, W) or tables (N, F), normalised by the training part.
    y: class ids int64 (N,); standardised targets float32 (N, 1); instance ids int16 (N, H, W), 0 = none.
    `x * std + mean` is in units of the source (images: pixel / 255), `y * target_std + target_mean` likewise.
    """

    name: str
    task: str  # classification, regression or segmentation
    train: Part
    validation: Part
    test: Part
    outputs: int  # classes; 1 for regression; 3 (background, interior, boundary) for segmentation
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    target_mean: float
    target_std: float
    sha256: str  # of the decoded tensors before normalisation
    variant: str
    source: str

    def to(self, device):
        """The same data set with its tensors on `device`."""
        moved = {k: Part(*(t.to(device) for t in getattr(self, k))) for k in ("train", "validation", "test")}
        return replace(self, mean=self.mean.to(device), std=self.std.to(device), **moved)

    def __repr__(self):
        sizes = " / ".join(f"{len(p.x):,}" for p in (self.train, self.validation, self.test))
        shape = tuple(self.train.x.shape[1:])
        return f"{self.name}: {self.task}, {sizes} (train / validation / test) of {shape}, {self.variant}"


def pack(name, task, parts, *, classes=(), vouched=""):
    """Fingerprint and normalise decoded arrays: three (x, y) pairs → `Dataset`.

    x is uint8 (images) or float64 (tables); y int64 classes, float64 (N, 1) targets or int16 instances.
    `vouched`: the variant that the checksums of the files vouch for, or nothing.
    """
    sha256 = fingerprint(parts)
    mean, std = _image_statistics(parts[0][0]) if parts[0][0].ndim == 4 else _table_statistics(parts[0][0])
    target_mean, target_std = 0.0, 1.0
    tensors = [Part(_normalised(x, mean, std), torch.tensor(y)) for x, y in parts]
    if task == "regression":
        target_mean, target_std = (s.item() for s in _table_statistics(parts[0][1]))
        tensors = [Part(x, ((y - target_mean) / target_std).float()) for x, y in tensors]
    elif task == "classification" and max(p.y.max() for p in tensors) >= len(classes):
        raise DataError(f"{name}: a label exceeds its {len(classes)} classes; its files are damaged")
    return Dataset(
        name,
        task,
        *tensors,
        outputs={"classification": len(classes), "regression": 1, "segmentation": 3}[task],
        classes=tuple(classes),
        mean=torch.tensor(mean).float(),
        std=torch.tensor(std).float(),
        target_mean=target_mean,
        target_std=target_std,
        sha256=sha256,
        variant=VARIANTS.get(sha256) or vouched or f"unknown: {sha256[:12]}",
        source=SOURCES[name.split("/")[0]],
    )


def fingerprint(parts):
    """sha256 of dtypes, shapes and little-endian bytes: the same on every machine and torch version."""
    digest = hashlib.sha256()
    for array in (a for part in parts for a in part):
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def carve(n, *shares, labels=None):
    """Divide range(n) by chance into sorted index arrays: the rest first, then one for each share of n.

    With `labels` (n,) each class is divided alike, so that every part keeps the class shares.
    """
    rng, parts = np.random.RandomState(SEED), [[] for _ in range(len(shares) + 1)]
    groups = [np.arange(n)] if labels is None else [np.flatnonzero(labels == k) for k in np.unique(labels)]
    for group in groups:
        group, end = rng.permutation(group), len(group)
        for k, share in enumerate(shares, 1):
            start = end - round(len(group) * share)
            parts[k].append(group[start:end])
            end = start
        parts[0].append(group[:end])
    return [np.sort(np.concatenate(p)) for p in parts]


def _image_statistics(x):
    """Mean and standard deviation of pixel / 255 per channel, float64 (C, 1, 1), from exact integer sums."""
    count = x.size // x.shape[1]
    mean = x.sum((0, 2, 3), dtype=np.int64) / count
    std = np.sqrt(np.einsum("nchw,nchw->c", x, x, dtype=np.int64) / count - mean**2)
    return (mean / 255).reshape(-1, 1, 1), (np.where(std > 0, std, 255) / 255).reshape(-1, 1, 1)


def _table_statistics(x):
    """Mean and standard deviation per column, float64 (F,); a constant column gets 1 for its deviation."""
    std = x.std(0)
    return x.mean(0), np.where(std > 1e-12 * np.abs(x).max(0), std, 1.0)


def _normalised(x, mean, std):
    """(x − mean) / std as float32; images in place, because they are large."""
    if x.dtype == np.uint8:
        return torch.tensor(x).float().sub_(torch.tensor(mean * 255).float()).div_(torch.tensor(std * 255).float())
    return torch.tensor((x - mean) / std).float()

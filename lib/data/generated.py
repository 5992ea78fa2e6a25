"""Seeded image generators, for runs without any download: cells with instance masks, chest-CT-like slices.

Image i depends on i alone, so that a smaller set is made of the same images. Pixels are rounded to bytes:
this hides the last bits, in which exp and cos differ between machines.
"""

from itertools import pairwise

import numpy as np

from .dataset import SEED, pack
from .files import DataError

SIDE = 64
MOST = 100_000  # images of a set; what is in memory has an end
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE].astype(np.float64)


def cells(name, *, size=None):
    """Fluorescence-like nuclei: `size` (200) of (1, 64, 64) with instance ids, split 60 / 20 / 20 %."""
    images, ids = zip(*(_cells(rng) for rng in _streams(name, 200 if size is None else size)), strict=True)
    return _packed(name, "segmentation", images, np.stack(ids), ("background", "nucleus"), size)


def ct_slices(name, *, size=None):
    """Chest-CT-like slices: `size` (600) of (1, 64, 64), every second one with opacities in the lungs."""
    images = [_slice(rng, ill=i % 2) for i, rng in enumerate(_streams(name, 600 if size is None else size))]
    return _packed(name, "classification", images, np.arange(len(images)) % 2, ("clear", "opacities"), size)


# functions of one variable on [−1, 1], for fits
FUNCTIONS = {
    "sine": lambda x: np.sin(3 * np.pi * x) * (1 + x) / 2,
    "runge": lambda x: 1 / (1 + 25 * x * x),
    "steps": lambda x: np.floor(2.5 * x + 0.5) / 2,
    "bump": lambda x: np.abs(x) + np.exp(-40 * (x - 0.4) ** 2),
}
NOISE = 0.1


def function(name, *, split=0):
    """y = f(x) + noise of σ = 0.1: 150 points for training, 75 for validation, and 500 of f itself as the test part.

    split: the seed of points and noise.
    """
    if type(split) is not int or not 0 <= split < 2**32:
        raise DataError(f"{name}: split={split!r}; the seed of its points is an integer of at least 0, below 2³²")
    rng, f = np.random.RandomState((SEED, split)), FUNCTIONS[name.removeprefix("function/")]
    parts = []
    for size, noise in ((150, NOISE), (75, NOISE), (500, 0.0)):
        x = np.round(2 * rng.random_sample((size, 1)) - 1, 6)  # rounded as the last bits differ between machines
        parts.append((x, np.round(f(x) + noise * rng.standard_normal((size, 1)), 6)))
    return pack(name, "regression", parts, vouched="generated")


def _streams(name, size):
    if type(size) is not int or not 10 <= size <= MOST:
        raise DataError(f"{name}: size={size!r}; the number of images is an integer of at least 10, at most {MOST:,}")
    return (np.random.RandomState((SEED, i)) for i in range(size))


def _packed(name, task, images, y, classes, size):
    """Split in the order of generation, which is random already; only the default size has a known sha256."""
    x, y = np.stack(images)[:, None], y.astype(np.int16 if task == "segmentation" else np.int64)
    parts = [(x[a:b], y[a:b]) for a, b in pairwise((0, len(x) * 3 // 5, len(x) * 4 // 5, len(x)))]
    return pack(name, task, parts, classes=classes, vouched="generated" if size else "")


def _ellipse(y, x, height, width, angle=0.0):
    """Squared elliptic distance from a centre, (64, 64): below 1 inside."""
    dy, dx, c, s = ROWS - y, COLUMNS - x, np.cos(angle), np.sin(angle)
    return ((dy * c + dx * s) / height) ** 2 + ((dx * c - dy * s) / width) ** 2


def _cells(rng):
    ids, light = np.zeros((SIDE, SIDE), np.int16), np.zeros((SIDE, SIDE))
    for y, x, height, width, angle, gain in rng.random_sample((5 + int(rng.random_sample() * 9), 6)):
        distance = _ellipse(y * SIDE, x * SIDE, 4 + 5 * height, 4 + 5 * width, np.pi * angle)
        inside = distance < 1
        if (ids[inside] > 0).mean() > 0.15:  # nuclei touch, they hardly overlap
            continue
        ids[inside & (ids == 0)] = ids.max() + 1
        light = np.maximum(light, (0.35 + 0.65 * gain) * np.clip(1.8 - 1.3 * distance, 0, 1))
    haze = 10 + 12 * _ellipse(*(rng.random_sample(2) * SIDE), SIDE, SIDE)
    texture, noise = rng.standard_normal((2, SIDE, SIDE))
    return _bytes(haze + 170 * light * (1 + 0.15 * texture) + 6 * noise), ids


def _slice(rng, *, ill):
    y, x = SIDE / 2 + 3 * rng.standard_normal(2)
    scale, tilt = 0.9 + 0.2 * rng.random_sample(), 0.08 * rng.standard_normal()
    sides = [_ellipse(y - 1, x + s * 12 * scale, 14 * scale, 9 * scale, tilt + s * 0.15) for s in (-1, 1)]
    lungs = np.minimum(*sides) < 1
    air = 35 + 15 * rng.random_sample()
    image = np.where(lungs, air, np.where(_ellipse(y, x, 22 * scale, 29 * scale, tilt) < 1, 150.0, 5.0))
    image[_ellipse(y + 16 * scale, x, 4, 4) < 1] = 230  # the spine
    for v, u, r in rng.random_sample((14, 3)):  # vessels: small and sharp, in both classes
        image[lungs & (_ellipse(v * SIDE, u * SIDE, 0.8 + r, 0.8 + r) < 1)] = 120
    for v, u, r, gain in rng.random_sample((2 + int(2 * rng.random_sample()), 4)) if ill else ():
        centre = x + (12 if u > 0.5 else -12) * scale + 8 * (r - 0.5)  # opacities: large and soft
        haze = np.exp(-_ellipse(y + 20 * (v - 0.5), centre, 3 + 4 * r, 3 + 4 * r))
        image += lungs * (25 + 40 * gain) * haze
    return _bytes(image + 12 * rng.standard_normal((SIDE, SIDE)))


def _bytes(image):
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)

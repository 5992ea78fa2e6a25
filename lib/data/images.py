"""Benchmarks of small images: MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100, read from the official files."""

import gzip
from pathlib import Path

import numpy as np

from .dataset import carve, pack
from .files import whole
from .sources import PATHS

LINES = Path(__file__).with_name("classes.txt").read_text("ascii").splitlines()
CLASSES = {name: names for name, *names in (line.split(", ") for line in LINES)}


def mnist(name, *, files):
    """Decode MNIST or Fashion-MNIST: 55,000 / 5,000 / 10,000 of (1, 28, 28); validation is 1/12 of the 60,000."""
    found, variant = files(PATHS[name])
    x, y, x_test, y_test = (_idx(file) for file in found)
    return _carved(name, x[:, None], y, (x_test[:, None], y_test), share=1 / 12, variant=variant)


def _idx(file):
    """Decode a gzipped idx file: two zero bytes, the type (8: uint8), the number of axes, their sizes, the values.

    torchvision's parser wants an unpacked file, which nothing would check.
    """
    with whole(file):
        raw = gzip.decompress(file.payload)
        if raw[:3] != b"\0\0\x08":
            raise ValueError("it is no idx file of bytes")
        shape = np.frombuffer(raw, ">i4", raw[3], 4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def cifar(name, *, files):
    """Decode CIFAR-10, or CIFAR-100 with its fine labels: 45,000 / 5,000 / 10,000 of (3, 32, 32).

    validation is 1/10 of the 50,000. It is the binary version that is read: torchvision reads the Python pickles.
    """
    found, variant = files(PATHS[name])
    *batches, test = (_records(file, labels=1 if name == "cifar10" else 2) for file in found)
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return _carved(name, x, y, test, share=0.1, variant=variant)


def _records(file, *, labels):
    """Decode records of `labels` label bytes, of which the last counts, and 3,072 pixel bytes, channels first."""
    with whole(file):
        records = np.frombuffer(file.payload, np.uint8).reshape(-1, labels + 3072)
        return records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1]


def _carved(name, x, y, test, *, share, variant):
    train, validation = carve(len(x), share)
    parts = [(a, b.astype(np.int64)) for a, b in ((x[train], y[train]), (x[validation], y[validation]), test)]
    return pack(name, "classification", parts, classes=CLASSES[name], vouched=variant)

"""Tables: the UCI regression sets with their standard splits, and what scikit-learn carries along."""

import numpy as np

from ..checks import needing
from .dataset import carve, pack
from .files import DataError, whole
from .sources import UCI_SPLITS


def uci(name, *, files, split=0):
    """Standard split `split` of a UCI regression table; a tenth of its training rows is validation."""
    table = name.removeprefix("uci/")
    if type(split) is not int or not 0 <= split < UCI_SPLITS[table]:
        raise DataError(f"{name}: split={split!r}; its splits are the integers 0 to {UCI_SPLITS[table] - 1}")
    stems = ("data", "index_features", "index_target", f"index_train_{split}", f"index_test_{split}")
    found, variant = files([f"UCI/{table}/data/{stem}.txt" for stem in stems])
    rows, (features, target, train, test) = _numbers(found[0]), map(_indices, found[1:])
    fitted, validation = (train[k] for k in carve(len(train), 0.1))
    with whole(found[0]):
        parts = [(rows[np.ix_(k, features)], rows[np.ix_(k, target)]) for k in (fitted, validation, test)]
    return pack(name, "regression", parts, vouched=variant)


def _numbers(file):
    with whole(file):
        if not any(map(str.strip, lines := file.payload.decode("ascii").splitlines())):
            raise ValueError("it is empty")
        rows = np.loadtxt(lines, ndmin=2)
        if len(odd := np.argwhere(~np.isfinite(rows))):
            row, column = odd[0]
            raise ValueError(f"row {row}, column {column}, counted from 0, is {rows[row, column]}")
        return rows


def _indices(file):
    found = _numbers(file).ravel()
    with whole(file):
        if (found < 0).any() or (found % 1).any():
            raise ValueError("it has an index that is no whole number from 0 on")
    return found.astype(np.int64)


def bundled(name):
    """digits (1,797 of (1, 8, 8)), breast_cancer (569 of 30), wine (178 of 13) or diabetes (442 of 10).

    Split 60 / 20 / 20 %, each class alike; diabetes is a regression, its features in their own units.
    """
    with needing("data"):
        from sklearn import datasets  # here, for the other sets need not wait for its import

    if name == "diabetes":
        table = datasets.load_diabetes(scaled=False)
        y = table.target[:, None].astype(np.float64)
        return pack(name, "regression", [(table.data[k], y[k]) for k in carve(len(y), 0.2, 0.2)])
    table = getattr(datasets, f"load_{name}")()
    x = table.images[:, None].astype(np.uint8) if name == "digits" else table.data
    y = table.target.astype(np.int64)
    parts = [(x[k], y[k]) for k in carve(len(y), 0.2, 0.2, labels=y)]
    return pack(name, "classification", parts, classes=[str(c) for c in table.target_names])

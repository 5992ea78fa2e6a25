"""Named data sets as in-memory tensors, split train / validation / test; what is missing is downloaded."""

import os
from functools import partial

from . import files, generated, images, medical, tables
from .dataset import Dataset, Part
from .files import DataError
from .sources import UCI_SPLITS

EMBEDDED = dict.fromkeys(("breast_cancer", "diabetes", "digits", "wine"), tables.bundled)
GENERATED = {"cells": generated.cells, "ct_slices": generated.ct_slices}
FITS = {f"function/{f}": generated.function for f in generated.FUNCTIONS}
ON_DISK = {"mnist": images.mnist, "fashion_mnist": images.mnist, "cifar10": images.cifar, "cifar100": images.cifar}
ON_DISK |= {"nuclei": medical.nuclei, "covid_ct": medical.covid_ct}
UCI = {f"uci/{table}": tables.uci for table in UCI_SPLITS}
KNOWN = dict(sorted((EMBEDDED | GENERATED | FITS | ON_DISK | UCI).items()))


def load(name, *, root="data", download=True, split=0, size=None):
    """Load the data set `name` as a `Dataset`; files that the folder `root` lacks are downloaded first.

    root: the folder of the data files; by default the folder `data` of the current directory. download: False forbids
    downloads. split: which standard split of a UCI table, or the seed of a function's points. size: how many images to
    generate (cells, ct_slices). DataError: what is wrong and what to do.
    """
    if not isinstance(name, str) or name not in KNOWN:
        raise DataError(f"unknown data set {name!r}; known: {', '.join(KNOWN)}")
    if not isinstance(root, str | os.PathLike) or type(download) is not bool:
        raise DataError(f"{name}: root={root!r}, download={download!r}; root is a folder, download True or False")
    if split != 0 and name not in UCI and name not in FITS:
        raise DataError(f"{name}: split={split!r}, but only uci tables and functions have several; leave it at 0")
    if size is not None and name not in GENERATED:
        raise DataError(f"{name}: size={size!r}, but only {' and '.join(GENERATED)} are generated; leave it out")
    options = {"size": size} if name in GENERATED else {"split": split} if name in UCI or name in FITS else {}
    if name in UCI or name in ON_DISK:
        options["files"] = partial(files.read, name, root=root, download=download)
    return KNOWN[name](name, **options)

"""Data sets as configurations name them."""

import dataclasses
import json
from functools import lru_cache

import torch

from companion import settings
from lib import data
from lib.data.sources import PATHS


def load(options):
    """A data set as a configuration names it: scaling "unit" leaves images at pixel/255; see `configuration.Data`."""
    return _load(json.dumps(options, sort_keys=True))


@lru_cache(maxsize=2)  # the next run mostly has the same
def _load(text):
    options = json.loads(text)
    scaling, relabel, subset = (options.pop(key) for key in ("scaling", "relabel", "subset"))
    split = _found(options)
    if scaling == "unit":
        split = _changed(split, lambda x: x * split.std + split.mean)
    if relabel is not None:
        order = torch.randperm(split.train.x[0].numel(), generator=torch.Generator().manual_seed(relabel))
        split = _changed(split, lambda x: x.flatten(1)[:, order].view(x.shape))
    if subset is not None:
        if subset > len(split.train.x):
            raise ValueError(f"subset {subset:,} is more than the {len(split.train.x):,} training examples there are")
        split = dataclasses.replace(split, train=type(split.train)(*(t[:subset] for t in split.train)))
    return split


def _found(options):
    """A data set from the companion's folder; whoever lacks it learns how the companion is told where it is."""
    try:
        return data.load(root=settings.data_folder(), download=settings.download(), **options)
    except data.DataError as error:
        if str(options["name"]) not in PATHS:
            raise
        raise data.DataError(f"{error} Here {settings.DATA}.") from None


def _changed(split, change):
    parts = {name: getattr(split, name) for name in ("train", "validation", "test")}
    return dataclasses.replace(split, **{name: part._replace(x=change(part.x)) for name, part in parts.items()})

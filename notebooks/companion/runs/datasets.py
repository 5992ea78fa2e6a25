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


def tell_apart(records, *, here=None):
    """Say where records of one data set were made with different data, or with other data than `here`.

    A run is named by its configuration alone, so that two values of COMPANION_DATA share the store.
    """
    seen = {}
    for record in records:
        if record and "data_sha256" in (made := record["provenance"]):
            of = record["config"]["data"]
            variants = seen.setdefault((of["name"], of.get("split", 0), of.get("size")), {})
            if here:
                variants[here.sha256] = f"{here.variant} (here)"
            variants.setdefault(made["data_sha256"], f"{made['data_variant']} (as record {record['id']})")
    for (name, *_), variants in seen.items():
        if len(variants) > 1:
            told = "; ".join(variants.values())
            print(f"{name}: these records were made with different data: {told}. {settings.DATA}")


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

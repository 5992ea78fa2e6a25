"""What only the network and the data can tell of a configuration, told before anything is trained or written."""

import contextlib
import dataclasses
import json
from functools import lru_cache

import torch

from companion.runs import execution, timing
from companion.runs.configuration import Stage, Variant
from companion.runs.datasets import load
from companion.runs.own import FUNCTIONS
from lib import models, pruning


def rehearse(run):
    """Take a step of every stage or variant with two examples and a fresh network. ValueError: what cannot be run."""
    config = run.config
    if config["kind"] != "own":
        kept = {key: config[key] for key in ("kind", "data", "model", "stages", "variants") if key in config}
        _rehearsed(json.dumps(kept, sort_keys=True))
    elif config["code"] not in FUNCTIONS:
        raise ValueError(f"{run}: nothing here is called {config['code']!r}; first run the cell that has runs.own(…)")


@lru_cache(maxsize=512)  # seeds differ, but not in what can be run
def _rehearsed(text):
    config = json.loads(text)
    split = _pair(load(config["data"]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, given in config.get("variants", {}).items():
            with naming(f"variant {name!r}"):
                _variant(config["model"], split, Variant.of(given, "variant"))
        shrunk, seen, last = {}, set(), None
        for given in config.get("stages", ()):
            stage = Stage.of(given, "stage")
            start, last = stage.start or last, stage.name
            shrunk[stage.name] = stage.shrunk or shrunk.get(start, False)
            alike = {k: v for k, v in given.items() if k not in ("name", "from", "steps", "log_points")}
            alike = json.dumps([alike, bool(stage.steps), shrunk.get(start)])
            if alike in seen:
                continue
            seen.add(alike)
            with naming(f"stage {stage.name!r}"):
                _stage(config["model"], split, stage, whole=not shrunk.get(start, False))


@contextlib.contextmanager
def naming(what):
    """Say in whose options an error lies."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{what}: {error}") from error


def _pair(split):
    """A data set of two examples a part, the largest class among them; and how many test images there are."""
    largest = int(split.train.y.flatten(1).amax(1).argmax()) if split.train.y.ndim > 1 else int(split.train.y.argmax())
    rows = torch.tensor([0 if largest else len(split.train.y) - 1, largest])
    parts = {name: getattr(split, name) for name in ("validation", "test")}
    parts = {name: type(part)(*(t[:2] for t in part)) for name, part in parts.items()}
    train = type(split.train)(*(t[rows] for t in split.train))
    return dataclasses.replace(split, train=train, **parts), len(split.test.x)


def _variant(network, split, variant):
    variant = dataclasses.replace(variant, compile=False)
    if variant.only == "penalty":
        timing.penalty_alone(models.build(**network), variant)(0)
    else:
        timing.step_of(models.build(**network), split[0].train, variant)(0)


def _stage(network, split, stage, *, whole):
    """whole: it starts from a network of the configuration's widths."""
    (few, images), model = split, models.build(**network)
    if whole and (stage.prune or {}).get("rule") == "units":
        pruning.units(model, stage.prune["widths"])
    if stage.pictures and (few.task != "segmentation" or max(stage.pictures) >= images):
        raise ValueError(f"pictures are of a segmentation's test images, 0 to {images - 1}, got {stage.pictures!r}")
    if stage.images and few.outputs != 2:
        raise ValueError(f"images are kept where there are two classes, and here are {few.outputs} outputs")
    if stage.steps:
        short = dataclasses.replace(stage, batch=2, compile=False, steps=max(2, stage.steps), pictures=None)
        execution.train_stage(model, few, short, seed=0, until=1)

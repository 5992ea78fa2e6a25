"""What a run does: a chain of stages, each a row, or a timing of training steps."""

import contextlib
import dataclasses
import hashlib
import inspect
import os
import time

import torch

from lib import data, measures, models, pruning, shrinking, training
from lib.runs.configuration import VARIANT, identity, resolve
from lib.runs.provenance import provenance

PARTS = ("train", "validation", "test")


def execute(config, live):
    """The record of a resolved configuration; checkpoints are kept in the folder `live`."""
    started, device = time.perf_counter(), "cuda" if torch.cuda.is_available() else "cpu"
    if config["kind"] == "own":
        rows, status, message, about = FUNCTIONS[config["code"]](config["seed"], **config["options"]), "done", "", {}
    else:
        split = load(config["data"]).to(device)
        rows, status, message = {"chain": _chain, "timing": _timing}[config["kind"]](config, split, device, live)
        about = {"data_sha256": split.sha256, "data_variant": split.variant}
    return {
        "id": identity(config),
        "experiment": config["experiment"],
        "seed": config["seed"],
        "status": status,
        "message": message,
        "config": config,
        "rows": rows,
        "wall_s": sum(row.get("train_s", 0) for row in rows) or time.perf_counter() - started,
        "provenance": provenance(device) | about,
    }


def load(options):
    """A data set as a configuration names it; scaling "unit" leaves images at pixel/255."""
    options = dict(options)
    scaling = options.pop("scaling")
    split = data.load(options.pop("name"), **options)
    if scaling == "unit":
        parts = {k: getattr(split, k) for k in ("train", "validation", "test")}
        return dataclasses.replace(split, **{k: p._replace(x=p.x * split.std + split.mean) for k, p in parts.items()})
    return split


FUNCTIONS = {}  # by the names that `own` gives


def own(function, *helpers, **options):
    """The part of a configuration whose run is function(seed, **options) → rows, for what is neither chain nor timing.

    A row is a dict of plain data, and so are the options. The sources of the function and of its helpers (functions,
    too) are part of what the run is: when they change, it is another one.
    """
    source = "".join(map(inspect.getsource, (function, *helpers)))
    code = f"{function.__name__}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    FUNCTIONS[code] = function
    return {"kind": "own", "code": code, "options": options}


# --- chains --------------------------------------------------------------------------------------------------------


def _chain(config, split, device, live):
    rows, weights, last = [], {}, None
    for k, stage in enumerate(config["stages"]):
        _seed(config, k)
        name, start = stage["name"], stage["from"] or last
        model = models.build(**config["model"]).to(device)
        if start:
            model.load_state_dict(weights[start])
        saved = training.load_if_whole(live / f"{name}.pt")
        if saved is None:
            row = _stage(model, split, stage, config["seed"], live / f"{name}.part.pt")
            saved = {"row": row, "weights": model.state_dict()}
            training.save_atomically(saved, live / f"{name}.pt")
        weights[name], last = saved["weights"], name
        rows.append(saved["row"])
        if rows[-1]["status"] == "diverged":
            return rows, "diverged", f"{name}: {rows[-1]['message']}"
    return rows, "done", ""


def _seed(config, stage):
    """Every stage has random numbers of its own, so that a chain taken up in the middle ends like one that was not."""
    torch.manual_seed(config["seed"] * 1009 + stage)


def _stage(model, split, stage, seed, checkpoint, until=None):
    if stage["prune"]:
        pruning.apply(model, pruning.magnitude(model, **stage["prune"]))
    hooks = [pruning.hold(pruning.nonzero_masks(model))] if stage["hold"] else []
    if stage["zeroing"]:
        hooks.append(pruning.StochasticZeroing(model, steps=stage["steps"], seed=seed, **stage["zeroing"]))
    options = {k: stage[k] for k in VARIANT if k in stage}
    history = training.History()
    if stage["steps"]:
        history = training.fit(
            model,
            split,
            steps=stage["steps"],
            seed=seed,
            after_step=hooks,
            checkpoint=checkpoint,
            watch=lambda m: {"validation": score(m, split, split.validation, stage["precision"])},
            until=until,
            label=stage["name"],
            **options,
        )
    row = {"stage": stage["name"], "status": history.status, "message": history.message, "train_s": history.seconds}
    row |= {"steps": history.step, "curves": history.curves}
    return row if history.status != "done" else row | measure(model, split)


def score(model, split, part, precision="auto"):
    """Accuracy, or the RMSE in the table's units, of a model on one part."""
    outputs = training.predict(model, part.x, precision=precision)
    if split.task == "regression":
        return measures.rmse(outputs, part.y) * split.target_std
    return measures.accuracy(outputs, part.y)


def measure(model, split):
    """The row of a finished stage: scores on the three parts (the only place that reads the test part), and sizes.

    In fp32 whatever the stage was trained in: that is what is saved, shrunk and taken home.
    """
    name = "rmse" if split.task == "regression" else "accuracy"
    scores = {f"{part}_{name}": score(model, split, getattr(split, part), "fp32") for part in PARTS}
    return scores | {
        "parameters": measures.parameters(model),
        "nonzero": measures.nonzero(model),
        "sparsity": measures.sparsity(model),
        "alive": list(shrinking.alive(model).values()),
        "alive_1e-3": shrinking.alive_1e3(model),
        "sparsity_1e-3": shrinking.sparsity_1e3(model),
    }


def replay(record, steps):
    """Train the first `steps` of a record's first stage again and return the curves, to hold against the record's."""
    config = resolve(record["config"])  # options that are younger than the record are at their defaults
    split = load(config["data"])
    _seed(config, 0)
    model = models.build(**config["model"])
    return _stage(model, split, config["stages"][0], config["seed"], None, until=steps)["curves"]


# --- timing --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def pinned():
    """One thread on one processor, as far as the system lets us."""
    threads, processors = torch.get_num_threads(), getattr(os, "sched_getaffinity", lambda _: set())(0)
    torch.set_num_threads(1)
    if processors:
        os.sched_setaffinity(0, {max(processors)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if processors:
            os.sched_setaffinity(0, processors)


def _timing(config, split, device, live):
    """Steps per second of every variant: one pinned thread, blocks of steps interleaved, a first round unrecorded."""
    steppers = {}
    for name, variant in config["variants"].items():
        _seed(config, 0)
        options = {k: v for k, v in variant.items() if k != "block"}
        model = models.build(**config["model"]).to(device)
        steppers[name] = training.stepper(model, split.train, steps=10**9, **options)[0]
    with pinned():
        blocks = {name: variant["block"] for name, variant in config["variants"].items()}
        seconds = interleaved(steppers, config["rounds"], blocks)
    return [{"variant": name, "step_s": times} for name, times in seconds.items()], "done", ""


def interleaved(steppers, rounds, blocks):
    """Seconds per step, a list of rounds for each of a dict of functions of the step; they take turns, a block each.

    A first round warms up and is left out.
    """
    seconds = {name: [] for name in steppers}
    for k in training.progress(range(rounds + 1), desc="timing"):
        for name, step in steppers.items():
            started = time.perf_counter()
            for j in range(blocks[name]):
                step(k * blocks[name] + j)
            seconds[name].append((time.perf_counter() - started) / blocks[name])
    return {name: times[1:] for name, times in seconds.items()}

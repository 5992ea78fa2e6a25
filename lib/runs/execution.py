"""What a run does: a chain of stages, each a row, or a timing of training steps."""

import contextlib
import dataclasses
import json
import os
import time
from functools import lru_cache

import torch

from lib import baselines, data, measures, models, pruning, regularizers, shrinking, training
from lib.runs.configuration import VARIANT, identity, resolve
from lib.runs.provenance import provenance

PARTS = ("train", "validation", "test")


def execute(config, live):
    """The record of a resolved configuration; checkpoints are kept in the folder `live`."""
    started, device = time.perf_counter(), "cuda" if torch.cuda.is_available() else "cpu"
    split = load(config["data"]).to(device)
    rows, status, message = {"chain": _chain, "timing": _timing}[config["kind"]](config, split, device, live)
    return {
        "id": identity(config),
        "experiment": config["experiment"],
        "seed": config["seed"],
        "status": status,
        "message": message,
        "config": config,
        "rows": rows,
        "wall_s": sum(row.get("train_s", 0) for row in rows) or time.perf_counter() - started,
        "provenance": provenance(device) | {"data_sha256": split.sha256, "data_variant": split.variant},
    }


def load(options):
    """A data set as a configuration names it: scaling "unit" leaves images at pixel/255; see `configuration.DATA`."""
    return _load(json.dumps(options, sort_keys=True))


@lru_cache(maxsize=2)  # the next run mostly has the same
def _load(text):
    options = json.loads(text)
    scaling, relabel, subset = (options.pop(key) for key in ("scaling", "relabel", "subset"))
    split = data.load(options.pop("name"), **options)
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


def _changed(split, change):
    return dataclasses.replace(split, **{k: p._replace(x=change(p.x)) for k, p in _parts(split)})


# --- chains --------------------------------------------------------------------------------------------------------


def _chain(config, split, device, live):
    rows, weights, last = [], {}, None
    for k, stage in enumerate(config["stages"]):
        _seed(config, k)
        name, start = stage["name"], stage["from"] or last
        model = models.build(**config["model"]).to(device)
        if start and stage["restart"]:
            pruning.apply(model, {key: weights[start][key] != 0 for key in models.weights(model)})
        elif start:
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
        chosen = {"rule": "magnitude"} | stage["prune"]
        rule = training.named(pruning.RULES, chosen.pop("rule"), "pruning rule")
        pruning.apply(model, rule(model, **chosen))
    hooks = [pruning.hold(pruning.nonzero_masks(model))] if stage["hold"] else []
    if stage["gradual"]:
        hooks.append(pruning.GradualMagnitude(model, steps=stage["steps"], **stage["gradual"]))
    if stage["zeroing"]:
        hooks.append(pruning.StochasticZeroing(model, steps=stage["steps"], seed=seed, **stage["zeroing"]))
    options = {k: stage[k] for k in VARIANT if k in stage}
    history, trained = training.History(), model
    if stage["baseline"]:
        trained, options["extra_loss"] = baselines.noisy(model, examples=len(split.train.x), **stage["baseline"])
    if stage["steps"]:
        history = training.fit(
            trained,
            split,
            steps=stage["steps"],
            seed=seed,
            after_step=hooks,
            checkpoint=checkpoint,
            watch=lambda m: {"validation": score(m, split, split.validation, stage["precision"])},
            until=until,
            log_points=stage["log_points"],
            label=stage["name"],
            **options,
        )
    if stage["baseline"]:
        model.load_state_dict(baselines.folded(trained))
    row = {"stage": stage["name"], "status": history.status, "message": history.message, "train_s": history.seconds}
    row |= {"steps": history.step, "curves": history.curves}
    if history.status != "done":
        return row
    if free := [term["partial"] for term in stage["penalty"] or () if term["partial"]]:
        row["alive_1e-3_free"] = shrinking.alive_1e3(model, beta=free[0])
    if stage["histogram"]:
        row["histogram"] = measures.histogram(model, **stage["histogram"])
    return row | measure(model, split)


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
    scores = {f"{k}_{name}": score(model, split, p, "fp32") for k, p in _parts(split)}
    if split.task == "regression":
        scores |= {
            f"{k}_r2": measures.r2(training.predict(model, p.x, precision="fp32"), p.y) for k, p in _parts(split)
        }
        scores |= {"fit": fit(model, split)} if split.train.x[0].numel() == 1 else {}
    return scores | {
        "parameters": measures.parameters(model),
        "nonzero": measures.nonzero(model),
        "nonzero_layers": [int(w.count_nonzero()) for w in models.weights(model).values()],
        "sparsity": measures.sparsity(model),
        "alive": list(shrinking.alive(model).values()),
        "alive_1e-3": shrinking.alive_1e3(model),
        "sparsity_1e-3": shrinking.sparsity_1e3(model),
    }


def _parts(split):
    return [(part, getattr(split, part)) for part in PARTS]


def fit(model, split, points=121):
    """The function that a network with one input and one output is: its values between the training set's ends."""
    x = torch.linspace(split.train.x.min(), split.train.x.max(), points, device=split.train.x.device)[:, None]
    y = training.predict(model, x, precision="fp32") * split.target_std + split.target_mean
    return {"x": (x * split.std + split.mean).flatten().tolist(), "y": y.flatten().tolist()}


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
    steppers, alone = {}, models.build(**config["model"]).to(device)
    for name, variant in config["variants"].items():
        _seed(config, 0)
        options = {k: v for k, v in variant.items() if k not in ("block", "only")}
        if variant["only"] == "penalty":
            steppers[name] = _penalty_alone(alone, options)
            continue
        model = models.build(**config["model"]).to(device)
        steppers[name] = training.stepper(model, split.train, steps=10**9, **options)[0]
    with pinned():
        seconds = {name: [] for name in steppers}
        for k in training.progress(range(config["rounds"] + 1), desc="timing"):
            for name, step in steppers.items():
                block = config["variants"][name]["block"]
                started = time.perf_counter()
                for j in range(block):
                    step(k * block + j)
                seconds[name].append((time.perf_counter() - started) / block)
    return [{"variant": name, "step_s": times[1:]} for name, times in seconds.items()], "done", ""


def _penalty_alone(model, options):
    """A function that only adds the penalty's gradient, in the form that a step would."""
    ws = list(models.weights(model).values())
    value, add_gradient_, _ = regularizers.bind(
        options["penalty"],
        ws,
        views=models.unit_views(model),
        transform=training.compiled if options["compile"] is True else None,
    )
    for w in ws:
        w.grad = torch.zeros_like(w)
    return (lambda k: value().backward()) if options["autograd_penalty"] else (lambda k: add_gradient_())

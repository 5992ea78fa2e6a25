"""What a run does: a chain of stages, each a row, or a timing of training steps."""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
import time
from functools import lru_cache

import torch

from lib import baselines, data, measures, models, pruning, regularizers, shrinking, training
from lib.dynamics import Dynamics
from lib.runs.configuration import VARIANT, identity, resolve
from lib.runs.provenance import provenance
from lib.runs.store import write_arrays

PARTS = ("train", "validation", "test")


def execute(config, live):
    """The record of a resolved configuration; checkpoints are kept in the folder `live`."""
    started, device = time.perf_counter(), "cuda" if torch.cuda.is_available() else "cpu"
    if config["kind"] == "own":
        rows, status, message, about = FUNCTIONS[config["code"]](config["seed"], **config["options"]), "done", "", {}
    else:
        split = load(config["data"]).to(device)
        kind = {"chain": _chain, "timing": _timing}[config["kind"]]
        rows, status, message, arrays = kind(config, split, device, live)
        if arrays:
            write_arrays(live.with_suffix(".npz"), arrays)
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
    rows, ends, arrays, last = [], {}, {}, None
    for k, stage in enumerate(config["stages"]):
        _seed(config, k)
        name, end = stage["name"], ends.get(stage["from"] or last, {})
        saved = training.load_if_whole(live / f"{name}.pt")
        if saved is None:
            model = _started(config, stage, end, device)
            row, kept = _stage(model, split, stage, config["seed"], live / f"{name}.part.pt")
            if row["status"] == "done" and (stage["shrunk"] or end.get("shrunk")):
                row |= _of_the_whole(row, model, config)
            saved = {"row": row, "weights": model.state_dict(), "arrays": kept}
            saved |= {"widths": model.config["widths"], "shrunk": "widths" in row}
            training.save_atomically(saved, live / f"{name}.pt")
        ends[name], last = saved, name
        rows.append(saved["row"])
        arrays |= {f"{name}/{key}": array for key, array in saved.get("arrays", {}).items()}
        if rows[-1]["status"] == "diverged":
            return rows, "diverged", f"{name}: {rows[-1]['message']}", arrays
    return rows, "done", "", arrays


def _started(config, stage, end, device):
    """The network that a stage trains: a fresh one, or that of another stage's end, pruned and shrunk as asked."""
    widths = {"widths": end["widths"]} if end and "widths" in end else {}
    model = models.build(**(config["model"] | widths)).to(device, memory_format=torch.channels_last)  # measured faster
    if end and stage["restart"]:
        pruning.apply(model, {key: end["weights"][key] != 0 for key in models.weights(model)})
    elif end:
        model.load_state_dict(end["weights"])
    if stage["prune"]:
        chosen = {"rule": "magnitude"} | stage["prune"]
        rule = training.named(pruning.RULES, chosen.pop("rule"), "pruning rule")
        pruning.apply(model, rule(model, **chosen))
    return shrinking.shrink(model, keep_one=True) if stage["shrunk"] else model


def _of_the_whole(row, model, config):
    """The shares of a shrunk network's row, as shares of the weights of the network that it was shrunk from."""
    with torch.device("meta"):
        whole = models.build(**config["model"])
    total, left = (sum(w.numel() for w in models.weights(net).values()) for net in (whole, model))
    shares = {key: (row[key] * left + total - left) / total for key in ("sparsity", "sparsity_1e-3")}
    return shares | {"widths": model.config["widths"]}


def _seed(config, stage):
    """Every stage has random numbers of its own, so that a chain taken up in the middle ends like one that was not."""
    torch.manual_seed(config["seed"] * 1009 + stage)


def _stage(model, split, stage, seed, checkpoint, until=None):
    """Train a model in place by one stage; its row, and the small arrays to keep beside the record."""
    hooks = [pruning.hold(pruning.nonzero_masks(model))] if stage["hold"] else []
    if stage["gradual"]:
        hooks.append(pruning.GradualMagnitude(model, steps=stage["steps"], **stage["gradual"]))
    if stage["zeroing"]:
        hooks.append(pruning.StochasticZeroing(model, steps=stage["steps"], seed=seed, **stage["zeroing"]))
    if noted := stage["dynamics"]:
        hooks.append(Dynamics(model, steps=stage["steps"], **noted))
    options = {k: stage[k] for k in VARIANT if k in stage and k != "zeroing"}
    history, trained = training.History(), model
    if stage["baseline"]:
        pays = training.compile_pays(stage["steps"], next(model.parameters()).device)
        trained, options["extra_loss"] = baselines.noisy(
            model, examples=len(split.train.x), compile=pays, **stage["baseline"]
        )
    if stage["steps"]:
        history = training.fit(
            trained,
            split,
            steps=stage["steps"],
            seed=seed,
            after_step=hooks,
            checkpoint=checkpoint,
            watch=lambda m: (
                {"validation": score(m, split, split.validation, stage["precision"])}
                | (hooks[-1].point(m) if noted else {})
            ),
            log_points=stage["log_points"],
            until=until,
            label=stage["name"],
            **options,
        )
    if stage["baseline"]:
        model.load_state_dict(baselines.folded(trained))
    row = {"stage": stage["name"], "status": history.status, "message": history.message, "train_s": history.seconds}
    row |= {"steps": history.step, "curves": history.curves}
    arrays = hooks[-1].arrays() if noted else {}
    if history.status != "done":
        return row, arrays
    if free := [term["partial"] for term in stage["penalty"] or () if term["partial"]]:
        row["alive_1e-3_free"] = shrinking.alive_1e3(model, beta=free[0])
    if noted:
        row["dynamics"] = hooks[-1].point(model)
    if stage["histogram"]:
        row["histogram"] = measures.histogram(model, **stage["histogram"])
    return row | measure(model, split, stage["scores"]), arrays | _pictures(model, split, stage["pictures"])


MAPS = 8  # images at a time that a segmentation network sees: its maps are large


def score(model, split, part, precision="auto"):
    """Accuracy, the RMSE in the table's units, or the foreground's Dice, of a model on one part."""
    if split.task == "segmentation":
        outputs = training.predict(model, part.x, batch=MAPS, precision=precision)
        return measures.foreground_dice(outputs, part.y)
    outputs = training.predict(model, part.x, precision=precision)
    if split.task == "regression":
        return measures.rmse(outputs, part.y) * split.target_std
    return measures.accuracy(outputs, part.y)


def measure(model, split, parts=None):
    """The row of a finished stage: scores on the three parts (the only place that reads the test part), and sizes.

    In fp32 whatever the stage was trained in: that is what is saved, shrunk and taken home. Of a large network this
    takes as long as an epoch: `parts` can leave the training part out.
    """
    return _scores(model, split, parts or PARTS) | {
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


def _scores(model, split, parts):
    """By part: accuracy, with f1 and auc for two classes; rmse and r2; of segmentations not the training part."""
    found = {}
    for part, (x, y) in _parts(split)[split.task == "segmentation" :]:
        if part not in parts:
            continue
        if split.task == "segmentation":
            scores = measures.instance_scores(_instances(model, x), y.cpu())
        else:
            outputs = training.predict(model, x, precision="fp32")
            scores = SCORES[split.task](outputs, y, split)
        found |= {f"{part}_{key}": value for key, value in scores.items()}
    one = split.task == "regression" and split.train.x[0].numel() == 1
    return found | ({"fit": fit(model, split)} if one else {})


def _classified(outputs, y, split):
    two = {"f1": measures.f1(outputs, y), "auc": measures.auc(outputs, y)} if split.outputs == 2 else {}
    return {"accuracy": measures.accuracy(outputs, y)} | two


def _regressed(outputs, y, split):
    return {"rmse": measures.rmse(outputs, y) * split.target_std, "r2": measures.r2(outputs, y)}


SCORES = {"classification": _classified, "regression": _regressed}


def _instances(model, x):
    return measures.split(training.predict(model, x, batch=MAPS, precision="fp32"))


def _pictures(model, split, chosen):
    """Test images as bytes, their true instances and the predicted ones: what a picture of them needs."""
    if not chosen:
        return {}
    x, y = (t[chosen] for t in split.test)
    grey = ((x * split.std + split.mean) * 255).round().clamp(0, 255).to(torch.uint8)
    found = torch.stack([torch.from_numpy(m).to(torch.int16) for m in _instances(model, x)])
    return {"image": grey.cpu(), "true": y.cpu(), "predicted": found}


def fit(model, split, points=121):
    """The function that a network with one input and one output is: its values between the training set's ends."""
    x = torch.linspace(split.train.x.min(), split.train.x.max(), points, device=split.train.x.device)[:, None]
    y = training.predict(model, x, precision="fp32") * split.target_std + split.target_mean
    return {"x": (x * split.std + split.mean).flatten().tolist(), "y": y.flatten().tolist()}


def replay(record, steps):
    """Train the first `steps` of a record's first stage again and return the curves, to hold against the record's.

    A record in fp32 in fp32; one in bf16 as this processor can: without bf16 it would imitate it, ten times slower.
    """
    config = resolve(record["config"])  # options that are younger than the record are at their defaults
    split = load(config["data"])
    _seed(config, 0)
    stage = config["stages"][0]
    model = _started(config, stage, {}, "cpu")
    if not record["provenance"]["bf16"]:
        stage = stage | {"precision": "fp32"}
    return _stage(model, split, stage, config["seed"], None, until=steps)[0]["curves"]


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
    steppers, steps, alone = {}, 10**9, models.build(**config["model"]).to(device)
    for name, variant in config["variants"].items():
        _seed(config, 0)
        options = {k: v for k, v in variant.items() if k not in ("block", "only", "zeroing")}
        if variant["only"] == "penalty":
            steppers[name] = _penalty_alone(alone, options)
            continue
        model = models.build(**config["model"]).to(device)
        zeroing = variant["zeroing"]  # a tiny `ramp` shows it as it is after the ramp
        hooks = [pruning.StochasticZeroing(model, steps=steps, **zeroing)] if zeroing else []
        steppers[name] = training.stepper(model, split.train, steps=steps, after_step=hooks, **options)[0]
    with pinned():
        blocks = {name: variant["block"] for name, variant in config["variants"].items()}
        seconds = interleaved(steppers, config["rounds"], blocks)
    return [{"variant": name, "step_s": times} for name, times in seconds.items()], "done", "", {}


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


def _penalty_alone(model, options):
    """A function that only adds the penalty's gradient, in the form that a step would."""
    ws, norms = list(models.weights(model).values()), models.norms(model)
    value, add_gradient_, _ = regularizers.bind(
        options["penalty"],
        ws,
        norms=norms,
        views=models.unit_views(model),
        transform=training.compiled if options["compile"] is True else None,
    )
    for w in (*ws, *norms):
        w.grad = torch.zeros_like(w)
    return (lambda k: value().backward()) if options["autograd_penalty"] else (lambda k: add_gradient_())

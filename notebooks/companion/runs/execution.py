"""What a run does: a chain of stages, each a row, or a timing of training steps, or code of a notebook's own."""

import contextlib
import math
import shutil
import time

import torch
from torch.optim.swa_utils import update_bn

from companion import settings
from companion.runs.configuration import Stage
from companion.runs.datasets import load
from companion.runs.own import FUNCTIONS, made
from companion.runs.provenance import IMPORTED, provenance
from companion.runs.scores import PARTS, images, measure, pictures, score
from companion.runs.store import write_arrays
from companion.runs.timing import timed
from lib import baselines, measures, models, pruning, shrinking, training
from lib.atomic import write_whole
from lib.checks import named
from lib.dynamics import Dynamics


def execute(run):
    """The record of a run; its checkpoints are kept in its folder, its arrays beside it."""
    started, device, config = time.perf_counter(), "cuda" if torch.cuda.is_available() else "cpu", run.config
    status, message, about = "done", "", {}
    if config["kind"] == "own":
        rows = made(FUNCTIONS[config["code"]](config["seed"], **config["options"]), run)
    else:
        split = load(config["data"]).to(device)
        about = {"data_sha256": split.sha256, "data_variant": split.variant}
        if config["kind"] == "timing":
            rows = timed(config, split, device)
        else:
            rows, message, arrays = chain(run, split, device)
            status = "diverged" if message else "done"
            if arrays:
                about["arrays"] = write_arrays(run.folder.with_suffix(".npz"), arrays)
    return {
        "id": run.id,
        "experiment": config["experiment"],
        "seed": config["seed"],
        "status": status,
        "message": message,
        "config": config,
        "rows": rows,
        "wall_s": sum(row.get("train_s", 0) for row in rows) or time.perf_counter() - started,
        "provenance": provenance(device) | about,
    }


def chain(run, split, device):
    """The rows of a chain's stages, why it diverged or nothing, and the arrays to keep beside its record."""
    rows, ends, arrays, last = [], {}, {}, None
    begin(run.folder)
    for k, stage in enumerate(Stage.of(stage, "stage") for stage in run.config["stages"]):
        seed_stage(run.config["seed"], k)
        end, file, part = ends.get(stage.start or last, {}), run.folder / f"{k}.pt", run.folder / f"{k}.part.pt"
        saved = training.load_whole(file)
        if saved is not None and saved.get("data", split.sha256) != split.sha256:  # of before: without it
            saved = training.set_aside(file, "was trained with other data, from another COMPANION_DATA")
        if saved is None:
            model = started(run.config["model"], stage, end, device)
            training.set_aside(part, "is no file") if part.exists() and not part.is_file() else None
            row, kept = train_stage(model, split, stage, seed=run.config["seed"], checkpoint=part)
            saved = ended(model, row, stage, end, run.config["model"]) | {"arrays": kept, "data": split.sha256}
            keep(saved, file)
        ends[stage.name], last = saved, stage.name
        rows.append(saved["row"])
        arrays |= {f"{stage.name}/{key}": array for key, array in saved["arrays"].items()}
        if rows[-1]["status"] == "diverged":
            return rows, f"{stage.name}: {rows[-1]['message']}", arrays
    return rows, "", arrays


def begin(folder):
    """Note the sources that checkpoints come from; where all is to be made afresh, those of others are set aside."""
    note, kept = folder / "sources", sorted(folder.glob("*.pt"))
    known = (note.read_bytes() if note.is_file() else b"") == IMPORTED["lib"].encode()
    if kept and not known and settings.train() == "fresh":
        for file in kept:
            training.set_aside(file, "comes from other sources, and all is to be made afresh")
        kept = []
    with contextlib.suppress(OSError):  # of a full disk, of which `keep` tells
        if not known:
            write_whole(note, "several" if kept else IMPORTED["lib"])


def keep(saved, file):
    """Keep a finished stage; on a full disk the run goes on without, and it is said."""
    try:
        training.save_whole(saved, file)
    except OSError as error:
        print(f"{file}: not written ({error.strerror}); a killed run would train this stage again")
        if file.parent.is_dir() and not any(file.parent.glob("*.pt")):  # rmtree waits for ever at a pipe
            shutil.rmtree(file.parent, ignore_errors=True)


def seed_stage(seed, stage):
    """Every stage has random numbers of its own, so that a chain taken up in the middle ends like one that was not."""
    torch.manual_seed(seed * 1009 + stage)


def started(network, stage, end, device):
    """The network that a stage trains: a fresh one, or that of another stage's end, pruned and shrunk as asked."""
    widths = {"widths": end["widths"]} if end else {}
    model = models.build(**(network | widths)).to(device, memory_format=torch.channels_last)  # measured faster so
    if end and stage.restart:
        pruning.apply(model, {key: end["weights"][key] != 0 for key in models.weights(model)})
    elif end:
        model.load_state_dict(end["weights"])
    if stage.prune:
        chosen = {"rule": "magnitude"} | stage.prune
        rule = named(pruning.RULES, chosen.pop("rule"), "pruning rule")
        pruning.apply(model, rule(model, **chosen))
    return shrinking.shrink(model, keep_one=True) if stage.shrunk else model


def ended(model, row, stage, end, network):
    """What a stage ends with, for those that start from it; the shares of a shrunk network become the whole one's."""
    if row["status"] == "done" and (stage.shrunk or end.get("shrunk")):
        row |= _of_the_whole(row, model, network)
    state = {"row": row, "weights": model.state_dict(), "widths": model.config["widths"]}
    return state | {"shrunk": "widths" in row}


def _of_the_whole(row, model, network):
    """The shares of a shrunk network's row, as shares of the weights of the network that it was shrunk from."""
    with torch.device("meta"):
        whole = models.build(**network)
    total, left = (sum(w.numel() for w in models.weights(net).values()) for net in (whole, model))
    shares = {key: (row[key] * left + total - left) / total for key in ("sparsity", "sparsity_1e-3")}
    return shares | {"widths": model.config["widths"]}


def train_stage(model, split, stage, *, seed, checkpoint=None, until=None):
    """Train a model in place by one stage; its row, and the small arrays to keep beside the record."""
    hooks, noted = _hooks(model, stage, seed)
    history, trained, extra = training.History(), model, None
    if stage.baseline:
        pays = training.compile_pays(stage.steps, next(model.parameters()).device)
        trained, extra = baselines.noisy(model, examples=len(split.train.x), compile=pays, **stage.baseline)
    if stage.steps:
        history = training.fit(
            trained,
            split,
            after_step=hooks,
            watch=lambda net: _watched(net, split, stage, noted),
            checkpoint=checkpoint,
            extra_loss=extra,
            log_points=stage.log_points,
            **stage.options(steps=stage.steps, seed=seed, until=until, label=stage.name),
        )
    if history.status == "done" and not all(map(math.isfinite, history.curves.get("validation", ())[-1:])):
        history.status, history.message = "diverged", "validation score not finite"
    if stage.baseline:
        model.load_state_dict(baselines.folded(trained))
    row = {"stage": stage.name, "status": history.status, "message": history.message, "train_s": history.seconds}
    row |= {"steps": history.step, "curves": history.curves}
    arrays = noted.arrays() if noted else {}
    if history.status != "done":
        return row, arrays
    if stage.recalibrate:
        update_bn(split.train.x.split(stage.batch)[: stage.recalibrate], model)
    return row | _measured(model, split, stage, noted), arrays | pictures(model, split, stage.pictures)


def _hooks(model, stage, seed):
    """What acts after every step of a stage, and the one of it that notes the dynamics, if any."""
    hooks = [pruning.hold(pruning.nonzero_masks(model))] if stage.hold else []
    if stage.gradual:
        hooks.append(pruning.GradualMagnitude(model, steps=stage.steps, **stage.gradual))
    if stage.zeroing:
        hooks.append(pruning.StochasticZeroing(model, steps=stage.steps, seed=seed, **stage.zeroing))
    noted = Dynamics(model, steps=stage.steps, **stage.dynamics) if stage.dynamics else None
    return hooks + ([noted] if noted else []), noted


def _watched(model, split, stage, noted):
    """What the curves of a stage hold beside the training loss."""
    found = {"validation": score(model, split, split.validation, stage.precision)}
    return found | (noted.point(model) if noted else {})


def _measured(model, split, stage, noted):
    """What the row of a finished stage says of its network."""
    row = {}
    if free := [term["partial"] for term in stage.penalty or () if term["partial"]]:
        row["alive_1e-3_free"] = shrinking.alive_1e3(model, beta=free[0])
    if noted:
        row["dynamics"] = noted.point(model)
    if stage.histogram:
        row["histogram"] = measures.histogram(model, **stage.histogram)
    if stage.images:
        row["images"] = images(model, split)
    return row | measure(model, split, stage.scores or PARTS)

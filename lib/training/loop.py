"""The one training loop: data sets are tensors, batches are index selections."""

import math
import time
import warnings
from dataclasses import dataclass, field
from typing import Annotated

import torch
from tqdm.auto import tqdm

from .. import models, pruning
from ..arguments import a_function, a_network, told
from ..checks import Checked
from ..dynamics import Dynamics
from .checkpoint import Checkpoint, plain
from .given import fits, part_of, picked, sized, taken, tensor
from .identity import identity
from .schedules import plateau
from .speed import autocast, flushed
from .step import Options, Trainer

CHECKPOINT_SECONDS = 60.0  # at most this much training is lost when a run is killed


@torch.no_grad()
@told(model=a_network, batch="whole [1, inf)", outputs=a_function)
def predict(model, x, *, batch=1000, precision="fp32", outputs=None):
    """Outputs in eval mode, where the network is, the layers' modes restored; (N, …) -> (N, …).

    They are float32 whatever the network puts out, but float64 and complex ones as they are.

    `outputs` picks the tensor from what the network returns.
    """
    x = tensor(f"inputs must be a tensor or array of numbers, got {type(x).__name__}", x)
    device = next(model.parameters(), x).device
    with models.in_mode(model, training=False), fits(model, x), autocast(precision, device), flushed():
        return torch.cat([_rows(picked(model(taken(model, p.clone()).to(device)), outputs), p) for p in x.split(batch)])


def _rows(outputs, x):
    """Outputs of a batch. ValueError: they are not a row for each of its inputs."""
    if not outputs.ndim or len(outputs) != len(x):
        shape = tuple(outputs.shape)
        remedy = "give one example as x[None]; outputs= makes rows of what else a network returns"
        raise ValueError(f"outputs {shape} of {len(x)} inputs are not a row for each; {remedy}")
    return outputs


def progress(items, **options):
    """A tqdm bar that leaves nothing behind; TQDM_DISABLE=1, set before Python starts, silences it."""
    return tqdm(items, leave=False, **options)


@dataclass
class History:
    """What a training was: its status ("done", "diverged" or, cut by `until`, "stopped"), curves, seconds of steps."""

    status: str = "done"
    message: str = ""
    step: int = 0
    seconds: float = 0.0
    curves: dict = field(default_factory=lambda: {"step": [], "loss": []})

    def log(self, total, watched):
        """One point of the curves: the mean training loss since the last one, and what is watched."""
        if not isinstance(watched, dict) or {"step", "loss"} & watched.keys():
            raise ValueError(f"watch must return a dict without 'step' and 'loss', its own names, got {watched!r:.80}")
        known, given = (sorted({*map(str, names)} - {"step", "loss"}) for names in (self.curves, watched))
        if self.curves["step"] and known != given:
            raise ValueError(f"watch must return the same names each time, got {given} after {known}")
        since = self.step - (self.curves["step"][-1] if self.curves["step"] else 0)
        for name, value in {"step": self.step, "loss": float(total) / since, **plain(watched)}.items():
            self.curves.setdefault(name, []).append(value)


@dataclass(frozen=True)
class Watching(Checked):
    """When a training is looked at: `watch(model) -> dict of numbers` is asked at `log_points` steps.

    Of fewer steps only the last is asked at. until: stop after that many of the steps; a checkpoint is written there,
    and then a point is logged that the training which goes on from there does not have.
    checkpoint_seconds: at most this much training is lost by a kill. label: what the progress bar is called.
    """

    log_points: Annotated[int, "[1, inf)"] = 50
    until: Annotated[int, "[0, inf)"] = None
    checkpoint_seconds: Annotated[float, "[0, inf)"] = field(default_factory=lambda: CHECKPOINT_SECONDS)
    label: Annotated[str, None] = "training"

    def at(self, steps):
        """The steps after which a point is logged."""
        points = 1 if steps < self.log_points else self.log_points
        return {round((i + 1) * steps / points) for i in range(points)}


HINTS = {"epochs": "steps, the number of batches", "batch_size": "batch", "learning_rate": "optimizer={'lr': …}"}
HINTS |= {"lr": HINTS["learning_rate"], "weight_decay": "optimizer={'weight_decay': …}"}


def options_of(given):
    """The `Options` of a dict. ValueError: a name that `fit` does not have, with those that it has."""
    return Options.of(given, "fit", beside=WATCHED, hints=HINTS)


@told(watch=a_function, extra_loss=a_function)
def fit(model, data, *, after_step=(), watch=None, checkpoint=None, extra_loss=None, **options):
    """Train a model in place and return its History.

    data: a `lib.data.Dataset` (its training part), x and y as tensors or arrays, a torch Dataset or a DataLoader. These
    are read once, to their end: what they draw by chance (crops) is drawn once, while `augment` draws in every step. Of
    a DataLoader the collate_fn counts, as `batch` the batch size, and of the sampler which examples it draws and how
    often; their order in training is that of `order`, "sequence" for a loader that does not shuffle. `options` are the
    fields of `Options` and of `Watching`. `after_step` hooks are called as hook(model, step) after every update; one
    that has state keeps its settings in `options`, by which a checkpoint is known, and carries `state_dict`, of plain
    numbers and tensors, and `load_state_dict`, and so may a loss. `watch(model) -> dict of numbers` is asked at the
    `log_points`. From a `checkpoint` file a killed training goes on and ends with the same bits on the same machine:
    this training, of the same options, data and hooks, from the same weights. A loss or a weight that is not finite
    ends it as "diverged". Layers in eval mode in a network that is not, and batch norms whose parameters are frozen,
    stay so. The training runs where the network is, `net.to("cuda")` or "mps", and copies the data there; only CPUs
    were tried.
    """
    watching = Watching(**{k: options.pop(k) for k in Watching.__match_args__ if k in options})
    history, options = History(), options_of(sized(options, data))
    _fitting(after_step, options.steps)
    follows = options.schedule == "plateau"
    if follows and (watch is None or getattr(data, "task", "") == "regression"):
        raise ValueError("schedule 'plateau' needs a watched 'validation' score that rises; take another one")
    if follows and (times := len(watching.at(options.steps))) < 3:
        said = f"watch is asked after {times} of {options.steps:,} steps; train for more, or lower log_points"
        warnings.warn(f"schedule 'plateau' never lowers the rate: {said}", stacklevel=3)
    part, laid = part_of(data, model), [p for p in model.parameters() if p.is_contiguous()]
    if options.loss is None and getattr(data, "task", "") == "classification" and part.y.is_floating_point():
        raise ValueError(f"the task is classification, but y holds {part.y.dtype}; pass whole numbers, or a loss")
    trainer = Trainer(model, part, options, after_step=after_step, extra_loss=extra_loss)
    if follows:
        trainer.factor = lambda t: plateau(history.curves, options.steps)
    parts = {"model": model, "optimizer": trainer.optimizer}
    called = {"loss": trainer.loss, "extra_loss": extra_loss} | {f"hook {i}": h for i, h in enumerate(after_step)}
    parts |= {name: part for name, part in called.items() if hasattr(part, "state_dict")}
    key = None if checkpoint is None else identity(options, model, part, [*after_step, extra_loss])
    kept = Checkpoint(checkpoint, parts, key, every=watching.checkpoint_seconds)
    try:
        with models.in_mode(model, training=True):  # as it is given, whatever of it a saved training has frozen
            return _train(trainer, history, kept, watch, watching)
    finally:
        for p in laid:  # convolutions have the channels last in here, of which a caller's optimizer does not know
            p.data = p.data.contiguous()


WATCHED = (*Watching.__match_args__, *fit.__wrapped__.__kwdefaults__)  # what `fit` takes beside `Options`


def _fitting(after_step, steps):
    """ValueError: hooks are no list of functions, or one is for other steps."""
    if not isinstance(after_step, list | tuple):
        raise ValueError(f"after_step must be a list of hooks, got {after_step!r}")
    for hook in after_step:
        a_function("each of after_step", hook)
        if isinstance(hook, pruning.GradualMagnitude | pruning.StochasticZeroing | Dynamics) and hook.steps != steps:
            raise ValueError(f"{type(hook).__name__} was made for {hook.steps:,} steps, the training has {steps:,}")


def _train(trainer, history, kept, watch, watching):
    """The steps of a training, logged, watched and kept; its History."""
    model, steps = trainer.model, trainer.options.steps
    total = _resumed(kept, history, trainer.x.device)
    stop = steps if watching.until is None else min(steps, watching.until)
    log_at = watching.at(steps)
    bar = progress(range(history.step, stop), initial=history.step, total=stop, desc=watching.label)
    with bar:
        started = time.perf_counter()
        for k in bar:
            if model.training:  # of which hooks may have put layers at rest
                modes = _modes(model)
            else:  # a hook has called net.eval()
                _set(modes)
            total = total + trainer(k)
            history.step = k + 1
            pause = history.step in log_at
            look = pause or history.step == stop or history.step % trainer.batches.per_epoch == 0  # not by the clock
            if not (look or kept.due()):
                continue
            history.seconds += time.perf_counter() - started
            if look and (why := _diverged(total, trainer, history.step == stop)):
                history.status, history.message = "diverged", f"{why} in epoch {k // trainer.batches.per_epoch + 1}"
                break
            if pause:
                _log(history, total, watch, model)
                total = torch.zeros((), device=trainer.x.device)
            kept.save(now=history.step == stop < steps, history=vars(history), total=total)
            if history.step == stop and not pause:  # a point that the next sitting has not
                _log(history, total, watch, model)
            started = time.perf_counter()
    if history.status == "done" and stop < steps:
        history.status = "stopped"
    return history


def _log(history, total, watch, model):
    """One point of the curves; `watch` leaves the modes of layers as they are."""
    before = _modes(model)
    history.log(total, {} if watch is None else watch(model))
    _set(before)


def _modes(model):
    """Each layer and whether it is in training mode."""
    return [(layer, layer.training) for layer in model.modules()]


def _set(modes):
    for layer, mode in modes:
        layer.training = mode


def _resumed(kept, history, device):
    """The sum of the losses since the last logged step; a saved training's history is taken over."""
    saved = kept.resume()
    vars(history).update(saved["history"] if saved else {})
    return saved["total"] if saved else torch.zeros((), device=device)


def _diverged(total, trainer, last):
    """Why a training has diverged: a loss or, after the last update, a weight or a statistic is not finite; else ""."""
    if not math.isfinite(float(total)):
        return "loss not finite"
    kept = [buffer for name, buffer in trainer.model.named_buffers() if "running_" in name]  # of batch norms
    moved = [p for p in trainer.parameters if p.requires_grad]  # a mask may be infinite
    if last and not all(bool(t.isfinite().all()) for t in (*moved, *kept)):
        return "weights not finite"
    return ""

"""How well, how small, how fast: scores, counts, operations, bytes and latency, and the one table of them."""

import time
from dataclasses import dataclass
from functools import partial, wraps
from typing import Annotated

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from .. import models as networks
from .. import shrinking
from ..arguments import a_network, a_tensor, networks_by_name, numbers, told
from ..checks import Checked, needing, number, unready
from ..depgraph.passes import quiet
from ..models import prunable
from ..training.given import fits
from ..training.losses import IGNORED, squared
from .segmentation import average_precision, dice, foreground_dice, instance_scores, instances, seg, split

# Rendering from records computes no scores: scikit-learn, SciPy and pandas, seconds to import, are imported where used.

# --- scores: outputs (N, …) and targets (N, …) → float ------------------------------------------------------


def _decisive(score):
    """A score that is NaN where a logit is, as no class is the largest then, and where no target counts."""

    @wraps(score)
    def scored(logits, y):
        _fitting(logits, y)
        y = y.long()  # a uint8 has no −100
        return float("nan") if logits.isnan().any() or (y == IGNORED).all() else score(logits, y)

    return scored


@_decisive
def accuracy(logits, y):
    """Share of rows (N, classes) whose largest logit is at the class in y (N,); −100 does not count, as in losses."""
    return (logits.argmax(1) == y)[y != IGNORED].double().mean().item()


@_decisive
def f1(logits, y):
    """F1 of class 1 for logits (N, 2): harmonic mean of precision and recall, 0 where nothing is found.

    As in `accuracy`, −100 does not count.
    """
    logits, y = _counted(logits, y)
    if logits.shape[1] != 2:
        raise ValueError(f"f1 is of two classes, logits (N, 2), got {tuple(logits.shape)}; accuracy takes more")
    with needing("data"):
        from sklearn.metrics import f1_score

    return float(f1_score(y, logits.argmax(1), zero_division=0))


@_decisive
def auc(logits, y):
    """Area under the ROC curve: of class 1 for logits (N, 2), mean of one against rest for more classes.

    Rows are ranked by log p/(1 − p), which has no ties where p rounds to 1. As in `accuracy`, −100 does not count. NaN
    where all targets of two classes are of one. ValueError: of more classes one has no target.
    """
    logits, y = _counted(logits, y)
    count = logits.shape[1]
    if count == 2 and len(y.unique()) < 2:
        return float("nan")
    if lacking := sorted({*range(count)} - {*y.tolist()}) if count > 2 else []:
        raise ValueError(f"auc: no target is of class {lacking[0]}, so it has no curve; score without its column")
    with needing("data"):
        from sklearn.metrics import roc_auc_score

    logits = logits.double().clamp(-1e300, 1e300)  # −∞ rules a class out
    logits = logits - logits.max(1, keepdim=True).values  # so that rows that are alike but for a shift are ties
    rest = [torch.cat([logits[:, :k], logits[:, k + 1 :]], 1).logsumexp(1) for k in range(count)]
    ranks = logits - torch.stack(rest, 1)
    scored = range(count) if count > 2 else [1]
    return float(np.mean([roc_auc_score(y == k, ranks[:, k]) for k in scored]))


def _counted(logits, y):
    """The rows that count and their classes. ValueError: they are maps."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"f1 and auc take a row for each target, (N, classes) and (N,), got {tuple(logits.shape)}")
    return logits.detach()[y != IGNORED].cpu(), y[y != IGNORED].cpu()


def _fitting(logits, y):
    """ValueError: there is not one target for each row, and a comparison would broadcast."""
    _tensors(logits, y)
    if logits.ndim < 2 or logits.shape[:1] + logits.shape[2:] != y.shape:
        hint = "; of one-hot classes take y.argmax(1)" if logits.shape == y.shape else ""
        shapes = f"logits {tuple(logits.shape)} and classes {tuple(y.shape)}"
        raise ValueError(f"{shapes} do not fit: (N, classes) and (N,){hint}")
    counted = y[y != IGNORED]
    if y.is_floating_point() or (len(counted) and (counted.min() < 0 or counted.max() >= logits.shape[1])):
        got = f"{counted.min()} to {counted.max()}"
        hint = "; one output is for numbers, y.float()" if logits.shape[1] == 1 else ""
        raise ValueError(
            f"classes are whole numbers from 0 to {logits.shape[1] - 1}, as there are logits, got {got}{hint}"
        )


def rmse(outputs, y):
    """Root of the mean squared error, in the unit of y."""
    _tensors(outputs, y)
    return squared(outputs.double(), y.double()).sqrt().item()


def r2(outputs, y):
    """Share of the variance of y that the outputs explain, 1 − Σ(ŷ − y)² / Σ(y − ȳ)², columns pooled."""
    _tensors(outputs, y)
    y = y.double()
    return (1 - squared(outputs.double(), y) / squared(y.mean(0).expand_as(y), y)).item()


def _tensors(outputs, y):
    """ValueError: these are no tensors, or there is nothing in them to score."""
    if not (torch.is_tensor(outputs) and torch.is_tensor(y) and outputs.numel() and y.numel()):
        told = [tuple(t.shape) if torch.is_tensor(t) else type(t).__name__ for t in (outputs, y)]
        raise ValueError(f"outputs and targets must be tensors that are not empty, got {told[0]} and {told[1]}")


# --- size ---------------------------------------------------------------------------------------------------


@told(model=a_network)
def parameters(model):
    """Number of parameters, zeros, biases and norms included."""
    return sum(p.numel() for p in model.parameters())


def nonzero(model):
    """Number of prunable weights that are not zero."""
    return sum(int(w.count_nonzero()) for w in networks.weights(model).values())


def sparsity(model):
    """Share of the prunable weights that are zero; NaN where there are none."""
    total = sum(w.numel() for w in networks.weights(model).values())
    return 1 - nonzero(model) / total if total else float("nan")


@dataclass(frozen=True, kw_only=True)
class HistogramOptions(Checked):
    """How many bins a histogram has, and between which bounds, ±within."""

    bins: Annotated[int, "[1, 100000]"] = 61
    within: Annotated[float, "(0, inf)"] = 0.3

    what = "histogram: "


def histogram(model, **options):
    """Counts of the prunable weights in equal bins from −within to within, larger ones in the outer bins.

    options: see `HistogramOptions`.
    """
    given = HistogramOptions.of(options, "histogram")
    ws = torch.cat([w.detach().flatten() for w in prunable(model).values()])
    within = float(given.within)
    parts = ws.float().clamp(-within, within).cpu().split(2**20)  # histc counts in float32, up to 2²⁴
    counts = sum(torch.histc(part, given.bins, -within, within).long() for part in parts)
    return {"within": given.within, "counts": [int(n) for n in counts]}


def compression(model):
    """Prunable weights / nonzero weights: infinite if all are zero, NaN if there are none."""
    left = nonzero(model)
    total = sum(w.numel() for w in networks.weights(model).values())
    return total / left if left else float("inf" if total else "nan")


@told(model=a_network)
def alive(model):
    """Hidden units left after `shrink`, summed over the layers; None for a network that models.build does not make."""
    ours = networks.built(model) and networks.altered(model) is None
    return sum(shrinking.alive(model).values()) if ours else None


@told(model=a_network)
@torch.no_grad()
def flops(model, example):
    """Operations of one example, 2 per multiply-add; example: its shape without batch, or examples (N, …).

    Convolutions and products of matrices only, counted by torch's FlopCounterMode in a pass; not those of a matrix and
    a vector, nor nn.Bilinear. Zeros count too, so a masked network costs what the dense one does.
    """
    x = _examples(model, example, 1)
    with quiet(), fits(model, x), FlopCounterMode(display=False) as counter:
        networks.copied(model).eval().requires_grad_(False)(x)  # a view of a parameter would be looked into
    return counter.get_total_flops()


def _examples(model, given, n):
    """n examples: of a shape numbers by chance, of examples the first one over and over."""
    if torch.is_tensor(given):
        return given[:1].repeat(n, *[1] * (given.ndim - 1))
    given = numbers("whole [1, inf)")("the shape of an example", given)
    first = next(model.parameters(), torch.zeros(0))
    return torch.rand(n, *given, generator=torch.Generator().manual_seed(0)).to(first)


@told(model=a_network)
def file_bytes(model):
    """Bytes of the weights' file that `lib.saving.save` writes."""
    from .. import saving  # here, as scores are needed where nothing is saved

    return len(saving.to_bytes(model, summed=False))


# --- speed --------------------------------------------------------------------------------------------------


@told(models=networks_by_name, x=a_tensor, threads="whole [1, 1024]", repeats="whole [1, inf)", warmup="whole [0, inf)")
def latency(models, x, *, threads=1, repeats=30, warmup=3):
    """Milliseconds of one forward pass on x for each of a dict of models: {name: {"median", "q1", "q3"}}.

    Eval mode, `threads` threads; the models take turns, so that a drift of the machine meets all alike.
    A sample is as many passes as fill two milliseconds. warmup: passes before it, at least one.
    """
    before, x = torch.get_num_threads(), x.clone()  # which a network may change in place
    torch.set_num_threads(threads)
    try:
        with torch.no_grad(), networks.in_mode(*models.values(), training=False):
            passes, samples = {}, {name: [] for name in models}
            for name, m in models.items():
                with fits(m, x):
                    once = min(_seconds(m, x, 1) for _ in range(max(1, warmup)))
                passes[name] = max(1, round(2e-3 / max(once, 1e-7)))
            for _ in range(repeats):
                for name, m in models.items():
                    samples[name].append(1e3 * _seconds(m, x, passes[name]))
    finally:
        torch.set_num_threads(before)
    found = {name: np.quantile(sample, [0.25, 0.5, 0.75]).tolist() for name, sample in samples.items()}
    return {name: dict(zip(("q1", "median", "q3"), three, strict=True)) for name, three in found.items()}


def _seconds(model, x, passes):
    wait = (lambda: None) if x.device.type == "cpu" else partial(torch.accelerator.synchronize, x.device)
    wait()
    start = time.perf_counter()
    for _ in range(passes):
        model(x)
    wait()
    return (time.perf_counter() - start) / passes


# --- the table ----------------------------------------------------------------------------------------------


@told(models=networks_by_name)
def compare(models, example, *, batches=(), **options):
    """DataFrame with a row per network of a dict: sizes, and operations per example (its shape, or examples (N, …)).

    batches, e.g. (1, 64), adds measured median milliseconds for these batch sizes; options are `latency`'s.
    """
    import pandas as pd

    if unknown := options.keys() - {"threads", "repeats", "warmup"}:
        raise ValueError(f"compare has no {min(unknown)!r}; known: batches, threads, repeats, warmup")
    if not isinstance(batches, tuple | list) or batches:
        batches = numbers("whole [1, inf)")("compare: batches", batches)
    for name, model in models.items():
        if hindrance := unready(model):
            raise ValueError(f"compare: of {name!r} {hindrance}")
    sizes = (parameters, nonzero, sparsity, compression, alive)
    rows = {name: {size.__name__: size(m) for size in sizes} for name, m in models.items()}
    for name, m in models.items():
        rows[name] |= {"flops": flops(m, example), "bytes": file_bytes(m)}
    for batch in batches:
        x = _examples(next(iter(models.values())), example, batch)
        for name, time_ms in latency(models, x, **options).items():
            rows[name][f"ms, batch {batch}"] = time_ms["median"]
    return pd.DataFrame.from_dict(rows, orient="index")

"""How long a training step takes: variants of it take turns on one thread."""

import contextlib
import os
import time

import torch

from companion.runs.configuration import Variant
from lib import models, pruning, regularizers, training


@contextlib.contextmanager
def pinned():
    """One thread on one processor, as far as the system lets us."""
    threads, processors = (torch.get_num_threads(), getattr(os, "sched_getaffinity", lambda _: set())(0))
    torch.set_num_threads(1)
    if processors:
        os.sched_setaffinity(0, {max(processors)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if processors:
            os.sched_setaffinity(0, processors)


def timed(config, split, device):
    """The rows of a timing: seconds per step of every variant, a list of rounds, on one pinned thread, in turns."""
    variants = {name: Variant.of(given, "variant") for name, given in config["variants"].items()}
    alone, steppers = models.build(**config["model"]).to(device), {}
    for name, variant in variants.items():
        torch.manual_seed(config["seed"] * 1009)
        steppers[name] = penalty_alone(alone, variant) if variant.only == "penalty" else None
        steppers[name] = steppers[name] or step_of(models.build(**config["model"]).to(device), split.train, variant)
    with pinned():
        seconds = interleaved(steppers, config["rounds"], {name: variant.block for name, variant in variants.items()})
    return [{"variant": name, "step_s": times} for name, times in seconds.items()]


def step_of(model, part, variant):
    """The training step of a variant; a tiny `ramp` shows zeroing as it is after the ramp."""
    steps = 10**9
    hooks = [pruning.StochasticZeroing(model, steps=steps, **variant.zeroing)] if variant.zeroing else []
    options = variant.options(steps=steps, autograd_penalty=variant.autograd_penalty)
    return training.Trainer(model, part, training.Options(**options), after_step=hooks)


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


def penalty_alone(model, variant):
    """A function that only adds the penalty's gradient, in the form that a step would; compiled where that is asked."""
    ws, norms = list(models.weights(model).values()), models.norms(model)
    options = {"views": models.unit_views(model), "transform": training.compiled if variant.compile is True else None}
    value, add_gradient_, _ = regularizers.bind(variant.penalty, ws, norms=norms, **options)
    for w in (*ws, *norms):
        w.grad = torch.zeros_like(w)
    return (lambda k: value().backward()) if variant.autograd_penalty else (lambda k: add_gradient_())

"""Factors on the learning rate, by the share t of the training that is done, 0 <= t < 1."""

import math

WARM_UP = 0.1  # of a training: in this time the rate would rise by all of it, and it begins at a twentieth
RISE = 0.3  # of one cycle
PLATEAU = 0.08  # of a training: 8 of the 100 epochs of Experiment 5 (arXiv 2109.05075, authors' code)


def one_cycle(t):
    """A cosine from 0.04 up to 1, one from there down to 0: torch's OneCycleLR, after arXiv 1708.07120."""
    if t < RISE:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * t / RISE))
    return 0.5 * (1 + math.cos(math.pi * (t - RISE) / (1 - RISE)))


def plateau(curves, steps):
    """Halved at a validation score that is no best, 8 % of the steps or more after the last best or halving.

    `curves` are a training's so far.
    """
    if curves["step"] and "validation" not in curves:
        raise ValueError(f"schedule 'plateau' follows 'validation', but watch returns {[*curves][2:]}")
    best, since, factor = -math.inf, 0, 1.0
    for step, score in zip(curves["step"], curves.get("validation", ()), strict=False):
        if score > best:
            best, since = score, step
        elif step - since >= PLATEAU * steps:
            since, factor = step, factor / 2
    return factor


SCHEDULES = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1.0 - t,
    "late_linear": lambda t: min(1.0, 2 * (1.0 - t)),
    "warm_up": lambda t: min(1.0, 0.05 + t / WARM_UP),  # then constant
    "one_cycle": one_cycle,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "steps": lambda t: 0.1 ** ((t >= 0.5) + (t >= 0.75)),
    "plateau": lambda t: 1.0,  # `fit` puts `plateau` in its place
}

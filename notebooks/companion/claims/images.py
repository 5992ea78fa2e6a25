"""Intervals that cover the test images as well as the seeds: both are drawn anew together."""

import numpy as np
import pandas as pd
from scipy import special

from companion.claims import p3
from companion.claims.rules import Difference, Lacking, need, on_two

DRAWS = 2000


def application(table, *, share, margins, seeds):
    """What `p3.application` judges, with intervals over seeds and test images; seeds: how many are needed."""
    return p3.application(table, share=share, margins=margins, difference=over_images, seeds=seeds)


def intervals(table, scores):
    """A line per score: stochastic − dense in points, over seeds alone and over seeds and test images."""
    table, lines = p3.pruned_and_dense(table), {}
    for score in scores:
        alone, drawn = p3.by_seed(table, score), over_images(table, score)
        lines[score] = {"seeds": alone.n, "over seeds": alone.points(), "over seeds and images": drawn.points()}
    return pd.DataFrame(lines).T


def over_images(group, score):
    """The `Difference` stochastic − dense of the test accuracy or AUC, for runs that differ in seeds and in images.

    A bootstrap of seeds and, within each class, of images at once (Owen 2007), which gives a standard error rather too
    large than too small; the interval is Student's t of it, of as many degrees as there are seeds, less one.
    """
    need(group, "stage", "stochastic", "dense")
    if "images" not in group or not all(isinstance(kept, dict) for kept in group["images"]):
        raise Lacking("what each test image was given")
    wide = group.pivot(index="seed", columns="stage", values="images").dropna()
    gained = np.array([VALUES[score](pruned) - VALUES[score](dense) for pruned, dense in _pairs(wide)])
    n, mean = len(gained), float(gained.mean()) if len(gained) else np.nan
    if n < 2:
        return Difference(mean, np.nan, np.nan, n)
    half = float(special.stdtrit(n - 1, 0.975) * _redrawn(gained).std(ddof=1))
    spread, across = float(gained.mean((1, 2)).std(ddof=1)), on_two(group, "stage", "stochastic", "dense")
    return Difference(mean, mean - half, mean + half, n, spread, across)


def _pairs(wide):
    """Of each seed, the margins of images of class 1 (a column) and of class 0 (a row), pruned and dense."""
    for pruned, dense in zip(wide["stochastic"], wide["dense"], strict=True):
        if pruned["class"] != dense["class"]:
            raise ValueError("the runs of a seed have other test images; train both on the same data")
        ones = np.array(pruned["class"]) == 1
        margins = (np.array(kept["margin"]) for kept in (pruned, dense))
        yield [(margin[ones][:, None], margin[~ones][None, :]) for margin in margins]


def _ranked(pair):
    """Whether an image of class 1 is above one of class 0, a half where they tie: the mean is the AUC."""
    ones, zeros = pair
    return (ones > zeros) + 0.5 * (ones == zeros)


def _right(pair):
    """The share of right answers in a pair of images, weighted by the sizes of the classes: the mean is accuracy."""
    ones, zeros = pair
    share = ones.size / (ones.size + zeros.size)
    return share * (ones > 0) + (1 - share) * (zeros <= 0)


VALUES = {"test_auc": _ranked, "test_accuracy": _right}


def _redrawn(gained):
    """The mean of (seeds, images of class 1, images of class 0), with each of the three drawn anew, DRAWS times."""
    random = np.random.default_rng(0)
    seeds, ones, zeros = (random.multinomial(n, [1 / n] * n, DRAWS) / n for n in gained.shape)
    return sum(seeds[:, k] * ((ones @ each) * zeros).sum(1) for k, each in enumerate(gained))

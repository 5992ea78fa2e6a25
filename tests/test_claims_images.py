"""Intervals over seeds and test images: made-up margins, scikit-learn's scores and DeLong's formula."""

import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn.metrics import roc_auc_score

from companion.claims import images
from companion.claims.rules import Lacking

CLASSES = [1] * 98 + [0] * 105


def table(seeds, *, spread, gain=0.0, noise=1.0, start=0):
    """Pairs of runs: one set of images for all, to which each run adds margins of its own; `gain` moves the pruned."""
    random = np.random.default_rng(start)
    of_image, lines = random.normal(size=(2, 203)) * noise + np.array(CLASSES), []
    for seed in range(seeds):
        for k, stage in enumerate(("dense", "stochastic")):
            margin = of_image[k] - 0.5 + random.normal(size=203) * spread + k * gain * (2 * np.array(CLASSES) - 1)
            lines.append({"seed": seed, "stage": stage, "images": {"class": CLASSES, "margin": margin.tolist()}})
    return pd.DataFrame(lines)


def scores(found, score):
    """The mean of a score over the runs of each stage, by scikit-learn and by counting."""
    of = {
        "test_auc": lambda kept: roc_auc_score(kept["class"], kept["margin"]),
        "test_accuracy": lambda kept: np.mean((np.array(kept["margin"]) > 0) == np.array(kept["class"])),
    }[score]
    return found.assign(score=found["images"].map(of)).groupby("stage")["score"].mean()


@pytest.mark.parametrize("score", ["test_auc", "test_accuracy"])
def test_the_mean_is_that_of_the_scores(score):
    found = table(4, spread=0.5, gain=0.2)
    means = scores(found, score)
    assert images.over_images(found, score).mean == pytest.approx(means["stochastic"] - means["dense"], abs=1e-12)


def test_with_runs_that_agree_the_error_is_delongs():
    found = table(20, spread=0.0)
    dense, pruned = (np.array(kept["margin"]) for kept in found["images"].iloc[:2])
    ranked = [(m[:98, None] > m[None, 98:]).astype(float) for m in (dense, pruned)]
    ones, zeros = (ranked[1].mean(axis) - ranked[0].mean(axis) for axis in (1, 0))
    delong = np.sqrt(ones.var(ddof=1) / 98 + zeros.var(ddof=1) / 105)
    assert images.over_images(found, "test_auc").error == pytest.approx(delong, rel=0.1)


def test_with_images_that_agree_the_error_is_that_of_seeds():
    found = table(20, spread=0.0)
    shift = np.random.default_rng(1).integers(0, 50, 20)
    for line, k in zip(found.index[found["stage"] == "stochastic"], shift, strict=True):
        margin = np.where(CLASSES, 1.0, -1.0)
        margin[:k] = -1.0
        found.at[line, "images"] = {"class": CLASSES, "margin": margin.tolist()}
        found.at[line - 1, "images"] = {"class": CLASSES, "margin": np.where(CLASSES, 1.0, -1.0).tolist()}
    error, seeds = images.over_images(found, "test_accuracy").error, (shift / 203).std(ddof=1) / np.sqrt(20)
    assert seeds * 0.95 < error < 1.6 * seeds  # the images that are lost are drawn, too


def test_the_interval_covers_what_other_images_and_seeds_would_show():
    missed = 0
    for start in range(60):
        found = images.over_images(table(6, spread=1.0, start=start), "test_auc")
        missed += not found.low <= 0 <= found.high
    assert missed <= 8, "of 60 intervals of 95 %, a binomial count stays at or below 8 in 99 % of repetitions"


def test_it_is_an_interval_of_student_around_the_mean():
    found = images.over_images(table(5, spread=0.3), "test_auc")
    assert found.high - found.mean == pytest.approx(found.mean - found.low)
    assert found.n == 5 and found.error * special.stdtrit(4, 0.975) == pytest.approx(found.high - found.mean)


def test_what_is_lacking_is_named():
    with pytest.raises(Lacking, match="each test image"):
        images.over_images(table(3, spread=0.1).drop(columns="images"), "test_auc")
    one = images.over_images(table(1, spread=0.1), "test_auc")
    assert one.n == 1 and np.isnan(one.low)
    odd = table(3, spread=0.1)
    odd.at[1, "images"] = {"class": CLASSES[::-1], "margin": odd["images"][1]["margin"]}
    with pytest.raises(ValueError, match="other test images"):
        images.over_images(odd, "test_auc")


@pytest.mark.parametrize(("gain", "verdict"), [(0.0, "inconclusive"), (1.5, "reproduced"), (-1.5, "not reproduced")])
def test_half_of_the_channels_over_images(gain, verdict):
    found = table(20, spread=0.3, gain=gain).assign(network="ct_cnn", units=240, alive=[[100]] * 40)
    found["penalty"] = found["stage"].map({"dense": "none", "stochastic": "L2"})
    options = {"share": 0.5, "margins": {"test_auc": 0.03}, "seeds": 20}
    assert images.application(found, **options)[0] == verdict
    with pytest.raises(Lacking, match="20 seeds"):
        images.application(found[found["seed"] < 19], **options)

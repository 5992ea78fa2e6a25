"""Arguments of `lib` that would give a wrong result in silence, or an error from the depths: they are refused."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lib import (
    baselines,
    data,
    dynamics,
    inference,
    measures,
    models,
    pruning,
    regularizers,
    saving,
    shrinking,
    sparse,
    training,
)
from lib.compress import compress
from lib.depgraph import shrink

X, Y = torch.randn(40, 64), torch.arange(40) % 10
LOGITS, CLASSES = torch.randn(6, 3), torch.arange(6) % 3
MAP = np.zeros((4, 4), int)


def net(width=6):
    torch.manual_seed(0)
    return models.build("mlp", widths=[width], inputs=64, outputs=10)


def fit(*given, **options):
    return training.fit(net(), given or (X, Y), **({"steps": 2} | options))


def meta_masks():
    return {name: torch.ones_like(w, dtype=torch.bool, device="meta") for name, w in models.weights(net()).items()}


REFUSED = {
    "x with NaN": (lambda: fit(X * math.nan, Y), "x has 2,560 values that are not finite"),
    "a class too many": (lambda: fit(X, Y + 1), "y has the class 10; the network's 10 outputs are for 0 to 9"),
    "a negative class": (lambda: fit(X, Y - 1), "y has the class -1"),
    "inputs of another size": (lambda: fit(X[:, :63], Y), r"do not take inputs \(N, 63\) of .*, targets \(N\)"),
    "words for y": (lambda: fit(X, ["a"] * 40), "data must be x and y"),
    "no network": (lambda: training.fit(nn.ReLU(), (X, Y)), "a network with parameters is needed, got ReLU"),
    "until -1": (lambda: fit(until=-1), r"until must be a whole number in \[0, inf\), got -1"),
    "a word as outputs": (lambda: fit(outputs="logits"), "outputs must be a function"),
    "a hook for a list": (lambda: fit(after_step=print), "after_step must be a list of hooks"),
    "a watch that is none": (lambda: fit(watch=5), "watch must be a function"),
    "a watch of step": (lambda: fit(watch=lambda model: {"step": 3}), "watch must return a dict without 'step'"),
    "a loss of many": (lambda: fit(loss=lambda outputs, y: outputs), "the loss must be a tensor of one number"),
    "a momentum of 1": (lambda: fit(optimizer={"name": "sgd", "momentum": 1}), r"momentum must be in \[0, 1\), got 1"),
    "one beta": (lambda: fit(optimizer={"betas": [0.9]}), "betas must be 2 numbers"),
    "a maximum": (lambda: fit(optimizer={"maximize": True}), "has no 'maximize'"),
    "a batch of 0": (lambda: training.predict(net(), X, batch=0), r"batch must be a whole number in \[1, inf\)"),
    "words to predict": (lambda: training.predict(net(), "x"), "inputs must be a tensor or array of numbers"),
    "masks elsewhere": (lambda: pruning.apply(net(), meta_masks()), "the mask of 'fc1.weight' must be"),
    "a list of masks": (lambda: pruning.apply(net(), [1]), "masks are a dict"),
    "a seed of words": (lambda: pruning.StochasticZeroing(net(), steps=2, target=0.5, seed="a"), "seed must be"),
    "a vector": (lambda: regularizers.bind({"name": "l1", "lam": 1}, [X[0]]), r"got torch.float32 \(64,\)"),
    "one tensor": (lambda: regularizers.bind({"name": "l1", "lam": 1}, X[0]), "ws must be a list of tensors"),
    "no weights at all": (lambda: models.weights(None), "a network is needed, an nn.Module, got NoneType"),
    "a list of builders": (lambda: models.build(["mlp"]), r"unknown network \['mlp'\]"),
    "classes beyond": (lambda: measures.accuracy(LOGITS, CLASSES + 1), "classes are whole numbers from 0 to 2"),
    "no scores": (lambda: measures.rmse(X[:0], X[:0]), "must be tensors that are not empty"),
    "maps that spread": (lambda: measures.dice(MAP[:1], MAP), "of one size and of whole numbers, got"),
    "stacks of maps": (lambda: measures.seg(MAP[None], MAP[None]), r"maps are \(H, W\), .* takes lists"),
    "logits of a diverged network": (lambda: measures.split(torch.full((1, 3, 4, 4), torch.nan)), "logits are NaN"),
    "a misspelt option": (lambda: measures.compare({"a": net()}, X, batch=(1,)), "no 'batch'; known: batches"),
    "one size of a batch": (lambda: measures.compare({"a": net()}, X, batches=64), "compare: batches must be a list"),
    "maps of numbers": (lambda: measures.seg(MAP + 0.5, MAP), "and of whole numbers"),
    "two classes": (lambda: measures.split(torch.randn(1, 2, 4, 4)), "logits are .N, 3, H, W."),
    "maps of one": (lambda: measures.foreground_dice(torch.randn(2, 3, 4, 4), torch.zeros(1, 4, 4)), "do not fit"),
    "a list to time": (lambda: measures.latency([net()], X), "models must be a dict"),
    "no repeats": (lambda: measures.latency({"a": net()}, X, repeats=0), "repeats must be a whole number"),
    "a baseline of none": (lambda: baselines.noisy(net(), name="hard_concrete", examples=2, kep=1), "has no 'kep'"),
    "no cells": (lambda: data.load("cells", size=0), "size=0"),
    "a network of one's own": (lambda: saving.save(nn.Linear(2, 2), "x"), "is no network of models.build"),
    "the same, sparse": (lambda: sparse.save(nn.Linear(2, 2), "x"), "is no network of models.build"),
    "what sparse keeps": (lambda: sparse.save(net(), "x", config=1), "'config' is kept by itself"),
    "no inference form": (lambda: inference.save(net(), "x"), "is no inference form"),
    "an example of none": (lambda: inference.form(net(), None), "form takes a network and an example"),
    "keep as a number": (lambda: shrink(nn.Linear(2, 2), torch.zeros(1, 2), keep=5), "keep must be a list"),
    "seconds of words": (lambda: shrink(nn.Linear(2, 2), torch.zeros(1, 2), seconds="x"), "seconds must be"),
    "a share of words": (lambda: compress(net(), (X, Y), "0.5"), "share must be"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_refused_by_name(what):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        call()


def test_whole_numbers_may_be_numpys_and_until_zero_trains_nothing():
    assert fit(steps=np.int64(3)).step == 3
    model, before = net(), net()
    assert training.fit(model, (X, Y), steps=5, until=0).step == 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


@pytest.mark.parametrize("option", ["amsgrad", "decoupled_weight_decay"])
def test_options_of_adam_count_in_every_step(option):
    """Against torch's own loop; the lean update knows neither."""
    nets, rates = [net(), net()], {"lr": 0.05, "weight_decay": 0.1, option: True}
    settings = {"batch": 40, "order": "sequence", "precision": "fp32", "steps": 6}
    training.fit(nets[0], (X, Y), optimizer={"name": "adam"} | rates, **settings)
    optimizer = torch.optim.Adam(nets[1].parameters(), fused=True, **rates)
    for _ in range(6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(nets[1](X), Y).backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(*(n.parameters() for n in nets), strict=True))


def test_a_checkpoint_is_a_file_and_knows_weights_labels_and_the_options_of_hooks(tmp_path, capsys):
    for wrong in (tmp_path, "", 5):
        with pytest.raises(ValueError, match="checkpoint must be the path of a file"):
            fit(checkpoint=wrong)
    labels = Y.clone()
    labels[1] = 7

    def trained(seed=0, y=Y, target=0.5):
        torch.manual_seed(seed)
        model = models.build("mlp", widths=[6], inputs=64, outputs=10)
        hook = pruning.StochasticZeroing(model, steps=4, target=target)
        options = {"steps": 4, "checkpoint": tmp_path / "c.pt", "checkpoint_seconds": 0}
        training.fit(model, (X, y), after_step=[hook], **options)
        return capsys.readouterr().out

    assert trained() == trained() == ""
    for other in ({"seed": 1}, {"y": labels}, {"target": 0.9}):
        assert "is of another training" in trained(**other)
    assert len(list(tmp_path.glob("c.aside*"))) == 3, "none takes the place of another"


WEIGHTS, GREY = [torch.randn(5, 4)], torch.randn(3, 3, 5, 5)
ODD = (True, "x", b"x", math.nan, -math.inf, -0.5, [], {}, ["x"], [math.nan], [None], torch.arange(3), object(), len)
STEP = {"ws": WEIGHTS, "grads": WEIGHTS, "scales": [1.0]}

#: function → arguments that fit it, each of which is tried with every odd value
DOORS = {
    regularizers.l1: {"ws": WEIGHTS},
    regularizers.sparse_group_lasso: {"ws": WEIGHTS, "alpha": 0.1},
    regularizers.l0: {"ws": WEIGHTS, "beta": 20.0, "surrogate": "exp"},
    regularizers.partial: {"ws": WEIGHTS, "beta": 2},
    regularizers.layer_factors: {"ws": WEIGHTS, "rule": "sqrt", "layer_weights": [1.0]},
    regularizers.l0_grad_: STEP | {"beta": 20.0, "surrogate": "exp"},
    regularizers.sparse_group_lasso_grad_: STEP | {"alpha": 0.1},
    regularizers.prox_sparse_group_lasso_: {"ws": WEIGHTS, "scales": [0.1], "alpha": 0.1},
    regularizers.bind: {"penalty": {"name": "l1", "lam": 1}, "ws": WEIGHTS, "autograd": False},
    pruning.zeroed: {"w": WEIGHTS[0], "s": 0.5, "q": 2, "generator": None},
    shrinking.shrink: {"model": net(), "fold": True},
    shrinking.alive_1e3: {"model": net(), "threshold": 1e-3, "beta": 2},
    shrinking.sparsity_1e3: {"model": net(), "threshold": 1e-3},
    measures.flops: {"model": net(), "example": (64,)},
    measures.alive: {"model": net()},
    measures.split: {"logits": GREY, "smallest": 5},
    measures.average_precision: {"predicted": MAP, "true": MAP, "thresholds": [0.5]},
    measures.latency: {"models": {"a": net()}, "x": X, "repeats": 1, "warmup": 1},
    saving.to_bytes: {"model": net(), "summed": True},
    saving.load: {"folder": "x"},
    sparse.to_bytes: {"model": net(), "dtype": "fp32"},
    inference.load: {"folder": "x"},
    dynamics.independent: {"pruned": [0.5, 0.5], "sizes": [8, 6, 3]},
    baselines.noisy: {"model": net(), "name": "hard_concrete", "examples": 2, "compile": False},
    training.predict: {"model": net(), "x": X, "outputs": None},
}
FIT = {"true": ODD, "predicted": ODD, "x": ODD, "penalty": ODD, "outputs": [len], "folder": ["x"]}


@pytest.mark.parametrize(
    ("function", "name"), [(f, name) for f in DOORS for name in DOORS[f]], ids=lambda v: getattr(v, "__name__", v)
)
def test_what_a_reader_calls_refuses_odd_arguments_by_name(function, name):
    for odd in ODD:
        fits = [True] if isinstance(DOORS[function][name], bool) else FIT.get(name, ())
        if not any(odd is fit for fit in fits):
            with pytest.raises(ValueError, match=f"{name}|network|inputs|weights|baseline"):
                function(**(DOORS[function] | {name: odd}))


def test_lists_that_do_not_fit_each_other_and_networks_without_weights_are_refused():
    for wrong in ({"scales": [1.0, 1.0]}, {"grads": [torch.randn(1, 4)]}, {"grads": []}, {"ws": []}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            regularizers.l1_grad_(**(STEP | wrong))
    for count in (measures.histogram, shrinking.sparsity_1e3):
        with pytest.raises(ValueError, match="ReLU has no prunable weights"):
            count(nn.ReLU())

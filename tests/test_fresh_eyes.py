"""What a stranger's first tries came to in silence: parameters replaced, curves that part, threads, runs twice."""

import copy
import io
import tempfile
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from companion import runs
from lib import depgraph, inference, measures, models, regularizers, saving, sparse, training
from lib.compress import compress
from lib.dynamics import Dynamics

X, Y = torch.randn(24, 64, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 10
CONFIG = {"experiment": "tiny", "data": {"name": "digits"}, "stages": [{"name": "train", "steps": 3}]}
CONFIG |= {"model": {"name": "mlp", "widths": [4], "inputs": 64, "outputs": 10}}


def net():
    return models.build("mlp", widths=[6], inputs=64, outputs=10)


def fit(**options):
    return training.fit(net(), (X, Y), **({"steps": 4, "batch": 8} | options))


def replacing(at, shape=(6, 64)):
    def hook(model, step):
        if step == at:
            model.fc1.weight = nn.Parameter(torch.ones(shape))

    return hook


def names():
    step = iter(range(9))
    return lambda model: {f"score {next(step)}": 1.0}


def inferred():
    with torch.inference_mode():
        made = net()
    return training.fit(made, (X, Y), steps=2)


def twice(hook):
    for _ in range(2):
        fit(after_step=[hook])


def normed():
    return nn.Sequential(nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 10))


def cut(model, y=Y, **options):
    return compress(model, (X, y), 0.5, steps=2, **options)


def loaded(content):
    """What reads a file of this content, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fresh.safetensors"
        file.write_bytes(content)
        return saving.load_into(net(), file)


def pickled():
    content = io.BytesIO()
    torch.save(net(), content)
    return loaded(content.getvalue())


def formed():
    with tempfile.TemporaryDirectory() as folder:
        inference.save(inference.form(net(), X[:1]), folder)
        return saving.load(folder)


ONE = torch.linspace(-1, 1, 10).view(-1, 1)
TRIES = {
    "classes as numbers": (lambda: cut(net(), Y.float()), "of classes take y.long()"),
    "one-hot classes": (lambda: cut(net(), nn.functional.one_hot(Y)), r"take y.argmax\(1\)"),
    "one output for classes": (lambda: cut(nn.Linear(64, 1), Y % 2), r"one output is for numbers, y.float\(\)"),
    "a pair of pairs": (
        lambda: training.fit(nn.Linear(1, 1), ((ONE, 2 * ONE), (ONE, ONE)), steps=2),
        "got two such pairs; one with a validation part is types.SimpleNamespace",
    ),
    "a misspelt watch": (lambda: fit(wach=len), "no 'wach'; known: after_step, .* until, watch$"),
    "a rate beside the optimizer": (lambda: fit(lr=0.1), r"no 'lr'; pass optimizer=\{'lr': …\}; known"),
    "epochs": (lambda: cut(net(), epochs=3), "no 'epochs'; pass steps, the number of batches; known"),
    "a file of torch.save": (pickled, "is torch.save's; torch.load"),
    "a sparse file": (lambda: loaded(sparse.to_bytes(net())), "is a sparse file; sparse.load"),
    "a sparse file's path": (lambda: sparse.read("x.safetensors"), "takes the bytes of a file, .* got a str"),
    "an inference form": (formed, "holds an inference form; inference.load"),
    "an example without its axis": (lambda: training.predict(nn.Linear(64, 3), X[0]), "give one example as x.None."),
    "a parameter replaced at first": (lambda: fit(after_step=[replacing(0)]), "hook has replaced 'fc1.weight'"),
    "a parameter replaced at last": (lambda: fit(after_step=[replacing(3)]), "hook has replaced 'fc1.weight'"),
    "one of another width": (lambda: fit(after_step=[replacing(0, (5, 64))]), "hook has replaced 'fc1.weight'"),
    "a watch of other names": (
        lambda: fit(watch=names(), log_points=2),
        r"the same names each time, got \['score 1'\] after",
    ),
    "dynamics of other steps": (lambda: fit(after_step=[Dynamics(net(), steps=9)]), "Dynamics was made for 9 steps"),
    "dynamics of another training": (lambda: twice(Dynamics(net(), steps=4)), "dynamics is of one training"),
    "made in inference mode": (inferred, "made within torch.inference_mode; make, load or shrink it outside"),
    "rows of another order": (
        lambda: training.fit(net(), (pd.DataFrame(X), pd.Series(Y)[::-1]), steps=2),
        r"the same labels in another order; pass y\.loc\[x\.index\]",
    ),
    "a network for a dict": (lambda: measures.compare(net(), (64,)), r"name → network, got Sequential\(   \(fl"),
    "a frame for a number": (lambda: compress(net(), (X, Y), pd.DataFrame(X)), r"share must be in \(0, 1\], got "),
    "an example without a batch": (lambda: saving.to_onnx(net(), "x.onnx", X[0]), r"cannot be exported .*\(2,\): "),
    "ids below 0": (lambda: measures.dice(-np.eye(3, dtype=int), np.eye(3, dtype=int)), "numbers from 0 on"),
    "a view too few": (
        lambda: regularizers.bind({"name": "gl", "lam": 1.0}, [torch.ones(2, 2)] * 2, views=[lambda w: w]),
        "views must have a function for each of the 2 weights, got 1",
    ),
    "no input": (lambda: inference.form(net(), X[:0]), "the example is empty"),
    "an example of NaN": (lambda: depgraph.shrink(nn.Linear(64, 2), X[:1] * torch.nan), "the example has NaN in it"),
}


@pytest.mark.parametrize("what", TRIES)
def test_it_is_refused_in_one_line(what):
    attempt, said = TRIES[what]
    with pytest.raises(ValueError, match=said) as told:
        attempt()
    assert "\n" not in str(told.value)


def test_masks_of_torch_s_own_pruning_in_a_hook_are_no_replacement():
    def prune(model, step):
        if step == 1:
            nn.utils.prune.l1_unstructured(model.fc1, "weight", 0.5)

    assert fit(after_step=[prune]).status == "done"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path))
    monkeypatch.delenv("COMPANION_TRAIN", raising=False)
    return tmp_path


def test_threads_train_what_they_would_alone(store, monkeypatch):
    configs, found, errors = [CONFIG | {"seed": k} for k in range(3)], {}, []

    def train(config):
        try:
            found[config["seed"]] = runs.run(config)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=train, args=(config,)) for config in [*configs, configs[0]]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    monkeypatch.setenv("COMPANION_RUNS", str(store / "alone"))
    for seed, config in enumerate(configs):
        assert runs.run(config)["rows"][0]["curves"] == found[seed]["rows"][0]["curves"]


@pytest.mark.parametrize("penalty", [{"name": "sgl", "lam": 1e-3}, {"name": "gl", "lam": 1e-3, "prox": True}], ids=str)
def test_threads_penalise_what_they_would_alone(penalty):
    x, y = torch.randn(256, 64), torch.arange(256) % 10

    def train(net, seed):
        optimizer = {"name": "sgd", "lr": 0.05}
        training.fit(net, (x, y), steps=100, batch=64, seed=seed, penalty=penalty, optimizer=optimizer)

    alone = [models.build("mlp", widths=[200, 100], inputs=64, outputs=10) for _ in range(2)]
    together = copy.deepcopy(alone)
    threads = [threading.Thread(target=train, args=(net, k)) for k, net in enumerate(together)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, net in enumerate(alone):
        train(net, k)
        assert all(map(torch.equal, net.parameters(), together[k].parameters()))


def test_a_run_that_is_given_twice_counts_once_in_a_table(store):
    first, other = CONFIG | {"case": {"penalty": "none"}}, CONFIG | {"case": {"penalty": "L2, λ = 0"}}
    table = runs.frame(runs.run_all([first, first, other]))
    assert table["penalty"].tolist() == ["none", "L2, λ = 0"] and table["id"].nunique() == 1


@pytest.mark.parametrize("keep", [[], ["0", "2"]])
def test_a_network_without_a_unit_that_may_go_is_told(keep):
    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)) if keep else normed()
    with pytest.warns(UserWarning, match="no unit of Sequential may be cut: its outputs stay, .* what keep names"):
        found = cut(model, keep=keep)
    assert measures.parameters(found.network) == measures.parameters(model)

"""Every nested option of a run, wrong in every way: it is refused by name before anything is trained or written."""

import math

import pytest

from companion import runs, settings

DIGITS, CELLS = {"name": "digits"}, {"name": "cells", "size": 10}
MLP = {"name": "mlp", "widths": [6], "inputs": 64, "outputs": 10}
CONV = {"name": "lenet5", "widths": [2, 2, 4], "size": 16}
STAGE = {"name": "a", "steps": 4, "batch": 8}
ODD = ("x", None, True, [], {}, math.nan, math.inf, -math.inf, -1, 10**30)

#: option of a stage → a dict that is right, and for each of its keys what else is right of the odd values
NESTED = {
    "zeroing": ({"target": 0.5, "every": 2, "ramp": 0.5, "freeze": 0.7, "q": 1, "by": "size", "scope": "layer"}, {}),
    "gradual": ({"final": 0.5, "initial": 0.1, "begin": 0.1, "end": 0.5, "every": 2, "scope": "layer"}, {}),
    "prune": ({"sparsity": 0.5, "scope": "layer", "rule": "random"}, {}),
    "histogram": ({"bins": 5, "within": 0.5}, {}),
    "dynamics": ({"units": 2, "frames": 2, "frame_units": 3}, {"units": [10**30], "frame_units": [10**30]}),
    "optimizer": (
        {"name": "sgd", "lr": 0.1, "momentum": 0.5, "dampening": 0.0, "weight_decay": 0.1, "nesterov": True},
        {"nesterov": [True], "lr": [10**30], "weight_decay": [10**30]},
    ),
    "penalty": (
        {"name": "sgl", "lam": 0.1, "alpha": 0.5, "partial": 2, "rescale": True, "layer_rule": "sqrt", "prox": True},
        {"partial": [None, 10**30], "rescale": [True], "prox": [True], "lam": [10**30]},
    ),
}
MANY = {("zeroing", "every"): [10**30], ("gradual", "every"): [10**30], ("histogram", "within"): [10**30]}


def refused(config, *words):
    """The configuration is refused in one message that has these words."""
    with pytest.raises(ValueError) as told:
        runs.run(config)
    message = str(told.value)
    assert "\n" not in message and all(word in message for word in words), (config, message)


def chain(*stages, **more):
    return {"experiment": "wrong", "data": DIGITS, "model": MLP, "stages": list(stages)} | more


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """A folder in which nothing may be left behind."""
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("COMPANION_TRAIN", raising=False)
    yield
    assert not (tmp_path / "runs").exists(), "a refused configuration has left a file"


@pytest.mark.parametrize("option", NESTED)
def test_odd_values_misspelt_names_and_other_kinds_are_refused(option):
    right, fitting = NESTED[option]
    runs.rehearsal.rehearse(runs.Run.of(chain(STAGE | {option: right})))
    for key in right:
        allowed = fitting.get(key, []) + MANY.get((option, key), [])
        for odd in ODD:
            if not any(odd is fit or (odd == fit and type(odd) is type(fit)) for fit in allowed):
                refused(chain(STAGE | {option: right | {key: odd}}))
        misspelt = {name: value for name, value in right.items() if name != key} | {key + "s": right[key]}
        refused(chain(STAGE | {option: misspelt}))
    for other in ("x", 3, True, [3], [right, 3]):
        refused(chain(STAGE | {option: other}), *(["optimizer"] if option == "optimizer" else []))


BASELINES = {
    "hard_concrete": {"lam": 0.1, "factors": [1, 1], "keep": [0.8, 0.5]},
    "variational_dropout": {"lam": 0.1, "warmup": [0.1, 0.2], "log_variance": -8.0},
}

FITTING = [("factors", None), ("factors", []), ("lam", 10**30), ("log_variance", -1), ("log_variance", 10**30)]


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_of_baselines(name):
    right = {"name": name} | BASELINES[name]
    runs.rehearsal.rehearse(runs.Run.of(chain(STAGE | {"baseline": right})))
    for key in right:
        for odd in (*ODD, [0.5], [0.5, math.nan], [True, 0.5], ["x", 0.5], [0.5, 2.0, 3.0]):
            if (key, odd) not in FITTING:
                refused(chain(STAGE | {"baseline": right | {key: odd}}))
        refused(chain(STAGE | {"baseline": right | {key + "s": right[key]}}))


TOGETHER = {
    "units with a share": ({"prune": {"rule": "units", "sparsity": 0.5}}, "no 'sparsity'"),
    "a share with widths": ({"prune": {"sparsity": 0.5, "widths": [3]}}, "no 'widths'"),
    "no share": ({"prune": {}}, "lacks 'sparsity'"),
    "too many units": ({"prune": {"rule": "units", "widths": [7]}}, "[1, 6], got 7"),
    "units of two groups": ({"prune": {"rule": "units", "widths": [3, 3]}}, "each of the 1 groups"),
    "zeroing without steps": ({"zeroing": {"target": 0.5}, "steps": 0}, "'a' has zeroing but no steps"),
    "gradual without steps": ({"gradual": {"final": 0.5}, "steps": 0}, "gradual but no steps"),
    "dynamics without steps": ({"dynamics": {"units": 1}, "steps": 0}, "dynamics but no steps"),
    "baseline without steps": ({"baseline": {"name": "hard_concrete"}, "steps": 0}, "baseline but no steps"),
    "zeroing a baseline": ({"zeroing": {"target": 0.5}, "baseline": {"name": "hard_concrete"}}, "take one"),
    "targets of three layers": ({"zeroing": {"target": [0.5] * 3}}, "target has 3 entries for 2"),
    "weights of three layers": ({"penalty": {"name": "l1", "lam": 1, "layer_weights": [1] * 3}}, "3 entries for 2"),
    "factors of three layers": ({"baseline": {"name": "hard_concrete", "factors": [1] * 3}}, "factors has 3 entries"),
    "pictures of digits": ({"pictures": [0]}, "pictures are of a segmentation's"),
    "an odd picture": ({"pictures": [-1]}, "pictures must be a whole number"),
    "images of ten classes": ({"images": True}, "images are kept where there are two classes, and here are 10"),
    "another part": ({"scores": ["tset"]}, "scores must be a string, one of train, validation, test"),
    "numbers of classes": ({"loss": "mse"}, "differ in shape"),
    "maps of classes": ({"loss": "boundary"}, "do not take inputs (N, 1, 8, 8)"),
    "another compiler": ({"compile": "yes"}, "compile must be True, False or 'auto'"),
    "a function": ({"loss": len}, "strings, lists and dicts alone"),
}


@pytest.mark.parametrize("what", TOGETHER)
def test_what_cannot_be_together_is_refused(what):
    options, word = TOGETHER[what]
    refused(chain({"name": "first", "steps": 3}, STAGE | options), word)


WHOLE = {
    "a list": ([], "the configuration must be a dict"),
    "stages as a dict": (chain(stages={"name": "a"}), "stages must be a list"),
    "a stage as a string": (chain(stages=["a"]), "stage must be a dict"),
    "a name that is odd": (chain({"name": ["a"]}), "a stage must have a name"),
    "another start": (chain(STAGE | {"from": "b"}), "starts from 'b'"),
    "its own start": (chain(STAGE | {"from": "a"}), "starts from 'a'"),
    "a model as a string": (chain(STAGE, model="mlp"), "model must be a dict"),
    "a model without a name": (chain(STAGE, model={"widths": [3]}), "name"),
    "too few inputs": (chain(STAGE, model=MLP | {"inputs": 63}), "do not take inputs (N, 1, 8, 8)"),
    "too few outputs": (chain(STAGE, model=MLP | {"outputs": 9}), "y has the class 9; the network's 9 outputs"),
    "a convolution's baseline": (
        chain(STAGE | {"baseline": {"name": "hard_concrete"}}, model=CONV, data={"name": "ct_slices", "size": 10}),
        "knows linear layers only",
    ),
    "augmented tables": (
        chain(STAGE | {"augment": "flip_crop"}, data={"name": "wine"}, model=MLP | {"inputs": 13, "outputs": 3}),
        "augment 'flip_crop' takes images",
    ),
    "a plateau of numbers": (
        chain(
            STAGE | {"schedule": "plateau", "loss": "mse"},
            data={"name": "diabetes"},
            model=MLP | {"inputs": 10, "outputs": 1},
        ),
        "schedule 'plateau' needs",
    ),
    "a part of more than all": (chain(STAGE, data=DIGITS | {"subset": 10**6}), "subset 1,000,000 is more than"),
    "a data set of odd kind": (chain(STAGE, data={"name": ["digits"]}), "unknown data set ['digits']"),
    "a split of digits": (chain(STAGE, data=DIGITS | {"split": 3}), "split=3"),
    "a half seed": (chain(STAGE, seed=0.5), "seed must be a whole number"),
    "no code": ({"experiment": "wrong", "kind": "own", "code": "gone-1", "options": {}}, "runs.own"),
    "odd options": ({"experiment": "wrong", "kind": "own", "code": "gone-1", "options": [1]}, "options must be a dict"),
    "no variants": ({"experiment": "wrong", "kind": "timing", "data": DIGITS, "model": MLP}, "lacks 'variants'"),
}
VARIANT = {"experiment": "wrong", "kind": "timing", "data": DIGITS, "model": MLP}
WHOLE |= {
    "variants as a list": (VARIANT | {"variants": [{}]}, "variants must be a dict"),
    "a penalty alone that is none": (VARIANT | {"variants": {"v": {"only": "penalty"}}}, "needs a penalty"),
    "a variant's zeroing": (VARIANT | {"variants": {"v": {"zeroing": {"target": [0.5]}}}}, "target has 1 entries"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_a_configuration_that_cannot_be_is_refused(what):
    config, word = WHOLE[what]
    refused(config, word)


def test_variables_that_are_empty_count_as_none_and_nonsense_is_refused(monkeypatch):
    for name, asked, usual in (("TRAIN", settings.train, "missing"), ("DOWNLOAD", settings.download, True)):
        monkeypatch.setenv(f"COMPANION_{name}", "")
        assert asked() == usual
        monkeypatch.setenv(f"COMPANION_{name}", "no")
        with pytest.raises(ValueError, match=f"COMPANION_{name}='no' is unknown; known: "):
            asked()


def test_the_last_of_many_is_told_before_the_first_is_trained(monkeypatch):
    monkeypatch.setattr(runs, "execute", lambda run: pytest.fail("something was trained"))
    with pytest.raises(ValueError, match=r"stage 'a': .*each of the 1 groups"):
        runs.run_all([chain(STAGE), chain(STAGE | {"prune": {"rule": "units", "widths": [1, 2]}}, seed=1)])

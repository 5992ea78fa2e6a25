"""Configurations: plain data, resolved to the last default, named by a hash of what is not one."""

import hashlib
import json

from lib import regularizers, training

CHAIN = {"kind": "chain", "version": 1, "seed": 0, "data": None, "model": None, "stages": None}
TIMING = {"kind": "timing", "version": 1, "seed": 0, "data": None, "model": None, "variants": None, "rounds": 9}
OWN = {"kind": "own", "version": 1, "seed": 0, "code": None, "options": {}}  # see lib.runs.own
DATA = {
    "scaling": "standard",
    "relabel": None,  # the seed of a permutation of the inputs
    "subset": None,  # only so many training examples, the first ones
}
STAGE = {
    "from": None,  # the stage whose weights it starts from; default the one before
    "restart": False,  # fresh weights where the stage that it starts from has any, zeros where it has none
    "prune": None,  # {"sparsity": 0.9, "scope": "global", "rule": "magnitude"} or {"rule": "units", "widths": [30, 10]}
    "shrunk": False,  # it starts from the network without its dead units, and so do the stages after it
    "hold": False,  # weights that are zero at the start stay zero
    "gradual": None,  # options of lib.pruning.GradualMagnitude, e.g. {"final": 0.99}
    "zeroing": None,  # options of lib.pruning.StochasticZeroing, e.g. {"target": 0.9, "every": 4}
    "baseline": None,  # options of lib.baselines.noisy, e.g. {"name": "variational_dropout"}: its layers in training
    "histogram": None,  # options of lib.measures.histogram, e.g. {"bins": 61, "within": 0.3}: kept in the row
    "steps": 0,
    "penalty": None,
    "loss": "cross_entropy",
    "optimizer": {"name": "adam", "lr": 1e-3},
    "batch": 128,
    "order": "shuffle",
    "schedule": "constant",
    "precision": "auto",
    "augment": "none",
    "compile": "auto",
    "log_points": 50,
    "scores": None,  # the parts of the data that its end is scored on, e.g. ["validation", "test"]; default all
    "dynamics": None,  # options of lib.dynamics.Dynamics: curves of how units die, e.g. {"units": 8, "frames": 40}
    "pictures": None,  # segmentation: test images whose instance maps are kept beside the record, e.g. [0, 1]
}
OF_CHAINS = ("from", "restart", "prune", "shrunk", "hold", "gradual", "baseline", "histogram", "log_points", "steps")
OF_CHAINS += ("scores", "dynamics", "pictures")
VARIANT = {key: STAGE[key] for key in STAGE if key not in OF_CHAINS}
VARIANT |= {"autograd_penalty": False, "block": 100, "only": "step"}  # only: "step", or "penalty" with its gradient
UNHASHED = ("case",)  # what a table calls the run


def resolve(config):
    """The configuration with every default filled in; unknown keys are errors that list the known ones."""
    kinds = {"chain": CHAIN, "timing": TIMING, "own": OWN}
    kind = training.named(kinds, config.get("kind", "chain"), "kind of run")
    full = _filled(config, kind | {"experiment": None, "case": {}}, "configuration")
    if full["kind"] == "own":
        return _complete(full, "experiment", "code")
    full["data"] = _filled(full["data"], DATA | {"name": None, "split": 0, "size": None}, "data")
    if full["kind"] == "timing":
        full["variants"] = {n: _part(v, VARIANT, "variant") for n, v in full["variants"].items()}
    else:
        full["stages"] = [_part(stage, STAGE | {"name": None}, "stage") for stage in full["stages"]]
    return _complete(full, "experiment", "data", "model")


def _complete(full, *needed):
    if missing := [key for key in needed if full[key] is None]:
        raise ValueError(f"the configuration lacks {missing[0]!r}")
    return full


def _filled(given, defaults, what):
    if extra := set(given) - set(defaults):
        raise ValueError(f"{what} has no {sorted(extra)[0]!r}; known: {', '.join(sorted(defaults))}")
    return defaults | given


def _part(given, defaults, what):
    full = _filled(given, defaults, what)
    full["penalty"] = regularizers.resolve(full["penalty"]) or None
    return full


def _stripped(config):
    """The resolved configuration without what is at its default, so that a new option leaves old hashes alone."""

    def differing(full, defaults):
        return {k: v for k, v in full.items() if k not in defaults or v != defaults[k]}

    config = {k: v for k, v in config.items() if k not in UNHASHED}
    if config["kind"] == "own":
        return differing(config, OWN)
    config["data"] = differing(config["data"], DATA | {"split": 0, "size": None})
    if config["kind"] == "timing":
        config["variants"] = {n: differing(v, VARIANT) for n, v in config["variants"].items()}
        return differing(config, TIMING)
    config["stages"] = [differing(stage, STAGE) for stage in config["stages"]]
    return differing(config, CHAIN)


def identity(config):
    """The name of a run: a hash of what it is, without defaults."""
    text = json.dumps(_stripped(resolve(config)), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

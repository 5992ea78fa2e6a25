"""A chain of stages that takes about a second: what kills and damaged files are held against."""

import json

import numpy as np

from companion import runs
from lib import training

DIGITS = {"name": "digits"}
STAGES = [
    {"name": "dense", "steps": 60, "penalty": {"name": "sgl", "lam": 1e-3}, "log_points": 10},
    {"name": "pruned", "steps": 40, "prune": {"sparsity": 0.5}, "hold": True, "log_points": 10},
    {"name": "zeroed", "steps": 40, "zeroing": {"target": 0.7, "every": 4}, "dynamics": {"frames": 3}},
]


def config(seed, experiment="chain"):
    """The configuration of such a chain."""
    network = {"name": "mlp", "widths": [16, 8], "inputs": 64, "outputs": 10}
    return {"experiment": experiment, "seed": seed, "data": DIGITS, "model": network, "stages": STAGES}


def trained(seed, *, collected=True):
    """Train it with a checkpoint after every step, and collect it."""
    training.loop.CHECKPOINT_SECONDS = 0
    runs.run(config(seed))
    if collected:
        runs.collect([config(seed)])


def found(seed):
    """Its record and arrays as text without seconds: what is the same each time."""
    record = runs.find(config(seed))
    rows = [{key: value for key, value in row.items() if key != "train_s"} for row in record["rows"]]
    kept = {name: np.asarray(array).tolist() for name, array in runs.arrays(record).items()}
    return json.dumps([record["status"], rows, kept], sort_keys=True)

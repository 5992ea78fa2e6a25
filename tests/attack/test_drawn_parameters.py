"""Parameters drawn at random for all notebooks, at `quick`: the call runs, or is refused before anything is trained.

One to three of a notebook's parameters get a value that fits its range or one that does not. ATTACK_SEED repeats a
draw, ATTACK_SETS changes their number, ATTACK_BOUND ends each call after so many of the processor's seconds.
"""

import os
import random

import lists
import pytest

from companion import parameters

SEED = os.environ["ATTACK_SEED"]
SETS = int(os.environ.get("ATTACK_SETS", "100"))
WRONG = ["", "x", "3", [], {}, [[]], [None], ["x"], (1,), b"1"]  # what no parameter of any notebook takes
ODD = [*WRONG, None, -1, 0, 10**9, -0.5, 1e30, True]
FEW = {"seeds": (1, 2), "steps": (1, 50), "epochs": (3, 3), "tuning": (1, 1), "tune_epochs": (1, 1), "rounds": (2, 3)}
FEW |= {"widths": (2, 64), "grid_seeds": (1, 2), "conv_seeds": (0, 1), "replica_seeds": (0, 1)}
FEW |= {"image_seeds": (1, 2), "subset_steps": (1, 50)}  # what takes long


def fitting(name, default, allowed, rng):
    """A value that the range allows; where it is a count of work, a low one."""
    if isinstance(default, list) or isinstance(allowed, list):
        entries = lists.ENTRIES[name] if default is None else default
        return lists.drawn(entries, rng.choice(["one", "all but one"] if len(entries) > 1 else ["one"]), rng)
    allowed = FEW.get(name, allowed)
    if allowed is None:
        return (not default) if isinstance(default, bool) else default
    if isinstance(allowed[0], str):
        return rng.choice([a for a in allowed if a not in ("laptop", "paper")])
    low, high = allowed
    if isinstance(low, int) and not isinstance(default, float):
        return rng.choice([low, high, rng.randint(low, high)])
    return rng.choice([low, high, rng.uniform(low, high), high ** rng.random() * max(low, high * 1e-6) ** 0.5])


def drawn(notebook, rng):
    """One to three parameters of a notebook, with values of which about a third is odd."""
    defaults = parameters.declared(lists.code(notebook))
    ranges = parameters.EVERY_NOTEBOOK | lists.ranges(notebook)
    names = rng.sample([name for name in defaults if name != "profile"], rng.randint(1, 3))
    return {
        name: rng.choice(ODD) if rng.random() < 0.3 else fitting(name, defaults[name], ranges.get(name), rng)
        for name in names
    }


@pytest.mark.parametrize("k", range(SETS))
def test_drawn_parameters_run_or_are_refused(k, note, tmp_path):
    rng, notebook = random.Random(f"{SEED} {k}"), lists.NOTEBOOKS[k % len(lists.NOTEBOOKS)]
    given = drawn(notebook, rng)
    print(f"ATTACK_SEED={SEED}, {notebook.stem}: {given}")
    refused = lists.tried(notebook, tmp_path, given)
    taken = refused is False or (refused is None and lists.trained(tmp_path))
    assert not (taken and any(value in WRONG for value in given.values())), "a wrong value was taken without a word"
    note(refused)

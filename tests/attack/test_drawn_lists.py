"""Lists for every list parameter of every notebook, at `quick`: each runs, or is refused before anything is trained.

`make attack` runs it, with another draw every time: the number that a failure shows repeats it as ATTACK_SEED.
"""

import os
import random

import lists
import pytest

SEED = os.environ["ATTACK_SEED"]
ALONE = {("25_full_size_stochastic", "schedules")}  # some of its entries want further lists beside them, and it says so
CASES = [
    pytest.param(notebook, name, how, id=f"{notebook.stem}-{name}-{how}")
    for notebook in lists.NOTEBOOKS
    for name in lists.of(notebook)
    for how in ("one", "all but one", "none", "one twice")
]


@pytest.mark.parametrize(("notebook", "name", "how"), CASES)
def test_a_list_runs_or_is_refused(notebook, name, how, note, tmp_path):
    entries = lists.of(notebook)[name]
    if how == "all but one" and len(entries) < 3:
        pytest.skip("that is the case of one entry")
    given = lists.drawn(entries, how, random.Random(f"{SEED} {notebook.stem} {name} {how}"))
    print(f"ATTACK_SEED={SEED}: {name} = {given}")
    refused = lists.tried(notebook, tmp_path, {name: given})
    wrong = how == "none" or (how == "one twice" and name not in lists.repeated(notebook))
    assert refused in (None, wrong) or (notebook.stem, name) in ALONE
    note(refused)


@pytest.mark.parametrize("notebook", [n for n in lists.NOTEBOOKS if lists.of(n)], ids=lambda path: path.stem)
def test_all_lists_at_once(notebook, note, tmp_path):
    rng = random.Random(f"{SEED} {notebook.stem}")
    given = {
        name: lists.drawn(e, rng.choice(["one", "all but one"] if len(e) > 1 else ["one"]), rng)
        for name, e in lists.of(notebook).items()
    }
    print(f"ATTACK_SEED={SEED}: {given}")
    refused = lists.tried(notebook, tmp_path, given)
    assert not refused
    note(refused)

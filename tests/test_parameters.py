"""What a notebook accepts: its own names, their types and ranges, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from companion import parameters, settings

ROOT = Path(__file__).resolve().parent.parent
CELL = """profile = "laptop"  # a comment
part = "all"
seeds = 5
first_seed = 0
lam = 1e-4
steps = None
names = ["a"]
lr = None
targets = None
"""
VALUES = {"profile": "laptop", "part": "all", "seeds": 5, "first_seed": 0, "lam": 1e-4, "steps": None, "names": ["a"]}
VALUES |= {"lr": None, "targets": None}


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    monkeypatch.delenv("COMPANION_FIGURES", raising=False)
    monkeypatch.setenv("COMPANION_COMMITTED", "1")
    return tmp_path


def check(injected="", **changes):
    history = ["", CELL] + ([f"# Parameters\n{injected}\n"] if injected else [])
    ranges = {"lam": (0.0, 10.0), "steps": (1, 10**6), "names": ("a", "b")}
    ranges |= {"lr": (1e-6, 1.0), "targets": [(0.0, 1.0)]}
    return parameters.check("01_name", VALUES | changes | {"In": history, "later": 1}, **ranges)


def test_a_shard_keeps_more_of_the_seed_of_which_the_render_shows_more(notebook):
    assert check().shown_seed == 0 and check("first_seed = 4", first_seed=4).shown_seed == 4
    shard = 'profile = "paper"\npart = "train"\nseeds = 1\nfirst_seed = 1'
    assert check(shard, profile="paper", part="train", seeds=1, first_seed=1).shown_seed == 0


def test_shards_share_the_fresh_seeds_which_no_parameter_may_name(notebook):
    whole = check(seeds=3).fresh(4)
    assert len(set(whole)) == 12 and min(whole) > parameters.EVERY_NOTEBOOK["first_seed"][1] + 1000
    shards = [check(seeds=1, first_seed=k).fresh(4) for k in range(3)]
    assert sum(shards, []) == whole  # noqa: RUF017 as there are three


def test_defaults_give_the_committed_figures(notebook):
    setup = check()
    assert setup.default and setup.title == "" and setup.figures == notebook / "figures" / "01_name"
    assert check('profile = "quick"', profile="quick").figures == notebook / "figures" / "quick" / "01_name"
    assert check(profile="quick").title == "quick: "
    assert check(profile="paper").figures == notebook / "figures" / "01_name_paper"


def test_the_seeds_are_those_asked_for_and_two_at_most_at_quick(notebook):
    assert check(first_seed=3).seeds == range(3, 8)
    assert check(profile="quick").seeds == range(2) and check(profile="quick", seeds=1).seeds == range(1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"seeds": 3, "part": "train"}, []),
        (
            {"profile": "quick", "names": ["b"]},
            ["changed `profile = 'quick'`, `names = ['b']`.", "two seeds at most", "grids of its own"],
        ),
        ({"profile": "paper"}, ["This call changed `profile = 'paper'`."]),
    ],
)
def test_a_call_that_is_not_the_committed_one_says_so(notebook, monkeypatch, changes, said):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda banner: shown.append(banner.data))
    check(**changes)
    assert len(shown) == bool(said) and all(text in shown[0] for text in said)


@pytest.mark.parametrize("by_hand", ["0", None])
def test_no_run_by_hand_writes_committed_figures(notebook, monkeypatch, by_hand):
    monkeypatch.setenv("COMPANION_COMMITTED", by_hand) if by_hand else monkeypatch.delenv("COMPANION_COMMITTED")
    for setup, name in ((check(), "unchanged"), (check("seeds = 3", seeds=3), "seeds=3")):
        assert not setup.default and setup.figures == notebook / "figures" / "custom" / "01_name" / name


@pytest.mark.parametrize(
    ("changes", "folder", "title"),
    [
        ({"lam": 3e-4, "seeds": 2}, "01_name/seeds=2,lam=0.0003", "seeds=2,lam=0.0003: "),
        ({"lam": 1e-3, "profile": "quick"}, "01_name_quick/lam=0.001", "quick: lam=0.001: "),
        ({"names": ["b", "a"], "profile": "paper"}, "01_name_paper/names=b+a", "full size: names=b+a: "),
        ({"profile": "quick", "seeds": 1}, "01_name_quick/seeds=1", "quick: seeds=1: "),
        ({"names": ["a b"]}, "01_name/d7a559cf", "d7a559cf: "),
    ],
)
def test_every_custom_setting_has_a_folder_and_a_name(notebook, changes, folder, title):
    setup = parameters.made("01_name", VALUES | changes, VALUES)
    assert setup.figures == notebook / "figures" / "custom" / folder and setup.title == title


def test_seeds_beyond_those_of_quick_change_nothing(notebook):
    setup = parameters.made("01_name", VALUES | {"profile": "quick", "seeds": 2}, VALUES)
    assert setup.changed == {} and setup.figures == notebook / "figures" / "quick" / "01_name"


def test_a_cell_that_was_edited_by_hand_is_held_against_the_notebook_s_file(notebook):
    cell = {"cell_type": "code", "source": CELL.splitlines(keepends=True)}
    (notebook / "notebooks").mkdir()
    (notebook / "notebooks" / "01_name.ipynb").write_text(json.dumps({"cells": [cell]}))
    edited = CELL.replace("lam = 1e-4", "lam = 1e-2")
    setup = parameters.check("01_name", VALUES | {"lam": 1e-2, "In": ["", edited]})
    assert setup.changed == {"lam": 1e-2} and not setup.default


def test_a_file_that_was_edited_and_saved_is_held_against_the_committed_one(notebook, monkeypatch):
    (notebook / "notebooks").mkdir()
    file = notebook / "notebooks" / "01_name.ipynb"
    for lam in ("1e-4", "1e-2"):
        source = CELL.replace("lam = 1e-4", f"lam = {lam}")
        file.write_text(json.dumps({"cells": [{"cell_type": "code", "source": source.splitlines(keepends=True)}]}))
        if lam == "1e-4":
            for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
                subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=notebook, check=True)
    edited = VALUES | {"lam": 1e-2, "In": ["", source]}
    assert parameters.check("01_name", edited).changed == {}, "`make figures` renders what lies there"
    monkeypatch.setenv("COMPANION_COMMITTED", "0")
    assert parameters.check("01_name", edited).figures.name == "lam=0.01"
    assert parameters.check("01_name", VALUES | {"lam": 1e-2, "In": [""]}).changed == {"lam": 1e-2}, "under nbval"
    shard = VALUES | {"lam": 1e-2, "part": "train", "In": ["", source]}
    assert parameters.check("01_name", shard).changed == {}, "a shard's render is `make figures`, too"


def test_a_copy_that_calls_itself_as_the_first_one_is_refused(notebook, monkeypatch):
    monkeypatch.setenv("COMPANION_NOTEBOOK", "01_name")
    assert check()
    monkeypatch.setenv("COMPANION_NOTEBOOK", "92_mine")
    with pytest.raises(
        parameters.ParameterError, match=r"92_mine calls itself 01_name, .* give parameters\.check its own"
    ):
        check()


def test_what_is_given_above_a_cell_without_its_tag_is_not_lost_in_silence(notebook):
    history = ["", "# Parameters\nseeds = 2\nlam = 0.0001\n", CELL]
    said = "^seeds = 2 was given, and a later cell sets it to 5; tag the cell of parameters 'parameters'$"
    with pytest.raises(parameters.ParameterError, match=said):
        parameters.check("01_name", VALUES | {"In": history})
    assert parameters.check("01_name", VALUES | {"In": [*history[:1], "# Parameters\nlam = 0.0001\n", CELL]})
    by_hand = [history[0], CELL, *history[1:]]
    assert parameters.check("01_name", VALUES | {"In": by_hand}), "papermill's cell below, and then the cell by hand"


def test_seeds_that_choose_are_not_judged(notebook):
    setup = check(first_seed=3)
    parameters.apart(setup, grid_seed=[1000, 8])
    with pytest.raises(
        parameters.ParameterError, match="seed 7 would choose and be judged; let grid_seed or first_seed"
    ):
        parameters.apart(setup, grid_seed=[7])


class Shell:
    def __init__(self):
        self.input_transformers_cleanup = []

    def run(self, *lines):
        for transform in list(self.input_transformers_cleanup):
            lines = transform(list(lines))
        return list(lines)


def test_cells_are_left_out_until_parameters_are_checked_again(monkeypatch):
    shell = Shell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    parameters.skip_the_rest()
    assert shell.run("x = 1") == [] and shell.run("y") == []
    assert shell.run("setup = parameters.check(", ")") and shell.run("x = 1") == ["x = 1"]


def test_running_cells_again_by_hand_trips_nothing(notebook):
    history = ["", CELL, "lamda = 1", "# Parameters\nseeds = 2\n", "x = 3", CELL, "check()"]
    assert parameters.check("01_name", VALUES | {"seeds": 2, "In": history}).shown_seed == 0


@pytest.mark.parametrize(
    ("injected", "changes", "message"),
    [
        (
            "lamda = 1",
            {},
            "unknown parameter 'lamda'; known: profile, part, seeds, first_seed, lam, steps, names, lr, targets",
        ),
        ("", {"seeds": -1}, "seeds must be a whole number from 1 to 1000, got -1"),
        ("", {"seeds": 2.5}, "seeds must be a whole number from 1 to 1000, got 2.5"),
        ("", {"seeds": True}, "seeds must be a whole number from 1 to 1000, got True"),
        ("", {"profile": "fast"}, "profile must be a string, one of laptop, quick, paper, got 'fast'"),
        ("", {"part": "some"}, "part must be a string, one of all, train, timing, got 'some'"),
        ("", {"lam": "x"}, "lam must be a number from 0.0 to 10.0, got 'x'"),
        ("", {"lam": float("nan")}, "lam must be a number from 0.0 to 10.0, got nan"),
        ("", {"lam": -0.1}, "lam must be a number from 0.0 to 10.0, got -0.1"),
        ("", {"steps": 0}, "steps must be a whole number from 1 to 1000000, got 0"),
        ("", {"names": []}, "names must be a list that is not empty, got []"),
        ("", {"names": ["b", "b"]}, "names must be a list in which nothing stands twice, got ['b', 'b']"),
        ("", {"names": ["a", "c"]}, "every entry of names must be a string, one of a, b, got 'c'"),
        ("", {"lr": "x"}, "lr must be a number from 1e-06 to 1.0, got 'x'"),
        ("", {"targets": 0.9}, "targets must be a list that is not empty, got 0.9"),
        ("", {"targets": [0.9, 2]}, "every entry of targets must be a number from 0.0 to 1.0, got 2"),
        ("", {"targets": [None]}, "every entry of targets must be a number from 0.0 to 1.0, got None"),
    ],
)
def test_wrong_values_name_the_parameter_and_the_range(notebook, injected, changes, message):
    with pytest.raises(parameters.ParameterError) as error:
        check(injected, **changes)
    assert str(error.value) == message
    assert error.value._render_traceback_() == [f"ParameterError: {message}"]


def test_whole_numbers_are_numbers_too(notebook):
    assert check(lam=1)


def test_papermill_refuses_a_misspelt_name(tmp_path):
    """The real thing, through papermill and a kernel: the run fails, and its last line lists the known names."""
    book = ROOT / "notebooks" / "01_partial_group_lasso_mnist.ipynb"
    command = [sys.executable, "-m", "papermill", book, tmp_path / "out.ipynb", "-p", "lamda", "1", "--no-progress-bar"]
    environment = os.environ | {"COMPANION_TRAIN": "never", "COMPANION_FIGURES": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("ParameterError: unknown parameter 'lamda'; known: profile, part, seeds")
    assert 'File "' not in done.stderr.split("PapermillExecutionError")[-1], "no traceback longer than the cause"


def test_a_default_of_none_leaves_the_type_to_the_range(notebook):
    assert check(lr=2e-3, targets=[0.5, 0.9], steps=3)


def test_without_a_history_the_file_says_what_is_known(notebook):
    """nbval runs cells without keeping them in `In`."""
    (notebook / "notebooks").mkdir()
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": CELL.splitlines(keepends=True)}
    (notebook / "notebooks" / "01_name.ipynb").write_text(json.dumps({"cells": [cell]}))
    assert parameters.check("01_name", VALUES | {"In": [""]}, lam=(0.0, 10.0)).profile == "laptop"
    with pytest.raises(parameters.ParameterError, match="lam must be a number"):
        parameters.check("01_name", VALUES | {"lam": "x", "In": [""]}, lam=(0.0, 10.0))

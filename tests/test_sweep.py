"""A grid of a notebook's parameters: a folder for each point, one table of all, a column per parameter."""

import json
import shlex
import shutil
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest

from companion import parameters, runs, settings
from companion.workflow import fold, normalise, run, sweep, within

CELL = 'profile = "laptop"\npart = "all"\nseeds = 3\nfirst_seed = 0\nlam = 1e-4\nsteps = None\n'


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    monkeypatch.setattr(sweep, "ROOT", tmp_path)
    monkeypatch.setenv("COMPANION_FIGURES", str(tmp_path / "figures"))
    (tmp_path / "notebooks").mkdir()
    cells = [{"cell_type": "code", "source": CELL.splitlines(keepends=True)}]
    (tmp_path / "notebooks" / "01_name.ipynb").write_text(json.dumps({"cells": cells}))
    return tmp_path / "notebooks" / "01_name.ipynb"


def trains(notebook, made, cores):
    """In place of the launcher: what `runs.run_parts` writes at every point, of a case and a row with `steps`."""
    for given, setup in made:
        rows = [
            {"stage": "train", "steps": given["steps"], "test_accuracy": given["lam"] * given["steps"] + seed / 100}
            for seed in range(2)
        ]
        records = [
            {
                "id": f"{k}",
                "seed": k,
                "status": "done",
                "config": {"case": {"penalty": "GL"}},
                "rows": [row],
                "parameters": setup.changed,
            }
            for k, row in enumerate(rows)
        ]
        setup.figures.mkdir(parents=True)
        runs.frame(records).to_csv(setup.figures / "runs.csv", index=False)
    return 0


def test_a_grid_is_one_table_with_a_column_per_parameter(notebook, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "launch", trains)
    with pytest.raises(SystemExit) as ended:
        sweep.main(str(notebook), "lam=1e-4,1e-3,0.01", "steps=10,20", "profile=quick", "cores=2")
    assert ended.value.code == 0
    folder = notebook.parent.parent / "figures" / "custom" / "01_name_quick"
    names = {path.name for path in folder.iterdir()}
    assert names == {"steps=10", "steps=20", "sweep-lam-steps.csv"} | {
        f"lam={lam},steps={steps}" for lam in ("0.001", "0.01") for steps in (10, 20)
    }
    table = pd.read_csv(folder / "sweep-lam-steps.csv")
    assert len(table) == 12 and sorted(set(table["lam"])) == [1e-4, 1e-3, 0.01]
    assert (table["steps"] == table["steps (parameter)"]).all() and set(table["profile"]) == {"quick"}
    told = capsys.readouterr().out
    assert "6 settings, 12 lines" in told and "0.2050 ± 0.0071" in told  # λ 0.01, 20 steps, over both seeds


def test_the_launcher_is_given_every_point_by_its_name(notebook, monkeypatch):
    called = []
    done = SimpleNamespace(returncode=0)
    monkeypatch.setattr(sweep, "subprocess", SimpleNamespace(run=lambda command, **_: called.append(command) or done))
    made = list(sweep.points("01_name", {"lam": [1e-4, 1e-3], "seeds": [2]}))
    assert sweep.launch("01_name", made, "2") == 0
    said = json.loads((notebook.parent.parent / "logs" / "sweep" / "01_name.json").read_text())
    assert said["points"] == {"seeds=2": ["lam=0.0001", "seeds=2"], "seeds=2,lam=0.001": ["lam=0.001", "seeds=2"]}
    assert called[0][3:5] == ["2", f"sweep={notebook.parent.parent / 'logs' / 'sweep' / '01_name.json'}"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-4,1e-3", [1e-4, 1e-3]),
        ('["GL"],["SGL","GL"]', [["GL"], ["SGL", "GL"]]),
        ("quick", ["quick"]),
        ("fp32,bf16", ["fp32", "bf16"]),
        ("None,3", [None, 3]),
    ],
)
def test_values_of_a_grid(text, values):
    assert sweep.entries(text) == values


def test_a_parameter_that_the_notebook_lacks_is_named_before_anything_runs(notebook):
    with pytest.raises(ValueError, match="01_name has no parameter 'lamda'; known: profile, part, seeds, .*lam, steps"):
        sweep.main(str(notebook), "lamda=1")


def test_a_custom_call_writes_its_table_beside_its_figures(notebook, monkeypatch):
    record = {
        "id": "a",
        "seed": 0,
        "status": "done",
        "config": {"case": {"penalty": "GL"}},
        "provenance": {"device": "a processor"},
        "rows": [{"stage": "train", "x": 1.5}],
    }
    monkeypatch.setattr(runs, "run_all", lambda configs: [record for _ in configs])
    monkeypatch.setattr(runs, "not_run", lambda configs: False)
    values = parameters.committed("01_name")
    setup = parameters.made("01_name", values | {"lam": 0.5}, values)
    (made,), timed = runs.run_parts(setup, train=[{}])
    assert timed == [] and list(runs.frame([made])) == ["id", "seed", "device", "lam", "penalty", "run", "stage", "x"]
    assert pd.read_csv(setup.figures / "runs.csv").to_dict("records")[0] | {"lam": 0.5, "x": 1.5} == {
        "id": "a",
        "seed": 0,
        "device": "a processor",
        "lam": 0.5,
        "penalty": "GL",
        "run": "done",
        "stage": "train",
        "x": 1.5,
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["lam="], "lam has no value"),
        (["lam"], "lam has no value"),
        (["lam=1e-3,0.001", "steps=1,2"], "two points of the grid are the same call"),
        (["lam=1e-4,0.0001"], "two points of the grid are the same call"),
        (["profile=quick", "seeds=2,3"], "two points of the grid are the same call"),
        (["lam=1", "lam=2"], "lam is given twice"),
    ],
)
def test_a_grid_without_points_or_with_one_twice_is_refused(notebook, monkeypatch, given, said):
    monkeypatch.setattr(sweep, "launch", lambda *_: pytest.fail("nothing may run"))
    with pytest.raises(ValueError, match=said):
        sweep.main(str(notebook), *given)


def test_points_of_two_profiles_are_told_apart(notebook, monkeypatch):
    monkeypatch.setattr(sweep, "subprocess", SimpleNamespace(run=lambda *_, **__: SimpleNamespace(returncode=0)))
    made = list(sweep.points("01_name", {"profile": ["quick", "laptop"], "lam": [1e-3]}))
    assert sweep.launch("01_name", made, "2") == 0
    said = json.loads((notebook.parent.parent / "logs" / "sweep" / "01_name.json").read_text())
    assert set(said["points"]) == {"quick,lam=0.001", "laptop,lam=0.001"}


def test_a_notebook_that_is_not_there_is_named(notebook):
    with pytest.raises(ValueError, match="there is no notebooks/02_none.ipynb"):
        sweep.main(str(notebook.with_name("02_none.ipynb")), "lam=1")


def test_a_copy_elsewhere_is_not_taken_for_the_checkouts(notebook, tmp_path):
    (tmp_path / "mine").mkdir()
    for place in (shutil.copy(notebook, tmp_path / "mine"), tmp_path / "gone" / notebook.name, notebook.name):
        with pytest.raises(
            ValueError, match=r"01_name\.ipynb is not .*notebooks.01_name\.ipynb; .* put yours beside it"
        ):
            sweep.main(str(place), "lam=1")


def test_a_table_of_an_earlier_sweep_is_not_gathered_and_a_point_without_one_is_named(notebook, monkeypatch, capsys):
    for _, setup in sweep.points("01_name", {"lam": [1e-4, 1e-3], "steps": [10]}):
        setup.figures.mkdir(parents=True)
        (setup.figures / "runs.csv").write_text("id,seed,run,test_accuracy\na,0,done,0.5\n")

    def fails(name, made, cores):
        shutil.rmtree(made[0][1].figures)
        trains(name, made[:1], cores)
        return 1

    monkeypatch.setattr(sweep, "launch", fails)
    with pytest.raises(SystemExit) as ended:
        sweep.main(str(notebook), "lam=1e-4,1e-3", "steps=10")
    said = capsys.readouterr().out
    assert ended.value.code == 1 and "2 settings, 2 lines" in said
    assert "no table of runs: {'lam': 0.001, 'steps': 10}" in said and "'lam': 0.0001" not in said


def test_a_point_of_a_sweep_is_no_call_that_makes_what_is_committed(tmp_path, monkeypatch):
    """Not even where only the profile varies: the command of the Snakefile says so."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_name.ipynb").write_text("{}")
    shutil.copyfile(settings.ROOT / "Snakefile", tmp_path / "Snakefile")
    (tmp_path / "said.json").write_text(json.dumps({"notebook": "01_name", "points": {"laptop": ["profile='laptop'"]}}))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--printshellcmds"]
    done = subprocess.run([*command, "--config", "sweep=said.json"], cwd=tmp_path, capture_output=True, text=True)
    (line,) = [line for line in (done.stderr + done.stdout).splitlines() if "companion.workflow.run" in line]
    words = shlex.split(line.removeprefix("Shell command: "))[2:]
    for given, committed in ((words, "0"), ([word for word in words if word != "--custom"], "1")):
        monkeypatch.setattr(sys, "argv", given)
        around = dict(run.settings(run.arguments()))
        assert around["COMPANION_COMMITTED"] == committed and around["COMPANION_NOTEBOOK"] == "01_name"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_full_disk_is_told_in_one_line(notebook, monkeypatch, when):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(sweep, "write_whole", full)
    monkeypatch.setattr(sweep, "launch", sweep.launch if when == "before" else trains)
    with pytest.raises(SystemExit, match=r"(01_name\.json|sweep-lam\.csv): No space left on device; make room"):
        sweep.main(str(notebook), "lam=1e-4,1e-3", "steps=10")


def test_what_is_no_notebook_is_named(tmp_path):
    (tmp_path / "notes.ipynb").write_text("[1, 2")
    for main in (fold.main, partial(normalise.main, check=True)):
        with pytest.raises(SystemExit, match=r"notes\.ipynb is no notebook"):
            main([tmp_path / "notes.ipynb"])
        with pytest.raises(SystemExit, match=r"gone\.ipynb: No such file or directory"):
            main([tmp_path / "gone.ipynb"])


@pytest.mark.parametrize(("given", "said"), [({"profile": "lap"}, "unknown profile"), ({"only": "zz"}, "notebooks/zz")])
def test_what_cannot_be_trained_within_a_time_is_said(given, said):
    with pytest.raises(ValueError, match=said):
        within.main(1.0, **given)

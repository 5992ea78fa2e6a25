"""A grid of a notebook's parameters: a folder for each point, one table of all, a column per parameter."""

import json

import pandas as pd
import pytest

from companion import parameters, runs, settings
from companion.workflow import sweep

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
    done = type("Done", (), {"returncode": 0})
    monkeypatch.setattr(sweep.subprocess, "run", lambda command, **_: called.append(command) or done)
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
    with pytest.raises(ValueError, match="02_none is no notebook with parameters"):
        sweep.main(str(notebook.with_name("02_none.ipynb")), "lam=1")


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (["lam=0.1,0.1"], "are one point; leave one of them out"),
        (["lam=1e-3,0.001", "steps=1,2"], "are one point"),
        (["seeds=2,5", "profile=quick"], "are one point"),  # which has two seeds at most
        (["profile=quick,laptop", "lam=0.1"], "are one point"),
        (["lam=0.1", "lam=0.2"], "'lam=0.2': every parameter stands once, with its values"),
        (["lam="], "every parameter stands once, with its values, lam=1,2"),
        (["lam"], "every parameter stands once, with its values"),
    ],
)
def test_points_that_would_count_twice_or_not_at_all_are_refused(notebook, grid, message):
    with pytest.raises(ValueError, match=message):
        sweep.main(str(notebook), *grid)


def test_a_custom_call_writes_its_table_beside_its_figures(notebook, monkeypatch):
    record = {
        "id": "a",
        "seed": 0,
        "status": "done",
        "config": {"case": {"penalty": "GL"}},
        "rows": [{"stage": "train", "x": 1.5}],
    }
    monkeypatch.setattr(runs, "run_all", lambda configs: [record for _ in configs])
    monkeypatch.setattr(runs, "not_run", lambda configs: False)
    values = parameters.committed("01_name")
    setup = parameters.made("01_name", values | {"lam": 0.5}, values)
    (made,), timed = runs.run_parts(setup, train=[{}])
    assert timed == [] and list(runs.frame([made])) == ["id", "seed", "lam", "penalty", "run", "stage", "x"]
    assert pd.read_csv(setup.figures / "runs.csv").to_dict("records")[0] | {"lam": 0.5, "x": 1.5} == {
        "id": "a",
        "seed": 0,
        "lam": 0.5,
        "penalty": "GL",
        "run": "done",
        "stage": "train",
        "x": 1.5,
    }

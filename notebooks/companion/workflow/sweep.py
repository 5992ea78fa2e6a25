"""Run a notebook on a grid of its parameters: figures of each point in a folder of their own, one table, one CSV.

python -m companion.workflow.sweep notebooks/21_mlp_stochastic.ipynb q=1,2 lam_tuning=1e-4,1e-3 seeds=3 [cores=2]

Every parameter takes one value or several; a list is written with brackets, and quoted for the shell:
'penalties=["GL"],["SGL"]'. Points run in parallel, one thread each, and what has a record is not trained again.
"""

import ast
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from companion import parameters, runs
from companion.settings import ROOT
from companion.workflow import in_one_line
from lib.atomic import write_whole


def entries(text):
    """The values of a parameter: Python literals with commas between them, or plain words."""
    try:
        return list(ast.literal_eval(f"[{text}]"))
    except (ValueError, SyntaxError):
        return text.split(",")


def own(path):
    """The name of a notebook of this checkout. ValueError: the path is another's."""
    file = ROOT / "notebooks" / f"{Path(path).stem}.ipynb"
    if Path(path).resolve() != file.resolve():
        raise ValueError(f"{path} is not {file}; a sweep runs what lies there: give that path, or put yours beside it")
    return file.stem


def points(notebook, grid):
    """Every combination of a grid, as (values, Setup). ValueError: a parameter that the notebook does not have."""
    if not (defaults := parameters.committed(notebook)):
        raise ValueError(f"there is no notebooks/{notebook}.ipynb with parameters")
    if unknown := [name for name in grid if name not in defaults or name == "part"]:
        raise ValueError(f"{notebook} has no parameter {unknown[0]!r}; known: {', '.join(defaults)}")
    if empty := [name for name, values in grid.items() if not values]:
        raise ValueError(f"{empty[0]} has no value; write {empty[0]}=value, or several with commas between them")
    seen = set()
    for values in itertools.product(*grid.values()):
        given = dict(zip(grid, values, strict=True))
        setup = parameters.made(notebook, defaults | given, defaults)
        if setup.figures in seen:
            raise ValueError(f"two points of the grid are the same call; one of them is {given}")
        seen.add(setup.figures)
        yield given, setup


def launch(notebook, made, cores):
    """Run all points; the launcher's exit code."""
    said = ROOT / "logs" / "sweep" / f"{notebook}.json"
    several = len({setup.profile for _, setup in made}) > 1  # whose folders may have one name
    called = {
        f"{setup.profile}," * several + setup.figures.name: [f"{k}={v!r}" for k, v in given.items()]
        for given, setup in made
    }
    write_whole(said, json.dumps({"notebook": notebook, "points": called}))
    command = [sys.executable, "-m", "companion.workflow.launch", cores, f"sweep={said}", "--"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def gathered(made):
    """The tables of all points that have one, below each other, with a column for every parameter of the grid."""
    tables = []
    for given, setup in made:
        if (path := setup.figures / "runs.csv").is_file():
            table = pd.read_csv(path)
            for name, value in given.items():
                label = f"{name} (parameter)" if name in table and name not in setup.changed else name
                if label not in table and f"{name} (parameter)" not in table:
                    table.insert(2, label, str(value) if isinstance(value, list) else value)
            tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def summary(table):
    """Mean ± standard deviation over seeds of test scores and pruned share, a line per setting, case and stage."""
    labels = [*table.columns[2 : table.columns.get_loc("run")], *{"stage", "variant"}.intersection(table.columns)]
    labels = [name for name in labels if table[name].nunique(dropna=False) > 1]
    scores = [name for name in table if name.startswith("test_") or name == "sparsity"]
    groups = table.dropna(subset=scores, how="all").groupby(labels or "run", sort=False, dropna=False)[scores]
    return groups.agg(lambda column: runs.mean_std(column.dropna(), digits=4))


@in_one_line()
def main(path, *given):
    """Run the grid, write figures/custom/<notebook>/sweep-<what varies>.csv and print the means."""
    named = [text.partition("=")[0] for text in given]
    if twice := [name for name in named if named.count(name) > 1]:
        raise ValueError(f"{twice[0]} is given twice; write its values with commas between them")
    grid = {name: entries(text) for name, _, text in (text.partition("=") for text in given)}
    cores = str(grid.pop("cores", ["all"])[0])
    notebook = own(path)
    made = list(points(notebook, grid))
    for _, setup in made:
        (setup.figures / "runs.csv").unlink(missing_ok=True)  # of an earlier sweep, it may be
    failed = launch(notebook, made, cores)
    table = gathered(made)
    for given, setup in made:
        if not (setup.figures / "runs.csv").is_file():
            print(f"no table of runs: {given}")
    if table.empty:
        sys.exit(failed or f"{path}: no point has a table of runs")
    varied = [name for name, values in grid.items() if len(values) > 1]
    target = made[0][1].figures.parent / f"sweep-{'-'.join(varied)}.csv"
    write_whole(target, table.to_csv(index=False))
    print(summary(table).to_string(), f"\n{len(made)} settings, {len(table)} lines: {target}")
    sys.exit(failed)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (TypeError, ValueError) as error:
        sys.exit(f"{error}\n{__doc__}")

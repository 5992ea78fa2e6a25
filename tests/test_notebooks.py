"""The notebooks: every one gives its committed outputs and figures from records alone, and trains at quick."""

import importlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import warm

from companion import parameters
from companion.workflow import fold, served

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="session")
def kernels():
    """The folder of a server of kernels and of nbval runs; None but on Linux."""
    with served.kernels() as folder:
        assert folder or sys.platform != "linux"
        yield folder


def test_a_kernel_of_the_server_ends_with_whoever_started_it(kernels, tmp_path):
    if not kernels:
        pytest.skip("there is no server but on Linux")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path / "kernel.json"
    about = {"ip": "127.0.0.1", "transport": "tcp", "key": "", "signature_scheme": "hmac-sha256", "shell_port": port}
    file.write_text(json.dumps(about | dict.fromkeys(("iopub_port", "stdin_port", "control_port", "hb_port"), 0)))
    kernel = [sys.executable, "-S", served.__file__, kernels / "socket", file]
    with subprocess.Popen(["sh", "-c", shlex.join(map(str, kernel)) + " & wait"]) as shell:
        answers(port, True)
        shell.kill()
    answers(port, False)


def answers(port, wanted):
    """Wait until something listens at a port, or nothing does; TimeoutError."""
    for _ in range(300):
        with socket.socket() as line:
            if (line.connect_ex(("127.0.0.1", port)) == 0) == wanted:
                return
        time.sleep(0.1)
    raise TimeoutError(port)


def validate(notebook, kernels, **environment):
    """Execute a notebook from its records with nbval, which compares every output with the committed one."""
    command = [sys.executable, "-m", "pytest", "--nbval-current-env"]
    if kernels:
        command = [sys.executable, "-S", served.__file__, kernels / "socket", "pytest", "--nbval-kernel-name=served"]
        environment |= {"JUPYTER_PATH": str(kernels)}
    command += ["-q", "-n", "0", "-p", "no:cacheprovider", "--nbval", notebook]
    around = {name: value for name, value in os.environ.items() if not name.startswith(("COMPANION_", "PYTEST_"))}
    done = subprocess.run(command, cwd=ROOT, env=around | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]


@pytest.fixture(scope="module")
def execute():
    """Run a notebook with parameters in a fork, where its imports are made already; `make figures` does with papermill.

    Where a system has no forks, papermill does it here, too.
    """
    for name in ("companion.applications", "companion.chart", "companion.playground", "companion.zoo", "torch_pruning"):
        importlib.import_module(name)
    return in_a_fork if hasattr(os, "fork") else with_papermill


def in_a_fork(notebook, folder, given, environment):
    environment = {"MPLBACKEND": "agg", "COMPANION_COMMITTED": "0", "COMPANION_DOWNLOAD": "0"} | environment
    status, said = warm.tried(lambda: warm.notebook(notebook, given, environment), folder / "log", seconds=1200)
    assert status == 0, said[-3000:]


def with_papermill(notebook, folder, given, environment):
    command = [sys.executable, "-m", "companion.workflow.run", notebook, folder / "out.ipynb", "--threads", "1"]
    command += ["--offline", "--train", environment["COMPANION_TRAIN"], *(f"{key}={given[key]!r}" for key in given)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def not_run(notebook):
    """Whether the committed notebook says that it has no records yet."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return any("NOT RUN: " in "".join(out.get("text", "")) for cell in cells for out in cell.get("outputs", []))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_the_committed_ones_and_figures_to_the_byte(notebook, tmp_path, kernels):
    validate(notebook, kernels, COMPANION_DATA=str(tmp_path / "no data"), COMPANION_FIGURES=str(tmp_path / "figures"))
    committed = {path.name: path for path in (ROOT / "figures" / notebook.stem).glob("*.svg")}
    drawn = {path.name: path for path in (tmp_path / "figures" / notebook.stem).glob("*.svg")}
    assert drawn.keys() == committed.keys() and (drawn or not_run(notebook))
    for name, path in drawn.items():
        assert path.read_bytes() == committed[name].read_bytes(), f"{name} has drifted: run `make figures`"
    numbers = {path.name: path for path in (tmp_path / "figures" / notebook.stem).glob("*.csv")}
    beside = {path.name: path for path in (ROOT / "figures" / notebook.stem).glob("*.csv")}
    assert numbers.keys() == beside.keys()
    for name, path in numbers.items():  # six digits, the last of which depends on the processor
        pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(beside[name]), rtol=1e-4, atol=1e-9, obj=name)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_quick_trains_for_real_without_a_network(notebook, tmp_path, execute):
    figures = tmp_path / "figures"
    places = {"COMPANION_DATA": tmp_path / "no data", "COMPANION_FIGURES": figures, "COMPANION_RUNS": tmp_path / "runs"}
    environment = {"COMPANION_TRAIN": "missing"} | {name: str(place) for name, place in places.items()}
    execute(notebook, tmp_path, {"profile": "quick", "seeds": 2}, environment)
    drawn = {path.name for path in (figures / "quick" / notebook.stem).glob("*.svg")}
    committed = {path.name for path in (ROOT / "figures" / notebook.stem).glob("*.svg")}
    assert drawn and (drawn == committed or not_run(notebook)), "draw the committed figures by `make notebooks`"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_those_that_every_notebook_has(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    defaults = parameters.declared(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])
    assert defaults["profile"] == "laptop" and defaults["part"] == "all"
    assert defaults["first_seed"] == 0 and defaults["seeds"] >= 3


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_plumbing_is_folded_and_the_idea_in_sight(notebook):
    book = nbformat.read(notebook, as_version=4)
    if not any("hide-input" in cell.metadata.get("tags", []) for cell in book.cells):
        pytest.skip("nothing is folded yet: `python -m companion.workflow.fold` does it")
    for cell in book.cells:
        before = dict(cell.metadata)
        fold.fold(cell)
        assert cell.metadata == before, f"cell {cell.id}: `python -m companion.workflow.fold` folds it, or unfolds it"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_shard_of_a_batch_asks_for_runs_of_the_whole(notebook, tmp_path, execute):
    code = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    source = "".join(line for cell in code for line in cell["source"])
    assert "== first_seed" not in source and "{first_seed:" not in source, "a shard's first seed is its own"
    shard = {"profile": "laptop", "part": "train", "seeds": 1, "first_seed": 1}
    execute(notebook, tmp_path, shard, {"COMPANION_TRAIN": "never", "COMPANION_FIGURES": str(tmp_path / "figures")})


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_gives_its_own_name(notebook):
    """A copy that keeps another's would write into the other's figures and records."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = "".join(cell.source for cell in cells if cell.cell_type == "code")
    assert f'parameters.check(\n    "{notebook.stem}"' in code or f'parameters.check("{notebook.stem}"' in code


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_row_of_a_table_ends_on_its_line(notebook):
    """A line break within a cell makes text of the rest of a table."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        shown = [cell.source] if cell.cell_type == "markdown" else []
        shown += [output.get("data", {}).get("text/markdown", "") for output in cell.get("outputs", ())]
        lines = [line.strip("> ") for text in shown for line in text.splitlines()]
        assert not [line for line in lines if line.startswith("|") and not line.endswith("|")]

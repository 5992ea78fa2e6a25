"""What the tests of list parameters share: which a notebook has, lists drawn for them, and a call at `quick`."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from companion import parameters
from lib import training

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ENTRIES = {"targets": [0.5, 0.7, 0.9], "lams_l2": [1e-3, 1e-2], "lams_l1": [1e-4, 1e-3]}  # where the default is None


def code(notebook):
    """The sources of a notebook's code cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def ranges(notebook):
    """What the notebook gives `parameters.check` as ranges."""
    (cell,) = [source for source in code(notebook) if "parameters.check(" in source]
    calls = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if ast.unparse(node.func) == "parameters.check"]
    return {given.arg: eval(ast.unparse(given.value), {"training": training}) for given in call.keywords}


def of(notebook):
    """The list parameters of a notebook: name → entries that it takes."""
    known, defaults = ranges(notebook), parameters.declared(code(notebook))
    asked = [name for name in defaults if isinstance(defaults[name] or known.get(name), list)]
    return {name: defaults[name] or ENTRIES[name] for name in asked}


def drawn(entries, how, rng):
    """A list of some of these entries: "one", "all but one", "none", or all with "one twice"."""
    entries = rng.sample(entries, len(entries))
    return {"one": entries[:1], "all but one": entries[1:], "none": [], "one twice": [*entries, entries[0]]}[how]


def call(notebook, folder, **lists):
    """Run a notebook at quick with these lists; it ends well, or is refused by name before anything is trained."""
    given = [f"{name}={value!r}" for name, value in lists.items()]
    command = [sys.executable, "-m", "companion.workflow.run", notebook, folder / "out.ipynb", "profile=quick", *given]
    places = {"COMPANION_RUNS": folder / "runs", "COMPANION_FIGURES": folder / "figures"}
    environment = os.environ | {name: str(place) for name, place in places.items()}
    command += ["seeds=2", "--threads", "1", "--offline"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        assert "ParameterError" in done.stderr and any(name in done.stderr for name in lists), (given, done.stderr)
        assert not list((folder / "runs").rglob("*.json")), (given, "it was refused after something had been trained")

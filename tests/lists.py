"""What the tests of list parameters share: which a notebook has, lists drawn for them, and a call at `quick`."""

import ast
import dataclasses
import json
import os
import signal
from pathlib import Path

import warm

from companion import applications, claims, figures, parameters, runs  # noqa: F401
from companion.runs import execution
from lib import training

ROOT = Path(__file__).resolve().parent.parent
STEPS = int(os.environ.get("ATTACK_STEPS", "0"))  # cut every training to so many; 0: as `quick` has them
BOUND = int(os.environ.get("ATTACK_BOUND", "0"))  # end a call after so many of the processor's seconds; 0: let it end
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ENTRIES = {  # where the default is None
    "targets": [0.5, 0.7, 0.9],
    "lams_l2": [1e-3, 1e-2],
    "lams_l1": [1e-4, 1e-3],
    "lams_dense": [1e-4, 1e-3],
    "penalties": ["none", "ℓ2", "ℓ0 + ℓ2"],
}


def code(notebook):
    """The sources of a notebook's code cells."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def ranges(notebook):
    """What the notebook gives `parameters.check` as ranges."""
    return {name: allowed for name, allowed in _given(notebook).items() if name != "repeated"}


def repeated(notebook):
    """The lists of a notebook in which an entry may stand twice."""
    return _given(notebook).get("repeated", ())


def _given(notebook):
    (cell,) = [source for source in code(notebook) if "parameters.check(" in source]
    calls = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if ast.unparse(node.func) == "parameters.check"]
    known = {"training": training, "applications": applications}
    values = [(given.arg, eval(ast.unparse(given.value), known)) for given in call.keywords]
    return {name: value for key, found in values for name, value in (found if key is None else {key: found}).items()}


def of(notebook):
    """The list parameters of a notebook: name → entries that it takes."""
    known, defaults = ranges(notebook), parameters.declared(code(notebook))
    asked = [name for name in defaults if isinstance(defaults[name] or known.get(name), list)]
    return {name: defaults[name] or ENTRIES[name] for name in asked}


def drawn(entries, how, rng):
    """A list of some of these entries: "one", "all but one", "none", or all with "one twice"."""
    entries = rng.sample(entries, len(entries))
    return {"one": entries[:1], "all but one": entries[1:], "none": [], "one twice": [*entries, entries[0]]}[how]


def tried(notebook, folder, given, steps=STEPS):
    """Run a notebook at quick with these values in a fork of this process, where nothing has to be imported.

    It ends well, or is refused by name before anything is trained; returns whether it was refused, None where BOUND
    ended it while it was at work. Trainings are cut to so many steps, 0 leaves them as they are.
    """
    environment = {"COMPANION_RUNS": folder / "runs", "COMPANION_FIGURES": folder / "figures"}
    environment |= {"COMPANION_TRAIN": "missing", "COMPANION_DOWNLOAD": "0", "MPLBACKEND": "agg"}
    environment |= {"COMPANION_COMMITTED": "0"}
    values = {"profile": "quick", "seeds": 2} | given

    def work():
        if BOUND:
            warm.bounded(BOUND)
        if steps:
            execution.train_stage = shortened(execution.train_stage, steps)
        warm.notebook(notebook, values, {name: str(value) for name, value in environment.items()})

    warm.imported()
    status, said = warm.tried(work, folder / "log", seconds=600)
    if status == 0:
        return False
    if BOUND and status == -signal.SIGKILL:
        return None
    last = (said.strip().splitlines() or ["nothing"])[-1]
    if status != 1 or not (last.startswith("ParameterError: ") and any(name in last for name in given)):
        raise RuntimeError(f"{given}: it was neither run nor refused by name, status {status}: {said}")
    assert not trained(folder), (given, "it was refused after something had been trained")
    return True


def trained(folder):
    """Whether a call of `tried` with this folder began a training."""
    return any(path.is_file() for path in (folder / "runs").rglob("*"))


def shortened(train_stage, steps):
    """Stages of at most so many steps, whose rows tell those asked for: by them notebooks tell trainings apart."""

    def short(model, split, stage, **options):
        row, kept = train_stage(model, split, dataclasses.replace(stage, steps=min(stage.steps, steps)), **options)
        return row | {"steps": stage.steps}, kept

    return short

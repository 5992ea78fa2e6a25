"""What papermill may set: the names, types and ranges of a notebook's parameters, checked in its first lines.

papermill itself only warns about a name that the notebook does not know, and passes any value on.
"""

import ast
import json
import math
from dataclasses import dataclass
from pathlib import Path

from companion import settings

PROFILES = ("laptop", "quick", "paper")
PARTS = ("all", "train", "timing")
EVERY_NOTEBOOK = {"profile": PROFILES, "part": PARTS, "seeds": (1, 1000), "first_seed": (0, 10**6)}


class ParameterError(ValueError):
    """A parameter that the notebook does not have, or a value that it cannot take; one line, without a traceback."""

    def _render_traceback_(self):  # IPython's hook
        return [f"ParameterError: {self}"]


@dataclass(frozen=True)
class Setup:
    """How this notebook was called: its name, its profile, and whether all else is as committed.

    shown_seed: the run of which more than the scores is kept. The first one; in a shard, which has a seed of its own,
    the first one of the batch, so that what a shard trains is what the render asks for.
    """

    notebook: str
    profile: str
    part: str
    default: bool
    shown_seed: int = 0

    @property
    def title(self):
        """What a figure's title begins with: nothing, or the word that says it is not the laptop's."""
        return {"laptop": "", "quick": "quick: ", "paper": "full size: "}[self.profile]

    @property
    def figures(self):
        """Where figures go: only a call with the committed parameters replaces committed figures."""
        folder = "" if self.default and self.profile != "quick" else "quick" if self.profile == "quick" else "custom"
        name = self.notebook + ("_paper" if self.profile == "paper" else "")
        return settings.figures_folder() / folder / name


def check(notebook, values, **ranges):
    """Check the parameters of `notebook` (its file's stem) in `values`, the notebook's globals(), and return a Setup.

    The known names and their types are those of the notebook's parameters cell. `ranges` gives a tuple of strings
    (the choices) or of two numbers (lowest and highest) for a name; for a list, every entry must fit. The type of a
    parameter whose default is None is that of its range, and a range in a list, [(0.0, 1.0)], asks for a list.
    """
    defaults = declared(settings.ROOT / "notebooks" / f"{notebook}.ipynb")
    ranges = {name: allowed for name, allowed in EVERY_NOTEBOOK.items() if name in defaults} | ranges
    for name in injected(values.get("In", [])):
        if name not in defaults:
            raise ParameterError(f"unknown parameter {name!r}; known: {', '.join(defaults)}")
    for name, default in defaults.items():
        _check_one(name, values[name], default, ranges.get(name))
    same = all(values[name] == default for name, default in defaults.items() if name != "profile")
    shown_seed = (values if values["part"] == "all" else defaults)["first_seed"]
    return Setup(notebook, values["profile"], values["part"], same, shown_seed)


def declared(path):
    """Names and default literals of a notebook's parameters cell, in its order."""
    book = json.loads(Path(path).read_text(encoding="utf-8"))
    tagged = [c for c in book["cells"] if "parameters" in c["metadata"].get("tags", [])]
    return {name: ast.literal_eval(node) for name, node in _assignments("".join(tagged[0]["source"]))}


def injected(history):
    """Names that papermill assigned in a cell of its own, told by its first line; running cells again adds none."""
    cells = [cell for cell in history if cell.startswith("# Parameters\n")]
    return [name for cell in cells for name, _ in _assignments(cell)]


def _assignments(source):
    for line in ast.parse(source).body:
        if isinstance(line, ast.Assign):
            yield line.targets[0].id, line.value
        elif isinstance(line, ast.AnnAssign):
            yield line.target.id, line.value


def _check_one(name, value, default, allowed):
    if value is None and default is None:
        return
    many = isinstance(default, list) or isinstance(allowed, list)
    if many and not (isinstance(value, list) and value):
        raise ParameterError(f"{name} must be a list that is not empty, got {value!r}")
    default, allowed = (given[0] if isinstance(given, list) else given for given in (default, allowed))
    kind = type(allowed[0] if default is None else default)
    for entry in value if many else [value]:
        _check_value(name, entry, kind, allowed)


def _check_value(name, value, kind, allowed):
    fits = isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ParameterError(f"{name} must be {_article(kind)}{_span(allowed)}, got {value!r}")
    if allowed is None:
        return
    inside = value in allowed if isinstance(allowed[0], str) else allowed[0] <= value <= allowed[1]
    if not inside or (kind is float and not math.isfinite(value)):
        raise ParameterError(f"{name} must be {_article(kind)}{_span(allowed)}, got {value!r}")


def _article(kind):
    return {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}[kind]


def _span(allowed):
    if not allowed:
        return ""
    if isinstance(allowed[0], str):
        return f", one of {', '.join(allowed)}"
    return f" from {allowed[0]} to {allowed[1]}"


def skip_the_rest():
    """Leave out the cells that follow: a shard of a batch only trains, and the render after it shows all."""
    from IPython import get_ipython

    get_ipython().input_transformers_cleanup.append(lambda lines: [])

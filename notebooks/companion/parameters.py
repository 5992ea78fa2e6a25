"""What papermill may set: the names, types and ranges of a notebook's parameters, checked in its first lines.

papermill itself only warns about a name that the notebook does not know, and passes any value on.
"""

import ast
import hashlib
import json
import re
from dataclasses import dataclass, field

from companion import settings
from lib import checks

PROFILES = ("laptop", "quick", "paper")
PARAMETERS = re.compile(r"^profile = ", re.MULTILINE)
INJECTED = "# Parameters\n"  # the first line of the cell that papermill adds
PARTS = ("all", "train", "timing")
EVERY_NOTEBOOK = {"profile": PROFILES, "part": PARTS, "seeds": (1, 1000), "first_seed": (0, 10**6)}
FRESH = 10**7  # beyond every seed that a parameter may name


class ParameterError(settings.OneLine, ValueError):
    """A parameter that the notebook does not have, or a value that it cannot take."""


@dataclass(frozen=True)
class Setup:
    """How this notebook was called: its name, its profile, and whether all else is as committed.

    shown_seed: the run of which more than the scores is kept. The first one; in a shard, which has a seed of its own,
    the first one of the batch, so that what a shard trains is what the render asks for. seeds: those to run, from
    first_seed on; two at most at quick. batch: those of all shards together, where a choice takes all of them.
    changed: the parameters that differ from the committed ones.
    """

    notebook: str
    profile: str
    part: str
    default: bool
    shown_seed: int = 0
    seeds: range = range(0)
    batch: range = range(0)
    changed: dict = field(default_factory=dict)

    def first(self, most):
        """Those of the seeds to run that are among so many first ones of the batch: of what takes long."""
        return [seed for seed in self.seeds if seed - self.shown_seed < most]

    def fresh(self, times):
        """Seeds that nothing else has, which judge what others chose: so many for each of the seeds to run."""
        return [FRESH + times * seed + k for seed in self.seeds for k in range(times)]

    @property
    def setting(self):
        """What was changed, as the name of a folder; a hash of it where it is long or has odd characters."""
        values = {k: "+".join(map(str, v)) if isinstance(v, list) else v for k, v in self.changed.items()}
        text = ",".join(f"{name}={value}" for name, value in values.items())
        return text if re.fullmatch(r"[\w=.,+-]{0,60}", text) else hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def title(self):
        """What a figure's title begins with: nothing, or what says that it is not the laptop's committed one."""
        profile = {"laptop": "", "quick": "quick: ", "paper": "full size: "}[self.profile]
        return profile + (f"{self.setting}: " if self.changed else "")

    @property
    def suffix(self):
        """What the names of a profile's experiments and folders end with."""
        return "" if self.profile == "laptop" else f"_{self.profile}"

    @property
    def figures(self):
        """Where figures go: only a call with the committed parameters replaces committed figures."""
        folder, name = settings.figures_folder(), self.notebook + self.suffix
        if self.profile == "quick" and not self.changed:
            return folder / "quick" / self.notebook
        return folder / name if self.default else folder / "custom" / name / (self.setting or "unchanged")


def check(notebook, values, *, repeated=(), **ranges):
    """Check the parameters of `notebook` (its file's stem) in `values`, the notebook's globals(), and return a Setup.

    The known names and their types are those of the parameters cell that was run. `ranges` gives a tuple of strings
    (the choices) or of two numbers (lowest and highest) for a name; for a list, every entry must fit, and none may
    stand there twice, but in the lists that `repeated` names. The type of a parameter whose default is None is that of
    its range, and a range in a list, [(0.0, 1.0)], asks for a list.
    ParameterError: a name that the notebook does not have, a value that does not fit or was not taken, or the name of
    another notebook than the one that runs.
    """
    if settings.notebook() not in ("", notebook):
        raise ParameterError(
            f"{settings.notebook()} calls itself {notebook}, whose figures and records it would replace; give "
            "parameters.check its own name"
        )
    run = any(PARAMETERS.search(cell) for cell in values["In"])  # nbval keeps no history of what it runs
    defaults = declared(values["In"]) if run else committed(notebook)
    ranges = {name: allowed for name, allowed in EVERY_NOTEBOOK.items() if name in defaults} | ranges
    _taken(values, defaults)
    for name, default in defaults.items():
        _check_one(name, values[name], default, ranges.get(name), once=name not in repeated)
    setup = made(notebook, {name: values[name] for name in defaults}, defaults)
    if setup.part == "all" and (setup.changed or setup.profile != "laptop"):
        banner(setup)
    return setup


def _taken(values, defaults):
    """Refuse what papermill gives and the notebook does not have, or sets again: then its cell stands above all."""
    history = values["In"]
    given = {name: node for cell in history if cell.startswith(INJECTED) for name, node in _assignments(cell)}
    for name in given:
        if name not in defaults:
            raise ParameterError(f"unknown parameter {name!r}; known: {', '.join(defaults)}")
    cells = [cell for cell in history if cell.startswith(INJECTED) or PARAMETERS.search(cell)]
    for name, node in given.items() if cells and cells[0].startswith(INJECTED) else ():
        if ast.unparse(node) != repr(values[name]):
            raise ParameterError(
                f"{name} = {ast.unparse(node)} was given, and a later cell sets it to {values[name]!r}; "
                "tag the cell of parameters 'parameters'"
            )


def apart(setup, **choosing):
    """Refuse seeds that choose and are judged, too. choosing: a parameter, and the seeds that it asks for."""
    for name, seeds in choosing.items():
        if both := sorted(set(seeds) & set(setup.seeds)):
            raise ParameterError(f"seed {both[0]} would choose and be judged; let {name} or first_seed begin elsewhere")


def made(notebook, values, defaults):
    """The Setup of a call with these values of all parameters; `defaults` are those of the cell that it ran."""
    whole, most = values["part"] == "all", 2 if values["profile"] == "quick" else 10**6
    # a cell or a file that was edited by hand has other defaults; a shard is one of the render's, of the file as it is
    kept = defaults | (_kept(notebook) if whole else committed(notebook))
    changed = {name: value for name, value in values.items() if value != kept[name] and name not in ("profile", "part")}
    if min(values["seeds"], most) == min(kept["seeds"], most):
        changed.pop("seeds", None)
    own, all_seeds = (
        range(of["first_seed"], of["first_seed"] + min(of["seeds"], most)) for of in (values, values if whole else kept)
    )
    return Setup(
        notebook,
        values["profile"],
        values["part"],
        default=settings.committed() and whole and not changed,
        shown_seed=all_seeds[0],
        seeds=own,
        batch=all_seeds,
        changed=changed,
    )


def banner(setup):
    """Say above all results that they are not the committed runs': which parameters were changed, and what follows."""
    from IPython.display import Markdown, display

    changed = ({"profile": setup.profile} if setup.profile != "laptop" else {}) | setup.changed
    called = ", ".join(f"`{name} = {value!r}`" for name, value in changed.items())
    where = "/".join(setup.figures.relative_to(settings.figures_folder()).parts)
    text = (
        f"> **These are not the committed runs.** This call changed {called}. Tables, verdicts and figures, which go "
        f"to `{where}`, are its own. The texts, above all *Reading the committed runs*, speak of the committed runs "
        "and need not fit."
    )
    if setup.profile == "quick":
        text += " `quick` runs two seeds at most."
        if setup.changed:
            text += " Where it has small data, widths or grids of its own, they take the place of those given."
    display(Markdown(text))


def committed(notebook):
    """Names and literals of the parameters of a notebook's file; none where it has no file of that name."""
    path = settings.ROOT / "notebooks" / f"{notebook}.ipynb"
    return _of_file(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _kept(notebook):
    """Those of git's last commit; of the file where git has none, or where this run makes what is committed."""
    last = None if settings.committed() else settings.git("show", f"HEAD:notebooks/{notebook}.ipynb")
    return _of_file(last) if last else committed(notebook)


def _of_file(text):
    cells = json.loads(text)["cells"]
    return declared(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"])


def declared(history):
    """Names and literals of the parameters cell among the cells that were run, the latest where it was run again."""
    written = [cell for cell in history if not cell.startswith(INJECTED)]
    cells = [dict(_assignments(cell)) for cell in written if PARAMETERS.search(cell)]
    found = [cell for cell in cells if {"profile", "part"} <= set(cell)]
    if not found:
        raise ParameterError("the cell of parameters has not been run: run all cells from the first one on")
    return {name: ast.literal_eval(node) for name, node in found[-1].items()}


def _assignments(source):
    try:
        lines = ast.parse(source).body
    except SyntaxError:  # a cell with a magic
        return
    for line in lines:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            yield line.targets[0].id, line.value
        elif isinstance(line, ast.AnnAssign):
            yield line.target.id, line.value


def _check_one(name, value, default, allowed, *, once):
    if value is None and default is None:
        return
    many = isinstance(default, list) or isinstance(allowed, list)
    if many and not (isinstance(value, list) and value):
        raise ParameterError(f"{name} must be a list that is not empty, got {value!r}")
    if many and once and len(set(map(repr, value))) < len(value):
        raise ParameterError(f"{name} must be a list in which nothing stands twice, got {value!r}")
    default, allowed = (given[0] if isinstance(given, list) else given for given in (default, allowed))
    kind = type(allowed[0] if default is None else default)
    for entry in value if many else [value]:
        checks.check(f"{'every entry of ' if many else ''}{name}", entry, kind, allowed, error=ParameterError)


class Skipping:
    """Leaves out the cells that follow, until a cell that checks parameters is run again."""

    def __call__(self, lines):
        if any("parameters.check(" in line for line in lines):
            _transformers().remove(self)
            return lines
        return []


def _transformers():
    from IPython import get_ipython

    return get_ipython().input_transformers_cleanup


def skip_the_rest():
    """Leave out the cells that follow: a shard of a batch only trains, and the render after it shows all.

    Whoever is at work in JupyterLab goes on by running the cell with `parameters.check` again.
    """
    _transformers().append(Skipping())

"""Where things are, and what the environment asks for: ROOT, and the COMPANION_* variables of notebooks and records.

They are read when they are needed; `companion.workflow` has two of its own.

Also how an error of the notebooks' room is shown, which all other modules may take from here.
"""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ("missing", "never", "fresh")
DATA = "COMPANION_DATA names the folder of the data sets, and COMPANION_DOWNLOAD=0 forbids downloads"


class OneLine:
    """What makes an error one line in a notebook, without a traceback."""

    def _render_traceback_(self):  # IPython's hook
        return [f"{type(self).__name__}: {self}"]


def folder(variable, *default):
    """The folder that a variable names, seen from ROOT, else the default one; blanks around its name are none of it.

    ValueError: it begins with the home of a user who is not there.
    """
    named = os.environ.get(variable, "").strip()  # a line end, too, of a file that was read into the variable
    try:
        return ROOT / Path(named).expanduser() if named else ROOT.joinpath(*default)
    except RuntimeError:
        raise ValueError(f"{variable}={named!r}: there is no such user's home; give the whole path") from None


def choice(variable, default, known):
    """What a variable says. ValueError: it is none of those known."""
    asked = os.environ.get(variable) or default
    if asked not in known:
        raise ValueError(f"{variable}={asked!r} is unknown; known: {', '.join(known)}")
    return asked


def git(*words):
    """What a command of git's says of the checkout; None where there is no git, or ROOT is no repository of its own."""
    top = _git("rev-parse", "--show-toplevel")  # not of a repository in which ROOT happens to lie
    return _git(*words) if top and Path(top).resolve() == ROOT.resolve() else None


def changes(*folders):
    """What `git status` says of folders, with every file that git does not know; None as for `git`."""
    return git("status", "--porcelain", "--untracked-files=all", "--", *folders)


def _git(*words):
    """What git says in ROOT, whatever repository the environment names; None where it fails or is not there."""
    around = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    options = {"capture_output": True, "encoding": "utf-8", "errors": "surrogateescape", "env": around}
    try:
        return subprocess.run(["git", "-C", ROOT, *words], **options, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def data_folder():
    """COMPANION_DATA: the folder of the data sets."""
    return folder("COMPANION_DATA", "data")


def runs_folder():
    """COMPANION_RUNS: the folder of the records."""
    return folder("COMPANION_RUNS", "data", "runs")


def figures_folder():
    """COMPANION_FIGURES: the folder that figures are written to."""
    return folder("COMPANION_FIGURES", "figures")


def train():
    """COMPANION_TRAIN: "missing" trains what has no record, "never" nothing, "fresh" all. ValueError for another."""
    return choice("COMPANION_TRAIN", "missing", TRAIN)


def download():
    """COMPANION_DOWNLOAD=0 forbids downloads. ValueError: it is neither 0 nor 1."""
    return choice("COMPANION_DOWNLOAD", "1", ("0", "1")) == "1"


def committed():
    """COMPANION_COMMITTED=1: this run makes the committed figures and records. ValueError: it is neither 0 nor 1."""
    return choice("COMPANION_COMMITTED", "0", ("0", "1")) == "1"


def notebook():
    """COMPANION_NOTEBOOK: the name of the notebook that `companion.workflow.run` runs; empty where another runs it."""
    return os.environ.get("COMPANION_NOTEBOOK", "")

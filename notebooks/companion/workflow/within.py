"""Train as much of a profile as fits a number of minutes, the most wanted first: on a GPU that is lent, say.

python -m companion.workflow.within MINUTES [profile=paper] ["only=25*"]

At the end of the time the training that is under way is ended; its checkpoint stays, and the same command goes on.
"""

import os
import re
import subprocess
import sys
import time
from fnmatch import fnmatchcase

from companion.parameters import PROFILES
from companion.settings import ROOT, runs_folder
from companion.workflow import in_one_line
from lib.checks import number, one_of

WANTED = [  # notebook, and the parameters that ask for a part of it
    ("25_full_size_stochastic", {"networks": ["vgg16"], "widths": ["full"], "seeds": 1}),
    ("25_full_size_stochastic", {"networks": ["resnet56"], "seeds": 1}),
    ("14_l0_full_size", {"networks": ["resnet50"], "seeds": 1}),
    ("25_full_size_stochastic", {"networks": ["vgg16"]}),
    ("25_full_size_stochastic", {}),
    ("14_l0_full_size", {}),
]


def tasks(only):
    """Notebook and parameters of every call, the most wanted first; then all other notebooks, in reading order."""
    stems = [p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb")) if fnmatchcase(p.stem, only)]
    wanted = [(stem, given) for stem, given in WANTED if stem in stems]
    return wanted + [(stem, {}) for stem in stems if stem not in dict(wanted)]


def records():
    """The finished runs that lie in the live store: experiment/id."""
    return {f"{path.parent.name}/{path.stem}" for path in (runs_folder() / "live").glob("*/*.json")}


def command(stem, said, *given):
    """The command that runs a notebook and writes it, executed, to `said`."""
    source = ROOT / "notebooks" / f"{stem}.ipynb"
    return [sys.executable, "-m", "companion.workflow.run", str(source), str(said), *given]


def train(stem, given, profile, seconds):
    """Train a notebook's runs for at most so many seconds; True if it came to its end."""
    if seconds <= 0:
        return False
    said = ROOT / "logs" / f"within-{profile}" / f"{stem}.ipynb"
    asked = ["--train", "missing", f"profile={profile}", "part=train", *(f"{k}={v}" for k, v in given.items())]
    child = subprocess.Popen(command(stem, said, *asked), cwd=ROOT, start_new_session=True)
    try:
        return child.wait(timeout=seconds) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        if child.poll() is None:
            os.killpg(child.pid, 9) if os.name == "posix" else child.kill()
            child.wait()


def left(stem, profile):
    """What a notebook says of the runs that it lacks."""
    said = ROOT / "logs" / f"within-{profile}" / f"{stem}.left.ipynb"
    asked = ["--train", "never", "--threads", "1", f"profile={profile}", "part=train"]
    done = subprocess.run(command(stem, said, *asked), cwd=ROOT, capture_output=True, text=True, check=False)
    text = said.read_text(encoding="utf-8") if said.exists() else done.stderr
    return sorted(set(re.findall(r"NOT RUN: ([^\\\n\"]*?)\. `make", text)))


@in_one_line()
def main(minutes, profile="paper", only="*"):
    """Train for so many minutes, then say which records were made, and what is left."""
    one_of("profile", profile, PROFILES)
    if not tasks(only):
        raise ValueError(f"there is no notebooks/{only}.ipynb")
    end, before, finished = time.monotonic() + 60 * minutes, records(), set()
    for stem, given in tasks(only):
        if train(stem, given, profile, end - time.monotonic()):
            finished.add((stem, str(given)))
    made = sorted(records() - before)
    print(f"{len(made)} records made: {', '.join(made) or 'none'}")
    for stem in dict.fromkeys(stem for stem, _ in tasks(only)):
        if (stem, "{}") not in finished:
            print(f"left in {stem}: {'; '.join(left(stem, profile)) or 'see its log'}")
    print(
        "`python -m companion.workflow.home FOLDER` takes these records into another checkout; FOLDER is this data/runs"
    )


if __name__ == "__main__":
    try:
        options = dict(text.split("=", 1) for text in sys.argv[2:])
        main(number("MINUTES", float(sys.argv[1]), "(0, inf)"), **options)
    except (IndexError, ValueError, TypeError) as error:
        sys.exit(f"MINUTES must be a number, with profile= and only= after it: {error}")

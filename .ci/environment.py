"""Write environment.yml: the lock's pins without their hashes, for conda, which cannot check them.

python .ci/environment.py > environment.yml
"""

import json
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# The locked environment for conda, written by `make lock` from requirements.txt.
#     conda env create -f environment.yml && conda activate {name}
name: {name}
channels: [conda-forge, nodefaults]
dependencies:
  - {python}
  - pip
  - pip:
"""


def pins(lock):
    """The lines `name==version [; marker]` of a lock with hashes, in its order."""
    return [line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[A-Za-z0-9].*==", line)]


def render():
    """The text of environment.yml; JSON strings, so that a marker's quotes need no care."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = json.dumps("python" + project["requires-python"])
    lines = [*pins((ROOT / "requirements.txt").read_text()), "-e ."]
    return HEADER.format(name=project["name"], python=python) + "".join(f"      - {json.dumps(x)}\n" for x in lines)


if __name__ == "__main__":
    print(render(), end="")

"""Fold the plumbing of notebooks: JupyterLab and a rendered site show the idea, and the code of the rest on a click.

python -m companion.workflow.fold notebooks/*.ipynb

A cell that sets up, builds configurations, draws or takes more than half a screen is folded; what shows the method's
code, runs it, judges it or may be edited stays in sight. The tag `show-input` keeps a cell in sight whatever it does.
"""

import re
import sys
from pathlib import Path

import nbformat

from companion.workflow import in_one_line, read_notebook
from lib.atomic import write_whole

IN_SIGHT = re.compile(r"^profile = |runs\.run_parts\(|inspect\.getsource\(|claims\.card\(", re.MULTILINE)
PLUMBING = re.compile(
    r'parameters\.check\(|figures\.(canvas|save|animate)\(|^draw\(|"(experiment|stages)":|yield run_of\(|^\w*sizes? ',
    re.MULTILINE | re.IGNORECASE,
)
SCREEN = 15  # lines of code


def plumbing(cell):
    """Whether the source of a cell is to be folded."""
    if cell.cell_type != "code" or "show-input" in cell.metadata.get("tags", []) or IN_SIGHT.search(cell.source):
        return False
    lines = [line for line in cell.source.splitlines() if line.strip()]
    return bool(PLUMBING.search(cell.source)) or len(lines) > SCREEN


def fold(cell):
    """Give a cell the metadata of a folded one, or take them away."""
    tags = [tag for tag in cell.metadata.get("tags", []) if tag != "hide-input"]
    jupyter = {key: value for key, value in cell.metadata.get("jupyter", {}).items() if key != "source_hidden"}
    if plumbing(cell):
        tags, jupyter = [*tags, "hide-input"], jupyter | {"source_hidden": True}
    for key, value in {"tags": tags, "jupyter": jupyter}.items():
        cell.metadata.pop(key, None)
        cell.metadata |= {key: value} if value else {}


@in_one_line()
def main(names):
    if not names:
        sys.exit("python -m companion.workflow.fold NOTEBOOK ...: give at least one")
    for path in map(Path, names):
        book = read_notebook(path)
        for cell in book.cells:
            fold(cell)
        write_whole(path, nbformat.writes(book) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

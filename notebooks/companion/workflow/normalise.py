"""Re-execute the committed notebooks in place, from records, and leave nothing in them that a run would change.

python -m companion.workflow.normalise notebooks/*.ipynb            execute and normalise
python -m companion.workflow.normalise --check notebooks/*.ipynb    only say which are not normalised
"""

import copy
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from companion.settings import ROOT
from companion.workflow import in_one_line, own_folders, read_notebook
from lib.atomic import write_whole

WIDGETS = ("application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json")
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}
KEPT = ("tags", "jupyter", "slideshow")  # of a cell's metadata


def normalise(book):
    """A copy without timings, widget state and tool traces; the outputs stay."""
    book = copy.deepcopy(book)
    book.metadata = nbformat.from_dict(METADATA)
    counts = iter(range(1, len(book.cells) + 1))
    for cell in book.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in KEPT})
        if cell.cell_type != "code":
            continue
        count = next(counts) if cell.source.strip() else None
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            for kind in WIDGETS:
                output.get("data", {}).pop(kind, None)
    return book


def machine_paths(book):
    """The numbers of the cells whose outputs name this machine's folders."""
    private = {str(ROOT), str(Path.home())} - {"/"}
    return [
        n
        for n, cell in enumerate(book.cells, 1)
        if any(path in str(output) for path in private for output in cell.get("outputs", []))
    ]


def execute(path):
    """Run a notebook as JupyterLab would, training forbidden."""
    book = read_notebook(path)
    options = {"timeout": 600, "coalesce_streams": True, "resources": {"metadata": {"path": str(path.parent)}}}
    try:
        return NotebookClient(book, kernel_name="python3", **options).execute()
    except CellExecutionError as error:
        sys.exit(f"{path}: {error.ename}: {error.evalue}\n  not written")


@in_one_line()
def main(names, *, check):
    if not names:
        sys.exit("python -m companion.workflow.normalise [--check] NOTEBOOK ...: give at least one")
    if not check:
        own_folders()
    wrong = []
    for path in map(Path, names):
        book = read_notebook(path) if check else execute(path)
        clean = normalise(book)
        nbformat.validate(clean)
        if cells := machine_paths(clean):
            sys.exit(f"{path}: the output of cell {cells[0]} names a folder of this machine")
        if not check:
            write_whole(path, nbformat.writes(clean) + "\n")
            print(f"{path}: executed and normalised", flush=True)
        elif clean != book:
            wrong.append(path)
    if wrong:
        sys.exit(f"{', '.join(map(str, wrong))}: not normalised; `make notebooks` does it")


if __name__ == "__main__":
    os.environ["COMPANION_TRAIN"] = "never"
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["COMPANION_COMMITTED"] = "1"
    main([n for n in sys.argv[1:] if n != "--check"], check="--check" in sys.argv)

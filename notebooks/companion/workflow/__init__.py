"""What `make`, the Snakefile and, with `fold`, `home`, `keep` and `sweep`, whoever works here run on notebooks."""

import contextlib
import sys

from companion import settings

REMEDY = "make room, or make it readable and writable, and run the same command again"


@contextlib.contextmanager
def in_one_line():
    """End with one line, path and remedy, where a file cannot be read or written: what a command is wrapped in."""
    try:
        yield
    except OSError as error:
        if error.filename is None:  # no file of ours
            raise
        sys.exit(f"{error.filename}: {error.strerror}; {REMEDY}")


def own_folders():
    """SystemExit: records or figures are asked from elsewhere; what is committed here must not be made from those."""
    here = {
        "COMPANION_RUNS": (settings.runs_folder(), "data/runs"),
        "COMPANION_FIGURES": (settings.figures_folder(), "figures"),
    }
    for name, (asked, own) in here.items():
        if asked.resolve() != (settings.ROOT / own).resolve():
            sys.exit(
                f"{name}={asked} is not {own} of this checkout, from which README and notebooks are renewed; unset it"
            )


def read_notebook(path):
    """A notebook's file. OSError: it cannot be read; SystemExit: it is none, and is named."""
    import nbformat

    content = path.read_bytes()
    try:
        return nbformat.reads(content.decode(), as_version=4)
    except Exception as error:  # nbformat's kinds, jsonschema's, and those of json
        sys.exit(f"{path} is no notebook ({type(error).__name__}); take it from git, or name another")

"""What `make` and the Snakefile run on notebooks."""

import contextlib
import sys

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


def read_notebook(path):
    """A notebook's file. OSError: it cannot be read; SystemExit: it is none, and is named."""
    import nbformat

    content = path.read_bytes()
    try:
        return nbformat.reads(content.decode(), as_version=4)
    except Exception as error:  # nbformat's kinds, jsonschema's, and those of json
        sys.exit(f"{path} is no notebook ({type(error).__name__}); take it from git, or name another")

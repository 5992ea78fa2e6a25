"""Runs of code that a notebook brings along."""

import hashlib
import inspect
import json

from companion.runs.locks import RunError

FUNCTIONS = {}  # by the names that `own` gives


def own(function, *helpers, **options):
    """The part of a configuration whose run is function(seed, **options) → rows, for what is neither chain nor timing.

    A row is a dict of plain data, and so are the options. The sources of the function and of its helpers (functions,
    too) are part of what the run is: when they change, it is another one.
    """
    try:
        source = "".join(map(inspect.getsource, (function, *helpers)))
    except (TypeError, OSError) as error:
        raise ValueError(f"own takes functions by their source, written with def in a cell or file: {error}") from None
    code = f"{function.__name__}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    FUNCTIONS[code] = function
    return {"kind": "own", "code": code, "options": options}


def made(rows, run):
    """The rows that such a function returned. RunError: they are no list of dicts of plain data."""
    try:
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError(f"got {rows!r:.60}")
        json.dumps(rows)
    except (TypeError, ValueError) as error:
        name = run.config["code"].rpartition("-")[0]
        raise RunError(f"{name} of {run} has to return a list of dicts of plain numbers and strings: {error}") from None
    return rows

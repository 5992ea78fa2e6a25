"""Runs of code that a notebook brings along."""

import dis
import hashlib
import inspect
import json

from companion.runs.locks import RunError

FUNCTIONS = {}  # by the names that `own` gives


def own(function, *helpers, **options):
    """The part of a configuration whose run is function(seed, **options) → rows, for what is neither chain nor timing.

    A row is a dict of plain data, and so are the options. The sources of the function and of its helpers (functions,
    too) are part of what the run is: when they change, it is another one. ValueError: a function of a notebook uses a
    value or a function of the notebook that is none of these, so that another one would find the same record.
    """
    try:
        source = "".join(map(inspect.getsource, (function, *helpers)))
    except (TypeError, OSError) as error:
        raise ValueError(f"own takes functions by their source, written with def in a cell or file: {error}") from None
    for used in (function, *helpers):
        if used.__module__ == "__main__":
            _check(used, (function, *helpers))
    code = f"{function.__name__}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    FUNCTIONS[code] = function
    return {"kind": "own", "code": code, "options": options}


def _check(function, known):
    """Refuse a function of a notebook that uses what the notebook has beside it, and that no record would know."""
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        value = function.__globals__[name]
        code = inspect.isroutine(value) or inspect.isclass(value)
        theirs = inspect.ismodule(value) or name == "__name__" or (code and value.__module__ != "__main__")
        given = value.values() if isinstance(value, dict) else [value]  # of a table of functions the one that is used
        if not theirs and not any(one is f for one in given for f in known):
            raise ValueError(
                f"{function.__name__} uses {name} of the notebook, of which its record would know nothing: give a "
                "value as an option, a function to own beside it, and write a class into the function"
            )


def _names(code):
    """The names that a piece of code looks up outside of itself."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return names.union(*(_names(inner) for inner in code.co_consts if inspect.iscode(inner)))


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

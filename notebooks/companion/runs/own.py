"""Runs of code that a notebook brings along."""

import ast
import builtins
import dis
import hashlib
import inspect
import json
import textwrap

import numpy as np

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
    for used in map(inspect.unwrap, (function, *helpers)):
        if used.__module__ == "__main__":
            _check(used, (function, *helpers))
    code = f"{function.__name__}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    FUNCTIONS[code] = function
    return {"kind": "own", "code": code, "options": options}


def _check(function, known):
    """Refuse a function of a notebook that uses what the notebook has beside it, and that no record would know."""
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    if not isinstance(found, ast.FunctionDef):
        raise ValueError(f"own takes functions by their source, written with def in a cell or file: {function!r}")
    defaults = [value for value in (*found.args.defaults, *found.args.kw_defaults) if value is not None]
    if words := [ast.unparse(value) for value in defaults if not _written_out(value)]:
        raise _unknown(function, f"a default that is not written out, {words[0]}")
    for name in sorted({*_names(function.__code__), *function.__code__.co_freevars}):
        value = function.__globals__.get(name)  # None: of a function around it, or of a cell that comes later
        of_code = inspect.isroutine(value) or inspect.isclass(value) or isinstance(value, np.ufunc)
        theirs = inspect.ismodule(value) or (of_code and getattr(value, "__module__", None) != "__main__")
        entries = value.values() if isinstance(value, dict) else [value]  # of a table of functions the one that is used
        given = any(one is f or inspect.unwrap(f) is one for one in entries for f in known)
        given &= all(map(callable, entries))
        if not (theirs or given or (name not in function.__globals__ and hasattr(builtins, name))):
            raise _unknown(function, f"{name} of the notebook")


def _unknown(function, what):
    return ValueError(
        f"{function.__name__} uses {what}, of which its record would know nothing: give a value as an option, a "
        "function to own beside it, read a file within the function, use a library's constant by its module, and write "
        "a class into the function, or into a file beside the notebook"
    )


def _written_out(node):
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def _names(code):
    """The names that a piece of code looks up outside of itself."""
    found, stored = set(), {"__name__"}
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL" or (step.opname == "LOAD_NAME" and step.argval not in stored):
            found.add(step.argval)
        stored |= {step.argval} if step.opname == "STORE_NAME" else set()  # of a class in the function
    return found.union(*(_names(inner) for inner in code.co_consts if inspect.iscode(inner)))


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

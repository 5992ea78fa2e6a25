"""Options are checked where they enter: a message names the option, its value and what would do."""

import math
import numbers
from contextlib import contextmanager
from dataclasses import fields
from typing import Annotated, get_args, get_origin, get_type_hints

KINDS = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}


def named(table, name, what):
    """The entry of a plain dict, or a function that stands for itself. ValueError: the name, and those known."""
    if callable(name):
        return name
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(table)}")
    return table[name]


def check(name, value, kind, allowed=None, *, error=ValueError):
    """Refuse a value of another kind (int, float, str, bool) or outside what is allowed.

    allowed: a tuple of strings, the choices, or of two numbers, the lowest and the highest. A whole number is a number,
    too; True and False are neither.
    """
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if fits and allowed is not None:
        fits = value in allowed if isinstance(allowed[0], str) else allowed[0] <= value <= allowed[1]
    if not fits or (kind is float and math.isnan(value)):
        raise error(f"{name} must be {KINDS[kind]}{_span(allowed)}, got {value!r}")


def _span(allowed):
    if not allowed:
        return ""
    if isinstance(allowed[0], str):
        return f", one of {', '.join(allowed)}"
    low, high = allowed
    return f" from {low} to {high}" if high < math.inf else f", at least {low}"


class Checked:
    """Options as a dataclass: a field Annotated[kind, allowed] is checked; None fits where it is the default."""

    def __post_init__(self):
        hints = get_type_hints(type(self), include_extras=True)
        for option in fields(self):
            value, hint = getattr(self, option.name), hints[option.name]
            if get_origin(hint) is Annotated and not (value is None and option.default is None):
                check(option.name, value, *get_args(hint)[:2])

    @classmethod
    def of(cls, given, what):
        """The options that a dict gives. ValueError: a name that these options do not have, and those they have."""
        known = [option.name for option in fields(cls)]
        if extra := [name for name in given if name not in known]:
            raise ValueError(f"{what} has no {extra[0]!r}; known: {', '.join(sorted(known))}")
        return cls(**given)


def number(what, value, allowed, *, whole=False):
    """The value, if it is a number (True is none) in an interval such as "[0, 1)"; ValueError otherwise."""
    low, high = (float(end) for end in allowed[1:-1].split(","))
    right = isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)
    ends = (allowed[0] == "[" and value == low) or (allowed[-1] == "]" and value == high)
    if not (right and (low < value < high or ends)):
        raise ValueError(f"{what} must be {'a whole number ' if whole else ''}in {allowed}, got {value!r}")
    return value


def flag(what, value):
    """The value, if it is True or False; ValueError otherwise."""
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be True or False, got {value!r}")
    return value


def one_of(what, value, known):
    """The value, if it is one of the known names; ValueError otherwise."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")
    return value


@contextmanager
def needing(extra):
    """Import in it what only some calls need. ModuleNotFoundError: what is missing, and what installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        remedy = f"install it, or all of compression-companion's extra [{extra}]"
        raise ModuleNotFoundError(f"{error.name} is missing; {remedy}", name=error.name) from None

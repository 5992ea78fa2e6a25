"""Options are checked where they enter: a message names the option, its value and what would do."""

import math
import numbers
from contextlib import contextmanager
from dataclasses import MISSING, fields
from functools import cache
from typing import Annotated, get_args, get_origin, get_type_hints

KINDS = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}


def seen(value):
    """A value as a message shows it: the beginning of its repr, in one line."""
    return " ".join(f"{value!r:.100}".splitlines())


def named(table, name, what):
    """The entry of a plain dict, or a function that stands for itself. ValueError: the name, and those known."""
    if isinstance(name, type):
        raise ValueError(f"{what} is the class {name.__name__}; make one of it, {name.__name__}()")
    return name if callable(name) else table[one_of(what, name, table)]


def check(name, value, kind, allowed=None, *, error=ValueError):
    """The value, unless it is of another kind (int, float, str, bool) or outside what is allowed: then an error.

    allowed: a tuple of strings, the choices, or of two numbers, the lowest and the highest, or an interval such as
    "[0, 1)". A whole number is a number, too, whoever's it is; True and False are neither.
    """
    if isinstance(allowed, str):
        return number(name, value, allowed, whole=kind is int)
    kinds = {int: numbers.Integral, float: numbers.Real}
    fits = isinstance(value, kinds.get(kind, kind)) and (kind is bool or not isinstance(value, bool))
    if fits and allowed is not None:
        fits = value in allowed if isinstance(allowed[0], str) else allowed[0] <= value <= allowed[1]
    if not fits or (kind is float and math.isnan(value)):
        raise error(f"{name} must be {KINDS[kind]}{_span(allowed)}, got {seen(value)}")
    return int(value) if kind is int else value  # NumPy's, too, which neither seed a generator nor split a tensor


def _span(allowed):
    if not allowed:
        return ""
    if isinstance(allowed[0], str):
        return f", one of {', '.join(allowed)}"
    low, high = allowed
    return f" from {low} to {high}" if high < math.inf else f", at least {low}"


@cache
def _annotated(kind):
    """The options of a kind that have a range: name → (type, what is allowed, whether None stands for no value)."""
    hints = get_type_hints(kind, include_extras=True)
    known = [(option, hints[option.name]) for option in fields(kind) if get_origin(hints[option.name]) is Annotated]
    return {option.name: (*get_args(hint)[:2], option.default is None) for option, hint in known}


class Checked:
    """Options as a dataclass: a field Annotated[kind, allowed] is checked; None fits where it is the default.

    A list of a kind, Annotated[list, (kind, allowed)], has entries that are.
    """

    what = ""  # what messages begin with

    def __post_init__(self):
        for name, (kind, allowed, free) in _annotated(type(self)).items():
            value = getattr(self, name)
            if value is None and free:
                continue
            if kind is list:
                entries(f"{self.what}{name}", value, *allowed)
            else:
                object.__setattr__(self, name, check(f"{self.what}{name}", value, kind, allowed))

    @classmethod
    def of(cls, given, what, *, beside=(), hints=None):
        """The options that a dict gives. ValueError: a name that these options do not have, or one that is lacking.

        beside: other names that messages tell; hints: of names that these options do not have, what to pass.
        """
        if not isinstance(given, dict):
            raise ValueError(f"{what} must be a dict of options, got {seen(given)}")
        known = {_called(option): option for option in fields(cls)}
        if extra := [name for name in given if name not in known]:
            hint = f"pass {hints[extra[0]]}; " if extra[0] in (hints or {}) else ""
            raise ValueError(f"{what} has no {extra[0]!r}; {hint}known: {', '.join(sorted({*known, *beside}))}")
        needed = [name for name, o in known.items() if o.default is o.default_factory is MISSING and name not in given]
        if needed:
            raise ValueError(f"{what} lacks {needed[0]!r}; known: {', '.join(sorted(known))}")
        return cls(**{known[name].name: value for name, value in given.items()})

    def plain(self):
        """The options as the dict that gives them."""
        return {_called(option): getattr(self, option.name) for option in fields(self)}


def _called(option):
    """The name of an option where it is given: its own, but for words that Python keeps for itself."""
    return option.metadata.get("called", option.name)


def entries(what, values, kind, allowed=None):
    """A list of the values, if they are a list or tuple of a kind, each within what is allowed; else ValueError."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"{what} must be a list, got {seen(values)}")
    return [check(f"each of {what}", value, kind, allowed) for value in values]


def number(what, value, allowed, *, whole=False):
    """The value, if it is a number (True is none) in an interval such as "[0, 1)", an int if whole; else ValueError."""
    low, high = (float(end) for end in allowed[1:-1].split(","))
    right = isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)
    ends = right and ((allowed[0] == "[" and value == low) or (allowed[-1] == "]" and value == high))
    if not (right and (low < value < high or ends)):
        raise ValueError(f"{what} must be {'a whole number ' if whole else ''}in {allowed}, got {seen(value)}")
    return int(value) if whole else value


def flag(what, value):
    """The value, if it is True or False; ValueError otherwise."""
    return check(what, value, bool)


def one_of(what, value, known):
    """The value, if it is one of the known names; ValueError otherwise."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"unknown {what} {seen(value)}; known: {', '.join(known)}")
    return value


@contextmanager
def needing(extra):
    """Import in it what only some calls need. ModuleNotFoundError: what is missing, and what installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        remedy = f"install it, or all of compression-companion's extra [{extra}]"
        raise ModuleNotFoundError(f"{error.name} is missing; {remedy}", name=error.name) from None


def unready(model):
    """What hinders a network from being cut or counted, and the remedy: quantised weights, or no numbers; or None."""
    for name, layer in model.named_modules():
        if ".quantized" in type(layer).__module__:
            return f"{name!r} ({type(layer).__name__}) has quantised weights; give the network before it was quantised"
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        return "the network's weights are on the device meta, without numbers; load them first"
    return None

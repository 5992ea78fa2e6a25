"""Arguments are checked where they enter: each message names the option, its value and what it may be."""

import numbers


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

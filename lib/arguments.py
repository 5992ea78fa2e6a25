"""What functions are called with: an argument outside its meaning is refused by name before anything is computed."""

import functools
import inspect
import json
import os
from collections.abc import Iterable

import torch
from torch import nn

from .checks import flag, number, one_of, seen


def told(*, together=None, **kinds):
    """Check the arguments of a function by their names before it is called.

    A kind is an interval such as "[0, 1)", with "whole " before it for whole numbers; or the names to choose from; or
    bool; or a function of the argument's name and value that returns what the function is to have. None fits where it
    is the default. together: a function of all arguments. ValueError: the function, the argument, its value, the range;
    of names the argument and those that are known.
    """

    def decorate(function):
        known = inspect.signature(function)

        @functools.wraps(function)
        def checked(*given, **named):
            try:
                bound = known.bind(*given, **named)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            for name, value in bound.arguments.items():
                if name in kinds and (value is not None or known.parameters[name].default is not None):
                    bound.arguments[name] = fits(f"{function.__name__}: {name}", value, kinds[name])
            if together:
                together(**bound.arguments)
            return function(*bound.args, **bound.kwargs)

        return checked

    return decorate


def fits(what, value, kind):
    """The value, if it is of a kind as `told` takes them; ValueError otherwise. what: "where: name"."""
    if kind is bool:
        return flag(what, value)
    if isinstance(kind, str):
        return number(what, value, kind.removeprefix("whole "), whole=kind.startswith("whole "))
    return kind(what, value) if callable(kind) else one_of(what.rpartition(": ")[2], value, kind)


def numbers(allowed):
    """The kind of lists of numbers in an interval."""

    def kind(what, values):
        if not isinstance(values, list | tuple) or not values:
            raise ValueError(f"{what} must be a list of numbers in {allowed}, got {seen(values)}")
        where, colon, name = what.rpartition(": ")
        return [fits(f"{where}{colon}each of {name}", value, allowed) for value in values]

    return kind


def _is(name, right):
    """The kind of values for which the function `right` holds."""

    def kind(what, value):
        if not right(value):
            raise ValueError(f"{what} must be {name}, got {_seen(value)}")
        return value

    return kind


a_network = _is("a network, an nn.Module", lambda value: isinstance(value, nn.Module))
a_linear = _is("a layer of nn.Linear", lambda value: isinstance(value, nn.Linear))
a_generator = _is("a torch.Generator", lambda value: isinstance(value, torch.Generator))
a_function = _is("a function", callable)
a_path = _is("a path", lambda value: isinstance(value, str | os.PathLike) and bool(str(value)))
a_tensor = _is("a tensor that is not empty", lambda value: torch.is_tensor(value) and value.numel())
floats = _is("a tensor of floats", lambda value: torch.is_tensor(value) and value.is_floating_point())


def networks_by_name(what, value):
    """The kind of dicts of networks."""
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{what} must be a dict, name → network, got {seen(value)}")
    return {name: a_network(f"{what}[{name!r}]", net) for name, net in value.items()}


def matrices(what, value, *, axes=2):
    """The kind of lists of weights; one tensor alone is a list of itself."""
    found = list(value) if isinstance(value, Iterable) and not torch.is_tensor(value) else [value]
    if wrong := [w for w in found if not (torch.is_tensor(w) and w.is_floating_point() and w.ndim >= axes)]:
        raise ValueError(f"{what} must be a list of tensors (out, in, …) of floats, got {_seen(wrong[0])} in it")
    return found


tensors = functools.partial(matrices, axes=0)  # of any shape: what is added up entry by entry


def plain_data(what, value):
    """The kind of what a JSON file holds."""
    try:
        json.dumps(value, allow_nan=False)
        _named_by_strings(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{what} must be finite numbers, strings, lists and dicts, got {seen(value)} ({error})"
        ) from None
    return value


def _named_by_strings(value):
    """TypeError: a key of a dict is no string, and would come back as one."""
    if isinstance(value, dict) and (odd := [key for key in value if not isinstance(key, str)]):
        raise TypeError(f"the key {odd[0]!r} is no string")
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _named_by_strings(entry)


def _seen(value):
    return f"{value.dtype} {tuple(value.shape)}" if torch.is_tensor(value) else seen(value)

"""What functions are called with: an argument outside its meaning is refused by name before anything is computed."""

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable

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
            for name in kinds.keys() & bound.arguments.keys():
                value = bound.arguments[name]
                if value is not None or known.parameters[name].default is not None:
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


def _is(what, value, kind, name):
    if not isinstance(value, kind):
        raise ValueError(f"{what} must be {name}, got {seen(value)}")
    return value


a_network = functools.partial(_is, kind=nn.Module, name="a network, an nn.Module")
a_linear = functools.partial(_is, kind=nn.Linear, name="a layer of nn.Linear")
a_generator = functools.partial(_is, kind=torch.Generator, name="a torch.Generator")
a_function = functools.partial(_is, kind=Callable, name="a function")


def networks_by_name(what, value):
    """The kind of dicts of networks."""
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{what} must be a dict, name → network, got {seen(value)}")
    return {name: a_network(f"{what}[{name!r}]", net) for name, net in value.items()}


def a_tensor(what, value):
    """The kind of tensors that have something in them."""
    if not torch.is_tensor(value) or not value.numel():
        raise ValueError(f"{what} must be a tensor that is not empty, got {_seen(value)}")
    return value


def floats(what, value):
    """The kind of tensors of floats."""
    if not torch.is_tensor(value) or not value.is_floating_point():
        raise ValueError(f"{what} must be a tensor of floats, got {_seen(value)}")
    return value


def matrices(what, value, *, axes=2):
    """The kind of lists of weights; one tensor alone is a list of itself."""
    found = list(value) if isinstance(value, Iterable) and not torch.is_tensor(value) else [value]
    if wrong := [w for w in found if not (torch.is_tensor(w) and w.is_floating_point() and w.ndim >= axes)]:
        raise ValueError(f"{what} must be a list of tensors (out, in, …) of floats, got {_seen(wrong[0])} in it")
    return found


def tensors(what, value):
    """The kind of lists of tensors of floats, of any shape: what is added up entry by entry."""
    return matrices(what, value, axes=0)


def a_path(what, value):
    """The kind of paths."""
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise ValueError(f"{what} must be a path, got {seen(value)}")
    return value


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

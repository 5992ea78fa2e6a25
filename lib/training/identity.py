"""Which training it is: what a checkpoint is known by, so that no other that can be told apart takes it up."""

import argparse
import functools
import hashlib
import inspect
import json
import types
from dataclasses import fields, is_dataclass

import numpy as np
import torch
from torch import nn

NAMESPACES = types.SimpleNamespace, argparse.Namespace
OWN = {*vars(nn.Module())}  # what every module keeps for itself


def identity(options, model, part, functions):
    """What a training is, as one hash: its options, the network it starts from, its data, its hooks and extra loss.

    Functions are known by their code and by the numbers, strings, tuples and tensors that they use, networks by their
    classes, options and weights. Lists and dicts that a function uses from outside, which it may fill, do not count,
    nor do attributes of classes and modules, what a function within it uses, and torch's random state.
    """
    asked = {option.name: _told(getattr(options, option.name)) for option in fields(options)}
    about = [asked, _network(model), len(part.x), *map(_told, part), [_hook(f) for f in functions]]
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _hook(function):
    """A hook with state or options is known by its class, its `options` and its `seed`: what else it has may move."""
    if hasattr(function, "options") or (hasattr(function, "state_dict") and not isinstance(function, nn.Module)):
        seed = [_told(function.seed)] if hasattr(function, "seed") else []
        return [type(function).__qualname__, str(getattr(function, "options", "")), *seed]
    return _told(function)


def _network(model, seen=()):
    """Classes, attributes, modes and tensors of a network, and which of these are trained."""
    found, seen = [], (*seen, *map(id, model.modules()))
    for name, layer in model.named_modules():
        kept = {key: _told(value, seen) for key, value in vars(layer).items() if key not in OWN}
        resting = model.training and not layer.training
        found.append([name, _kind(layer), kept, resting])
    tensors = {**dict(model.named_buffers()), **dict(model.named_parameters()), **model.state_dict()}
    moved = [name for name, p in model.named_parameters() if p.requires_grad]
    return [found, {name: _told(tensor) for name, tensor in tensors.items()}, moved]


def _kind(thing):
    """The class of an object, and the code of what is called of it where that is no library's."""
    method = "forward" if isinstance(thing, nn.Module) else "__call__"
    called = getattr(type(thing), method, None)
    return [type(thing).__qualname__, _code(called) if _of_ones_own(called) else ""]


def _of_ones_own(function):
    return hasattr(function, "__code__") and not (function.__module__ or "").startswith("torch.")


def _code(function):
    """A hash of what a function does, the same in each process."""

    def parts(code):
        consts = [
            parts(c) if inspect.iscode(c) else sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c)
            for c in code.co_consts
        ]
        return [code.co_code.hex(), code.co_names, consts]

    return hashlib.sha256(json.dumps(parts(function.__code__)).encode()).hexdigest()


def _told(value, seen=(), *, owner=False):
    """A value as plain data: numbers and tensors as they are, functions by what they do, others by their class.

    Objects that are called, of which a method is (owner), and that are made to hold options are known by these, too.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, torch.Tensor | np.ndarray):
        return _hashed(torch.as_tensor(value).detach())
    if isinstance(value, tuple | list):
        return [_told(v, seen) for v in value]
    if isinstance(value, dict):
        return {str(key): _told(v, seen) for key, v in value.items()}
    if id(value) in seen:
        return "itself"
    seen = (*seen, id(value))
    if isinstance(value, functools.partial):
        return [_told(v, seen) for v in (value.func, value.args, value.keywords)]
    if inspect.ismethod(value):
        return [_told(value.__func__, seen), _told(value.__self__, seen, owner=True)]
    if isinstance(value, nn.Module):
        return _network(value, seen)
    return _function(value, seen) if inspect.isroutine(value) else _object(value, seen, owner)


def _function(function, seen):
    """A function by its name, its code and what it uses: defaults, attributes, numbers, tensors and other functions."""
    name = function.__qualname__
    if not hasattr(function, "__code__"):  # functools.lru_cache, around one that has
        function = inspect.unwrap(function)
    if not _of_ones_own(function):
        return name
    named = {key: function.__globals__[key] for key in function.__code__.co_names if key in function.__globals__}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    bound = {key: _content(cell) for key, cell in cells}
    kept = [v for scope in (bound, named) for _, v in sorted(scope.items()) if _settled(v, function)]
    given = [function.__defaults__, function.__kwdefaults__, vars(function), kept]
    return [name, _code(function), *(_told(v, seen) for v in given)]


def _content(cell):
    """What a variable of a function around holds; None where it is bound later."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _settled(value, function):
    """Whether something that a function uses is the same before and after: lists and dicts may be filled by it."""
    if inspect.isroutine(value):
        return getattr(value, "__module__", None) == function.__module__
    return not isinstance(value, list | dict) and not inspect.ismodule(value) and not inspect.isclass(value)


def _object(value, seen, owner):
    known = owner or callable(value) or isinstance(value, NAMESPACES) or is_dataclass(value)
    kept = vars(value) if known and hasattr(value, "__dict__") else {}
    return [*_kind(value), {k: _told(v, seen) for k, v in kept.items() if _settled(v, value)}]


def _hashed(tensor):
    """A tensor's type, shape and hash: a second for some hundred megabytes."""
    about = [*tensor.shape, str(tensor.dtype)]
    if tensor.is_meta or tensor.layout is not torch.strided:
        return about
    content = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return [*about, hashlib.sha256(content).hexdigest()]

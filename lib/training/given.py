"""What a reader trains on: x and y as tensors, whatever they come as."""

from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ..data import Part


def part_of(given, device):
    """x and y on a device, of a data set's training part, a pair of tensors or arrays, a Dataset or a DataLoader.

    The targets of a data set for regression are numbers, also where they are whole. ValueError: there is no pair, or x
    and y are not of one length.
    """
    task, given = getattr(given, "task", None), getattr(given, "train", given)
    given = given.dataset if isinstance(given, DataLoader) else given
    if isinstance(given, TensorDataset):
        given = given.tensors
    elif isinstance(given, Dataset):
        given = [torch.stack([torch.as_tensor(value) for value in column]) for column in zip(*given, strict=True)]
    try:
        x, y = (_tensor(values).to(device) for values in given)
        length = len(x), len(y)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"data must be x and y, a data set or a DataLoader, got {type(given).__name__}: {error}"
        ) from None
    if length[0] != length[1] or not length[0]:
        raise ValueError(f"x and y must be of one length, at least 1, got {length[0]} and {length[1]}")
    for name, values in (("x", x), ("y", y)):
        if values.is_floating_point() and (lost := int((~values.isfinite()).sum())):
            raise ValueError(f"{name} has {lost:,} values that are not finite (NaN or infinite); mend or leave out")
    return Part(x, y.float() if task == "regression" and not y.is_floating_point() else y)


def device_of(model):
    """Where a network's parameters are. ValueError: it has none, or is no network."""
    first = next(model.parameters(), None) if isinstance(model, torch.nn.Module) else None
    if first is None:
        raise ValueError(f"a network with parameters is needed, got {type(model).__name__}")
    return first.device


@contextmanager
def fits(model, inputs, targets=None):
    """Turn what a network or a loss says of a batch that it does not take into a ValueError with the shapes."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError) as error:
        what = f"{type(model).__name__} does not take inputs {_told(inputs)}"
        if targets is not None:
            what = f"{type(model).__name__} and the loss do not take inputs {_told(inputs)}, targets {_told(targets)}"
        raise ValueError(f"{what}: {str(error).partition(chr(10))[0]}") from error


def _told(values):
    shape = ", ".join(["N", *map(str, values.shape[1:])])
    return f"({shape}) of {str(values.dtype).removeprefix('torch.')}"


def tensor(values):
    """Tensors, which stay as they are, of arrays and tables. ValueError: they are no numbers."""
    try:
        return _tensor(values)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"inputs must be a tensor or an array of numbers, got {type(values).__name__}: {error}"
        ) from None


def _tensor(values):
    """Tensors stay as they are; tables and arrays of double precision become float32, whole numbers int64."""
    if isinstance(values, torch.Tensor):
        return values.detach()
    if isinstance(values, str | bytes | dict):
        raise TypeError(f"{values!r:.40} is no table of numbers")
    tensor = torch.as_tensor(np.array(values))
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def taken(model, x):
    """Inputs as a network takes them: float32 in place of double precision where no parameter has that."""
    if x.dtype is torch.float64 and all(p.dtype is not torch.float64 for p in model.parameters()):
        return x.float()
    return x


def picked(found, outputs=None):
    """The tensor that is asked for of what a network returned. TypeError: it returned no tensor."""
    found = outputs(found) if outputs else found
    if not isinstance(found, torch.Tensor):
        what = f"the keys {list(found)}" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise TypeError(f"the network returned {what} instead of a tensor; pass outputs=, a function that picks one")
    return found.float()

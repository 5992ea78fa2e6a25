"""What a reader trains on: x and y as tensors, whatever they come as."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from ..data import Part


def part_of(given, device):
    """x and y on a device, of a data set's training part, a pair of tensors or arrays, a Dataset or a DataLoader.

    ValueError: there is no pair, or x and y are not of one length.
    """
    given = getattr(given, "train", given)
    given = given.dataset if isinstance(given, DataLoader) else given
    if isinstance(given, TensorDataset):
        given = given.tensors
    elif isinstance(given, Dataset):
        given = [torch.stack([torch.as_tensor(value) for value in column]) for column in zip(*given, strict=True)]
    try:
        x, y = (_tensor(values).to(device) for values in given)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"data must be x and y, a data set or a DataLoader, got {type(given).__name__}: {error}"
        ) from None
    if len(x) != len(y) or not len(x):
        raise ValueError(f"x and y must be of one length, at least 1, got {len(x)} and {len(y)}")
    return Part(x, y)


def _tensor(values):
    """Tensors stay as they are; tables and arrays of double precision become float32, whole numbers int64."""
    if isinstance(values, torch.Tensor):
        return values
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

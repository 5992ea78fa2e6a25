"""What a reader trains on: x and y as tensors, whatever they come as."""

import warnings
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Subset, TensorDataset
from tqdm.auto import tqdm

from ..checks import unready
from ..data import Part

TABLES = (tuple, list, Dataset, DataLoader)  # what x and y come in


def part_of(given, model):
    """x and y where a network is, of a data set's training part, a pair of tensors or arrays, a Dataset or DataLoader.

    The targets of a data set for regression are numbers, also where they are whole. ValueError: there is no pair, or x
    and y are not of one length.
    """
    device, task, part = device_of(model), getattr(given, "task", None), getattr(given, "train", None)
    given = part if isinstance(part, TABLES) else given  # torchvision's MNIST has a `train` that is True
    given = _read(given) if isinstance(given, Dataset | DataLoader) else given
    if isinstance(given, tuple | list) and len(given) == 2 and all(map(_is_pair, given)):
        remedy = "one with a validation part is types.SimpleNamespace(train=…, validation=…)"
        raise ValueError(f"data must be x and y, got two such pairs; {remedy}")
    try:
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise TypeError("no pair of tables")
        _aligned(*given)
        x, y = map(tensor, "xy", given)
        length = len(x), len(y)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of nested tensors
        raise ValueError(
            f"data must be x and y, a data set or a DataLoader, got {type(given).__name__}: {error}"
        ) from None
    if length[0] != length[1] or not length[0]:
        raise ValueError(f"x and y must be of one length, at least 1, got {length[0]} and {length[1]}")
    y = y.float() if task == "regression" and not y.is_floating_point() else y
    part = Part(taken(model, x), taken(model, y))
    for name, values, table in zip("xy", part, given, strict=True):
        _finite(name, values, list(getattr(table, "columns", ())))
    return Part(*(values.to(device) for values in part))


def _is_pair(given):
    """Whether this is a pair of tables itself, as those of a training and a validation part."""
    pair = isinstance(given, tuple | list) and len(given) == 2 and all(hasattr(table, "shape") for table in given)
    return pair or isinstance(given, Dataset | DataLoader)


def _aligned(x, y):
    """ValueError: two tables of pandas have the same rows in another order, which would pair them wrongly."""
    one, other = (getattr(table, "index", None) for table in (x, y))
    if not all(callable(getattr(index, "equals", None)) for index in (one, other)) or one.equals(other):
        return
    if len(one) == len(other) and one.is_unique and one.isin(other).all():
        raise ValueError("their rows have the same labels in another order; pass y.loc[x.index]")


def tensor(what, table):
    """A table as a tensor. ValueError: it begins with `what`, and names the column of a frame without numbers."""
    try:
        return _tensor(table)
    except (TypeError, ValueError) as error:
        columns = {name: np.array(table[name]) for name in getattr(table, "columns", ())}
        odd = [c for c, v in columns.items() if v.dtype.kind not in "biuf" or np.isnan(v).any()]
        raise ValueError(f"{what}{f', column {odd[0]!r}' if odd else ''}: {error}") from None


def _finite(name, values, columns):
    """ValueError: a value is NaN or infinite; it tells how many there are, and where the first is."""
    if not values.is_floating_point() or values.isfinite().all():
        return
    places = (~values.isfinite()).nonzero()
    row, *rest = places[0].tolist()
    column = f", column {columns[rest[0]] if len(columns) > rest[0] else rest[0]!r}" if values.ndim == 2 else ""
    raise ValueError(
        f"{name} has {len(places):,} values that are not finite (NaN, infinite or too large), the first in row "
        f"{row}{column}; mend or leave out"
    )


def sized(options, data):
    """Options with the batch size of a DataLoader, where they have none. ValueError: a device is among them."""
    if "device" in options:
        device = str(options["device"])
        raise ValueError(f"device is no option: a network is trained where it is; call net.to({device!r}) first")
    size = data.batch_size or getattr(data.batch_sampler, "batch_size", 0) if isinstance(data, DataLoader) else None
    return {"batch": size} | options if size else options


def _read(given):
    """The tables of a torch Dataset or DataLoader, read once to its end; in order where it shuffles, as the loop will.

    ValueError: it cannot be put together.
    """
    if isinstance(given, TensorDataset) and type(given).__getitem__ is TensorDataset.__getitem__:
        return given.tensors
    loader = given if isinstance(given, DataLoader) else DataLoader(given, 64)
    order, size = loader.sampler, loader.batch_size
    shuffled = isinstance(order, RandomSampler) and not order.replacement and len(order) == len(loader.dataset)
    if size and shuffled and type(loader).__iter__ is DataLoader.__iter__:
        kept = {key: getattr(loader, key) for key in ("num_workers", "collate_fn", "worker_init_fn")}
        loader = DataLoader(loader.dataset, size, **kept)
    try:
        if not (batches := list(tqdm(loader, leave=False, desc="reading"))):  # shown, as there may be no end of them
            raise ValueError("there is no batch in it")
        if wrong := [batch for batch in batches if not (isinstance(batch, tuple | list) and len(batch) == 2)]:
            raise TypeError(f"there is a {type(wrong[0]).__name__} of {len(wrong[0])} in place of a pair (x, y)")
        columns = [[_rows(values) for values in column] for column in zip(*batches, strict=True)]
        return [torch.cat(c) if torch.is_tensor(c[0]) else np.concatenate(c) for c in columns]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{type(loader.dataset).__name__} cannot be put together to tables x and y: {error}; mend it by a "
            "transform (torchvision's Resize, ToTensor), or by the collate_fn of a DataLoader"
        ) from None
    except (OSError, SyntaxError) as error:  # Pillow's, of which some do not name the file
        told = _unread(loader.dataset) or str(error).partition("\n")[0]
        raise ValueError(f"{type(loader.dataset).__name__} cannot be read: {told}; mend or remove it") from None


def _unread(rows):
    """Which example of a Dataset cannot be read, its file where the Dataset lists them as torchvision's, and why."""
    for k in range(len(rows) if hasattr(rows, "__len__") else 0):
        try:
            rows[k]
        except (OSError, SyntaxError) as error:
            while isinstance(rows, Subset):
                rows, k = rows.dataset, rows.indices[k]
            listed = getattr(rows, "samples", None)
            file = f", {str(listed[k][0])!r}" if isinstance(listed, list) else ""
            return f"example {k}{file} ({error!r:.200})"
    return ""


def _rows(values):
    """A list of columns, which torch makes of targets that are lists, as one table."""
    listed = isinstance(values, list | tuple) and torch.is_tensor(values[0])
    if listed and values[0].ndim > 1:
        raise TypeError(f"there are {len(values)} tables in place of one")
    return torch.stack(values, 1) if listed else values


def device_of(model):
    """Where a network's parameters are. ValueError: it has none, not yet, or without numbers, or is no network."""
    found = list(model.parameters()) if isinstance(model, torch.nn.Module) else []
    if any(map(torch.nn.parameter.is_lazy, found)):
        raise ValueError("lazy layers have no weights yet; call the network once on an example, net(x[:1])")
    if not found or found[0].is_meta:
        hindrance = unready(model) if isinstance(model, torch.nn.Module) else None
        raise ValueError(hindrance or f"a network with parameters is needed, got {type(model).__name__}")
    return found[0].device


def learning(model):
    """The parameters, each in memory of its own shape, as torch's fused optimizers take it to be.

    Frozen ones are among them, which a hook may set free. ValueError: all are frozen, were made in inference
    mode, or have sparse gradients.
    """
    found = list(model.parameters())
    if not any(p.requires_grad for p in found):
        raise ValueError("all parameters are frozen; set requires_grad of those that training moves")
    if any(getattr(layer, "sparse", False) is True for layer in model.modules()):
        raise ValueError("an embedding has sparse gradients, which no optimizer here takes; make it with sparse=False")
    if any(p.is_inference() for p in found):
        raise ValueError("the network was made within torch.inference_mode; make, load or shrink it outside of it")
    for p in found:
        if not torch.ops.aten.is_non_overlapping_and_dense(p):  # a slice of a larger tensor, or one that repeats
            p.data = p.data.contiguous()
    return found


def kept(model, parameters):
    """ValueError: a hook has put another parameter in the place of one that is trained; it would not be trained."""
    known = set(map(id, parameters))
    if new := [name for name, p in model.named_parameters() if id(p) not in known]:
        raise ValueError(f"a hook has replaced {new[0]!r}, which would not be trained; change its numbers in place")


@contextmanager
def fits(model, inputs, targets=None):
    """Turn what a network or a loss says of a batch that it does not take into a ValueError with the shapes."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Using a target size")
            yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError, UserWarning) as error:
        what = f"{type(model).__name__} does not take inputs {_told(inputs)}"
        if targets is not None:
            what = f"{type(model).__name__} and the loss do not take inputs {_told(inputs)}, targets {_told(targets)}"
        said = str(error).partition("\n")[0]
        hint = _of_types(said, model, inputs, targets) if "type" in said else ""
        hint = "; take its gradient within torch.enable_grad()" if "not require grad" in said else hint
        raise ValueError(f"{what}: {said}{hint}") from error


def _of_types(said, model, inputs, targets):
    """What to do about inputs or targets that are no floats, or about weights of another type than the inputs'."""
    kinds = {t.dtype for t in (inputs, *model.parameters()) if t.is_floating_point()}
    if "bfloat16" in said.lower() and "float" in said.lower().replace("bfloat16", "") and torch.bfloat16 not in kinds:
        return "; a layer does not take the bf16 of autocast: pass precision='fp32'"
    if inputs.is_floating_point() and (kinds := kinds - {inputs.dtype}):
        named = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        return f"; weights of the network are {named}: call net.float() first"
    if "Double" in said and torch.float64 not in (inputs.dtype, getattr(targets, "dtype", None)):
        return "; a tensor of the loss, as its weight, is float64: make it a float32 one by .float()"
    whole = [name for name, t in (("x", inputs), ("y", targets)) if t is not None and not t.is_floating_point()]
    return f"; where numbers are asked for pass {whole[0]}.float()" if whole else ""


def _told(values):
    shape = ", ".join(["N", *map(str, values.shape[1:])])
    return f"({shape}) of {str(values.dtype).removeprefix('torch.')}"


def _tensor(values):
    """Tensors stay as they are; whole numbers of arrays and tables become int64, others float32 or float64."""
    if isinstance(values, torch.Tensor):
        return values.detach() if values.layout is torch.strided else values.detach().to_dense()
    if isinstance(values, str | bytes | dict):
        raise TypeError(f"{values!r:.40} is no table of numbers")
    array = np.array(values.toarray() if hasattr(values, "toarray") else values)  # SciPy's are sparse
    if array.dtype.kind not in "biuf" or np.ma.is_masked(values):
        raise TypeError(
            f"{'masked' if array.dtype.kind in 'biuf' else array.dtype} entries are no numbers; encode words as whole "
            "numbers, fill in what is missing, and pass an array of one type, .astype(float)"
        )
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{array.max():,} is no int64, as torch's whole numbers are; pass an array of floats")
    floats = np.float64 if array.dtype.itemsize > 4 else np.float32
    return torch.from_numpy(array.astype(floats if array.dtype.kind == "f" else np.int64))


def taken(model, x):
    """Inputs as a network takes them: floats widened to its parameters' type, double precision else as float32."""
    if not x.is_floating_point():
        return x
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if x.dtype is torch.float64:
        return x if x.dtype in kinds else x.float()
    return x.to(torch.promote_types(x.dtype, *kinds)) if len(kinds) == 1 else x


def picked(found, outputs=None):
    """The tensor that is asked for of what a network returned. TypeError: it returned no tensor."""
    found = found if outputs is None else outputs(found)
    if not isinstance(found, torch.Tensor):
        what = f"the keys {list(found)}" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise TypeError(f"the network returned {what} instead of a tensor; pass outputs=, a function that picks one")
    return found if found.dtype is torch.float64 or found.is_complex() else found.float()

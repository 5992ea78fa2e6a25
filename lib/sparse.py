"""A pruned network as a sparse file: what is not zero and where it is, as plain tensors (safetensors). Nothing pickled.

A tensor of floats that takes fewer bytes so is kept as `name:values` and either `name:mask`, a bit for each entry, or
`name:places`, how many zeros stand between each value and the one before, whichever takes fewer bytes; its zeros come
back without a sign. Every other tensor is kept whole.
"""

import contextlib
import hashlib
import json

import numpy as np
import safetensors.torch
import torch
from torch import nn

from . import models, saving
from .arguments import a_network, a_path, plain_data, told
from .atomic import read_file, write_whole

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
ABOUT = "sparse"  # in a file's metadata: name → shape of the tensors that are kept sparse


@told(path=a_path)
def save(model, path, *, dtype="fp32", **about):
    """Write a network of `models.build` as one sparse file, whole or not at all; returns its bytes' number.

    dtype: "fp32" keeps every number, but not the sign of a zero; "fp16" rounds float32 parameters to half precision.
    What is in half precision `load` gives back as float32. about: plain data to keep beside it, such as normalisation
    or labels. A checksum is of all of it.
    """
    if own := about.keys() & {"config", "dtype", "sum"}:
        raise ValueError(f"{min(own)!r} is kept by itself; call what you keep beside the network otherwise")
    for name, value in about.items():
        plain_data(f"save: {name}", value)
    about = {"config": saving.built_of(model), "dtype": dtype} | about
    whole = _sum(read(to_bytes(model, dtype=dtype))[0], about)
    content = to_bytes(model, dtype=dtype, about=json.dumps(about | {"sum": whole}))
    write_whole(path, content)
    return len(content)


@told(path=a_path)
def load(path):
    """The network of a sparse file in eval mode, and what was kept beside it as a dict; runs no code from the file.

    ValueError names the tensor that is missing, unknown or of the wrong shape, or the file that was changed.
    """
    state, metadata = read(read_file(path), path)
    about = _told(metadata.get("about", "{}"), path)
    if (whole := about.pop("sum", None)) and whole != _sum(state, about):  # files of before have none
        raise ValueError(f"{path} is damaged: it does not fit its checksum; save the network again")
    if "config" not in about:
        raise ValueError(f"{path} does not say which network it is; `read` gives its tensors")
    return saving.network(about["config"], state, path, path), about


def _sum(state, about):
    """A checksum of dense tensors and of what is kept beside them."""
    return hashlib.sha256(f"{saving._sum_of_tensors(state)} {json.dumps(about, sort_keys=True)}".encode()).hexdigest()


@told(model=a_network, dtype=DTYPES)
def to_bytes(model, *, dtype="fp32", about="{}"):
    """The contents of a sparse file with the parameters and buffers of any network."""
    kept, shapes = {}, {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in saving.tensors_of(model).items():
        tensor = tensor.detach().cpu().contiguous()
        if name in parameters and tensor.dtype == torch.float32:
            tensor = _rounded(name, tensor, DTYPES[dtype])
        found = _packed(tensor) if tensor.is_floating_point() and tensor.dim() else {}
        if found and sum(t.nbytes for t in found.values()) < tensor.nbytes:
            shapes[name] = list(tensor.shape)
            kept |= {f"{name}:{part}": t for part, t in found.items()}
        else:
            kept[name] = tensor.clone()  # a tensor that two layers share is kept twice
    return safetensors.torch.save(kept, {ABOUT: json.dumps(shapes), "about": about})


def read(content, what="the file"):
    """The dense tensors by name (fp16 given back as fp32), and the metadata, of a sparse file's bytes.

    ValueError: the bytes are of no such file, or a tensor's parts do not fit each other.
    """
    if not isinstance(content, bytes):
        raise ValueError(f"read takes the bytes of a file, Path(…).read_bytes(), got a {type(content).__name__}")
    kept, metadata = saving._state(content, what)
    if ABOUT not in metadata:
        raise ValueError(f"{what} is no sparse file; saving.load reads dense ones in a folder, saving.load_into others")
    shapes = _told(metadata[ABOUT], what)
    parts = {f"{name}:{part}" for name in shapes for part in ("values", "mask", "places")}
    state = {name: tensor for name, tensor in kept.items() if name not in parts}
    state |= {name: _unpacked(kept, name, shape, what) for name, shape in shapes.items()}
    return {n: t.float() if t.dtype == torch.float16 else t for n, t in state.items()}, metadata


def _told(text, what):
    """The dict that a file's metadata hold as text. ValueError: it is damaged."""
    with contextlib.suppress(ValueError, RecursionError):
        if isinstance(found := json.loads(text), dict):
            return found
    raise ValueError(f"{what} is damaged: it holds {text!r:.40}; save the network again")


def _rounded(name, tensor, dtype):
    """The tensor in another precision. ValueError: a number too large for it."""
    rounded = tensor.to(dtype)
    if not torch.equal(rounded.isfinite(), tensor.isfinite()):
        raise ValueError(f"tensor {name!r} has a number of size {tensor.abs().max():g}, too large for fp16; use fp32")
    return rounded


def _packed(tensor):
    """The values that are not zero, bit for bit, and where they are in the smaller of two forms."""
    flat = tensor.flatten()
    there = flat != 0
    places = there.nonzero().flatten().numpy()
    gaps = np.diff(places, prepend=-1) - 1
    kind = next(kind for kind in (np.uint8, np.uint16, np.int32, np.int64) if gaps.max(initial=0) <= np.iinfo(kind).max)
    forms = {"mask": np.packbits(there.numpy()), "places": gaps.astype(kind)}
    smaller = min(forms, key=lambda form: forms[form].nbytes)
    return {"values": flat[there], smaller: torch.from_numpy(forms[smaller])}


def _unpacked(kept, name, shape, what):
    """The dense tensor of one that is kept sparse."""
    values, size = kept.get(f"{name}:values"), int(np.prod(shape))
    if values is None or (f"{name}:mask" in kept) == (f"{name}:places" in kept):
        raise ValueError(f"{what}: tensor {name!r} lacks its values or its places; write the file again")
    if f"{name}:mask" in kept:
        places = np.flatnonzero(np.unpackbits(kept[f"{name}:mask"].numpy())[:size])
    else:
        places = np.cumsum(kept[f"{name}:places"].numpy().astype(np.int64) + 1) - 1
    if len(places) != len(values) or places.max(initial=-1) >= size:
        raise ValueError(f"{what}: tensor {name!r} has {len(values)} values for {len(places)} places of {shape}")
    dense = torch.zeros(size, dtype=values.dtype)
    dense[torch.from_numpy(places)] = values
    return dense.view(shape)


class SparseLinear(nn.Module):
    """A fully connected layer whose weight (out, in) is a sparse matrix of torch's, by rows (CSR). For inference."""

    def __init__(self, layer):
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().to_sparse_csr())
        self.register_buffer("bias", layer.bias.detach().clone() if layer.bias is not None else None)

    def forward(self, x):
        """(…, in) -> (…, out)."""
        out = (self.weight @ x.reshape(-1, x.shape[-1]).T).T.reshape(*x.shape[:-1], len(self.weight))
        return out if self.bias is None else out + self.bias


@told(model=a_network)
def to_csr(model):
    """A copy whose fully connected layers compute with sparse matrices; same outputs to rounding.

    Those with hooks or a `forward` of their own stay, those of classes derived from nn.Linear, and those of an
    nn.TransformerEncoderLayer, which reads their weights itself. ValueError: a weight is made before each call, or is
    neither float32 nor float64.
    """
    copied, made = models.copied(model), {}
    blocks = [m for m in copied.modules() if isinstance(m, nn.TransformerEncoderLayer)]
    within = {m for block in blocks for m in block.modules()}
    for name, layer in list(copied.named_modules(remove_duplicate=False)):
        if type(layer) is nn.Linear and layer not in within:
            if "weight" not in layer._parameters:
                raise ValueError(models.MADE.format(f"{name}.weight".removeprefix(".")))
            if models.intervened(layer):
                continue
            if layer.weight.dtype not in (torch.float32, torch.float64):
                raise ValueError(f"to_csr: torch has no sparse product of {layer.weight.dtype}; call net.float() first")
            made[layer] = made.get(layer) or SparseLinear(layer)
            if name:
                copied.set_submodule(name, made[layer])
    return made.get(copied, copied).eval()  # the network itself may be such a layer

"""Checkpoints: a killed training goes on where it was, and takes up no other training's file."""

import hashlib
import io
import itertools
import os
import random
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

from ..arguments import a_path, told
from ..atomic import read_file, write_whole

PLAIN = (int, float, complex, bool, str, bytes, type(None), torch.dtype, torch.device)  # what torch reads back
HOLDING = (dict, OrderedDict, list, tuple, set, torch.Size)  # of these, too
SUMMED = b"sha256\n"  # a file begins so; the 32 bytes of the sum follow, then what torch.save wrote


@told(path=a_path)
def save_whole(content, path):
    """torch.save behind a checksum, as torch reads damaged weights without a word; whole or not at all.

    content: tensors and plain data (numbers, strings, lists, tuples, sets, dicts). OSError: it names the path.
    ValueError: there is something else in it, which `load_whole` could not read.
    """
    if odd := list(_odd(content)):
        raise ValueError(f"save_whole: {odd[0]!r:.40} ({type(odd[0]).__name__}) is neither tensor nor plain data")
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, b"".join([SUMMED, hashlib.sha256(buffer.getbuffer()).digest(), buffer.getbuffer()]))


def load_whole(path):
    """What `save_whole` wrote, or None where there is no such file; one that cannot be read is renamed, and it is said.

    Files of earlier versions have no checksum. ValueError: it is a folder or a device.
    """
    if not (path and Path(path).exists()):
        return None
    if Path(path).is_dir() or Path(path).is_char_device() or Path(path).is_block_device():
        raise ValueError(f"{path} is no file, but a folder or a device")
    try:
        content = read_file(path)
        if content.startswith(SUMMED):
            start = len(SUMMED) + 32
            if hashlib.sha256(content[start:]).digest() != content[len(SUMMED) : start]:
                raise ValueError("it does not fit its checksum")
            content = content[start:]
        return torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        return set_aside(path, f"cannot be read ({type(error).__name__})")


def set_aside(path, why):
    """Rename a checkpoint that cannot be taken up, and say so. OSError: it names a checkpoint that has to stay."""
    places = (Path(path).with_suffix(f".aside{k or ''}") for k in itertools.count())
    aside = next(place for place in places if not place.exists())
    try:
        Path(path).replace(aside)
    except OSError as error:
        remedy = "make its folder writable, or name another checkpoint"
        told = f"it {why}, and cannot be kept aside ({error.strerror}); {remedy}"
        raise type(error)(error.errno, told, str(path)) from None
    print(f"{path} {why}: it is kept as {aside.name}, and the training starts anew")


def plain(value):
    """Numbers, lists and dicts of what a `watch` returns, tensors and arrays included: what every file can hold."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple, set)):
        return [plain(entry) for entry in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


def _passing(net):
    """Buffers that a network leaves out of its state_dict (persistent=False), which training may move, and names."""
    kept = net.state_dict()
    return [(key, buffer) for key, buffer in net.named_buffers() if key not in kept]


def _made(nets, saved):
    """Give networks the buffers that they make in their first pass, of the names and sizes that were saved."""
    for name, net in nets.items():
        for layer_name, layer in net.named_modules():
            for key, buffer in layer._buffers.items():
                tensor = saved.get(".".join(filter(None, (name, layer_name, key))))
                if tensor is not None and (buffer is None or buffer.shape != tensor.shape):
                    layer._buffers[key] = tensor.clone()


def _odd(state):
    """What there is in a state that torch writes, but does not read with weights_only: NumPy's, a reader's classes."""
    if type(state) in HOLDING:
        for value in [*state, *state.values()] if isinstance(state, dict) else state:
            yield from _odd(value)
    elif not isinstance(state, torch.Tensor) and type(state) not in PLAIN:
        yield state


def _drawn():
    """Where Python's and NumPy's random numbers are, which hooks may draw, as plain data."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 as hooks may draw by it
    return {"python": random.getstate(), "numpy": [kind, keys.tolist(), *rest]}


def _draw_on(state):
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002


class Checkpoint:
    """The file of one training; without a path it keeps nothing.

    parts: what has a state_dict, by name. every: seconds from one writing to the next. `resume` gives what was saved
    beside the states, or None.
    """

    def __init__(self, path, parts, key, *, every):
        self.path = Path(path) if isinstance(path, str | os.PathLike) and str(path) else None
        if path is not None and (self.path is None or (self.path.exists() and not self.path.is_file())):
            raise ValueError(f"checkpoint must be the path of a file, not of a folder or a device, got {path!r}")
        self.parts, self.key, self.warned = parts, key, False
        self.every, self.saved_at = every, time.monotonic()

    def due(self):
        """Whether `every` seconds have passed since the last writing."""
        return self.path is not None and time.monotonic() - self.saved_at >= self.every

    def _networks(self):
        return {name: part for name, part in self.parts.items() if isinstance(part, torch.nn.Module)}

    def _of_networks(self, named):
        """Tensors of all parts that are networks, by name; `named` lists those of one."""
        return {f"{name}.{key}": tensor for name, net in self._networks().items() for key, tensor in named(net)}

    def states(self):
        """The states of the parts. ValueError: one holds what could not be read back."""
        found = {name: part.state_dict() for name, part in self.parts.items()}
        if odd := [(name, value) for name, state in found.items() for value in _odd(state)]:
            (name, value), kind = odd[0], type(odd[0][1])
            raise ValueError(
                f"checkpoint: the state_dict of {name} ({type(self.parts[name]).__name__}) holds {value!r:.40} "
                f"({kind.__module__}.{kind.__name__}), which is not read back; keep plain numbers or tensors there"
            )
        return found

    def save(self, *, now=False, **beside):
        """Write the states where that is due, or now; a full disk is said once: training can do without checkpoints."""
        if not (self.due() or (now and self.path)):
            return
        moving = {name: p.requires_grad for name, p in self._of_networks(torch.nn.Module.named_parameters).items()}
        beside |= {"passing": self._of_networks(_passing), "moving": moving, "drawn": _drawn()}
        content = {"key": self.key, "states": self.states(), "random": torch.get_rng_state(), "beside": beside}
        try:
            save_whole(content, self.path)
        except OSError as error:
            if not self.warned:
                print(f"{self.path}: not written ({error.strerror}); training goes on, but cannot be resumed here")
            self.warned = True
        self.saved_at = time.monotonic()

    def resume(self):
        """Take up the states of this very training."""
        if (saved := load_whole(self.path)) is None:
            return None
        if not isinstance(saved, dict) or saved.get("key") != self.key:
            return set_aside(self.path, "is of another training (its options, network, data or hooks differ)")
        passed = saved["beside"]["passing"]
        kept = {f"{name}.{key}": value for name, state in saved["states"].items() for key, value in state.items()}
        _made(self._networks(), kept | passed)
        for name, state in saved["states"].items():  # files of earlier versions have no loss
            self.parts[name].load_state_dict(state)
        torch.set_rng_state(saved["random"])
        passing = self._of_networks(_passing)
        for name, tensor in passed.items():
            passing[name].copy_(tensor)
        moving = saved["beside"].get("moving", {})  # earlier versions wrote none; hooks may freeze, and set free
        for name, p in self._of_networks(torch.nn.Module.named_parameters).items():
            p.requires_grad_(moving.get(name, p.requires_grad))
        _draw_on(saved["beside"]["drawn"])
        return saved["beside"]

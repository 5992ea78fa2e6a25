"""Checkpoints: a killed training goes on where it was, and takes up no other training's file."""

import hashlib
import io
import json
from pathlib import Path

import torch

from ..atomic import write_whole

SUMMED = b"sha256\n"  # a file begins so; the 32 bytes of the sum follow, then what torch.save wrote


def save_whole(content, path):
    """torch.save behind a checksum, as torch reads damaged weights without a word; whole or not at all.

    OSError: it names the path.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, b"".join([SUMMED, hashlib.sha256(buffer.getbuffer()).digest(), buffer.getbuffer()]))


def load_whole(path):
    """What `save_whole` wrote, or None where there is no such file; one that cannot be read is said and kept aside.

    Files without a checksum are those of before.
    """
    if not (path and Path(path).exists()):
        return None
    try:
        content = Path(path).read_bytes()
        if content.startswith(SUMMED):
            start = len(SUMMED) + 32
            if hashlib.sha256(content[start:]).digest() != content[len(SUMMED) : start]:
                raise ValueError("it does not fit its checksum")
            content = content[start:]
        return torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        return set_aside(path, f"cannot be read ({type(error).__name__})")


def set_aside(path, why):
    """Rename a checkpoint that cannot be taken up, and say so."""
    aside = Path(path).with_suffix(".aside")
    Path(path).replace(aside)
    print(f"{path} {why}: it is kept as {aside.name}, and the training starts anew")


def identity(options, model, part, hooks):
    """What a training is: its options, the shapes of its network, its data and the kinds of its hooks, as one hash."""
    shapes = {name: [*tensor.shape, str(tensor.dtype)] for name, tensor in model.state_dict().items()}
    sample = slice(None, None, max(1, len(part.x) // 64))
    data = [hashlib.sha256(t[sample].cpu().contiguous().view(torch.uint8).numpy()).hexdigest() for t in part]
    kinds = [getattr(hook, "__qualname__", type(hook).__qualname__) for hook in hooks]
    text = json.dumps([options.plain(), shapes, len(part.x), data, kinds], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value):
    """Numbers, lists and dicts of what a `watch` returns, tensors and arrays included: what every file can hold."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple, set)):
        return [plain(entry) for entry in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


class Checkpoint:
    """The file of one training; without a path it keeps nothing.

    parts: what has a state_dict, by name. `resume` gives what was saved beside the states, or None.
    """

    def __init__(self, path, parts, key):
        self.path, self.parts, self.key, self.warned = path and Path(path), parts, key, False

    def save(self, **beside):
        """Write the states; a full disk is said once: training can do without its checkpoints."""
        states = {name: part.state_dict() for name, part in self.parts.items()}
        content = {"key": self.key, "states": states, "random": torch.get_rng_state(), "beside": beside}
        try:
            save_whole(content, self.path)
        except OSError as error:
            if not self.warned:
                print(
                    f"{self.path}: not written ({error.strerror}); training goes on, but could not be resumed from here"
                )
            self.warned = True

    def resume(self):
        """Take up the states of this very training."""
        if (saved := load_whole(self.path)) is None:
            return None
        if not isinstance(saved, dict) or saved.get("key") != self.key:
            return set_aside(self.path, "is of another training (its options, network, data or hooks differ)")
        for name, part in self.parts.items():
            part.load_state_dict(saved["states"][name])
        torch.set_rng_state(saved["random"])
        return saved["beside"]

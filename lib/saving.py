"""A network as files: plain tensors (safetensors) beside a small JSON, and ONNX. Nothing is pickled."""

import json
from pathlib import Path

import safetensors.torch
import torch

from lib import models


def save(model, folder, *, normalisation=None, labels=None):
    """Write model.safetensors and model.json (config, normalisation and labels, plain data) into a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = {"config": model.config, "normalisation": normalisation, "labels": labels}
    text = json.dumps(about, indent=1, allow_nan=False)  # first, so that a failure leaves no half of a pair
    (folder / "model.safetensors").write_bytes(to_bytes(model))
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def load(folder):
    """The saved network in eval mode, with `normalisation` and `labels` as attributes.

    Runs no code from the files. ValueError names the tensor that is missing, unknown or of the wrong shape.
    """
    folder = Path(folder)
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = models.build(**about["config"])
    state = safetensors.torch.load_file(folder / "model.safetensors")
    _refuse(state, model.state_dict(), f"{folder / 'model.safetensors'} does not fit {about['config']['name']}")
    model.load_state_dict(state, assign=True)
    model.normalisation, model.labels = about["normalisation"], about["labels"]
    return model.eval()


def to_bytes(model):
    """The contents of a safetensors file with the network's parameters and buffers."""
    return safetensors.torch.save({name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()})


def to_onnx(model, path, example):
    """Export the network in eval mode for batches of any size; the other axes are those of example (N, …)."""
    mode = model.training
    example = torch.cat([example[:1]] * 2)  # a batch of one would be taken for a constant
    try:
        torch.onnx.export(
            model.eval(),
            (example,),
            Path(path),
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    finally:
        model.train(mode)


def _refuse(state, expected, what):
    for name in sorted(state.keys() | expected.keys()):
        if name not in state:
            raise ValueError(f"{what}: tensor {name!r} is missing; save the network again")
        if name not in expected:
            raise ValueError(f"{what}: tensor {name!r} is unknown to it; does model.json belong to this file?")
        if state[name].shape != expected[name].shape:
            shapes = f"{tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
            raise ValueError(f"{what}: tensor {name!r} has shape {shapes}; does model.json belong to this file?")

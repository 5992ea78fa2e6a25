"""A network as files: plain tensors (safetensors) beside a small JSON, and ONNX. Nothing is pickled."""

import json
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

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
    _refuse(state, model, f"{folder / 'model.safetensors'} does not fit {about['config']['name']}")
    model.load_state_dict(state, assign=True)
    model.normalisation, model.labels = about["normalisation"], about["labels"]
    return model.eval()


def load_into(model, path):
    """Give a network of any class the tensors of a safetensors file and its layers the widths that they have there.

    So a network shrunk by `lib.depgraph` is saved as `to_bytes` of it and loaded into a freshly made one of its class.
    ValueError names a tensor that is missing, unknown or of a shape that the layer cannot take.
    """
    state = safetensors.torch.load_file(path)
    _refuse(state, model, f"{path} does not fit {type(model).__name__}", resized=RESIZABLE)
    for key, tensor in state.items():
        layer, _, name = key.rpartition(".")
        layer = model.get_submodule(layer)
        if name in layer._parameters:
            tensor = nn.Parameter(tensor, requires_grad=layer._parameters[name].requires_grad)
        setattr(layer, name, tensor)
    for layer in model.modules():
        _tell_widths(layer)
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


RESIZABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _tell_widths(layer):
    """Set what a layer says of its widths to what its tensors are."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, RESIZABLE[1:4]):
        if 1 < layer.groups == layer.out_channels:  # depthwise
            layer.groups = len(layer.weight)
        layer.out_channels, layer.in_channels = len(layer.weight), layer.weight.shape[1] * layer.groups
    elif isinstance(layer, RESIZABLE) and layer.running_mean is not None:
        layer.num_features = len(layer.running_mean)


def _refuse(state, model, what, *, resized=()):
    """ValueError where the tensors are not the model's; those of `resized` types of layers may differ in width."""
    expected = model.state_dict()
    for name in sorted(state.keys() | expected.keys()):
        if name not in state:
            raise ValueError(f"{what}: tensor {name!r} is missing; save the network again")
        if name not in expected:
            raise ValueError(f"{what}: tensor {name!r} is unknown to it; does the network belong to this file?")
        found, wanted = state[name].shape, expected[name].shape
        if isinstance(model.get_submodule(name.rpartition(".")[0]), resized):
            wanted = (*found[:2], *wanted[2:]) if len(found) == len(wanted) else wanted
        if found != wanted:
            shapes = f"{tuple(found)} instead of {tuple(expected[name].shape)}"
            raise ValueError(f"{what}: tensor {name!r} has shape {shapes}; does the network belong to this file?")

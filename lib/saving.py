"""A network as files: plain tensors (safetensors) beside a small JSON, and ONNX. Nothing is pickled."""

import hashlib
import inspect
import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from . import models
from .arguments import a_network, a_path, a_tensor, plain_data, told
from .atomic import read_file, write_whole
from .layers import grouped, resizable, tell_widths


@told(folder=a_path, normalisation=plain_data, labels=plain_data)
def save(model, folder, *, normalisation=None, labels=None):
    """Write model.safetensors and model.json (config, normalisation and labels, plain data) into a folder.

    Each is written whole or not at all; a checksum in model.json says that they belong together. OSError: it names the
    file that could not be written. ValueError: the folder holds an inference form, whose weights have the same name.
    """
    about = {"config": built_of(model), "normalisation": normalisation, "labels": labels}
    write_pair(Path(folder) / "model.json", about, to_bytes(model, summed=False))


@told(folder=a_path)
def load(folder):
    """The saved network in eval mode, with `normalisation` and `labels` as attributes.

    Runs no code from the files. ValueError names the tensor that is missing, unknown or of the wrong shape, or the file
    that is damaged.
    """
    folder, file = Path(folder), Path(folder) / "model.safetensors"
    if (folder / "inference.json").exists():
        raise ValueError(f"{folder} holds an inference form; inference.load reads it")
    about, weights = described(folder / "model.json", "config", "normalisation", "labels"), read_file(file)
    model = network(about["config"], _state(weights, file)[0], folder / "model.json", file)
    of_one_save(folder / "model.json", about, weights)
    model.normalisation, model.labels = about["normalisation"], about["labels"]
    return model


def write_pair(file, about, weights):
    """Write model.safetensors and the JSON file beside it, whose checksum is of both."""
    about = about | {"sum": _sum_of_both(weights, about)}
    text = json.dumps(about, indent=1, allow_nan=False)  # first, so that a failure leaves no half of a pair
    (other,) = {"model.json", "inference.json"} - {file.name}
    if file.with_name(other).exists():
        raise ValueError(f"{file.parent} holds {other}, whose weights this would replace; take another folder")
    write_whole(file.with_name("model.safetensors"), weights)
    write_whole(file, text + "\n")


def of_one_save(file, about, weights):
    """ValueError: the weights and what the JSON file says are not of one `write_pair`: a disk was full in between."""
    told = {key: value for key, value in about.items() if key != "sum"}
    if about.get("sum") not in (None, _sum_of_both(weights, told)):  # folders of before have none
        two = f"{file.with_name('model.safetensors')} and {file.name} beside it"
        raise ValueError(f"{two} are not as they were saved; save the network again")


def built_of(model):
    """The configuration of a network. ValueError: models.build has not made it."""
    if (config := models.built(model)) is None:
        remedy = "keep saving.to_bytes of it and give the file to saving.load_into, with a fresh network of its class"
        raise ValueError(f"{type(model).__name__} is no network of models.build; {remedy}")
    remedy = "keep saving.to_bytes of it and give that to saving.load_into, with a network changed alike"
    models.unaltered(model, remedy)
    return config


def network(config, state, file, weights_file):
    """The network of a configuration in eval mode, with these tensors. ValueError: there is none, or they do not fit.

    file, weights_file: where the two are from.
    """
    try:
        with torch.device("meta"):
            model = models.build(**config)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} tells of no network ({error}); save the network again") from None
    _refuse(state, model, f"{weights_file} does not fit {config['name']}")
    model.load_state_dict(state, assign=True)
    return model.eval()


def described(file, *keys):
    """What a JSON file beside a network says under these names. ValueError: it is damaged, or has others."""
    try:
        about = json.loads(read_file(file))
        if about.keys() - {"sum"} != set(keys):
            raise ValueError(f"it has {', '.join(about)}, and not {', '.join(keys)} alone")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({type(error).__name__}: {error}); save the network again") from None
    return about


def _state(content, file):
    """The tensors of a safetensors file and its metadata. ValueError: it is damaged."""
    try:
        state = safetensors.torch.load(content)
        return state, json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except Exception as error:  # of safetensors' own kind, which derives from Exception alone; torch's for odd types
        zipped = "is torch.save's; torch.load(…, weights_only=False) reads and runs it" * (content[:2] == b"PK")
        raise ValueError(f"{file} {zipped or f'is damaged ({error}); save the network again'}") from None


def _sum_of_both(weights, about):
    return hashlib.sha256(weights + json.dumps(about, sort_keys=True).encode()).hexdigest()


def _sum_of_tensors(state, groups=""):
    """A checksum of tensors and their names, and of what a file says of the groups of convolutions."""
    found = hashlib.sha256(groups.encode())
    for name, tensor in sorted(state.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


@told(model=a_network, path=a_path)
def load_into(model, path):
    """Give a network of any class the tensors of a safetensors file and its layers the widths that they have there.

    So a network shrunk by `lib.depgraph` is saved as `to_bytes` of it and loaded into a freshly made one of its class.
    It is changed and returned in eval mode; its parameters are new ones, on the CPU: move it and make optimizers later.
    Tensors that the network shares between layers stay shared, unless the file has two different ones for them.
    ValueError names a tensor that is missing, unknown or of a shape that the layer cannot take.
    """
    state, about = _state(read_file(path), path)
    if "sparse" in about:
        raise ValueError(f"{path} is a sparse file; sparse.load gives its network, sparse.read its tensors")
    if about.get("sum", whole := _sum_of_tensors(state, about.get("groups", ""))) != whole:
        raise ValueError(f"{path} is damaged: it does not fit its checksum; save the network again")
    shared = _shared(model.state_dict(keep_vars=True))
    shared = {k: one for k, one in shared.items() if {k, one} - state.keys() or state[k].equal(state[one])}
    state |= {key: state[first] for key, first in shared.items() if first in state}
    beside = {key for key, _ in model.named_buffers()} - model.state_dict().keys()  # made with persistent=False
    known = {key: tensor for key, tensor in state.items() if key not in beside}
    _refuse(known, model, f"{path} does not fit {type(model).__name__}", resized=True)
    model.train("training" in about)  # in each mode a network may have other weights, as one that merges LoRA
    held = {}
    for key, tensor in state.items():
        path, _, name = key.rpartition(".")
        layer = model.get_submodule(path)
        if name in layer._parameters:
            fresh = nn.Parameter(tensor, requires_grad=layer._parameters[name].requires_grad)
            tensor = held.setdefault(shared.get(key, key), fresh)
        setattr(layer, name, tensor)
        layer._non_persistent_buffers_set.discard(name)  # so that it is kept when the network is saved again
    for name, groups in json.loads(about.get("groups", "{}")).items():
        model.get_submodule(name).groups = groups
        model.get_submodule(name).regrouped = True  # so that it is told when the network is saved again
    for layer in model.modules():
        tell_widths(layer)
    return model.eval()


@told(model=a_network, summed=bool)
def to_bytes(model, *, summed=True):
    """The contents of a safetensors file with the network's parameters and buffers, each shared one once.

    summed: with a checksum, which `load_into` asks for.
    """
    state = tensors_of(model)
    shared = _shared(state)
    state = {  # a view of another tensor becomes one of its own
        name: t.detach().cpu().contiguous().clone() for name, t in state.items() if name not in shared
    }
    groups = {name: layer.groups for name, layer in model.named_modules() if grouped(layer)}
    about = {"groups": json.dumps(groups)} if groups else {}
    about |= {"sum": _sum_of_tensors(state, about.get("groups", ""))} if summed else {}
    about |= {"training": "True"} if summed and model.training else {}
    return safetensors.torch.save(state, about or None)


def tensors_of(model):
    """The state_dict of a network. ValueError: something in it is no tensor, a sparse one, or made for it alone."""
    state = model.state_dict(keep_vars=True)
    if odd := [name for name, t in state.items() if not torch.is_tensor(t) or t.layout is not torch.strided]:
        kind = "a sparse tensor" if torch.is_tensor(state[odd[0]]) else "no tensor (extra state, quantised weights)"
        raise ValueError(
            f"{odd[0]!r} of {type(model).__name__} is {kind}, for which there is no place in a safetensors file; save "
            "it beside with torch.save, or the network as it was before sparse.to_csr"
        )
    held = dict(model.named_parameters(remove_duplicate=False))
    own = held | dict(model.named_buffers(remove_duplicate=False))
    if changed := [name for name in state | held if own.get(name) is not state.get(name)]:
        raise ValueError(
            f"{changed[0]!r} is another in the state_dict of {type(model).__name__} than in the network (a hook or a "
            "method of its own makes it), which load_into does not undo; save it by torch.save"
        )
    return state


def _shared(state):
    """Names of tensors that are another one under a second name: {name: the first}."""
    first = {}
    return {name: known for name, t in state.items() if (known := first.setdefault(id(t), name)) != name}


def _one_input(what, example):
    """The kind of examples (N, …) of a network's one input."""
    if isinstance(example, tuple | list | dict):
        raise ValueError(f"{what} must be a tensor (N, …) for networks of one input, got a {type(example).__name__}")
    return a_tensor(what, torch.as_tensor(example) if hasattr(example, "__array__") else example)


@told(model=a_network, path=a_path, example=_one_input)
def to_onnx(model, path, example):
    """Export the network in eval mode for batches of any size; the other axes are those of example (N, …).

    The file is written whole or not at all; OSError: it names the file. ValueError: the network cannot be exported, or
    computes otherwise for batches of another size.
    """
    from .depgraph.passes import drawing  # here, as a network is read without it

    with models.in_mode(model, training=False), torch.no_grad(), drawing():
        made = _exported(model, torch.cat([example[:1]] * 2))  # a batch of one would be taken for a constant
        given = made.model_proto.graph.input
        if not given or not given[0].type.tensor_type.shape.dim[0].dim_param:
            raise ValueError(
                f"{type(model).__name__} makes numbers of the size of its batch, so that the file would fit batches of "
                "that size alone; write x.shape[0] without len(x), int() or Python's arithmetic on it"
            )
        _of_any_size(model, made.exported_program.module(), example)
    write_whole(path, made.model_proto.SerializeToString())


def _exported(model, example):
    """What torch makes of a network for ONNX. ValueError: the network fails on the example, or torch on the network."""
    batch, known = {0: torch.export.Dim("batch")}, inspect.signature(model.forward).parameters.values()
    try:
        model(example)  # it says shorter than torch's export what it does not take
        return torch.onnx.export(
            model,
            (example,),
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=((batch,),) if any(p.kind is p.VAR_POSITIONAL for p in known) else (batch,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except (RuntimeError, IndexError) as error:
        said, what = str(error.__cause__ or error).partition("\n")[0], f"inputs of shape {tuple(example.shape)}"
        raise ValueError(f"{type(model).__name__} cannot be exported with {what}: {said}") from error


def _of_any_size(model, program, example):
    """ValueError where what was exported from two examples computes something else for one or for nine."""
    from .depgraph import passes, proof  # here, as a network is read without them

    for n in (1, 2, 9):
        found, given = [], passes.Example(model, example[torch.arange(n) % len(example)])
        try:
            for net in (model, program):
                found.append(proof.output(net, given))
            same = not any(proof.apart(want, out, want, 1e-3) for want, out in zip(*found, strict=True))
        except Exception:  # of a guard, or of the network itself, which takes no such batch
            same = not found
        if not same:
            raise ValueError(
                f"{type(model).__name__} computes otherwise for a batch of {n} than what was exported from one of 2, "
                "so that the file would be wrong; write it without an if, min or max on x.shape[0]"
            )


def _refuse(state, model, what, *, resized=False):
    """ValueError where the tensors are not the model's; with resized they may be narrower or wider where layers can."""
    expected, remedy = model.state_dict(), "does the network belong to this file?"
    for name in sorted(state.keys() | expected.keys()):
        if name not in state:
            raise ValueError(f"{what}: tensor {name!r} is missing; save the network again")
        if name not in expected:
            raise ValueError(f"{what}: tensor {name!r} is unknown to it; {remedy}")
        found, wanted = tuple(state[name].shape), tuple(expected[name].shape)
        takes = resized and resizable(model.get_submodule(name.rpartition(".")[0]), found, wanted)
        if found != wanted and not takes:
            raise ValueError(f"{what}: tensor {name!r} has shape {found} instead of {wanted}; {remedy}")

"""The inference form of a network: batch norms folded into the layers before them, channels last, same outputs.

A batch norm in eval mode is a scale and a shift, and so is part of the layer whose output it alone reads. Which layer
that is, a pass over an example tells, for any network of torch's modules; what is folded is proved on inputs.
"""

import contextlib
import copy
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format, fusion

from . import models, saving
from .arguments import a_path, told
from .atomic import read_file
from .depgraph.passes import Example, Within, alone, drawing
from .depgraph.proof import PATIENCE, longer, others, output
from .layers import SUMMED
from .training.given import fits

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CLOSE = 1e-5  # of the largest output
DUST = 1e-20  # a smaller weight is left over from decay


class InferenceError(ValueError):
    """A network whose outputs would change."""


@torch.no_grad()
@drawing()
@told(channels_last=bool)
def form(model, example, *, channels_last=True):
    """A copy in eval mode whose batch norms are folded where that changes no output; the argument is left as it is.

    example: an input of the network (N, …), a tuple of its arguments, or a mapping of them by name. The copy has
    `folded`, the pairs of names (layer, batch norm) that were folded; each of these norms is an `nn.Identity` now.
    Weights below 1e-20, which decay leaves behind, are 0. What cannot be proved stays: a norm without a layer that it
    alone reads, and channels last where the network does not run so. A norm that a whole number or a flag in the
    example chooses stays, too. InferenceError: the outputs differ by more than 1e-5 of the largest, and no single fold
    is the cause. ShrinkError: a function in the network holds layers of it, of which a copy has others.
    """
    args = Example(model, example) if isinstance(model, nn.Module) else None
    if not (args and args.tensors()):
        given = f"{type(model).__name__} and {type(example).__name__}"
        raise InferenceError(f"form takes a network and an example, a tensor or a tuple of them, got {given}")
    if not all(t.numel() for t in args.tensors()):
        raise InferenceError("the example is empty; pass at least one input")
    plain = models.copied(model).eval().requires_grad_(False)
    with fits(model, args.tensors()[0]), alone(model):
        known = _known(plain, (args, _noise(args, 1.0), _noise(args, 10.0)))
    if not all(out.isfinite().all() for out in known[0][1]):
        raise InferenceError(f"{type(model).__name__} puts out inf or NaN on the example, which nothing can be held to")
    known = [(given, outs) for given, outs in known if all(out.isfinite().all() for out in outs)]
    pairs = _proved(*_lively(plain, [given for given, _ in known]), _pairs(plain, args))
    small = folded(plain, pairs)
    if (error := _difference(small, known)) > CLOSE:
        if not pairs:
            raise InferenceError(f"{type(model).__name__} puts out other numbers each time that it is called")
        names = ", ".join(norm for _, norm in pairs)
        raise InferenceError(f"outputs differ by {error:.1g} of the largest once {names} are folded; use float64")
    clean = copy.deepcopy(small)
    for weights in clean.parameters():  # products of what decay leaves behind are denormals: ten times as slow on CPUs
        weights[weights.abs() < DUST] = 0
    small = clean if _difference(clean, known) <= CLOSE else small
    images = any(isinstance(module, nn.Conv2d) for module in small.modules())  # what channels last are for
    last = convert_conv2d_weight_memory_format(copy.deepcopy(small), torch.channels_last)
    with contextlib.suppress(RuntimeError):  # a `view` of other strides
        last.channels_last = channels_last and images and _difference(last, known) <= CLOSE
    return last if last.channels_last else small


def _proved(model, inputs, pairs):
    """Those of the pairs that may be folded: all at once where that changes nothing, else each that alone does not.

    Also with other whole numbers in the first of the inputs and at other sizes, as far as the network takes them.
    """
    other = [*others(inputs[0]), *longer(inputs[0])] if pairs else []
    known = [*_known(model, inputs), *_taken(model, other)]
    if _difference(folded(model, pairs), known) <= CLOSE:
        return pairs
    return [pair for pair in pairs if _difference(folded(model, [pair]), known) <= CLOSE]


def _lively(model, inputs):
    """A copy in float64 whose batch norms have the statistics of the last inputs, and these in float64.

    In a fresh network the signal dies out unseen, and shifts of zero hide what they are put behind; in float64 a wrong
    fold is told from rounding.
    """
    net = copy.deepcopy(model).double()
    wide = [given.double() for given in inputs]
    for norm in (m for m in net.modules() if isinstance(m, NORMS) and m.running_mean is not None):
        norm.train().momentum = 1.0
        if norm.affine:
            norm.bias.copy_(torch.linspace(-2, 2, len(norm.bias)))
    try:
        wide[-1].run(net)
    except (ValueError, RuntimeError):  # one value for each channel has no variance; a constant in float32
        return model, inputs
    return net.eval(), wide


def folded(model, pairs):
    """A copy in which the batch norm of each pair of names (layer, batch norm) is part of the layer."""
    net = copy.deepcopy(model)
    if taken := {"folded", "channels_last"} & net._modules.keys():
        raise InferenceError(
            f"a layer of {type(model).__name__} is called {min(taken)!r}, as what a form says of itself"
        )
    for layer_name, norm_name in pairs:
        layer, norm = net.get_submodule(layer_name), net.get_submodule(norm_name)
        fuse = fusion.fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fusion.fuse_conv_bn_eval
        kind = layer.weight.dtype
        fused = fuse(copy.deepcopy(layer).double(), copy.deepcopy(norm).double()).to(kind)
        for name, module in list(net.named_modules(remove_duplicate=False)):
            if module in (layer, norm):
                net.set_submodule(name, fused if module is layer else nn.Identity())
    net.folded, net.channels_last = [list(pair) for pair in pairs], False
    models.renew(net)
    return net


@told(folder=a_path)
def save(net, folder):
    """Write model.safetensors and inference.json (config, what was folded, the memory format) into a folder.

    Each is written whole or not at all; a checksum in inference.json says that they belong together. ValueError: the
    folder holds a network of `saving.save`, whose weights have the same name.
    """
    if not hasattr(net, "folded"):
        raise ValueError(f"{type(net).__name__} is no inference form; save what inference.form returns")
    if models.built(net):
        models.unaltered(net, "make a form of the changed network", form=True)
    about = {"config": models.built(net), "folded": net.folded, "channels_last": net.channels_last}
    saving.write_pair(Path(folder) / "inference.json", about, saving.to_bytes(net))


@told(folder=a_path)
def load(folder, model=None):
    """The saved inference form. model: a fresh network of your class; needless for those of `models.build`.

    ValueError: a file is damaged, or is of another network.
    """
    file = Path(folder) / "inference.json"
    about = saving.described(file, "config", "folded", "channels_last")
    saving.of_one_save(file, about, read_file(file.with_name("model.safetensors")))
    if model is None and about["config"] is None:
        raise ValueError(f"{folder} holds a network that models.build does not make; give a fresh one of its class")
    net = models.build(**about["config"]) if model is None else copy.deepcopy(model)
    layers = dict(net.named_modules())
    expected = [pair for of in about["folded"] for pair in zip(of, (SUMMED, NORMS), strict=True)]
    if odd := [name for name, kinds in expected if not isinstance(layers.get(name), kinds)]:
        raise ValueError(f"{folder} holds a form of a network with another {odd[0]!r} than {type(net).__name__} has")
    net = folded(net.eval().requires_grad_(False), about["folded"])
    net = saving.load_into(net, file.with_name("model.safetensors"))
    net.channels_last = about["channels_last"]
    return convert_conv2d_weight_memory_format(net, torch.channels_last) if net.channels_last else net


def _pairs(model, args):
    """(layer, batch norm) by name, the one reading what the other has put out, each called once in a pass."""
    names = {module: name for name, module in model.named_modules()}
    calls, wrote, read = dict.fromkeys(names, 0), {}, {}

    def note(module, given, out):
        calls[module] += 1
        if isinstance(module, SUMMED):
            wrote[id(out)] = module, out  # held, so that no other tensor gets its id
        elif isinstance(module, NORMS) and given and id(given[0]) in wrote:
            read[module] = wrote[id(given[0])][0]

    hooks = [module.register_forward_hook(note) for module in names if isinstance(module, SUMMED + NORMS)]
    try:
        args.run(model)
    finally:
        for hook in hooks:
            hook.remove()
    once = [(a, n) for n, a in read.items() if calls[a] == calls[n] == 1 and "weight" in a._parameters]
    once = [(a, n) for a, n in once if len(a.weight) == n.num_features]  # rows of features have theirs elsewhere
    return [(names[a], names[n]) for a, n in once if n.running_mean is not None]


def _noise(args, size):
    """Arguments of the same shapes: numbers drawn by chance, whatever else there is as it was."""
    seed = torch.Generator().manual_seed(0)
    return args.map(lambda t: size * torch.randn(t.shape, generator=seed).to(t) if t.is_floating_point() else t)


def _outputs(model, args):
    """All tensors that a network puts out for some arguments, each time with the same numbers drawn by chance."""
    with drawing():
        found = output(model, args)
    return [torch.view_as_real(out.resolve_conj()) if out.is_complex() else out for out in found]


def _taken(model, inputs):
    """Those of the inputs that a network takes and that leave its buffers alone, each with what it puts out."""
    for given in inputs:
        net = copy.deepcopy(model)
        with contextlib.suppress(Exception), Within(PATIENCE):
            outs = _outputs(net, given)
            kept = zip(net.buffers(), model.buffers(), strict=True)
            if all(out.isfinite().all() for out in outs) and all(torch.equal(a, b) for a, b in kept):
                yield given, outs


def _known(model, inputs):
    """Inputs, each with what a network puts out for it."""
    return [(given, _outputs(model, given)) for given in inputs]


def _difference(model, known):
    """The largest difference of the outputs from those that are known, relative to the largest of those that differ."""
    pairs = [zip(_outputs(model, given), outs, strict=True) for given, outs in known]
    return max((_apart(out, want) for pair in pairs for out, want in pair), default=0.0)


def _apart(out, want):
    """How far an output is from what it should be; what a mask fills in is alike and says nothing of what is small."""
    if out.shape != want.shape:
        return math.inf
    exact = want.dtype is torch.float64
    if not (other := out.float() != want.float() if exact else out != want).any():
        return 0.0
    out, want = out.double(), want.double()
    error, size, largest = (t.abs().max().item() for t in ((out - want)[other], want[other], want))
    size = max(size, 1e-7 * min(largest, 1)) if exact else min(largest, 1e3 * size)  # rounding is no error
    return error / max(size, 1e-30) if error <= math.inf else math.inf

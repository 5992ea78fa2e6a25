"""How a network is called: its example, what must hold around a forward pass, what is refused before one."""

import contextlib
import copy
import inspect
import random
import sys
import time
import warnings
from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize, prune
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ..checks import unready
from ..layers import SUMMED
from ..shrinking import ShrinkError

OUTPUT = "the network's output"
COMPUTED = "the {} of {!r} is computed from others ({}); end that first by torch.nn.utils.{}"
ENDS = {"WeightNorm": "remove_weight_norm(layer)", "SpectralNorm": "remove_spectral_norm(layer)"}


class Within(TorchDispatchMode):
    """Stops a pass whose operations go on for longer: one that a number leads into a loop."""

    def __init__(self, seconds):
        super().__init__()
        self.until = time.monotonic() + seconds

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if time.monotonic() > self.until:
            raise TimeoutError("the pass did not end")
        return func(*args, **(kwargs or {}))


class Example:
    """Arguments of a network: a mapping by name, a tuple or a list in order, anything else the only one.

    A list or a named tuple is the only one, too, where the network does not take its entries.

    other: whether whole numbers in it are not those that were given.
    """

    other = False

    def __init__(self, model, example):
        self.args, self.kwargs = (example,), {}
        if isinstance(example, Mapping) and _binds(model, (), example):
            self.args, self.kwargs = (), dict(example)
        elif type(example) is tuple:
            self.args = example
        elif isinstance(example, list | tuple) and _binds(model, example, {}):
            self.args = tuple(example)
            if not self._runs(model):  # it takes the list itself
                self.args = (example,)

    def _runs(self, model):
        """Whether a copy of a network takes these arguments."""
        try:
            with quiet():
                self.run(copy.deepcopy(model).eval())
        except Exception:
            return False
        return True

    def tensors(self):
        return [t for t in tree_leaves((self.args, self.kwargs)) if isinstance(t, torch.Tensor)]

    def map(self, change, kind=torch.Tensor):
        """The same with all tensors changed, or with all of another kind."""
        other = copy.copy(self)
        other.args, other.kwargs = tree_map(lambda v: change(v) if isinstance(v, kind) else v, (self.args, self.kwargs))
        return other

    def double(self):
        """The same in float64."""
        return self.map(lambda t: t.double() if t.is_floating_point() else t)

    def run(self, model):
        """What the network returns; an operation in place changes a copy."""
        own = self.map(lambda t: t.detach().clone())
        return model(*own.args, **own.kwargs)


def _binds(model, args, kwargs):
    """Whether a network can be called so; names may be no strings, and a model none of Python's."""
    try:
        inspect.signature(model.forward).bind(*args, **kwargs)
    except (TypeError, ValueError, AttributeError):
        return False
    return True


def batched(given):
    """A context that refuses an example that a layer of torch reads as one without a batch axis, which torch takes."""

    shapes, most = {t.shape for t in given}, max(t.dim() for t in given)

    def check(layer, inputs):
        weight = layer._parameters.get("weight") if isinstance(layer, SUMMED) else None
        if weight is not None and most < weight.dim() and any(x.shape in shapes for x in inputs):
            raise ShrinkError(f"the example of shape {tuple(inputs[0].shape)} has no batch axis; pass example[None]")

    return nn.modules.module.register_module_forward_pre_hook(check)


def alone(model):
    """A context in which a copy of a network runs; ShrinkError: it runs a layer of the network itself."""
    inside = {id(layer): name for name, layer in model.named_modules()}

    def check(layer, inputs):
        if id(layer) in inside:
            raise ShrinkError(
                f"a function or a hook in {type(model).__name__} holds its layer {inside[id(layer)]!r} and runs that, "
                "not a copy's; make the function a method, and take the hook off first"
            )

    return nn.modules.module.register_module_forward_pre_hook(check)


@contextlib.contextmanager
def drawing():
    """Numbers drawn by chance within it, torch's, Python's and NumPy's, leave the caller's as they are."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 as a network may draw by it
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


@contextlib.contextmanager
def unchanged(net):
    """Buffers that a pass within it changes are as before afterwards; gives a function that tells whether one is."""
    held = [(layer._buffers, name, t) for layer in net.modules() for name, t in layer._buffers.items()]
    held = [(*place, t, t.clone()) for *place, t in held if t is not None and t.layout is torch.strided]

    def changed():
        return [entry for entry in held if entry[0].get(entry[1]) is not entry[2] or not torch.equal(*entry[2:])]

    try:
        yield changed
    finally:
        for buffers, name, t, was in changed():
            buffers[name] = t if torch.equal(t, was) else t.copy_(was)


def begin():
    """Have numbers drawn by chance begin anew; within `drawing`."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


@contextlib.contextmanager
def quiet():
    """No gradients, no compiled or fused forms that hide their parts, numbers from seed 0; the caller's go on."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        if "torch._dynamo" in sys.modules:  # else nothing is compiled, and to import it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.no_grad())
        stack.enter_context(drawing())
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # its recurrent layers hide their parts
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        begin()
        yield


def tensors_in(output, within=()):
    """All tensors in what a network returned, arrays as well. within: the ids of what holds it, which it may name."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, np.ndarray) and output.dtype.kind in "biufc":
        return [torch.from_numpy(output)]
    if isinstance(output, type) or id(output) in within:
        return []
    within = (*within, id(output))
    if isinstance(output, Mapping):
        output = list(output.values())
    elif not isinstance(output, list | tuple | set | frozenset | deque):
        slots = [getattr(kind, "__slots__", ()) for kind in type(output).__mro__]
        names = [key for found in slots for key in ([found] if isinstance(found, str) else found)]
        known = [getattr(output, key, None) for key in names]
        output = [*known, *getattr(output, "__dict__", {}).values()]
    return [t for part in output for t in tensors_in(part, within)]


def first_line(failure):
    """A failure in a line."""
    said = next(iter(str(failure).splitlines()), "")
    said += "; the network takes a gradient: do so within torch.enable_grad()" if "not require grad" in said else ""
    return f"{type(failure).__name__}: {said}"


def refuse(model, example, keep):
    """Errors for what cannot be shrunk as it is, each with what to do."""
    if torch.is_inference_mode_enabled():
        raise ShrinkError("nothing is followed within torch.inference_mode(); call it outside, torch.no_grad() will do")
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise ShrinkError(f"a {type(model).__name__} is no network of Python's; pass the nn.Module that it was made of")
    for name, layer in model.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            raise ShrinkError(f"{name!r} is no layer of Python's; put the nn.Module that it was made of in its place")
        if computed := _computed(name, layer):
            raise ShrinkError(computed)
    if hindrance := unready(model):
        raise ShrinkError(hindrance)
    if not isinstance(keep, list | tuple | set | frozenset):
        raise ValueError(f"keep must be a list of layers' names, not {keep!r}; pass keep=[{keep!r}]")
    if unknown := set(keep) - set(dict(model.named_modules())):
        raise ValueError(f"keep names {sorted(unknown, key=str)[0]!r}, which is no layer of {type(model).__name__}")
    leaves = [v for v in tree_leaves((example.args, example.kwargs)) if not isinstance(v, torch.Tensor)]
    if odd := [type(v).__name__ for v in leaves if hasattr(v, "__array__") or tensors_in(v)]:
        raise ShrinkError(
            f"the example has a {odd[0]}, in which nothing is followed; pass tensors, in tuples, lists or dicts, to a "
            "network that makes it of them"
        )
    if not example.tensors():
        raise ShrinkError("the example has no tensor; pass the inputs that the network is called with")
    if any(t.is_floating_point() and not t.is_meta and bool(t.isnan().any()) for t in example.tensors()):
        raise ShrinkError("the example has NaN in it, to which no output can be held; pass one of numbers")


def _computed(name, layer):
    """What to do about a weight that is not there yet or is computed from others before each call."""
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in layer.parameters(recurse=False)):
        return f"{name!r} has no weight yet; call the network once on the example"
    if parametrize.is_parametrized(layer):
        key = next(iter(layer.parametrizations))
        return COMPUTED.format(key, name, "a parametrization", f"parametrize.remove_parametrizations(layer, {key!r})")
    for hook in layer._forward_pre_hooks.values():
        kind = type(hook).__name__
        if isinstance(hook, prune.BasePruningMethod):
            key = hook._tensor_name
            return COMPUTED.format(key, name, "torch.nn.utils.prune", f"prune.remove(layer, {key!r})")
        if kind in ENDS:
            return COMPUTED.format(hook.name, name, kind, ENDS[kind])
    return None

"""An operation of a trace, and the rules of two kinds: what is done number by number, and what is not known."""

from dataclasses import dataclass

import torch

from .shadows import Shadows


@dataclass(eq=False)
class Call:
    """An operation of a trace: its arguments by name, the tensors among them and among its results."""

    trace: Shadows
    func: object
    named: dict
    tensors: list
    outs: list
    zeros: list = ()  # for a product: where its operands are zero whatever the network's inputs
    rule: object = None

    name = property(lambda self: self.func.overloadpacket.__name__)
    chance = property(lambda self: torch.Tag.nondeterministic_seeded in self.func.tags)
    inputs = property(lambda self: [self.trace.state(t) for t in self.tensors])

    def tainted(self):
        """Whether anything that it reads depends on the network's inputs."""
        return any(bool(s.taint.any()) for s in self.inputs)


def unknown(call):
    """Nothing is known: what is read stays, what is written is no channel."""
    trace = call.trace
    taint = torch.tensor(call.tainted() or call.chance)
    for t in call.tensors:
        trace.pin(t, f"read by {call.name}, for which there is no rule")
    if not call.outs and taint:
        number = call.name == "_local_scalar_dense" and call.tensors[0].is_floating_point()
        trace.loose, trace.forks = trace.loose or number, True
    trace.forks |= bool(taint) and torch.Tag.dynamic_output_shape in call.func.tags  # it may go another way by that
    mutable = call.func._schema.is_mutable
    for t in call.tensors if mutable and not call.outs else call.outs:  # lists of tensors are changed, too
        trace.put(t, None if mutable else torch.tensor(0), taint)


# --- number by number ----------------------------------------------------------------------------------------------


def pointwise(call):
    """Each number of the result is made of those in its place; the channels that meet are one class."""
    trace, shape = call.trace, call.outs[0].shape
    pairs = list(zip(call.tensors, call.inputs, strict=True))
    wide = [(state.ids.expand(shape), _broadcast(t, shape)) for t, state in pairs if state.ids.any()]
    owned = [(t, trace.elements(t)) for t, state in pairs if not state.ids.any()]
    params, ids = [(t, elements) for t, elements in owned if elements], _met(trace.classes, wide)
    taint = torch.tensor(call.chance).expand(shape)
    for _, state in pairs:
        taint = taint | state.taint
    if call.zeros:
        taint = taint & ~(call.zeros[0] | call.zeros[-1]).expand(shape)
    for t in call.outs:
        if t.shape == shape:
            trace.put(t, ids, taint)
    if wide:
        for _, elements in params:
            bind(trace, elements, ids)
    elif params:
        _derive(call, params)


def _broadcast(tensor, shape):
    """Dimensions along which a tensor has one value for many places."""
    lead = len(shape) - tensor.dim()
    sizes = zip(tensor.shape, tensor.stride(), shape[lead:], strict=True)
    return {*range(lead), *(lead + d for d, (n, stride, m) in enumerate(sizes) if m > 1 and (n == 1 or stride == 0))}


def _met(classes, wide):
    """Channels of operands in the same places; one that stands for many channels of another stays.

    wide: of each operand its channels and the dimensions along which it has one value for many places.
    """
    spread = [any(several(classes, other, d) for other, _ in wide for d in dims) for _, dims in wide]
    for (ids, _), many in zip(wide, spread, strict=True):
        if many:
            classes.pin(ids, "one channel is spread over many")
    met = torch.tensor(0)
    for ids in [ids for (ids, _), many in zip(wide, spread, strict=True) if not many] or [ids for ids, _ in wide[:1]]:
        classes.join(met, ids)
        met = torch.where(met != 0, met, ids)
    return met


def varies(ids, dim):
    """Whether there are different channels along a dimension."""
    return ids.shape[dim] > 1 and bool((ids != ids.narrow(dim, 0, 1)).any())


def several(classes, ids, dim):
    """Whether channels that may go without each other lie along a dimension."""
    return varies(ids, dim) and varies(classes.roots(ids), dim)


def bind(trace, owned, ids):
    """A parameter's elements, where there are any, meet channels: its slots along one axis are theirs."""
    if owned is None:
        return
    lead = ids.dim() - len(owned.dims)
    dims = [lead + d for d, (axis, _) in enumerate(owned.dims) if axis is not None and varies(ids, lead + d)]
    if not dims:
        return
    reason = f"{owned.param.name} has values along two axes of channels"
    if any(owned.dims[d - lead][0] < 0 for d in dims):
        trace.keep(owned.param, reason)
        trace.classes.pin(ids, reason)
        return
    *others, last = dims  # along the last one they go, together in all rows of the others
    for d in others:
        trace.classes.pin(owned.dims[d - lead][1], reason)
    slots, along = owned.dims[last - lead][1], ids.movedim(last, -1).reshape(-1, ids.shape[last])
    trace.classes.join(slots, along)  # all that one value of the parameter meets is one class
    if not along.all():
        trace.classes.pin(slots[(along == 0).any(0)], "beside what is no channel")


def _derive(call, params):
    """What is made of parameters alone, number by number, has the places of the largest of them."""
    trace, out = call.trace, call.outs[0]
    tensor, main = max(params, key=lambda p: p[0].numel())
    for other, owned in params:
        if owned.param is not main.param:
            _align(trace, main, owned, tensor.dim() - other.dim())
    if call.func._schema.is_mutable:
        return
    if tensor.shape == out.shape and not call.tainted():
        trace.own(out, trace.places(tensor))
    else:
        trace.pin(tensor, "its parameter is spread, or met by what depends on the inputs")


def _align(trace, one, two, lead):
    """Slots of two parameters that meet number by number are the same along each axis, or stay."""
    for d, (axis, slots) in enumerate(two.dims, lead):
        theirs = one.dims[d][1] if d >= 0 else None
        if slots is not None and theirs is not None:
            trace.classes.join(theirs, slots)
        elif axis is not None:
            for param in (one.param, two.param):
                trace.keep(param, f"{one.param.name} and {two.param.name} do not meet axis by axis")


RULES = {  # beside what torch tags so
    r"_prelu_kernel|_to_copy|lift_fresh_copy|native_dropout|(normal|uniform|bernoulli)_": pointwise,
    r"hardswish_?|rrelu_with_noise_?|log_sigmoid_forward|complex|polar": pointwise,
}

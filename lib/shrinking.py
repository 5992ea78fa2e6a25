"""From zeros to a smaller network: dead units out, the constants they leave folded into what follows.

A unit is dead when all its incoming or all its outgoing weights are zero. Everything here but the counts of arXiv
2009.01395 reads the table of groups (`model.groups`) and knows no architecture. Outputs are those of eval mode.
"""

import torch
from torch.nn import functional as F

from . import models
from .arguments import told
from .models import prunable


class ShrinkError(ValueError):
    """A network that cannot be shrunk; the message says why."""


def dead_units(model):
    """Dead units, name of the group → bool (width,), until nothing changes: without one, others may die too.

    By the weights alone: `shrink` keeps those whose constant cannot be folded (`removed_by`: "stuck").
    """
    return {name: causes > 0 for name, causes in _settle(model, rule="weights")[1].items()}


@told(fold=bool, keep_one=bool)
def shrink(model, *, fold=True, keep_one=False):
    """The same builder with smaller widths and the same outputs in eval mode; the argument is left as it is.

    fold: fold nonzero constants where that is exact (otherwise their units stay); without, they all stay.
    keep_one: leave one silent unit where a layer died wholly, instead of ShrinkError.
    """
    model = models.unwrapped(model)
    state, causes = _settle(model, rule="exact" if fold else "zero")
    keep = {name: cause == 0 for name, cause in causes.items()}
    if empty := [name for name, kept in keep.items() if not kept.any()]:
        if not keep_one:
            zero = ", ".join(name for name, w in models.weights(model).items() if not w.any())
            hint = f"(all zero: {zero or 'none'}); prune less there or pass keep_one=True"
            raise ShrinkError(f"no unit left in {', '.join(map(repr, empty))} {hint}")
        for name in empty:
            keep[name][0] = True
    with torch.device("meta"):
        small = models.build(**{**model.config, "widths": [int(kept.sum()) for kept in keep.values()]})
    small.load_state_dict(_sliced(model, state, keep), assign=True)
    return _trained_alike(small, model)


def _trained_alike(small, model):
    """A network with the modes and what else another one, of the same layers, has that no config says."""
    for name, p in small.named_parameters():
        p.requires_grad_(model.get_parameter(name).requires_grad)
    for name, layer in small.named_modules():
        old = model.get_submodule(name)
        layer.training = old.training
        layer.__dict__ |= {key: vars(old)[key] for key in ("momentum", "prunable") if key in vars(old)}
    return small


@torch.no_grad()
def silence(model):
    """Zero biases, batch-norm shifts and running means of dead units, in place: then `shrink` removes them.

    For units stuck behind padding. This is pruning: it changes the function, so fine-tune after it.
    """
    dead, state = dead_units(model), models.unwrapped(model).state_dict()
    for group in model.groups:
        for step in group.producers + group.depthwise:
            for key in (f"{step.layer}.bias", f"{step.norm}.bias", f"{step.norm}.running_mean"):
                if key in state:
                    state[key][dead[group.name]] = 0


def alive(model):
    """Units of each group that are left after `shrink`."""
    return {name: int((cause == 0).sum()) for name, cause in _settle(model, rule="exact")[1].items()}


def removed_by(model):
    """Dead units of each group by what died first: "incoming" weights, "outgoing" ones, or "both" at once.

    "stuck" counts those among them that `shrink` keeps, as their constant cannot be folded exactly.
    """
    dead, left = _settle(model, rule="weights")[1], alive(model)
    counts = {}
    for name, cause in dead.items():
        row = {kind: int((cause == code).sum()) for kind, code in CAUSES.items()}
        counts[name] = {**row, "stuck": left[name] - int((cause == 0).sum())}
    return counts


def causes(model):
    """Per unit what `removed_by` counts: uint8 (width,) for each group, 0 alive, else the code in CAUSES."""
    return _settle(model, rule="weights")[1]


@told(threshold="[0, inf)", beta="(1, inf)")
def alive_1e3(model, threshold=1e-3, *, beta=None):
    """The count of arXiv 2009.01395, one number per weight matrix: input units i with Σ_j |W_ij| > threshold.

    Inputs of the network are counted too. A unit's weights are its column in torch layout (out, in, …),
    after a flatten all columns of its channel. From the authors' code. With beta only the last
    ⌊n/β⌋ units of every matrix are counted, those that a partial penalty leaves free.
    """
    counts = []
    for view, weight in zip(models.unit_views(model), models.weights(model).values(), strict=True):
        sums = view(weight.detach().abs()).transpose(0, 1).flatten(1).sum(1)
        sums = sums if beta is None else sums[len(sums) - int(len(sums) // beta) :]
        counts.append(int((sums > threshold).sum()))
    return counts


@told(threshold="[0, inf)")
def sparsity_1e3(model, threshold=1e-3):
    """Sparsity of arXiv 2009.01395: share of the prunable weights with |w| < threshold."""
    ws = prunable(model).values()
    return sum(int((w.detach().abs() < threshold).sum()) for w in ws) / sum(w.numel() for w in ws)


CAUSES = {"incoming": 1, "outgoing": 2, "both": 3}


@torch.no_grad()
def _settle(model, *, rule):
    """A state dict on the CPU in which every removed unit is cut off, its constant folded; causes (0: not removed).

    All groups are judged on the same weights, then all dead units are cut, until nothing changes. rule:
    "exact" folds what can be folded, "zero" takes no constant but zero, "weights" does not look at constants.
    """
    model = models.unwrapped(model)
    if models.built(model) is None:
        raise ShrinkError(
            f"{type(model).__name__} was not made by models.build and has no table of groups; use "
            f"{__package__}.depgraph.shrink(net, example), which takes any network and an example of its input"
        )
    if rule != "weights":
        models.unaltered(model, f"use {__package__}.depgraph.shrink(net, example)", error=ShrinkError, form=True)
    state = {key: tensor.detach().cpu().clone() for key, tensor in model.state_dict().items()}
    causes = {g.name: torch.zeros(g.width, dtype=torch.uint8) for g in model.groups}
    while True:
        found = {g.name: _judge(model, state, g, rule) * (causes[g.name] == 0) for g in model.groups}
        if not any(cause.any() for cause in found.values()):
            return state, causes
        for group in model.groups:
            cause = found[group.name]
            causes[group.name] += cause
            if rule == "exact" and (cause == 1).any():
                _fold(model, state, group, cause == 1)
            for step in group.producers + group.depthwise:
                state[f"{step.layer}.weight"][cause > 0] = 0
            for step in group.consumers:
                columns(state, step, group)[:, cause > 0] = 0


def _judge(model, state, group, rule):
    """Cause per unit: 1 all incoming weights zero and the constant may go, 2 all outgoing zero, 3 both."""
    incoming, outgoing = torch.ones(2, group.width, dtype=torch.bool)
    for step in group.producers:
        incoming &= _zero_rows(state[f"{step.layer}.weight"])
    for step in group.depthwise:
        incoming |= _zero_rows(state[f"{step.layer}.weight"])
    unread = {s: _zero_rows(columns(state, s, group).transpose(0, 1)) for s in group.consumers}
    for units in unread.values():
        outgoing &= units
    if rule != "weights" and incoming.any():
        for step, constant, value in _constants(model, state, group):
            exact = rule == "exact" and not any(getattr(model.get_submodule(step.layer), "padding", ()))
            incoming &= unread[step] | constant & ((value == 0) | exact)
    return incoming.to(torch.uint8) + 2 * outgoing.to(torch.uint8)


def _constants(model, state, group):
    """At each consumer: (step, which channels without incoming weights are constant there, float64 values)."""
    constant, value = torch.ones(group.width, dtype=torch.bool), torch.zeros(group.width, dtype=torch.float64)
    for step in group.steps:
        if isinstance(step, models.Consume):
            yield step, constant, value
        elif isinstance(step, models.Act):
            value = model.get_submodule(step.layer)(value.clone())
        elif isinstance(step, models.Produce):
            value = value + _shift(model, state, step, group)
        else:  # at the border a depthwise filter sees the zeros of the padding beside the constant
            constant = _zero_rows(state[f"{step.layer}.weight"]) | constant & (value == 0)
            value = _shift(model, state, step, group)


def _shift(model, state, step, group):
    """What a layer makes of zeros: its bias, and the batch norm behind it."""
    value = state.get(f"{step.layer}.bias", torch.zeros(group.width)).double()
    if step.norm is None:
        return value
    tensors = (state[f"{step.norm}.{key}"].double() for key in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(value[None], *tensors, eps=model.get_submodule(step.norm).eps)[0]


def _fold(model, state, group, units):
    """Add what the constants of some units come to behind each consumer to its bias, or take it off the norm's mean."""
    norms = {s.layer: s.norm for g in model.groups for s in g.producers}
    for step, _, value in list(_constants(model, state, group)):
        amount = columns(state, step, group).double().flatten(2).sum(2) @ torch.where(units, value, 0)
        if f"{step.layer}.bias" in state:
            state[f"{step.layer}.bias"].add_(amount)
        else:
            state[f"{norms[step.layer]}.running_mean"].sub_(amount)


def columns(state, step, group):
    """View, in a dict of tensors, of a consumer's weights on one group, (out, width, block, …)."""
    start, size = step.offset * step.block, group.width * step.block
    return state[f"{step.layer}.weight"][:, start : start + size].unflatten(1, (group.width, step.block))


def _zero_rows(weight):
    return ~(weight != 0).flatten(1).any(1)


def _sliced(model, state, keep):
    """The kept rows and columns of a state dict, each tensor where the model has it.

    ShrinkError: norms are folded, or a layer computes something else than its class does.
    """
    if hooked := [name for name, layer in model.named_modules() if models.intervened(layer)]:
        what = f"{hooked[0]!r} has a hook or a forward of its own, which the smaller network would not have"
        raise ShrinkError(f"{what}; remove it, or use {__package__}.depgraph.shrink(net, example)")
    if getattr(model, "folded", ()):
        raise ShrinkError("an inference form is not shrunk; take the network that it was made of, then make a form")
    rows, columns = {}, {}
    for group in model.groups:
        kept = keep[group.name]
        for step in group.producers + group.depthwise:
            rows |= {step.layer: kept, step.norm: kept}
        for step in group.consumers:
            columns.setdefault(step.layer, {})[step.offset] = kept.repeat_interleave(step.block)
    out = {}
    for key, tensor in model.state_dict().items():
        layer, small = key.rpartition(".")[0], state[key]
        if layer in rows and small.dim():  # all but a norm's count of batches
            small = small[rows[layer]]
        if layer in columns and key.endswith(".weight"):
            small = small[:, torch.cat([columns[layer][offset] for offset in sorted(columns[layer])])]
        out[key] = small.to(tensor.device)
    return out

"""One call that makes any network smaller: the units that count least are cut and taken out, the rest is trained on."""

import warnings
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader

from . import checks, depgraph, measures, models, training
from .arguments import a_function, a_network, told
from .data import Part
from .depgraph.passes import Example, refuse
from .depgraph.search import SECONDS
from .depgraph.units import Units
from .training.given import TABLES, part_of, sized
from .training.loop import WATCHED, options_of

OF = ("units", "weights", "operations")
STEPS = 6  # of the bisection: the share of units is found to 1/64
HELD_OUT = 0.2  # of data without a validation part
BINARY = nn.BCELoss, nn.BCEWithLogitsLoss


@dataclass(frozen=True)
class Compressed:
    """What `compress` returns: the tuned network, all four by name, their table, and what stayed and why; it prints.

    The four are `dense`, the network as it was given, `masked`, `shrunk` and `tuned`. With a penalty the table has a
    fifth row, `penalised`, the copy that was trained with it: what the cut costs is seen beside it. `nonzero` counts
    all parameters, biases as well. Tuning has no penalty, so that the zeros of one fill up.
    """

    network: nn.Module
    networks: dict
    table: object  # a DataFrame: score, parameters, nonzero, operations, bytes and ms of each
    stayed: depgraph.Report

    def __str__(self):
        return self.table.to_string(float_format="{:,.4g}".format)


@told(net=a_network, score=a_function, share="(0, 1]", of=OF)
def compress(net, data, share=0.5, *, of="units", penalty=None, score=None, keep=(), seconds=SECONDS, **options):
    """A smaller network of the same class, with the given share of its units, weights (all parameters) or operations.

    data: as `training.fit` takes it. Scores are taken on its validation part; without one, on a fifth of the examples,
    which training does not see. The same share of the units of each layer is left (coupled layers lose the same ones),
    and for weights or operations the largest such share that is enough. penalty: one with which a copy is trained
    before the cut. score(outputs, y): by default the accuracy of classes, the R² of numbers. keep: names of layers
    whose units stay. seconds: the bound of one search for units, as in `depgraph.shrink`; a share of units takes two
    searches, one of weights or operations eight. options: those of `training.fit`, for the training before the cut and
    the one after it. The argument `net` is left as it is. ValueError: a training diverged, or not even one unit of each
    layer is few enough. ShrinkError: a search has come to its bound.
    """
    (train, held), options = _parts(data, net), sized(options, data)
    asked = {"penalty": penalty} | {name: value for name, value in options.items() if name not in WATCHED}
    options_of(asked)  # what is no option is said before the searches
    example, score = train.x[:1], score or _score(held.y, options.get("loss"))
    refuse(net, Example(net, example), keep)
    nets, before = {"dense": models.copied(net)}, {}
    _scored(net, held, score, options)  # what cannot be scored is said before the training
    if penalty is not None:
        net = before["penalised"] = _trained(net, train, penalty=penalty, **options)
    nets["masked"], nets["shrunk"], stayed = _smaller(net, example, share, of, {"keep": keep, "seconds": seconds})
    nets["tuned"] = _trained(nets["shrunk"], train, **options)
    table = _table({"dense": nets["dense"]} | before | nets, held, score, options)
    return Compressed(nets["tuned"], nets, table, stayed)


def _parts(data, net):
    """What is trained on, and what is held out for the scores."""
    part = part_of(data, net)
    if isinstance(getattr(data, "validation", None), TABLES):
        held = part_of(data.validation, net)
        return part, Part(held.x, held.y.float()) if getattr(data, "task", None) == "regression" else held
    loader = data if isinstance(data, DataLoader) else getattr(data, "train", None)
    samplers = (getattr(loader, "sampler", None), getattr(getattr(loader, "batch_sampler", None), "sampler", None))
    if any(getattr(sampler, "replacement", False) for sampler in samplers):
        raise ValueError("the sampler draws examples more than once, also those held out; pass the Dataset itself")
    if len(part.x) < 2:
        raise ValueError("one example cannot be held out of one; give two at least, or a validation part")
    order = torch.randperm(len(part.x), generator=torch.Generator().manual_seed(0)).to(part.x.device)
    count = max(1, int(HELD_OUT * len(order)))
    return tuple(Part(part.x[rows], part.y[rows]) for rows in (order[count:], order[:count]))


def _trained(net, part, **options):
    net = models.copied(net)
    if options.get("checkpoint") and "penalty" in options:  # the tuning has the file of that name
        options["checkpoint"] = f"{options['checkpoint']}.before"
    history = training.fit(net, part, **options)
    if history.status == "diverged":
        raise ValueError(f"training diverged ({history.message}); pass a smaller learning rate, optimizer={{'lr': …}}")
    return net


def _smaller(net, example, share, of, limits):
    """The masked and the shrunk network with this share of units, weights or operations, and the report."""
    units = Units(net, example, **limits)
    if not len(units) and share < 1:
        stay = "its outputs stay, what a norm or a softmax over units reads, and what keep names (README, Limits)"
        warnings.warn(f"no unit of {type(net).__name__} may be cut: {stay}", stacklevel=4)
    if of == "units" or share == 1:
        return _cut(units, example, share, limits)
    count = measures.flops if of == "operations" else lambda net, _: measures.parameters(net)
    goal, low, high = share * count(net, example), 0.0, 1.0
    best = _cut(units, example, low, limits)
    if (least := count(best[1], example)) > goal:
        raise ValueError(
            f"with one unit of each layer that may go, {least / count(net, example):.1%} of the {of} are left, "
            f"more than {share:.1%}; pass a larger share"
        )
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = _cut(units, example, middle, limits)
        low, high, best = (middle, high, found) if count(found[1], example) <= goal else (low, middle, best)
    return best


def _cut(units, example, share, limits):
    masked = units.masked(share)
    small, stayed = depgraph.shrunk(masked, example, keep_one=True, **limits)
    return masked, small, stayed


def _score(y, loss):
    """What is good for the type of the targets. ValueError: a loss of one's own leaves it open, or it tells nothing."""
    if loss in ("boundary", "boundary_dice"):
        return measures.foreground_dice
    if not y.is_floating_point() and loss != "mse":
        return measures.accuracy
    if (isinstance(loss, str) and loss != "mse") or isinstance(loss, nn.CrossEntropyLoss):  # chances of classes
        return lambda outputs, y: measures.accuracy(outputs, y.argmax(1))
    chances = y.ndim > 1 and y.shape[1] > 1 and y.min() >= 0 and torch.allclose(y.sum(1), torch.ones_like(y[:, 0]))
    if callable(loss) and (chances or isinstance(loss, BINARY) or ((y == 0) | (y == 1)).all()):
        raise ValueError("targets of 0 to 1 and a loss of your own: pass score=, a function of outputs and targets")
    if (y == y[:1]).all():
        raise ValueError(f"the {len(y)} targets held out are all alike, which R² is not for; pass more, or score=")
    return measures.r2


def _scored(net, part, score, options):
    outputs = training.predict(net, part.x, outputs=options.get("outputs"))
    try:
        found = score(outputs, part.y)
    except ValueError as error:
        raise ValueError(
            f"the score fails: {error}; pass score=, a function that takes these outputs and targets"
        ) from None
    try:
        return float(found)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"score must return one number, got {checks.seen(found)} ({error})") from None


def _table(nets, held, score, options):
    """Scores on what was held out, sizes, and the median time of one example on one thread."""
    table = measures.compare(nets, held.x[:1], batches=(1,))
    table = table.rename(columns={"flops": "operations", "ms, batch 1": "ms"})
    table["score"] = [_scored(net, held, score, options) for net in nets.values()]
    table["nonzero"] = [sum(int(p.count_nonzero()) for p in net.parameters()) for net in nets.values()]  # of all
    return table[["score", "parameters", "nonzero", "operations", "bytes", "ms"]]

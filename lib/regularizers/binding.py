"""What a penalty, given as plain data, does to given weights: its value, its gradient, its proximal step."""

import math
import warnings
from functools import partial

import torch

from .. import models
from ..arguments import matrices, told
from . import penalties
from .terms import HEAVIEST, PENALTIES, layer_factors, resolve


@told(autograd=bool)
def bind(penalty, ws, *, norms=None, views=None, transform=None, autograd=False):
    """The functions ``value() -> scalar``, ``add_gradient_()`` and ``prox_(step)`` of a penalty on given tensors.

    ``add_gradient_`` adds the terms without ``prox`` to every ``w.grad``; ``prox_(step)`` applies the proximal
    operator of step·term for those with it, step being the learning rate. Both leave alone what training leaves alone
    (`lib.models.trained`: frozen parameters, layers without a gradient). ``views`` has a function for each tensor
    that shows an input unit per index of axis 1 (`lib.models.unit_views`); ``norms`` are the vectors that the terms
    with ``norms`` act on too (`lib.models.norms`); ``transform`` may replace the function (weights, gradients) that
    does the adding by a compiled one; ``autograd`` has autograd find the gradient, as in the papers' code.
    ``add_gradient_`` warns once where no weight has a gradient.
    """
    ws, resolved = matrices("ws", ws), resolve(penalty)
    norms = _fitting(resolved, ws, views, norms)
    terms = [_Term(term, ws, len(norms)) for term in resolved]
    tensors = [*ws, *norms] if any(term.get("norms") for term in resolved) else ws
    seen = _Seen(views or (), len(tensors))
    start = torch.zeros((), device=ws[0].device if ws else None)

    def value():
        return penalties.cap(sum((term.value(seen.views_of(tensors)) for term in terms), start))

    def add(weights, grads):
        for term in terms:
            term.add_(weights, grads)

    add, adding = transform(add) if transform else add, any(not term.proximal for term in terms)
    untold = ["no weight has a gradient, so the penalty adds nothing; call loss.backward() before it"]

    def add_gradient_():
        grads = [None if w is None else w.grad for w in _moved(tensors)]
        if untold and adding and all(g is None for g in grads) and any(w.requires_grad for w in tensors):
            warnings.warn(untold.pop(), stacklevel=2)
        shown = seen.views_of(grads)
        add(seen.views_of([None if g is None else w.detach() for w, g in zip(tensors, grads, strict=True)]), shown)
        seen.write_back(shown, grads)

    @torch.enable_grad()
    def add_by_autograd_():
        shown = seen.views_of(_moved(tensors))
        total = sum(term.value(shown) for term in terms if not term.proximal)
        if torch.is_tensor(total) and total.requires_grad:
            total.backward()

    proximal = [term for term in terms if term.proximal]
    return value, add_by_autograd_ if autograd else add_gradient_, partial(_prox_, proximal, seen, tensors)


def _fitting(terms, ws, views, norms):
    """The batch norms' vectors. ValueError: what terms act on is lacking, or does not fit."""
    if terms and not ws:
        remedy = f"see {models.__name__}.weights for which are prunable"
        raise ValueError(f"a penalty needs weights and was given none; {remedy}")
    if views and len(views) != len(ws):
        raise ValueError(f"views must have a function for each of the {len(ws)} weights, got {len(views)}")
    if norms is None and any(term.get("norms") for term in terms):
        raise ValueError(f"a term with norms acts on batch norms, too; give them as norms={models.__name__}.norms(net)")
    return () if norms is None else norms


def _moved(tensors):
    """The tensors, with None for those that training leaves alone."""
    return [w if moves else None for w, moves in zip(tensors, models.trained(tensors), strict=True)]


def _prox_(terms, seen, tensors, step):
    """Apply the proximal operators of terms, at one step, to those of the tensors that training moves."""
    if not terms:
        return
    if not 0 <= step < math.inf:
        raise ValueError(f"a proximal step takes the learning rate, a number in [0, inf), got {step!r}")
    moved = _moved(tensors)
    shown = seen.views_of([None if w is None else w.detach() for w in moved])
    for term in terms:
        term.prox_(shown, step)
    seen.write_back(shown, moved)


class _Term:
    """One term on lists of tensors, the weights and then the norms, with None for those that it leaves alone."""

    def __init__(self, term, ws, norms):
        value, self.grad_, self.shrink_, own = PENALTIES[term["name"]]
        self.of = value.__wrapped__  # not capped: the sum is
        self.options = {key: term[key] for key in own}
        self.free, self.proximal, self.layers = term["partial"], term["prox"], len(ws)
        factors = layer_factors(ws, term["layer_rule"], term["layer_weights"])
        rescaled = self.free / (self.free - 1) if self.free and term["rescale"] else 1.0
        lam = term["lam"] * rescaled
        self.scales = [lam * factor for factor in factors] + [term["lam"]] * (norms if term.get("norms") else 0)
        if not (heaviest := max(self.scales, default=0)) <= HEAVIEST:
            raise ValueError(
                f"penalty {term['name']!r}: lam = {term['lam']:g} is {heaviest:g} with rescale and layers' factors; "
                f"{HEAVIEST:g} is the largest that fits; take a smaller lam"
            )

    def chosen(self, tensors):
        """What the term acts on: of the weights only a part where it is partial."""
        weights = [t for t in tensors[: self.layers] if t is not None]
        weights = weights if self.free is None else penalties.partial(weights, self.free)
        return weights + [t for t in tensors[self.layers : len(self.scales)] if t is not None]

    def scales_of(self, tensors):
        return [scale for scale, t in zip(self.scales, tensors, strict=False) if t is not None]

    def value(self, tensors):
        pairs = zip(self.scales_of(tensors), self.chosen(tensors), strict=True)
        return sum(scale * self.of([penalties.wide(t)], **self.options) for scale, t in pairs if scale)

    def add_(self, tensors, grads):
        if not self.proximal:
            self.grad_(self.chosen(tensors), self.chosen(grads), self.scales_of(tensors), **self.options)

    def prox_(self, tensors, step):
        self.shrink_(
            self.chosen(tensors), [min(step * scale, 1e38) for scale in self.scales_of(tensors)], **self.options
        )


class _Seen:
    """Tensors with an input unit per index of axis 1. Where that takes a copy, what is done to it is written back."""

    def __init__(self, views, count):
        self.views, self.orders = [*views, *[lambda t: t] * (count - len(views))], {}

    def views_of(self, tensors):
        return [None if t is None else view(t) for view, t in zip(self.views, tensors, strict=True)]

    def write_back(self, shown, tensors):
        for k, (seen, t) in enumerate(zip(shown, tensors, strict=True)):
            if seen is not None and seen.untyped_storage().data_ptr() != t.untyped_storage().data_ptr():
                t.detach().copy_(seen.flatten()[self._order(k, t)].view(t.shape))

    def _order(self, k, t):
        """Where each entry of a tensor went in the copy that its view is."""
        if k not in self.orders:
            numbers = torch.arange(t.numel(), device=t.device).view(t.shape)
            self.orders[k] = self.views[k](numbers).flatten().argsort()
        return self.orders[k]

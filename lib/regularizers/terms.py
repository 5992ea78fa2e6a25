"""Penalties as plain data: their defaults, their ranges, and the factors of the layers."""

import math

from .. import checks
from ..arguments import fits, numbers
from . import closed
from . import penalties as of

# Of a penalty with the parameter gamma, on the tensors ws, and with the scales λ times the layers' factors:
#   value      @finite def mine(ws, gamma=1.0)           one number, a sum over tensors: `bind` gives it each alone
#   gradient   def mine_grad_(ws, grads, scales, gamma)  added in place, tensor by tensor
#   proximal   def prox_mine_(ws, scales, gamma)         in place, or None
#: name -> (value, gradient added in place, proximal operator or None, the parameters it takes and their defaults)
PENALTIES = {
    "l1": (of.l1, closed.l1_grad_, closed.prox_l1_, {}),
    "l2": (of.l2, closed.l2_grad_, None, {}),
    "gl": (of.group_lasso, closed.group_lasso_grad_, closed.prox_group_lasso_, {}),
    "sgl": (of.sparse_group_lasso, closed.sparse_group_lasso_grad_, closed.prox_sparse_group_lasso_, {"alpha": 0.1}),
    "l0": (of.l0, closed.l0_grad_, None, {"beta": 20.0, "surrogate": "exp"}),
}
LAYER_RULES = ("none", "sqrt", "inverse")
COMMON = ("name", "lam", "partial", "rescale", "layer_rule", "layer_weights", "prox", "norms")
ELEMENTWISE = ("l1", "l2")  # what can be asked of batch norms
DEFAULTS = {"partial": None, "rescale": False, "layer_rule": "none", "layer_weights": None, "prox": False}
RANGES = {"lam": "[0, 1e30]", "alpha": "[0, 1]", "beta": "(0, 1e8]", "partial": "(1, inf)"}
FACTORS = "[0, 1e30]"  # of layers; 32-bit floats have to hold what is made of them
#: what a value may be, by the name of its parameter: an interval, bool, names or a function, as `told` takes them
KINDS = RANGES | dict.fromkeys(("rescale", "prox", "norms"), bool)
KINDS |= {"layer_rule": LAYER_RULES, "layer_weights": numbers(FACTORS), "surrogate": of.SURROGATES}
HEAVIEST = 1e30  # λ times all factors


def layer_factors(ws, rule="none", layer_weights=None):
    """One factor per tensor: ``layer_weights`` as given, times 1, √(N_l/N_ref) or (N/L)/N_l.

    N_l is the number of weights of layer l, N_ref that of the largest layer of its kind (dense, or convolutions of one
    number of axes; arXiv 2109.05075, authors' code), N their total and L the number of layers (a reimplementation's
    rule).
    """
    sizes = [max(1, w.numel()) for w in ws]
    factors = [1.0] * len(ws)
    if rule == "sqrt":
        kinds = [w.ndim for w in ws]
        largest = {kind: max(n for n, k in zip(sizes, kinds, strict=True) if k == kind) for kind in kinds}
        factors = [math.sqrt(n / largest[kind]) for n, kind in zip(sizes, kinds, strict=True)]
    elif rule == "inverse":
        factors = [sum(sizes) / len(sizes) / n for n in sizes]
    if layer_weights is None:
        return factors
    if len(layer_weights) != len(ws):
        raise ValueError(f"layer_weights has {len(layer_weights)} entries for {len(ws)} weight tensors")
    return [f * weight for f, weight in zip(factors, layer_weights, strict=True)]


def resolve(penalty):
    """A penalty given as plain data (a dict, a list of dicts that are summed, or None) with its defaults filled in.

    ``{"name": "sgl", "lam": 1e-4, "alpha": 0.1, "partial": 8}``: ``lam`` is λ, ``partial`` is β of arXiv 2009.01395
    (None: full), ``rescale`` multiplies a partial penalty by β/(β−1), ``prox`` replaces the (sub)gradient by the
    proximal step after the parameter update, ``beta`` and ``surrogate`` belong to l0. ``norms`` (l1 and l2) penalises
    the scales and shifts of batch norms too, as torch's weight decay does. ValueError for what is unknown or out of its
    range.
    """
    terms = [] if penalty is None else [penalty] if isinstance(penalty, dict) else penalty
    if not isinstance(terms, list | tuple) or not all(isinstance(term, dict) for term in terms):
        raise ValueError(f"a penalty is a dict, {{'name': 'gl', 'lam': 1e-4}}, a list of them or None, got {penalty!r}")
    return [_resolve_term(dict(term)) for term in terms]


def _resolve_term(term):
    name = checks.one_of("penalty", term.get("name"), sorted(PENALTIES))
    known = (*COMMON, *PENALTIES[name][3])
    if extra := set(term) - set(known):
        raise ValueError(f"penalty {name!r} has no parameter {sorted(extra, key=str)[0]!r}; known: {', '.join(known)}")
    term = DEFAULTS | PENALTIES[name][3] | term
    _check(name, {"lam": None, "norms": False} | term)
    if not term.get("norms"):  # younger than the first records, whose hashes have to stay
        term.pop("norms", None)
    return term


def _check(name, term):
    """ValueError for an option outside its meaning."""
    what = f"penalty {name!r}"
    for key in [key for key in KINDS if key in term]:
        if term[key] is not None or key not in ("partial", "layer_weights"):  # None is their default
            fits(f"{what}: {key}", term[key], KINDS[key])
    if term["norms"] and name not in ELEMENTWISE:
        raise ValueError(f"{what} does not know batch norms; known: {', '.join(ELEMENTWISE)}")
    known = [other for other in sorted(PENALTIES) if PENALTIES[other][2]]
    if term["prox"] and name not in known:
        raise ValueError(f"{what} has no proximal operator here; known: {', '.join(known)}")

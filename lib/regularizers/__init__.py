"""Penalties: equations (`penalties`), `closed` forms, plain data (`terms`), what that does to weights (`binding`)."""

from ..arguments import floats, matrices, numbers, tensors, told
from .binding import bind
from .closed import (
    group_lasso_grad_,
    l0_grad_,
    l1_grad_,
    l2_grad_,
    prox_group_lasso_,
    prox_l1_,
    prox_sparse_group_lasso_,
    sparse_group_lasso_grad_,
)
from .penalties import SURROGATES, _all_but_last, group_lasso, l0, l1, l2, partial, sparse_group_lasso, unit_norms
from .terms import COMMON, ELEMENTWISE, FACTORS, KINDS, LAYER_RULES, PENALTIES, RANGES, layer_factors, resolve


def _fitting(ws, scales=None, grads=None, **options):
    """ValueError: no weights, or not a scale, or a gradient of the same shape, for each of them."""
    if not ws:
        raise ValueError("ws must be a list of at least one tensor, got none")
    for name, given in {"scales": scales, "grads": grads}.items():
        if given is not None and len(given) != len(ws):
            raise ValueError(f"{name} has {len(given)} entries for {len(ws)} weight tensors")
    if wrong := [(w, g) for w, g in zip(ws, grads or (), strict=False) if w.shape != g.shape]:
        w, g = (tuple(t.shape) for t in wrong[0])
        raise ValueError(f"grads must have the shapes of the weights, got {g} for {w}")


# At this door a reader's arguments are checked; inside, `resolve` has checked a penalty, and the equations stay bare.
_KINDS = KINDS | {"together": _fitting, "scales": numbers("[-1e30, 1e30]"), "rule": LAYER_RULES}
_told = told(ws=matrices, grads=matrices, **_KINDS)  # groups: rows or columns of (out, in, …)
_each = told(ws=tensors, grads=tensors, **_KINDS)  # entry by entry, whatever the shape
_shrinks = told(ws=matrices, **_KINDS | {"scales": numbers(FACTORS)})  # proximal operators
l1, l2, l0 = map(_each, (l1, l2, l0))
group_lasso, sparse_group_lasso = map(_told, (group_lasso, sparse_group_lasso))
l1_grad_, l2_grad_, l0_grad_ = map(_each, (l1_grad_, l2_grad_, l0_grad_))
group_lasso_grad_, sparse_group_lasso_grad_ = map(_told, (group_lasso_grad_, sparse_group_lasso_grad_))
prox_l1_, prox_group_lasso_ = map(_shrinks, (prox_l1_, prox_group_lasso_))
prox_sparse_group_lasso_ = _shrinks(prox_sparse_group_lasso_)
layer_factors = _told(layer_factors)
partial = told(together=_fitting, ws=matrices, beta=RANGES["partial"])(partial)
unit_norms = told(w=floats)(unit_norms)

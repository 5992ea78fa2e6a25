"""Penalties: equations (`penalties`), `closed` forms, plain data (`terms`), what that does to weights (`binding`)."""

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
from .terms import COMMON, ELEMENTWISE, LAYER_RULES, PENALTIES, layer_factors, resolve

"""The equations: each penalty as a value, differentiable by autograd, and the selection that makes it partial.

Weights are in torch layout (out, in, ...): the group of input unit or channel i is ``w[:, i]``. Biases of layers are
never penalised; scales and shifts of batch norms are where a term has ``norms``. A penalty is partial when it is given
``partial(ws, beta)`` instead of ``ws``. Values of finite weights are finite: half floats are computed with in float32,
a value beyond the largest float is that float, and a group whose squares leave the floats' range (norms under 3e-16 or
over 1e19 in float32) has the subgradient 0. Gradients are finite as long as λ times the weight is.
"""

import functools
import math

import torch
from torch.nn import functional as F

# --- values: (out, in, ...) tensors -> scalar -----------------------------------------------------------------------


class _Capped(torch.autograd.Function):
    """The largest float in place of inf; the gradient is passed on."""

    @staticmethod
    def forward(ctx, value):
        return value.clamp(max=torch.finfo(value.dtype).max)

    @staticmethod
    def backward(ctx, grad):
        return grad


cap = _Capped.apply


def finite(value):
    """A value function of finite weights that is finite itself."""

    @functools.wraps(value)
    def capped(ws, *arguments, **options):
        total = value([wide(w) for w in ws], *arguments, **options)
        return cap(total if torch.is_tensor(total) else torch.tensor(float(total)))  # of no weights it is a plain zero

    return capped


@finite
def l1(ws):
    """Σ|w|."""
    return sum(w.abs().sum() for w in ws)


@finite
def l2(ws):
    """Σw², without the ½ (arXiv 2109.05075 and the authors' code)."""
    return sum((w * w).sum() for w in ws)


@finite
def group_lasso(ws):
    """Σ_l √n_{l+1} Σ_i ‖W^l_i‖₂ over the input units i (arXiv 2009.01395); for convolutions √(group size)."""
    return sum(root(w) * unit_norms(w).sum() for w in ws)


def unit_norms(w):
    """‖W_i‖₂ of every input unit i, (out, in, ...) -> (in,); 0 for those too small to be squared."""
    norms = torch.linalg.vector_norm(wide(w), dim=other(w))
    return F.threshold(norms, SMALLEST[norms.dtype], 0.0)


@finite
def sparse_group_lasso(ws, alpha=0.1):
    """(1−α)·group lasso + α·Σ|w| (arXiv 2009.01395)."""
    return (1 - alpha) * group_lasso(ws) + alpha * l1(ws)


@finite
def l0(ws, beta=20.0, surrogate="exp"):
    """Σ f(β|w|), a smooth count of nonzero weights: f(x) = 1 − e^{−x} (arXiv 2109.05075) or another surrogate."""
    f = SURROGATES[surrogate]
    return sum(f(beta * w.abs()).sum() for w in ws)


def exponential(x):
    """f(x) = 1 − e^{−x} (arXiv 2109.05075)."""
    return 1 - torch.exp(-x)


def linear(x):
    """f(x) = min(x, 1), the capped ℓ1."""
    return x.clamp(max=1)


def rational(x):
    """f(x) = x/(1 + x), like Geman & McClure's; ∞ as the largest float, so that f is 1 there."""
    x = x.clamp(max=torch.finfo(x.dtype).max)
    return x / (1 + x)


SURROGATES = {"exp": exponential, "linear": linear, "rational": rational}


# --- partial: a selection, not a penalty ------------------------------------------------------------------------------


def partial(ws, beta):
    """All but the last ⌊n_in/β⌋ input units of every tensor, as views (arXiv 2009.01395).

    Where ⌊n_in/β⌋ = 0 the whole tensor is selected: partial equals full there. A layer with one input unit has no
    unit to leave free; the authors' slicing then frees the last ⌊n_out/β⌋ output units instead.
    """
    return [_all_but_last(w, beta) for w in ws]


def _all_but_last(w, beta):
    if w.shape[1] == 1:
        return w[: w.shape[0] - int(w.shape[0] // beta)]
    return w[:, : w.shape[1] - int(w.shape[1] // beta)]


# --- helpers ----------------------------------------------------------------------------------------------------------

#: the norm from which on squares keep their digits; half floats are computed with as float32
SMALLEST = {
    dtype: math.sqrt(torch.finfo(dtype).tiny / torch.finfo(dtype).eps) for dtype in (torch.float32, torch.float64)
}


def wide(w):
    """The weights themselves, half floats as float32."""
    return w if w.dtype in SMALLEST else w.float()


def other(w):
    """The axes of a group: all but that of the input units."""
    return [d for d in range(w.ndim) if d != 1]


def root(w):
    """√(group size), in a dense layer √n_{l+1}."""
    return math.sqrt(w.numel() / w.shape[1]) if w.shape[1] else 0.0

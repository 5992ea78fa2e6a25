"""The equations: each penalty as a value for autograd, a closed-form gradient added in place, a proximal operator.

Weights are in torch layout (out, in, ...): the group of input unit or channel i is ``w[:, i]``. Biases are never
penalised. A penalty is partial when it is given ``partial(ws, beta)`` instead of ``ws``.

The closed forms exist for speed: added to ``w.grad`` after the backward pass they cost a few passes over memory, where
autograd keeps, walks and allocates. They write into one scratch buffer, because temporaries of a megabyte are handed
back to the system and faulted in again at every step.

All of them are finite for finite weights: half floats are computed with in float32, a value beyond the largest float is
that float, and a group whose squares leave the floats' range (norms under 3e-16 or over 1e19 in float32) has the
subgradient 0, which is within its bound.
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
        return cap(torch.as_tensor(value([wide(w) for w in ws], *arguments, **options)))

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
    return sum(_root(w) * unit_norms(w).sum() for w in ws)


def unit_norms(w):
    """‖W_i‖₂ of every input unit i, (out, in, ...) -> (in,); 0 for those too small to be squared."""
    return F.threshold(torch.linalg.vector_norm(w, dim=_other(w)), SMALLEST[w.dtype], 0.0)


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
    """f(x) = min(x, 1) (Gu, Jin & Mei 2009)."""
    return x.clamp(max=1)


def rational(x):
    """f(x) = x/(1 + x), like Geman & McClure's; ∞ as the largest float, so that f is 1 there."""
    x = x.clamp(max=torch.finfo(x.dtype).max)
    return x / (1 + x)


SURROGATES = {"exp": exponential, "linear": linear, "rational": rational}


# --- closed-form gradients: grads += scale · ∂penalty/∂w, in place ----------------------------------------------------


@torch.no_grad()
def l1_grad_(ws, grads, scales):
    """Add scale·sign(w); 0 at w = 0."""
    for w, g, scale in zip(ws, grads, scales, strict=True):
        g.add_(torch.sign(w, out=_scratch(w)), alpha=scale)


@torch.no_grad()
def l2_grad_(ws, grads, scales):
    """Add scale·2w."""
    for w, g, scale in zip(ws, grads, scales, strict=True):
        g.add_(w, alpha=2 * scale)


@torch.no_grad()
def group_lasso_grad_(ws, grads, scales):
    """Add scale·√n_{l+1}·W_i/‖W_i‖₂; a zero row gives the zero subgradient."""
    for w, g, scale in zip(map(wide, ws), grads, scales, strict=True):
        inverse, factor = _inverse_norms(w, scale * _root(w))
        g.addcmul_(w, inverse, value=factor)


@torch.no_grad()
def sparse_group_lasso_grad_(ws, grads, scales, alpha=0.1):
    """Add scale·((1−α)·√n_{l+1}·W_i/‖W_i‖₂ + α·sign(w)), touching the gradient once."""
    if alpha < 1e-6:  # (1−α)/α is large, or none
        group_lasso_grad_(ws, grads, [(1 - alpha) * scale for scale in scales])
        return l1_grad_(ws, grads, [alpha * scale for scale in scales])
    for w, g, scale in zip(map(wide, ws), grads, scales, strict=True):
        inverse, factor = _inverse_norms(w, (1 - alpha) / alpha * _root(w))
        both = torch.sign(w, out=_scratch(w)).addcmul_(w, inverse, value=factor)
        g.add_(both, alpha=alpha * scale)


@torch.no_grad()
def l0_grad_(ws, grads, scales, beta=20.0, surrogate="exp"):
    """Add scale·f′(β|w|)·β·sign(w), the zero attraction: strong near zero, vanishing for large weights."""
    slope_ = SLOPES[surrogate]
    for w, g, scale in zip(map(wide, ws), grads, scales, strict=True):
        slope = slope_(torch.abs(w, out=_scratch(w)).mul_(beta))
        g.addcmul_(torch.sign(w, out=_scratch(w, 1)), slope, value=scale * beta)


def exponential_slope_(x):
    """f′(x) = e^{−x}, in place; exp2 is three times faster than exp."""
    return x.mul_(-math.log2(math.e)).exp2_()


def linear_slope_(x):
    """f′(x) = 1 below 1, else 0, in place."""
    return x.lt_(1)


def rational_slope_(x):
    """f′(x) = 1/(1 + x)², in place."""
    return x.add_(1).reciprocal_().square_()


SLOPES = {"exp": exponential_slope_, "linear": linear_slope_, "rational": rational_slope_}


# --- partial: a selection, not a penalty ------------------------------------------------------------------------------


def partial(ws, beta):
    """All but the last ⌊n_in/β⌋ input units of every tensor, as views (arXiv 2009.01395).

    Where ⌊n_in/β⌋ = 0 the whole tensor is selected: partial equals full there. A layer with one input unit has no
    unit to leave free; the authors' slicing then frees the last ⌊n_out/β⌋ output units instead.
    """
    if not beta > 1:
        raise ValueError(f"partial: beta must be > 1 (the last 1/beta of the units is free), got {beta!r}")
    return [_all_but_last(w, beta) for w in ws]


def _all_but_last(w, beta):
    if w.shape[1] == 1:
        return w[: w.shape[0] - int(w.shape[0] // beta)]
    return w[:, : w.shape[1] - int(w.shape[1] // beta)]


# --- proximal operators: the exact zeros that a subgradient only approaches -------------------------------------------


@torch.no_grad()
def prox_group_lasso_(ws, scales):
    """W_i ← max(0, 1 − scale·√n_{l+1}/‖W_i‖₂)·W_i, the proximal operator of scale·group lasso, in place."""
    for w, scale in zip(ws, scales, strict=True):
        norms = _norms(wide(w))
        inverse = norms.clamp_min_(SMALLEST[norms.dtype]).reciprocal_()
        w.mul_((1 - scale * _root(w) * inverse).clamp_min_(0))


@torch.no_grad()
def prox_l1_(ws, scales):
    """w ← sign(w)·max(0, |w| − scale), soft thresholding, in place."""
    for w, scale in zip(ws, scales, strict=True):
        w.sub_(wide(w).clamp(-scale, scale))


def prox_sparse_group_lasso_(ws, scales, alpha=0.1):
    """Soft thresholding, then group shrinkage: together the exact proximal operator (Simon et al. 2013), in place."""
    prox_l1_(ws, [alpha * s for s in scales])
    prox_group_lasso_(ws, [(1 - alpha) * s for s in scales])


# --- helpers ----------------------------------------------------------------------------------------------------------

_BUFFERS = {}


def _scratch(w, which=0):
    """A work buffer shaped like ``w``, kept between calls; a compiler does without."""
    if torch.compiler.is_compiling():
        return torch.empty_like(w)
    key = (w.device, w.dtype, which)
    if key not in _BUFFERS or _BUFFERS[key].numel() < w.numel():
        _BUFFERS[key] = torch.empty(w.numel(), dtype=w.dtype, device=w.device)
    return _BUFFERS[key][: w.numel()].view(w.shape)


def _norms(w):
    """‖W_i‖₂, the axes kept. Sums of squares by columns: vector_norm along axis 0 is six times slower on CPUs."""
    return torch.mul(w, w, out=_scratch(w)).sum(_other(w), keepdim=True).sqrt_()


def _inverse_norms(w, factor):
    """1/‖W_i‖₂, the axes kept, and the factor to multiply with; 0 for groups that are too small to be squared."""
    inverse = torch.threshold_(_norms(w), SMALLEST[w.dtype], math.inf).reciprocal_()
    if factor > 1:  # factor·w might overflow; a power of two changes no digit
        factor, power = math.frexp(factor)
        inverse.mul_(2.0**power)
    return inverse, factor


#: the norm from which on squares keep their digits; half floats are computed with as float32
SMALLEST = {
    dtype: math.sqrt(torch.finfo(dtype).tiny / torch.finfo(dtype).eps) for dtype in (torch.float32, torch.float64)
}


def wide(w):
    """The weights themselves, half floats as float32."""
    return w if w.dtype in SMALLEST else w.float()


def _other(w):
    return [d for d in range(w.ndim) if d != 1]


def _root(w):
    """√(group size), in a dense layer √n_{l+1}."""
    return math.sqrt(w.numel() / w.shape[1]) if w.shape[1] else 0.0

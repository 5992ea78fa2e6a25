"""Closed forms for training: gradients added in place, and proximal operators.

They exist for speed: added to ``w.grad`` after the backward pass they cost a few passes over memory, where autograd
keeps, walks and allocates. They write into buffers that each thread keeps, because temporaries of a megabyte are handed
back to the system and faulted in again at every step.
"""

import math
import threading

import torch

from .penalties import SMALLEST, other, root, wide

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
    """Add scale·√n_{l+1}·W_i/‖W_i‖₂; a group of zeros has the subgradient zero."""
    for w, g, scale in zip(map(wide, ws), grads, scales, strict=True):
        inverse, factor = _inverse_norms(w, scale * root(w))
        g.addcmul_(w, inverse, value=factor)


@torch.no_grad()
def sparse_group_lasso_grad_(ws, grads, scales, alpha=0.1):
    """Add scale·((1−α)·√n_{l+1}·W_i/‖W_i‖₂ + α·sign(w)), touching the gradient once."""
    if alpha < 1e-6:  # (1−α)/α is large, or none
        group_lasso_grad_(ws, grads, [(1 - alpha) * scale for scale in scales])
        return l1_grad_(ws, grads, [alpha * scale for scale in scales])
    for w, g, scale in zip(map(wide, ws), grads, scales, strict=True):
        inverse, factor = _inverse_norms(w, (1 - alpha) / alpha * root(w))
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


# --- proximal operators: the exact zeros that a subgradient only approaches -------------------------------------------


@torch.no_grad()
def prox_group_lasso_(ws, scales):
    """W_i ← max(0, 1 − scale·√n_{l+1}/‖W_i‖₂)·W_i, the proximal operator of scale·group lasso, in place."""
    for w, scale in zip(ws, scales, strict=True):
        norms = _norms(wide(w))
        inverse = norms.clamp_min_(SMALLEST[norms.dtype]).reciprocal_()
        w.mul_((1 - scale * root(w) * inverse).clamp_min_(0))


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


_BUFFERS = threading.local()  # as torch lets other threads run between filling a buffer and adding it


def _scratch(w, which=0):
    """A work buffer shaped like ``w``, kept between calls of one thread; a compiler does without."""
    if torch.compiler.is_compiling():
        return torch.empty_like(w)
    kept, key = vars(_BUFFERS), (w.device, w.dtype, which)
    if key not in kept or kept[key].numel() < w.numel():
        with torch.inference_mode(False):  # one made within it could not be written outside of it
            kept[key] = torch.empty(w.numel(), dtype=w.dtype, device=w.device)
    return kept[key][: w.numel()].view(w.shape)


def _norms(w):
    """‖W_i‖₂, the axes kept. Sums of squares by columns: vector_norm along axis 0 is six times slower on CPUs."""
    return torch.mul(w, w, out=_scratch(w)).sum(other(w), keepdim=True).sqrt_()


def _inverse_norms(w, factor):
    """1/‖W_i‖₂, the axes kept, and the factor to multiply with; 0 for groups that are too small to be squared."""
    inverse = torch.threshold_(_norms(w), SMALLEST[w.dtype], math.inf).reciprocal_()
    if factor > 1:  # factor·w might overflow; a power of two changes no digit
        factor, power = math.frexp(factor)
        inverse.mul_(2.0**power)
    return inverse, factor

"""Penalties of the papers: each is a value (differentiable by autograd) and a closed-form gradient added in place.

Weights are in torch layout (out, in, ...): the group of input unit or channel i is ``w[:, i]``. Biases are never
penalised. A penalty is partial when it is given ``partial(ws, beta)`` instead of ``ws``.

The closed forms exist for speed: added to ``w.grad`` after the backward pass they cost a few passes over memory, where
autograd keeps, walks and allocates. They write into one scratch buffer, because temporaries of a megabyte are handed
back to the system and faulted in again at every step.
"""

import math

import torch

SURROGATES = ("exp", "linear", "rational")
LAYER_RULES = ("none", "sqrt", "inverse")


# --- values: (out, in, ...) tensors -> scalar -----------------------------------------------------------------------


def l1(ws):
    """Σ|w|."""
    return sum(w.abs().sum() for w in ws)


def l2(ws):
    """Σw², without the ½ (arXiv 2109.05075 and the authors' code)."""
    return sum(w.square().sum() for w in ws)


def group_lasso(ws):
    """Σ_l √n_{l+1} Σ_i ‖W^l_i‖₂ over the input units i (arXiv 2009.01395); for convolutions √(group size)."""
    return sum(_root(w) * torch.linalg.vector_norm(w, dim=_other(w)).sum() for w in ws)


def sparse_group_lasso(ws, alpha=0.1):
    """(1−α)·group lasso + α·Σ|w| (arXiv 2009.01395)."""
    return (1 - alpha) * group_lasso(ws) + alpha * l1(ws)


def l0(ws, beta=20.0, surrogate="exp"):
    """A smooth count of nonzero weights: Σ(1−e^{−β|w|}) (arXiv 2109.05075), Σmin(β|w|, 1) or Σβ|w|/(1+β|w|)."""
    return sum(_L0[surrogate][0](beta * w.abs()).sum() for w in ws)


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
    for w, g, scale in zip(ws, grads, scales, strict=True):
        g.addcmul_(w, _inverse_norms(w), value=scale * _root(w))


@torch.no_grad()
def sparse_group_lasso_grad_(ws, grads, scales, alpha=0.1):
    """Add scale·((1−α)·√n_{l+1}·W_i/‖W_i‖₂ + α·sign(w)), touching the gradient once."""
    if alpha == 0:
        return group_lasso_grad_(ws, grads, scales)
    for w, g, scale in zip(ws, grads, scales, strict=True):
        inverse = _inverse_norms(w)
        both = torch.sign(w, out=_scratch(w)).addcmul_(w, inverse, value=(1 - alpha) / alpha * _root(w))
        g.add_(both, alpha=alpha * scale)


@torch.no_grad()
def l0_grad_(ws, grads, scales, beta=20.0, surrogate="exp"):
    """Add scale·f′(β|w|)·β·sign(w), the zero attraction: strong near zero, vanishing for large weights."""
    slope_ = _L0[surrogate][1]
    for w, g, scale in zip(ws, grads, scales, strict=True):
        slope = slope_(torch.abs(w, out=_scratch(w)).mul_(beta))
        g.addcmul_(torch.sign(w, out=_scratch(w, 1)), slope, value=scale * beta)


_L0 = {  # surrogate f(x), x = β|w|, and f′(x) computed in place
    "exp": (lambda x: 1 - torch.exp(-x), lambda x: x.mul_(-math.log2(math.e)).exp2_()),  # exp2 is 3 × faster than exp
    "linear": (lambda x: x.clamp(max=1), lambda x: x.lt_(1)),
    "rational": (lambda x: x / (1 + x), lambda x: x.add_(1).reciprocal_().square_()),
}


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
        w.mul_((1 - scale * _root(w) * _inverse_norms(w)).clamp_min_(0))


@torch.no_grad()
def prox_l1_(ws, scales):
    """w ← sign(w)·max(0, |w| − scale), soft thresholding, in place."""
    for w, scale in zip(ws, scales, strict=True):
        w.sub_(w.clamp(-scale, scale))


def prox_sparse_group_lasso_(ws, scales, alpha=0.1):
    """Soft thresholding, then group shrinkage: together the exact proximal operator (Simon et al. 2013), in place."""
    prox_l1_(ws, [alpha * s for s in scales])
    prox_group_lasso_(ws, [(1 - alpha) * s for s in scales])


# --- penalties as plain data ------------------------------------------------------------------------------------------

#: name -> (value, gradient added in place, proximal operator or None, the parameters it takes)
PENALTIES = {
    "l1": (l1, l1_grad_, prox_l1_, ()),
    "l2": (l2, l2_grad_, None, ()),
    "gl": (group_lasso, group_lasso_grad_, prox_group_lasso_, ()),
    "sgl": (sparse_group_lasso, sparse_group_lasso_grad_, prox_sparse_group_lasso_, ("alpha",)),
    "l0": (l0, l0_grad_, None, ("beta", "surrogate")),
}
COMMON = ("name", "lam", "partial", "rescale", "layer_rule", "layer_weights", "prox", "norms")
ELEMENTWISE = ("l1", "l2")  # what can be asked of batch norms


def layer_factors(ws, rule="none", layer_weights=None):
    """One factor per tensor: ``layer_weights`` as given, times 1, √(N_l/N_ref) or (N/L)/N_l.

    N_l is the number of weights of layer l, N_ref that of the largest layer of its kind (dense or convolutional;
    arXiv 2109.05075, authors' code), N their total and L the number of layers (a reimplementation's rule).
    """
    sizes = [w.numel() for w in ws]
    if rule == "none":
        factors = [1.0] * len(ws)
    elif rule == "sqrt":
        largest = {dims: max(w.numel() for w in ws if w.ndim == dims) for dims in {w.ndim for w in ws}}
        factors = [math.sqrt(w.numel() / largest[w.ndim]) for w in ws]
    elif rule == "inverse":
        factors = [sum(sizes) / len(sizes) / n for n in sizes]
    else:
        raise ValueError(f"unknown layer_rule {rule!r}; known: {', '.join(LAYER_RULES)}")
    if layer_weights is None:
        return factors
    if len(layer_weights) != len(ws):
        raise ValueError(f"layer_weights has {len(layer_weights)} entries for {len(ws)} weight tensors")
    return [f * weight for f, weight in zip(factors, layer_weights, strict=True)]


def resolve(penalty):
    """A penalty given as plain data (a dict, a list of dicts that are summed, or None) with its defaults filled in.

    ``{"name": "sgl", "lam": 1e-4, "alpha": 0.1, "partial": 8}``: ``lam`` is λ, ``partial`` is P1's β (None: full),
    ``rescale`` multiplies a partial penalty by β/(β−1), ``prox`` replaces the (sub)gradient by the proximal step
    after the parameter update, ``beta`` and ``surrogate`` belong to l0. ``norms`` (l1 and l2) penalises the scales and
    shifts of batch norms too, as torch's weight decay does.
    """
    terms = [] if penalty is None else [penalty] if isinstance(penalty, dict) else list(penalty)
    return [_resolve_term(dict(term)) for term in terms]


def _resolve_term(term):
    name = term.get("name")
    if name not in PENALTIES:
        raise ValueError(f"unknown penalty {name!r}; known: {', '.join(sorted(PENALTIES))}")
    known = (*COMMON, *PENALTIES[name][3])
    if extra := set(term) - set(known):
        raise ValueError(f"penalty {name!r} has no parameter {sorted(extra)[0]!r}; known: {', '.join(known)}")
    defaults = {"partial": None, "rescale": False, "layer_rule": "none", "layer_weights": None, "prox": False}
    own = {"alpha": 0.1, "beta": 20.0, "surrogate": "exp"}
    term = defaults | {key: own[key] for key in PENALTIES[name][3]} | term
    if not (isinstance(term.get("lam"), (int, float)) and 0 <= term["lam"] < math.inf):
        raise ValueError(f"penalty {name!r}: lam must be a number >= 0, got {term.get('lam')!r}")
    if not term.get("norms"):  # younger than the first records, whose hashes have to stay
        term.pop("norms", None)
    elif name not in ELEMENTWISE:
        raise ValueError(f"penalty {name!r} does not know batch norms; known: {', '.join(ELEMENTWISE)}")
    if term.get("surrogate", "exp") not in _L0:
        raise ValueError(f"unknown surrogate {term['surrogate']!r}; known: {', '.join(SURROGATES)}")
    return term


def bind(penalty, ws, *, norms=(), views=None, transform=None):
    """The functions ``value() -> scalar``, ``add_gradient_()`` and ``prox_(step)`` of a penalty on given tensors.

    ``add_gradient_`` adds the terms without ``prox`` to every ``w.grad``; ``prox_(step)`` applies the proximal
    operator of step·term for those with it, step being the learning rate. ``views`` has a function for each tensor
    that shows an input unit per index of axis 1 (`lib.models.unit_views`); ``norms`` are the vectors that the terms
    with ``norms`` act on too (`lib.models.norms`); ``transform`` may replace the function (weights, gradients) that
    does the adding by a compiled one.
    """
    ws, norms, terms = list(ws), list(norms), resolve(penalty)
    both = [*ws, *norms] if any(term.get("norms") for term in terms) else ws

    def seen(tensors):
        if not views:
            return tensors
        weights = zip(views, tensors[: len(ws)], strict=True)
        return [*(view(t) for view, t in weights), *tensors[len(ws) :]]

    plain = seen([w.detach() for w in both])
    terms = [_bind_term(term, ws, norms) for term in terms]

    def value():
        return sum((total(seen(both)) for total, _, _ in terms), torch.zeros((), device=ws[0].device))

    def add(weights, grads):
        for _, grad_, _ in terms:
            grad_(weights, grads)

    add = transform(add) if transform else add

    def add_gradient_():
        add(plain, seen([w.grad for w in both]))

    def prox_(step):
        for _, _, prox in terms:
            prox(plain, step)

    return value, add_gradient_, prox_


def _bind_term(term, ws, norms):
    value, grad_, prox, own = PENALTIES[term["name"]]
    if term["prox"] and prox is None:
        raise ValueError(f"penalty {term['name']!r} has no proximal operator here; known: gl, l1, sgl")
    options = {key: term[key] for key in own}
    beta = term["partial"]
    factors = layer_factors(ws, term["layer_rule"], term["layer_weights"])
    lam = term["lam"] * (beta / (beta - 1) if beta and term["rescale"] else 1.0)
    count = len(norms) if term.get("norms") else 0
    scales = [lam * factor for factor in factors] + [term["lam"]] * count

    def select(tensors):
        weights = tensors[: len(ws)]
        return [*(weights if beta is None else partial(weights, beta)), *tensors[len(ws) :][:count]]

    def total(weights):
        return sum(s * value([w], **options) for s, w in zip(scales, select(weights), strict=True))

    def add(weights, grads):
        if not term["prox"]:
            grad_(select(weights), select(grads), scales, **options)

    def shrink(weights, step):
        if term["prox"]:
            prox(select(weights), [step * s for s in scales], **options)

    return total, add, shrink


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


def _inverse_norms(w):
    """1/‖W_i‖₂, kept finite at 0. Sums of squares by columns: vector_norm along axis 0 is six times slower on CPUs."""
    norms = torch.mul(w, w, out=_scratch(w)).sum(_other(w), keepdim=True).sqrt_()
    return norms.clamp_min_(torch.finfo(w.dtype).tiny).reciprocal_()


def _other(w):
    return [d for d in range(w.ndim) if d != 1]


def _root(w):
    return math.sqrt(w.numel() / w.shape[1])

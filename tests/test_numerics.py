"""Finite weights of every size give finite results: penalties, gradients, proximal steps, masks, pruning by steps."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import pruning
from lib import regularizers as reg

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SHAPES = ((3, 4), (5, 1), (1, 4), (2, 3, 3, 3), (4, 1, 3, 3), (0, 4), (4, 0), (60, 40))
PENALTIES = [
    {"name": "l1"},
    {"name": "l2"},
    {"name": "gl"},
    {"name": "gl", "partial": 2, "rescale": True},
    {"name": "sgl"},
    {"name": "sgl", "alpha": 1e-40},
    {"name": "sgl", "alpha": 1.0},
    *({"name": "l0", "surrogate": s, "layer_rule": rule} for s in reg.SURROGATES for rule in ("sqrt", "inverse")),
    {"name": "l0", "beta": 1e4},
]


@st.composite
def weights(draw, dtype):
    """Tensors in which every size that the type holds may meet every other, with units of zeros among them."""
    found, shape = torch.finfo(dtype), draw(st.sampled_from(SHAPES))
    least = math.log2(found.tiny * found.eps)
    low, high = sorted(draw(st.tuples(*[st.floats(least, math.log2(found.max))] * 2)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    size = torch.exp2(low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64))
    sign = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    w = (size.clamp(max=found.max) * sign).to(dtype)
    if shape[1] > 1:
        w[:, 0] = draw(st.sampled_from((0.0, found.tiny, 1.0)))
    return w


def tensors():
    return st.sampled_from(DTYPES).flatmap(weights)


def bound(term, w):
    """The largest subgradient of an entry, times λ; (out, in, …) -> the same shape."""
    root = math.sqrt(w[:, 0].numel()) if w.shape[1] else 0.0
    scale = 2.0 if term.get("rescale") else 1.0
    alpha = term.get("alpha", 0.1)
    largest = {"l1": 1.0, "gl": scale * root, "sgl": (1 - alpha) * root + alpha, "l0": term.get("beta", 20.0)}
    return (
        2 * w.double().abs()
        if term["name"] == "l2"
        else torch.full(w.shape, largest[term["name"]], dtype=torch.float64)
    )


@settings(derandomize=True, deadline=None, max_examples=300)
@given(tensors(), st.sampled_from(PENALTIES), st.sampled_from((1e-6, 0.3)))
def test_values_and_gradients_are_finite_and_bounded(w, term, lam):
    w = w.requires_grad_()
    w.grad = torch.zeros_like(w)
    value, add_gradient_, _ = reg.bind(term | {"lam": lam}, [w])
    assert value().isfinite()
    add_gradient_()
    closed, w.grad = w.grad.double(), None
    value().backward()
    slack = 1 + 8 * torch.finfo(w.dtype).eps
    limit = lam * bound(term, w.detach()) * slack + torch.finfo(w.dtype).tiny
    assert (closed.abs() <= limit).all() and (w.grad.double().abs() <= limit).all()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(tensors(), st.sampled_from([t for t in PENALTIES if t["name"] in ("gl", "sgl")]))
def test_a_units_gradient_is_no_longer_than_its_subgradient(w, term):
    """√(group size)·‖direction‖ ≤ √(group size), whatever is lost where squares are small or large."""
    w = w.requires_grad_()
    w.grad = torch.zeros_like(w)
    term = term | {"lam": 1.0, "rescale": False}
    reg.bind(term, [w])[1]()
    alpha, group = term.get("alpha", 0.1) if term["name"] == "sgl" else 0.0, w[:, :1].numel()
    limit = ((1 - alpha) + alpha) * math.sqrt(group) * (1 + 8 * torch.finfo(w.dtype).eps)
    assert (w.grad.double().transpose(0, 1).flatten(1).norm(dim=1) <= limit).all()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    tensors(),
    st.sampled_from([t for t in PENALTIES if reg.PENALTIES[t["name"]][2]]),
    st.sampled_from((0.0, 1e-30, 1e-3, 1e5, 1e30)),
)
def test_proximal_steps_are_finite_and_only_shrink(w, term, step):
    x = w.clone()
    reg.bind(term | {"lam": 1.0, "prox": True}, [x])[2](step)
    assert x.isfinite().all() and (x.abs() <= w.abs()).all() and (x * w.sign() >= 0).all()
    if step >= 1e5 and w.double().abs().sum() < 1e4 and not term.get("partial"):
        assert not x.any(), "all is less than the step"


def test_functions_called_by_themselves_are_finite():
    for value in (reg.l1, reg.l2, reg.group_lasso, reg.sparse_group_lasso, reg.l0):
        for size in (1e-45, 1e-30, 1e30, 3e38):
            assert value([torch.full((3, 4), size)] * 3).isfinite()
    half = torch.full((100, 100), 30.0, dtype=torch.float16)  # whose sum and squares are beyond half floats
    assert reg.l1([half]).item() == 3e5 and reg.l2([half]).item() == 9e6
    assert reg.group_lasso([half]).item() == 10 * 100 * 300


def test_directions_of_half_floats_are_those_of_float32():
    torch.manual_seed(0)
    for size in (1e-3, 1.0, 100.0):
        w = size * torch.randn(50, 20)
        for dtype in (torch.float16, torch.bfloat16):
            half, gradients = w.to(dtype), []
            for t in (half, half.float()):
                t.grad = torch.zeros_like(t)
                reg.bind({"name": "sgl", "lam": 0.1}, [t])[1]()
                gradients.append(t.grad.float())
            torch.testing.assert_close(*gradients, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(tensors(), tensors(), st.floats(0, 0.99))
def test_masks_take_the_smallest_of_all_sizes(a, b, sparsity):
    net = torch.nn.ModuleList(torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    for layer, w in zip(net, (a, b), strict=True):
        layer.weight = torch.nn.Parameter(w)
    for scope in ("global", "layer"):
        masks = pruning.magnitude(net, sparsity, scope=scope)
        pairs = list(zip((a, b), masks.values(), strict=True))
        for one in [pairs] if scope == "global" else [[pair] for pair in pairs]:
            gone = torch.cat([w[~mask].abs().double() for w, mask in one])
            kept = torch.cat([w[mask].abs().double() for w, mask in one])
            of = len(gone) + len(kept)
            assert len(gone) == max(0, min(int(round(sparsity * of, 6)), of - 1)), "0.29 · 100 is 28.999999999999996"
            assert not len(gone) or not len(kept) or gone.max() <= kept.min()
        assert [m.sum() for m in pruning.random(net, sparsity, scope=scope).values()] == [m.sum() for _, m in pairs]
    pruning.apply(net, masks)
    hook = pruning.GradualMagnitude(net, steps=2, final=sparsity, every=1)
    for step in range(2):
        hook(net, step)
        assert all(layer.weight.isfinite().all() for layer in net)


ZEROING = [
    {"scale": 1e-30},
    {"scale": 1e300},
    {"target": 0.6},
    {"target": 0.6, "q": 1, "every": 3},
    {"target": 0.6, "scope": "global"},
    {"target": 0.6, "by": "chance"},
    {"target": 0.6, "by": "rank"},
]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(tensors(), st.sampled_from(ZEROING))
def test_zeroing_takes_or_leaves_whatever_the_size(w, options):
    net = torch.nn.Linear(1, 1, bias=False)
    net.weight = torch.nn.Parameter(w.clone())
    hook = pruning.StochasticZeroing(net, steps=8, ramp=0.25, **options)
    for step in range(8):
        hook(net, step)
        assert ((net.weight == w) | (net.weight == 0)).all() and math.isfinite(hook.s["weight"])
    if options.get("scale") == 1e300 and w.dtype != torch.float64:
        assert not net.weight.any(), "all are small"


def test_a_target_is_met_at_every_size():
    for dtype, sizes in {torch.float16: (1e-4, 1.0, 1e3), torch.float32: (1e-35, 1e-20, 1.0, 1e25, 1e37)}.items():
        for size in sizes:
            for q in (1, 2):
                torch.manual_seed(0)
                net = torch.nn.Linear(1, 1, bias=False)
                net.weight = torch.nn.Parameter((size * torch.randn(200, 100).clamp(-6, 6)).to(dtype))
                hook = pruning.StochasticZeroing(net, steps=4, ramp=0.25, freeze=1.0, target=0.7, q=q)
                hook(net, 1)
                share = (net.weight == 0).double().mean().item()
                assert abs(share - 0.7) < 0.03, (dtype, size, q)

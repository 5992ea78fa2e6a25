"""Every penalty against the authors' own functions, against autograd, and against its definition."""

import copy
import json
import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import models
from lib import regularizers as reg

REFERENCE = json.loads((Path(__file__).parent / "reference" / "authors_penalties.json").read_text())
CASES = [(case, name) for case in REFERENCE["cases"] for name in case["penalties"]]


def authors_weights(case):
    """The closed-form weights of the reference, transposed to torch layout."""
    weights = []
    for layer, (n_in, n_out) in enumerate(case["shapes_in_out"]):
        k = torch.arange(n_in * n_out, dtype=torch.float64)
        w = case["scale"] * torch.sin(0.37 * k + case["phase"] + layer) * torch.exp(-0.9 * torch.sin(0.11 * k).abs())
        w = w.view(n_in, n_out)
        if n_in > 2:
            w[1::5] *= 1e-5
        weights.append(w.t().float().contiguous().requires_grad_())
    return weights


def authors_penalty(name):
    """The plain data of a penalty that the reference names (P2's per-layer functions, before the layer factor)."""
    if name.startswith("l2l0"):
        option = dict(pair.split("=") for pair in name[5:-1].split(","))
        return [
            {"name": "l0", "lam": float(option["alpha_l0"]), "beta": float(option["beta"])},
            {"name": "l2", "lam": float(option["alpha_l2"])},
        ]
    kind, extent = name.rsplit("_", 1)
    penalty = {"name": {"group_lasso": "gl", "sparse_group_lasso": "sgl"}[kind], "lam": 1.0}
    return penalty | ({"partial": 8} if extent == "partial" else {})


@pytest.mark.parametrize("case, name", CASES, ids=lambda v: v if isinstance(v, str) else len(v["shapes_in_out"]))
def test_value_and_gradient_equal_the_authors(case, name):
    ws, expected = authors_weights(case), case["penalties"][name]
    value, add_gradient_, _ = reg.bind(authors_penalty(name), ws)
    assert value().item() == pytest.approx(expected["value"], rel=1e-4)
    for w in ws:
        w.grad = torch.zeros_like(w)
    add_gradient_()
    for layer, w in enumerate(ws):
        norm = expected["grad_l2_norm_per_layer"][layer]
        assert w.grad.norm().item() == pytest.approx(norm, rel=1e-4)
        # a sum of signed numbers cancels: its error is relative to the norm that goes into it
        assert w.grad.sum().item() == pytest.approx(expected["grad_sum_per_layer"][layer], rel=1e-4, abs=1e-4 * norm)
        assert w.grad[:, -1].norm().item() == pytest.approx(
            expected["grad_last_row_norm_per_layer"][layer], rel=1e-4, abs=1e-12
        )


PROXIMAL = sorted(name for name in reg.PENALTIES if reg.PENALTIES[name][2])
PENALTIES = [  # of each penalty one with every parameter of its own
    {"name": "l1", "lam": 0.3},
    {"name": "l2", "lam": 0.3},
    {"name": "gl", "lam": 0.3},
    {"name": "sgl", "lam": 0.3, "alpha": 0.25},
    {"name": "sgl", "lam": 0.3, "layer_weights": [0.1, 0.2, 0.3, 0.4]},
    *({"name": "l0", "lam": 0.3, "beta": 5.0, "surrogate": s, "layer_rule": "sqrt"} for s in reg.SURROGATES),
    [{"name": "l0", "lam": 0.3, "layer_rule": "inverse"}, {"name": "l2", "lam": 0.1, "layer_rule": "inverse"}],
]


@pytest.mark.parametrize("partial", [None, 2, 8])
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_closed_form_equals_autograd(penalty, partial):
    torch.manual_seed(0)
    ws = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in ((6, 9), (5, 1), (4, 8, 3, 3), (8, 2, 1, 1))]
    terms = [t | {"partial": partial} for t in ([penalty] if isinstance(penalty, dict) else penalty)]
    value, add_gradient_, _ = reg.bind(terms, ws)
    expected = torch.autograd.grad(value(), ws)
    for w in ws:
        w.grad = torch.ones_like(w)
    add_gradient_()
    for w, e in zip(ws, expected, strict=True):
        torch.testing.assert_close(w.grad - 1, e, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", reg.PENALTIES)
def test_zero_weights_give_zero_finite_gradients(name):
    w = torch.zeros(4, 6, requires_grad=True)
    w.grad = torch.zeros_like(w)
    reg.bind({"name": name, "lam": 1.0}, [w])[1]()
    assert torch.equal(w.grad, torch.zeros(4, 6))


def test_partial_frees_the_last_units_and_returns_views():
    w = torch.randn(3, 17)
    (selected,) = reg.partial([w], 8)
    assert selected.shape == (3, 15) and selected.data_ptr() == w.data_ptr()
    (scalar_input,) = reg.partial([torch.randn(16, 1)], 8)
    assert scalar_input.shape == (14, 1)
    (small,) = reg.partial([torch.randn(5, 7)], 8)
    assert small.shape == (5, 7), "no unit to free: partial equals full"
    with pytest.raises(ValueError, match=r"beta must be in \(1, inf\)"):
        reg.partial([w], 1)


def test_permuting_hidden_units_leaves_the_full_penalty_alone():
    a, b = torch.randn(6, 4, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    order = torch.randperm(6)
    for value in (reg.group_lasso, reg.sparse_group_lasso, reg.l1, reg.l2, reg.l0):
        assert value([a, b]).item() == pytest.approx(value([a[order], b[:, order]]).item(), rel=1e-12)


def test_layer_rules():
    ws = [torch.ones(4, 9), torch.ones(2, 2), torch.ones(2, 3, 3, 3)]
    assert reg.layer_factors(ws, "sqrt") == pytest.approx([1, 1 / 3, 1]), "the largest of its own kind is the unit"
    assert reg.layer_factors(ws, "inverse") == pytest.approx([94 / 3 / 36, 94 / 3 / 4, 94 / 3 / 54])
    assert reg.layer_factors(ws, "none", [1, 2, 3]) == [1, 2, 3]
    with pytest.raises(ValueError, match="layer_weights has 2 entries for 3 weight tensors"):
        reg.layer_factors(ws, "none", [1, 2])


def test_behind_a_flatten_a_group_is_a_channel():
    """LeNet-5's third layer reads 50 channels of 16 positions; a depthwise filter is its channel's group."""
    for name, layer, group in (("lenet5", 2, lambda w: w[:, 16:32]), ("mobilenetv2", 1, lambda w: w[1])):
        torch.manual_seed(0)
        net = (
            models.build(name, widths=[max(2, n // 8) for n in models.widths(name)]) if name == "mobilenetv2" else None
        )
        net = net or models.build(name)
        ws, views = list(models.weights(net).values()), models.unit_views(net)
        for w in ws:
            w.grad = torch.zeros_like(w)
        reg.bind({"name": "gl", "lam": 1.0}, ws, views=views)[1]()
        w, g = group(ws[layer].detach()), group(ws[layer].grad)
        torch.testing.assert_close(g, math.sqrt(w.numel()) * w / w.norm())


@pytest.mark.parametrize("wrap", [lambda n: torch.nn.Sequential(torch.nn.Identity(), n), torch.compile])
def test_behind_a_flatten_a_group_is_a_channel_in_a_wrapped_network_too(wrap):
    net = models.build("lenet5", widths=[4, 6, 8])
    shapes = [[view(w).shape for view, w in zip(models.unit_views(n), models.weights(n).values(), strict=True)]
              for n in (net, wrap(net))]  # fmt: skip
    assert shapes[0] == shapes[1] and shapes[0][2] == (8, 6, 16)


def test_rescale_multiplies_only_the_partial_penalty():
    w = [torch.randn(4, 16)]
    plain = reg.bind({"name": "gl", "lam": 1.0, "partial": 8}, w)[0]()
    assert reg.bind({"name": "gl", "lam": 1.0, "partial": 8, "rescale": True}, w)[0]() == pytest.approx(plain * 8 / 7)
    full = reg.bind({"name": "gl", "lam": 1.0}, w)[0]()
    assert reg.bind({"name": "gl", "lam": 1.0, "rescale": True}, w)[0]() == pytest.approx(full)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(PROXIMAL), st.floats(0.01, 2.0), st.sampled_from([None, 2, 4]), st.integers(0, 10**6))
def test_prox_minimises_its_objective(name, step, partial, seed):
    """prox(v) = argmin_x ½‖x−v‖² + step·penalty(x): no nearby point is better, and the free block is untouched."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(3, 8, dtype=torch.float64, generator=generator)
    x = v.clone()
    value, _, prox_ = reg.bind({"name": name, "lam": 1.0, "partial": partial, "prox": True}, [x])
    prox_(step)

    def objective():
        return 0.5 * (x - v).square().sum() + step * value()

    best, minimum = objective(), x.clone()
    for scale in (1e-3, 1e-2, 1e-1, 1.0):
        for _ in range(8):
            x.copy_(minimum + scale * torch.randn(v.shape, dtype=torch.float64, generator=generator))
            assert objective() >= best - 1e-12
    if partial:
        free = 8 // partial
        assert torch.equal(minimum[:, -free:], v[:, -free:])


def test_prox_reaches_exact_zeros():
    assert {"gl", "l1", "sgl"} <= set(PROXIMAL), "none is lost, and with it its tests"
    w = torch.full((4, 3), 0.01)
    reg.bind({"name": "gl", "lam": 1.0, "prox": True}, [w])[2](1.0)
    assert torch.equal(w, torch.zeros(4, 3))


@pytest.mark.parametrize(
    "penalty, message",
    [
        ({"name": "lasso", "lam": 1.0}, "unknown penalty 'lasso'; known: gl, l0, l1, l2, sgl"),
        ({"name": "gl", "lam": 1.0, "beta": 8}, "no parameter 'beta'; known: name, lam, partial"),
        ({"name": "gl", "lam": -1.0}, "penalty 'gl': lam must be in [0, 1e30], got -1.0"),
        ({"name": "gl", "lam": math.nan}, "lam must be in [0, 1e30], got nan"),
        ({"name": "l0", "lam": 1.0, "surrogate": "tanh"}, "unknown surrogate 'tanh'; known: exp, linear, rational"),
        ({"name": "gl", "lam": 1.0, "layer_rule": "half"}, "unknown layer_rule 'half'; known: none, sqrt, inverse"),
        ({"name": "gl", "lam": 1.0, "partial": 1}, "penalty 'gl': partial must be in (1, inf), got 1"),
        ({"name": "gl", "lam": True}, "lam must be in [0, 1e30], got True"),
        ({"name": "gl"}, "lam must be in [0, 1e30], got None"),
        ({"name": "gl", "lam": "1e-4"}, "lam must be in [0, 1e30], got '1e-4'"),
        ({"name": "gl", "lam": 1.0, "partial": True}, "partial must be in (1, inf), got True"),
        ({"name": "gl", "lam": 1.0, "rescale": 1}, "rescale must be True or False, got 1"),
        ({"name": "gl", "lam": 1.0, "prox": "yes"}, "prox must be True or False, got 'yes'"),
        ({"name": "sgl", "lam": 1.0, "alpha": 2.0}, "penalty 'sgl': alpha must be in [0, 1], got 2.0"),
        ({"name": "sgl", "lam": 1.0, "alpha": math.nan}, "alpha must be in [0, 1], got nan"),
        ({"name": "sgl", "lam": 1.0, "alpha": None}, "alpha must be in [0, 1], got None"),
        ({"name": "l0", "lam": 1.0, "beta": -20.0}, "penalty 'l0': beta must be in (0, 1e8], got -20.0"),
        ({"name": "l0", "lam": 1.0, "beta": math.inf}, "beta must be in (0, 1e8], got inf"),
        ({"name": "gl", "lam": 1.0, "layer_weights": [1.0, 2.0]}, "layer_weights has 2 entries for 1 weight tensors"),
        ({"name": "gl", "lam": 1.0, "layer_weights": [-1.0]}, "each of layer_weights must be in [0, 1e30], got -1.0"),
        ({"name": "gl", "lam": 1.0, "layer_weights": 2.0}, "layer_weights must be a list of numbers in [0, 1e30]"),
        ("gl", "a penalty is a dict, {'name': 'gl', 'lam': 1e-4}, a list of them or None, got 'gl'"),
        ([["gl", 1.0]], "a list of them or None, got"),
        ({"name": "l1", "lam": 1e38, "prox": True}, "penalty 'l1': lam must be in [0, 1e30], got 1e+38"),
        (
            {"name": "sgl", "lam": 1.0, "layer_weights": [1e300]},
            "each of layer_weights must be in [0, 1e30], got 1e+300",
        ),
        ({"name": "l2", "lam": 1e20, "layer_weights": [1e20]}, "penalty 'l2': lam = 1e+20 is 1e+40 with rescale"),
        ({"name": "gl", "lam": 1.0, "norms": True}, "penalty 'gl' does not know batch norms; known: l1, l2"),
    ],
)
def test_wrong_input_names_the_thing_and_the_remedy(penalty, message):
    w = torch.ones(2, 2, requires_grad=True)
    w.grad = torch.zeros_like(w)
    with pytest.raises(ValueError, match=re.escape(message)):
        reg.bind(penalty, [w])[1]()


@pytest.mark.parametrize("name", PROXIMAL)
@pytest.mark.parametrize("step", [1.0, 1e30, 1e300])
def test_a_proximal_step_of_any_size_takes_everything(name, step):
    w = torch.ones(2, 2)
    reg.bind({"name": name, "lam": 1e30, "prox": True}, [w])[2](step)
    assert not w.any()
    with pytest.raises(ValueError, match=r"scales must be in .* got 1e\+39"):
        getattr(reg, reg.PENALTIES[name][2].__name__)([w], [1e39])


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_norms_are_penalised_where_a_term_says_so(name):
    """Value and gradient by hand, of two terms of which one looks at the batch norm."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.Flatten(), torch.nn.Linear(5, 2)
    )
    (scale, shift), ws = models.norms(net), [net[0].weight, net[3].weight]
    torch.nn.init.normal_(scale)
    torch.nn.init.normal_(shift)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    of = {"l1": torch.abs, "l2": torch.square}[name]
    terms = [{"name": name, "lam": 0.3, "norms": True}, {"name": "l2", "lam": 0.1}]
    value, add_gradient_, _ = reg.bind(terms, ws, norms=models.norms(net))
    expected = 0.3 * sum(of(t).sum() for t in (*ws, scale, shift)) + 0.1 * sum(w.square().sum() for w in ws)
    assert value().item() == pytest.approx(expected.item(), rel=1e-5)
    add_gradient_()
    for t, wanted in zip((*ws, scale, shift), torch.autograd.grad(expected, (*ws, scale, shift)), strict=True):
        torch.testing.assert_close(t.grad, wanted)
    assert not net[0].bias.grad.any()


def test_l2_has_no_prox():
    with pytest.raises(ValueError, match="'l2' has no proximal operator"):
        reg.bind({"name": "l2", "lam": 1.0, "prox": True}, [torch.ones(2, 2)])


def frozen_and_unused(penalty, **options):
    """Three tensors of which one is frozen and one has no gradient, after a gradient and a proximal step of 0.1."""
    torch.manual_seed(0)
    ws = [torch.nn.Parameter(torch.randn(4, 5)) for _ in range(3)]
    ws[0].requires_grad_(False)
    ws[1].grad = torch.zeros_like(ws[1])
    _, add_gradient_, prox_ = reg.bind(penalty, ws, **options)
    before = [w.detach().clone() for w in ws]
    add_gradient_()
    prox_(0.1)
    return ws, before


@pytest.mark.parametrize("autograd", [False, True])
@pytest.mark.parametrize("penalty", PENALTIES[:4] + PENALTIES[5:], ids=str)
def test_frozen_and_unused_layers_stay_and_have_no_gradient(penalty, autograd):
    ws, _ = frozen_and_unused(penalty, autograd=autograd)
    assert ws[0].grad is None and ws[2].grad is None and ws[1].grad.any()


@pytest.mark.parametrize("name", PROXIMAL)
def test_proximal_steps_leave_frozen_and_unused_layers_alone(name):
    ws, before = frozen_and_unused({"name": name, "lam": 1.0, "prox": True})
    assert torch.equal(ws[0], before[0]) and torch.equal(ws[2], before[2]) and not torch.equal(ws[1], before[1])


def test_layer_options_count_the_frozen_layers_too():
    """`layer_weights` has an entry for every weight tensor, whatever of it is trained."""
    w, _ = frozen_and_unused({"name": "l1", "lam": 1.0, "layer_weights": [5.0, 2.0, 7.0]})
    assert w[1].grad.abs().unique().tolist() == [2.0]


@pytest.mark.parametrize("name", ["gl", "sgl", "l1"])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("kind", [torch.nn.Conv2d, torch.nn.ConvTranspose2d])
def test_groups_of_grouped_and_transposed_convolutions(name, groups, kind):
    """Closed form, autograd and proximal step, in the layer's own layout, against each channel's group by hand."""
    layer = kind(6, 12, 3, groups=groups).to(memory_format=torch.channels_last)
    w, kept = layer.weight, 12 // groups

    def unit(c, t):
        part = c // (6 // groups)
        return t[c] if kind is torch.nn.ConvTranspose2d else t[part * kept : (part + 1) * kept, c % (6 // groups)]

    expected, shrunk = torch.zeros_like(w), w.detach().clone()
    alpha = {"gl": 0.0, "sgl": 0.1, "l1": 1.0}[name]
    for c in range(6):
        group = unit(c, w.detach())
        root = math.sqrt(group.numel())
        unit(c, expected).copy_((1 - alpha) * root * group / group.norm() + alpha * group.sign())
        soft = group.sign() * (group.abs() - 0.02 * alpha).clamp(min=0)
        unit(c, shrunk).copy_(soft * (1 - 0.02 * (1 - alpha) * root / soft.norm()).clamp(min=0))
    for autograd in (False, True):
        w.grad = torch.zeros_like(w)
        reg.bind({"name": name, "lam": 1.0}, [w], views=models.unit_views(layer), autograd=autograd)[1]()
        torch.testing.assert_close(w.grad, expected)
    reg.bind({"name": name, "lam": 1.0, "prox": True}, [w], views=models.unit_views(layer))[2](0.02)
    torch.testing.assert_close(w.detach(), shrunk)


@pytest.mark.parametrize("groups", [1, 2])
def test_weights_that_are_given_other_data_are_penalised(groups):
    """`p.data = p.data.clamp(-1, 1)` puts the numbers elsewhere."""
    layer = torch.nn.Conv2d(6, 12, 3, groups=groups)
    w, expected = layer.weight, copy.deepcopy(layer.weight)
    terms = [{"name": "gl", "lam": 1.0}, {"name": "sgl", "lam": 1.0, "prox": True}]
    bound = [reg.bind(terms, [t], views=models.unit_views(layer)) for t in (w, expected)]
    w.data = w.data.clamp(-0.1, 0.1)
    expected.data.clamp_(-0.1, 0.1)
    for t, (_, add_gradient_, prox_) in zip((w, expected), bound, strict=True):
        t.grad = torch.zeros_like(t)
        add_gradient_()
        prox_(0.02)
    assert torch.equal(w, expected) and torch.equal(w.grad, expected.grad)


def test_a_penalty_before_the_first_backward_pass_is_warned_of_and_one_of_a_part_of_a_tensor_stays_there():
    w = torch.nn.Parameter(torch.ones(3, 2))
    _, add_gradient_, _ = reg.bind({"name": "l2", "lam": 1.0}, [w])
    with pytest.warns(UserWarning, match="no weight has a gradient, so the penalty adds nothing"):
        add_gradient_()
    w.sum().backward()
    add_gradient_()
    assert torch.equal(w.grad, torch.full((3, 2), 3.0))
    reg.bind({"name": "l2", "lam": 1.0}, [w], views=[lambda t: t[:, 1:]])[1]()
    assert torch.equal(w.grad, torch.tensor([[3.0, 5.0]] * 3))


def test_a_call_in_inference_mode_leaves_later_ones_alone():
    w = torch.ones(1000, 900)  # larger than any before
    with torch.inference_mode():
        reg.prox_group_lasso_([torch.ones_like(w)], [0.1])
    reg.group_lasso_grad_([w], [torch.zeros_like(w)], [1.0])


def test_a_penalty_without_weights_is_refused():
    with pytest.raises(ValueError, match="needs weights and was given none; see lib.models.weights"):
        reg.bind({"name": "gl", "lam": 1.0}, [])
    assert reg.bind(None, [])[0]() == 0


def test_norms_that_a_term_acts_on_have_to_be_given():
    penalty, w = {"name": "l2", "lam": 1.0, "norms": True}, torch.ones(2, 2)
    with pytest.raises(ValueError, match=r"give them as norms=lib\.models\.norms\(net\)"):
        reg.bind(penalty, [w])
    assert reg.bind(penalty, [w], norms=[])[0]() == 4


def test_autograd_finds_the_gradient_within_no_grad_too():
    w = torch.ones(2, 2, requires_grad=True)
    w.grad = torch.zeros_like(w)
    with torch.no_grad():
        reg.bind({"name": "l1", "lam": 1.0}, [w], autograd=True)[1]()
    assert (w.grad == 1).all()


@pytest.mark.parametrize("step", [-0.1, math.nan, math.inf])
def test_a_proximal_step_is_a_learning_rate(step):
    w = torch.ones(2, 2)
    with pytest.raises(ValueError, match="a proximal step takes the learning rate"):
        reg.bind({"name": "l1", "lam": 1.0, "prox": True}, [w])[2](step)
    assert (w == 1).all()

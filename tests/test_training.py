"""The loop: it learns, resumes to the bit, says when it diverged, and its closed-form penalty is the autograd one."""

import contextlib
import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import linear_model
from torch import nn

from lib import data, models, pruning, regularizers, training
from lib.training import augmentation, losses, schedules, speed
from lib.training.step import Batches


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def mlp(widths=(32,), **options):
    torch.manual_seed(0)
    return models.build("mlp", widths=list(widths), inputs=64, outputs=10, **options)


def test_classification_learns(digits):
    net = mlp()
    history = training.fit(net, digits, steps=400, batch=64)
    assert history.status == "done" and history.curves["loss"][-1] < 0.25 < history.curves["loss"][0]
    assert (training.predict(net, digits.test.x).argmax(1) == digits.test.y).float().mean() > 0.93


def test_regression_learns():
    table = data.load("diabetes")
    torch.manual_seed(0)
    net = models.build("mlp", widths=[16], inputs=table.train.x.shape[1], outputs=1)
    training.fit(net, table, steps=300, loss="mse", batch=64)
    residual = training.predict(net, table.test.x) - table.test.y
    assert residual.square().mean() < 0.75 * table.test.y.var()


def test_segmentation_learns():
    cells = data.load("cells", size=40)
    part = data.Part(cells.train.x, (cells.train.y > 0).long())
    torch.manual_seed(0)
    net = models.build("unet", widths=[max(2, w // 16) for w in models.widths("unet")], inputs=1, outputs=2)
    with torch.no_grad():
        before = training.LOSSES["cross_entropy"](training.predict(net, part.x), part.y)
    training.fit(net, dataclasses.replace(cells, train=part), steps=30, batch=8)
    after = training.LOSSES["cross_entropy"](training.predict(net, part.x), part.y)
    assert after < 0.7 * before


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 3)])
@pytest.mark.parametrize(("size", "padding"), [((3, 3), (1, 1)), ((3, 2), (0, 1)), ((1, 1), (0, 0)), ((2, 2), (1, 1))])
def test_products_are_the_convolution(size, padding, stride):
    """Also their gradients, and the gradients of these."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, *size, dtype=torch.float64, requires_grad=True)

    def products(x, weight):
        return speed.Products.apply(x, weight, stride, padding)

    torch.testing.assert_close(products(x, weight), torch.nn.functional.conv2d(x, weight, None, stride, padding))
    assert torch.autograd.gradcheck(products, (x, weight)) and torch.autograd.gradgradcheck(products, (x, weight))


@pytest.mark.parametrize(("precision", "side", "options", "taken"), [
    ("bf16", 4, {"padding": 1}, 1), ("bf16", 4, {"padding": 1, "bias": False}, 1), ("bf16", 2, {"padding": "same"}, 0),
    ("bf16", 5, {"padding": 1}, 0), ("bf16", 8, {"stride": 2, "padding": 1}, 1),
    ("bf16", 4, {"dilation": 2, "padding": 2}, 0),
    ("bf16", 4, {"padding": 3}, 0), ("bf16", 4, {"groups": 2, "padding": 1}, 0), ("fp32", 4, {"padding": 1}, 0),
    ("bf16", 4, {"padding": (1,)}, 1),
])  # fmt: skip
def test_wide_convolutions_of_small_images_are_products(monkeypatch, precision, side, options, taken):
    """In training and in bf16 only; the outputs are the same up to rounding, and no other convolution is touched."""
    net = torch.nn.Sequential(torch.nn.Conv2d(256, 256, 3, **options), torch.nn.Flatten(1), torch.nn.LazyLinear(3))
    x, calls, products = torch.randn(8, 256, side, side), [], speed.Products.apply
    monkeypatch.setattr(speed.Products, "apply", lambda *given: (calls.append(1), products(*given))[1])
    with speed.autocast(precision, "cpu"):
        expected = net(x)
        with speed.convolutions(net):
            outputs = net(x)
    assert len(calls) == taken and outputs.dtype == expected.dtype
    torch.testing.assert_close(outputs, expected, rtol=0.03, atol=0.01)
    training.fit(net, (x, torch.arange(8) % 3), steps=1, batch=8, precision=precision)
    assert len(calls) == 2 * taken
    with speed.autocast(precision, "cpu"), speed.convolutions(net):
        assert net.double()[0](x.double()).dtype == torch.float64, "which autocast leaves alone"


@pytest.mark.parametrize(("kernel", "stride", "padding", "side"), [
    (3, 2, 1, 8), (3, 2, 1, 7), (5, (2, 3), 2, 9), (3, (1, 2), 0, 6), (2, 2, 0, 8),
])  # fmt: skip
def test_depthwise_convolutions_with_a_stride_are_thinned_out(kernel, stride, padding, side):
    """The same outputs and gradients in bf16, up to rounding, at the places that the stride keeps."""
    net = torch.nn.Conv2d(6, 6, kernel, stride, padding, groups=6)
    found = []
    for way in (speed.convolutions(net), contextlib.nullcontext()):
        x = torch.randn(3, 6, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with speed.autocast("bf16", "cpu"), way:
            outputs = net(x)
        outputs.float().square().sum().backward()
        found.append([outputs.float(), x.grad, net.weight.grad.clone(), net.bias.grad.clone()])
        net.zero_grad()
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected, rtol=0.03, atol=0.03 * expected.abs().max().item())


def test_denormals_count_as_0_where_outputs_are_predicted():
    net, x = torch.nn.Linear(1, 1, bias=False), torch.ones(3, 1)
    torch.nn.init.constant_(net.weight, 1e-39)
    assert not training.predict(net, x).any() and net(x).all(), "and only there"
    torch.set_flush_denormal(True)
    try:
        training.predict(net, x)
        assert not net(x).any(), "what was set before stays set"
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("penalty", [{"name": "sgl", "lam": 1e-3, "partial": 4}, {"name": "l0", "lam": 1e-4}])
def test_closed_penalty_trains_like_the_recorded_one(digits, penalty):
    nets = []
    for autograd_penalty in (False, True):
        net = mlp()
        options = {"penalty": penalty, "precision": "fp32", "autograd_penalty": autograd_penalty}
        training.fit(net, digits, steps=20, optimizer={"name": "sgd", "lr": 0.1}, **options)
        nets.append(net)
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_inputs_cast_ahead_change_nothing(digits):
    """A bf16 step by hand, inputs in fp32, against the loop's, which casts the whole part once."""
    nets = [mlp(), mlp()]
    step = training.Trainer(nets[0], digits.train, training.Options(precision="bf16", order="sequence", batch=100))
    optimizer = torch.optim.Adam(nets[1].parameters(), fused=True)
    for k in range(3):
        step(k)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = nets[1](digits.train.x[100 * k : 100 * k + 100])
        training.LOSSES["cross_entropy"](outputs.float(), digits.train.y[100 * k : 100 * k + 100]).backward()
        optimizer.step()
        optimizer.zero_grad()
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(a, b)


def test_lean_adam_is_torch_adam(digits):
    nets = [mlp(), mlp()]
    optimizers = [torch.optim.Adam(net.parameters(), fused=True, weight_decay=0.01) for net in nets]
    updates = [speed.lean(optimizers[0]), optimizers[1].step]
    for k in range(6):
        if k == 3:  # as after a resume
            optimizers[0].load_state_dict(optimizers[0].state_dict())
        for net, optimizer, update in zip(nets, optimizers, updates, strict=True):
            optimizer.param_groups[0]["lr"] = 0.01 / (k + 1)
            optimizer.zero_grad()
            training.LOSSES["cross_entropy"](net(digits.train.x[:50]), digits.train.y[:50]).backward()
            update()
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(a, b)


def test_momentum_begins_where_a_layer_has_its_first_gradient(digits):
    """A layer that a hook sets free, and one that every second pass runs; as in torch's own loop."""

    class Late(torch.nn.Sequential):
        passes = 0

        def forward(self, x):
            self.passes += 1
            return self[0](x) + (self[1](x) if self.passes % 2 == 0 else 0) + self[2](x)

    def free(model, step):
        model[2].requires_grad_(step >= 3)

    torch.manual_seed(0)
    nets = [Late(*(torch.nn.Linear(64, 10) for _ in range(3))) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net in nets:
        net[2].requires_grad_(False)
    x, y, sgd = digits.train.x[:50].flatten(1), digits.train.y[:50], {"lr": 0.1, "momentum": 0.9}
    training.fit(nets[0], (x, y), steps=9, after_step=[free], optimizer={"name": "sgd"} | sgd, precision="fp32")
    optimizer = torch.optim.SGD(nets[1].parameters(), **sgd)
    for k in range(9):
        optimizer.zero_grad()
        training.LOSSES["cross_entropy"](nets[1](x), y).backward()
        optimizer.step()
        free(nets[1], k)
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("penalty", [{"name": "sgl", "lam": 1e-3, "partial": 4}, {"name": "l0", "lam": 1e-4}])
def test_compiled_penalty_is_the_penalty(penalty):
    """Where there is no compiler the function itself comes back, which is right, too."""
    torch.manual_seed(0)
    ws = [torch.randn(20, 33, requires_grad=True), torch.randn(5, 20, requires_grad=True)]
    results = []
    for transform in (None, training.compiled):
        function = regularizers.bind(penalty, ws, transform=transform)[1]
        for w in ws:
            w.grad = torch.ones_like(w)
        function()
        results.append([w.grad for w in ws])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_failing_compiler_is_survived(monkeypatch, capsys):
    def broken():
        raise RuntimeError("no compiler after all")

    calls = []
    monkeypatch.setattr(speed.shutil, "which", lambda name: "/bin/false")
    monkeypatch.setattr(torch, "compile", lambda function: broken)
    call = training.compiled(lambda: calls.append(1))
    call()
    call()
    assert calls == [1, 1] and capsys.readouterr().out.count("runs uncompiled") == 1


class Counter:
    """A hook with a state: it draws random numbers and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, model, step):
        self.calls += 1
        with torch.no_grad():
            for w in models.weights(model).values():
                w.mul_(torch.rand_like(w) > 0.001)

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


@pytest.mark.parametrize("optimizer", [{"name": "adam"}, {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}])
@pytest.mark.parametrize("cut", [1, 37, 59])
def test_resumed_equals_uninterrupted_to_the_bit(digits, tmp_path, optimizer, cut):
    common = {"steps": 60, "optimizer": optimizer, "schedule": "cosine", "penalty": {"name": "gl", "lam": 1e-3}}
    torch.manual_seed(1)
    whole, hook = mlp(), Counter()
    first = training.fit(whole, digits, after_step=[hook], **common)

    torch.manual_seed(1)
    file = tmp_path / "checkpoint.pt"
    cut_short = training.fit(
        mlp(), digits, after_step=[Counter()], until=cut, checkpoint=file, checkpoint_seconds=0, **common
    )
    assert cut_short.status == "stopped" and cut_short.step == cut
    torch.manual_seed(99)  # a new process has another random state
    resumed, again = mlp(), Counter()
    second = training.fit(resumed, digits, after_step=[again], checkpoint=file, **common)

    assert again.calls == hook.calls == 60
    assert [p for p in second.curves["step"] if p != cut] == [p for p in first.curves["step"] if p != cut]
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_does_not_wait_for_the_end_of_an_epoch(digits, tmp_path):
    """An epoch of a large network takes minutes; this one has eight steps."""
    kill, seen = {}, []

    def hook(model, step):
        seen.append(step)
        if step == kill.get("at"):
            raise KeyboardInterrupt

    options = {"steps": 20, "log_points": 1, "after_step": [hook], "checkpoint_seconds": 0}
    whole, cut, resumed = mlp(), mlp(), mlp()
    first = training.fit(whole, digits, **options)
    kill["at"] = 5
    with pytest.raises(KeyboardInterrupt):
        training.fit(cut, digits, checkpoint=tmp_path / "0.pt", **options)
    kill.clear()
    seen.clear()
    second = training.fit(resumed, digits, checkpoint=tmp_path / "0.pt", **options)
    assert seen == list(range(5, 20)) and second.curves == first.curves
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_damaged_checkpoint_is_said_and_kept_aside(digits, tmp_path, capsys):
    file = tmp_path / "checkpoint.pt"
    training.fit(mlp(), digits, steps=20, checkpoint=file, checkpoint_seconds=0)
    half = file.read_bytes()[:1000]
    file.write_bytes(half)
    history = training.fit(mlp(), digits, steps=20, checkpoint=file)
    assert history.status == "done" and history.step == 20
    assert (tmp_path / "checkpoint.aside").read_bytes() == half and "cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("place", [3, 20, 700, -400])
def test_one_bit_of_a_checkpoint_is_enough(tmp_path, capsys, place):
    """torch itself reads on: it compares no checksum of the weights."""
    file = tmp_path / "0.pt"
    training.save_whole({"weights": torch.zeros(500)}, file)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert training.load_whole(file) is None and "0.pt cannot be read" in capsys.readouterr().out


def test_a_checkpoint_of_before_the_checksums_is_read(tmp_path):
    torch.save({"weights": torch.ones(3)}, tmp_path / "0.pt")
    assert torch.equal(training.load_whole(tmp_path / "0.pt")["weights"], torch.ones(3))


OTHERS = {
    "seed": {"seed": 5},
    "penalty": {"penalty": {"name": "l1", "lam": 0.1}},
    "widths": {"widths": [16]},
    "steps": {"steps": 30},
    "hook": {"after_step": [lambda model, step: None]},
    "data": {"data": (torch.randn(64, 64), torch.randint(10, (64,)))},
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_training_is_said_and_kept_aside(digits, tmp_path, capsys, what):
    """What comes out is what comes out without a checkpoint."""
    file, other = tmp_path / "checkpoint.pt", {"steps": 20} | OTHERS[what]
    training.fit(mlp(), digits, steps=20, checkpoint=file, checkpoint_seconds=0)
    nets = [mlp(other.get("widths", [32])) for _ in range(2)]
    options = {key: value for key, value in other.items() if key not in ("widths", "data")}
    for net, checkpoint in zip(nets, (file, None), strict=True):
        training.fit(net, other.get("data", digits), checkpoint=checkpoint, **options)
    assert "is of another training" in capsys.readouterr().out and (tmp_path / "checkpoint.aside").exists()
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(a, b)


def test_what_a_cached_function_holds_is_of_the_training(digits, tmp_path, capsys):
    def loss_of(factor):
        cached = functools.lru_cache(lambda: factor)
        return lambda outputs, y: cached() * nn.functional.cross_entropy(outputs, y)

    for factor in (1.0, 5.0):
        options = {"checkpoint": tmp_path / "checkpoint.pt", "checkpoint_seconds": 0}
        training.fit(mlp(), digits, steps=10, loss=loss_of(factor), **options)
    assert "is of another training" in capsys.readouterr().out


def test_whatever_is_watched_can_be_kept(digits, tmp_path):
    file, seen = (
        tmp_path / "checkpoint.pt",
        {"a": np.float64(1.5), "b": torch.tensor([1.0, 2.0]), "c": {"d": (1, None)}},
    )
    for until in (10, None):
        options = {"checkpoint": file, "checkpoint_seconds": 0, "log_points": 4, "until": until}
        history = training.fit(mlp(), digits, steps=20, watch=lambda model: seen, **options)
    assert history.curves["a"] == [1.5] * 4 and history.curves["b"] == [[1.0, 2.0]] * 4
    assert history.curves["c"] == [{"d": [1, None]}] * 4 and not list(tmp_path.glob("*.aside"))


def test_a_full_disk_does_not_end_a_training(digits, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    history = training.fit(mlp(), digits, steps=20, checkpoint=tmp_path / "file" / "no folder", checkpoint_seconds=0)
    assert history.status == "done"
    assert "not written" in capsys.readouterr().out


def test_divergence_names_the_epoch(digits):
    history = training.fit(mlp(), digits, steps=200, batch=100, optimizer={"name": "sgd", "lr": 1e30})
    assert history.status == "diverged"
    assert history.message == "loss not finite in epoch 1"


def test_a_divergence_in_the_last_update_is_one(digits):
    lost = lambda model, step: model.fc2.weight.data.fill_(float("inf")) if step == 9 else None  # noqa: E731
    history = training.fit(mlp(), digits, steps=10, after_step=[lost])
    assert history.status == "diverged" and history.message == "weights not finite in epoch 2"


def test_statistics_of_batch_norms_that_are_lost_are_a_divergence():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    x = torch.randn(20, 3)
    x[0] = 3e38
    history = training.fit(net, (x, torch.arange(20) % 2), steps=3, batch=20, precision="fp32")
    assert history.status == "diverged"


class Tokens(torch.nn.Module):
    """Keeps what it is given; an embedding or a norm comes first."""

    def __init__(self, first):
        super().__init__()
        self.first, self.last, self.seen = first, torch.nn.Linear(8, 3), []

    def forward(self, x):
        self.seen.append(x.clone())
        x = self.first(x)
        return self.last(x.mean(1) if x.ndim == 3 else x)


@pytest.mark.parametrize("first", ["embedding", "norm"])
def test_inputs_of_embeddings_and_norms_arrive_as_they_are(first):
    """In bf16 autocast torch leaves them alone: ids of up to 20,000, and columns that are not normalised."""
    layers = {"embedding": torch.nn.Embedding(20_000, 8), "norm": torch.nn.LayerNorm(8)}
    x = torch.randint(20_000, (64, 5)) if first == "embedding" else 1e4 + torch.randn(64, 8)
    net = Tokens(layers[first])
    training.fit(net, (x, torch.randint(3, (64,))), steps=1, batch=64, order="sequence", precision="bf16")
    assert torch.equal(net.seen[0], x) and net.seen[0].dtype == x.dtype


def test_numbers_are_fitted_as_numbers():
    """Without a loss the targets decide; cross-entropy of numbers is refused rather than trained in silence."""
    x = torch.randn(256, 8)
    y = x[:, :1] * 2 - 1
    net = torch.nn.Sequential(torch.nn.Linear(8, 1))
    history = training.fit(net, (x, y), steps=400, optimizer={"name": "adam", "lr": 0.05}, precision="fp32")
    assert history.curves["loss"][0] > 0.5 and (net(x) - y).abs().max() < 0.05
    with pytest.raises(ValueError, match="loss 'cross_entropy' takes classes, but the targets are numbers"):
        training.fit(net, (x, y), steps=1, loss="cross_entropy")


def test_the_task_of_a_data_set_decides_what_its_targets_are(digits):
    """Whole numbers of a regression are numbers; a classification whose classes are numbers is an error."""
    table = data.load("diabetes")
    counts = dataclasses.replace(table, train=data.Part(table.train.x, (10 * table.train.y).long()))
    curves = []
    for part in (counts, (counts.train.x, counts.train.y.float())):
        torch.manual_seed(0)
        net = models.build("mlp", widths=[16], inputs=table.train.x.shape[1], outputs=1)
        curves.append(training.fit(net, part, steps=20, precision="fp32").curves["loss"])
    assert curves[0] == curves[1]
    numbers = dataclasses.replace(digits, train=data.Part(digits.train.x, digits.train.y.float()))
    with pytest.raises(ValueError, match="the task is classification, but y holds torch.float32"):
        training.fit(mlp(), numbers, steps=1)


def test_data_come_as_readers_have_them(digits):
    x, y = digits.train
    as_set = torch.utils.data.TensorDataset(x, y)
    given = [digits, digits.train, (x, y), (x.numpy(), y.numpy()), (x.double().numpy(), y.int().numpy()), as_set]
    given += [torch.utils.data.DataLoader(as_set, batch_size=7), torch.utils.data.Subset(as_set, range(len(x)))]
    losses = [training.fit(mlp(), data, steps=20, batch=64, precision="fp32").curves["loss"] for data in given]
    assert all(loss == pytest.approx(losses[0], rel=1e-5) for loss in losses)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((torch.zeros(5, 64), torch.zeros(4).long()), "of one length, at least 1, got 5 and 4"),
        ((torch.zeros(0, 64), torch.zeros(0).long()), "of one length, at least 1, got 0 and 0"),
        (torch.zeros(5, 64), "data must be x and y"),
        (3, "data must be x and y"),
    ],
)
def test_data_that_are_no_pair_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        training.fit(mlp(), given, steps=1)


def test_a_network_may_return_more_than_its_outputs(digits):
    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            return {"logits": self.net(x), "features": x}

    net = Pair()
    training.fit(net, digits, steps=200, outputs=lambda found: found["logits"])
    found = training.predict(net, digits.test.x, outputs=lambda found: found["logits"])
    assert (found.argmax(1) == digits.test.y).float().mean() > 0.8


def test_penalty_and_optimizer_by_their_names(digits):
    nets = [mlp(), mlp()]
    training.fit(nets[0], digits, steps=20, penalty="l2", optimizer="sgd")
    full = {"penalty": {"name": "l2", "lam": 1e-4}, "optimizer": {"name": "sgd", "lr": 1e-3}}
    training.fit(nets[1], digits, steps=20, **full)
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_only_a_processor_is_asked_for_its_instructions(kind, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert training.bf16_pays(kind) is (kind == "cpu")


def test_hooks_run_in_order_after_the_update(digits):
    seen = []
    net = mlp()
    before = [w.clone() for w in models.weights(net).values()]

    def first(model, step):
        assert not torch.equal(next(iter(models.weights(model).values())), before[0])
        seen.append(("first", step))

    training.fit(net, digits, steps=2, after_step=[first, lambda model, step: seen.append(("second", step))])
    assert seen == [("first", 0), ("second", 0), ("first", 1), ("second", 1)]


def test_held_masks_stay_zero_with_momentum(digits):
    net = mlp()
    masks = pruning.magnitude(net, 0.8)
    pruning.apply(net, masks)
    training.fit(net, digits, steps=50, after_step=[pruning.hold(masks)])
    for name, w in models.weights(net).items():
        assert torch.equal(w[~masks[name]], torch.zeros_like(w[~masks[name]]))
        assert (w[masks[name]] != 0).all()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.99])
def test_magnitude_removes_exactly_the_smallest(scope, sparsity):
    net = mlp((16, 8))
    masks = pruning.magnitude(net, sparsity, scope=scope)
    ws = models.weights(net)
    for names in [list(ws)] if scope == "global" else [[name] for name in ws]:
        sizes = torch.cat([ws[name].detach().abs().flatten() for name in names])
        keep = torch.cat([masks[name].flatten() for name in names])
        assert (~keep).sum() == int(sparsity * len(sizes))
        if sparsity > 0:
            assert sizes[~keep].max() <= sizes[keep].min()
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\), got 1"):
        pruning.magnitude(net, 1.0)


def test_batches_see_everything_once_an_epoch():
    select = Batches(103, batch=10, seed=3)
    epochs = [torch.cat([select(e * 10 + k) for k in range(10)]) for e in (0, 1)]
    assert select.per_epoch == 10 and all(len(set(epoch.tolist())) == 100 for epoch in epochs)
    assert not torch.equal(*epochs)
    assert torch.equal(select(7), Batches(103, batch=10, seed=3)(7)), "whatever came before"
    items = torch.arange(103)
    in_order = Batches(103, batch=10, order="sequence")
    assert torch.cat([items[in_order(k)] for k in range(31)]).tolist() == [k % 103 for k in range(310)]


def test_flip_crop_shifts_and_mirrors():
    x = torch.arange(1, 65.0).view(1, 1, 8, 8).repeat(64, 1, 1, 1)
    out = augmentation.flip_crop(x, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x[0, 0], (4, 4, 4, 4))
    windows = [padded[i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
    mirrored = torch.nn.functional.pad(x[0, 0].flip(1), (4, 4, 4, 4))
    windows += [mirrored[i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
    assert out.shape == x.shape
    assert all(any(torch.equal(image[0], window) for window in windows) for image in out)
    assert len({tuple(image.flatten().tolist()) for image in out}) > 20


def test_dihedral_turns_and_mirrors_in_all_eight_ways():
    x = torch.arange(9.0).view(1, 1, 3, 3).repeat(200, 1, 1, 1)
    ways = [torch.rot90(m, k) for m in (x[0, 0], x[0, 0].flip(0)) for k in range(4)]
    out = augmentation.dihedral(x, torch.Generator().manual_seed(0))
    seen = [sum(torch.equal(image[0], way) for image in out) for way in ways]
    assert sum(seen) == 200 and min(seen) > 5


def test_dihedral_window_is_any_window_of_half_the_side():
    """Pixels are numbered: the least in a window says where it starts, and the rest must follow."""
    pixels = torch.arange(64.0).view(8, 8)
    out = augmentation.dihedral_window(pixels.view(1, 1, 8, 8).repeat(2000, 1, 1, 1), torch.Generator().manual_seed(0))
    starts = out.flatten(1).min(1).values.long()
    assert set(starts.tolist()) == {8 * row + column for row in range(5) for column in range(5)}
    for start, window in zip(starts.tolist(), out[:, 0], strict=True):
        expected = pixels[start // 8 : start // 8 + 4, start % 8 : start % 8 + 4]
        assert torch.equal(window.flatten().sort().values, expected.flatten())


def test_affine_keeps_its_bounds():
    """Of images that hold their own coordinates: where each pixel came from, and so the map that was drawn."""
    side = torch.linspace(-1, 1, 33)[:-1] + 1 / 32
    x = torch.stack(torch.meshgrid(side, side, indexing="xy")).repeat(300, 1, 1, 1)
    inner = (slice(None), slice(None), slice(12, 20), slice(12, 20))
    seen = augmentation.affine(x, torch.Generator().manual_seed(0))[inner].flatten(2).transpose(1, 2).double()
    known = torch.cat([x[inner].flatten(2), torch.ones(300, 1, 64)], 1).transpose(1, 2).double()
    found = torch.linalg.lstsq(known, seen).solution.transpose(1, 2)  # (300, 2, 3)
    assert (known @ found.transpose(1, 2) - seen).abs().max() < 1e-5, "affine"
    first, second, shift = found.unbind(2)
    mirrored = torch.linalg.det(found[:, :, :2]) < 0
    wide, along = first.norm(dim=1), torch.nn.functional.normalize(first, dim=1) * (1 - 2.0 * mirrored)[:, None]
    high = along[:, 0] * second[:, 1] - along[:, 1] * second[:, 0]
    angles, shears = torch.atan2(along[:, 1], along[:, 0]).rad2deg(), (along * second).sum(1) / high
    drawn = {"angle": angles / 10, "shear": shears / 0.1, "width": (wide - 1) / 0.1, "height": (high - 1) / 0.1}
    drawn |= {"right": shift[:, 0] / 0.2, "down": shift[:, 1] / 0.2}
    assert 100 < mirrored.sum() < 200
    for name, share in drawn.items():
        assert 0.9 < share.max() < 1.0001 and -0.9 > share.min() > -1.0001, name


def test_affine_repeats_the_edges_and_keeps_ids():
    flat = torch.full((20, 3, 32, 32), 0.7, dtype=torch.bfloat16)
    assert torch.equal(augmentation.affine(flat, torch.Generator().manual_seed(0)), flat)
    ids = torch.zeros(20, 1, 32, 32, dtype=torch.int16)
    ids[:, :, 8:24, 8:24] = 77
    maps, images = (augmentation.affine(t, torch.Generator().manual_seed(1)) for t in (ids, ids.float()))
    assert maps.dtype == torch.int16 and set(maps.unique().tolist()) == {0, 77}
    assert ((images > 77 / 2) == (maps == 77)).float().mean() > 0.98, "the same way as the image"


@pytest.mark.parametrize("augment", ["flip_crop", "dihedral", "dihedral_window"])
def test_maps_are_augmented_as_their_images(augment):
    """The network is the identity and the images are their own maps, so that outputs and targets must be equal."""
    ids = torch.randint(0, 90, (40, 16, 16)).to(torch.int16)
    seen = []

    def same(outputs, targets):
        seen.append((outputs[:, 0].detach(), targets.float()))
        return outputs.sum()

    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1, bias=False))
    torch.nn.init.ones_(net[0].weight)
    options = {"loss": same, "optimizer": {"name": "sgd", "lr": 0.0}, "batch": 40, "precision": "fp32"}
    step = training.Trainer(
        net, data.Part(ids[:, None].float(), ids), training.Options(steps=1, augment=augment, **options)
    )
    step(0)
    ((outputs, targets),) = seen
    assert torch.equal(outputs, targets) and not torch.equal(targets.sum(0), ids.float().sum(0))


def test_regions_are_what_a_loop_over_pixels_finds():
    ids = data.load("cells", size=10).train.y[:2]
    found = losses.regions(ids)
    for n, y, x in ((n, y, x) for n in range(2) for y in range(64) for x in range(64)):
        around = ids[n, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        expected = 0 if ids[n, y, x] == 0 else 1 if (around == ids[n, y, x]).all() else 2
        assert found[n, y, x] == expected


def test_losses_of_segmentation():
    """Against sums over pixels; the Dice term falls from almost 1, all wrong, to 0."""
    torch.manual_seed(0)
    ids = torch.zeros(1, 8, 8, dtype=torch.int16)
    ids[0, 2:6, 2:6] = 1
    logits, classes = torch.randn(1, 3, 8, 8), losses.regions(ids)
    weights = torch.where(classes == 2, losses.BOUNDARY_WEIGHT, 1.0)
    chance = logits.softmax(1).gather(1, classes[:, None])[:, 0]
    assert losses.boundary(logits, ids) == pytest.approx((-(weights * chance.log()).sum() / weights.sum()).item())
    right = 30 * torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float()
    assert losses.boundary_dice(right, ids) == pytest.approx(0, abs=1e-5)
    wrong = right.roll(1, 1)  # background for boundary
    extra = losses.boundary_dice(wrong, ids) - losses.boundary(wrong, ids)
    assert extra.item() == pytest.approx(1 - (2 * 4 + 1) / (48 + 4 + 16 + 1), abs=1e-3)


RISING = ("warm_up", "one_cycle")


@pytest.mark.parametrize("name", training.SCHEDULES)
def test_schedules_reach_the_full_rate_and_never_leave_their_bounds(name):
    factors = [training.SCHEDULES[name](k / 1000) for k in range(1000)]
    top = max(range(1000), key=factors.__getitem__)
    assert factors[top] == pytest.approx(1.0) and min(factors) >= 0
    assert (factors[0] < 0.1) if name in RISING else top == 0
    assert factors[:top] == sorted(factors[:top]) and factors[top:] == sorted(factors[top:], reverse=True)


def test_smoothed_targets_are_torchs_own():
    outputs, y = torch.randn(8, 10), torch.arange(8)
    target = torch.full((8, 10), 0.01).scatter(1, y[:, None], 0.91)
    expected = -(target * outputs.log_softmax(1)).sum(1).mean()
    assert training.LOSSES["smoothed"](outputs, y) == pytest.approx(float(expected), rel=1e-5)


def test_plateau_halves_when_torch_does():
    scores = np.random.RandomState(0).rand(100).cumsum().clip(max=20) + np.random.RandomState(1).rand(100)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=7, threshold=0)
    for k, score in enumerate(scores, 1):
        torchs.step(score)
        found = schedules.plateau({"step": [*range(1, k + 1)], "validation": scores[:k]}, 100)
        assert found == optimizer.param_groups[0]["lr"]
    assert found < 1 / 4, "there were plateaus"


def test_plateau_rules_the_steps():
    x = torch.ones(8, 1)
    net, places = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False)), []
    options = {"loss": lambda outputs, _: outputs.mean(), "optimizer": {"name": "sgd", "lr": 1.0}, "batch": 8}
    part = data.Part(x, x)
    split = dataclasses.replace(data.load("digits"), train=part)
    hook = lambda model, step: places.append(net[0].weight.item())  # noqa: E731
    common = {"steps": 100, "schedule": "plateau", "precision": "fp32", "after_step": [hook]}
    training.fit(net, split, watch=lambda model: {"validation": 0.5}, **common, **options)
    moved = -np.diff(places)
    assert moved[[0, 8, 9, 16, 17]] == pytest.approx([1, 1, 0.5, 0.5, 0.25], rel=1e-3)
    with pytest.raises(ValueError, match="plateau"):
        training.fit(net, split, **common, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "unknown loss 'hinge'; known: cross_entropy, smoothed, double_softmax, mse"),
        ({"optimizer": {"name": "lion"}}, "unknown optimizer 'lion'; known: adam, adamw, sgd"),
        ({"schedule": "warm"}, "unknown schedule 'warm'; known: constant, linear"),
        ({"order": "random"}, "order must be a string, one of shuffle, sequence, got 'random'"),
        ({"precision": "fp8"}, "precision must be a string, one of auto, fp32, bf16, got 'fp8'"),
        (
            {"augment": "mixup"},
            "unknown augmentation 'mixup'; known: none, flip_crop, dihedral, dihedral_window, affine",
        ),
        ({"penalty": {"name": "l3", "lam": 1.0}}, "unknown penalty 'l3'"),
    ],
)
def test_wrong_names_list_the_known(digits, options, message):
    with pytest.raises(ValueError, match=message):
        training.fit(mlp(), digits, steps=1, **options)


@pytest.mark.parametrize("more", [{}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5}, {"dampening": 0.5}])
def test_the_proximal_step_ends_at_the_lasso(more):
    """scikit-learn's solution of the same problem, its exact zeros included, with momentum as without."""
    table = data.load("diabetes")
    lasso = linear_model.Lasso(alpha=0.05).fit(table.train.x, table.train.y)  # ½·mean square + α·Σ|w|
    torch.manual_seed(0)
    net = models.build("mlp", widths=[], inputs=10, outputs=1)
    sgd = {"name": "sgd", "lr": 0.01} | more
    penalty = {"name": "l1", "lam": 0.1, "prox": True}
    training.fit(net, table, steps=1500, batch=10**6, optimizer=sgd, penalty=penalty, loss="mse", precision="fp32")
    found = net.fc1.weight.detach().flatten()
    assert torch.allclose(found, torch.tensor(lasso.coef_).float(), atol=1e-3)
    assert torch.equal(found == 0, torch.tensor(lasso.coef_ == 0))


@pytest.mark.parametrize(
    ("outputs", "y", "remedy"),
    [
        (1, torch.zeros(16), r"outputs \(16, 1\) and targets \(16,\) differ in shape; .* y.reshape\(-1, 1\)"),
        (3, torch.zeros(16, 1, dtype=torch.int64), r"classes of shape \(16, 1\) must have the shape \(16,\)"),
    ],
)
def test_targets_of_another_shape_are_not_spread_in_silence(outputs, y, remedy):
    with pytest.raises(ValueError, match=remedy):
        training.fit(torch.nn.Linear(4, outputs), (torch.randn(16, 4), y), steps=1, batch=16)


def squares(outputs, y):
    return (outputs - y).square().mean()


def test_a_loss_of_ones_own_that_spreads_is_refused_whatever_the_first_batch_holds():
    rare, x = torch.zeros(16), torch.randn(16, 4)  # the first batch has but one value of targets
    with pytest.raises(ValueError, match=r"spreads outputs \(16, 1\) and targets \(16,\) .* pass y.view"):
        training.fit(torch.nn.Linear(4, 1), (x, rare), loss=squares, steps=1, batch=16)
    maps, net = torch.rand(8, 5, 5), torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match=r"spreads outputs \(8, 1, 5, 5\) and targets \(8, 5, 5\)"):
        training.fit(net, (maps[:, None], maps), loss=squares, steps=1, batch=8)
    training.fit(net, (maps[:, None], maps), loss=lambda o, y: (o.sum() - y.sum()) ** 2, steps=1, batch=8)  # a count

    def of_zeros_and_ones(outputs, y):
        assert bool(((y == 0) | (y == 1)).all())
        return squares(outputs[:, 0], y)

    training.fit(net, (maps[:, None], maps.round()), loss=of_zeros_and_ones, steps=1, batch=8)
    flat = torch.nn.Linear(4, 1)
    torch.nn.init.zeros_(flat.weight)  # all outputs are alike, and the loss is right
    training.fit(flat, (x, torch.rand(16)), loss=lambda out, y: squares(out.squeeze(1), y), steps=1, batch=16)


def test_an_augmentation_in_place_leaves_the_data_as_they_are():
    x, y = torch.zeros(16, 4), torch.arange(16) % 2
    training.fit(torch.nn.Linear(4, 2), (x, y), order="sequence", batch=8, steps=4, augment=lambda x, _: x.add_(1))
    assert not x.any()


def test_class_maps_that_a_function_would_leave_behind_are_warned_of():
    x, y = torch.randn(4, 1, 8, 8), torch.zeros(4, 4, 4, dtype=torch.int64)
    with pytest.warns(UserWarning, match=r"as large as the images, and not those of \(4, 4\)"):
        training.fit(torch.nn.Conv2d(1, 2, 2, 2), (x, y), steps=1, augment=lambda x, _: x.flip(3))


def test_a_proximal_step_under_adam_is_warned_of():
    table = torch.randn(16, 4), torch.arange(16) % 2
    with pytest.warns(UserWarning, match="Adam scales gradients, not the proximal step"):
        training.fit(torch.nn.Linear(4, 2), table, steps=1, penalty={"name": "l1", "lam": 0.1, "prox": True})


@pytest.mark.parametrize("kind", [torch.int32, torch.bool, torch.uint8, torch.int64])
def test_classes_may_be_of_any_whole_type_and_inputs_of_double_precision(kind):
    torch.manual_seed(0)
    x, y = torch.randn(16, 4), torch.arange(16) % 2
    nets = [torch.nn.Linear(4, 2) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    training.fit(nets[0], (x, y), steps=3, batch=16)
    training.fit(nets[1], (x.double(), y.to(kind)), steps=3, batch=16)
    assert torch.equal(training.predict(nets[0], x), training.predict(nets[1], x.double()))
    maps = torch.ones(4, 3, 3).to(kind)
    assert training.LOSSES["cross_entropy"](torch.zeros(4, 2, 3, 3), maps).item() == pytest.approx(0.6931, abs=1e-4)


def test_a_network_that_returns_a_mapping_says_what_to_pass():
    class Both(torch.nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x), "aux": None}

    net, data = Both(4, 2), (torch.randn(16, 4), torch.arange(16) % 2)
    with pytest.raises(TypeError, match=r"keys \['logits', 'aux'\] .* pass outputs="):
        training.fit(net, data, steps=1)
    with pytest.raises(TypeError, match=r"pass outputs="):
        training.predict(net, data[0])
    assert training.fit(net, data, steps=1, outputs=lambda found: found["logits"]).status == "done"


def test_tables_of_pandas_are_data():
    pandas = pytest.importorskip("pandas")
    x, y = torch.randn(16, 4), torch.randn(16, 1)
    losses = [
        training.fit(torch.nn.Linear(4, 1).requires_grad_(True), given, steps=2, batch=16, optimizer="sgd").status
        for given in ((x, y), (pandas.DataFrame(x.numpy()), pandas.DataFrame(y.numpy())))
    ]
    assert losses == ["done", "done"]


def test_a_checkpoint_that_cannot_be_kept_aside_is_named_and_stays(tmp_path, monkeypatch):
    def refuse(path, target):
        raise PermissionError(13, "Permission denied", str(path), None, str(target))

    file = tmp_path / "own.pt"
    file.write_bytes(b"another's")
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(
        PermissionError, match=r"cannot be kept aside \(Permission denied\); .* another checkpoint: .*own"
    ):
        training.load_whole(file)
    assert file.read_bytes() == b"another's"


def test_what_could_not_be_read_back_is_not_written_and_a_folder_stays(tmp_path):
    with pytest.raises(ValueError, match=r"save_whole: Linear.* \(Linear\) is neither tensor nor plain data"):
        training.save_whole({"net": nn.Linear(2, 2)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="is no file, but a folder"):
        training.load_whole(tmp_path)
    assert tmp_path.is_dir() and not [*tmp_path.iterdir()]


def test_a_training_in_sittings_keeps_a_checkpoint_where_it_stops(digits, tmp_path):
    options = {"steps": 20, "checkpoint": tmp_path / "0.pt", "log_points": 1}
    assert training.fit(mlp(), digits, until=10, **options).status == "stopped" and (tmp_path / "0.pt").exists()


def test_a_diverged_training_tells_its_seconds_and_maps_with_channels_that_stay_are_warned_of(digits):
    x, y = 1e4 * torch.randn(300, 4), torch.randn(300, 1)
    sgd = {"name": "sgd", "lr": 1e20}
    history = training.fit(nn.Linear(4, 1), (x, y), steps=20, batch=100, optimizer=sgd, log_points=1)
    assert history.status == "diverged" and history.seconds > 0
    images = torch.rand(4, 1, 6, 6)
    with pytest.warns(UserWarning, match="not these with channels"):
        training.augmentation.augmentation(lambda batch, _: batch, images, images)


def test_a_window_of_an_odd_side_reaches_the_last_pixel():
    rows = torch.arange(25.0).view(1, 1, 5, 5).repeat(2000, 1, 1, 1)
    seen = training.augmentation.dihedral_window(rows, torch.Generator().manual_seed(0)).unique()
    assert len(seen) == 25


def test_named_losses_of_maps_take_double_precision():
    net, ids = nn.Conv2d(1, 3, 1).double(), torch.randint(0, 3, (4, 6, 6))
    assert training.fit(net, (torch.rand(4, 1, 6, 6).double(), ids), steps=1, loss="boundary").status == "done"

"""The inference form puts out what the network does, in fewer layers, and leaves what it cannot prove."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torchvision
from inputs import inputs
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from lib import inference, models, pruning, saving, shrinking

NORMS = nn.modules.batchnorm._BatchNorm


def trained(net):
    """A network whose batch norms have statistics, scales and shifts of their own."""
    for norm in (m for m in net.modules() if isinstance(m, NORMS)):
        for tensor, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.3, 3)):
            nn.init.uniform_(tensor, low, high)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -1, 1)
    return net.eval()


def norms(net):
    return [name for name, m in net.named_modules() if isinstance(m, NORMS)]


def close(a, b):
    return (a - b).abs().max() <= 1e-5 * b.abs().max()


@pytest.mark.parametrize("name", models.BUILDERS)
def test_every_builder_is_folded_wholly_and_comes_back_from_its_file(name, tmp_path):
    net = trained(models.build(name, widths=models.widths(name, scale=0.1)))
    x = inputs(name, 3)
    before = copy.deepcopy(net.state_dict())
    small = inference.form(net.train(), x[:1])
    assert net.training and all(torch.equal(t, before[k]) for k, t in net.state_dict().items())
    assert not norms(small) and len(small.folded) == len(norms(net)) and not small.training
    assert close(small(x), net.eval()(x))
    assert small.channels_last == any(isinstance(m, nn.Conv2d) for m in net.modules())
    inference.save(small, tmp_path)
    again = inference.load(tmp_path)
    assert torch.equal(again(x), small(x)) and again.config == net.config
    assert shrinking.alive(small) == shrinking.alive(net)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_shrunk_network_is_exported(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    net = trained(models.build("vgg16", widths=models.widths("vgg16", scale=0.1)))
    pruning.apply(net, pruning.RULES["units"](net, [max(1, n // 2) for n in net.config["widths"]]))
    shrinking.silence(net)
    small, x = shrinking.shrink(net), torch.randn(4, 3, 32, 32)
    form = inference.form(small, x)
    saving.to_onnx(form, tmp_path / "net.onnx", x[:1])
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"input": x.numpy()})
    assert (torch.from_numpy(out) - net(x)).abs().max() <= 1e-4 * net(x).abs().max()


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5", "googlenet"])
def test_torchvisions_networks_give_the_same(name, tmp_path):
    build = getattr(torchvision.models, name)
    options = {"weights": None} | ({"init_weights": False, "aux_logits": False} if name == "googlenet" else {})
    net, x = trained(build(**options)), torch.randn(1, 3, 64, 64)
    small = inference.form(net, x)
    assert close(small(x), net(x))
    assert bool(norms(small)) == (name == "densenet121")  # its norms stand before the convolutions
    inference.save(small, tmp_path)
    assert torch.equal(inference.load(tmp_path, build(**options))(x), small(x))


class Odd(nn.Module):
    """A network in which two of four norms may not be folded, and whose `view` takes no channels last."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))
        self.na, self.nb, self.nc, self.nd = (nn.BatchNorm2d(4) for _ in range(4))

    def forward(self, x):
        x = self.na(self.a(x))
        y = self.b(x)
        x = self.nb(y) + y  # read twice
        x = self.nc(F.relu_(self.c(x)))  # the same tensor, changed in between
        return self.nd(self.d(x)).view(len(x), -1)


def test_what_decay_leaves_behind_is_0_unless_it_matters():
    net = trained(nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(150, 2)))
    with torch.no_grad():
        net[0].weight[3] = 1e-41
        net[0].weight[4] *= 1e-30
    x = torch.randn(3, 1, 7, 7)
    small = inference.form(net, x)
    assert not small[0].weight[3:5].any() and small[0].weight[5].all() and net[0].weight[3:5].any()
    torch.testing.assert_close(small(x), net(x), rtol=1e-4, atol=1e-5)
    tiny = nn.Linear(4, 2, bias=False)
    nn.init.constant_(tiny.weight, 1e-22)
    assert inference.form(tiny, torch.rand(3, 4)).weight.all(), "it is all that there is"


def test_what_cannot_be_proved_stays():
    net, x = trained(Odd()), torch.randn(2, 4, 5, 5)
    small = inference.form(net, x)
    assert norms(small) == ["nb", "nc"] and small.folded == [["a", "na"], ["d", "nd"]]
    assert not small.channels_last and close(small(x), net(x))


@pytest.mark.parametrize("domain", [1, 0, torch.tensor(1)])
def test_a_norm_that_a_number_chooses_is_not_folded(domain):
    class Domains(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))

        def forward(self, x, k):
            return self.last(self.norms[int(k)](self.layer(x)).relu())

    net, x = trained(Domains()), torch.randn(2, 3, 8, 8)
    small = inference.form(net, (x, domain))
    assert not small.folded and all(close(small(x, k), net(x, k)) for k in range(2))


def test_what_another_flag_changes_or_does_not_run_on_hinders_nothing():
    """One writes into a buffer, which the form must not have; one makes numbers of a type of its own."""

    class Flags(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(8, 6), nn.BatchNorm1d(6)
            self.register_buffer("center", torch.zeros(8))

        def forward(self, x, update=False, cast=False):
            if update:
                self.center += x.mean(0)
            return self.norm(self.layer((x.float() if cast else x) - self.center))

    net, x = trained(Flags()), torch.randn(5, 8)
    for example in ((x, False), (x, False, False)):
        small = inference.form(net, example)
        assert small.folded == [["layer", "norm"]] and not small.center.any() and close(small(x), net(x))


def test_a_wrong_fold_is_seen_where_the_signal_of_a_fresh_network_dies_out():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(14))
            self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(14))
            nn.init.constant_(self.norms[0].bias, 0.5)

        def forward(self, x):
            for k, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                x = F.relu(norm(F.relu_(conv(x)) if k == 0 else conv(x)))
            return x

    net = Deep().eval()
    small = inference.form(net, torch.randn(4, 8, 9, 9))
    assert norms(small) == ["norms.0"] and len(small.folded) == 13


def test_a_layer_called_twice_a_norm_without_statistics_and_shared_weights():
    conv, norm = nn.Conv1d(3, 3, 3, padding=1), nn.BatchNorm1d(3)
    tied = nn.Conv1d(3, 3, 3, padding=1)
    tied.weight = conv.weight
    other, bare = nn.Conv1d(3, 3, 1), nn.BatchNorm1d(3, track_running_stats=False)
    net = nn.Sequential(conv, norm, nn.ReLU(), conv, norm, tied, nn.BatchNorm1d(3), other, bare).eval()
    nn.init.uniform_(net[6].running_mean)
    x = torch.randn(4, 3, 9)
    small = inference.form(net, x)
    assert small.folded == [["5", "6"]] and close(small(x), net(x))


def test_layers_of_two_names_are_folded_under_both():
    net, x = trained(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Identity())), torch.randn(3, 4)
    net[2].first, net[2].then = net[0], net[1]
    small = inference.form(net, x)
    assert small.folded == [["0", "1"]] and small[2].first is small[0] and not norms(small) and close(small(x), net(x))
    assert isinstance(small[2].then, nn.Identity)


def test_a_parametrised_layer_and_other_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm, self.table = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Embedding(3, 5)

        def forward(self, x, k):
            return {"out": self.norm(self.fc(x)), "row": (self.table(k),)}

    net = trained(Two())
    args = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])
    small = inference.form(net, args)
    assert small.folded == [["fc", "norm"]] and close(small(*args)["out"], net(*args)["out"])
    assert inference.form(net, {"k": args[1], "x": args[0]}).folded == small.folded, "by name"
    parametrizations.weight_norm(net.fc)
    assert inference.form(net, args).folded == []


def test_a_network_of_ones_own_wants_a_fresh_one(tmp_path):
    net, x = trained(Odd()), torch.randn(2, 4, 5, 5)
    inference.save(inference.form(net, x), tmp_path)
    with pytest.raises(ValueError, match="give a fresh one of its class"):
        inference.load(tmp_path)
    assert close(inference.load(tmp_path, Odd())(x), net(x))
    for other in (nn.Linear(4, 2), nn.Sequential(nn.BatchNorm2d(4))):
        with pytest.raises(ValueError, match="holds a form of a network with another 'a' than"):
            inference.load(tmp_path, other)


def test_a_disk_that_fills_up_between_the_two_files_leaves_no_mixed_pair_unnoticed(tmp_path, monkeypatch):
    x, (first, other) = torch.randn(2, 3), (inference.form(nn.Linear(3, 2), torch.randn(2, 3)) for _ in range(2))
    inference.save(first, tmp_path)
    whole = (tmp_path / "inference.json").read_text()
    assert torch.equal(inference.load(tmp_path, nn.Linear(3, 2))(x), first(x))
    replace = Path.replace

    def full(part, target):
        if target.name == "inference.json":
            raise OSError(28, "No space left on device")
        replace(part, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match=r"No space left on device: .*inference\.json"):
        inference.save(other, tmp_path)
    with pytest.raises(ValueError, match=r"model\.safetensors and inference\.json beside it are not as they were"):
        inference.load(tmp_path, nn.Linear(3, 2))
    monkeypatch.undo()
    inference.save(other, tmp_path)
    about = json.loads((tmp_path / "inference.json").read_text())
    assert about.pop("sum") != json.loads(whole)["sum"]
    (tmp_path / "inference.json").write_text(json.dumps(about))  # as folders of before are
    assert torch.equal(inference.load(tmp_path, nn.Linear(3, 2))(x), other(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_networks_with_tensors_of_five_axes(dims):
    """`to` with the channels last refuses such tensors, whatever else a network has."""
    conv, norm = ((nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))[dims - 2]
    net = nn.Sequential(conv(3, 6, 3, padding=1), norm(6), nn.ReLU(), conv(6, 2, 1)).eval()
    net.table, x = nn.Parameter(torch.rand(1, 2, 3, 2, 2)), torch.randn(2, 3, *[6] * dims)
    small = inference.form(net, x)
    assert small.channels_last == (dims == 2)
    assert torch.allclose(small(x), net(x), atol=1e-5)


class Hiding(nn.Module):
    """A network that changes its layer's output in place before the norm sees it, and puts out what hides that."""

    def __init__(self, hide):
        super().__init__()
        self.conv, self.norm, self.last, self.hide = nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8), nn.Linear(8, 6), hide

    def forward(self, x):
        return self.hide(self.last(self.norm(F.relu_(self.conv(x))).mean(2)))


HIDES = {
    "filled": lambda h: h.masked_fill(torch.arange(6) % 2 == 0, -1e9),
    "filled with the least": lambda h: h.masked_fill(torch.arange(6) % 2 == 0, torch.finfo(h.dtype).min),
    "complex": lambda h: torch.complex(h.detach() * 0 + 1, h),
    "as many as there are": lambda h: h[h > 0],
    "an empty one beside": lambda h: (h, h[:0]),
}


@pytest.mark.parametrize("name", HIDES)
def test_a_wrong_fold_is_seen_beside_what_hides_it(name):
    net, x = trained(Hiding(HIDES[name])), torch.randn(3, 4, 9)
    assert inference.form(net, x).folded == []


@pytest.mark.parametrize("tail", [nn.Softmax(1), nn.Sigmoid(), nn.Hardtanh()])
def test_outputs_that_are_alike_where_they_saturate_hinder_no_fold(tail):
    layers = [nn.Linear(5, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4), nn.BatchNorm1d(4)]
    net, x = trained(nn.Sequential(*layers, tail)), torch.randn(4, 5)
    nn.init.constant_(net[4].weight, 9)
    assert inference.form(net, x).folded == [["0", "1"], ["3", "4"]]


class Padded(nn.Module):
    """What lies behind a norm of an odd number of places is put beside a zero."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv1d(3, 8, 1), nn.BatchNorm1d(8), nn.Conv1d(8, 4, 2, 2)
        self.norm.bias.data.fill_(1.0)

    def forward(self, x):
        h = self.first(x)
        h = F.pad(h, (0, 1)) if h.shape[-1] % 2 else h
        return self.last(F.relu(self.norm(h)))


def test_a_norm_that_other_sizes_show_to_be_another_layers_stays():
    net, x = Padded().eval(), torch.randn(2, 3, 9)
    form = inference.form(net, x[..., :8])
    assert form.folded == [] and close(form(x), net(x))


def test_numbers_drawn_by_chance_are_the_same_ones_before_and_after():
    class Chance(nn.Sequential):
        def forward(self, x):
            return super().forward(x) + torch.randn(2)

    net = trained(Chance(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    assert inference.form(net, torch.randn(2, 3)).folded == [["0", "1"]]


def test_a_network_that_is_another_each_time_is_said():
    class Count(nn.Linear):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            return super().forward(x) + self.calls

    with pytest.raises(inference.InferenceError, match="Count puts out other numbers each time that it is called"):
        inference.form(Count(3, 2), torch.randn(2, 3))


def test_outputs_that_are_no_numbers_are_said():
    net = nn.Sequential(nn.Linear(3, 4), nn.Threshold(1e9, torch.inf))
    with pytest.raises(inference.InferenceError, match="Sequential puts out inf or NaN on the example"):
        inference.form(net, torch.randn(2, 3))


def test_a_form_is_saved_and_shrunk_as_what_it_was_made_of(tmp_path):
    net = models.build("ct_cnn", widths=[4, 4, 4, 4]).eval()
    made = inference.form(net, torch.randn(2, 1, 64, 64))
    assert made.folded
    with pytest.raises(ValueError, match="take the network that it was made of"):
        saving.save(made, tmp_path / "form")
    with pytest.raises(shrinking.ShrinkError, match="take the network that it was made of"):
        shrinking.shrink(made)
    net.register_buffer("seen", torch.zeros(3), persistent=False)
    saving.save(net, tmp_path / "net")

"""Saved and loaded give the same logits, a file that does not fit is refused, ONNX agrees."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from inputs import inputs
from torch import nn

from lib import depgraph, inference, measures, models, shrinking

pytest.importorskip("safetensors")
import safetensors.torch

from lib import saving, sparse


def small(name, seed=0):
    torch.manual_seed(seed)
    return models.build(name, widths=models.widths(name, scale=0.1)).eval()


def shrunk():
    net = small("lenet5")
    with torch.no_grad():
        net.conv2.weight[:3] = 0
        net.fc1.weight[:7] = 0
    out = shrinking.shrink(net)
    assert out.config["widths"] == [2, 2, 43]
    return out


@pytest.mark.parametrize("name", models.BUILDERS)
def test_round_trip(name, tmp_path):
    net = small(name)
    saving.save(net, tmp_path / name, normalisation={"mean": [0.5], "std": [0.25]}, labels=["a", "b"])
    again = saving.load(tmp_path / name)
    assert again.config == net.config
    assert (again.normalisation, again.labels) == ({"mean": [0.5], "std": [0.25]}, ["a", "b"])
    x = inputs(name, 2)
    assert torch.equal(again(x), net(x))
    assert not again.training


def test_dtype_and_channels_last_survive(tmp_path):
    net = small("vgg16").double().to(memory_format=torch.channels_last)
    saving.save(net, tmp_path)
    again = saving.load(tmp_path)
    assert again.conv1.weight.dtype == torch.float64
    assert torch.equal(again.conv2.weight, net.conv2.weight)


READER = """
import sys

class Only:
    def find_spec(self, name, path=None, target=None):
        known = ("saving", "models", "arguments", "checks", "atomic", "layers")
        if name.startswith("lib.") and name.split(".")[1] not in known:
            raise ImportError(f"{name} is not there")
        if name.split(".")[0] in ("pandas", "sklearn", "scipy", "torchvision", "matplotlib", "pickle5"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Only())
import torch
from lib import saving
def refuse(*args, **kwargs):
    raise AssertionError("nothing may be unpickled")
import pickle
pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse
net = saving.load(sys.argv[1])
torch.manual_seed(1)
print(net(torch.randn(2, 1, 28, 28)).flatten().tolist())
"""


def test_a_process_with_torch_safetensors_and_models_reads_a_shrunk_network(tmp_path):
    net = shrunk()
    saving.save(net, tmp_path)
    root = Path(saving.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    torch.manual_seed(1)
    assert json.loads(done.stdout) == net(torch.randn(2, 1, 28, 28)).flatten().tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc1.bias"), "'fc1.bias' is missing"),
        (lambda state: state.update({"fc9.bias": torch.zeros(1)}), "'fc9.bias' is unknown"),
        (lambda state: state.update({"conv2.weight": torch.zeros(2, 2)}), r"'conv2.weight' has shape \(2, 2\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change, message, tmp_path):
    saving.save(shrunk(), tmp_path)
    file = tmp_path / "model.safetensors"
    state = safetensors.torch.load_file(file)
    change(state)
    safetensors.torch.save_file(state, file)
    with pytest.raises(ValueError, match=message):
        saving.load(tmp_path)


def test_what_is_not_plain_data_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON serializable"):
        saving.save(shrunk(), tmp_path, normalisation=torch.zeros(1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_damaged_file_is_refused_by_name(name, tmp_path):
    """Every tenth byte has its lowest bit flipped in turn: each is noticed."""
    saving.save(models.build("mlp", widths=[2], inputs=3, outputs=2), tmp_path, labels=["a", "b"])
    whole = (tmp_path / name).read_bytes()
    for place in range(0, len(whole), 10):
        (tmp_path / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if name.endswith("json") and json.loads(whole) == quietly(tmp_path / name):
            continue
        with pytest.raises(ValueError, match="model"):
            saving.load(tmp_path)
    (tmp_path / name).write_bytes(whole[:20])
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        saving.load(tmp_path)


def quietly(path):
    """What a JSON file says, or nothing."""
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_a_bit_of_a_file_of_ones_own_is_enough(tmp_path):
    file = tmp_path / "own.safetensors"
    content = bytearray(saving.to_bytes(own()))
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="own.safetensors is damaged: it does not fit its checksum"):
        saving.load_into(own(), file)


@pytest.mark.parametrize("other", [b"2", b"1"])
def test_the_groups_that_a_file_tells_are_under_its_checksum(other, tmp_path):
    net, file = nn.Sequential(nn.Conv2d(8, 8, 3, groups=4)), tmp_path / "own.safetensors"
    content = saving.to_bytes(net)
    file.write_bytes(content)
    assert saving.load_into(copy.deepcopy(net), file)[0].groups == 4
    changed = content.replace(rb"""{\"0\": 4}""", rb"""{\"0\": """ + other + b"}")
    assert changed != content
    file.write_bytes(changed)
    with pytest.raises(ValueError, match="own.safetensors is damaged: it does not fit its checksum"):
        saving.load_into(net, file)


def test_a_full_disk_leaves_the_old_network(tmp_path, monkeypatch):
    old = shrunk()
    saving.save(old, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path, content):
        with path.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left on device.*model\.safetensors"):
        saving.save(small("mlp"), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def another():
    """A network of ours that is no more what its configuration says, though its tensors fit."""
    net = models.build("mlp", widths=[16, 8], inputs=4, outputs=2).eval()
    net.act1 = nn.GELU()
    return net


@pytest.mark.parametrize("name", ["saving", "sparse", "shrink", "alive", "form"])
def test_a_network_whose_layers_were_changed_is_not_taken_for_another(name, tmp_path):
    net, x = another(), torch.randn(3, 4)
    form = inference.form(net, x)
    assert torch.allclose(form(x), net(x), atol=1e-6) and models.built(form) is None and measures.alive(net) is None
    form = inference.form(models.build("mlp", widths=[16, 8], inputs=4, outputs=2), x)
    form.act1 = nn.GELU()
    call = {
        "saving": lambda: saving.save(net, tmp_path),
        "sparse": lambda: sparse.save(net, tmp_path / "net"),
        "shrink": lambda: shrinking.shrink(net),
        "alive": lambda: shrinking.alive(net),
        "form": lambda: inference.save(form, tmp_path),
    }[name]
    with pytest.raises(ValueError, match="'act1' was changed since models.build made the network, .*(use|keep|make) "):
        call()
    assert not list(tmp_path.iterdir())


def test_a_norm_of_another_eps_is_another_layer_and_one_of_another_momentum_is_not():
    net = small("vgg16")
    net.norm1.momentum = None
    assert models.altered(net) is None
    net.norm3.eps = 0.1
    assert models.altered(net) == "norm3"


@torch.no_grad()
def test_a_network_of_ours_that_any_other_way_has_shrunk_is_saved_and_shrunk_on(tmp_path):
    net, x = small("lenet5"), torch.randn(2, 1, 28, 28)
    net.conv2.weight[:3] = 0
    net.conv2.bias[:3] = 0
    whole = nn.Sequential(net, nn.ReLU()).eval()
    for shrunken in (depgraph.shrink(net, x), depgraph.shrink(whole, x)[0]):
        assert shrunken.config["widths"] == [2, 2, 50] == list(shrinking.alive(shrunken).values())
        shrunken.fc1.weight[:7] = 0
        shrunken.fc1.bias[:7] = 0
        less = shrinking.shrink(shrunken)
        saving.save(less, tmp_path)
        assert less.config["widths"] == [2, 2, 43] and torch.equal(saving.load(tmp_path)(x), less(x))
    net.act1 = nn.GELU()
    assert models.built(depgraph.shrink(net, x)) is None, "build makes no such one"


def test_what_was_frozen_is_frozen_in_the_smaller_network():
    net = small("lenet5")
    net.conv1.requires_grad_(False)
    frozen = [name for name, p in shrinking.shrink(net).named_parameters() if not p.requires_grad]
    assert frozen == ["conv1.weight", "conv1.bias"]


def own():
    layers = [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 4, 3)).eval()


def test_a_shrunk_network_of_ones_own_is_loaded_into_a_fresh_one(tmp_path):
    net, x = own(), torch.randn(2, 1, 6, 6)
    with torch.no_grad():
        net[5].weight[:, :8] = 0  # all that two channels reach
    shrunken = depgraph.shrink(net, x)
    (tmp_path / "own.safetensors").write_bytes(saving.to_bytes(shrunken))
    again = saving.load_into(own(), tmp_path / "own.safetensors")
    assert str(again) == str(shrunken) != str(net)
    assert torch.equal(again(x), shrunken(x))
    assert all(a.requires_grad and a.is_leaf for a in again.parameters())


def tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    return net


class OwnConvolution(nn.Module):
    """A depthwise convolution of a reader's own."""

    def __init__(self):
        super().__init__()
        self.weight, self.groups = nn.Parameter(torch.randn(12, 1, 3)), 12

    def forward(self, x):
        return nn.functional.conv1d(x, self.weight, padding=1, groups=self.groups)


def test_the_groups_of_a_convolution_of_ones_own_are_told(tmp_path):
    def build():
        return nn.Sequential(nn.Conv1d(3, 12, 1), OwnConvolution(), nn.Conv1d(12, 3, 1)).eval()

    net, x = build(), torch.randn(2, 3, 5)
    net[2].weight.data[:, :6] = 0
    small = depgraph.shrink(net, x)
    (tmp_path / "own").write_bytes(saving.to_bytes(small))
    again = saving.load_into(build(), tmp_path / "own")
    assert again[1].groups == 6 and torch.equal(again(x), small(x))


@pytest.mark.parametrize("apart", [True, False])
def test_weights_that_a_fresh_network_ties_are_tied_where_the_file_has_no_two(apart, tmp_path):
    net, x, file = tied(), torch.randn(2, 4), tmp_path / "net"
    if apart:
        net[2].weight = nn.Parameter(torch.randn(4, 4))
    file.write_bytes(saving.to_bytes(net))
    again = saving.load_into(tied(), file)
    assert torch.equal(again(x), net(x)) and (again[2].weight is again[0].weight) != apart


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 6, 5)), r"'0.weight' has shape \(6, 1, 5, 5\) instead of \(6, 1, 3, 3\)"),
        (nn.Sequential(nn.Linear(1, 6)), r"'0.weight' has shape \(6, 1\) instead of \(6, 1, 3, 3\)"),
        (nn.Sequential(nn.Conv2d(1, 6, 3, bias=False)), "'0.bias' is missing"),
    ],
)
def test_a_file_of_another_network_is_refused(other, message, tmp_path):
    (tmp_path / "other.safetensors").write_bytes(saving.to_bytes(other))
    with pytest.raises(ValueError, match=message):
        saving.load_into(nn.Sequential(nn.Conv2d(1, 6, 3)), tmp_path / "other.safetensors")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("net", [*models.BUILDERS, "shrunk"])
def test_onnx_agrees_for_any_batch(net, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    name, net = (net, small(net)) if net != "shrunk" else ("lenet5", shrunk())
    x = inputs(name, 5)
    saving.to_onnx(net.train(), tmp_path / "net.onnx", x[:1])
    assert net.training
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"input": x.numpy()})
    expected = net.eval()(x).detach()
    assert (torch.from_numpy(out) - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_of_a_network_of_any_arguments_that_draws_numbers(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")

    class Any(nn.Sequential):
        def forward(self, *x):
            return super().forward(x[0]) + 1e-6 * torch.randn_like(x[0][:, :2]), x[0] / 0

    net, x = Any(nn.Linear(4, 2)), torch.zeros(7, 4)
    saving.to_onnx(net, tmp_path / "net.onnx", x[:1])
    session = runtime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    out, _ = session.run(None, {"input": x.numpy()})
    assert torch.allclose(torch.from_numpy(out), net(x)[0], atol=1e-4)


def test_a_network_and_its_inference_form_do_not_share_a_folder(tmp_path):
    net = small("ct_cnn")
    form = inference.form(net, torch.rand(1, 1, 37, 50))
    saving.save(net, tmp_path / "net")
    inference.save(form, tmp_path / "form")
    with pytest.raises(ValueError, match="holds model.json, whose weights this would replace; take another folder"):
        inference.save(form, tmp_path / "net")
    with pytest.raises(ValueError, match="holds inference.json"):
        saving.save(net, tmp_path / "form")
    assert saving.load(tmp_path / "net").config == net.config


@pytest.mark.parametrize("layer", [nn.Embedding(9, 8), nn.PReLU(8)])
def test_weights_that_are_made_of_others_are_loaded_into_any_layer(layer, tmp_path):
    def fresh():
        return nn.utils.parametrizations.weight_norm(copy.deepcopy(layer))

    net, given = fresh(), torch.randint(9, (4,)) if isinstance(layer, nn.Embedding) else torch.randn(4, 8)
    (tmp_path / "net.safetensors").write_bytes(saving.to_bytes(net))
    assert torch.equal(saving.load_into(fresh(), tmp_path / "net.safetensors")(given), net(given))


class Renamed(nn.Linear):
    def state_dict(self, *args, **kwargs):
        return {f"its_{name}": t for name, t in super().state_dict(*args, **kwargs).items()}


class Part(nn.Linear):
    def state_dict(self, *args, **kwargs):
        return {name: t for name, t in super().state_dict(*args, **kwargs).items() if name != "bias"}


def test_a_state_dict_that_is_not_what_the_network_has_is_refused():
    doubled = nn.Linear(4, 3)
    doubled.register_state_dict_post_hook(lambda net, state, *_: state.update(weight=state["weight"] * 2))
    for net, message in (
        (doubled, "'weight' is another in the state_dict of Linear than in the network"),
        (Renamed(4, 3), "'its_weight' is another in the state_dict of Renamed than"),
        (Part(4, 3), "'bias' is another in the state_dict of Part than"),
    ):
        for write in (saving.to_bytes, sparse.to_bytes):
            with pytest.raises(ValueError, match=message):
                write(net)


class Merging(nn.Linear):
    """A layer that has a change of its weights beside them in training, and in them otherwise."""

    def __init__(self):
        super().__init__(4, 3)
        self.change, self.merged = nn.Parameter(torch.randn(3, 4)), False

    def train(self, mode=True):
        if self.merged == mode:
            self.weight.data += self.change.data * (-1) ** mode
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        return super().forward(x) if self.merged else super().forward(x) + x @ self.change.T


@pytest.mark.parametrize("training", [True, False])
def test_weights_that_hang_on_the_mode_come_back(training, tmp_path):
    net, x = Merging().train(training), torch.randn(2, 4)
    (tmp_path / "net.safetensors").write_bytes(saving.to_bytes(net))
    torch.testing.assert_close(saving.load_into(Merging(), tmp_path / "net.safetensors")(x), net(x))

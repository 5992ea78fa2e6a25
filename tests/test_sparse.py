"""Sparse files give back what was written, bit by bit in fp32, and refuse what is not theirs."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from inputs import inputs
from torch import nn
from torch.nn.utils import prune

from lib import models, pruning, saving, sparse


def pruned(name, sparsity=0.95):
    net = models.build(name, widths=models.widths(name, scale=0.1)).eval()
    pruning.apply(net, pruning.RULES["magnitude"](net, sparsity=sparsity))
    return net


@pytest.mark.parametrize("name", models.BUILDERS)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_a_network_comes_back_bit_by_bit(name, sparsity, tmp_path):
    net = pruned(name, sparsity)
    size = sparse.save(net, tmp_path / "net.safetensors", labels=["a", "b"])
    again, about = sparse.load(tmp_path / "net.safetensors")
    assert size == (tmp_path / "net.safetensors").stat().st_size
    assert again.config == net.config and about["labels"] == ["a", "b"] and not again.training
    for key, tensor in net.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor) and again.state_dict()[key].dtype == tensor.dtype
    x = inputs(name, 2)
    assert torch.equal(again(x), net(x))


def test_half_precision_is_that_of_torch_and_zeros_stay_zero(tmp_path):
    net = pruned("lenet5")
    half = sparse.save(net, tmp_path / "half.safetensors", dtype="fp16")
    assert half < sparse.save(net, tmp_path / "net.safetensors")
    again, _ = sparse.load(tmp_path / "half.safetensors")
    for key, w in net.named_parameters():
        assert torch.equal(again.get_parameter(key), w.half().float())


def test_batch_norms_keep_their_statistics_in_half_precision(tmp_path):
    net = pruned("vgg16")
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_var.mul_(1e6).add_(1 / 3)
    sparse.save(net, tmp_path / "half.safetensors", dtype="fp16")
    again, _ = sparse.load(tmp_path / "half.safetensors")
    for key, buffer in net.named_buffers():
        assert torch.equal(again.get_buffer(key), buffer)


@given(
    st.lists(st.sampled_from([0.0, -0.0, float("nan"), 1.0, -2.5, float("inf"), 1e-45]), max_size=600),
    st.integers(0, 70_000),
)
def test_any_tensor_comes_back_bit_by_bit(entries, zeros):
    layer = nn.Linear(1, 1, bias=False)
    layer.weight = nn.Parameter(torch.tensor([*entries, *[0.0] * zeros, 1.0])[None])
    state, _ = sparse.read(sparse.to_bytes(layer))
    bits = [w.where(w != 0, 0.0).view(torch.int32) for w in (state["weight"], layer.weight)]
    assert torch.equal(*bits)


def test_the_smaller_form_is_taken():
    """A bit for each entry at one half, a byte for each value at one in a hundred."""
    layer, found = nn.Linear(1000, 100, bias=False), {}
    for sparsity in (0.5, 0.99, 1.0):
        pruning.apply(layer, {"weight": torch.rand(100, 1000) >= sparsity})
        found[sparsity] = len(sparse.to_bytes(layer))
    assert found[0.5] == pytest.approx(12_500 + 4 * 50_000, rel=0.01)
    assert found[0.99] < 1000 * 5 * 1.3 and found[1.0] < 400
    assert len(saving.to_bytes(layer)) > 400_000


def test_what_does_not_fit_is_refused(tmp_path):
    net, path = pruned("lenet5"), tmp_path / "net.safetensors"
    with pytest.raises(ValueError, match="unknown dtype 'int8'; known: fp32, fp16"):
        sparse.save(net, path, dtype="int8")
    path.write_bytes(saving.to_bytes(net))
    with pytest.raises(ValueError, match="is no sparse file"):
        sparse.load(path)
    path.write_bytes(sparse.to_bytes(net))
    with pytest.raises(ValueError, match="does not say which network"):
        sparse.load(path)
    other = {"config": pruned("lenet5").config | {"widths": [1, 2, 3]}}
    path.write_bytes(sparse.to_bytes(net, about=json.dumps(other)))
    with pytest.raises(ValueError, match="does not fit lenet5: tensor"):
        sparse.load(path)
    with torch.no_grad():
        net.fc1.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"'fc1.weight' has a number of size 1e\+06, too large for fp16"):
        sparse.save(net, path, dtype="fp16")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    sparse.save(pruned("lenet5"), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="normalisation must be .*not JSON serializable"):
        sparse.save(pruned("lenet5"), path, normalisation=torch.zeros(1))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_changed_bit_is_noticed_wherever_it_is(tmp_path):
    net, path = models.build("mlp", widths=[3], inputs=6, outputs=2), tmp_path / "net.safetensors"
    pruning.apply(net, pruning.RULES["magnitude"](net, sparsity=0.5))
    sparse.save(net, path, labels=["a", "b"])
    good, (before, about) = path.read_bytes(), sparse.load(path)
    silent = [k for k in range(len(good)) if _accepted(path, good, k, before, about)]
    assert not silent, f"the bits of bytes {silent} may change"


def _accepted(path, good, k, before, about):
    """Whether a file with another bit in byte k is read as another network, or as one with other things beside it."""
    path.write_bytes(good[:k] + bytes([good[k] ^ 1 << k % 8]) + good[k + 1 :])
    try:
        net, said = sparse.load(path)
    except ValueError as error:
        assert str(path) in str(error)
        return False
    same = all(map(torch.equal, net.state_dict().values(), before.state_dict().values()))
    return not same or {key: said.get(key) for key in about} != about


@pytest.mark.parametrize("batch", [1, 7])
def test_sparse_matrices_compute_the_same(batch):
    net = pruned("mlp")
    x = torch.randn(batch, 784)
    assert (sparse.to_csr(net)(x) - net(x)).abs().max() < 1e-5 * net(x).abs().max()
    assert isinstance(net.fc1, nn.Linear) and isinstance(sparse.to_csr(net).fc1, sparse.SparseLinear)


def test_layers_of_two_names_are_sparse_under_both():
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
    net.again = net[0]
    csr = sparse.to_csr(net)
    assert type(csr[0]) is sparse.SparseLinear and csr.again is csr[0]


@torch.no_grad()
def test_the_layers_of_torchs_transformers_stay():
    layer, head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)
    net, x = nn.Sequential(nn.TransformerEncoder(layer, 1), head).eval(), torch.randn(2, 3, 8)
    csr = sparse.to_csr(net)
    assert torch.allclose(csr(x), net(x), atol=1e-5) and type(csr[1]) is sparse.SparseLinear


@torch.no_grad()
def test_layers_with_hooks_stay_and_no_examples_give_none():
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)).eval()
    net[0].register_forward_hook(lambda layer, given, out: out.relu())
    csr, x = sparse.to_csr(net), torch.randn(3, 6)
    assert torch.allclose(csr(x), net(x), atol=1e-5) and type(csr[1]) is sparse.SparseLinear
    assert csr(x[:0]).shape == (0, 2)


def test_a_layer_alone_becomes_sparse_and_half_floats_are_refused():
    layer, x = nn.Linear(6, 5), torch.randn(3, 6)
    assert type(csr := sparse.to_csr(layer)) is sparse.SparseLinear and torch.allclose(csr(x), layer(x), atol=1e-5)
    with pytest.raises(ValueError, match=r"no sparse product of torch.bfloat16; call net.float\(\) first"):
        sparse.to_csr(layer.bfloat16())


def test_weights_that_are_made_before_each_call_and_sparse_ones_are_refused():
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2))
    with pytest.raises(
        ValueError, match="'0.weight' of Sequential is a sparse tensor, .* the network as it was before"
    ):
        saving.to_bytes(sparse.to_csr(net))
    prune.l1_unstructured(net[1], "weight", 0.5)
    with pytest.raises(ValueError, match="'1.weight' is made before each call .*; end that first"):
        sparse.to_csr(net)


def test_a_layer_with_a_forward_of_its_own_stays():
    net, x = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2)), torch.randn(3, 6)
    net[0].forward = lambda x, was=net[0].forward: 3 * was(x)
    csr = sparse.to_csr(net)
    assert torch.allclose(csr(x), net(x), atol=1e-5) and type(csr[1]) is sparse.SparseLinear

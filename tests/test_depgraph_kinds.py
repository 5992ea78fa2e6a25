"""What goes and what stays, layer by layer and input by input: masked outputs are the oracle, the count is given."""

import collections
import copy
import dataclasses
import time
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from lib import depgraph, saving
from lib.depgraph import search
from lib.depgraph.proof import difference
from lib.shrinking import ShrinkError

DEAD = [0, 1, 4, 5, 8, 9, 12, 13]


class Call(nn.Module):
    """A module whose forward is a function of it and its inputs."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


@torch.no_grad()
def kill(layer, units):
    layer.weight[units] = 0
    if layer.bias is not None:
        layer.bias[units] = 0
    return layer


def outputs(net, x):
    with torch.no_grad():
        return net.eval()(**x) if isinstance(x, dict) else net.eval()(*x) if isinstance(x, tuple | list) else net(x)


def same(net, x, **options):
    """The shrunk network, after its outputs were compared with the masked one's."""
    small = depgraph.shrink(net.eval(), x, **options)
    a, b = outputs(net, x), outputs(small, x)
    assert torch.allclose(a, b, atol=1e-5, equal_nan=True)
    assert a.dtype == b.dtype
    return small


def first(*layers):
    return nn.Sequential(kill(nn.Conv2d(3, 16, 3, padding=1), DEAD), *layers)


def last():
    return nn.Conv2d(16, 4, 1)


def centred(s, x):
    pairs = x.unflatten(1, (-1, 2))
    return (pairs - pairs.mean((2, 3, 4), keepdim=True)).flatten(1, 2)


BEHIND = {
    "PReLU": lambda: [nn.PReLU(), last()],
    "PReLU of channels": lambda: [nn.PReLU(16), last()],
    "InstanceNorm": lambda: [nn.InstanceNorm2d(16), nn.ReLU(), last()],
    "InstanceNorm with parameters": lambda: [nn.InstanceNorm2d(16, affine=True, track_running_stats=True), last()],
    "GroupNorm of one channel": lambda: [nn.GroupNorm(16, 16), last()],
    "gain": lambda: [Call(lambda s, x: s.gain * F.relu(x), gain=nn.Parameter(torch.rand(1, 16, 1, 1))), last()],
    "gain (16, 1, 1)": lambda: [Call(lambda s, x: x * s.gain, gain=nn.Parameter(torch.rand(16, 1, 1))), last()],
    "transposed": lambda: [nn.ReLU(), nn.ConvTranspose2d(16, 4, 2, 2)],
    "transposed, padded": lambda: [nn.ConvTranspose2d(16, 4, 3, 2, padding=1)],
    "groups": lambda: [nn.ReLU(), nn.Conv2d(16, 16, 3, groups=4), nn.ReLU(), last()],
    "transposed, groups": lambda: [nn.ReLU(), nn.ConvTranspose2d(16, 8, 3, groups=4), nn.Conv2d(8, 2, 1)],
    "depthwise": lambda: [nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.ReLU(), last()],
    "depthwise × 2": lambda: [nn.Conv2d(16, 32, 3, groups=16, bias=False), nn.Conv2d(32, 4, 1)],
    "upsampled": lambda: [nn.Upsample(scale_factor=2, mode="bilinear"), last()],
    "reflected": lambda: [nn.ReflectionPad2d(1), last()],
    "cropped by padding": lambda: [Call(lambda s, x: F.pad(x, (-1, 1, 0, -2))), last()],
    "a weight flipped": lambda: [Call(lambda s, x: F.conv2d(x, s.w.flip(1)), w=nn.Parameter(torch.rand(4, 16, 1, 1)))],
    "a weight repeated": lambda: [
        Call(lambda s, x: F.conv2d(x, s.w.repeat(2, 1, 1, 1)), w=nn.Parameter(torch.rand(4, 16, 1, 1)))
    ],
    "zero padded": lambda: [nn.ZeroPad2d(1), last()],
    "pooled, flattened": lambda: [nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(64, 4)],
    "average pooled, padded": lambda: [nn.AvgPool2d(3, 1, 1), last()],
    "GLU": lambda: [nn.Conv2d(16, 8, 1), nn.GLU(1), nn.Conv2d(4, 2, 1)],
    "einsum": lambda: [Call(lambda s, x: torch.einsum("bchw,oc->bohw", x, s.w), w=nn.Parameter(torch.rand(4, 16)))],
    "channels last": lambda: [Call(lambda s, x: s.o(x.permute(0, 2, 3, 1)), o=nn.Linear(16, 3))],
    "unfold": lambda: [Call(lambda s, x: s.o(F.unfold(x, 3).mT), o=nn.Linear(144, 3))],
    "chunks joined": lambda: [Call(lambda s, x: torch.cat(x.chunk(2, 1)[::-1], 1)), last()],
    "written in place": lambda: [Call(lambda s, x: torch.zeros_like(x).copy_(x)), last()],
    "cat": lambda: [Call(lambda s, x: torch.cat([x, s.o(x)], 1), o=nn.Conv2d(16, 3, 1)), nn.Conv2d(19, 2, 1)],
    "maxima of pairs": lambda: [Call(lambda s, x: x.unflatten(1, (-1, 2)).amax(2)), nn.Conv2d(8, 4, 1)],
    "pairs about their mean": lambda: [Call(centred), last()],
    "gain of two axes": lambda: [
        Call(
            lambda s, x: (x.unflatten(1, (2, -1)) * s.gain[..., None, None]).flatten(1, 2),
            gain=nn.Parameter(torch.rand(2, 8)),
        ),
        last(),
    ],
    "a row of a table": lambda: [
        Call(lambda s, x: (x.permute(0, 2, 3, 1) @ s.w[1]).unsqueeze(1), w=nn.Parameter(torch.rand(3, 16)))
    ],
    "unfolded and folded": lambda: [Call(lambda s, x: F.fold(F.unfold(x, 2, stride=2), (8, 8), 2, stride=2)), last()],
    "added to rows": lambda: [Call(lambda s, x: torch.zeros_like(x).index_add(0, torch.tensor([1, 1]), x)), last()],
    "complex": lambda: [Call(lambda s, x: torch.complex(x, x).abs()), last()],
}


@pytest.mark.parametrize("name", BEHIND)
def test_dead_filters_go_whatever_is_behind_them(name):
    net, x = first(*BEHIND[name]()), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        for p in net[1:].parameters():
            p.add_(0.1 * torch.randn_like(p))
    assert same(net, x)[0].out_channels == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        depgraph.shrink(net, x)


STAY = {
    "GroupNorm": (lambda: [nn.GroupNorm(4, 16), last()], "mixed by native_group_norm"),
    "layer norm": (lambda: [Call(lambda s, x: F.layer_norm(x, x.shape[1:])), last()], "mixed by native_layer_norm"),
    "softmax": (lambda: [nn.Softmax(1), last()], "mixed by _softmax"),
    "mean of channels": (lambda: [Call(lambda s, x: x - x.mean(1, keepdim=True)), last()], "mixed by mean"),
    "sorted": (lambda: [Call(lambda s, x: x.sort(1).values), last()], "mixed by sort"),
    "fft": (lambda: [Call(lambda s, x: torch.fft.fft(x, dim=1).real), last()], "for which there is no rule"),
    "a fixed number": (lambda: [Call(lambda s, x: s.o(x.view(2, 16, -1).mT), o=nn.Linear(16, 2))], "cannot be sliced"),
    "fixed places": (lambda: [Call(lambda s, x: x[:, 4:8]), nn.Conv2d(4, 2, 1)], "cannot be sliced"),
    "fixed numbers": (lambda: [Call(lambda s, x: x[:, [5, 0, 15, 3]]), nn.Conv2d(4, 2, 1)], "cannot be sliced"),
    "the output": (lambda: [], ""),
    "asserted": (lambda: [Call(lambda s, x: s.o(x if x.shape[1] == 16 else None), o=last())], "cannot be sliced"),
}


@pytest.mark.parametrize("name", STAY)
def test_what_stays_is_reported_with_its_reason_and_one_warning(name):
    build, reason = STAY[name]
    net, x = first(*build()), torch.randn(2, 3, 8, 8)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        small = same(net, x)
    assert small[0].out_channels == 16
    assert len(said) == bool(reason)
    found = depgraph.report(net, x)
    assert all(reason in why or why == "no layer reads it" for why in found.stayed)
    assert sum(found.stayed.values()) == (8 if reason else 0)
    assert reason in str(found)
    assert str(found).splitlines()[1].split()[:3] == ["0", "16", "16"]


def test_a_constant_behind_padding_is_reported():
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 3, padding=1))
    net[0].weight.data[0] = 0
    with pytest.warns(UserWarning, match="1 dead units stay .1 constant, which what follows"):
        assert same(net, torch.randn(2, 1, 5, 5))[0].out_channels == 4


# --- blocks --------------------------------------------------------------------------------------------------------


def block(inner, width=8):
    """A block between filters of which half are dead behind it."""
    layers = [nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), inner, kill(nn.Conv2d(width, 12, 3, 1, 1), slice(6)), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(12, 2, 1)), torch.randn(1, 3, 8, 8)


def gate(s, x):
    a, b = s.d(s.i(x)).chunk(2, 1)
    return s.o(F.gelu(a) * b)


def test_gates_lose_the_same_channels_of_both_halves():
    inner = Call(gate, i=nn.Conv2d(8, 32, 1), d=nn.Conv2d(32, 32, 3, 1, 1, groups=32), o=nn.Conv2d(16, 8, 1))
    net, x = block(inner)
    net[2].o.weight.data[:, [1, 5, 9]] = 0
    small = same(net, x)
    assert (small[2].i.out_channels, small[2].d.groups, small[3].out_channels) == (26, 26, 6)


def test_a_map_of_one_channel_stays():
    net = Call(
        lambda s, x: s.o(F.relu(s.c(x)) * torch.sigmoid(s.m(x))),
        **{"c": kill(nn.Conv2d(3, 16, 1), slice(8)), "m": nn.Conv2d(3, 1, 1), "o": nn.Conv2d(16, 3, 1)},
    )
    small = same(net, torch.randn(1, 3, 8, 8))
    assert (small.c.out_channels, small.m.out_channels) == (8, 1)


def test_pixel_shuffle_takes_all_filters_of_a_channel():
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 2, 1))
    net[2].weight.data[:, 1] = 0
    kill(net[0], [12])  # one of four: the channel is alive
    small = same(net, torch.randn(1, 3, 8, 8))
    assert (small[0].out_channels, small[2].in_channels) == (12, 3)


def shuffled(s, x):
    a, b = x.chunk(2, 1)
    x = torch.cat([a, s.b(b)], 1)
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def test_channel_shuffle_loses_what_both_halves_lose():
    net = nn.Sequential(nn.Conv2d(3, 8, 1), Call(shuffled, b=nn.Conv2d(4, 4, 1)), nn.Conv2d(8, 3, 1))
    net[1].b.weight.data[:, 2] = 0
    net[2].weight.data[:, [2, 3, 5]] = 0  # the second channel of both halves, and one of a half alone
    small = same(net, torch.randn(1, 3, 4, 4))
    assert (small[0].out_channels, small[1].b.out_channels, small[2].in_channels) == (6, 3, 6)


def test_a_shortcut_padded_with_zeros():
    pad = Call(lambda s, x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)) + s.c(x), c=nn.Conv2d(8, 16, 3, 2, 1))
    net = nn.Sequential(nn.Conv2d(3, 8, 1), pad, nn.Conv2d(16, 2, 1))
    net[2].weight.data[:, 5:8] = 0
    kill(net[0], [1, 2])
    small = same(net, torch.randn(1, 3, 8, 8))
    assert small[0].out_channels in (5, 6)
    net[1].c.weight.data[:, 1:4] = 0
    assert same(net, torch.randn(1, 3, 8, 8))[0].out_channels == 5


def attend(s, x):
    b, t, _ = x.shape
    q, k, v = (layer(x).view(b, t, 4, -1).transpose(1, 2) for layer in (s.q, s.k, s.v))
    a = (q @ k.mT * 0.3).softmax(-1)
    return s.o((a @ v).transpose(1, 2).reshape(b, t, -1))


def test_heads_lose_equally_many_dimensions():
    net = Call(attend, q=nn.Linear(6, 16), k=nn.Linear(6, 16), v=nn.Linear(6, 16), o=nn.Linear(16, 6))
    kill(net.q, [0, 5, 10, 15])  # another of each head: the product does not see the keys there
    net.o.weight.data[:, [0, 1, 4, 8, 12]] = 0
    small = same(net, torch.randn(2, 5, 6))
    assert [layer.out_features for layer in (small.q, small.k, small.v)] == [12, 12, 12]


def test_the_inner_layer_of_a_transformer_goes_and_its_attention_stays():
    net = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    net.linear2.weight.data[:, :20] = 0
    small = same(net, torch.randn(2, 5, 16))
    assert (small.linear1.out_features, small.self_attn.embed_dim) == (12, 16)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("given", [False, True])
def test_layers_around_recurrent_ones(kind, given):
    def forward(s, x):
        state = [torch.zeros(1, len(x), 12)] if given and kind is not nn.LSTM else []
        return s.o(s.r(F.relu(s.i(x)), *state)[0][:, -1])

    net = Call(forward, i=kill(nn.Linear(8, 16), slice(6)), r=kind(16, 12, batch_first=True), o=nn.Linear(12, 3))
    small = same(net, torch.randn(2, 5, 8))
    assert (small.i.out_features, small.r.input_size) == (10, 10)


def test_embedding_width():
    net = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    net[0].weight.data[:, :3] = 0
    small = same(net, torch.randint(9, (2, 5)))
    assert (small[0].embedding_dim, small[1].in_features) == (5, 5)


def test_groups_of_a_convolution_go_whole_or_lose_equally_many():
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1, groups=4), nn.Conv2d(16, 2, 1))
    net[2].weight.data[:, [0, 1, 2, 3, 4, 8, 9, 12]] = 0  # a group, and one, two and one of the others
    small = same(net, torch.randn(2, 3, 4, 4))
    assert (small[0].out_channels, small[1].groups, tuple(small[1].weight.shape)) == (12, 3, (9, 4, 1, 1))
    fresh = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1, groups=4), nn.Conv2d(16, 2, 1))
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(loaded(fresh, small)(x), small(x))


def loaded(fresh, small):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net").write_bytes(saving.to_bytes(small))
        return saving.load_into(fresh, Path(folder) / "net")


# --- inputs and types ----------------------------------------------------------------------------------------------


def two(function):
    layers = {"h": kill(nn.Linear(8, 16), slice(6)), "g": kill(nn.Linear(4, 16), slice(6)), "a": nn.Linear(16, 3)}
    return Call(function, **layers)


@pytest.mark.parametrize("given", [dict, tuple, list])
def test_several_inputs(given):
    net = two(lambda s, x, y: s.a(F.relu(s.h(x)) + s.g(y)))
    x = {"x": torch.randn(2, 8), "y": torch.randn(2, 4)}
    assert same(net, x if given is dict else given(x.values())).h.out_features == 10


INPUTS = {
    "None": ((torch.randn(2, 8), None), lambda s, x, y: s.a(F.relu(s.h(x)))),
    "uint8": (torch.randint(255, (2, 8), dtype=torch.uint8), lambda s, x: s.a(F.relu(s.h(x.float() / 255)))),
    "one hot": (torch.arange(4), lambda s, x: s.a(F.relu(s.h(F.one_hot(x, 8).float())))),
    "float inside": (torch.randn(2, 8), lambda s, x: s.a(F.relu(s.h(x)).float())),
    "a list": ([[torch.randn(8), torch.randn(8)]], lambda s, x: s.a(F.relu(s.h(torch.stack(x))))),
    "nested": ({"x": {"y": [torch.randn(2, 8)]}}, lambda s, x: s.a(F.relu(s.h(x["y"][0])))),
    "-inf": (torch.randn(2, 8), lambda s, x: s.a(s.h(x)).masked_fill(torch.tensor([True, False, False]), -torch.inf)),
    "nan": (torch.randn(2, 8), lambda s, x: s.a(s.h(x)) * torch.tensor([1.0, torch.nan, 1.0])),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_and_outputs_of_every_kind(name):
    x, function = INPUTS[name]
    net = two(function)
    del net.g
    assert same(net, x).h.out_features == 10


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_each_tensor_keeps_its_type(kind):
    net = nn.Sequential(kill(nn.Linear(8, 16), slice(6)), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).to(kind)
    net[1].float() if kind is torch.bfloat16 else None
    net.register_buffer("t", torch.linspace(0, 1, 5, dtype=torch.float64))
    net.register_buffer("n", torch.arange(5, dtype=torch.int32))
    net[1].bias.data[:6] = 0
    small = depgraph.shrink(net.eval(), torch.randn(1, 8).to(kind))
    assert small[0].out_features == 10
    assert {k: v.dtype for k, v in small.state_dict().items()} == {k: v.dtype for k, v in net.state_dict().items()}


def test_an_example_of_a_wrong_size_or_without_a_batch_axis_is_refused():
    net = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    with pytest.raises(ShrinkError, match=r"fails on the example of shape \(1, 63\)"):
        depgraph.shrink(net, torch.zeros(1, 63))
    with pytest.raises(ShrinkError, match=r"example of shape \(64,\) has no batch axis; pass example\[None\]"):
        depgraph.shrink(net, torch.zeros(64))
    convolutions = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    with pytest.raises(ShrinkError, match=r"example of shape \(3, 9, 9\) has no batch axis; pass example\[None\]"):
        depgraph.shrink(convolutions, torch.zeros(3, 9, 9))
    assert not any(layer._forward_pre_hooks for layer in convolutions)
    with pytest.raises(ShrinkError, match="the example has no tensor"):
        depgraph.shrink(net, None)


def test_nothing_that_was_given_changes():
    net = nn.Sequential(nn.ReLU(inplace=True), kill(nn.Linear(8, 16), slice(6)), nn.Dropout(), nn.Linear(16, 3))
    net.train()
    net[1].eval()
    net[3].weight.requires_grad_(False)
    calls = net.register_forward_hook(lambda *a: None)
    x, before, random = torch.randn(2, 8), copy.deepcopy(net.state_dict()), torch.get_rng_state()
    kept = x.clone()
    small = depgraph.shrink(net, x)
    assert torch.equal(x, kept)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    for other in (net, small):
        assert [layer.training for layer in other.modules()] == [True, True, False, True, True]
        assert list(other._forward_hooks) == [calls.id]
        assert [p.requires_grad for p in other.parameters()] == [True, True, False, True]
    assert torch.backends.mkldnn.enabled
    assert torch.backends.mha.get_fastpath_enabled()


# --- shared, computed and idle -------------------------------------------------------------------------------------


def test_shared_layers_and_tied_weights_stay_shared(tmp_path):
    def build():
        net = Call(
            lambda s, x: s.o(F.relu(s.b(F.relu(s.a(F.relu(s.i(x))))))),
            **{"i": nn.Linear(8, 16), "a": nn.Linear(16, 16), "b": nn.Linear(16, 16), "o": nn.Linear(16, 3)},
        )
        net.b.weight = net.a.weight
        return net

    net = build()
    for layer in (net.i, net.a, net.b):
        kill(layer, slice(6))
    small = same(net, torch.randn(2, 8))
    assert small.a.weight is small.b.weight
    assert tuple(small.a.weight.shape) == (10, 10)
    again = loaded(build(), small)
    assert again.a.weight is again.b.weight
    x = torch.randn(2, 8)
    assert torch.equal(again(x), small(x))


def test_a_layer_that_is_called_twice():
    layers = {"i": kill(nn.Linear(8, 16), slice(6)), "a": kill(nn.Linear(16, 16), slice(6)), "o": nn.Linear(16, 3)}
    net = Call(lambda s, x: s.o(F.relu(s.a(F.relu(s.a(s.i(x)))))), **layers)
    assert same(net, torch.randn(2, 8)).a.in_features == 10


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda layer: prune.ln_structured(layer, "weight", 0.5, 2, 0), r"prune.remove\(layer, 'weight'\)"),
        (lambda layer: prune.random_unstructured(layer, "bias", 0.5), r"prune.remove\(layer, 'bias'\)"),
        (nn.utils.parametrizations.weight_norm, r"remove_parametrizations\(layer, 'weight'\)"),
        (nn.utils.parametrizations.orthogonal, r"remove_parametrizations\(layer, 'weight'\)"),
        (nn.utils.spectral_norm, r"remove_spectral_norm\(layer\)"),
    ],
)
def test_computed_weights_are_refused_with_how_to_end_it(change, remedy):
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    change(net[0])
    with pytest.raises(ShrinkError, match=rf"of '0' is computed from others .* end that first by .*{remedy}"):
        depgraph.shrink(net, torch.randn(1, 8))


def test_layers_that_the_example_does_not_run_still_fit():
    def forward(s, x, more=False):
        h = F.relu(s.h(x))
        return s.more(h + s.side(x)) if more else s.a(h)

    layers = {"h": kill(nn.Linear(8, 16), slice(6)), "a": nn.Linear(16, 3), "side": nn.Linear(8, 16)}
    net = Call(forward, **layers, more=nn.Linear(16, 3))
    x = torch.randn(2, 8)
    with pytest.warns(UserWarning, match="may belong to 'side', which the example does not run"):
        small = same(net, x)
    assert torch.equal(small(x, more=True), net(x, more=True))
    assert depgraph.report(net, x).idle == ("side", "more")


def test_layers_of_training_alone_are_sliced_with_the_others():
    def forward(s, x):
        h = F.relu(s.h(x))
        return (s.a(h), s.aux(h)) if s.training else s.a(h)

    net = Call(forward, h=kill(nn.Linear(8, 16), slice(6)), a=nn.Linear(16, 3), aux=nn.Linear(16, 3))
    x = torch.randn(2, 8)
    small = same(net, x)
    assert (small.h.out_features, small.aux.in_features) == (10, 10)
    assert torch.allclose(small.train()(x)[1], net.train()(x)[1], atol=1e-5)


def test_a_bound_on_the_time():
    net = nn.Sequential(*[nn.Linear(8, 8) for _ in range(9)])
    with pytest.raises(ShrinkError, match="Sequential was not traced within 0 s; pass a smaller example, seconds="):
        depgraph.shrink(net, torch.randn(2, 8), seconds=0)


def test_the_bound_is_by_the_clock_whatever_the_processor_does():
    slow = Call(lambda s, x: (time.sleep(0.05), s.a(x))[1], a=nn.Linear(8, 8))
    with pytest.raises(ShrinkError, match="was not traced within 0.2 s"):
        depgraph.shrink(nn.Sequential(*[slow] * 40), torch.randn(2, 8), seconds=0.2)


def test_the_bound_holds_for_the_comparison_too(monkeypatch):
    net, x = nn.Sequential(kill(nn.Linear(8, 16), slice(6)), nn.ReLU(), nn.Linear(16, 3)), torch.randn(2, 8)
    monkeypatch.setattr(search, "difference", lambda *given: (setattr(given[3], "until", 0), difference(*given))[1])
    with pytest.raises(ShrinkError, match="Sequential was not compared with the smaller one within 120 s; pass a sm"):
        depgraph.shrink(net, x)


# --- what was looked for beside -------------------------------------------------------------------------------------


def test_a_norm_behind_pixel_shuffle_takes_all_filters_of_a_channel():
    layers = [nn.PixelShuffle(2), nn.BatchNorm2d(4), nn.PReLU(4), nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)]
    net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *layers)
    net[4].weight.data[:, 1] = 0
    small = same(net, torch.randn(1, 3, 8, 8))
    assert (small[0].out_channels, small[2].num_features, small[3].num_parameters, small[4].in_channels) == (
        12,
        3,
        3,
        3,
    )


def test_an_instance_norm_without_parameters_is_told_its_width():
    small = same(first(nn.InstanceNorm2d(16), last()), torch.randn(2, 3, 8, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(torch.randn(2, 3, 8, 8))
    assert small[1].num_features == 8


class Batch(nn.Module):
    def __init__(self):
        super().__init__()
        self.h, self.a = kill(nn.Linear(8, 16), slice(6)), nn.Linear(16, 3)

    def forward(self, batch):
        return self.a(F.relu(self.h(batch["x"])))


def test_a_mapping_as_the_only_argument():
    net, x = Batch().eval(), {"x": torch.randn(2, 8)}
    small = depgraph.shrink(net, x)
    assert small.h.out_features == 10
    assert torch.allclose(net(x), small(x), atol=1e-5)


def test_filters_picked_by_what_depends_on_the_input_stay_and_tokens_may_be_picked():
    def best(s, x):
        h = F.relu(s.h(x))
        order = h.sum(-1, keepdim=True).topk(2, dim=1).indices
        return s.a(h.gather(1, order.expand(-1, -1, h.shape[-1])))

    net = Call(best, h=kill(nn.Linear(8, 16), slice(6)), a=nn.Linear(16, 3))
    assert same(net, torch.randn(2, 5, 8)).h.out_features == 16  # the sum over channels is not gone into
    tokens = Call(lambda s, x: s.a(F.relu(s.h(x))[:, [0, 2]]), h=kill(nn.Linear(8, 16), slice(6)), a=nn.Linear(16, 3))
    assert same(tokens, torch.randn(2, 5, 8)).h.out_features == 10


def test_a_class_token_and_positions():
    def forward(s, x):
        x = torch.cat([s.token.expand(len(x), -1, -1), s.i(x)], 1) + s.place
        return s.o(F.relu(x).mean(1))

    def parameter(*shape):
        return nn.Parameter(torch.randn(shape))

    net = Call(forward, i=nn.Linear(8, 16), o=nn.Linear(16, 3), token=parameter(1, 1, 16), place=parameter(1, 6, 16))
    net.o.weight.data[:, :6] = 0
    small = same(net, torch.randn(2, 5, 8))
    assert (small.i.out_features, tuple(small.token.shape), tuple(small.place.shape)) == (10, (1, 1, 10), (1, 6, 10))


def test_a_float_that_is_read_out_makes_nothing_constant():
    net = two(lambda s, x: s.a(torch.full_like(s.h(x), float(x.max()))))
    assert same(net, torch.randn(2, 8)).a.in_features == 16


def test_hidden_units_of_a_recurrent_layer():
    net = Call(lambda s, x: s.o(s.r(x)[0][:, -1]), r=nn.GRU(8, 12, batch_first=True), o=nn.Linear(12, 3))
    with torch.no_grad():
        net.r.weight_hh_l0[:, :4] = 0
        net.o.weight[:, :4] = 0
    small = same(net, torch.randn(2, 5, 8))
    assert (small.r.hidden_size, small.o.in_features) == (8, 8)


def test_a_layer_without_a_weight_yet_is_refused():
    with pytest.raises(ShrinkError, match="'0' has no weight yet; call the network once on the example"):
        depgraph.shrink(nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2)), torch.randn(2, 3))


def test_a_part_that_is_a_script_is_refused_and_hooks_need_no_import_of_prune(monkeypatch):
    scripted = nn.Sequential(torch.jit.script(nn.Sequential(nn.Linear(8, 16), nn.ReLU())), nn.Linear(16, 3))
    with pytest.raises(ShrinkError, match="'0' is no layer of Python's; put the nn.Module that it was made of in"):
        depgraph.shrink(scripted, torch.randn(2, 8))
    monkeypatch.delattr(nn.utils, "prune")  # as it is where nobody has imported it
    net = nn.Sequential(kill(nn.Linear(8, 16), slice(6)), nn.ReLU(), nn.Linear(16, 3))
    net[0].register_forward_pre_hook(lambda layer, x: None)
    assert same(net, torch.randn(2, 8))[0].out_features == 10


def test_what_cannot_be_copied_is_refused_with_what_to_take_off():
    net = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 3))
    net.kept = net(torch.randn(2, 8))
    with pytest.raises(ShrinkError, match="Sequential cannot be copied .*; take off what it holds beside its weights"):
        depgraph.shrink(net, torch.randn(2, 8))


@dataclasses.dataclass(slots=True)
class Beside:
    hidden: torch.Tensor


@pytest.mark.parametrize("kind", [Beside, lambda h: collections.deque([h]), lambda h: frozenset([h])])
def test_outputs_in_objects_without_a_dict_are_outputs(kind):
    """A part of an output that is not seen would lose its dead units, and nothing would compare it."""
    net = Call(lambda s, x: (s.o(h := F.relu(s.h(x))), kind(h)), h=kill(nn.Linear(8, 16), slice(6)), o=nn.Linear(16, 3))
    small = depgraph.shrink(net.eval(), torch.randn(2, 8))
    assert small.h.out_features == 16


@pytest.mark.parametrize(
    "layer", [lambda g: nn.Conv2d(8, 8, 1, groups=g), lambda g: nn.ConvTranspose2d(8, 8, 2, groups=g)]
)
@pytest.mark.parametrize("groups", [2, 4, 8])
@pytest.mark.parametrize("left", [1, 3, 5])
def test_a_file_tells_how_many_groups_are_left(layer, groups, left):
    build = lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), layer(groups), nn.ReLU(), nn.Conv2d(8, 2, 1))  # noqa: E731
    net, x = build(), torch.randn(2, 3, 4, 4)
    net[4].weight.data[:, left:] = 0
    kill(net[0], slice(left, None))
    small = same(net, x)
    again = loaded(build(), small)
    assert torch.equal(outputs(again, x), outputs(small, x))
    assert torch.equal(outputs(loaded(build(), again), x), outputs(small, x))


def test_a_compiled_network_is_shrunk_as_what_it_was_made_of():
    net = nn.Sequential(kill(nn.Linear(8, 16), slice(6)), nn.ReLU(), nn.Linear(16, 3))
    compiled = torch.compile(net, backend="eager")
    with torch.compiler.set_stance("force_eager"):
        assert same(compiled, torch.randn(2, 8))._orig_mod[0].out_features == 10


class Stateful(nn.Linear):
    """A layer whose state has something that is no tensor, as quantised ones have."""

    def get_extra_state(self):
        return "packed"

    def set_extra_state(self, state):
        pass


def test_a_state_of_other_things_than_tensors():
    net = nn.Sequential(kill(nn.Linear(8, 16), slice(6)), nn.ReLU(), Stateful(16, 3))
    assert same(net, torch.randn(2, 8))[0].out_features == 10


def test_queries_keys_and_values_of_one_layer_lose_equally_many_of_each_head():
    def forward(s, x):
        q, k, v = s.i(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        return s.o(((q @ k.mT * 0.3).softmax(-1) @ v).transpose(1, 2).flatten(2))

    net = Call(forward, i=nn.Linear(8, 48), o=nn.Linear(16, 3))
    dead = [0, 1, 2, 8, 9]  # three of the first head, two of the second
    kill(net.i, dead)
    net.o.weight.data[:, dead] = 0
    assert same(net, torch.randn(2, 5, 8)).i.out_features == 36


def test_a_projected_recurrent_layer():
    net = Call(lambda s, x: s.o(s.r(F.relu(s.i(x)))[0]), i=kill(nn.Linear(8, 16), slice(6)), o=nn.Linear(6, 3))
    net.r = nn.LSTM(16, 12, proj_size=6, batch_first=True)
    net.o.weight.data[:, :2] = net.r.weight_hh_l0.data[:, :2] = 0
    small = same(net, torch.randn(2, 5, 8))
    assert (small.r.input_size, small.r.hidden_size, small.r.proj_size, small.o.in_features) == (10, 12, 4, 4)


@torch.no_grad()
def test_statistics_that_a_layer_keeps_itself_are_as_wide_as_its_units():
    def forward(s, x):
        h = F.relu(s.i(x))
        s.seen += h.mean(0)
        return s.o(h)

    net = Call(forward, i=kill(nn.Linear(8, 16), slice(6)), o=nn.Linear(16, 3))
    net.register_buffer("seen", torch.zeros(16))
    small = same(net, torch.randn(2, 8))
    assert (small.i.out_features, len(small.seen)) == (10, 10)


def test_a_pass_in_training_that_fails_leaves_no_trace():
    def forward(s, x):
        h = s.n(F.relu(s.h(x)))
        return (s.a(h), s.aux(h[:, :2])) if s.training else s.a(h)  # aux never fits

    layers = {"h": kill(nn.Linear(8, 16), slice(6)), "n": nn.BatchNorm1d(16), "a": nn.Linear(16, 3)}
    net = Call(forward, **layers, aux=nn.Linear(5, 3))
    net.n.running_mean.normal_()
    with torch.no_grad():
        net.n.weight[:6] = net.n.bias[:6] = 0
    assert same(net, torch.randn(4, 8)).h.out_features == 10


def test_a_table_of_positions_that_a_layer_makes_into_biases():
    def forward(s, x):
        return s.o(F.relu(s.i(x)) + s.b(F.relu(s.t(s.table))))

    layers = {"t": nn.Linear(2, 12), "b": nn.Linear(12, 16), "o": nn.Linear(16, 3)}
    net = Call(forward, i=kill(nn.Linear(8, 16), slice(6)), **layers)
    net.register_buffer("table", torch.randn(5, 2))
    kill(net.b, slice(6))
    net.b.weight.data[:, :4] = 0
    net.t.bias.data[:] = 20  # all positions pass the ReLU
    small = same(net, torch.randn(2, 5, 8))
    assert (small.i.out_features, small.t.out_features, small.b.in_features) == (10, 8, 8)
    net.t.bias.data[7] = -20  # silent at every position
    assert same(net, torch.randn(2, 5, 8)).t.out_features == 7


def test_groups_that_are_left_with_one_channel_each_are_not_taken_for_a_depthwise_convolution():
    net = first(nn.ReLU(), nn.Conv2d(16, 16, 3, groups=4), nn.ReLU(), last())
    for layer in (net[0], net[2]):
        kill(layer, [k for k in range(16) if k % 4 != 2])
    small = same(net, torch.randn(2, 3, 8, 8))
    assert small[2].weight.shape == (4, 1, 3, 3) and small[2].groups == 4


@pytest.mark.parametrize("scale", [lambda w: w.norm(dim=1, keepdim=True), lambda w: 1 / w.abs().amax(1, keepdim=True)])
def test_weights_with_a_scale_for_each_unit_lose_units(scale):
    net = Call(lambda s, x: s.o(F.relu(F.linear(s.i(x), s.w * scale(s.w)))), w=nn.Parameter(torch.randn(16, 8)))
    net.i, net.o = nn.Linear(8, 8), nn.Linear(16, 3)
    net.o.weight.data[:, :6] = 0
    net.w.data[:, :2] = 0  # what is read here stays: the scale is made of all of a row
    small = same(net, torch.randn(2, 8))
    assert (tuple(small.w.shape), small.i.out_features) == ((10, 8), 8)


def test_one_of_the_rows_that_are_mixed_may_be_left():
    net = nn.Sequential(nn.Linear(4, 12), Call(lambda s, x: x.unflatten(-1, (-1, 3)).amax(-1)), nn.Linear(4, 2))
    net[2].weight.data[:, :3] = 0
    small = same(net, torch.randn(2, 4))
    assert (small[0].out_features, small[2].in_features) == (3, 1)


def test_a_convolution_that_reads_places_hinders_no_other_layer():
    """A code of places has the channels that its function says, none of which is dead."""

    def forward(s, x):
        rows, columns = torch.meshgrid(*(torch.arange(n).to(x) for n in x.shape[2:]), indexing="ij")
        code = torch.stack([rows.sin(), columns.sin(), 0.1 * rows, torch.ones_like(rows)])[None]
        return s.o(s.b((s.a(x) + s.p(code)).relu()).relu())

    layers = {"a": nn.Conv2d(3, 16, 1), "p": nn.Conv2d(4, 16, 1), "b": nn.Conv2d(16, 64, 1), "o": nn.Conv2d(64, 3, 1)}
    net, x = Call(forward, **layers).eval(), torch.randn(1, 3, 7, 5)
    with torch.no_grad():
        net.b.weight[:32] = net.b.bias[:32] = 0
        small = depgraph.shrink(net, x)
        assert (small.p.in_channels, small.b.out_channels) == (4, 32)
        assert torch.allclose(small(x), net(x), atol=1e-6)


def test_a_weight_that_a_batch_norm_makes_even_keeps_its_units_alone():
    """Weight standardisation as timm's ScaledStdConv2d has it: fewer weights have another mean."""

    class Even(nn.Conv2d):
        def forward(self, x):
            rows = self.weight.reshape(1, len(self.weight), -1)
            rows = nn.functional.batch_norm(rows, None, None, training=True)
            return nn.functional.conv2d(x, rows.view_as(self.weight), self.bias)

    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU(), nn.Conv2d(24, 16, 3), nn.ReLU()]
    net, x = nn.Sequential(*layers, Even(16, 8, 3)).eval(), torch.randn(1, 3, 12, 12)
    with torch.no_grad():
        for layer in layers[::2]:
            layer.weight[::2] = layer.bias[::2] = 0
        small, report = depgraph.shrunk(net, x)
        assert [layer.out_channels for layer in small[::2]] == [8, 12, 16, 8]
        assert report.rows[2].stayed == {"mixed by native_batch_norm": 8}
        assert torch.allclose(small(x), net(x), atol=1e-5)


def test_a_parameter_of_the_network_that_nothing_reads_is_named():
    net = Call(lambda s, x: s.o(s.i(x).relu()), i=nn.Linear(8, 12), o=nn.Linear(12, 3))
    net.extra = nn.Parameter(torch.randn(12))
    net.i.weight.data[::2] = net.i.bias.data[::2] = 0
    rows = depgraph.shrunk(net.eval(), torch.randn(2, 8))[1].rows
    assert rows[0].stayed == {"may belong to 'extra', which the example does not run": 6}

"""Networks drawn at random from operations of every kind, with dead units: what is made of them computes the same."""

import copy
import os
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lib import depgraph, inference, saving

SEED = int(os.environ["ATTACK_SEED"])
STARTS = [(2, 3, 6, 6), (2, 3, 6, 6), (2, 5, 8), (2, 10)]  # images, rows of a sequence, vectors
POINTWISE = [F.relu, torch.tanh, torch.sigmoid, F.gelu, F.silu, F.leaky_relu, F.hardswish, F.softplus, torch.abs]
POINTWISE += [torch.square, torch.neg, torch.sin, torch.cos, torch.exp, F.mish, F.relu6, F.elu]
POINTWISE += [lambda a: 2 * a + 1, lambda a: 1 - a, lambda a: a.clamp(-1, 1), lambda a: torch.where(a > 0, a, a / 10)]
POINTWISE += [lambda a: a.masked_fill(a < -1, 0.0), lambda a: torch.maximum(a, torch.zeros_like(a)), lambda a: a**3]
POINTWISE += [lambda a: torch.lerp(a, 2 * a, 0.3), lambda a: torch.addcmul(a, a, a), lambda a: a.abs().add(1).log()]
TOGETHER = [torch.add, torch.mul, torch.sub, torch.maximum, lambda a, b: a * b.sigmoid(), lambda a, b: (a + b) / 2]
TOGETHER += [lambda a, b: torch.cat([a, b], channels(a)), lambda a, b: torch.stack([a, b]).sum(0)]
TOGETHER += [lambda a, b: torch.where(a > b, a, b), lambda a, b: torch.stack([a, b], -1).flatten(-2)]
OF_CHANNELS = [  # of tensors with the channels last
    lambda a: a[..., : a.shape[-1] // 2],
    lambda a: a[..., ::2],
    lambda a: a[..., 1:],
    lambda a: a.chunk(2, -1)[1],
    lambda a: a.flip(-1),
    lambda a: a.roll(1, -1),
    lambda a: F.glu(a, -1),
    lambda a: F.pad(a, (0, 2)),
    lambda a: torch.cat([a, a], -1),
    lambda a: a.repeat_interleave(2, -1),
    lambda a: a.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2),  # a shuffle
    lambda a: a.unflatten(-1, (2, -1)).sum(-2),
    lambda a: a.sum(-1, keepdim=True) + a,
    lambda a: a.softmax(-1),
    lambda a: a.cumsum(-1),
    lambda a: a.sort(-1)[0],
    lambda a: F.normalize(a, dim=-1),
    lambda a: a.diff(dim=-1),
]
OF_PLACES = {  # by the number of dimensions
    4: [
        lambda a: F.max_pool2d(a, 2),
        lambda a: F.avg_pool2d(a, 2),
        lambda a: F.interpolate(a, scale_factor=2),
        lambda a: F.interpolate(a, size=(4, 4), mode="bilinear"),
        lambda a: F.pad(a, (1, 1, 0, 1), value=0.5),
        lambda a: F.unfold(a, 2).transpose(1, 2),
        lambda a: F.pixel_unshuffle(a, 2),
        lambda a: F.pixel_shuffle(a, 2),
        lambda a: F.local_response_norm(a, 3),
        lambda a: a.mean((2, 3)),
        lambda a: a.amax((2, 3)),
        lambda a: a.std((2, 3)),
        lambda a: a.flatten(1),
        lambda a: a.flatten(2).transpose(1, 2),
        lambda a: a - a.mean((2, 3), keepdim=True),
        lambda a: torch.cat([a, F.avg_pool2d(a, 3, 1, 1)], 1),
    ],
    3: [
        lambda a: a.mean(1),
        lambda a: a[:, 0],
        lambda a: a.flatten(1),
        lambda a: a.transpose(1, 2),
        lambda a: (a @ a.transpose(1, 2)).softmax(-1) @ a,
        lambda a: F.scaled_dot_product_attention(a, a, a),
        lambda a: torch.cat([a, a[:, :1]], 1),
        lambda a: a.unsqueeze(-1),
    ],
    2: [lambda a: a.unsqueeze(1), lambda a: a[:, :, None, None], lambda a: a.unflatten(1, (2, -1))],
}


def channels(a):
    """The dimension of the channels: after the batch in images, last in all else."""
    return 1 if a.dim() == 4 else -1


def channels_last(function):
    return lambda a, *layers: function(a.movedim(channels(a), -1), *layers).movedim(-1, channels(a))


def layer(draw, a):
    """A layer that takes a tensor: one with weights, or a norm."""
    n, out = a.shape[channels(a)], draw.choice([4, 6, 8, 12])
    linear, bias = nn.Linear(n, out, bias=draw.random() < 0.7), draw.random() < 0.7
    if a.dim() == 4:
        mode, by = draw.choice(["zeros", "zeros", "reflect", "circular"]), draw.choice([1, 2])
        kinds = [nn.Conv2d(n, out, k, by, k // 2, groups=g, bias=bias, padding_mode=mode) for k, g in ((3, 1), (1, 1))]
        kinds += [nn.Conv2d(n, 2 * n, 3, 1, 1, groups=n), nn.ConvTranspose2d(n, out, 2, by), nn.PReLU(n)]
        return draw.choice([*kinds, nn.BatchNorm2d(n), nn.BatchNorm2d(n), nn.GroupNorm(1, n), nn.InstanceNorm2d(n)])
    if a.dim() == 3:
        return draw.choice([linear, linear, nn.LayerNorm(n), nn.RMSNorm(n), nn.GRU(n, out, batch_first=True)])
    return draw.choice([linear, linear, nn.BatchNorm1d(n), nn.LayerNorm(n)])


def ran(layer, a):
    """What a layer makes of a tensor; a recurrent one gives its states, too."""
    return layer(a)[0] if isinstance(layer, nn.RNNBase) else layer(a)


def gate(a, down, up):
    """Squeeze and excitation."""
    of_means = a.mean((2, 3)) if a.dim() == 4 else a
    scale = up(down(of_means).relu()).sigmoid()
    return a * (scale[:, :, None, None] if a.dim() == 4 else scale)


class Drawn(nn.Module):
    """A program: each line calls a function of earlier results and of layers; what nothing reads is put out."""

    def __init__(self, draw, lines):
        super().__init__()
        self.layers, self.program = nn.ModuleList(), []
        made, read = [torch.randn(draw.choice(STARTS))], set()
        self.example = made[0]
        for _ in range(6 * lines):
            function, sources, layers = self._line(draw, made)
            try:
                with torch.no_grad():
                    result = function(*(made[k] for k in sources), *layers)
            except (RuntimeError, IndexError, ValueError):  # such a tensor it does not take
                continue
            if (
                len(self.program) < lines
                and 1 < result.dim() < 5
                and result.isfinite().all()
                and 0 < result.numel() < 10**4
            ):
                self.program.append((function, sources, [len(self.layers) + k for k in range(len(layers))]))
                self.layers.extend(layers)
                made.append(result)
                read |= set(sources)
        self.outputs = [k for k in range(1, len(made)) if k not in read][-3:]

    def _line(self, draw, made):
        k = draw.choice([*range(len(made)), *[len(made) - 1] * 3])
        a, same = made[k], [j for j, b in enumerate(made) if b.shape == made[k].shape]
        n = a.shape[channels(a)]
        kinds = [(lambda a, m: ran(m, a), [k], [layer(draw, a)])] * 3
        kinds += [(draw.choice(TOGETHER), [k, draw.choice(same)], []), (draw.choice(OF_PLACES[a.dim()]), [k], [])]
        kinds += [(draw.choice(POINTWISE), [k], []), (channels_last(draw.choice(OF_CHANNELS)), [k], [])]
        kinds += [(gate, [k], [nn.Linear(n, 4), nn.Linear(4, n)])]
        if self.layers:  # a layer that was there before reads this, too
            kinds.append((lambda a, m: ran(m, a), [k], [draw.choice(self.layers)]))
        return draw.choice(kinds)

    def forward(self, x):
        made = [x]
        for function, sources, layers in self.program:
            made.append(function(*(made[k] for k in sources), *(self.layers[k] for k in layers)))
        return torch.cat([made[k].flatten(1) for k in self.outputs], 1)


@torch.no_grad()
def deaden(draw, net):
    """Units without weights, with and without a bias, weights that nothing reads, norms with statistics."""
    share = draw.choice([0.2, 0.5, 0.7])
    for m in net.layers:
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (m.weight, m.running_var):
                tensor.uniform_(0.5, 2)
            for tensor in (m.bias, m.running_mean):
                tensor.normal_(0, 0.3)
        if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            dead = torch.rand(len(m.weight)) < share
            m.weight[dead] = 0
            if m.bias is not None and draw.random() < 0.6:
                m.bias[dead] = 0
            if m.weight.dim() > 1 and draw.random() < 0.3:
                m.weight[:, torch.rand(m.weight.shape[1]) < share] = 0
    return net.eval()


def same(one, other, x, tolerance=1e-4):
    with torch.no_grad():
        a, b = one(x), other(x)
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance * max(1.0, float(a.abs().max())))


@pytest.mark.filterwarnings("ignore:.*dead unit")
@pytest.mark.parametrize("k", range(200))
def test_a_drawn_network_is_shrunk_folded_and_kept(k, note, tmp_path):
    draw = random.Random(SEED * 1000 + k)
    torch.manual_seed(SEED + k)
    net = deaden(draw, Drawn(draw, draw.choice([4, 7, 12])))
    x, before = net.example, copy.deepcopy(net.state_dict())
    try:
        small = depgraph.shrink(net, x, keep_one=draw.random() < 0.8)
    except depgraph.ShrinkError as error:
        assert "no unit left" in str(error)
        note("clear")
        return
    assert same(net, small, x) and same(net, small, torch.randn_like(x))
    assert same(net, inference.form(net, x), torch.randn_like(x))
    (tmp_path / "small.safetensors").write_bytes(saving.to_bytes(small))
    assert same(small, saving.load_into(copy.deepcopy(net), tmp_path / "small.safetensors"), x, 1e-6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    note("survived")

"""Competitors with layers of their own: hard-concrete gates and sparse variational dropout, for linear layers.

`noisy(model, …)` is the network to train and what its paper adds to the loss; `folded` brings the result back as the
weights of the plain network, with zeros where gates are shut or weights are noise.
"""

import copy
import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn
from torch.nn import functional as F

from . import checks, models
from .arguments import a_linear, a_network, told
from .regularizers.penalties import wide
from .training import compiled

# --- hard-concrete gates (Louizos, Welling & Kingma 2018, arXiv 1712.01312) ---------------------------------------

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1


class HardConcrete(nn.Linear):
    """A linear layer with a gate z for every input unit, drawn once a batch: min(1, max(0, (ζ − γ)·s + γ)).

    s = σ((ln u − ln(1 − u) + ln α)/τ) with u uniform, and σ(ln α) once it is trained. `keep` is σ(ln α) at the start,
    `factor` that of λ in this layer.
    """

    @told(layer=a_linear, keep="(0, 1)", factor="[0, inf)")
    def __init__(self, layer, *, keep, factor=1.0):
        super().__init__(layer.in_features, layer.out_features, device=layer.weight.device, dtype=layer.weight.dtype)
        self.weight, self.bias = layer.weight, layer.bias
        self.factor, start = factor, math.log(keep) - math.log1p(-keep)
        self.log_alpha = nn.Parameter(torch.normal(start, 0.01, (layer.in_features,)).to(layer.weight.device))

    def gates(self):
        """(in,): drawn in training mode, else the deterministic ones of the paper's Eq. 13."""
        s = self.log_alpha
        if self.training:
            u = torch.rand_like(s).clamp_(1e-6, 1 - 1e-6)
            s = (u.log() - torch.log1p(-u) + s) / TEMPERATURE
        return (s.sigmoid() * (HIGH - LOW) + LOW).clamp(0, 1)

    def chance_open(self):
        """P(z ≠ 0) = σ(ln α − τ·ln(−γ/ζ)), the paper's Eq. 12; (in,)."""
        return torch.sigmoid(self.log_alpha - TEMPERATURE * math.log(-LOW / HIGH))

    def forward(self, x):
        if self.training:  # a gate that is far out would not come back: the authors' code keeps α in [0.01, 100]
            with torch.no_grad():
                self.log_alpha.clamp_(math.log(1e-2), math.log(1e2))
        return F.linear(x * self.gates().to(x.dtype), self.weight, self.bias)

    def complexity(self):
        """The expected number of weights whose gate is open, times the layer's factor."""
        return self.factor * self.out_features * self.chance_open().sum()

    def plain(self):
        """The weights with the deterministic gates multiplied in; (out, in)."""
        return self.weight * self.gates().to(self.weight.dtype)


# --- sparse variational dropout (Molchanov, Ashukha & Vetrov 2017, arXiv 1701.05369) ------------------------------

THRESHOLD = 3.0  # of log α, from which on a weight is noise
K1, K2, K3 = 0.63576, 1.87320, 1.48695


def divergence(log_alpha):
    """KL(q‖p) of a weight with noise of relative variance α from the log-uniform prior, approximated; 0 at α = ∞.

    k1 − k1·σ(k2 + k3·log α) + ½·log(1 + 1/α), the paper's Eq. 14 with its sign turned.
    """
    return K1 - K1 * torch.sigmoid(K2 + K3 * log_alpha) + 0.5 * F.softplus(-log_alpha)


def log_alphas(weight, log_variance):
    """log(σ²/θ²), kept within ±8 as in the authors' code; (out, in)."""
    return (log_variance.view_as(weight) - (weight.square() + 1e-16).log()).clamp(-8, 8)


def total_divergence(weight, log_variance):
    """The divergence of all weights of a layer."""
    return divergence(log_alphas(weight, log_variance)).sum()


class VariationalDropout(nn.Linear):
    """A linear layer whose weights are θ + σ·ε: additive noise, drawn for the outputs instead of the weights."""

    @told(layer=a_linear, log_variance="[-80, 80]")
    def __init__(self, layer, *, log_variance):
        super().__init__(layer.in_features, layer.out_features, device=layer.weight.device, dtype=layer.weight.dtype)
        self.weight, self.bias = layer.weight, layer.bias
        self.log_variance = nn.Parameter(torch.full_like(layer.weight, log_variance).detach().flatten())
        self.total = total_divergence

    def log_alpha(self):
        """log(σ²/θ²), kept within ±8; (out, in)."""
        return log_alphas(self.weight, self.log_variance)

    def forward(self, x):
        if not self.training:
            return F.linear(x, self.plain(), self.bias)
        mean = wide(F.linear(x, self.weight, self.bias))
        variance = wide(F.linear(x.square(), self.log_variance.exp().view_as(self.weight)))
        return (mean + (variance + 1e-8).sqrt() * torch.randn_like(mean)).to(self.weight.dtype)

    def complexity(self):
        """The divergence of all weights."""
        return self.total(self.weight, self.log_variance)

    def plain(self):
        """The means, zero where log α exceeds the threshold; (out, in)."""
        return self.weight * (self.log_alpha() < THRESHOLD)


# --- both ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class HardConcreteOptions(checks.Checked):
    """What hard-concrete gates may be told.

    lam: λ, which weighs the count of weights, in every layer times one of the `factors`, if there are any. keep: σ(ln
    α) at the start, of the first layer's gates and of the others'; at 0.5 83 % of the gates are open, at 0.8 95 %.
    """

    lam: Annotated[float, "[0, inf)"] = 0.1
    factors: Annotated[list, (float, "[0, inf)")] = None
    keep: Annotated[list, (float, "(0, 1)")] = (0.8, 0.5)

    what = "hard_concrete: "

    def __post_init__(self):
        super().__post_init__()
        if len(self.keep) != 2:
            raise ValueError(f"{self.what}keep has two numbers, the first layer's and the others', got {self.keep!r}")


@dataclass(frozen=True, kw_only=True)
class VariationalDropoutOptions(checks.Checked):
    """What variational dropout may be told.

    The weight of the divergence rises from 0 to lam between the shares `warmup` of the training. log_variance: of the
    noise at the start.
    """

    lam: Annotated[float, "[0, inf)"] = 1.0
    warmup: Annotated[list, (float, "[0, 1]")] = (0.025, 0.1)
    log_variance: Annotated[float, "[-80, 80]"] = -10.0

    what = "variational_dropout: "

    def __post_init__(self):
        super().__post_init__()
        if len(self.warmup) != 2 or self.warmup[0] >= self.warmup[1]:
            raise ValueError(f"{self.what}warmup has two shares, its begin before its end, got {self.warmup!r}")


def hard_concrete(layers, options):
    """Noisy layers and the weight of their complexity, a function of the share t trained; of `HardConcreteOptions`."""
    factors = options.factors or [1.0] * len(layers)
    if len(factors) != len(layers):
        raise ValueError(f"{options.what}factors has {len(factors)} entries for {len(layers)} layers")
    keeps = [options.keep[0], *[options.keep[1]] * (len(layers) - 1)]
    gated = [HardConcrete(layer, keep=k, factor=f) for layer, k, f in zip(layers, keeps, factors, strict=True)]
    return gated, lambda t: options.lam


def variational_dropout(layers, options):
    """Noisy layers and the weight of their complexity; of `VariationalDropoutOptions`."""
    begin, end = options.warmup
    weight = lambda t: options.lam * min(1.0, max(0.0, t - begin) / (end - begin))  # noqa: E731
    return [VariationalDropout(layer, log_variance=options.log_variance) for layer in layers], weight


MIXING = (nn.GLU, nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax, nn.MultiheadAttention)  # of torch's activations
KINDS = {"hard_concrete": hard_concrete, "variational_dropout": variational_dropout}
OPTIONS = {"hard_concrete": HardConcreteOptions, "variational_dropout": VariationalDropoutOptions}


def resolved(name, options):
    """The options of a kind of baseline. ValueError: a kind, a name or a value that is none."""
    return OPTIONS[checks.one_of("baseline", name, OPTIONS)].of(options, name)


@told(model=a_network, examples="whole [1, inf)", compile=bool)
def noisy(model, *, name, examples, compile=False, **options):
    """A copy of a chain of linear layers with noise in them, and its extra loss, a function of the share t trained.

    The extra loss is weight(t) · Σ complexity / `examples`, the size of the training set. `compile` fuses the
    divergence into few passes over the weights, where there is a compiler. Frozen layers stay plain. TypeError for
    convolutions, shared weights and what is no nn.Sequential.
    """
    options = resolved(name, options)
    places = list(model.named_parameters(remove_duplicate=False))
    if not isinstance(model, nn.Sequential) or len(list(model.parameters())) < len(places):
        raise TypeError(f"{name} takes an nn.Sequential without shared weights, got a {type(model).__name__}")
    net = copy.deepcopy(model)
    places = [key for key, layer in net.named_children() if any(p.requires_grad for p in layer.parameters())]
    if wrong := [key for key in places if type(getattr(net, key)) is not nn.Linear]:
        raise TypeError(f"{name} knows linear layers only, {wrong[0]!r} is a {type(getattr(net, wrong[0])).__name__}")
    layers, weight = KINDS[name]([getattr(net, key) for key in places], options)
    for key, layer in zip(places, layers, strict=True):
        setattr(net, key, layer.train(getattr(net, key).training))
        if compile and isinstance(layer, VariationalDropout):
            layer.total = compiled(total_divergence)

    def extra(t):
        return weight(t) / examples * sum(layer.complexity() for layer in layers)

    extra.options = options, examples  # what a checkpoint is known by
    return net, extra


@torch.no_grad()
@told(net=a_network)
def folded(net):
    """The state_dict of the plain network that a noisy one is in eval mode.

    A unit whose gate is shut takes its incoming weights along, as in the paper's counts, where nothing between the two
    layers mixes units.
    """
    state, shut = {}, None
    for key, layer in reversed(list(net.named_children())):
        if not hasattr(layer, "plain"):
            state |= {f"{key}.{name}": t.clone() for name, t in layer.state_dict().items()}
            shut = shut if _unit_by_unit(layer) else None
            continue
        with models.in_mode(layer, training=False):
            weight = layer.plain()
        if shut is not None and len(shut) == len(weight):  # a flatten may make several of one
            weight[shut] = 0
        state |= {f"{key}.weight": weight} | ({} if layer.bias is None else {f"{key}.bias": layer.bias.clone()})
        shut = ~weight.any(0) if isinstance(layer, HardConcrete) else None
    return state


def _unit_by_unit(layer):
    """Whether a layer without weights leaves every unit its own: activations, dropout, nn.Flatten and nn.Identity."""
    activation = type(layer).__module__ == nn.ReLU.__module__ and not isinstance(layer, MIXING)
    dropout = type(layer).__module__ == nn.Dropout.__module__
    return (activation or dropout or type(layer) in (nn.Flatten, nn.Identity)) and not layer.state_dict()

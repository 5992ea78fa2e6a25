"""Stochastic zeroing (arXiv 2012.03827): a probability, the companion's choice, and a fast form of it for training."""

import math

import torch

from .. import checks, models
from ..models import prunable
from .options import ZeroingOptions, fresh


def zeroing_probability(w, s, q=2):
    """p(zero | w) = exp(−(|w|/s)^q), s > 0. The companion's choice: that of arXiv 2012.03827 is not known here."""
    return torch.exp(-((w.abs() / s) ** q))


def zeroed(w, s, q=2, *, generator=None):
    """The weights, each zeroed with its probability, the small ones first; (…) -> (…)."""
    u = torch.rand(w.shape, generator=generator, device=w.device)
    return torch.where(u < zeroing_probability(w, s, q), 0, w)


TABLE = 2**21  # thresholds drawn at a time, or twice the largest layer's weights
USES = 300  # draws from them before they are drawn anew
CONTROL = 32  # draws between two corrections of a controlled scale, after as many with one each
SAMPLE = 2048  # weights that a correction looks at, of a layer or, with one s for all, of all layers


class StochasticZeroing:
    """An `after_step` hook that zeroes weights by chance, as `zeroed` does; its options are `ZeroingOptions`.

    A zeroed weight may grow again until the share `freeze` of the training is over. Layers that training leaves alone
    (frozen, or without a gradient) stay as they are. Where all weights of a filter are zero, the scale and the shift of
    its batch norm become zero, too (in networks of `models.build`).

    u < p is |w| < s·τ with τ = (−ln u)^(1/q), or |w/τ| < s: 1/τ is drawn ahead, in a long table that every use reads
    from an offset drawn by chance, since a fresh draw for every weight costs more than a small network's step.
    """

    def __init__(self, model, *, steps, seed=0, **options):
        self.options = ZeroingOptions.of(options, "stochastic zeroing")
        self.steps = checks.number("stochastic zeroing: steps", steps, "[1, inf)", whole=True)
        self.seed = seed = checks.number("stochastic zeroing: seed", seed, "[0, 9e18]", whole=True)
        self.ws, self.model, self.at = prunable(model), None, []
        self._take_norms(model)
        self.scale, self.target = (self.options.for_each(name, self.ws) for name in ("scale", "target"))
        device = next(iter(self.ws.values())).device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.offsets = torch.Generator().manual_seed(seed)
        self.largest = max(w.numel() for w in self.ws.values())
        self.table = torch.empty(max(TABLE, 2 * self.largest), device=device)
        self.scratch = torch.empty(self.largest, device=device)
        self.draws, self.s, self.masks = 0, dict.fromkeys(self.ws, 0.0), None

    @torch.no_grad()
    def __call__(self, model, step):
        if self.model is not model or models.replaced(self.at):
            self._bind(model)
        fresh(step, self.draws)
        done, every = step / self.steps, self.options.every
        moved = {id(t) for t, moves in zip(self.tensors, models.trained(self.tensors), strict=True) if moves}
        ws = {name: w for name, w in self.ws.items() if id(w) in moved and w.numel()}
        frozen, last = done >= self.options.freeze, step + 1 == self.steps  # nothing grows after the last draw
        if self.masks is None and (frozen or last or (step + 1) % every == 0):
            due = self.draws < CONTROL or self.draws % CONTROL == 0
            progress = 1.0 if last else min(1.0, done / self.options.ramp)  # a ramp over all of the steps ends, too
            self._draw(ws, progress, control=frozen or last or due)
        if frozen:
            if self.masks is None:  # after a last draw, since this step's update has let zeros grow
                self.masks = {name: (w != 0).to(w.dtype) for name, w in self.ws.items()}  # faster to multiply by
            for name, w in ws.items():
                w.mul_(self.masks[name])
        for layer, norm in self.norms:  # a filter without weights takes its batch norm's scale and shift along
            alive = layer.weight.flatten(1).any(1)
            for p in norm.parameters():
                if id(p) in moved:
                    p.mul_(alive)

    def _take_norms(self, model):
        """Take the batch norms behind the weights."""
        self.norms = _norms(model)
        self.tensors = [*self.ws.values(), *(p for _, norm in self.norms for p in norm.parameters())]

    def _bind(self, model):
        """Take the weights that a network has now: those of a first call, or loaded ones in their places."""
        now = models.weights(model)
        same = [now[name] is w for name, w in self.ws.items() if name in now and now[name].shape == w.shape]
        if len(same) < len(self.ws) or not (all(same) or self.model is model):
            raise ValueError("zeroing was made for other weights; make it of the network that is trained")
        self.model, self.ws = model, {name: now[name] for name in self.ws}
        self.at = [(*models.place(model, name), w) for name, w in self.ws.items()]
        self._take_norms(model)

    def _draw(self, ws, progress, *, control):
        if self.draws % USES == 0:
            self._fill_table()
        self.draws += 1
        reached = 1 - (1 - progress) ** 3
        if control and self.options.scope == "global" and ws:
            target = next(iter(self.target.values()))
            self.s = dict.fromkeys(self.ws, self._scale([*ws.values()], target * reached))
        for name, w in ws.items():
            if self.target is None:
                self.s[name] = self.scale[name] * progress
            elif control and self.options.scope == "layer":
                self.s[name] = self._scale([w], self.target[name] * reached)
            self._zero(w, self.s[name])

    def _scale(self, ws, wanted):
        """s at which the wanted share of weights drawn by chance is expected to go, by halving an interval of ln s.

        By rank it is the size up to which weights go.
        """
        if wanted <= 0:
            return 0.0
        total, sizes = sum(w.numel() for w in ws), []
        if self.options.by == "rank":  # the largest of the weights that go
            sizes = torch.cat([w.abs().flatten() for w in ws])
            sizes = sizes if sizes.element_size() > 2 else sizes.float()
            return sizes.kthvalue(max(1, round(wanted * total))).values.item()
        for w in ws:
            count = max(1, min(SAMPLE, total) * w.numel() // total)
            places = torch.randint(w.numel(), (count,), generator=self.offsets).to(w.device)
            sizes.append(w.flatten()[places])
        sizes, q = torch.cat(sizes).abs(), self.options.q
        if not sizes.isfinite().all():
            return 0.0  # diverged, which `fit` will say
        sizes, unit = _in_range(sizes)
        sizes.pow_(q)
        high = math.log(sizes.max().item() + 1e-30) / q + 6
        low = high - 18
        for _ in range(14):
            middle = (low + high) / 2
            kept = (1 - torch.exp(sizes * -math.exp(-q * middle))) ** self.options.every
            low, high = (middle, high) if 1 - kept.mean().item() < wanted else (low, middle)
        return unit * math.exp(high)

    def _zero(self, w, s):
        """Zero the weights with |w/τ| ≤ s in place, in two passes over memory, by the rule of hardshrink."""
        if self.options.by == "rank":
            w.masked_fill_(w.abs() <= s, 0)
            return
        start = int(torch.randint(len(self.table) - self.largest, (), generator=self.offsets))
        inverse, whole = self.table[start : start + w.numel()].view(w.shape), w.dtype == self.table.dtype
        ratios = torch.mul(w, inverse, out=self.scratch[: w.numel()].view(w.shape)) if whole else w * inverse
        if self.options.by == "chance":  # each weight that is not zero is judged by the ratio of another one
            ratios, there = ratios.flatten(), w.flatten().nonzero().flatten()
            order = torch.randperm(len(there), generator=self.offsets).to(w.device)
            ratios = ratios.index_copy(0, there, ratios[there[order]]).view(w.shape)
        s = min(s, torch.finfo(ratios.dtype).max)
        if whole:
            torch.ops.aten.hardshrink_backward.grad_input(w, ratios, s, grad_input=w)
        else:
            w.masked_fill_(ratios.abs() <= s, 0)

    def _fill_table(self):
        """1/τ = (−ln u)^(−1/q), u the least of k uniform numbers: below p with chance 1 − (1 − p)^k."""
        table, every = self.table.exponential_(generator=self.generator), self.options.every  # −ln u of one
        if every > 1:
            table.neg_().exp_().neg_().log1p_().div_(every).expm1_().neg_().log_().neg_()
        table.pow_(-1 / self.options.q)

    def state_dict(self):
        """What a resumed training needs to go on with the same draws."""
        generators = {"generator": self.generator.get_state(), "offsets": self.offsets.get_state()}
        return generators | {"table": self.table.clone(), "draws": self.draws, "s": {**self.s}, "masks": self.masks}

    def load_state_dict(self, state):
        """Take over a saved state. ValueError: it is that of another network's zeroing."""
        if state["s"].keys() != self.s.keys() or state["table"].shape != self.table.shape:
            raise ValueError("this is the state of a zeroing of other weights; make one of the network that it was for")
        self.generator.set_state(state["generator"])
        self.offsets.set_state(state["offsets"])
        self.table, self.draws, self.s, self.masks = (state[key] for key in ("table", "draws", "s", "masks"))
        self.table, self.s = self.table.clone(), {**self.s}  # the state stays its owner's


def _in_range(sizes):
    """Sizes in units of a power of two in which their squares are floats, and that unit: 1 for those of training."""
    largest, sizes = sizes.max().item(), sizes if sizes.element_size() > 2 else sizes.float()
    unit = 1.0 if largest == 0 or 1e-6 < largest < 1e6 else 2.0 ** math.floor(math.log2(largest))
    return sizes.div_(unit), unit


def _norms(model):
    """(layer, batch norm behind it) for all layers of a network with groups that have one."""
    nets = [net for net in model.modules() if models.groups(net) and models.unwrapped(net) is net]
    steps = [(net, s) for net in nets for group in net.groups for s in group.producers + group.depthwise if s.norm]
    return [(net.get_submodule(step.layer), net.get_submodule(step.norm)) for net, step in steps]

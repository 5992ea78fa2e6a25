"""Which weights go: masks by magnitude or by chance, pruning during training, and zeroing by chance.

A mask is a dict of boolean tensors, True where the weight stays.
"""

import math

import torch

from lib import models


@torch.no_grad()
def magnitude(model, sparsity, *, scope="global"):
    """The mask that zeroes the given share of the smallest |w|, over all prunable weights or layer by layer."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be in [0, 1), got {sparsity!r}")
    if scope not in ("global", "layer"):
        raise ValueError(f"unknown scope {scope!r}; known: global, layer")
    ws = models.weights(model)
    if scope == "layer":
        return {name: _largest(w.abs().flatten(), sparsity).view(w.shape) for name, w in ws.items()}
    keep = _largest(torch.cat([w.abs().flatten() for w in ws.values()]), sparsity)
    parts = keep.split([w.numel() for w in ws.values()])
    return {name: part.view(w.shape) for (name, w), part in zip(ws.items(), parts, strict=True)}


def _largest(sizes, sparsity):
    """True for all but exactly ⌊sparsity·n⌋ of the entries, the smallest; ties go by position."""
    count = int(sparsity * len(sizes))
    if count == 0:
        return torch.ones_like(sizes, dtype=torch.bool)
    threshold = sizes.kthvalue(count).values  # several times faster than sorting
    gone = sizes < threshold
    gone[(sizes == threshold).nonzero().flatten()[: count - int(gone.sum())]] = True
    return ~gone


def random(model, sparsity, *, scope="global"):
    """The mask that zeroes as many weights of each layer as `magnitude` does, drawn by chance: a control."""
    masks = magnitude(model, sparsity, scope=scope)
    return {name: m.flatten()[torch.randperm(m.numel()).to(m.device)].view(m.shape) for name, m in masks.items()}


@torch.no_grad()
def units(model, widths):
    """The mask that keeps `widths` units of each group, those with the largest Σ|w| coming in (arXiv 1608.08710)."""
    ws = models.weights(model)
    masks = {name: torch.ones_like(w, dtype=torch.bool) for name, w in ws.items()}
    for group, width in zip(model.groups, widths, strict=True):
        sizes = sum(ws[f"{s.layer}.weight"].abs().flatten(1).sum(1) for s in group.producers)
        gone = torch.ones_like(sizes, dtype=torch.bool)
        gone[sizes.topk(width).indices] = False
        for step in group.producers + group.depthwise:
            masks[f"{step.layer}.weight"][gone] = False
        for step in group.consumers:
            start = step.offset * step.block
            masks[f"{step.layer}.weight"][:, start : start + group.width * step.block][
                :, gone.repeat_interleave(step.block)
            ] = False
    return masks


RULES = {"magnitude": magnitude, "random": random, "units": units}


@torch.no_grad()
def apply(model, masks):
    """Zero the weights that the masks leave out, in place."""
    ws = models.weights(model)
    for name, mask in masks.items():
        ws[name].mul_(mask)


def nonzero_masks(model):
    """The masks that are already in the weights: True where a weight is not zero."""
    return {name: w.detach() != 0 for name, w in models.weights(model).items()}


def hold(masks):
    """An `after_step` hook that keeps the masked weights at zero.

    One product over all layers, with masks of the weights' own type and memory format: far cheaper than `apply`.
    """
    bound = {}

    @torch.no_grad()
    def hook(model, step):
        if bound.get("model") is not model:
            ws = models.weights(model)
            bound.update(model=model, ws=[ws[name] for name in masks])
            bound["masks"] = [torch.empty_like(ws[name]).copy_(mask) for name, mask in masks.items()]
        torch._foreach_mul_(bound["ws"], bound["masks"])

    return hook


class GradualMagnitude:
    """An `after_step` hook that prunes the smallest weights little by little (Zhu & Gupta, arXiv 1710.01878).

    The sparsity is final + (initial − final)·(1 − (t − begin)/(end − begin))³, t being the share of the training that
    is done: pruning is fast at first and slow towards the end. New masks are drawn at every k-th step (`every`) and
    at `end`, and held in between.
    """

    def __init__(self, model, *, steps, final, initial=0.0, begin=0.0, end=0.75, every=100, scope="global"):
        if not 0 <= initial <= final < 1:
            raise ValueError(f"gradual pruning takes 0 <= initial <= final < 1, got {initial!r} and {final!r}")
        if not 0 <= begin < end <= 1 or every < 1:
            raise ValueError(
                f"gradual pruning takes 0 <= begin < end <= 1 and every >= 1, got {begin!r}, {end!r} and {every!r}"
            )
        self.steps, self.initial, self.final, self.begin, self.end = steps, initial, final, begin, end
        self.every, self.scope = every, scope
        self.masks, self.finished, self.held = None, False, None

    def sparsity(self, t):
        """The share of the weights to be zero when the share t of the training is done."""
        left = 1 - (min(max(t, self.begin), self.end) - self.begin) / (self.end - self.begin)
        return self.final + (self.initial - self.final) * left**3

    def __call__(self, model, step):
        t = (step + 1) / self.steps
        if not self.finished and t >= self.begin and ((step + 1) % self.every == 0 or t >= self.end):
            self.masks = magnitude(model, self.sparsity(t), scope=self.scope)
            self.held, self.finished = hold(self.masks), t >= self.end
        if self.held:
            self.held(model, step)

    def state_dict(self):
        """What a resumed training needs to go on: the masks, and whether they are the last."""
        return {"masks": self.masks, "finished": self.finished}

    def load_state_dict(self, state):
        """Take over a saved state."""
        self.masks, self.finished = state["masks"], state["finished"]
        self.held = hold(self.masks) if self.masks else None


# --- stochastic zeroing (arXiv 2012.03827) -------------------------------------------------------------------------

TABLE = 2**21  # thresholds drawn at a time
USES = 300  # draws from them before they are drawn anew
CONTROL = 32  # draws between two corrections of a controlled scale, after as many with one each
SAMPLE = 2048  # weights of a layer that a correction looks at


class StochasticZeroing:
    """An `after_step` hook that zeroes weights by chance, p(zero | w) = exp(−(|w|/s)^q), small ones first.

    The paper leaves the probability open; this family is the companion's choice. A zeroed weight may grow again until
    the share `freeze` of the training is over; from then on what is zero stays zero.

    scale: s, reached by a linear ramp over the share `ramp` of the training. target: instead of a fixed s, each
    layer's own s is such that this share of the layer is expected to be zero, approached along 1 − (1 − t/ramp)³. Both
    take one number, or a list with one for each layer. scope: "global" has one s for all layers instead, and the target
    is the share of all weights: layers of small weights lose more. every: draw only every k-th step, with the
    probability 1 − (1 − p)^k of being zeroed at least once in k steps. by: "size", or the control "chance", which takes
    as many weights but wherever they are.

    u < p is |w| < s·τ with τ = (−ln u)^(1/q), or |w/τ| < s: 1/τ is drawn ahead, in a long table that every use reads
    from an offset drawn by chance, since a fresh draw for every weight costs more than a small network's step.
    """

    def __init__(
        self,
        model,
        *,
        steps,
        scale=None,
        target=None,
        scope="layer",
        q=2,
        every=1,
        ramp=0.5,
        freeze=0.75,
        by="size",
        seed=0,
    ):
        if (scale is None) == (target is None):
            raise ValueError("stochastic zeroing takes either scale (s) or target (a pruned share), and not both")
        if q not in (1, 2) or every < 1:
            raise ValueError(f"stochastic zeroing takes q = 1 or 2 and every >= 1, got q = {q!r}, every = {every!r}")
        if not 0 < ramp <= freeze <= 1:
            raise ValueError(f"stochastic zeroing takes 0 < ramp <= freeze <= 1, got {ramp!r} and {freeze!r}")
        if by not in ("size", "chance"):
            raise ValueError(f"stochastic zeroing takes weights by size or by chance, got {by!r}")
        if scope not in ("layer", "global"):
            raise ValueError(f"unknown scope {scope!r}; known: global, layer")
        if scope == "global" and not isinstance(target, (int, float)):
            raise ValueError(f"stochastic zeroing with scope 'global' takes one number as target, got {target!r}")
        self.ws, self.scope = models.weights(model), scope
        self.norms = _norms(model)
        self.scale, self.target = _for_each(self.ws, "scale", scale), _for_each(self.ws, "target", target)
        self.steps, self.q, self.every, self.ramp, self.freeze, self.by = steps, q, every, ramp, freeze, by
        device = next(iter(self.ws.values())).device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.offsets = torch.Generator().manual_seed(seed)
        self.largest = max(w.numel() for w in self.ws.values())
        self.table = torch.empty(max(TABLE, 2 * self.largest), device=device)
        self.scratch = torch.empty(self.largest, device=device)
        self.draws, self.s, self.masks = 0, dict.fromkeys(self.ws, 0.0), None

    @torch.no_grad()
    def __call__(self, model, step):
        done = step / self.steps
        frozen, last = done >= self.freeze, step + 1 == self.steps  # the last draw counts: nothing grows after it
        if self.masks is None and (frozen or last or (step + 1) % self.every == 0):
            self._draw(min(1.0, done / self.ramp), control=frozen or last or self._due())
        if frozen:
            if self.masks is None:  # after a last draw, since this step's update has let zeros grow
                self.masks = {name: (w != 0).to(w.dtype) for name, w in self.ws.items()}  # faster to multiply by
            for name, w in self.ws.items():
                w.mul_(self.masks[name])
        for layer, norm in self.norms:  # a filter without weights takes its batch norm's scale and shift along
            alive = layer.weight.flatten(1).any(1)
            norm.weight.mul_(alive)
            norm.bias.mul_(alive)

    def _due(self):
        return self.draws < CONTROL or self.draws % CONTROL == 0

    def _draw(self, progress, *, control):
        if self.draws % USES == 0:
            self._fill_table()
        self.draws += 1
        reached = 1 - (1 - progress) ** 3
        if control and self.scope == "global":
            target = next(iter(self.target.values()))
            self.s = dict.fromkeys(self.ws, self._scale([*self.ws.values()], target * reached))
        for name, w in self.ws.items():
            if self.target is None:
                self.s[name] = self.scale[name] * progress
            elif control and self.scope == "layer":
                self.s[name] = self._scale([w], self.target[name] * reached)
            self._zero(w, self.s[name])

    def _scale(self, ws, wanted):
        """s at which the wanted share of weights drawn by chance is expected to go, by halving an interval of ln s."""
        if wanted <= 0:
            return 0.0
        total, sizes = sum(w.numel() for w in ws), []
        for w in ws:
            count = max(1, min(SAMPLE, total) * w.numel() // total)
            places = torch.randint(w.numel(), (count,), generator=self.offsets).to(w.device)
            sizes.append(w.flatten()[places])
        sizes = torch.cat(sizes).abs_().pow_(self.q)
        high = math.log(sizes.max().item() + 1e-30) / self.q + 6
        low = high - 18
        for _ in range(14):
            middle = (low + high) / 2
            kept = (1 - torch.exp(sizes * -math.exp(-self.q * middle))) ** self.every
            low, high = (middle, high) if 1 - kept.mean().item() < wanted else (low, middle)
        return math.exp(high)

    def _zero(self, w, s):
        """Zero the weights with |w/τ| ≤ s in place, in two passes over memory, by the rule of hardshrink."""
        start = int(torch.randint(len(self.table) - self.largest, (), generator=self.offsets))
        inverse = self.table[start : start + w.numel()].view(w.shape)
        ratios = torch.mul(w, inverse, out=self.scratch[: w.numel()].view(w.shape))
        if self.by == "chance":  # each weight that is not zero is judged by the ratio of another one
            ratios, there = ratios.flatten(), w.flatten().nonzero().flatten()
            order = torch.randperm(len(there), generator=self.offsets).to(w.device)
            ratios = ratios.index_copy(0, there, ratios[there[order]]).view(w.shape)
        torch.ops.aten.hardshrink_backward.grad_input(w, ratios, s, grad_input=w)

    def _fill_table(self):
        """1/τ = (−ln u)^(−1/q), u the least of k uniform numbers: below p with chance 1 − (1 − p)^k."""
        table = self.table.exponential_(generator=self.generator)  # −ln u of one
        if self.every > 1:
            table.neg_().exp_().neg_().log1p_().div_(self.every).expm1_().neg_().log_().neg_()
        table.pow_(-1 / self.q)

    def state_dict(self):
        """What a resumed training needs to go on with the same draws."""
        generators = {"generator": self.generator.get_state(), "offsets": self.offsets.get_state()}
        return generators | {"table": self.table, "draws": self.draws, "s": self.s, "masks": self.masks}

    def load_state_dict(self, state):
        """Take over a saved state."""
        self.generator.set_state(state["generator"])
        self.offsets.set_state(state["offsets"])
        self.table, self.draws, self.s, self.masks = (state[key] for key in ("table", "draws", "s", "masks"))


def _for_each(ws, what, value):
    """One number for each layer by name, of one for all or of a list; None stays None."""
    if isinstance(value, (list, tuple)) and len(value) != len(ws):
        raise ValueError(f"stochastic zeroing: {what} has {len(value)} entries for {len(ws)} weight tensors")
    values = value if isinstance(value, (list, tuple)) else [value] * len(ws)
    return None if value is None else dict(zip(ws, values, strict=True))


def _norms(model):
    """(layer, batch norm behind it) for all layers of a network with groups that have one."""
    steps = [s for group in models.groups(model) for s in group.producers + group.depthwise if s.norm]
    return [(model.get_submodule(step.layer), model.get_submodule(step.norm)) for step in steps]

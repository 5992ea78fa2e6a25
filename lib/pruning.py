"""Which weights go: masks by magnitude, and zeroing by chance after every update.

A mask is a dict of boolean tensors, True where the weight stays.
"""

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
    keep = torch.ones_like(sizes, dtype=torch.bool)
    keep[sizes.argsort(stable=True)[: int(sparsity * len(sizes))]] = False
    return keep


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
    """An `after_step` hook that keeps the masked weights at zero."""

    def hook(model, step):
        apply(model, masks)

    return hook


# --- stochastic zeroing (arXiv 2012.03827) -------------------------------------------------------------------------

TABLE = 2**21  # thresholds drawn at a time
USES = 200  # before they are drawn anew


class StochasticZeroing:
    """An `after_step` hook that zeroes weights by chance, p(zero | w) = exp(−(|w|/s)^q), small ones first.

    The paper leaves the probability open; this family is the companion's choice. A zeroed weight may grow again until
    the share `freeze` of the training is over; from then on what is zero stays zero.

    scale: s, reached by a linear ramp over the share `ramp` of the training. target: instead of a fixed s, each layer's
    own s follows this pruned share of the layer, approached along 1 − (1 − t/ramp)³. every: draw only every k-th
    step, with the probability 1 − (1 − p)^k of being zeroed at least once in k steps.

    u < p is |w| < s·(−ln u)^(1/q): thresholds (−ln u)^(1/q) are drawn ahead, in a long table that every use reads
    from an offset drawn by chance, since a fresh draw for every weight would cost more than a small network's step.
    """

    def __init__(self, model, *, steps, scale=None, target=None, q=2, every=1, ramp=0.5, freeze=0.75, seed=0):
        if (scale is None) == (target is None):
            raise ValueError("stochastic zeroing takes either scale (s) or target (a pruned share), and not both")
        if q not in (1, 2) or every < 1:
            raise ValueError(f"stochastic zeroing takes q = 1 or 2 and every >= 1, got q = {q!r}, every = {every!r}")
        if not 0 < ramp <= freeze <= 1:
            raise ValueError(f"stochastic zeroing takes 0 < ramp <= freeze <= 1, got {ramp!r} and {freeze!r}")
        self.ws = models.weights(model)
        self.norms = _norms(model)
        self.steps, self.scale, self.target, self.q, self.every = steps, scale, target, q, every
        self.ramp, self.freeze = ramp, freeze
        device = next(iter(self.ws.values())).device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.offsets = torch.Generator().manual_seed(seed)
        self.largest = max(w.numel() for w in self.ws.values())
        self.table = torch.empty(max(TABLE, 2 * self.largest), device=device)
        self.uses, self.s, self.masks = 0, dict.fromkeys(self.ws, 0.0), None

    @torch.no_grad()
    def __call__(self, model, step):
        done = step / self.steps
        frozen = done >= self.freeze
        if self.masks is None and (frozen or (step + 1) % self.every == 0):
            for name, w in self.ws.items():
                self._zero(name, w, min(1.0, done / self.ramp))
        if frozen:
            if self.masks is None:  # after a last draw, since this step's update has let zeros grow
                self.masks = nonzero_masks(model)
            apply(model, self.masks)
        for layer, norm in self.norms:  # a filter without weights takes its batch norm's scale and shift along
            alive = layer.weight.flatten(1).any(1)
            norm.weight.mul_(alive)
            norm.bias.mul_(alive)

    def _zero(self, name, w, progress):
        if self.target is None:
            self.s[name] = self.scale * progress
        elif self.s[name] == 0:  # as large as an average weight: 37 % and more would go at once, so a hundredth of it
            self.s[name] = 0.01 * w.abs().mean().item()
        w.mul_(w.abs() >= self._thresholds(w).mul(self.s[name]))
        if self.target is not None:
            wanted = self.target * (1 - (1 - progress) ** 3)
            share = 1 - w.count_nonzero().item() / w.numel()
            self.s[name] *= 1 + max(-0.05, min(0.05, wanted - share))

    def _thresholds(self, w):
        """(−ln u)^(1/q), shaped like w; u is the least of k uniform numbers: below p with chance 1 − (1 − p)^k."""
        if self.uses % USES == 0:
            u = self.table.uniform_(generator=self.generator)
            if self.every > 1:
                u.neg_().log1p_().div_(self.every).expm1_().neg_()  # 1 − (1 − u)^(1/k)
            self.table.clamp_min_(torch.finfo(u.dtype).tiny).log_().neg_().pow_(1 / self.q)
        self.uses += 1
        offset = int(torch.randint(len(self.table) - self.largest, (), generator=self.offsets))
        return self.table[offset : offset + w.numel()].view(w.shape)

    def state_dict(self):
        """What a resumed training needs to go on with the same draws."""
        generators = {"generator": self.generator.get_state(), "offsets": self.offsets.get_state()}
        return generators | {"table": self.table, "uses": self.uses, "s": self.s, "masks": self.masks}

    def load_state_dict(self, state):
        """Take over a saved state."""
        self.generator.set_state(state["generator"])
        self.offsets.set_state(state["offsets"])
        self.table, self.uses, self.s, self.masks = (state[key] for key in ("table", "uses", "s", "masks"))


def _norms(model):
    """(layer, batch norm behind it) for all layers of a network with groups that have one."""
    steps = [s for group in models.groups(model) for s in group.producers + group.depthwise if s.norm]
    return [(model.get_submodule(step.layer), model.get_submodule(step.norm)) for step in steps]

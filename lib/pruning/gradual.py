"""Gradual pruning: the smallest weights go little by little."""

import torch

from .. import checks, models
from ..models import prunable
from .masks import hold, smallest
from .options import GradualOptions, fresh


class GradualMagnitude:
    """An `after_step` hook that prunes the smallest weights little by little (Zhu & Gupta, arXiv 1710.01878).

    The sparsity is final + (initial − final)·(1 − (t − begin)/(end − begin))³, t being the share of the training that
    is done: pruning is fast at first and slow towards the end. New masks are drawn at every k-th step (`every`) and
    at `end`, and held in between. Sparsity is the share of the weights that training moves: frozen layers stay.
    """

    def __init__(self, model, *, steps, **options):
        """steps: of the whole training; options: see `GradualOptions`."""
        self.steps = checks.number("gradual pruning: steps", steps, "[1, inf)", whole=True)
        self.options = GradualOptions.of(options, "gradual pruning")
        prunable(model)
        self.masks, self.finished, self.held = None, False, None

    def sparsity(self, t):
        """The share of the weights to be zero when the share t of the training is done."""
        begin, end, initial, final = (getattr(self.options, name) for name in ("begin", "end", "initial", "final"))
        left = 1 - (min(max(t, begin), end) - begin) / (end - begin)
        return final + (initial - final) * left**3

    @torch.no_grad()
    def __call__(self, model, step):
        fresh(step, self.masks is not None)
        t, of = (step + 1) / self.steps, self.options
        if not self.finished and t >= of.begin and ((step + 1) % of.every == 0 or t >= of.end):
            ws = models.weights(model)
            moved = zip(ws.items(), models.trained(ws.values()), strict=True)
            ws = {name: w for (name, w), moves in moved if moves}
            drawn = smallest(ws, self.sparsity(t), of.scope) if ws else {}
            self.masks = (self.masks or {}) | drawn  # layers that are frozen for now keep theirs
            self.held, self.finished = hold(self.masks), t >= of.end
        if self.held:
            self.held(model, step)

    def state_dict(self):
        """What a resumed training needs to go on: the masks, and whether they are the last."""
        return {"masks": self.masks, "finished": self.finished}

    def load_state_dict(self, state):
        """Take over a saved state."""
        self.masks, self.finished = state["masks"], state["finished"]
        self.held = hold(self.masks) if self.masks else None

"""Gradual pruning: the smallest weights go little by little."""

import torch

from .. import checks, models
from .masks import SCOPES, hold, smallest


class GradualMagnitude:
    """An `after_step` hook that prunes the smallest weights little by little (Zhu & Gupta, arXiv 1710.01878).

    The sparsity is final + (initial − final)·(1 − (t − begin)/(end − begin))³, t being the share of the training that
    is done: pruning is fast at first and slow towards the end. New masks are drawn at every k-th step (`every`) and
    at `end`, and held in between. Sparsity is the share of the weights that training moves: frozen layers stay.
    """

    def __init__(self, model, *, steps, final, initial=0.0, begin=0.0, end=0.75, every=100, scope="global"):
        what = "gradual pruning:"
        checks.number(f"{what} steps", steps, "[1, inf)", whole=True)
        checks.number(f"{what} every", every, "[1, inf)", whole=True)
        checks.one_of("scope", scope, SCOPES)
        for name, share in {"initial": initial, "final": final}.items():
            checks.number(f"{what} {name}", share, "[0, 1)")
        for name, share in {"begin": begin, "end": end}.items():
            checks.number(f"{what} {name}", share, "[0, 1]")
        if initial > final or begin >= end:
            raise ValueError(f"{what} initial <= final and begin < end, got {initial}, {final} and {begin}, {end}")
        self.steps, self.initial, self.final, self.begin, self.end = steps, initial, final, begin, end
        self.every, self.scope = every, scope
        self.masks, self.finished, self.held = None, False, None

    def sparsity(self, t):
        """The share of the weights to be zero when the share t of the training is done."""
        left = 1 - (min(max(t, self.begin), self.end) - self.begin) / (self.end - self.begin)
        return self.final + (self.initial - self.final) * left**3

    @torch.no_grad()
    def __call__(self, model, step):
        t = (step + 1) / self.steps
        if not self.finished and t >= self.begin and ((step + 1) % self.every == 0 or t >= self.end):
            ws = models.weights(model)
            moved = zip(ws.items(), models.trained(ws.values()), strict=True)
            ws = {name: w for (name, w), moves in moved if moves}
            self.masks = smallest(ws, self.sparsity(t), self.scope) if ws else {}
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

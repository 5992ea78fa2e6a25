"""How units die in training: an `after_step` hook that notes what went first, norms of single units, a mask in time."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from . import checks, models, shrinking
from .arguments import numbers, told

CHECKS = 500  # times in a training, at least, at which it is looked who has died; of a short one at every step


@dataclass(frozen=True, kw_only=True)
class DynamicsOptions(checks.Checked):
    """How many units of each group have their norms noted, pictures are kept, and units each of these has."""

    units: Annotated[int, "[0, inf)"] = 8
    frames: Annotated[int, "[0, 10000]"] = 0
    frame_units: Annotated[int, "[1, inf)"] = 40

    what = "dynamics: "


class Dynamics:
    """Units by what died first, pruned shares, and norms of the first `units` units of each group: `DynamicsOptions`.

    Called as a hook it looks at every ⌊steps / `CHECKS`⌋th step who has died, at each of fewer, and keeps `frames`
    pictures of the first layer's mask, its first `frame_units` units; `point(model)` gives the numbers of now, for a
    training's curves.
    """

    def __init__(self, model, *, steps, **options):
        checks.number("dynamics: steps", steps, "[1, inf)", whole=True)
        self.options = DynamicsOptions.of(options, "dynamics")  # by which a checkpoint knows it
        if not models.groups(model):
            raise ValueError(f"dynamics needs the groups of a network of models.build, {type(model).__name__} has none")
        self.steps, self.every, frames = steps, max(1, steps // CHECKS), self.options.frames
        self.frame_at = {round((k + 1) * steps / frames) for k in range(frames)}
        self.first = {group.name: torch.zeros(group.width, dtype=torch.uint8) for group in model.groups}
        self.frames, self.frame_steps, self.begun = [], [], False

    def __call__(self, model, step):
        if step == 0 and self.begun:
            raise ValueError("dynamics is of one training, whose dead units it would bring along; make a new one")
        self.begun = True
        if (step + 1) % self.every == 0:
            self._look(model)
        if step + 1 in self.frame_at:
            rows = next(iter(models.weights(model).values()))[: self.options.frame_units] != 0
            self.frames.append(torch.from_numpy(np.packbits(rows.flatten(1).cpu().numpy(), axis=1)))
            self.frame_steps.append(step + 1)

    def _look(self, model):
        """A unit keeps the cause that it died of, and loses it where it lives again."""
        for name, now in shrinking.causes(model).items():
            was = self.first[name]
            self.first[name] = torch.where((was > 0) & (now > 0), was, now)

    @torch.no_grad()
    def point(self, model):
        """Numbers of now: lists with one entry a group, a weight tensor or a unit.

        removed_*: units by what died first; orphans: those without outgoing weights first, with incoming ones left.
        fan_in, fan_out: Euclidean norms of the incoming and outgoing weights of the noted units.
        """
        self._look(model := models.unwrapped(model))
        ws, norms = models.weights(model), {g.name: _norms(model, g) for g in model.groups}
        kinds = shrinking.CAUSES.items()
        found = {f"removed_{kind}": [int((c == code).sum()) for c in self.first.values()] for kind, code in kinds}
        found["orphans"] = [int(((self.first[name] == 2) & (norms[name][0] > 0)).sum()) for name in norms]
        found["pruned"] = [1 - w.count_nonzero().item() / w.numel() for w in ws.values()]
        for k, side in enumerate(("fan_in", "fan_out")):
            noted = [pair[k][: self.options.units].tolist() for pair in norms.values()]
            found[side] = [[float(f"{n:.4g}") for n in group] for group in noted]
        return found

    def arrays(self):
        """What to keep beside a record: the frames, packed bits (frames, units, ⌈inputs/8⌉), and their steps."""
        if not self.frames:
            return {}
        return {"mask": torch.stack(self.frames), "mask_steps": torch.tensor(self.frame_steps)}

    def state_dict(self):
        """What a resumed training needs to know of the past."""
        return {"first": {**self.first}, "frames": [*self.frames], "frame_steps": [*self.frame_steps]}

    def load_state_dict(self, state):
        """Take over a saved state."""
        self.first, self.frames, self.frame_steps = {**state["first"]}, [*state["frames"]], [*state["frame_steps"]]


@told(pruned=numbers("[0, 1]"), sizes=numbers("whole [1, inf)"))
def independent(pruned, sizes):
    """Share of the hidden units that zeros in independent places would remove, by the rule of `lib.shrinking`.

    A unit stays where paths of nonzero weights lead to it from the inputs and from it to the outputs. With ρ_l the
    share of zeros in layer l, the first holds for f_l = 1 − (1 − (1 − ρ_l) f_{l−1})^n_{l−1} of the n_l units, f_0 = 1,
    the second for b_l, in the same way from the outputs; f_l b_l stay. Exact up to two hidden layers.
    pruned: ρ of each layer of a multilayer perceptron; sizes: its units, from inputs to outputs.
    """
    if not len(pruned) == len(sizes) - 1 > 1:
        raise ValueError(f"independent takes a share for each layer between {len(sizes)} sizes, got {len(pruned)}")
    fed, read = _reached(pruned, sizes), _reached(pruned[::-1], sizes[::-1])[::-1]
    left = [n * f * b for n, f, b in zip(sizes[1:-1], fed, read, strict=True)]
    return 1 - sum(left) / sum(sizes[1:-1])


def _reached(pruned, sizes):
    """Share of the units of each hidden layer that a path of nonzero weights reaches from the first of these sizes."""
    found, share = [], 1.0
    for zeros, n in zip(pruned[:-1], sizes, strict=False):
        share = 1 - (1 - (1 - zeros) * share) ** n
        found.append(share)
    return found


def _norms(model, group):
    """Norms of the incoming and outgoing weights of a group's units, two (width,)."""
    ws = {name: w.detach() for name, w in model.named_parameters()}  # those that are not pruned, too
    incoming = sum(ws[f"{s.layer}.weight"].flatten(1).square().sum(1) for s in group.producers)
    columns = [shrinking.columns(ws, s, group) for s in group.consumers]
    outgoing = sum(c.transpose(0, 1).flatten(1).square().sum(1) for c in columns)
    return incoming.sqrt(), outgoing.sqrt()

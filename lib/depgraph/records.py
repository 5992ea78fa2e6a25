"""What a pass is known by, operation by operation, so that one of a smaller network can be laid beside it."""

from dataclasses import dataclass

import torch

from .layouts import written
from .mixing import made
from .rules import pointwise, rule, varies

COMPUTING = (pointwise, made, written)  # rules of operations whose whole numbers are no sizes


@dataclass(eq=False)
class Record:
    """An operation of a trace: channels of its results, channels that it has to do with, and its numbers."""

    name: str
    shapes: tuple
    made: list
    seen: torch.Tensor
    numbers: tuple
    view: bool  # whether it computes nothing: it may be left out where there is little to view

    def removed(self, gone):
        """Those of its channels that go."""
        return self.seen[gone[self.seen]]

    def left(self, gone):
        """What it comes to without those: the same of a network and of what is left of it."""
        kept = [torch.unique_consecutive(ids[~gone[ids] & (ids != 0)]) for ids in self.made]
        return self.name, self.numbers, [ids.numpy().tobytes() for ids in kept]

    def tables(self):
        """Channels that lie along two dimensions or more, or are parts of a whole, as rows of the shorter one."""
        grids = [ids for ids in self.made if sum(n > 1 for n in ids.shape) > 1]
        if len(self.made) > 1 and len({ids.shape for ids in self.made}) == 1:
            grids = [torch.stack(self.made)]
        return [_table(grid) for grid in grids]


def note(call, view):
    """The record of an operation that was followed."""
    trace = call.trace
    made = [_compact(s.ids).clone() for t in call.outs if (s := trace.state(t)).ids.any()]
    seen = made or [_compact(s.ids) for s in call.inputs if s.ids.any()]
    owned = [e for e in map(trace.elements, call.tensors) if e is not None] if not made else []
    seen = [*seen, *(slots for e in owned for slots in e.param.slots)]
    seen = torch.cat([ids.reshape(-1) for ids in seen] or [torch.zeros(0, dtype=torch.int64)])
    name, shapes = call.name.replace("_unsafe_view", "view"), tuple(t.shape for t in call.outs)
    return Record(name, shapes, made, torch.unique(seen), _numbers(call), view or name == "clone")


def _numbers(call):
    """Numbers that an operation computes with, which may have been made of a width; sizes and places are none."""
    kinds = (int, float) if rule(call.func) in COMPUTING else float
    found = [value for value in call.named.values() if isinstance(value, kinds)]
    if call.chance and not call.trace.training:  # fewer numbers drawn by chance are others
        call.trace.draws, found = True, [*found, *(tuple(t.shape) for t in call.outs)]
    for t, (ids, taint) in zip(call.tensors, call.inputs, strict=True):
        if t.numel() == 1 and not (t.is_meta or ids.any() or taint.any() or call.trace.elements(t)):
            found.append(t.item())
    return tuple(map(repr, found))


def _compact(ids):
    """Channels without the dimensions along which they are the same."""
    for d in range(ids.dim()):
        if not varies(ids, d):
            ids = ids.narrow(d, 0, min(1, ids.shape[d]))
    return ids


def parts(first, second, gone):
    """Whether two passes compute other things; gone: the numbers that the second lacks."""
    first, second = ([record.left(gone) for record in records if not record.view] for records in (first, second))
    return first != second


def parting(first, second, gone):
    """The first operation in which two passes part, or one beside it, that channels which go go through, or None."""
    first, second = ([record for record in records if record.name != "clone"] for records in (first, second))
    pairs = enumerate(zip(first, second, strict=False))
    k = next((k for k, (a, b) in pairs if a.left(gone) != b.left(gone)), len(second))
    beside = (first[j] for j in (k, k + 1, k - 1) if 0 <= j < len(first))
    return next((record for record in beside if len(record.removed(gone))), None)


def _table(grid):
    for d in reversed(range(grid.dim())):
        if grid.shape[d] == 1 or not (grid != grid.narrow(d, 0, 1)).any():
            grid = grid.select(d, 0)
    short = min(range(grid.dim()), key=lambda d: grid.shape[d])
    return grid.movedim(short, 0).flatten(1)

"""What a pass is known by, operation by operation, so that one of a smaller network can be laid beside it."""

from dataclasses import dataclass

import torch

from .layouts import written
from .mixing import made
from .rules import pointwise, varies

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

    def same(self, other, gone):
        """Whether another one comes to the same, when these numbers are gone here, which it lacks."""
        plain = [(r.name, r.numbers, len(r.made)) for r in (self, other)]
        pairs = zip(self.made, other.made, strict=False)
        return plain[0] == plain[1] and all(_alike(_places(a, gone), _places(b, gone)) for a, b in pairs)

    def tables(self):
        """Channels that lie along two dimensions or more, or are parts of a whole, as rows along the longest one."""
        parts = len(self.made) > 1 and len({ids.shape for ids in self.made}) == 1
        grids = map(_compact, [torch.stack(self.made)] if parts else self.made)
        return [_table(grid.squeeze()) for grid in grids if sum(n > 1 for n in grid.shape) > 1]


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
    kinds = (int, float) if call.rule in COMPUTING else float
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


def _places(ids, gone):
    """Channels that are left, in order, and which row of those left along each dimension each of them is in."""
    ids = torch.atleast_1d(ids.masked_fill(gone[ids], 0))
    for d in range(ids.dim()):
        rows = (ids != 0).movedim(d, 0)[:, None].flatten(1).any(1)
        ids = ids.index_select(d, rows.nonzero().flatten())
    there = (ids := _compact(ids)).nonzero(as_tuple=True)
    return ids[there], [torch.unique(rows, return_inverse=True)[1] for rows in there]


def _alike(one, other):
    """Whether channels are the same in the same rows, but for one dimension, along which rows may lose others each."""
    if not torch.equal(one[0], other[0]):
        return False
    return sum(not torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True)) < 2


def parts(first, second, gone):
    """Whether two passes compute other things; gone: the numbers that the second lacks."""
    first, second = ([record for record in records if not record.view] for records in (first, second))
    return len(first) != len(second) or not all(a.same(b, gone) for a, b in zip(first, second, strict=True))


def parting(first, second, gone):
    """The first operation in which two passes part, or one beside it, that channels which go go through, or None."""
    first, second = ([record for record in records if record.name != "clone"] for records in (first, second))
    pairs = enumerate(zip(first, second, strict=False))
    k = next((k for k, (a, b) in pairs if not a.same(b, gone)), len(second))
    beside = (first[j] for j in (k, k + 1, k - 1) if 0 <= j < len(first))
    return next((record for record in beside if len(record.removed(gone))), None)


def _table(grid):
    long = max(reversed(range(grid.dim())), key=lambda d: grid.shape[d])
    return grid.movedim(long, -1).flatten(0, -2)

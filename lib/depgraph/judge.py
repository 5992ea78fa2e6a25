"""Which channels may go: at every reader unread, zero, or constant where a constant can be folded."""

import torch

from .slicing import kept_groups


def settle(trace, banned, rows=()):
    """Which numbers are removed, bool; again until nothing changes and what must be even is.

    banned: {class: why it is left}, which grows. rows: lists of channels that must lose equally many.
    """
    grouped = [param for param in trace.params if param.grouped is not None]
    while True:
        removed = _settled(trace, banned)
        tables = [*rows, *(side[kept_groups(param, removed)] for param in grouped for side in param.grouped)]
        ragged = [table[back] for table in tables if (back := _surplus(removed[table])).any()]
        if not ragged:
            return removed
        for root in trace.classes.roots(torch.cat(ragged)).tolist():
            banned.setdefault(root, "other groups keep more")


def _settled(trace, banned):
    roots = trace.classes.roots()
    candidates, removed = torch.zeros(2, len(roots), dtype=torch.bool)
    for reader in trace.readers:
        candidates[roots[reader.inputs]] = True
    candidates[[0, *trace.classes.pins, *banned]] = False
    last = [None] * len(trace.readers)
    while True:
        fine = candidates & ~removed
        for k, reader in enumerate(trace.readers):
            live = ~removed[roots[reader.outputs]]
            if last[k] is None or not torch.equal(last[k][0], live):
                last[k] = live, _needed(reader, live)
            fine[roots[reader.inputs[last[k][1]]]] = False
        if not fine.any():
            return removed[roots]
        removed |= fine


def _needed(reader, live):
    """Which inputs a reader reads for outputs that are left, and cannot do without."""
    groups = len(reader.nonzero)
    reads = (reader.nonzero & live.view(groups, -1, 1)).any(1).view(-1)
    spare = reader.value == 0 if reader.shift is None else ~reader.value.isnan()
    return reads & ~spare


def _surplus(gone):
    """What goes of each row beyond what every row can spare, the last ones of it; one of a row stays."""
    spare = max(0, min([*gone.sum(1).tolist(), gone.shape[1] - 1]))
    ranks = gone.flip(1).cumsum(1).flip(1)
    return gone & (ranks <= gone.sum(1, keepdim=True) - spare)


def fold(trace, removed, tensors):
    """Add what the removed constants come to behind each reader to its bias, or take it off the norm's mean."""
    for reader in (reader for reader in trace.readers if reader.shift is not None):
        value = torch.where(removed[reader.inputs] & ~reader.value.isnan(), reader.value, 0)
        if value.any():
            value, (param, sign) = value.view(len(reader.nonzero), -1), reader.shift
            used = value.any(0)
            matrix = reader.matrix[:, :, used.to(reader.matrix.device)].double()
            shift = torch.einsum("goi...,gi->go", matrix, value[:, used].to(matrix)).flatten()
            tensors[param.name].data.add_(sign * shift)


def simple(trace, chosen, rows):
    """Whether some channels can stay behind alone: only layers with a weight of their own, of one group, read them."""
    plain = all(r.weight is not None and len(r.nonzero) == 1 for r in trace.readers if chosen[r.inputs].any())
    return plain and not any(chosen[table].any() for table in rows)


def silence(trace, chosen, tensors):
    """Zero what reads some channels that are dead and stay: what they are has become another."""
    for reader in trace.readers if chosen.any() else ():
        for axis, slots in enumerate(reader.weight.slots if reader.weight else ()):
            weight, columns = tensors[reader.weight.name].data, chosen[slots] & torch.isin(slots, reader.inputs)
            weight.index_fill_(axis, columns.nonzero().flatten().to(weight.device), 0)


def doubt(trace, removed, sizes=(0.0, -1.0)):
    """Stop relying on constants larger than the first of these sizes that one removed was; whether there is one.

    That is on those that are not zero, and then on zeros, too.
    """
    for least in sizes:
        found = [reader.value.abs() > least for reader in trace.readers]
        if any((removed[reader.inputs] & high).any() for reader, high in zip(trace.readers, found, strict=True)):
            for reader, high in zip(trace.readers, found, strict=True):
                reader.value[high] = torch.nan
            return True
    return False

"""What stays of a network's units, and why."""

import warnings
from collections import Counter
from dataclasses import dataclass

import torch

from .passes import OUTPUT


@dataclass(frozen=True)
class Row:
    """A layer's units: how many there were, are left, and are dead and stay, by the reason."""

    layer: str
    units: int
    left: int
    stayed: dict


@dataclass(frozen=True)
class Report:
    """A row for each weight of a layer, in the order of evaluation, and layers that the example did not run.

    Depthwise convolutions, embeddings and norms go with what feeds them and have none. It prints as a table.
    """

    rows: tuple
    idle: tuple = ()

    @property
    def stayed(self):
        """Dead units that stay, by the reason."""
        return sum((Counter(row.stayed) for row in self.rows), Counter())

    def __str__(self):
        wide = max([len(row.layer) for row in self.rows] + [5])
        lines = [f"{'layer':{wide}} {'units':>6} {'left':>6}  dead units that stay"]
        for row in self.rows:
            why = "; ".join(f"{n} {reason}" for reason, n in row.stayed.items())
            lines.append(f"{row.layer:{wide}} {row.units:6} {row.left:6}  {why}".rstrip())
        if self.idle:
            lines.append(f"not run by the example: {', '.join(self.idle)}")
        return "\n".join(lines)


def made(search):
    """The report of a finished search."""
    rows, roots = {}, search.trace.classes.roots()
    dead = _dead(search.trace, roots)
    for reader in search.trace.readers:
        if reader.weight is None or reader.weight.name in rows:
            continue
        gone, why = search.removed[reader.outputs], Counter()
        stays = dead[reader.outputs] & ~search.dead[reader.outputs]  # without the one that a dead layer keeps
        for root in roots[reader.outputs[stays]].tolist():
            why[_reason(search, root)] += 1
        why.pop(OUTPUT, None)
        layer = reader.weight.name.rpartition(".")[0] or reader.weight.name
        rows[reader.weight.name] = Row(layer, len(gone), int((~gone).sum()), dict(why))
    return Report(tuple(rows.values()), tuple(search.idle))


def _dead(trace, roots):
    """Classes of channels that no weight makes or no weight reads, by number."""
    makes, reads, made_by, read_by = torch.zeros(4, len(roots), dtype=torch.bool)
    for reader in trace.readers:
        inputs, outputs = roots[reader.inputs], roots[reader.outputs]
        read_by[inputs], made_by[outputs] = True, True
        reads[inputs[reader.nonzero.any(1).view(-1)]] = True
        makes[outputs[reader.nonzero.any(2).view(-1)]] = True
    dead = made_by & ~makes | read_by & ~reads
    dead[0] = False
    return dead[roots]


def _reason(search, root):
    if known := search.trace.classes.pins.get(root) or search.banned.get(root):
        return known
    read = any(root in search.trace.classes.roots(reader.inputs) for reader in search.trace.readers)
    return "constant, which what follows does not take up exactly" if read else "no layer reads it"


def warn(report):
    """One warning where dead units stay."""
    if n := sum(report.stayed.values()):
        most = "; ".join(f"{k} {reason}" for reason, k in report.stayed.most_common(3))
        more = "; …" if len(report.stayed) > 3 else ""
        text = f"{n} dead units stay ({most}{more}); depgraph.report(net, x) lists them by layer"
        warnings.warn(text, UserWarning, stacklevel=3)

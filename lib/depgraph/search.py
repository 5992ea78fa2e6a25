"""As many channels as can be found whose removal leaves a network that runs and computes the same."""

import copy
import time

import torch

from ..checks import number
from ..shrinking import ShrinkError
from . import judge, slicing
from .classes import Mismatch
from .network import Network
from .passes import Example, first_line, refuse
from .proof import UNSEEN, difference
from .records import parting, parts
from .trace import TooLong

SECONDS = 120  # until a search ends, where the caller does not say
ATTEMPTS = 40  # of slicing; where none has worked, the network comes back as it was


class Search:
    """What of a network may go: `run` gives the smaller one, `dead` and `removed` say what went."""

    def __init__(self, model, example, *, keep, keep_one, seconds=SECONDS):
        number("seconds", seconds, "[0, inf)")
        until, example = time.monotonic() + seconds, Example(model, example)
        refuse(model, example, keep)
        self.model, self.keep_one = model, keep_one
        self.banned, self.rows, self.tried, self.doubted = {}, [], {}, False
        self.network = Network(model, example, seconds, until)
        self.trace, self.classes, self.idle = self.network.trace, self.network.trace.classes, self.network.idle
        for name in keep:
            layer = self.network.work.get_submodule(name)
            inside = {id(t) for t in (*layer.parameters(), *layer.buffers())}
            for param in self.trace.params:
                if id(param.tensor) in inside:
                    self.trace.keep(param, "named in keep")

    def run(self):
        """A copy of the network without what may go."""
        for attempt in range(ATTEMPTS + 1):
            self.dead, self.removed = self._removed()
            if attempt == ATTEMPTS:
                self._ban(torch.nonzero(self.removed).flatten(), f"not settled in {ATTEMPTS} attempts")
                self.dead = self.removed = torch.zeros_like(self.dead)
            if not self.dead.any():
                break
            small = self._sliced()
            other = copy.deepcopy(small)
            slicing.watch(other, small)
            if not self._learned(*self.network.again(other, self.removed)) and self._proved(small, other):
                return small
        return copy.deepcopy(self.model)

    def _sliced(self):
        small = copy.deepcopy(self.model)
        tensors = slicing.tensors_of(small)
        with torch.no_grad():
            judge.fold(self.trace, self.dead, tensors)
            judge.silence(self.trace, self.dead & ~self.removed, tensors)
            slicing.remove(small, self.trace.params, self.removed)
        return small

    def _proved(self, small, other):
        """Whether the outputs are the same, on copies that have served unless something has changed them.

        Constants may be others in other inputs, so that where outputs differ constants stay. ShrinkError: that is not
        why.
        """
        network, used = self.network, self.doubted or len(self.network.modes) > 1
        nets = map(copy.deepcopy, (self.model, small)) if used else (network.work, other)
        try:
            wrong = difference(*nets, network.example, self.trace)
        except TooLong:
            raise network.late("compared with the smaller one") from None
        self.doubted = bool(wrong)
        if wrong == UNSEEN:  # constants stay that are not zero: of what is zero everywhere none is wrong
            return not judge.doubt(self.trace, self.dead, [0.0])
        if wrong and not judge.doubt(self.trace, self.dead):
            names = [p.name.rpartition(".")[0] for p in self.trace.params if p.slots and self.removed[p.slots[0]].any()]
            raise ShrinkError(
                f"after units of {', '.join(map(repr, dict.fromkeys(names)))} were removed {wrong}: what "
                f"{network.name} does there was not seen; name the layers to be left alone in keep=[…]"
            )
        return not wrong

    # --- what goes

    def _removed(self):
        """What is dead, and what of it is sliced: one channel stays where a layer would have none."""
        while True:
            dead = judge.settle(self.trace, self.banned, self.rows)
            removed = dead.clone()
            while empty := [(p, s) for p in self.trace.params for s in p.slots if len(s) and removed[s].all()]:
                if not self.keep_one:
                    name = next((p.name for p, s in empty if s is p.slots[0]), empty[0][0].name).rpartition(".")[0]
                    raise ShrinkError(f"no unit left in {name!r}; prune less there or pass keep_one=True")
                roots = self.classes.roots()
                root = roots[empty[0][1][0]]
                if not judge.simple(self.trace, roots == root, self.rows):
                    self.banned[int(root)] = "the only one that is left"
                    break
                removed &= roots != root
            else:
                return dead, removed

    # --- what cannot be sliced

    def _learned(self, trace, failure):
        """Whether a smaller network's pass is another one: what the first such operation sees is left, or made even."""
        passes = self.trace.records, trace.records, self.removed
        if failure is None and not parts(*passes):
            return False
        why = "cannot be sliced" + (f": {first_line(failure)}" if failure and not isinstance(failure, Mismatch) else "")
        if (record := parting(*passes)) is None:
            self._ban(torch.nonzero(self.removed).flatten(), why)
            return True
        key = record.name, record.shapes
        kin = [r for r in self.trace.records if (r.name, r.shapes) == key and len(r.removed(self.removed))]
        tables = [table for r in kin for table in r.tables()]
        for step in range(self.tried.get(key, 0), 2 if tables else 0):
            self.tried[key] = step + 1
            self._align(tables) if step else self.rows.extend(tables)  # as many of each row go, then the same
            if not torch.equal(judge.settle(self.trace, self.banned, self.rows), self.dead):
                return True
        for r in kin:
            self._ban(r.removed(self.removed), f"{why} (at {r.name})")
        return True

    def _align(self, tables):
        """The same of each row of a table go."""
        for table in tables:
            self.classes.join(table[:1], table)
        roots = self.classes.roots()
        self.banned = {int(roots[root]): why for root, why in self.banned.items()}

    def _ban(self, ids, why):
        for root in self.classes.roots(ids).unique().tolist():
            self.banned.setdefault(root, why)

"""The largest set of channels whose removal leaves a network that runs and is the same."""

import copy
import time

import numpy as np
import torch

from lib.depgraph import judge, slicing
from lib.depgraph.classes import Classes, Mismatch
from lib.depgraph.passes import OUTPUT, difference, first_line, quiet, refuse, tensors_in
from lib.depgraph.report import made
from lib.depgraph.trace import Param, TooLong, Trace
from lib.shrinking import ShrinkError


class Search:
    """A network, traced on an example, and what of it may go; `run` gives the smaller one."""

    def __init__(self, model, example, *, keep, keep_one, seconds):
        refuse(model, example, keep)
        self.model, self.example, self.keep_one, self.keep = model, example, keep_one, keep
        self.seconds, self.until = seconds, time.thread_time() + seconds
        self.banned, self.rows, self.tried, self.modes, self.idle = {}, [], {}, [False], {}
        try:
            self.work = copy.deepcopy(model)
        except Exception as failure:
            raise ShrinkError(f"{type(model).__name__} cannot be copied ({first_line(failure)})") from failure
        self.tensors, self.holders = slicing.tensors_of(self.work)
        self._first_trace()

    def run(self):
        """A copy of the network without what may go."""
        for _ in range(60):
            dead, removed = self._removed()
            self.dead, self.removed = dead, removed
            if not dead.any():
                return copy.deepcopy(self.model)
            small = copy.deepcopy(self.model)
            with torch.no_grad():
                judge.fold(self.trace, dead, slicing.tensors_of(small)[0])
                judge.silence(self.trace, dead & ~removed, slicing.tensors_of(small)[0])
                slicing.remove(small, self.trace.params, removed)
            other = copy.deepcopy(small)
            if (failure := self._again(other, self._params(other, removed), "strict")[1]) is None:
                nets = (self.work, other) if len(self.modes) == 1 else map(copy.deepcopy, (self.model, small))
                if wrong := difference(*nets, self.example):
                    raise ShrinkError(self._different(removed, wrong))
                return small
            self._learn(small, removed, failure)
        raise ShrinkError(f"{type(self.model).__name__}: no set of units was found that can be sliced; pass keep=[…]")

    def report(self):
        """What stays and why, after `run`."""
        return made(self, self.removed)

    # --- traces

    def _first_trace(self):
        try:
            params = self._traced()
        except TooLong:
            raise ShrinkError(self._slow()) from None
        except Exception as failure:
            shapes = ", ".join(str(tuple(t.shape)) for t in self.example.tensors())
            raise ShrinkError(
                f"{type(self.model).__name__} fails on the example of shape {shapes} ({first_line(failure)}); "
                "pass inputs as the network takes them, with a batch axis"
            ) from failure
        self._unseen()
        for name in self.keep:
            layer = self.work.get_submodule(name)
            inside = {id(t) for t in (*layer.parameters(), *layer.buffers())}
            for param in params:
                if id(param.tensor) in inside:
                    for slots in (*param.slots, *(param.grouped or ())):
                        self.trace.classes.pin(slots, "named in keep")

    def _traced(self):
        """Trace the network; an example of another floating type is made the network's where it takes no other."""
        kinds = [t.dtype for t in self.tensors.values() if t.is_floating_point()]
        given = self.example
        for example in (given, given.map(lambda t: t.to(kinds[0]) if t.is_floating_point() and kinds else t)):
            classes = Classes()
            params = [Param(name, t, [classes.new(n) for n in t.shape]) for name, t in self.tensors.items()]
            self.trace, self.example = Trace(params, classes, until=self.until), example
            try:
                self._pass(self.work, self.trace, False)
                return params
            except RuntimeError as failure:
                if example is not given or "type" not in str(failure):
                    raise

    def _pass(self, model, trace, training):
        model.train(training)
        if not training:
            model.eval()
        given = self.example.map(lambda t: t.detach().clone())
        for t in given.tensors():
            trace.put(t, torch.tensor(trace.classes.fixed("the network's input")), torch.tensor(True))
        with quiet(), trace:
            outputs = model(*given.args, **given.kwargs)
        found = tensors_in(outputs)
        if not found:
            raise ShrinkError(f"{type(model).__name__} returned no tensor on the example")
        for t in found:
            trace.classes.pin(trace.state(t).ids, OUTPUT)
            if owned := trace.elements(t):
                for slots in owned.param.slots:
                    trace.classes.pin(slots, OUTPUT)

    def _unseen(self):
        """Layers that the example does not run: traced in training, else what they may belong to is left alone."""
        trace, params = self.trace, self.trace.params
        if not self._idle(params):
            return
        uses, readers = {p: p.uses for p in params}, list(trace.readers)
        seen = len(trace.classes.log)
        try:
            self._pass(copy.deepcopy(self.work) if False else self.work, trace, True)
            self.modes = [False, True]
        except TooLong:
            raise ShrinkError(self._slow()) from None
        except Exception:
            del trace.classes.log[seen:]
        added = [r for r in trace.readers[len(readers) :] if r.weight is not None and not uses[r.weight]]
        for reader in added:
            reader.matrix = None
        trace.readers = readers + added
        self.idle = self._idle(params)
        for param, n in uses.items():
            param.uses = n
        for name, sizes in self.idle.items():
            for ids in trace.widths:
                if any(n == len(row) or (wide and n % len(row) == 0) for row in _rows(ids) for n, wide in sizes):
                    trace.classes.pin(ids, f"may belong to {name!r}, which the example does not run")

    def _idle(self, params):
        """Widths of what the parameters have that no operation has read: {layer: [(width, by flattening)]}."""
        found = {}
        for param in params:
            if param.uses == 0 and isinstance(param.tensor, torch.nn.Parameter) and param.tensor.dim():
                shape = param.tensor.shape
                sizes = [(n, d == 1 and len(shape) == 2) for d, n in enumerate(shape[:2]) if n > 1]
                found.setdefault(param.name.rpartition(".")[0], []).extend(sizes)
        return found

    # --- what goes

    def _removed(self):
        """What is dead, and what of it is sliced: one channel stays where a layer would have none."""
        while True:
            dead = judge.settle(self.trace, self.banned, self.rows)
            removed = dead.clone()
            while empty := [(p.name, s) for p in self.trace.params for s in p.slots if len(s) and removed[s].all()]:
                if not self.keep_one:
                    raise ShrinkError(self._empty(empty))
                roots = self.trace.classes.roots(torch.arange(len(removed)))
                root = roots[int(empty[0][1][0])]
                if not judge.simple(self.trace, torch.from_numpy(roots == root), self.rows):
                    self.banned[int(root)] = "the only one that is left"
                    break
                removed &= torch.from_numpy(roots != root)
            else:
                return dead, removed

    def _empty(self, empty):
        names = [name.rpartition(".")[0] for name, slots in empty if slots is self._slots(name)[0]]
        name = next(iter(names), empty[0][0].rpartition(".")[0])
        return f"no unit left in {name!r}; prune less there or pass keep_one=True"

    def _slots(self, name):
        return next(p.slots for p in self.trace.params if p.name == name)

    def _params(self, model, removed=None):
        """Parameters of the network or of a smaller one with the numbers that they were given."""
        tensors, params = slicing.tensors_of(model)[0], []
        for p in self.trace.params:
            slots, grouped = (p.slots, p.grouped) if removed is None else slicing.slots_left(p, removed)
            params.append(Param(p.name, tensors[p.name], slots, grouped, p.transposed))
        return params

    def _again(self, model, params, mode, gone=None):
        """Run what was traced once more; the trace and what it failed with."""
        classes = self.trace.classes
        classes.again(mode)
        trace = Trace(params, classes, until=self.until, gone=gone)
        try:
            for training in self.modes:
                self._pass(model, trace, training)
        except TooLong:
            raise ShrinkError(self._slow()) from None
        except Exception as failure:
            return trace, failure
        finally:
            classes.again("build")
        return trace, None

    def _learn(self, small, removed, failure):
        """Leave what the first operation that went another way has to do with, or make it even."""
        first, _ = self._again(self.work, self._params(self.work), "look", removed)
        other = copy.deepcopy(small)
        second, _ = self._again(other, self._params(other, removed), "look", removed)
        pairs = zip(first.records, second.records, strict=False)
        k = next((k for k, (a, b) in enumerate(pairs) if (a.name, a.digest) != (b.name, b.digest)), len(second.records))
        k = next((j for j in (k, k + 1, k - 1) if 0 <= j < len(first.records) and len(first.records[j].removed)), None)
        why = f"cannot be sliced: {first_line(failure)}" if not isinstance(failure, Mismatch) else "cannot be sliced"
        if k is None:
            return self._ban(torch.nonzero(removed).flatten(), why)
        one = first.records[k]
        kin = [r for r in first.records if (r.name, r.shapes) == (one.name, one.shapes) and len(r.removed)]
        step = self.tried[one.name, one.shapes] = self.tried.get((one.name, one.shapes), -1) + 1
        grids = [_table(grid) for r in kin for grid in r.grids]
        if grids and step == 0:
            self.rows += grids
            if not torch.equal(judge.settle(self.trace, self.banned, self.rows), removed):
                return None
            step = self.tried[one.name, one.shapes] = 1
        if grids and step == 1:
            for grid in grids:
                self.trace.classes.join(grid[:1], grid)
            self.banned = {int(self.trace.classes.roots(torch.tensor([r]))[0]): w for r, w in self.banned.items()}
            if not torch.equal(judge.settle(self.trace, self.banned, self.rows), removed):
                return None
        for record in kin:
            self._ban(record.removed, f"{why} (at {record.name})")
        return None

    def _ban(self, ids, why):
        for root in np.unique(self.trace.classes.roots(ids)).tolist():
            self.banned.setdefault(root, why)

    # --- messages

    def _slow(self):
        return (
            f"{type(self.model).__name__} was not traced within {self.seconds} s; pass a smaller example, seconds=… "
            "for more time, or shrink parts of it"
        )

    def _different(self, removed, wrong):
        names = [p.name.rpartition(".")[0] for p in self.trace.params if p.slots and removed[p.slots[0]].any()]
        return (
            f"after units of {', '.join(map(repr, dict.fromkeys(names)))} were removed {wrong}: what "
            f"{type(self.model).__name__} does there was not seen; name the layers to be left alone in keep=[…]"
        )


def _rows(ids):
    """The channels along each dimension of a tensor of numbers."""
    for dim in range(ids.dim()):
        row = ids[tuple(slice(None) if d == dim else 0 for d in range(ids.dim()))]
        if len(row) > 1 and (row != row[0]).any():
            yield row


def _table(grid):
    """Channels that lie along two dimensions of a tensor or more, as rows of the shorter one."""
    dims = [d for d in range(grid.dim()) if grid.shape[d] > 1 and (grid != grid.narrow(d, 0, 1)).any()]
    for d in reversed(range(grid.dim())):
        if d not in dims:
            grid = grid.select(d, 0)
    short = min(range(grid.dim()), key=lambda d: grid.shape[d])
    return grid.movedim(short, 0).flatten(1)

"""A network that is traced: once, to learn what belongs together, and again, to see whether a smaller one does so."""

import copy

import torch

from ..shrinking import ShrinkError
from . import slicing
from .classes import Classes
from .passes import OUTPUT, alone, batched, first_line, quiet, tensors_in, unchanged
from .shadows import Param
from .trace import Read, TooLong, Trace


class Network:
    """A copy of a network, its example and its trace; `modes` are those of the passes, in training or not."""

    def __init__(self, model, example, seconds, until):
        self.name, self.example = type(model).__name__, example
        self.seconds, self.until = seconds, until  # by the monotonic clock
        self.modes, self.idle = [False], {}
        try:
            self.work = copy.deepcopy(model)
        except Exception as failure:
            raise ShrinkError(
                f"{self.name} cannot be copied ({first_line(failure)}); take off what it holds beside its weights, as "
                "an output that it has kept with its gradient"
            ) from failure
        self.tensors = slicing.tensors_of(self.work)
        kinds = [t.dtype for t in self.tensors.values() if t.is_floating_point()]
        if kinds:  # an example of a floating type that the network has not is made one that it has
            other = {t.dtype for t in example.tensors() if t.is_floating_point()} - {*kinds}
            self.example = example.map(lambda t: t.to(kinds[0]) if t.dtype in other else t)
        classes = Classes()
        params = [Param(name, t, [classes.new(n) for n in t.shape]) for name, t in self.tensors.items()]
        self.trace = Trace(params, classes, self.until)
        with alone(model):
            self._first()
        self._unseen()

    def _first(self):
        """The pass that all is learned from; ShrinkError: it fails."""
        if (failure := self._pass(self.work, self.trace, False)) is not None:
            if "HigherOrderOperator" in str(failure):
                raise ShrinkError(
                    f"{self.name} runs what no pass sees into ({first_line(failure)}); put in its place what "
                    "F.scaled_dot_product_attention, an if or a loop of Python's does"
                ) from failure
            shapes = ", ".join(str(tuple(t.shape)) for t in self.example.tensors())
            raise ShrinkError(
                f"a copy of {self.name} fails on the example of shape {shapes} ({first_line(failure)}); pass inputs as "
                "the network takes them, with a batch axis; if it takes these, a hook or a function in it holds the "
                "network itself, not its copy: take that off first"
            ) from failure

    def _pass(self, model, trace, training):
        """One forward pass under a trace; inputs and outputs stay. What it fails with, or None."""
        model.train(training)
        trace.training = training
        given = self.example.map(lambda t: t.detach().clone())
        try:
            for t in given.tensors():
                trace.put(t, torch.tensor(trace.classes.fixed("the network's input")), torch.tensor(True))
            with quiet(), unchanged(model), batched(given.tensors()), trace, Read(trace):
                found = tensors_in(model(*given.args, **given.kwargs))
            if not found and not training:
                raise ShrinkError(f"{self.name} returned no tensor on the example")
            for t in found:
                trace.pin(t, OUTPUT)
        except TooLong:
            raise self.late("traced") from None
        except ShrinkError:
            raise
        except Exception as failure:
            return failure

    def late(self, what):
        """The error where the time is over."""
        return ShrinkError(
            f"{self.name} was not {what} within {self.seconds} s; pass a smaller example, seconds=… for more time, or "
            "shrink parts of it"
        )

    def _unseen(self):
        """Layers that the example does not run: traced in training, else what they may belong to is left alone."""
        trace = self.trace
        unread = [p for p in trace.params if p.uses == 0 and p.tensor.dim() and p.tensor.is_floating_point()]
        if not unread:  # a buffer may be one that training alone moves
            return
        uses, known = {p: p.uses for p in trace.params}, list(trace.readers)
        seen, noted = len(trace.classes.log), len(trace.records)
        if self._pass(self.work, trace, True) is None:
            self.modes = [False, True]
        else:
            del trace.classes.log[seen:], trace.records[noted:]
        added = [r for r in trace.readers[len(known) :] if r.weight is not None and not uses[r.weight]]
        for reader in added:
            reader.matrix = None
        trace.readers, self.idle = known + added, self._without_use()
        for param, n in uses.items():
            param.uses = n
        for name, sizes in self.idle.items():
            for ids in (ids for record in trace.records for ids in record.made):
                if any(n == len(row) or (flat and n % len(row) == 0) for row in _rows(ids) for n, flat in sizes):
                    trace.classes.pin(ids, f"may belong to {name!r}, which the example does not run")

    def _without_use(self):
        """Widths of the parameters that no operation has read, {layer: [(width, whether of what was flattened)]}."""
        found = {}
        for param in self.trace.params:
            if param.uses == 0 and isinstance(param.tensor, torch.nn.Parameter) and param.tensor.dim():
                shape = param.tensor.shape
                sizes = [(n, d == 1 and len(shape) == 2) for d, n in enumerate(shape[:2]) if n > 1]
                found.setdefault(param.name.rpartition(".")[0] or param.name, []).extend(sizes)
        return found

    def again(self, model, removed):
        """Run what was traced once more, on what is left of the network: the trace, and what it failed with or None."""
        classes, tensors = self.trace.classes, slicing.tensors_of(model)
        params = [slicing.left(p, tensors[p.name], removed) for p in self.trace.params]
        classes.again()
        trace = Trace(params, classes, self.until)
        failures = (self._pass(model, trace, training) for training in self.modes)
        failure = next((found for found in failures if found is not None), None)
        classes.strict = False
        return trace, failure


def _rows(ids):
    """The channels along each dimension of a tensor of numbers."""
    for dim in range(ids.dim()):
        row = ids[tuple(slice(None) if d == dim else 0 for d in range(ids.dim()))]
        if len(row) > 1 and (row != row[0]).any():
            yield row

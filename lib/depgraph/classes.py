"""Classes of channels that go together: a union-find over numbers, with the reason why a class may not go."""

import numpy as np
import torch


class Mismatch(Exception):
    """A trace that is to repeat another joins channels that were apart, or binds one that was free."""


class Classes:
    """Numbers from 1 on, joined into classes; 0 is what is no channel.

    strict: whether Mismatch is raised where something new would be joined or pinned.
    """

    def __init__(self):
        self.parent, self.count, self.pins, self.strict = np.zeros(1024, dtype=np.int64), 1, {}, False
        self.log = []

    def new(self, n):
        """n new numbers, each a class of its own."""
        first, self.count = self.count, self.count + n
        if self.count > len(self.parent):
            self.parent = np.concatenate([self.parent, np.zeros(self.count, dtype=np.int64)])
        self.parent[first : self.count] = np.arange(first, self.count)
        return torch.arange(first, self.count)

    def fixed(self, reason):
        """One number that may not go, the same again when a trace is repeated."""
        if not self.strict:
            self.log.append(int(self.new(1)))
            self.pin(torch.tensor(self.log[-1]), reason)
            return self.log[-1]
        if not self.rest:
            raise Mismatch(reason)
        return self.rest.pop()

    def roots(self, ids=None):
        """The class of each number, by default of all that there are."""
        at = self.parent[: self.count] if ids is None else self.parent[ids.numpy()]
        while (above := self.parent[at]).ravel().tobytes() != at.tobytes():
            at = above
        return torch.as_tensor(above)

    def join(self, a, b):
        """Put the classes of two tensors of numbers together, element by element; 0 joins nothing."""
        a, b = torch.broadcast_tensors(a, b)
        for d in range(a.dim() if a.numel() > 10_000 else 0):  # what repeats is looked at once
            if a.shape[d] > 1 and not any((t != t.narrow(d, 0, 1)).any() for t in (a, b)):
                a, b = a.narrow(d, 0, 1), b.narrow(d, 0, 1)
        differ = (a != b) & (a != 0) & (b != 0)
        if not differ.any():
            return
        pairs = np.stack([self.roots(a[differ]), self.roots(b[differ])], 1)
        pairs = np.divmod(np.unique(pairs[pairs[:, 0] != pairs[:, 1]] @ [self.count, 1]), self.count)
        if len(pairs[0]) and self.strict:
            raise Mismatch("channels that were apart are joined")
        for one, other in zip(*(side.tolist() for side in pairs), strict=True):
            self._union(one, other)

    def _union(self, one, other):
        one, other = self._root(one), self._root(other)
        if one != other:
            self.parent[other] = one
            if (reason := self.pins.pop(other, None)) is not None:
                self.pins.setdefault(one, reason)

    def _root(self, at):
        while (above := self.parent[at]) != at:
            self.parent[at] = at = self.parent[above]
        return int(at)

    def pin(self, ids, reason):
        """The classes of these numbers may not go."""
        for root in self.roots(ids).unique().tolist():
            if root and root not in self.pins:
                if self.strict:
                    raise Mismatch(reason)
                self.pins[root] = reason

    def again(self):
        """Begin to repeat what was built."""
        self.strict, self.rest = True, self.log[::-1]

"""Which units of any network may be cut, and how much each counts: what is coupled counts, and goes, together."""

import copy

import torch

from . import judge, slicing
from .search import SECONDS, Search


class Units:
    """Units of a network in blocks that the same weights make and read; `masked` leaves a share of each block.

    A unit is a class of channels that go together only (a residual sum, a norm, a depthwise convolution tie them). Its
    size is the sum of the squares of the weights that make it and read it, in units of their mean. The network's inputs
    and outputs, what `keep` names and what is read without a weight (a query, by a key) are no units.
    """

    def __init__(self, model, example, *, keep=(), seconds=SECONDS):
        search = Search(model, example, keep=keep, keep_one=True, seconds=seconds)
        self.model, self.trace = model, search.trace
        self.roots = self.trace.classes.roots()
        weighted = [r for r in self.trace.readers if r.weight is not None]
        self.weights = list({id(r.weight): r.weight for r in weighted if r.weight.tensor.dim() > 1}.values())
        self.read = torch.zeros(len(self.roots), dtype=torch.bool)  # what a weight reads, by number
        for reader in weighted:
            self.read[reader.inputs] = True
        bare = {
            root for r in self.trace.readers if r.weight is None for root in self.roots[r.inputs].flatten().tolist()
        }
        self.loose = {*self.roots[self.read].tolist()} - bare - {0, *self.trace.classes.pins}
        self.sizes = torch.zeros(len(self.roots), dtype=torch.float64)
        places = {root: set() for root in self.loose}
        self._weigh(places)
        self.blocks = {}
        for root, where in places.items():
            self.blocks.setdefault(frozenset(where), []).append(root)

    def __len__(self):
        return len(self.loose)

    def _weigh(self, places):
        """Add up the sizes of units and note where they are; a unit that is dead already has the size 0."""
        for param in self.weights:
            squares = param.tensor.detach().double().square().cpu()
            for side, (ids, view) in enumerate(_axes(param, squares)):
                found = view.flatten(ids.dim()).sum(-1)
                self.sizes.index_add_(0, self.roots[ids].view(-1), (found / found.mean().clamp_min(1e-300)).view(-1))
                for group, row in enumerate(ids):
                    for root in {*self.roots[row].tolist()} & self.loose:
                        places[root].add((param.name, side, group))
        self.sizes[self.roots[judge.settle(self.trace, {})]] = 0

    def cut(self, share):
        """Which numbers go when this share of each block is left, at least one unit of it: the smallest."""
        gone, sizes = torch.zeros(len(self.roots), dtype=torch.bool), self.sizes.tolist()
        for block in self.blocks.values():
            order = sorted(block, key=sizes.__getitem__)
            gone[order[: len(order) - max(1, round(share * len(order)))]] = True
        return gone[self.roots]

    @torch.no_grad()
    def masked(self, share):
        """A copy of the network in which nothing reads the units that go."""
        net, gone = copy.deepcopy(self.model), self.cut(share) & self.read
        tensors = slicing.tensors_of(net)
        for param in self.weights:
            for ids, view in _axes(param, tensors[param.name].detach()):
                view[gone[ids].to(view.device)] = 0
        return net


def _axes(param, weight):
    """Numbers along rows and columns of a weight, (groups, n) each, with its view that begins with them."""
    blocks = weight.unflatten(0, (len(param.sides[0]), -1))
    return list(zip(param.sides, (blocks, blocks.transpose(1, 2)), strict=True))

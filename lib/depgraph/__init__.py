"""Dead units out of any network: one forward pass shows which channels of which tensors go together.

`shrink(net, x)` takes four steps, and goes back from the third to the second while something is wrong:

1. Trace. `network` copies the net and calls it on the example. `trace` sees each operation of torch; `shadows` has for
   each number of each tensor the number of a channel (0: none) and a mark where it depends on the inputs, and which
   number of a parameter it is. Views share their storage with what they view and need no rule. All else has one, found
   by its name: `layouts` (moves: the operation itself, done to the channels), `mixing` (sums, norms, softmax),
   `contractions` (weights that read some channels and make others: the `Reader`) and `rules` (number by number, and
   what has no rule: what that reads stays). These import `rules` and `shadows` alone, and `trace` imports them.
2. Groups. Channels that meet, in a sum, a norm, a depthwise filter, become one class (`classes`, a union-find); what
   may not go is pinned with a reason. `judge` settles which classes are dead: at every reader unread, zero, or a
   constant that its bias can take up. Those that go out open the next ones.
3. Slicing and proof. `search` takes the dead channels out of a copy (`slicing`) and runs the same pass again with the
   numbers that are left. `records` lays both passes beside each other: where they part, a width of heads or groups is
   made even, or what the operation sees is left. `proof` then compares outputs, in float64, on the example, on noise,
   on other whole numbers and on inputs of other sizes; where it finds a difference, constants that are not zero stay
   (then zeros, too), and what differs still is a ShrinkError that names the layers.
4. Report. `report` says layer by layer how many units are left and why dead ones stayed; `shrink` warns once.

`passes` holds what must be so around a pass (the example, no gradients, no fused kernels) and refuses what has no
weights of its own; `units` tells `lib.compress` which units may be cut at all, and masks a share of them.
To learn an operation, add its name to the pattern of a rule, or a rule: a function of a `Call` that puts channels on
its outputs (`trace.put`); and a test in test_depgraph_kinds.py. `lib.shrinking` needs neither a pass nor an example,
for the networks of `models.build`.

What stays as it is: widths that a layer norm, a group norm or a softmax mixes (the embedding of ViT and Swin), but of
several rows that a function without weights mixes each for itself whole rows may go; of heads, groups, chunks and
shuffles all but what each can spare; constants before padding; channels read by an operation without a rule; layers
that neither the example nor a pass in training runs.
CONTRIBUTING.md has the table.
"""

from .. import models
from ..shrinking import ShrinkError
from .report import Report, made, warn
from .search import SECONDS, Search

__all__ = ["Report", "ShrinkError", "report", "shrink", "shrunk"]


def shrink(model, example, *, keep=(), keep_one=False, seconds=SECONDS):
    """A copy of any network without its dead units, with the same outputs in eval mode.

    example: what the network is called with, with a batch axis and of the size that it is used with: an input, a tuple
    or list of them, or a mapping by name. keep: names of layers whose weights keep their shape: their own
    units and those that they read stay. keep_one: leave one silent
    unit where a layer died wholly, instead of ShrinkError. seconds: by the clock, from the call on, until ShrinkError
    ends the search. A warning counts the units that no weight makes or none reads, with all that is
    coupled to them, and that stay, in each layer anew; `report` lists them with reasons.
    """
    small, found = shrunk(model, example, keep=keep, keep_one=keep_one, seconds=seconds)
    warn(found)
    return small


def shrunk(model, example, *, keep=(), keep_one=False, seconds=SECONDS):
    """What `shrink` returns, without a warning, and the report of it."""
    search = Search(model, example, keep=keep, keep_one=keep_one, seconds=seconds)
    small = search.run()
    models.renew(small)
    return small, made(search)


def report(model, example, *, keep=(), seconds=SECONDS):
    """What `shrink` would leave of each layer, and why dead units stay; to print."""
    return shrunk(model, example, keep=keep, keep_one=True, seconds=seconds)[1]

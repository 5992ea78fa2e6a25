"""Dead units out of any network: one forward pass shows which channels of which tensors go together.

The pass is followed operation by operation (`trace`): views share their storage and need no rule, `rules`, `layouts`,
`mixing` and `contractions` say what the others do, and an operation without a rule leaves what it reads alone.
`judge` finds what may go, `search` slices it, runs the same pass of the `network` again, lays the two beside each other
(`records`) and leaves what is not the same; `proof` compares the outputs, on inputs of other sizes, too.
`lib.shrinking` needs neither a pass nor an example, for the builders' networks.

What stays as it is, `report` says layer by layer: widths that a layer norm, a group norm or a softmax mixes (the
embedding of ViT and Swin); of heads, groups, chunks and shuffles all but what each can spare; constants before padding;
channels read by an operation without a rule; layers that the example does not run. CONTRIBUTING.md has the table.
"""

from ..shrinking import ShrinkError
from .passes import Example
from .report import Report, made, warn
from .search import Search

__all__ = ["Report", "ShrinkError", "report", "shrink", "shrunk"]


def shrink(model, example, *, keep=(), keep_one=False, seconds=60):
    """A copy of any network without its dead units, with the same outputs in eval mode.

    example: what the network is called with, with a batch axis and of the size that it is used with: an input, a tuple
    or list of them, or a mapping by name. keep: names of layers whose units are left alone. keep_one: leave one silent
    unit where a layer died wholly, instead of ShrinkError. seconds: after which ShrinkError ends the search. A warning
    counts the dead units that stay, `report` lists them with reasons.
    """
    small, found = shrunk(model, example, keep=keep, keep_one=keep_one, seconds=seconds)
    warn(found)
    return small


def shrunk(model, example, *, keep=(), keep_one=False, seconds=60):
    """What `shrink` returns, without a warning, and the report of it."""
    search = Search(model, Example(model, example), keep=keep, keep_one=keep_one, seconds=seconds)
    return search.run(), made(search)


def report(model, example, *, keep=(), seconds=60):
    """What `shrink` would leave of each layer, and why dead units stay; to print."""
    return shrunk(model, example, keep=keep, keep_one=True, seconds=seconds)[1]

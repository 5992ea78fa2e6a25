"""The options of pruning while training."""

from dataclasses import dataclass
from typing import Annotated

from .. import checks

SCOPES = ("global", "layer")
WAYS = ("size", "chance", "rank")  # of zeroing


@dataclass(frozen=True, kw_only=True)
class ShareOptions(checks.Checked):
    """What pruning a share of the weights may be told; see `magnitude`."""

    sparsity: Annotated[float, "[0, 1)"]
    scope: Annotated[str, SCOPES] = "global"


@dataclass(frozen=True, kw_only=True)
class UnitsOptions(checks.Checked):
    """What pruning of units may be told; see `units`."""

    widths: Annotated[list, (int, "[1, inf)")]


OPTIONS = {"magnitude": ShareOptions, "random": ShareOptions, "units": UnitsOptions}


@dataclass(frozen=True, kw_only=True)
class GradualOptions(checks.Checked):
    """What gradual pruning may be told; ValueError names what is out of its range.

    initial, final: shares of zeros at the shares begin and end of the training. every: new masks at each k-th step.
    """

    final: Annotated[float, "[0, 1)"]
    initial: Annotated[float, "[0, 1)"] = 0.0
    begin: Annotated[float, "[0, 1]"] = 0.0
    end: Annotated[float, "[0, 1]"] = 0.75
    every: Annotated[int, "[1, inf)"] = 100
    scope: Annotated[str, SCOPES] = "global"

    what = "gradual pruning: "

    def __post_init__(self):
        super().__post_init__()
        if self.initial > self.final or self.begin >= self.end:
            got = f"{self.initial}, {self.final} and {self.begin}, {self.end}"
            raise ValueError(f"{self.what}initial <= final and begin < end, got {got}")


@dataclass(frozen=True, kw_only=True)
class ZeroingOptions(checks.Checked):
    """What stochastic zeroing may be told; ValueError names what is out of its range.

    scale: s, reached by a linear ramp over the share `ramp` of the training. target: instead of a fixed s, each layer's
    own s is such that this share of the layer is expected to be zero, approached along 1 − (1 − t/ramp)³. Both take one
    number, or a list with one for each layer. scope: "global" has one s for all layers instead, and the target is the
    share of all weights: layers of small weights lose more. every: draw only every k-th step, with the probability 1 −
    (1 − p)^k of being zeroed at least once in k steps. by: "size", or a control: "chance" zeroes as many weights but
    wherever they are, "rank" the smallest ones, without sampling: the share `target`, or with `scale` all of size up to
    s, which is another number than "size" zeroes. From the share `freeze` of the training on, what is zero stays zero.
    """

    scale: float | list | None = None
    target: float | list | None = None
    scope: Annotated[str, SCOPES] = "layer"
    q: Annotated[int, "[1, 2]"] = 2
    every: Annotated[int, "[1, inf)"] = 1
    ramp: float = 0.5
    freeze: Annotated[float, "(0, 1]"] = 0.75
    by: Annotated[str, WAYS] = "size"

    what = "stochastic zeroing: "

    def __post_init__(self):
        super().__post_init__()
        if (self.scale is None) == (self.target is None):
            raise ValueError(f"{self.what}either scale (s) or target (a pruned share), and not both")
        for name, allowed in {"scale": "(0, inf)", "target": "(0, 1)"}.items():
            value = getattr(self, name)
            for entry in value if isinstance(value, list | tuple) else [value] * (value is not None):
                checks.number(f"{self.what}{name}", entry, allowed)
        checks.number(f"{self.what}ramp (before freeze)", self.ramp, f"(0, {self.freeze}]")
        if self.scope == "global" and (self.target is None or isinstance(self.target, list | tuple)):
            raise ValueError(f"{self.what}scope 'global' takes one number as target, got {self.target!r}")

    def for_each(self, name, ws):
        """One number for each layer by name, of one for all or of a list; None stays None."""
        value = getattr(self, name)
        if isinstance(value, list | tuple) and len(value) != len(ws):
            raise ValueError(f"stochastic zeroing: {name} has {len(value)} entries for {len(ws)} weight tensors")
        values = value if isinstance(value, list | tuple) else [value] * len(ws)
        return None if value is None else dict(zip(ws, values, strict=True))


def fresh(step, used):
    """ValueError: a hook begins a training that has been through another one, whose masks it would bring along."""
    if step == 0 and used:
        raise ValueError("a pruning hook is of one training; make a new one, or keep zeros by hold(nonzero_masks(net))")

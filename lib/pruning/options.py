"""The options of pruning while training."""

from dataclasses import dataclass

from .. import checks
from .masks import SCOPES

WAYS = ("size", "chance", "rank")  # of zeroing


@dataclass(frozen=True, kw_only=True)
class GradualOptions:
    """What gradual pruning may be told; ValueError names what is out of its range.

    initial, final: shares of zeros at the shares begin and end of the training. every: new masks at each k-th step.
    """

    final: float
    initial: float = 0.0
    begin: float = 0.0
    end: float = 0.75
    every: int = 100
    scope: str = "global"

    def __post_init__(self):
        what = "gradual pruning:"
        checks.number(f"{what} every", self.every, "[1, inf)", whole=True)
        checks.one_of("scope", self.scope, SCOPES)
        for name, allowed in {"initial": "[0, 1)", "final": "[0, 1)", "begin": "[0, 1]", "end": "[0, 1]"}.items():
            checks.number(f"{what} {name}", getattr(self, name), allowed)
        if self.initial > self.final or self.begin >= self.end:
            got = f"{self.initial}, {self.final} and {self.begin}, {self.end}"
            raise ValueError(f"{what} initial <= final and begin < end, got {got}")


@dataclass(frozen=True, kw_only=True)
class ZeroingOptions:
    """What stochastic zeroing may be told; ValueError names what is out of its range.

    scale: s, reached by a linear ramp over the share `ramp` of the training. target: instead of a fixed s, each
    layer's own s is such that this share of the layer is expected to be zero, approached along 1 − (1 − t/ramp)³. Both
    take one number, or a list with one for each layer. scope: "global" has one s for all layers instead, and the target
    is the share of all weights: layers of small weights lose more. every: draw only every k-th step, with the
    probability 1 − (1 − p)^k of being zeroed at least once in k steps. by: "size", or a control:
    "chance" takes as many weights but wherever they are, "rank" the smallest ones, without sampling. From the share
    `freeze` of the training on, what is zero stays zero.
    """

    scale: float | list | None = None
    target: float | list | None = None
    scope: str = "layer"
    q: int = 2
    every: int = 1
    ramp: float = 0.5
    freeze: float = 0.75
    by: str = "size"

    def __post_init__(self):
        what = "stochastic zeroing:"
        if (self.scale is None) == (self.target is None):
            raise ValueError(f"{what} either scale (s) or target (a pruned share), and not both")
        for name, allowed in {"scale": "(0, inf)", "target": "(0, 1)"}.items():
            value = getattr(self, name)
            for entry in value if isinstance(value, list | tuple) else [value] * (value is not None):
                checks.number(f"{what} {name}", entry, allowed)
        checks.number(f"{what} q", self.q, "[1, 2]", whole=True)
        checks.number(f"{what} every", self.every, "[1, inf)", whole=True)
        checks.number(f"{what} freeze", self.freeze, "(0, 1]")
        checks.number(f"{what} ramp (before freeze)", self.ramp, f"(0, {self.freeze}]")
        checks.one_of("way of zeroing (by)", self.by, WAYS)
        checks.one_of("scope", self.scope, SCOPES)
        if self.scope == "global" and (self.target is None or isinstance(self.target, list | tuple)):
            raise ValueError(f"{what} scope 'global' takes one number as target, got {self.target!r}")

    def for_each(self, name, ws):
        """One number for each layer by name, of one for all or of a list; None stays None."""
        value = getattr(self, name)
        if isinstance(value, list | tuple) and len(value) != len(ws):
            raise ValueError(f"stochastic zeroing: {name} has {len(value)} entries for {len(ws)} weight tensors")
        values = value if isinstance(value, list | tuple) else [value] * len(ws)
        return None if value is None else dict(zip(ws, values, strict=True))

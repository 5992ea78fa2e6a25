"""Configurations: plain data, checked, resolved to the last default, named by a hash of what is not at its own."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from typing import Annotated

from companion.settings import runs_folder
from lib import baselines, measures, pruning, regularizers, training
from lib.arguments import plain_data
from lib.checks import Checked, check, named, one_of
from lib.dynamics import DynamicsOptions
from lib.training.speed import PRECISIONS
from lib.training.step import ORDERS, compiles, optimizer_options

WHOLE = 10**12  # a bound for whole numbers that have no other
KINDS = {  # of each kind what it may have, and what it must have: None
    "chain": {"kind": "chain", "version": 1, "seed": 0, "data": None, "model": None, "stages": None},
    "timing": {"kind": "timing", "version": 1, "seed": 0, "data": None, "model": None, "variants": None, "rounds": 9},
    "own": {"kind": "own", "version": 1, "seed": 0, "code": None, "options": {}},  # see `companion.runs.own`
}
UNHASHED = ("case",)  # what a table calls the run
#: what a row of each kind puts in a table, in the place of a case's name (but "steps", which records' cases have)
COLUMNS = {
    "chain": "stage status message train_s curves dynamics histogram images fit widths parameters nonzero "
    "nonzero_layers sparsity sparsity_1e-3 alive alive_1e-3 alive_1e-3_free",
    "timing": "variant step_s penalty extent form what",
    "own": "",
}
SCORES = ("train_", "validation_", "test_")  # what names of a chain's scores begin with


@dataclass(frozen=True)
class Data(Checked):
    """A data set, and what a run changes in it.

    scaling "unit" leaves images at pixel/255; relabel: the seed of a permutation of the inputs; subset: only so many
    training examples, the first ones; split, size: see `lib.data.load`.
    """

    name: str | None = None
    scaling: Annotated[str, ("standard", "unit")] = "standard"
    relabel: Annotated[int, (0, WHOLE)] = None
    subset: Annotated[int, (1, WHOLE)] = None
    split: int = 0
    size: int | None = None


@dataclass(frozen=True)
class Training(Checked):
    """What a stage of a chain and a timed variant have in common; see `lib.training.Options`.

    zeroing: options of `lib.pruning.StochasticZeroing`, e.g. {"target": 0.9, "every": 4}.
    """

    zeroing: dict | None = None
    penalty: dict | list | None = None
    loss: str | Callable = "cross_entropy"
    optimizer: dict = field(default_factory=lambda: {"name": "adam", "lr": 1e-3})
    batch: Annotated[int, (1, WHOLE)] = 128
    order: Annotated[str, ORDERS] = "shuffle"
    schedule: Annotated[str, tuple(training.SCHEDULES)] = "constant"
    precision: Annotated[str, PRECISIONS] = "auto"
    augment: Annotated[str, tuple(training.AUGMENTATIONS)] = "none"
    compile: bool | str = "auto"

    def __post_init__(self):
        super().__post_init__()
        named(training.LOSSES, self.loss, "loss")
        optimizer_options(self.optimizer)
        compiles(self.compile)
        object.__setattr__(self, "penalty", regularizers.resolve(self.penalty) or None)
        if self.zeroing is not None:
            pruning.ZeroingOptions.of(self.zeroing, "zeroing")

    def options(self, **more):
        """What `lib.training.Options` takes."""
        return {f.name: getattr(self, f.name) for f in fields(Training) if f.name != "zeroing"} | more


def _by_name(given, what, key, default, resolved):
    """Check options of which one chooses the others."""
    if not isinstance(given, dict):
        raise ValueError(f"{what} must be a dict of options, got {given!r}")
    resolved(given.get(key, default), {name: value for name, value in given.items() if name != key})


def _prune(given, what):
    known = pruning.OPTIONS
    _by_name(given, what, "rule", "magnitude", lambda rule, o: known[one_of("pruning rule", rule, known)].of(o, what))


#: nested options of a stage: what checks them, and their name
NESTED = (
    (_prune, "prune"),
    (pruning.GradualOptions.of, "gradual"),
    (lambda given, what: _by_name(given, what, "name", None, baselines.resolved), "baseline"),
    (measures.HistogramOptions.of, "histogram"),
    (DynamicsOptions.of, "dynamics"),
)
IN_TRAINING = ("zeroing", "gradual", "baseline", "dynamics")  # what acts at every step


@dataclass(frozen=True)
class Stage(Training):
    """A stage of a chain; each gives a row.

    start ("from" in a configuration): the stage whose weights it starts from; default the one before. restart: fresh
    weights where that stage has any, zeros where it has none. prune: {"sparsity": 0.9, "scope": "global", "rule":
    "magnitude"} or {"rule": "units", "widths": [30, 10]}. shrunk: it starts from the network without its dead units,
    and so do the stages after it. hold: weights that are zero at the start stay zero. gradual: options of
    `lib.pruning.GradualMagnitude`. baseline: options of `lib.baselines.noisy`: its layers in training. histogram:
    options of `lib.measures.histogram`, kept in the row. dynamics: options of `lib.dynamics.Dynamics`: curves of how
    units die. recalibrate: before its end is scored, batch norms take their statistics anew from so many batches of
    training examples. pictures: test images of a segmentation whose instance maps are kept beside the record. scores:
    the parts of the data that its end is scored on; default all. images: of two classes, the row keeps every test
    image's class and by how much the second logit is above the first, for intervals that cover the images as well.
    """

    name: str = ""
    start: str | None = field(default=None, metadata={"called": "from"})  # a word that Python keeps for itself
    restart: Annotated[bool, None] = False
    prune: dict | None = None
    shrunk: Annotated[bool, None] = False
    hold: Annotated[bool, None] = False
    gradual: dict | None = None
    baseline: dict | None = None
    histogram: dict | None = None
    steps: Annotated[int, (0, WHOLE)] = 0
    log_points: Annotated[int, (1, WHOLE)] = 50
    dynamics: dict | None = None
    recalibrate: Annotated[int, (1, WHOLE)] = None
    pictures: Annotated[list, (int, "[0, inf)")] = None
    scores: Annotated[list, (str, ("train", "validation", "test"))] = None
    images: Annotated[bool, None] = False

    def __post_init__(self):
        super().__post_init__()
        for kind, name in NESTED:
            if getattr(self, name) is not None:
                kind(getattr(self, name), name)
        if acting := [name for name in IN_TRAINING if getattr(self, name) and not self.steps]:
            raise ValueError(f"stage {self.name!r} has {acting[0]} but no steps in which it could act; give it steps")
        if self.scores is not None and not self.scores:
            raise ValueError(f"stage {self.name!r} has scores of no part; name some, or leave scores out for all")
        if self.baseline and self.zeroing:
            raise ValueError(f"stage {self.name!r} has zeroing and a baseline, whose layers it does not know; take one")


@dataclass(frozen=True)
class Variant(Training):
    """A way to take a training step that is timed. only: "step", or "penalty", its gradient alone; block: steps."""

    autograd_penalty: Annotated[bool, None] = False
    block: Annotated[int, (1, WHOLE)] = 100
    only: Annotated[str, ("step", "penalty")] = "step"

    def __post_init__(self):
        super().__post_init__()
        if self.only == "penalty" and not self.penalty:
            raise ValueError("a variant that times the penalty only needs a penalty")


@cache
def defaults(kind):
    """The options of a kind at their defaults, as a configuration has them."""
    return kind().plain()


def resolve(config):
    """The configuration with every default filled in. ValueError: a key or a value that it cannot have."""
    _of("the configuration", config, dict)
    known = KINDS[one_of("kind of run", config.get("kind", "chain"), KINDS)] | {"experiment": None, "case": {}}
    if extra := set(config) - set(known):
        raise ValueError(f"configuration has no {sorted(extra, key=str)[0]!r}; known: {', '.join(sorted(known))}")
    full = known | config
    if missing := [k for k, default in known.items() if default is None and full[k] in (None, {}, [], ())]:
        raise ValueError(f"the configuration lacks {missing[0]!r}")
    file_name(full["experiment"])
    plain_data("case", _of("case", full["case"], dict))
    columns = {"id", "seed", "run", *COLUMNS[full["kind"]].split()}
    if taken := [n for n in full["case"] if n in columns or (full["kind"] == "chain" and n.startswith(SCORES))]:
        raise ValueError(f"case has {taken[0]!r}, which is a column of every table already; call it otherwise")
    for name in ("seed", "version"):
        check(name, full[name], int, (0, WHOLE))
    if full["kind"] == "own":
        _of("code", full["code"], str)
        plain_data("options", _of("options", full["options"], dict))
        return full
    _of("model", full["model"], dict)
    full["data"] = Data.of(full["data"], "data").plain()
    if full["kind"] == "timing":
        check("rounds", full["rounds"], int, (1, WHOLE))
        variants = _of("variants", full["variants"], dict)
        full["variants"] = {name: Variant.of(v, "variant").plain() for name, v in variants.items()}
        return full
    full["stages"] = [Stage.of(s, "stage").plain() for s in _of("stages", full["stages"], list, tuple)]
    _ordered([stage["name"] for stage in full["stages"]], [stage["from"] for stage in full["stages"]])
    return full


def _of(what, value, *kinds):
    """The value, if it is of one of these kinds; ValueError otherwise."""
    if not isinstance(value, kinds):
        raise ValueError(f"{what} must be a {kinds[0].__name__}, got {value!r}")
    return value


def _ordered(names, starts):
    """Refuse stages that share a name, or start from one that does not come before them."""
    for k, (name, start) in enumerate(zip(names, starts, strict=True)):
        if not (isinstance(name, str) and name):
            raise ValueError(f"a stage must have a name, got {name!r}")
        if name in names[:k]:
            raise ValueError(f"two stages are called {name!r}; each needs a name of its own")
        if start is not None and start not in names[:k]:
            raise ValueError(f"stage {name!r} starts from {start!r}; before it come: {', '.join(names[:k]) or 'none'}")


def file_name(name, what="experiment"):
    """Refuse a name, of an experiment above all, that cannot be that of a folder."""
    odd = not isinstance(name, str) or not re.fullmatch(r"[^\W_.][^/\\\x00-\x1f<>:\"|?*]{0,99}", name)
    if odd or name[-1] in " .":
        raise ValueError(f"{what} must be a name of 1 to 100 characters that a folder can have, got {name!r}")


def identity(config):
    """The name of a run: a hash of its configuration without what is at its default: new options change none."""
    return Run.of(config).id


def _stripped(config):
    """The resolved configuration without what is at its default."""

    def differing(full, defaults):
        return {k: v for k, v in full.items() if k not in defaults or v != defaults[k]}

    config = differing({k: v for k, v in config.items() if k not in UNHASHED}, KINDS[config["kind"]])
    if "data" in config:
        config["data"] = differing(config["data"], defaults(Data) | {"name": ()})
    if "variants" in config:
        config["variants"] = {name: differing(v, defaults(Variant)) for name, v in config["variants"].items()}
    if "stages" in config:
        config["stages"] = [differing(stage, defaults(Stage) | {"name": ()}) for stage in config["stages"]]
    return config


@dataclass(frozen=True)
class Run:
    """A configuration, resolved and named once: its id, and where it is kept while it is under way."""

    config: dict

    @classmethod
    def of(cls, config):
        """The run of a configuration as a notebook writes it."""
        return config if isinstance(config, Run) else cls(resolve(config))

    @cached_property
    def id(self):
        """Sixteen hexadecimal digits."""
        try:
            text = json.dumps(_stripped(self.config), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"a configuration is finite numbers, strings, lists and dicts alone: {error}") from None
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder(self):
        """Where it keeps its checkpoints; its record (.json), its arrays (.npz) and its lock stand beside it."""
        return runs_folder() / "live" / self.config["experiment"] / self.id

    @property
    def record(self):
        """The file of its record until that is collected."""
        return self.folder.with_suffix(".json")

    def __str__(self):
        return f"{self.config['case'] or self.id} (seed {self.config['seed']}) in {self.config['experiment']}"

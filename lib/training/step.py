"""One training step: a batch, the loss, the penalty added to the gradients, the update, the hooks."""

import inspect
import math
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated

import torch

from .. import models, regularizers
from ..checks import Checked, entries, flag, named, number, one_of, seen
from .augmentation import augmentation
from .given import fits, kept, learning, picked, taken
from .losses import fitting, in_range, own_of, spread
from .schedules import SCHEDULES
from .speed import (
    PRECISIONS,
    autocast,
    channels_last,
    compile_pays,
    compiled,
    convolutions,
    keep_freed_memory,
    runs_channels_last,
    update_of,
)

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
RATES = {"momentum": "[0, 1)", "dampening": "[0, 1]"}  # of options that have another range than all floats from 0 on
UNUSED = ("capturable", "differentiable", "maximize")  # what a training has no use for
ORDERS = ("shuffle", "sequence")
LAM = 1e-4  # of a penalty that is given by its name alone: the λ of arXiv 2009.01395


@dataclass(frozen=True)
class Options(Checked):
    """What a training is, beside its network and its data.

    loss: a name, or a function of outputs and targets; None: squared error for numbers, cross-entropy for classes.
    penalty: see `lib.regularizers.resolve`; a bare name has λ = 1e-4. optimizer: a name, or a dict of torch's options.
    compile: fuse the penalty's closed form into one pass over the weights; "auto": on a CPU, from 50,000 steps on.
    autograd_penalty: autograd finds the penalty's gradient, as in the papers' code: same but for rounding, for timing.
    outputs: a function that picks the tensor that is trained from what a network returns. seed: of the order and the
    augmentation; what layers draw (dropout) follows torch.manual_seed. augment: a name, or a function of a batch
    (N, C, H, W) and a torch.Generator. Targets that are maps (N, H, W) go through it as (N, 1, H, W); targets
    (N, channels, H, W) a name alone moves.
    """

    steps: Annotated[int, (1, math.inf)] = 1000
    loss: str | Callable | None = None
    penalty: str | dict | list | None = None
    optimizer: str | dict = field(default_factory=lambda: {"name": "adam", "lr": 1e-3})
    batch: Annotated[int, (1, math.inf)] = 128
    order: Annotated[str, ORDERS] = "shuffle"
    seed: Annotated[int, (0, 9 * 10**12)] = 0  # times 1,000,003 it seeds a generator of 63 bits
    precision: Annotated[str, PRECISIONS] = "auto"
    schedule: str | Callable = "constant"
    augment: str | Callable = "none"
    compile: bool | str = "auto"
    autograd_penalty: Annotated[bool, None] = False
    outputs: Callable | None = None

    def __post_init__(self):
        super().__post_init__()
        compiles(self.compile)
        optimizer_options(self.optimizer)
        if self.outputs is not None and not callable(self.outputs):
            raise ValueError(f"outputs must be a function of what the network returns, got {self.outputs!r}")
        terms = {"name": self.penalty, "lam": LAM} if isinstance(self.penalty, str) else self.penalty
        object.__setattr__(self, "penalty", regularizers.resolve(terms))


class Batches:
    """Which of n examples a step sees, all where they are fewer than a batch: the same for the same seed, at any time.

    "sequence" takes them in order and wraps around; "shuffle" takes a new order every epoch, without the incomplete
    last batch. Called with a step it gives indices, so that what they choose is a copy of the data.
    """

    def __init__(self, n, *, batch, order="shuffle", seed=0, device="cpu"):
        self.n, self.batch, self.order, self.seed, self.device = n, min(batch, n), order, seed, device
        self.kept = {}  # the permutation of the epoch that is under way

    @property
    def per_epoch(self):
        """Steps in an epoch."""
        return self.n // self.batch

    def __call__(self, step):
        if self.order == "sequence":
            start = step * self.batch % self.n
            return torch.arange(start, start + self.batch, device=self.device) % self.n
        epoch, start = step // self.per_epoch, step % self.per_epoch * self.batch
        if epoch not in self.kept:
            self.kept.clear()
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self.kept[epoch] = torch.randperm(self.n, generator=generator).to(self.device)
        return self.kept[epoch][start : start + self.batch]


def compiles(value):
    """ValueError: this says not whether to compile."""
    if not (isinstance(value, bool) or value == "auto"):
        raise ValueError(f"compile must be True, False or 'auto', got {seen(value)}")


def optimizer_options(given):
    """The class of an optimizer and its options, of a name or of a dict of torch's options.

    ValueError: a name or an option that is unknown, or a value out of its range.
    """
    if not isinstance(given, str | dict):
        raise ValueError(f"optimizer must be a name or a dict of options, got {given!r:.40}")
    options = {"name": given} if isinstance(given, str) else dict(given)
    maker = OPTIMIZERS[one_of("optimizer", options.pop("name", "adam"), OPTIMIZERS)]
    defaults = _defaults(maker)
    if extra := [name for name in options if name not in defaults]:
        raise ValueError(f"optimizer {maker.__name__} has no {extra[0]!r}; known: {', '.join(defaults)}")
    options.setdefault("lr", 1e-3)
    for name, value in options.items():
        what, kind = f"optimizer {maker.__name__}: {name}", type(defaults[name])
        if kind is tuple and len(entries(what, value, float, "[0, 1)")) != len(defaults[name]):
            raise ValueError(f"{what} must be {len(defaults[name])} numbers in [0, 1), got {seen(value)}")
        if kind is bool:
            flag(what, value)
        elif kind is tuple:  # floats, as checkpoints do not hold NumPy's
            options[name] = [*map(float, value)]
        else:
            options[name] = float(number(what, value, RATES.get(name, "[0, 3.4e38]")))
    if options.get("nesterov") and (not options.get("momentum") or options.get("dampening")):
        raise ValueError(f"optimizer {maker.__name__}: nesterov needs a momentum above 0, and no dampening")
    return maker, options


@cache
def _defaults(maker):
    """The options of an optimizer that a training can use, and torch's defaults."""
    known = inspect.signature(maker).parameters.values()
    return {p.name: p.default for p in known if p.name not in ("params", "fused", "foreach", *UNUSED)}


class Trainer:
    """Trains a model on x and y: called with the number of a step, it takes that step.

    It returns the loss, without penalty and `extra_loss`, as a tensor. `part` holds x and y on the model's device.
    `after_step` hooks are called as hook(model, step) after every update; `extra_loss(t)` is added to the loss when the
    share t of the training is done (`lib.baselines`).
    """

    def __init__(self, model, part, options, *, after_step=(), extra_loss=None):
        if not torch.is_grad_enabled() or torch.is_autocast_enabled(part.x.device.type):
            raise ValueError("training within torch.no_grad or torch.autocast; call it outside, precision= is its own")
        self.model, self.options, self.after_step, self.extra_loss = model, options, after_step, extra_loss
        self.x, self.y = self._inputs(part.x), part.y
        self.loss = fitting(options.loss, self.y)
        self.augment = augmentation(options.augment, self.x, self.y)
        self.factor = named(SCHEDULES, options.schedule, "schedule")
        maker, rates = optimizer_options(options.optimizer)
        found = learning(model)
        own_of(self.loss, found)
        fused = all(p.is_floating_point() for p in found)
        self.optimizer = maker(found, fused=fused, **rates)
        group = self.optimizer.param_groups[0]
        self.rate, momentum = group["lr"], group.get("momentum", 0)
        # momentum μ and dampening d take a lasting gradient (1 − d)/(1 − μ) times as far: so must the proximal step
        self.reach = (1 - group["dampening"]) / (1 - momentum) if momentum else 1.0
        self.update = update_of(self.optimizer)
        self.add_gradient_, self.prox_ = self._penalty()
        self.batches = Batches(
            len(self.x), batch=options.batch, order=options.order, seed=options.seed, device=self.x.device
        )
        self.generator, self.parameters, self.begun = torch.Generator(self.x.device), list(model.parameters()), False
        self.strides = [p.stride() for p in self.parameters]
        self.convolutions = convolutions(model)
        keep_freed_memory()
        model.zero_grad()  # what another loop left behind would move even frozen layers

    def _inputs(self, x):
        """The inputs as the first layer takes them: images with the channels last, which convolutions are faster with.

        Networks of `lib.models` begin with a product, which would cast them in every step: they are cast once for all.
        Others may begin with an embedding or a norm, and so may an augmentation of one's own, which takes them as they
        are.
        """
        x = taken(self.model, x)
        self.viewed = x.ndim == 4 and not (models.groups(self.model) or runs_channels_last(self.model, x[:2]))
        if x.ndim == 4 and not self.viewed:
            channels_last(self.model)
            x = x.contiguous(memory_format=torch.channels_last)
        with autocast(self.options.precision, x.device):
            cast = torch.is_autocast_enabled(x.device.type) and models.groups(self.model) and x.dtype is torch.float32
            cast = cast and not callable(self.options.augment)
            return x.to(torch.get_autocast_dtype(x.device.type)) if cast else x

    def _penalty(self):
        """The functions that add the penalty's gradient, and take its proximal step."""
        if not self.options.penalty:
            return regularizers.bind(None, [])[1:]
        if any(term["prox"] for term in self.options.penalty) and not isinstance(self.optimizer, torch.optim.SGD):
            warnings.warn(
                f"{type(self.optimizer).__name__} scales gradients, not the proximal step, which zeroes little: pass "
                "optimizer={'name': 'sgd', 'lr': …, 'momentum': 0.9}",
                stacklevel=2,
            )
        pays = self.options.compile is True
        pays |= self.options.compile == "auto" and compile_pays(self.options.steps, self.x.device)
        return regularizers.bind(
            self.options.penalty,
            list(models.weights(self.model).values()),
            norms=models.norms(self.model),
            views=models.unit_views(self.model),
            transform=compiled if pays else None,
            autograd=self.options.autograd_penalty,
        )[1:]

    def batch(self, k):
        """Inputs and targets of step k, augmented; maps go the same way as their images, by the same random numbers."""
        now = self.batches(k)
        x, y = self.x[now], self.y[now]
        if self.augment:
            x, y = self.augment(x, y, lambda: self.generator.manual_seed(self.options.seed * 1_000_003 + k))
        return x.contiguous() if self.viewed else x, y

    def _loss(self, k):
        x, y = self.batch(k)
        with autocast(self.options.precision, x.device), self.convolutions:
            outputs = self.model(x)
        outputs = picked(outputs, self.options.outputs)
        if not self.begun:
            in_range(self.loss, outputs, self.y)
            spread(self.loss, outputs, y)
        return self.loss(outputs, y)

    def __call__(self, k):
        with nullcontext() if self.begun else fits(self.model, self.x, self.y):
            loss = self._loss(k)
        done = k / self.options.steps
        total = loss if self.extra_loss is None else loss + self.extra_loss(done)
        if not self.begun and not (torch.is_tensor(total) and total.ndim == 0 and total.requires_grad):
            raise ValueError(f"the loss must be a tensor of one number that has a gradient, got {seen(total)}")
        self.begun = True
        total.backward()
        if self.options.penalty:
            self.add_gradient_()
        lr = self.rate * float(number("the factor of the schedule", self.factor(done), "[0, inf)"))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.update()
        self.prox_(lr * self.reach)
        for hook in self.after_step:
            hook(self.model, k)
        if k in (0, self.options.steps - 1):
            kept(self.model, self.parameters)
        for p, strides in zip(self.parameters, self.strides, strict=True):
            p.grad = None  # last: a layer without a gradient is left alone by those above
            if p.stride() != strides:  # a hook has laid it out anew; fused optimizers go by places in memory
                p.data = torch.empty_strided(p.shape, strides, dtype=p.dtype, device=p.device).copy_(p.data)
        return loss.detach()

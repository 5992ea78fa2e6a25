"""Training: `fit` is the one loop, `Trainer` one step of it, `predict` what comes out."""

from .augmentation import AUGMENTATIONS
from .checkpoint import load_whole, save_whole, set_aside
from .loop import History, Watching, fit, predict, progress
from .losses import LOSSES
from .schedules import SCHEDULES
from .speed import PRECISIONS, autocast, bf16_pays, compile_pays, compiled
from .step import OPTIMIZERS, Options, Trainer

"""Training: `fit` is the one loop, `Trainer` one step of it, `predict` what comes out."""

from lib.training.augmentation import AUGMENTATIONS
from lib.training.checkpoint import load_whole, save_whole
from lib.training.loop import History, fit, predict, progress
from lib.training.losses import LOSSES
from lib.training.schedules import SCHEDULES
from lib.training.speed import PRECISIONS, autocast, bf16_pays, compile_pays, compiled
from lib.training.step import OPTIMIZERS, Options, Trainer

__all__ = ["AUGMENTATIONS", "LOSSES", "OPTIMIZERS", "PRECISIONS", "SCHEDULES", "History", "Options", "Trainer"]
__all__ += [
    "autocast",
    "bf16_pays",
    "compile_pays",
    "compiled",
    "fit",
    "load_whole",
    "predict",
    "progress",
    "save_whole",
]

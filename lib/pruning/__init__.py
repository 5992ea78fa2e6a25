"""Which weights go: masks by magnitude or by chance, pruning during training, and zeroing by chance.

A mask is a dict of boolean tensors, True where the weight stays.
"""

from .gradual import GradualMagnitude
from .masks import RULES, apply, hold, magnitude, nonzero_masks, random, units
from .options import OPTIONS, GradualOptions, ZeroingOptions
from .zeroing import StochasticZeroing, zeroed, zeroing_probability

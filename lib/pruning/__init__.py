"""Which weights go: masks by magnitude or by chance, pruning during training, and zeroing by chance.

A mask is a dict of boolean tensors, True where the weight stays.
"""

from ..arguments import a_generator, floats, told
from .gradual import GradualMagnitude
from .masks import RULES, apply, hold, magnitude, nonzero_masks, random, units
from .options import OPTIONS, GradualOptions, ZeroingOptions
from .zeroing import StochasticZeroing, zeroed, zeroing_probability

# at this door, since as printed they are the equations
_told = told(w=floats, s="(0, inf)", q="whole [1, 2]", generator=a_generator)
zeroed, zeroing_probability = map(_told, (zeroed, zeroing_probability))

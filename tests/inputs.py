"""What the networks of `models.build` read: a new one that takes other images than (3, 32, 32) has a line here."""

import torch

SHAPES = {"mlp": (784,), "lenet5": (1, 28, 28), "unet": (1, 33, 40), "ct_cnn": (1, 37, 50)}


def inputs(name, n, **options):
    """n inputs of a network, drawn by chance."""
    return torch.randn(n, *SHAPES.get(name, (3, 32, 32)), **options)

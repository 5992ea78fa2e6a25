"""Augmentation of a batch by tensor operations, the same for the same generator; images and maps go alike."""

import math
import warnings

import torch
import torch.nn.functional as F

from ..checks import named


def flip_crop(x, generator):
    """Mirrored with probability ½ and shifted by up to 4 pixels; images and maps are padded with 0.

    (N, C, H, W) -> (N, C, H, W).
    """
    n, _, height, width = x.shape
    rows, columns = (torch.randint(0, 9, (n, 1), generator=generator, device=x.device) for _ in range(2))
    flip = torch.rand((n, 1), generator=generator, device=x.device) < 0.5
    across = torch.arange(width, device=x.device).expand(n, width)
    across = torch.where(flip, width - 1 - across, across) + columns
    return _picked(F.pad(x, (4, 4, 4, 4)), torch.arange(height, device=x.device) + rows, across)


def _picked(x, rows, columns):
    """Of each image its own rows and columns; (N, C, H, W), (N, h), (N, w) -> (N, C, h, w)."""
    images = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _square(x):
    """ValueError: images that are to be turned have another height than width."""
    if x.shape[2] != x.shape[3]:
        shape = f"{x.shape[2]} × {x.shape[3]}"
        raise ValueError(f"dihedral, dihedral_window and affine turn square images, got {shape}; crop or resize them")


def dihedral(x, generator):
    """Each image mirrored, turned by quarters or both, one of eight ways by chance; (N, C, H, H) -> (N, C, H, H)."""
    _square(x)
    upside, sideways, turned = torch.rand((3, len(x), 1, 1, 1), generator=generator, device=x.device) < 0.5
    x = torch.where(upside, x.flip(2), x)
    x = torch.where(sideways, x.flip(3), x)
    return torch.where(turned, x.transpose(2, 3), x)


def dihedral_window(x, generator):
    """`dihedral` of a window of half the side, anywhere in the image; (N, C, H, H) -> (N, C, H/2, H/2)."""
    _square(x)
    side = x.shape[-1] // 2
    starts = torch.randint(0, x.shape[-1] - side + 1, (2, len(x), 1), generator=generator, device=x.device)
    rows, columns = starts + torch.arange(side, device=x.device)
    return dihedral(_picked(x, rows, columns), generator)


def affine(x, generator):
    """Mirrored with probability ½, turned by up to 10°, zoomed, shifted and sheared by up to 0.1; the edges go on.

    Experiment 5 of arXiv 2109.05075 (authors' code); (N, C, H, H) -> (N, C, H, H).
    """
    _square(x)
    draws = 2 * torch.rand((7, len(x)), generator=generator, device=x.device) - 1
    turn, shear, (right, down) = math.radians(10) * draws[0], 0.1 * draws[1], 0.2 * draws[2:4]  # the side is 2 long
    (wide, high), cos, sin = 1 + 0.1 * draws[4:6], turn.cos(), turn.sin()
    wide = torch.where(draws[6] < 0, -wide, wide)
    rows = [wide * cos, high * (shear * cos - sin), right, wide * sin, high * (shear * sin + cos), down]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), x.shape, align_corners=False)
    mode = "bilinear" if x.is_floating_point() else "nearest"  # maps hold ids, which have no values in between
    return F.grid_sample(x.float(), grid, mode, "border", align_corners=False).to(x.dtype)


AUGMENTATIONS = {
    "none": None,
    "flip_crop": flip_crop,
    "dihedral": dihedral,
    "dihedral_window": dihedral_window,
    "affine": affine,
}


def augmentation(given, x, y):
    """What is done to batches of x and y, a function of these and of the random numbers of the step; or None.

    Targets that are maps go the same way: (N, H, W), by a name (N, channels, H, W) as well. ValueError: a name does not
    know such inputs or targets.
    """
    if (function := named(AUGMENTATIONS, given, "augmentation")) is None:
        return None
    maps = x.ndim == 4 and y.shape[-2:] == x.shape[-2:]
    if not callable(given) and (x.ndim != 4 or (y.ndim > 2 and not maps)):
        shapes = f"the inputs are {tuple(x.shape)}, the targets {tuple(y.shape)}"
        raise ValueError(f"augment {given!r} takes images (N, C, H, W) and targets that are maps of them; {shapes}")
    smaller = x.ndim == 4 and y.ndim == 3 and x.shape[2] * y.shape[2] == x.shape[3] * y.shape[1]
    if callable(given) and smaller and not (maps or y.is_floating_point()):
        warnings.warn(f"augment moves maps as large as the images, and not those of {tuple(y.shape[1:])}", stacklevel=2)
    if callable(given) and maps and y.ndim == 4:
        warnings.warn(
            "augment, a function, moves maps (N, H, W), and not these with channels; a name does", stacklevel=2
        )
    maps = maps and y.ndim in ((3,) if callable(given) else (3, 4))

    def augment(x, y, numbers):
        x = function(x, numbers())
        if not torch.is_tensor(x):
            raise ValueError(f"augment must be a function (batch, generator) -> tensor, got a {type(x).__name__}")
        moved = function(y.reshape(len(y), -1, *y.shape[-2:]), numbers()) if maps else y
        return x, moved.reshape(*y.shape[:-2], *moved.shape[-2:]) if maps else y

    return augment

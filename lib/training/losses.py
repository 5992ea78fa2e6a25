"""Losses by name. Segmentation: instance ids (N, H, W) become three classes, so that touching objects part."""

import copy
import warnings

import torch
import torch.nn.functional as F

from ..checks import named

BOUNDARY_WEIGHT = 3.0  # boundary pixels are few, and a gap in them joins two objects


def regions(ids):
    """Classes of pixels: 0 background, 1 interior, 2 boundary; ids (N, H, W), 0 = none → int64 (N, H, W).

    The boundary is the outermost pixel of every object: one of the eight around it is background or another's.
    """
    maps = ids[:, None].float()  # exact: ids are small
    differs = (F.max_pool2d(maps, 3, 1, 1) != maps) | (-F.max_pool2d(-maps, 3, 1, 1) != maps)
    return ((maps > 0) * (1 + differs.long()))[:, 0]


def boundary(logits, ids):
    """Cross-entropy of (N, 3, H, W) logits against the regions of instance ids, boundary pixels weighted up."""
    return F.cross_entropy(logits, regions(ids), weight=logits.new_tensor([1.0, 1.0, BOUNDARY_WEIGHT]))


def boundary_dice(logits, ids):
    """`boundary` plus 1 − the soft Dice coefficient of interior and boundary together, of all pixels of the batch."""
    inside, true = 1 - logits.softmax(1)[:, 0], (ids > 0).float()
    overlap = 2 * (inside * true).sum() + 1
    return boundary(logits, ids) + 1 - overlap / (inside.sum() + true.sum() + 1)


def squared(outputs, y):
    """The mean squared error. ValueError: (N, 1) against (N,) would be spread to (N, N) in silence."""
    if outputs.shape != y.shape:
        given, wanted = (tuple(t.shape) for t in (y, outputs))
        rows = f"reshape the targets, y.reshape{(-1, *wanted[1:])}"
        remedy = rows if y.numel() == outputs.numel() else "of classes take y.long()"
        raise ValueError(f"outputs {wanted} and targets {given} differ in shape; {remedy}")
    return F.mse_loss(outputs, y.to(outputs.dtype))


def classes(outputs, y, **options):
    """Cross-entropy of logits (N, classes, …) and classes (N, …) of any whole type, or of chances.

    ValueError: the classes have another shape, or there is one output only.
    """
    if not y.is_floating_point():
        shape, wanted = tuple(outputs.shape), tuple(outputs.shape[:1] + outputs.shape[2:])
        if outputs.ndim < 2 or shape[1] == 1:
            raise ValueError(f"outputs {shape} are for one class; numbers, and 0 or 1 by a loss of them, are y.float()")
        if y.shape != wanted:
            remedy = "reshape y, or move them there by outputs="
            if y.shape == outputs.shape:
                several = "of several labels a row take y.float() and loss=torch.nn.BCEWithLogitsLoss()"
                remedy = "y.argmax(1)" if (y.sum(1) == 1).all() else several
            raise ValueError(
                f"classes of shape {tuple(y.shape)} must have the shape {wanted}, as axis 1 of the outputs {shape} "
                f"is that of the classes; {remedy}"
            )
        y = y.long()
    return F.cross_entropy(outputs, y, **options)


LOSSES = {
    "cross_entropy": classes,
    # label smoothing of 0.1 (arXiv 1512.00567): a tenth of the target is spread over all classes
    "smoothed": lambda logits, y: classes(logits, y, label_smoothing=0.1),
    # the authors' P1 demo feeds softmax outputs to a softmax cross-entropy (arXiv 2009.01395, authors' code)
    "double_softmax": lambda logits, y: classes(logits.softmax(1), y),
    "mse": squared,
    "boundary": boundary,
    "boundary_dice": boundary_dice,
}


IN_CLASSES = {classes, *(LOSSES[name] for name in ("cross_entropy", "smoothed", "double_softmax"))}
IGNORED = -100  # torch's mark of a target that does not count


def in_range(loss, outputs, y):
    """ValueError: a target is none of the classes that there is an output for; on a GPU that would end the process."""
    if loss in IN_CLASSES and not y.is_floating_point() and y.shape[1:] == outputs.shape[2:] and outputs[0].numel() > 1:
        found, count = y.long(), outputs.shape[1]
        if len(wrong := found[((found < 0) | (found >= count)) & (found != IGNORED)]):
            hint = "; maps that number objects take loss='boundary'" if y.ndim == 3 and count == 3 else ""
            told = f"y has the class {int(wrong[0])}; the network's {count} outputs are for 0 to {count - 1}"
            raise ValueError(told + hint)


@torch.no_grad()
def spread(loss, outputs, y):
    """ValueError: a loss spreads (N, 1) and (N,) to (N, N) in silence: targets count, but not in which order.

    So do maps (N, 1, H, W) and (N, H, W), of whose places the order counts. A loss that refuses the numbers that it is
    tried on is not looked at.
    """
    numbers, tables = y.is_floating_point(), {outputs.ndim, y.ndim} == {1, 2}
    if loss in LOSSES.values() or outputs.ndim == y.ndim or outputs.numel() != y.numel() or not (numbers or tables):
        return
    given, wanted, changed = tuple(y.shape), tuple(outputs.shape), [y + 1]
    if numbers:  # those that all differ, which those of one batch need not do
        outputs, y = _rising(outputs), _rising(y)
        changed = [y / 2] if y.ndim == 1 or tables else [y / 2, y.flip(-1)]
    loss = copy.deepcopy(loss) if isinstance(loss, torch.nn.Module) else loss  # it may count its calls
    try:
        plain, turned, *others = (torch.as_tensor(loss(outputs, t)) for t in (y, y.flip(0), *changed))
    except (ValueError, RuntimeError, AssertionError):
        return
    if torch.equal(y, y.flip(0)) or not torch.allclose(plain, turned):
        return
    if not any(torch.allclose(plain, other) for other in others):
        raise ValueError(f"the loss spreads outputs {wanted} and targets {given} to all pairs; pass y.view{wanted}")


def _rising(t):
    """Numbers from 0.1 to 0.9 in the form of a tensor."""
    return torch.linspace(0.1, 0.9, t.numel(), dtype=t.dtype, device=t.device).view_as(t)


def fitting(loss, y):
    """The loss of targets y: as asked, else the squared error of numbers and the cross-entropy of classes.

    ValueError: cross-entropy is asked of numbers, a value for each example, or a named loss of complex numbers. Single
    targets that are all the same are warned of, but for a loss of one's own.
    """
    numbers = y.is_floating_point()
    if not callable(loss) and y.is_complex():
        raise ValueError(f"complex targets ({y.dtype}) only a loss of your own takes; y.real are numbers")
    if not callable(loss) and len(y) > 1 and y[0].numel() == 1 and bool((y == y[0]).all()):
        warnings.warn(f"all {len(y):,} targets are {y[0].item()}: there is nothing to learn from them", stacklevel=2)
    if loss is None:
        return squared if numbers else classes
    of_classes = numbers and isinstance(loss, str) and LOSSES.get(loss) in IN_CLASSES
    if of_classes and (y.ndim == 1 or y.shape[1] == 1 or y.min() < 0):
        raise ValueError(f"loss {loss!r} takes classes, but the targets are numbers ({y.dtype}); loss='mse' takes them")
    return named(LOSSES, loss, "loss")


def own_of(loss, found):
    """ValueError: a loss has parameters that are not among those that are found to be trained."""
    own = loss.named_parameters() if isinstance(loss, torch.nn.Module) else ()
    if lost := [name for name, p in own if p.requires_grad and all(p is not q for q in found)]:
        raise ValueError(f"the loss has {lost[0]!r}, which nothing trains; make it a part of the network, or freeze it")

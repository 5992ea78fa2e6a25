"""Whether two networks compute the same: on the example, on noise, and on inputs of other sizes."""

import contextlib
import copy
import time

import torch

from .passes import Within, begin, first_line, quiet, tensors_in, unchanged
from .trace import TooLong

CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
WIDENED = {torch.float32, torch.float16, torch.bfloat16}
FEW = 100  # times the largest number that differs: more is what a mask fills in, not what rounding is measured by
NEEDED = 3  # the first inputs, without which nothing is proved
DRAWS = 8  # of noise, for a network that goes one way or another by what it sees
MANY = 8  # times the examples, for a network that goes another way when there are more
PATIENCE = 10  # seconds of a pass with another whole number
WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
UNSEEN = "no output is a float other than zero"
LARGE = 200_000  # numbers of an input from which on it is not tried where it is longer than the example


def difference(model, small, example, trace):
    """What is wrong with the outputs of the second of two networks, which are float64 afterwards at times, or nothing.

    UNSEEN: they are alike, but whole numbers, zeros or none, which a wrong network may give as well.

    Those of float32, float16 and bfloat16 are compared in float64, but where they draw random numbers. They may
    differ by 1e-5 of the largest number that differs (float64: 1e-10, shorter types: two of their steps), and by ten
    times what rounding does to the first, twice in the shorter types. trace: that of the first; when its time is over
    other sizes are not tried. TooLong: it is over before the first three inputs were.
    """
    model.eval()
    small.eval()
    kinds = {t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()}
    bound, single = max((CLOSE.get(kind, 1e-1) for kind in kinds), default=1e-5), bool(kinds) and kinds <= WIDENED
    seen = False
    with quiet():
        trials = enumerate([(example,), *_trials(example, DRAWS if trace.forks else 1)])
        runs = [_run(model, *given) for k, given in trials if not _over(trace, k)]
        wide = single and not trace.draws and runs[0] and _widen(model, small, *runs[0])
        if wide:
            bound = max(1e-5, *(2 * torch.finfo(kind).eps for kind in kinds))
        elif kinds == {torch.float32}:
            bound *= 10
        for k, (given, near) in enumerate(filter(None, runs)):
            if _over(trace, k):
                break
            given = given.double() if wide else given
            expected = output(model, given) if single else near
            seen |= any(a.any() for a in expected if a.is_floating_point() or a.is_complex())
            try:
                found = output(small, given)
            except Exception as failure:
                return f"it fails ({first_line(failure)}){_where(given, example)}"
            for triple in zip(expected, found, near, strict=True):
                if wrong := apart(*triple, bound):
                    return wrong + _where(given, example)
    return None if seen else UNSEEN


def _over(trace, k):
    """Whether there is no time for the kth input. TooLong: nor for one that is needed."""
    over = time.monotonic() > trace.until
    if over and k < NEEDED:
        raise TooLong
    return over


def _trials(example, draws):
    """Inputs to compare on, and what takes their place where the network does not take them or gives NaN."""
    draw = torch.Generator().manual_seed(1)

    def noise(t):
        if t.layout is not torch.strided:
            return t
        if t.is_floating_point() or t.is_complex():
            return torch.randn(t.shape, generator=draw, dtype=torch.promote_types(t.dtype, torch.float32)).to(t)
        whole = t.dtype is not torch.bool
        return t.flatten()[torch.randperm(t.numel(), generator=draw).to(t.device)].view(t.shape) if whole else t

    def numbers(t):
        return noise(t) if t.is_floating_point() else t

    yield from ((example.map(noise),), (example.map(numbers),))
    for k in range(1, draws):
        yield (example.map(lambda t, k=k: noise(t) * 2.0 ** (k % 5 - 2) + (-1) ** k if t.is_floating_point() else t),)
    yield from ((given,) for given in others(example))
    if any(map(_whole, example.tensors())):
        yield (_partly(example, draw),)
    sizes = [(lambda d, n, part=part: n + 1 if d == 0 else int(n * part) if d > 1 else n) for part in (0.5, 1)]
    sizes.append(lambda d, n: n // 2 if d == 1 else n)
    numel = sum(t.numel() for t in example.tensors())
    for dims, part in ((range(2, 6), 2), ((1,), 2), ((0,), MANY)):
        if numel * part < LARGE:
            sizes.append(lambda d, n, dims=dims, part=part: n * part if d in dims else n)
    sized = (*(_resized(example, size) for size in sizes), *longer(example))
    yield from ((given.map(numbers), given) for given in sized)


def longer(example):
    """The example with one more along all axes of a length, each length in turn, and along all but the first two.

    By one, since a network may fill up to a multiple; together, as parts of the input go together.
    """
    seen = [[t.shape for t in example.tensors()]]
    sizes = [lambda d, n: n + (d > 1)]
    sizes += [(lambda d, n, m=m: n + (n == m)) for m in sorted({n for t in example.tensors() for n in t.shape})]
    for given in (_resized(example, size) for size in sizes):
        if (shapes := [t.shape for t in given.tensors()]) not in seen:
            seen.append(shapes)
            yield given


def others(example):
    """The example with other whole numbers, by which a network may choose: one less, down to 0, one more, and 0.

    Numbers of Python, and those in tensors, all of them and each alone, as the network may not take all. Of a truth it
    is the other; a float of Python's, one more. One may lead a pass into a loop: bound the first with them by `Within`.
    """
    for kind in (torch.Tensor, (bool, int, float)):
        found = []
        example.map(lambda n, found=found: found.append(n) or n, kind)
        tried, able = [found], [k for k, n in enumerate(found) if not isinstance(n, torch.Tensor) or _whole(n)]
        for only in [able, *([k] for k in able if len(able) > 1)]:
            for step in (1, -1, 0):
                changed = [_other(n, step) if k in only else n for k, n in enumerate(found)]
                if any(all(map(_same, changed, known)) for known in tried):
                    continue
                tried, rest = [*tried, changed], iter(changed)
                given = example.map(lambda _, rest=rest: next(rest), kind)
                given.other = True
                yield given


def _partly(example, draw):
    """The example with half the places of each tensor of whole numbers 0, and half its truths the other."""

    def change(t):
        half = torch.rand(t.shape, generator=draw).to(t.device) < 0.5
        return torch.where(half, t, _other(t, t.dtype is torch.bool)) if _whole(t) else t

    given = example.map(change)
    given.other = True
    return given


def _whole(t):
    return t.layout is torch.strided and t.dtype in WHOLE


def _same(one, other):
    return one is other or (torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other)


def _other(n, step):
    """A number or a tensor of them, one more or less, or 0; itself where it has no such other."""
    tensor = isinstance(n, torch.Tensor)
    truth = isinstance(n, bool) or (tensor and n.dtype is torch.bool)
    if (truth or isinstance(n, float)) and step != 1:
        return n
    if truth:
        return ~n if tensor else not n
    if tensor and n.is_cuda and step > 0:
        return n  # beyond the last of a table a GPU ends the process
    if step < 0:
        return torch.where(n > 0, n - 1, n) if tensor else n - (n > 0)
    return n + 1 if step else n * 0


def _resized(example, size):
    """The example with size(d, n) numbers along each dimension d where it has n."""

    def change(t):
        for d, n in enumerate(t.shape):
            t = t.index_select(d, torch.arange(max(1, size(d, n)), device=t.device) % max(1, n))
        return t

    return example.map(change)


def _run(net, *given):
    """The first of these inputs that give a network no NaN, else the last it takes, and its outputs; None: none."""
    found = None
    for inputs in given:
        with contextlib.suppress(Exception), Within(PATIENCE) if inputs.other else contextlib.nullcontext():
            found = inputs, output(net, inputs)
            if not any(t.isnan().any() for t in found[1]):
                break
    return found


def _where(given, example):
    """How inputs are other than the example: their shapes, or their whole numbers."""
    shapes = [[tuple(t.shape) for t in given.tensors()] for given in (given, example)]
    if shapes[0] != shapes[1]:
        return f" on inputs of shape {', '.join(map(str, shapes[0]))}"
    return " with another whole number or flag in the example" if given.other else ""


def _widen(model, small, example, near):
    """Make both networks float64; whether they can, which those that make numbers of a type of their own cannot."""
    try:
        found = output(copy.deepcopy(model).double(), example.double())
        able = all((a.isfinite() | ~b.isfinite()).all() for a, b in zip(found, near, strict=True))
    except Exception:
        return False
    if able:
        model.double()
        small.double()
    return able


def output(net, example):
    """The tensors that a network puts out, each time with the same numbers drawn by chance.

    Of two calls where the first changes a buffer, as one that it keeps for the next; buffers are then as before.
    """
    begin()
    with unchanged(net) as changed:
        found = tensors_in(example.run(net))
        return found + tensors_in(example.run(net)) if changed() else found


def apart(a, b, near, bound):
    """What is wrong with an output b that should be a, or nothing; near: a, rounded.

    Numbers that are alike once rounded, as those that a mask fills in, do not count, nor say what is small.
    """
    whole, atol = not (a.is_floating_point() or a.is_complex()), 0
    if near.shape != a.shape or (whole and not torch.equal(a, near)):
        return None  # rounding alone changes what is picked
    if a.numel() and not whole and (b.shape, b.dtype) == (a.shape, a.dtype):
        finite = a.isfinite() & near.isfinite()
        b = b.where(b.to(near.dtype) != a.to(near.dtype), a)
        largest = a.where(finite, 0).abs().max().item()
        size, slack = (t.where(finite & (b != a), 0).abs().max().item() for t in (a, near - a))
        size = size if a.dtype != near.dtype else min(largest, FEW * size)  # rounded, what is small is not as exact
        atol = max(bound, 2 * torch.finfo(a.dtype).eps) * size + (10 if bound < 1e-3 else 2) * slack
    try:
        torch.testing.assert_close(b, a, rtol=0, atol=atol, equal_nan=True)
    except AssertionError as failure:
        lines = str(failure).splitlines()
        return f"an output differs ({next((line for line in lines if ' difference: ' in line), lines[0])})"
    return None

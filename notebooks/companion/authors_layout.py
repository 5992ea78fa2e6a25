"""P1's penalties and training step as its authors store W, (n_l, n_{l+1}): a unit is a row, and rows lie together.

`lib` stores W as torch does, (n_{l+1}, n_l), where the rows that partial leaves are strided. This is for timing only.
"""

import math
from itertools import pairwise

import torch
from torch.nn import functional as F

from companion import runs


def kept(w, beta):
    """The rows i ≤ n_l − ⌊n_l/β⌋; where there is one row only, those columns, as in the authors' code."""
    rows, columns = w.shape
    return w[: rows - rows // beta] if rows > 1 else w[:, : columns - columns // beta]


def penalty_of(ws, factors, alpha):
    """Σ_l factor_l · ((1−α) √n_{l+1} Σ_i ‖W_i‖₂ + α Σ|w|), for autograd: GL where α = 0, l1 where α = 1, else SGL."""
    total = 0
    for w, factor in zip(ws, factors, strict=True):
        if alpha < 1:
            total = total + factor * (1 - alpha) * math.sqrt(w.shape[1]) * w.norm(dim=1).sum()
        if alpha > 0:
            total = total + factor * alpha * w.abs().sum()
    return total


def step_times(seed, sizes, batch, factors, alpha, betas, rounds, block):
    """Seconds of a penalty with its gradient, and of a training step with it: a row per extent, a list of rounds.

    sizes: n_0 to n_L; with one output the loss is the mean square, else the cross-entropy. All steps take one batch
    of random inputs, in fp32. factors: λ·λ_l of each layer; alpha: of `penalty_of`.
    """
    torch.manual_seed(seed)
    ws = [(0.1 * torch.randn(n, following)).requires_grad_() for n, following in pairwise(sizes)]
    biases = [torch.full((n,), 0.1, requires_grad=True) for n in sizes[1:]]
    optimizer = torch.optim.Adam([*ws, *biases], fused=True)
    x = torch.rand(batch, sizes[0])
    y = torch.rand(batch, 1) if sizes[-1] == 1 else torch.randint(0, sizes[-1], (batch,))
    error = F.mse_loss if sizes[-1] == 1 else F.cross_entropy

    def loss():
        h = x
        for w, bias in zip(ws[:-1], biases, strict=False):
            h = torch.addmm(bias, h, w).relu()
        return error(torch.addmm(biases[-1], h, ws[-1]), y)

    def penalty_at(beta):
        return penalty_of([kept(w, beta) if beta else w for w in ws], factors, alpha)

    def alone(beta):
        return lambda k: torch.autograd.grad(penalty_at(beta), ws)

    def step(beta):
        def take(k):
            optimizer.zero_grad()
            (loss() + penalty_at(beta)).backward()
            optimizer.step()

        return take

    rows, extents = [], {str(beta or "full"): beta for beta in (None, *betas)}
    for what, make in {"penalty": alone, "step": step}.items():  # apart: a step leaves other things in the cache
        steppers = {extent: make(beta) for extent, beta in extents.items()}
        with runs.pinned():
            seconds = runs.interleaved(steppers, rounds, dict.fromkeys(steppers, block))
        rows += [{"extent": extent, "what": what, "step_s": times} for extent, times in seconds.items()]
    return rows


def timing(experiment, session, case, **options):
    """The configuration of such a timing in one session of measuring; its case names the penalty."""
    own = runs.own(step_times, kept, penalty_of, **options)
    return {"experiment": experiment, "seed": session, "case": case | {"layout": "authors'", "form": "autograd"}, **own}

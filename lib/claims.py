"""The papers' claims, each with a rule in numbers that was written before the records that it judges.

A rule reads tables (see `lib.runs.frame`) and returns a verdict and the evidence for it in words.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from lib import runs

REPRODUCED, PARTLY, NOT, NOT_RUN = "reproduced", "partly", "not reproduced", "not run"
PAPERS = {"P1": "arXiv 2009.01395", "P2": "arXiv 2109.05075", "P3": "arXiv 2012.03827"}


@dataclass(frozen=True)
class Claim:
    """What a paper says, paraphrased, and the rule that the records of one experiment are judged by."""

    paper: str
    says: str
    where: str
    experiment: str
    rule: str
    judge: Callable[[pd.DataFrame], tuple[str, str]]

    def verdict(self, records):
        """The verdict of finished records and its evidence; "not run" where there are none."""
        table = runs.frame([record for record in records if record["status"] == "done"])
        return (NOT_RUN, "no records") if table.empty else self.judge(table)


def overview():
    """A table of all claims with the verdicts that the committed records give."""
    lines = []
    for name, claim in CLAIMS.items():
        verdict, evidence = claim.verdict(runs.committed(claim.experiment).values())
        source = PAPERS.get(claim.paper, claim.where)
        lines.append({"claim": name, "says": claim.says, "source": source, "verdict": verdict, "evidence": evidence})
    return pd.DataFrame(lines)


def paired(table, value, *, by, of, against):
    """Mean and 95 % interval of the differences of `value` between two groups of runs with the same seeds.

    `by` names the column that tells the groups apart: of − against. Returns (mean, low, high, n); NaN bounds for
    fewer than two pairs.
    """
    wide = table.pivot(index="seed", columns=by, values=value)
    difference = (wide[of] - wide[against]).dropna()
    n, mean = len(difference), difference.mean()
    if n < 2:
        return mean, math.nan, math.nan, n
    half = stats.t.ppf(0.975, n - 1) * difference.std(ddof=1) / math.sqrt(n)
    return mean, mean - half, mean + half, n


# --- P1 on its own demo --------------------------------------------------------------------------------------------


def faster_partial(table):
    """P1's first claim from interleaved timings; a line per penalty, extent and form, `step_s` over the rounds."""
    ratios = {}
    table = table[table.penalty.isin(["GL", "SGL"]) & table.form.isin(["autograd", "closed"])]
    for (penalty, form), group in table.groupby(["penalty", "form"]):
        times = group.set_index("extent").step_s
        rounds = [p / f for p, f in zip(times["partial"], times["full"], strict=True)]
        ratios[f"{penalty} {form}"] = pd.Series(rounds).median()
    wins = sum(ratio < 0.99 for ratio in ratios.values())
    evidence = "time of a step, partial / full: " + ", ".join(f"{name} {r:.3f}" for name, r in ratios.items())
    return (REPRODUCED if wins >= 3 else PARTLY if wins else NOT), evidence


def better_partial(table):
    """P1's second claim from runs paired by seed: train and test accuracy of every penalty, partial − full."""
    better, worse, evidence = 0, 0, []
    table = table[(table.version == "ours") & (table.penalty != "none")]
    for penalty, group in table.groupby("penalty"):
        for part in ("train", "test"):
            mean, low, high, n = paired(group, f"{part}_accuracy", by="extent", of="partial", against="full")
            better, worse = better + (low > 0), worse + (high < 0)
            evidence.append(f"{penalty} {part} {100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]")
    verdict = REPRODUCED if better == len(evidence) else PARTLY if better and not worse else NOT
    return verdict, f"accuracy in points, partial − full, 95 % interval, {n} seeds: " + "; ".join(evidence)


def same_precision(table):
    """Equivalence of bf16 and fp32 within 0.1 points of test accuracy, for every penalty."""
    inside, evidence = [], []
    for penalty, group in table.groupby("penalty"):
        mean, low, high, n = paired(group, "test_accuracy", by="precision", of="bf16", against="fp32")
        inside.append(max(-low, high) < 0.001)
        evidence.append(f"{penalty} {100 * mean:+.3f} [{100 * low:+.3f}, {100 * high:+.3f}]")
    verdict = REPRODUCED if all(inside) else PARTLY if any(inside) else NOT
    return verdict, f"test accuracy in points, bf16 − fp32, 95 % interval, {n} seeds: " + "; ".join(evidence)


CLAIMS = {
    "bf16": Claim(
        paper="the companion",
        says="Training in bf16 autocast reaches the accuracy of training in fp32.",
        where="notebooks/90_bf16_against_fp32.ipynb",
        experiment="bf16_mnist",
        rule="Per penalty, the 95 % interval of the difference of test accuracies, bf16 − fp32, paired by seed, is "
        "held against ±0.1 points. Reproduced: within for all; partly: for some; not reproduced: for none.",
        judge=same_precision,
    ),
    "P1.1 MNIST": Claim(
        paper="P1",
        says="Penalising only a part of the parameters runs faster than penalising all of them.",
        where="abstract; the authors' MNIST demo",
        experiment="p1_mnist_timing",
        rule="Per penalty (GL, SGL) and form (autograd, closed), the median over interleaved rounds of the ratio of "
        "step times, partial / full, is compared with 0.99. Reproduced: below in at least 3 of the 4; partly: in "
        "1 or 2; not reproduced: in none.",
        judge=faster_partial,
    ),
    "P1.2 MNIST": Claim(
        paper="P1",
        says="Partial regularization improves classification accuracy, in training and in test.",
        where="abstract; the authors' MNIST demo",
        experiment="p1_mnist",
        rule="Per penalty (GL, SGL) and part (train, test), partial is better (worse) where the 95 % interval of the "
        "difference of accuracies, partial − full, paired by seed, lies above (below) 0. Reproduced: better in all "
        "4; partly: better in at least 1 and worse in none; not reproduced: otherwise.",
        judge=better_partial,
    ),
}


def markdown():
    """The table of claims and verdicts as README.md shows it."""
    lines = ["| claim | source | verdict | evidence |", "|---|---|---|---|"]
    for line in overview().itertuples():
        lines.append(f"| **{line.claim}** {line.says} | {line.source} | {line.verdict} | {line.evidence} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")

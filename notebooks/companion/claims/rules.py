"""A claim, its rule and what rules are made of: paired intervals, selection on validation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from scipy import special

from companion import runs

REPRODUCED, PARTLY, NOT, NOT_RUN = "reproduced", "partly", "not reproduced", "not run"
NOT_JUDGED = "not judged"  # fewer seeds than the rule needs
INCONCLUSIVE = "inconclusive"  # an interval neither clears a margin nor breaks it
NOT_AS_STATED = "not tested as stated"  # the runs differ from the claim in something that decides it
MNIST = 0.002  # of test accuracy: in 19 of 20 pairs two dense networks that differ by their seed alone are nearer
ON_MNIST = "of P1.3 inputs, P2.1 to P2.3, P3.4 and P3.9"  # where MNIST is the margin
SEEDS = 3  # an interval of two has 12.7 times its standard error, one of three 4.3 times


class Lacking(LookupError):
    """What a rule compares is not among the runs; the message names it."""


@dataclass(frozen=True)
class Claim:
    """What a paper says, paraphrased, the notebook that judges it, and the rule that its records are judged by.

    where: where the paper says it, or that it is the companion's own. experiments: whose records are judged together.
    judge: takes `runs.frame` of these records and returns a verdict and the evidence; "; " parts the evidence into a
    sentence and the points below it.
    """

    paper: str
    notebook: str
    says: str
    where: str
    experiments: tuple[str, ...]
    rule: str
    judge: Callable[[pd.DataFrame], tuple[str, str]]

    @property
    def own(self):
        """Whether it is the companion's own, and no paper's."""
        return self.where.startswith(("the companion", "notebooks/"))

    def committed(self):
        """The committed records that are judged."""
        return [record for name in self.experiments for record in runs.committed(name).values()]

    def verdict(self, records):
        """The verdict of finished records and its evidence.

        "Not run" where there are none, "not judged" where they lack something that the rule compares.
        """
        table = runs.frame(records)
        if table.empty:
            return NOT_RUN, "no records"
        try:
            return self.judge(table)
        except Lacking as lacking:
            return NOT_JUDGED, f"the rule needs runs that are not there: {lacking}"
        except KeyError as error:
            known = ", ".join(self.experiments)
            raise ValueError(f"these records have no {error}; the rule is one of the records of {known}") from error


def need(table, column, *entries):
    """Raise Lacking where a column of a table has not all of these entries."""
    found = set(table[column]) if column in table else set()
    if missing := [str(entry) for entry in entries if entry not in found]:
        raise Lacking(f"{column} {', '.join(missing)}")


class Difference(NamedTuple):
    """The mean of n paired differences and its 95 % interval, by Student's t; NaN bounds for fewer than two pairs.

    spread: the standard deviation of the differences, from which the interval follows where they are independent.
    across: of how many pairs the two sides were made on two kinds of processor, which differ as other seeds do.
    """

    mean: float
    low: float
    high: float
    n: int
    spread: float = math.nan
    across: int = 0

    @property
    def error(self):
        """The standard error of the mean."""
        return (self.high - self.mean) / special.stdtrit(self.n - 1, 0.975)

    @property
    def p(self):
        """The two-sided p-value of the hypothesis that there is no difference; 1 for fewer than two pairs."""
        if self.n < 2:
            return 1.0
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * special.stdtr(self.n - 1, -abs(self.mean) / self.error))

    @property
    def effect(self):
        """The mean in standard deviations of the differences (Cohen's d for pairs); infinite where they are all one."""
        return self.mean / self.spread if self.spread else math.copysign(math.inf, self.mean) if self.mean else 0.0

    @property
    def seen(self):
        """The smallest true difference that as many such pairs tell from none in 4 of 5 repetitions (power 0.8).

        By the noncentral t distribution, for one test at 5 % of two sides.
        """
        return self.error * float(special.nctdtrinc(self.n - 1, 0.2, special.stdtrit(self.n - 1, 0.975)))

    def points(self, digits=2):
        """In percentage points, as in "+0.12 [-0.05, +0.29], d = 0.8"; the mean alone where there is no interval."""
        mean, low, high = (f"{100 * value:+.{digits}f}" for value in self[:3])
        told = f"{mean} [{low}, {high}], d = {self.effect:.1f}" if self.n > 1 else mean
        return told + " (two processors)" * bool(self.across)


def interval(values, overlap=0.0):
    """The `Difference` that a series of differences gives; see `paired` for `overlap`."""
    values = pd.Series(values, dtype=float).dropna()
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Difference(mean, math.nan, math.nan, n)
    spread = float(values.std(ddof=1))
    half = float(special.stdtrit(n - 1, 0.975)) * spread * math.sqrt(1 / n + overlap)
    return Difference(mean, mean - half, mean + half, n, spread)


def paired(table, value, *, by, of, against, overlap=0.0):
    """The `Difference` of `value` between two groups of runs with the same seeds.

    `by` names the column that tells the groups apart: of − against. `overlap` is test size / training size where
    seeds are splits of one table: their training sets overlap, and the variance of the mean is wider by it (Nadeau &
    Bengio 2003). Lacking: a group has no run.
    """
    need(table, by, of, against)
    wide = table.pivot(index="seed", columns=by, values=value)
    return interval(wide[of] - wide[against], overlap)._replace(across=on_two(table, by, of, against))


def on_two(table, by, of, against):
    """Of how many pairs the two runs were made on two kinds of processor."""
    if "device" not in table:
        return 0
    wide = table.pivot(index="seed", columns=by, values="device")[[of, against]].dropna()
    return int((wide[of] != wide[against]).sum())


def enough(*differences, seeds=SEEDS):
    """Raise Lacking where a difference has fewer pairs than a rule needs."""
    n = min((difference.n for difference in differences), default=0)
    if n < seeds:
        raise Lacking(f"{seeds} seeds, and there {'is' if n == 1 else 'are'} {n}")


def holm(differences, least=0.0):
    """On which side of 0 each of a family of differences lies: −1 or 1, or 0 where that is not told.

    Holm's correction: the chance of even one wrong side among them is at most 5 %. A mean nearer to 0 than `least`
    counts as 0, too.
    """
    order = sorted(range(len(differences)), key=lambda k: differences[k].p)
    sides = [0] * len(differences)
    for rank, k in enumerate(order):
        if differences[k].p > 0.05 / (len(order) - rank):
            break
        if abs(differences[k].mean) >= least:
            sides[k] = 1 if differences[k].mean > 0 else -1
    return sides


def sided(found, above, below, least=0.0):
    """The sides that `holm` gives differences by name, and each difference in points with the word for its side."""
    sides, marks = holm(list(found.values()), least=least), {1: f" {above}", -1: f" {below}", 0: ""}
    return sides, [f"{name} {d.points()}{marks[side]}" for (name, d), side in zip(found.items(), sides, strict=True)]


def held(difference, margin):
    """Whether no more than a margin is lost: 1 where the interval lies above −margin, −1 where below, 0 if neither."""
    return 1 if difference.low >= -margin else -1 if difference.high < -margin else 0


def alike(difference, margin):
    """The verdict on "no difference": whether the interval lies within ±margin, beyond it, or on both sides."""
    if max(-difference.low, difference.high) < margin:
        return REPRODUCED
    return NOT if max(difference.low, -difference.high) > margin else INCONCLUSIVE


def graded(wholly, partly):
    """The verdict on a claim that holds wholly, partly or not at all."""
    return REPRODUCED if wholly else PARTLY if partly else NOT


def of_all(verdicts):
    """The verdict on "for every case" from those of the cases."""
    found = set(verdicts)
    if found <= {REPRODUCED}:
        return REPRODUCED
    if found & {REPRODUCED, PARTLY}:
        return PARTLY
    return NOT if NOT in found else INCONCLUSIVE


def seen(differences, unit="points"):
    """What such runs would have told from nothing, for the evidence: the largest of `Difference.seen`."""
    alone = ", each alone" if len(differences) > 1 else ""
    return f"seen with power 0.8{alone}: {100 * max(difference.seen for difference in differences):.2f} {unit}"


def chosen(table, *, case, among, score, smallest=False, seeds=5):
    """The runs of every case at its best setting: by the mean of a validation `score` over the first `seeds` seeds.

    `case` lists the columns that tell cases apart, `among` those of the settings; of equal ones the largest is taken.
    Equal are those that differ in the seventh decimal place or later, to which records are rounded.
    """
    first = sorted(table["seed"].unique())[:seeds]  # a call may begin at any seed
    means = table[table["seed"].isin(first)].groupby([*case, *among], sort=False)[score].mean().round(6).reset_index()
    order = means.sort_values([score, *among], ascending=[smallest, *[False] * len(among)])
    best = order.drop_duplicates(case)
    return table.merge(best[[*case, *among]])


def tally(sides, gains, smallest):
    """The verdict on "improves" from the sides of its cases, and those differences, a gain being positive.

    Reproduced: better in more than half of the cases and worse in none; partly: better in more than worse; not
    reproduced: worse in some, and in as many as better or more, or every interval below the smallest gain of interest;
    else inconclusive.
    """
    better, worse = sides.count(1), sides.count(-1)
    if better > len(sides) / 2 and not worse:
        return REPRODUCED
    if better > worse:
        return PARTLY
    return NOT if worse or all(gain.high < smallest for gain in gains) else INCONCLUSIVE

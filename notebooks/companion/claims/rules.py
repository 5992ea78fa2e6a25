"""A claim, its rule and what rules are made of: paired intervals, selection on validation."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from scipy import special

from companion import runs

REPRODUCED, PARTLY, NOT, NOT_RUN = "reproduced", "partly", "not reproduced", "not run"
NOT_JUDGED = "not judged"  # fewer seeds than the rule needs
INCONCLUSIVE = "inconclusive"  # an interval neither clears a margin nor breaks it
NOT_AS_STATED = "not tested as stated"  # the runs differ from the claim in something that decides it
SEEDS = 3  # an interval of two has 12.7 times its standard error, one of three 4.3 times


class Lacking(LookupError):
    """What a rule compares is not among the runs; the message names it."""


@dataclass(frozen=True)
class Claim:
    """What a paper says, paraphrased, the notebook that judges it, and the rule that its records are judged by."""

    paper: str
    notebook: str
    says: str
    where: str
    experiment: str | tuple[str, ...]
    rule: str
    judge: Callable[[pd.DataFrame], tuple[str, str]]

    @property
    def experiments(self):
        """The names of the experiments whose records are judged together."""
        return (self.experiment,) if isinstance(self.experiment, str) else self.experiment

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


def need(table, column, *entries):
    """Raise Lacking where a column of a table has not all of these entries."""
    found = set(table[column]) if column in table else set()
    if missing := [str(entry) for entry in entries if entry not in found]:
        raise Lacking(f"{column} {', '.join(missing)}")


def paired(table, value, *, by, of, against, overlap=0.0):
    """Mean and 95 % interval of the differences of `value` between two groups of runs with the same seeds.

    `by` names the column that tells the groups apart: of − against. Returns (mean, low, high, n); NaN bounds for
    fewer than two pairs. `overlap` is test size / training size where seeds are splits of one table: their training
    sets overlap, and the variance of the mean is wider by it (Nadeau & Bengio 2003). Lacking: a group has no run.
    """
    need(table, by, of, against)
    wide = table.pivot(index="seed", columns=by, values=value)
    difference = (wide[of] - wide[against]).dropna()
    n, mean = len(difference), difference.mean()
    if n < 2:
        return mean, math.nan, math.nan, n
    half = special.stdtrit(n - 1, 0.975) * difference.std(ddof=1) * math.sqrt(1 / n + overlap)
    return mean, mean - half, mean + half, n


def chosen(table, *, case, among, score, smallest=False, seeds=5):
    """The runs of every case at its best setting: by the mean of a validation `score` over the first `seeds` seeds.

    `case` lists the columns that tell cases apart, `among` those of the settings.
    """
    means = table[table["seed"] < seeds].groupby([*case, *among], sort=False)[score].mean().reset_index()
    best = means.sort_values(score, ascending=smallest, kind="stable").drop_duplicates(case)
    return table.merge(best[[*case, *among]])


def tally(better, worse, total):
    """The verdict on "improves": in more than half of the cases and never worse; more often than worse; otherwise."""
    if better > total / 2 and not worse:
        return REPRODUCED
    return PARTLY if better > worse else NOT

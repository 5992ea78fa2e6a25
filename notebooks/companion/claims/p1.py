"""The claims of P1, partial regularization (arXiv 2009.01395)."""

import pandas as pd

from companion.claims.rules import NOT, PARTLY, REPRODUCED, Claim, Lacking, chosen, need, paired, tally


def faster_partial(table):
    """P1's first claim from interleaved timings; a line per penalty, extent and form, `step_s` over the rounds."""
    ratios = {}
    need(table, "penalty", "GL", "SGL")
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
    need(table, "penalty", "GL", "SGL")
    better, worse, evidence = 0, 0, []
    table = table[(table.version == "ours") & (table.penalty != "none")]
    for penalty, group in table.groupby("penalty"):
        for part in ("train", "test"):
            mean, low, high, n = paired(group, f"{part}_accuracy", by="extent", of="partial", against="full")
            better, worse = better + (low > 0), worse + (high < 0)
            evidence.append(f"{penalty} {part} {100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]")
    verdict = REPRODUCED if better == len(evidence) else PARTLY if better and not worse else NOT
    return verdict, f"accuracy in points, partial − full, 95 % interval, {n} seeds: " + "; ".join(evidence)


def faster_in_almost_all(table):
    """P1's first claim over situations: shares of the cases in which partial is faster, penalty and step apart."""
    shares = {}
    for what, group in partial_ratios(table).groupby("what"):
        faster = group["ratio"] < 0.99
        shares[what] = (
            faster.mean(),
            f"{what} {faster.sum()} of {len(group)} (median ratio {group['ratio'].median():.3f})",
        )
    almost_all = [share >= 0.9 for share, _ in shares.values()]
    verdict = REPRODUCED if all(almost_all) else PARTLY if any(almost_all) else NOT
    return verdict, "partial faster than full: " + "; ".join(words for _, words in shares.values())


def partial_ratios(table):
    """Median and quartiles over rounds of the ratio of times, partial / full: a line per case.

    `table` is a frame of timing records with variants named penalty / extent / form / what, extent "full" or β.
    """
    lines = []
    for keys, group in table[table["penalty"] != "none"].groupby(["situation", "what", "penalty", "form"], sort=False):
        times = group.set_index("extent")["step_s"]
        for extent in times.index.drop("full"):
            rounds = [p / f for p, f in zip(times[extent], times["full"], strict=True)]
            low, ratio, high = pd.Series(rounds).quantile([0.25, 0.5, 0.75])
            line = dict(zip(("situation", "what", "penalty", "form"), keys, strict=True))
            lines.append(line | {"beta": int(extent), "ratio": ratio, "q1": low, "q3": high})
    return pd.DataFrame(lines)


def gains(table, *, score, sign=1, overlap=0.0):
    """Paired differences partial − full for every data set, penalty and part, each extent at its own chosen λ.

    sign −1: smaller is better. Columns: data, penalty, part, mean, low, high, n, and better / worse: on which side
    of 0 the interval lies.
    """
    lines = []
    for (name, penalty), group in table[table["penalty"] != "none"].groupby(["data", "penalty"], sort=False):
        for part in ("train", "test"):
            found = paired(group, f"{part}_{score}", by="extent", of="partial", against="full", overlap=overlap)
            line = {"data": name, "penalty": penalty, "part": part}
            lines.append(line | dict(zip(("mean", "low", "high", "n"), found, strict=True)))
    lines = pd.DataFrame(lines)
    above, below = lines["low"] > 0, lines["high"] < 0
    return lines.assign(better=above if sign > 0 else below, worse=below if sign > 0 else above)


def _improves(lines):
    verdict = tally(lines["better"].sum(), lines["worse"].sum(), len(lines))
    evidence = [
        f"{part} better in {group['better'].sum()}, worse in {group['worse'].sum()} of {len(group)}"
        for part, group in lines.groupby("part", sort=False)
    ]
    return verdict, "partial against full: " + "; ".join(evidence)


SETTINGS = {"case": ["data", "penalty", "extent"], "among": ["lam", "steps"]}


def better_fits(table):
    """P1's second claim on regression tables: RMSE; λ and steps chosen on validation over the first 5 splits."""
    table = chosen(table, **SETTINGS, score="validation_rmse", smallest=True)
    return _improves(gains(table, score="rmse", sign=-1, overlap=1 / 9))


def better_classified(table):
    """P1's second claim on classification sets: accuracy, λ chosen on the validation part."""
    return _improves(gains(chosen(table, **SETTINGS, score="validation_accuracy"), score="accuracy"))


def relabelled(table):
    """P1's third claim where it is open, at the inputs: accuracy with relabelled inputs against inputs in order."""
    inside, evidence, table = [], [], table[table["beta"].isin([0, 8])]  # 0: full
    for extent, group in table.groupby("extent", sort=False):
        mean, low, high, n = paired(group, "test_accuracy", by="inputs", of="relabelled", against="in order")
        inside.append(max(-low, high) < 0.003)
        evidence.append(f"{extent} {100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]")
    verdict = REPRODUCED if all(inside) else PARTLY if any(inside) else NOT
    return verdict, f"test accuracy in points, relabelled − in order, {n} seeds: " + "; ".join(evidence)


def structure(table):
    """P1's fourth claim: growth of the number of surviving units at the last doubling, and difference of data sets."""
    from scipy import stats  # a second to import

    if table["width"].nunique() < 2:
        raise Lacking("a second starting width")
    table = table.assign(survivors=[sum(counts[1:]) for counts in table["alive_1e-3"]])  # inputs are not counted
    low, high = sorted(set(table["width"]))[-2:]
    growth, depends, words = {}, {}, []
    for penalty, group in table.groupby("penalty", sort=False):
        means = group.groupby(["data", "width"], sort=False)["survivors"].mean()
        for name in dict.fromkeys(group["data"]):
            growth[penalty, name] = means[name, high] / means[name, low]
        last = [g["survivors"] for _, g in group[group["width"] == high].groupby("data")]
        depends[penalty] = len(last) > 1 and stats.f_oneway(*last).pvalue < 0.01
        factors = ", ".join(f"{name} × {growth[penalty, name]:.2f}" for name in dict.fromkeys(group["data"]))
        words.append(f"{penalty}: {factors}{' (data sets differ)' if depends[penalty] else ''}")
    settled = [1 / 1.2 <= factor <= 1.2 for factor in growth.values()]
    if all(settled) and all(depends.values()):
        verdict = REPRODUCED
    else:
        verdict = PARTLY if sum(settled) >= len(settled) / 2 and any(depends.values()) else NOT
    return verdict, f"survivors from width {high} / from {low}: " + "; ".join(words)


CLAIMS = {
    "P1.1 MNIST": Claim(
        paper="P1",
        notebook="01_partial_group_lasso_mnist",
        says="Penalising only a part of the parameters runs faster than penalising all of them.",
        where="abstract; the authors' MNIST demo",
        experiment="p1_mnist_timing",
        rule="Per penalty (GL, SGL) and form (autograd, closed), the median over interleaved rounds of the ratio of "
        "step times, partial / full, is compared with 0.99. Reproduced: below in at least 3 of the 4; partly: "
        "in 1 or 2; not reproduced: in none.",
        judge=faster_partial,
    ),
    "P1.2 MNIST": Claim(
        paper="P1",
        notebook="01_partial_group_lasso_mnist",
        says="Partial regularization improves classification accuracy, in training and in test.",
        where="abstract; the authors' MNIST demo",
        experiment="p1_mnist",
        rule="Per penalty (GL, SGL) and part (train, test), partial is better (worse) where the 95 % interval of the"
        " difference of accuracies, partial − full, paired by seed, lies above (below) 0. Reproduced: better in"
        " all 4; partly: better in at least 1 and worse in none; not reproduced: otherwise.",
        judge=better_partial,
    ),
    "P1.1": Claim(
        paper="P1",
        notebook="02_partial_running_time",
        says="Penalising only a part of the parameters runs faster than penalising all, in almost all situations.",
        where="abstract",
        experiment="p1_running_time",
        rule="A case is a situation (network and data), a penalty, a β and a form (autograd, closed). Partial is "
        "faster in it where the median over interleaved rounds of the ratio of times, partial / full, is below "
        "0.99. The penalty with its gradient and the whole training step are judged apart, each holds if "
        "partial is faster in at least 90 % of the cases. Reproduced: both hold; partly: one; not reproduced: "
        "none.",
        judge=faster_in_almost_all,
    ),
    "P1.2 regression": Claim(
        paper="P1",
        notebook="03_partial_regression",
        says="Partial regularization improves regression fits, in training and in test.",
        where="abstract",
        experiment="p1_regression",
        rule="Per table, penalty (GL, SGL) and part (train, test): the difference of RMSE, partial − full, paired by"
        " split, each extent at the λ and steps that are best on validation over the first 5 splits; better "
        "(worse) where its 95 % interval, corrected for overlapping training sets, lies below (above) 0. "
        "Reproduced: better in more than half of all cases and worse in none; partly: better in more cases than"
        " worse; not reproduced: otherwise.",
        judge=better_fits,
    ),
    "P1.2 classification": Claim(
        paper="P1",
        notebook="04_partial_classification",
        says="Partial regularization improves classification accuracy, in training and in test, on multiple data sets.",
        where="abstract",
        experiment="p1_classification",
        rule="Per data set, penalty (GL, SGL) and part (train, test): the difference of accuracies, partial − full, "
        "paired by seed, each extent at the λ that is best on validation; better (worse) where its 95 % "
        "interval lies above (below) 0. Verdicts as for regression.",
        judge=better_classified,
    ),
    "P1.3": Claim(
        paper="P1",
        notebook="06_partial_beyond",
        says="Hidden units can be relabelled without changing the function, so it does not matter which of them are "
        "free.",
        where="abstract",
        experiment="p1_free",
        rule="For hidden units this is a theorem (shown in the notebook, and tested). Inputs are free as well, and "
        "are not interchangeable: per extent (full, partial with β = 8), the 95 % interval of the difference of test "
        "accuracies, inputs relabelled by chance − in order, paired by seed, is held against ±0.3 points. "
        "Reproduced: within for both; partly: for one; not reproduced: for none.",
        judge=relabelled,
    ),
    "P1.4": Claim(
        paper="P1",
        notebook="05_partial_optimal_structure",
        says="An optimal network structure exists, and it depends on the input data.",
        where="abstract",
        experiment="p1_structure",
        rule="Survivors are the hidden units that P1 counts as alive. It exists where their mean number changes by a"
        " factor of at most 1.2 when the starting width doubles from 400 to 800. It depends on the data where "
        "the numbers from width 800 differ between data sets (analysis of variance, p < 0.01). Reproduced: "
        "exists for every penalty and data set, depends for every penalty; partly: exists in at least half of "
        "the cases and depends for at least one penalty; not reproduced: otherwise.",
        judge=structure,
    ),
}

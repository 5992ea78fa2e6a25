"""What P2's claims are judged by, ℓ0-norm regularization and weight pruning (arXiv 2109.05075).

Stages of a pruning chain are called "dense", or by mode, compression and state, as in "gradual 56 cut".
"""

import contextlib

import numpy as np
import pandas as pd

from companion import settings
from companion.claims.rules import (
    INCONCLUSIVE,
    MNIST,
    NOT,
    NOT_AS_STATED,
    NOT_JUDGED,
    PARTLY,
    REPRODUCED,
    SEEDS,
    Lacking,
    chosen,
    enough,
    graded,
    held,
    holm,
    interval,
    need,
    of_all,
    paired,
    seen,
)
from lib import models

METHOD = "ℓ0 + ℓ2"
STRONG, WEAK = 20, 10  # compressions that a claim holds at, wholly and partly
SMALL_SHARE = 1 - 1 / WEAK  # without these small weights a network is as small as P2.2 asks for at least
DEEP_MARGIN = 0.01
NETWORKS = 3
CHOOSING = 0  # the seed with which notebooks 11 and 12 choose coefficients and settings


def by_ratio(table, mode, state):
    """The stages of one mode and state, with their compression in the column `ratio`."""
    words = table["stage"].str.extract(r"^(\S+) (\S+) (\S+)$")
    table = table.assign(ratio=pd.to_numeric(words[1]))
    return table[(words[0] == mode) & (words[2] == state)]


def accuracy(stages):
    """Test accuracy by compression and seed."""
    return stages.set_index(["ratio", "seed"])["test_accuracy"]


def by_network(table, penalty=METHOD):
    """The chains of one penalty: {"LeNet-5 on MNIST": its stages}. Lacking: there is none."""
    kept = table.iloc[:0]
    if {"chain", "penalty", "net"} <= set(table):
        kept = table[(table["chain"] == "main") & (table["penalty"] == penalty)]
    if kept.empty:
        raise Lacking(f"chains of {penalty}")
    return {f"{net} on {data}": group for (net, data), group in kept.groupby(["net", "data"], sort=True)}


def by_compression(differences):
    """The `Difference` at each compression of a series by compression and seed."""
    return {ratio: interval(values) for ratio, values in differences.groupby("ratio")}


def costs(stages, reference):
    """What each compression costs: the `Difference` of test error to one stage of reference, paired by seed."""
    scores = accuracy(stages)
    found = by_compression(reference.set_index("seed")["test_accuracy"].reindex(scores.index, level="seed") - scores)
    enough(*found.values())
    return found


def effective(costs, margin):
    """The verdict on "effective at 20× or more", and the largest compression that is, from `costs`.

    Not reproduced: the interval at the first compression of at least 10× lies above the margin.
    """
    best = max((ratio for ratio, cost in costs.items() if cost.high < margin), default=1)
    first = min((ratio for ratio in costs if ratio >= WEAK), default=None)
    broken = first is not None and costs[first].low > margin
    return REPRODUCED if best >= STRONG else PARTLY if best >= WEAK else NOT if broken else INCONCLUSIVE, best


def _listed(found):
    return ", ".join(f"{ratio:g}× {cost.points()}" for ratio, cost in found.items())


def sparse_in_training(table, *, share=SMALL_SHARE, margin=MNIST, costly=(PARTLY, PARTLY)):
    """P2.1: weights below 0.001 after training, nothing pruned, and the accuracy that it costs.

    costly: the verdicts on a sparse network that may lose more accuracy than the margin, and on one that surely does.
    """
    table, _ = _strengths_taken(table, share)
    shares = table.groupby("penalty", sort=True)["sparsity_1e-3"].mean()
    verdicts, words = [], []
    for name in ("ℓ0", METHOD):
        cost = paired(table, "test_accuracy", by="penalty", of=name, against="none")
        enough(cost)
        kept = {1: REPRODUCED, 0: costly[0], -1: costly[1]}[held(cost, margin)]
        verdicts.append(kept if shares[name] >= share else NOT)
        words.append(f"{name}{_at(table[table['penalty'] == name])} {cost.points()}")
    small = ", ".join(f"{name} {100 * found:.1f}" for name, found in shares.items())
    costs = f"test accuracy in points, against no penalty, {cost.n} seeds: {', '.join(words)}"
    return of_all(verdicts), f"nothing is pruned; weights below 0.001 in %: {small}; {costs}"


def _strengths_taken(table, share):
    """Of each penalty's α_ℓ0 with so many small weights the one most accurate on validation; without such, the first.

    The lines at it, and the others. The case of the first one does not name it: `l0` is missing there.
    """
    table = table.assign(l0=pd.to_numeric(table.get("l0", np.nan)))
    groups = table.groupby(["penalty", "l0"], dropna=False)[["sparsity_1e-3", "validation_accuracy"]].mean()
    sparse = groups[groups["sparsity_1e-3"] >= share].sort_values("validation_accuracy", ascending=False)
    first = groups[groups.index.get_level_values("l0").isna()]
    taken = pd.concat([sparse, first]).reset_index().drop_duplicates("penalty")
    judged = table.reset_index().merge(taken[["penalty", "l0"]]).set_index("index")
    return judged, table.drop(judged.index)


def sparser_than_l1(table):
    """At the share of small weights that ℓ0 reaches, its test accuracy minus that of ℓ1, interpolated over its α.

    Judged at the strength at which `sparse_in_training` judges; the others stand beside it.
    """
    taken, rest = _strengths_taken(table, SMALL_SHARE)
    weak = table[(table["penalty"] == "ℓ1") & table["l1"].notna()]  # without that of P2.1, of another experiment
    verdicts, words, others = [], [], []
    for name in ("ℓ0", METHOD):
        judged = taken[taken["penalty"] == name]
        found = _over_l1(judged, weak)
        enough(found)
        verdicts.append(REPRODUCED if found.low > 0 else NOT if found.high < 0 else INCONCLUSIVE)
        words.append(f"{name}{_at(judged)} {found.points()} ({found.n} seeds, {seen([found])})")
        for _, group in rest[rest["penalty"] == name].groupby("l0", dropna=False):
            with contextlib.suppress(Lacking):
                others.append(f"{name}{_at(group)} {_over_l1(group, weak).points()}")
    strengths = ", ".join(f"{a:g}" for a in sorted(set(weak["l1"])))
    lead = f"test accuracy in points, minus that of ℓ1 (α {strengths}) at the same share of weights below 0.001"
    words += [f"not judged: {', '.join(others)}"] * bool(others)
    return of_all(verdicts), "; ".join([lead, *words])


def _over_l1(table, weak):
    """The `Difference` of test accuracies of a penalty and of ℓ1 at as many small weights; Lacking: ℓ1 has no such."""
    found, across = [], 0
    for seed, ours in table.groupby("seed"):
        theirs = weak[weak["seed"] == seed].sort_values("sparsity_1e-3")
        share = ours["sparsity_1e-3"].iloc[0]
        if theirs.empty or not theirs["sparsity_1e-3"].min() <= share <= theirs["sparsity_1e-3"].max():
            needed = f"the share of {ours['penalty'].iloc[0]}, {100 * share:.1f} %, needs"
            raise Lacking(f"ℓ1 at weaker and at stronger α than {needed}")
        at_share = np.interp(share, theirs["sparsity_1e-3"], theirs["test_accuracy"])
        found.append(ours["test_accuracy"].iloc[0] - at_share)
        across += "device" in ours and set(ours["device"]) != set(theirs["device"])
    return interval(found)._replace(across=across)


def _at(lines):
    """The α_ℓ0 of the lines, where their case names it."""
    strength = lines["l0"].iloc[0]
    return "" if pd.isna(strength) else f" at α_ℓ0 {strength:g}"


def small_network(group, plain, margin=MNIST, choosing=CHOOSING):
    """What P2.2 asks of one network: `effective` of the chains of a penalty against the plain dense one, and its costs.

    choosing: the seed that chose the coefficients and is not judged by.
    """
    judged = by_ratio(group[group["seed"] != choosing], "gradual", "tuned")
    found = costs(judged, plain[plain["stage"] == "dense"])
    return *effective(found, margin), found


def effective_when_small(table, margin=MNIST, choosing=CHOOSING):
    """P2.2: for each network the largest compression at which it errs hardly more, by `small_network`."""
    plain, networks, verdicts, words = by_network(table, "none"), by_network(table), [], []
    if len(networks) < NETWORKS:
        raise Lacking(f"{NETWORKS} networks and data sets")
    if missing := networks.keys() - plain.keys():  # its runs have diverged
        raise Lacking(f"{min(missing)} without a penalty")
    for name, group in networks.items():
        verdict, best, found = small_network(group, plain[name], margin, choosing)
        verdicts.append(verdict)
        upto = f"largest effective compression {best:g}×" if best > 1 else "shown to be effective nowhere"
        words.append(f"{name}: {upto} ({_listed(found)})")
    return of_all(verdicts), "test error in points, pruned − plain dense, 95 % interval; " + "; ".join(words)


def effective_at_equal_epochs(table, *, network=None, floor=0.0):
    """P2's second claim for one deep network, against the one that is never cut and trained for as many epochs."""
    kept = table[table["penalty"] == METHOD] if "penalty" in table else table.iloc[:0]
    never = by_ratio(kept, "longer", "tuned")
    if "setting" in kept:
        kept = kept[kept["setting"].isin(set(never["setting"]))]  # what validation chose
    cut = by_ratio(kept, "gradual", "tuned")
    if cut.empty or never.empty:
        raise Lacking("the method itself, and the network that is never cut")
    dense = kept[kept["stage"] == "dense"]["test_accuracy"].mean()
    found = by_compression((accuracy(never) - accuracy(cut)).dropna())
    seeds = min(cost.n for cost in found.values())
    evidence = f"dense {100 * dense:.2f} %, {seeds} {'seed' if seeds == 1 else 'seeds'}; error in points, pruned − "
    evidence += f"never cut: {_listed(found)}"
    if seeds < SEEDS:
        return NOT_JUDGED, evidence
    other = network and set(kept["units"]) != {sum(models.widths(network))}
    return NOT_AS_STATED if other or dense < floor else effective(found, DEEP_MARGIN)[0], evidence


def less_overfitting(table, least=MNIST):
    """P2's third claim: gap between training and test accuracy, and test accuracy, with ℓ2 and without, by size."""
    table = table[table["stage"] == "dense"]
    table = table.assign(gap=table["train_accuracy"] - table["test_accuracy"])
    smaller, better, left, strengths = {}, {}, {}, {}
    for examples, group in table.groupby("examples", sort=True):
        need(group, "l2", 0.0)
        with_l2 = chosen(group[group["l2"] > 0], case=["examples"], among=["l2"], score="validation_accuracy", seeds=99)
        both = pd.concat([group[group["l2"] == 0].assign(side="ℓ0"), with_l2.assign(side=METHOD)])
        sides = {"by": "side", "of": METHOD, "against": "ℓ0"}
        gap = paired(both, "gap", **sides)
        smaller[examples] = gap._replace(mean=-gap.mean, low=-gap.high, high=-gap.low)
        better[examples] = paired(both, "test_accuracy", **sides)
        left[examples] = group[group["l2"] == 0]["train_accuracy"].mean()
        strengths[examples] = with_l2["l2"].iloc[0]
    enough(*smaller.values())
    gaps, gains = holm(list(smaller.values())), holm(list(better.values()))
    both = sum(gap == gain == 1 for gap, gain in zip(gaps, gains, strict=True))
    words = [
        f"{n:,} images (training accuracy without ℓ2 {100 * left[n]:.2f} %, α_ℓ2 {strengths[n]:g}): gap smaller by "
        f"{smaller[n].points()}, test {better[n].points()}"
        for n in smaller
    ]
    worse = gaps.count(-1) + gains.count(-1) > gaps.count(1) + gains.count(1)
    nothing = all(gain.high < least for gain in better.values())
    if both or all(gap == 1 for gap in gaps):
        verdict = REPRODUCED if both >= 2 else PARTLY
    else:
        verdict = NOT if worse or nothing else INCONCLUSIVE
    return verdict, "points of accuracy, with ℓ2 − without; " + "; ".join(words)


def published_frontier():
    """The published points: network, method, compression, test error in %, source."""
    return pd.read_csv(settings.ROOT / "data" / "published" / "p2_frontier.csv", comment="#")


def better_tuned(table, mode="one-shot"):
    """P2's fourth claim: the error before fine-tuning minus the one after, wherever the cut costs something."""
    gains, words = [], []
    for name, group in by_network(table).items():
        before, after = (by_ratio(group, mode, state) for state in ("cut", "tuned"))
        cost, gain = costs(before, group[group["stage"] == "dense"]), by_compression(accuracy(after) - accuracy(before))
        enough(*gain.values())
        counted = {ratio: difference for ratio, difference in gain.items() if cost[ratio].low > 0}
        gains += counted.values()
        free = _listed({ratio: cost[ratio] for ratio in gain if ratio not in counted})
        uncounted = f" (left out, a loss by the cut is not certain; points lost by it: {free})" if free else ""
        words.append(f"{name} {_listed(counted)}{uncounted}")
    if not gains:
        raise Lacking("a cut that loses accuracy")
    helped = [difference.low > 0 for difference in gains]
    verdict = graded(all(helped), sum(helped) >= len(helped) / 2)
    return verdict, "points gained by fine-tuning, 95 % interval; " + "; ".join(words)


def tuned_beyond_norms(table):
    """P2's fourth claim with batch norms: the same, and what fine-tuning gains beyond new statistics."""
    kept = table[table["chain"] == "norms"]
    if kept.empty:
        raise Lacking("chains in which the batch norms are recalibrated after a cut")
    cut, new, tuned = (accuracy(by_ratio(kept, "gradual", state)) for state in ("cut", "recalibrated", "tuned"))
    norms, gains = by_compression(new - cut), by_compression(tuned - new)
    enough(*gains.values())
    helped = [gain.low > 0 for gain in gains.values()]
    short = graded(all(helped), any(helped))
    verdict, words = better_tuned(table[table["chain"] == "main"], mode="gradual")
    told = f"short chains, new statistics of the norms alone {_listed(norms)}; fine-tuning beyond them {_listed(gains)}"
    return of_all([verdict, short]), f"{words}; {told}"

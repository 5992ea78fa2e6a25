"""What P3's claims are judged by, stochastic weight pruning and the nodes that fall with it (arXiv 2012.03827)."""

import pandas as pd

from companion.claims.rules import (
    INCONCLUSIVE,
    NOT,
    NOT_AS_STATED,
    NOT_JUDGED,
    PARTLY,
    REPRODUCED,
    SEEDS,
    Difference,
    Lacking,
    enough,
    graded,
    held,
    holm,
    interval,
    need,
    of_all,
    paired,
    seen,
    tally,
)
from lib import models
from lib.dynamics import independent

EQUALLY_PRUNED, BEYOND = 0.01, 0.1
SHORT = 0.1  # of a share of units: what is partly reached
FULL_WIDTHS = {"vgg16"}  # the claim is about a network of published widths


def removed(table):
    """Share of the units that are gone: `alive` counts them by layer, `units` is how many there were."""
    return 1 - table["alive"].map(sum) / table["units"]


def against_none(table, value):
    """{"L1 q=1": the paired `Difference` L1 − none of a column}, for L1 and L2 and each q."""
    return {
        f"{penalty} q={q}": paired(group, value, by="penalty", of=penalty, against="none")
        for q, group in table.groupby("q")
        for penalty in ("L1", "L2")
    }


def _listed(found):
    return "; ".join(f"{name} {difference.points(1)}" for name, difference in found.items())


def _in_all(found, side):
    """The verdict on differences that are to lie on one side of 0, in every case."""
    sides = holm(list(found.values()))
    verdict = graded(sides.count(side) == len(sides), side in sides and -side not in sides)
    return verdict if any(sides) else INCONCLUSIVE


def more_nodes(table):
    """P3.1: removed nodes with a regularizer against none, at the same share of pruned weights."""
    found = against_none(table.assign(removed=removed(table)), "removed")
    enough(*found.values())
    unequal = max(abs(difference.mean) for difference in against_none(table, "sparsity").values())
    verdict = NOT_AS_STATED if unequal > EQUALLY_PRUNED else _in_all(found, 1)
    evidence = f"removed nodes in points, against none, 95 % interval; {_listed(found)}; {seen(found.values())}"
    return verdict, f"{evidence}; pruned weights differ by at most {100 * unequal:.2f} points"


def with_orphans(table):
    """The table with the share of orphans among the nodes whose outgoing weights went first."""
    last = table["dynamics"]
    went = last.map(lambda d: sum(d["removed_outgoing"]))
    return table.assign(orphans=last.map(lambda d: sum(d["orphans"])) / went.clip(lower=1))


def fewer_orphans(table):
    """The mechanism: of the nodes whose outgoing weights went first, the share that keeps incoming ones."""
    table = with_orphans(table)
    found = against_none(table, "orphans")
    enough(*found.values())
    return _in_all(found, -1), f"orphans among them in points, against none, 95 % interval; {_listed(found)}"


def beyond_independent(table, reference=independent):
    """By penalty and q: removed nodes beyond what independent zeros would remove."""
    gone = [reference(d["pruned"], sizes) for d, sizes in zip(table["dynamics"], table["sizes"], strict=True)]
    return table.assign(beyond=removed(table) - gone).groupby(["penalty", "q"])["beyond"]


def more_than_independent(table, reference=independent):
    """Weight and node pruning depend on each other: removed nodes beyond what independent zeros would remove."""
    for _, group in table.groupby("q"):
        need(group, "penalty", "L1", "L2")
    found = {key: interval(beyond) for key, beyond in beyond_independent(table, reference)}
    judged, plain = (
        {f"{p} q={q}": d for (p, q), d in found.items() if (p == "none") == which} for which in (False, True)
    )
    enough(*judged.values())
    verdict = of_all({1: REPRODUCED, -1: NOT, 0: INCONCLUSIVE}[held(beyond, -BEYOND)] for beyond in judged.values())
    words = f"removed nodes beyond independent zeros, in points, 95 % interval; {_listed(judged)}"
    return verdict, words + f"; without a regularizer, not judged: {_listed(plain)}" * bool(plain)


def pruned_and_dense(table):
    """The stages that P3's claims compare: the dense network, and the one pruned with L2 and tuned."""
    table = at_best_lam(table)
    return table[(table["stage"] == "dense") | ((table["stage"] == "stochastic") & (table["penalty"] == "L2"))]


def at_best_lam(table):
    """The table without the dense runs whose λ nobody chose, where a network has some at one that validation chose."""
    dense = table["stage"] == "dense"
    chosen = dense & table["lam"].notna() if "lam" in table else ~dense & dense
    return table[~(dense & ~chosen & table["network"].isin(table.loc[chosen, "network"]))]


def taken(table, *, share, score="validation_accuracy"):
    """The index of the line with the best score of those that have `removed` at least a share of the units.

    Where none has, of the one that has removed most.
    """
    enough = table[table["removed"] >= share]
    return (table["removed"] if enough.empty else enough[score]).idxmax()


def preferred(pruned, share):
    """The runs at one setting, λ and target: the one `taken` by the means over its seeds."""
    means = pruned.assign(removed=removed(pruned)).groupby(["lam", "target"], sort=False)
    lam, target = taken(means[["removed", "validation_accuracy"]].mean(), share=share)
    return pruned[(pruned["lam"] == lam) & (pruned["target"] == target)]


def verdict_of(gone, share, kept):
    """One network: the share of units gone, the share wanted, and per score what `held` says."""
    if gone < share - SHORT or -1 in kept:
        return NOT
    if 0 in kept:
        return INCONCLUSIVE
    return REPRODUCED if gone >= share else PARTLY


def by_seed(group, score):
    """The `Difference` stochastic − dense of a score, paired by seed."""
    return paired(group, score, by="stage", of="stochastic", against="dense")


def application(table, *, share, margins, difference=by_seed, seeds=SEEDS):
    """Half or more of the units gone at almost the dense score, for every network: stage stochastic, L2, against dense.

    margins: score → what may be lost; see `verdict_of`. difference: takes the runs of a network and a score. seeds: how
    many are needed.
    """
    table = pruned_and_dense(table)
    verdicts, words = [], []
    for network, group in table.groupby("network", sort=False):
        gone = removed(group)[group["stage"] == "stochastic"].mean()
        found = {score: difference(group, score) for score in margins}
        enough(*found.values(), seeds=seeds)
        verdict = verdict_of(gone, share, [held(found[score], margin) for score, margin in margins.items()])
        if network in FULL_WIDTHS and set(group["units"]) != {sum(models.widths(network))}:
            verdict = NOT_AS_STATED
        verdicts.append(verdict)
        scores = ", ".join(f"{score.removeprefix('test_')} {d.points()}" for score, d in found.items())
        n = next(iter(found.values())).n
        words.append(f"{network} {verdict}: {100 * gone:.1f} % removed, {scores} ({n} seeds, {seen(found.values())})")
    verdict = NOT_AS_STATED if NOT_AS_STATED in verdicts else of_all(verdicts)
    return verdict, "stochastic − dense in points, 95 % interval; " + "; ".join(words)


def only_slightly_less(table, *, margins):
    """P3.9: weight-pruned networks against dense ones, and against the smallest weights cut at once.

    margins: network → what it may lose.
    """
    verdicts, words = [], []
    for network, group in at_best_lam(table).groupby("network", sort=False):
        score = next(s for s in ("test_accuracy", "test_dice") if s in group and group[s].notna().any())
        l2 = group[(group["stage"] == "stochastic") & (group["penalty"] == "L2")]
        found = {}
        for other in ("dense", "magnitude"):
            pair = pd.concat([l2, group[group["stage"] == other]])
            found[other] = paired(pair, score, by="stage", of="stochastic", against=other)
        enough(found["dense"])
        kept = held(found["dense"], margins[network])
        verdicts.append({1: REPRODUCED, -1: NOT, 0: INCONCLUSIVE}[kept])
        each = ", ".join(f"− {other} {difference.points()}" for other, difference in found.items())
        words.append(f"{network} {verdicts[-1]}: {100 * l2['sparsity'].mean():.1f} % of the weights pruned, {each}")
    return of_all(verdicts), "accuracy or Dice in points, stochastic with L2, 95 % interval; " + "; ".join(words)


def sampling(table, *, gains, equally=EQUALLY_PRUNED):
    """Sampled zeros against the smallest weights, with L2, the same schedule and share: nodes, and accuracy or Dice.

    gains: measure → the smallest gain of interest. equally: by how much the shares of pruned weights may differ.
    """
    table = table.assign(removed=removed(table))
    table = as_many(table[table["stage"].isin(["stochastic", "no sampling"]) & (table["penalty"] == "L2")])
    unequal = table.groupby(["network", "stage"])["sparsity"].mean().unstack().diff(axis=1).abs().max().max()
    found = {
        (network, measure): paired(group, measure, by="stage", of="stochastic", against="no sampling")
        for network, group in table.groupby("network", sort=False)
        for measure in gains
        if measure in group and group[measure].notna().all()
    }
    enough(*found.values())
    scaled = [
        Difference(*(value / gains[measure] for value in difference[:3]), difference.n)
        for (_, measure), difference in found.items()
    ]
    words = (
        f"{network} {measure.removeprefix('test_')} {difference.points()} ({difference.n} seeds)"
        for (network, measure), difference in found.items()
    )
    verdict = NOT_AS_STATED if unequal > equally else tally(holm(scaled), scaled, 1)
    evidence = "sampled − smallest in points, 95 % interval; " + "; ".join(words)
    return verdict, f"{evidence}; pruned weights differ by at most {100 * unequal:.2f} points"


def as_many(table):
    """Of several runs without sampling of one network and seed the one that pruned the most similar share."""
    shares = table[table["stage"] == "stochastic"].set_index(["network", "seed"])["sparsity"]
    beside = shares.reindex(pd.MultiIndex.from_frame(table[["network", "seed"]])).to_numpy()
    nearest = table.assign(apart=(table["sparsity"] - beside).abs()).sort_values("apart", kind="stable")
    return table.loc[nearest.drop_duplicates(["network", "seed", "stage"]).sort_index().index]


def full_size(table, *, share, margin, floor):
    """The same for one network at its published widths, with what three seeds cannot tell said as such."""
    pair = pruned_and_dense(table)
    if not {"dense", "stochastic"} <= set(pair["stage"]):
        raise Lacking("the dense network, or the pruned one")
    dense, pruned = (pair[pair["stage"] == stage] for stage in ("dense", "stochastic"))
    pruned = preferred(pruned, share)
    pair = pd.concat([dense, pruned])
    gone, level = removed(pruned).mean(), dense[dense["seed"].isin(pruned["seed"])]["test_accuracy"].mean()
    found = by_seed(pair, "test_accuracy")
    evidence = f"{100 * gone:.1f} % removed, dense {100 * level:.2f} %, stochastic − dense {found.points()} points"
    verdict, why = verdict_of(gone, share, [held(found, margin)]), f"; {seen([found])}" if found.n > 1 else ""
    if found.n < SEEDS:
        verdict, why = NOT_JUDGED, f"; {SEEDS} seeds are needed"
    elif set(pair["units"]) != {sum(models.widths(pair["network"].iloc[0]))}:
        verdict, why = NOT_AS_STATED, "; not its published widths"
    elif level < floor:
        verdict, why = NOT_AS_STATED, f"; dense is short of {100 * floor:g} %"
    return verdict, f"{evidence} ({found.n} {'seed' if found.n == 1 else 'seeds'}{why})"

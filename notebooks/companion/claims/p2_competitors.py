"""How P2's fifth claim is judged: ℓ0 + ℓ2 beside published points, competitors trained here and other penalties."""

import pandas as pd

from companion.claims.p2 import METHOD, accuracy, by_network, by_ratio, published_frontier
from companion.claims.rules import INCONCLUSIVE, Lacking, enough, graded, holm, interval, sided

SIMILAR = 0.97  # of the other's compression: 56× is held against 57.2×
PIPELINES = {METHOD: METHOD, "ℓ1": "ℓ1", "ℓ2": "ℓ2", "none": "no penalty"}


def compares_well(table, similar=SIMILAR):
    """P2's fifth claim: the error against that of every competitor at the same compression."""
    found = dict(comparisons(table, similar=similar))
    if not len(_compared(table)):
        raise Lacking("competitors trained here")
    enough(*found.values())
    sides, words = sided(found, "lost", "won")
    won, lost = sides.count(-1), sides.count(1)
    verdict = graded(not lost and won >= len(found) / 2, won > lost)
    verdict = INCONCLUSIVE if won == lost == 0 else verdict
    lower, higher = sum(d.high < 0 for d in found.values()), sum(d.low > 0 for d in found.values())
    if "ℓ1" in set(table["penalty"]):
        sides = holm([d for _, d in comparisons(table, "ℓ1", similar)])
        words.append(f"ℓ1 in the place of {METHOD}: {sides.count(-1)} won, {sides.count(1)} lost of {len(sides)}")
    lead = f"error in points, ours − theirs: {won} won, {lost} lost of {len(found)} "
    lead += f"({lower} and {higher} if each stood alone)"
    return verdict, "; ".join([lead, *words])


def comparisons(table, of=METHOD, similar=SIMILAR):
    """(competitor, `Difference` of errors): published points, those trained here, other penalties in the same chain.

    of: the penalty whose chains are compared with all of these; similar: the share of the other's compression that it
    has to reach.
    """
    mine = {name: by_ratio(group, "gradual", "tuned") for name, group in by_network(table, of).items()}
    published = published_frontier()
    published = published[published["compression"] > 1]
    for point in published.itertuples():
        stages = mine.get(f"{point.network} on MNIST", pd.DataFrame())
        if len(stages) and stages["ratio"].max() >= similar * point.compression:
            ours = error_at(stages, point.compression, similar)
            where = f"({point.network}, {ours.name})"
            yield f"{point.method} {point.compression:g}× {where}", interval(ours - point.error / 100)
    for (net, data, method), group in _compared(table):
        tried = group.groupby("setting")["seed"].transform("nunique")  # the tuning log has one seed of each setting
        group = group[tried == tried.max()]
        compression = 1 / (1 - group["sparsity"].mean())
        theirs = 1 - group.set_index("seed")["test_accuracy"]
        stages = mine.get(f"{net} on {data}", pd.DataFrame())
        if len(stages) and stages["ratio"].max() >= similar * compression:
            ours = error_at(stages, compression, similar)
            yield f"{method} {compression:.0f}× (trained here, {ours.name})", interval(ours - theirs)
    most = published.groupby("network")["compression"].max()
    for penalty, name in PIPELINES.items():
        there = penalty != of and penalty in set(table["penalty"])
        for network, group in (by_network(table, penalty) if there else {}).items():
            theirs = accuracy(by_ratio(group, "gradual", "tuned"))
            better = (theirs - accuracy(mine[network])).dropna() if network in mine else theirs.iloc[:0]
            within = better[better.index.get_level_values("ratio") <= most.get(network.partition(" on ")[0], 0)]
            if len(within):
                yield f"{name} in the same chain ({network})", interval(within.groupby("seed").mean())


def _compared(table):
    """The stages of competitors that are held against ours, by network, data set and method."""
    stages = table[table["stage"] == "compared"]
    return stages.groupby(["net", "data", "method"], sort=True) if "method" in table else ()


def error_at(stages, compression, similar=SIMILAR):
    """Test error by seed at the smallest compression that (nearly) reaches the given one, or the largest: its name."""
    ratios = stages["ratio"]
    ratio = ratios[ratios >= similar * compression].min()
    ratio = ratios.max() if pd.isna(ratio) else ratio
    return (1 - stages[ratios == ratio].set_index("seed")["test_accuracy"]).rename(f"ours {ratio:g}×")

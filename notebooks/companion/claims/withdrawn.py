"""Rules that were in force when their runs were made and are no longer; `amendments` shows what they say."""

from companion.claims import p2, p2_competitors, p3
from companion.claims.companion import by_precision
from companion.claims.p1 import SETTINGS, by_relabelling, down_to_none, gains, improves, over_full, partial_ratios
from companion.claims.p1_structure import ONE_IN, SETTLED, survivors
from companion.claims.rules import NOT, NOT_AS_STATED, PARTLY, REPRODUCED, alike, chosen, graded, of_all, paired

GRIDS = {  # what is trained: the weakest λ of its grid then, how settings are chosen, what is judged
    "fits": (3e-5, {"score": "validation_rmse", "smallest": True}, {"score": "rmse", "overlap": 1 / 9}),
    "classified": (1e-5, {"score": "validation_accuracy"}, {"score": "accuracy"}),
}


def _in_all(right, wrong):
    """Right in every case; partly: in one, and wrong in none."""
    return graded(all(right), any(right) and not any(wrong))


def _within(found, margin):
    """All intervals within a margin; partly: one."""
    inside = [alike(difference, margin) == REPRODUCED for difference in found.values()]
    return graded(all(inside), any(inside))


def _first_session(table):
    """The timings of the one session that older rules knew."""
    return table[table["seed"] == table["seed"].min()]


def faster_partial(table):
    """Faster in at least 3 of GL and SGL × autograd and closed; partly: in 1 or 2."""
    table, wins = _first_session(table), 0
    table = table[table.penalty.isin(["GL", "SGL"]) & table.form.isin(["autograd", "closed"])]
    for _, group in table.groupby(["penalty", "form"]):
        wins += over_full(group, "partial").median() < 0.99
    return graded(wins >= 3, wins)


def faster_in_almost_all(table):
    """Faster in at least 90 % of the cases of both forms together, penalty and step apart; partly: one of the two."""
    ratios = partial_ratios(_first_session(table))
    shares = [(group["ratio"] < 0.99).mean() >= 0.9 for _, group in ratios.groupby("what")]
    return graded(all(shares), any(shares))


def better_partial(table):
    """The uncorrected interval above 0 in all 4 of GL and SGL × train and test; partly: in 1, and below 0 in none."""
    lines = gains(table[table["version"] == "ours"].assign(data="MNIST"), score="accuracy")
    return _in_all(lines["better"], lines["worse"])


def _on_old_grid(table, kind, to_none=False):
    """The runs that there were at the settings that were chosen of them, and what is judged of them."""
    floor, choice, judged = GRIDS[kind]
    table = table[(table["penalty"] == "none") | (table["lam"] >= floor)]
    return chosen(down_to_none(table) if to_none else table, **SETTINGS, **choice), judged


def by_any_gain(table, *, kind, to_none=False, least=0):
    """The rule as it stands, for a gain of at least `least`, on the grid of before; to_none: it ended at λ = 0."""
    table, judged = _on_old_grid(table, kind, to_none)
    return improves(table, **judged, relative=kind == "fits", least=least)[0]


def by_case(table, *, kind):
    """Set, penalty and part are a case, uncorrected: better in more than half and worse in none; partly: more."""
    table, judged = _on_old_grid(table, kind)
    lines = gains(table, **judged, sign=-1 if kind == "fits" else 1)
    better, worse = lines["better"].sum(), lines["worse"].sum()
    return graded(better > len(lines) / 2 and not worse, better > worse)


def relabelled(table):
    """Hidden units and inputs in one claim, judged at the inputs: within 0.3 points for both extents; partly: one."""
    return _within(by_relabelling(table), 0.003)


def relabelled_with_full(table):
    """The rule as it stands, for partial and for full: within for both; partly: for one; not: beyond for one."""
    return of_all(alike(difference, 0.003) for difference in by_relabelling(table).values())


def sparse_in_training(table):
    """At least 80 % of the weights small, and the interval above −0.5 points, for both; partly: for one; else not."""
    verdict = p2.sparse_in_training(table, share=0.8, margin=0.005, costly=(NOT, NOT))[0]
    return graded(verdict == REPRODUCED, verdict == PARTLY)


def structure(table, penalised=False, longer=False):
    """As the next one, without runs of more steps; all units are counted, also those that partial leaves free."""
    from scipy import stats  # a second to import

    table = table.assign(survivors=survivors(table, penalised=penalised))
    few = table["steps"] == table.groupby("data")["steps"].transform("min")
    table, more = table[few], table[~few]
    low, high = sorted(set(table["width"]))[-2:]
    settled, depends = [], []
    for _, group in table.groupby("penalty"):
        means = group.groupby(["data", "width"])["survivors"].mean().unstack()
        settled += [*(means[high] / means[low]).between(1 / SETTLED, SETTLED)]
        last = [lines["survivors"] for _, lines in group[group["width"] == high].groupby("data")]
        depends.append(stats.f_oneway(*last).pvalue < ONE_IN)
    by = ["penalty", "data", "width"]
    left = (more.groupby(by)["survivors"].mean() / table.groupby(by)["survivors"].mean()).dropna()
    if longer and not left.between(1 / SETTLED, SETTLED).all():
        return NOT_AS_STATED
    return graded(all(settled) and all(depends), sum(settled) >= len(settled) / 2 and any(depends))


def _largest(group, margin):
    """The largest compression at which the error is within a margin of the same penalty's dense network."""
    stages, dense = p2.by_ratio(group, "gradual", "tuned"), group[group["stage"] == "dense"]
    return p2.effective(p2.costs(stages, dense), margin)[1]


def effective_when_small(table):
    """Within 0.5 points of the dense network *with the same penalty* at 20× for all three networks; partly: for one."""
    best = [_largest(group, 0.005) for group in p2.by_network(table).values()]
    wins = sum(ratio >= 20 for ratio in best)
    return graded(wins == len(best) >= 3, wins)


def effective_when_deep(table):
    """Within 1 point of the dense network that had fewer epochs, at 20×; partly: at 10×."""
    (group,) = p2.by_network(table).values()
    tuned = p2.by_ratio(group, "gradual", "tuned")
    last = tuned[tuned["ratio"] == tuned["ratio"].max()]
    best = chosen(last, case=["net", "data"], among=["setting"], score="validation_accuracy")["setting"].iloc[0]
    ratio = _largest(group[group["setting"] == best], 0.01)
    return graded(ratio >= 20, ratio >= 10)


def better_tuned(table, mode="one-shot"):
    """Fine-tuning gains at every compression, also where the cut loses nothing; partly: at half of them."""
    helped = []
    for group in p2.by_network(table).values():
        before, after = (p2.accuracy(p2.by_ratio(group, mode, state)) for state in ("cut", "tuned"))
        helped += [gain.low > 0 for gain in p2.by_compression(after - before).values()]
    return graded(all(helped), sum(helped) >= len(helped) / 2)


def compares_well(table):
    """Published points and the competitors trained here, uncorrected: none lost and half won; partly: more won."""
    found = p2_competitors.comparisons(table, similar=0.98)
    found = [difference for name, difference in found if "same chain" not in name]
    won, lost = sum(d.high < 0 for d in found), sum(d.low > 0 for d in found)
    return graded(not lost and won >= len(found) / 2, won > lost)


def application(table, *, share, margins):
    """The mean within the margin and the interval within twice it; partly: the mean within twice; else not."""
    table = p3.pruned_and_dense(table)
    full, near = [], []
    for _, group in table.groupby("network", sort=False):
        gone = p3.removed(group)[group["stage"] == "stochastic"].mean()
        found = [(p3.by_seed(group, score), margin) for score, margin in margins.items()]
        full.append(gone >= share and all(d.mean >= -m and d.low >= -2 * m for d, m in found))
        near.append(gone >= share - 0.1 and all(d.mean >= -2 * m for d, m in found))
    return graded(all(full), all(near) or any(full))


def sampling_at_the_target(table, **rule):
    """The rule as it stands, each network without sampling at sampling's target, whatever share sampling pruned."""
    table = table[table["penalty"] == "L2"]
    targets = table[table["stage"] == "stochastic"].groupby("network")["target"].first()
    at_it = (table["stage"] != "no sampling") | (table["target"] == table["network"].map(targets))
    return p3.sampling(table[at_it], equally=1, **rule)[0]


def by_half_width(table, **rule):
    """The rule as it stands, at λ = 3e-3, which the runs at half of the widths had chosen."""
    return p3.full_size(table[~(table["lam"] < 3e-3)], **rule)[0]


def floor_first(table, *, floor, **rule):
    """The rule as it stands, but not tested as stated wherever dense, of all its seeds, falls short of the floor."""
    level = table[table["stage"] == "dense"]["test_accuracy"].mean()
    return NOT_AS_STATED if level < floor else p3.full_size(table, floor=floor, **rule)[0]


def less_overfitting(table):
    """The gap smaller everywhere and the accuracy higher somewhere, at the strengths of the chains; partly: at half."""
    table = table[(table["stage"] == "dense") & table["chain"].isin(["main", "subset"])]
    table = table.assign(gap=table["train_accuracy"] - table["test_accuracy"])
    smaller, better = [], []
    for _, group in table.groupby(["net", "data", "examples"], sort=True):
        if {"ℓ0", p2.METHOD} <= set(group["penalty"]):
            sides = {"by": "penalty", "of": p2.METHOD, "against": "ℓ0"}
            smaller.append(paired(group, "gap", **sides).high < 0)
            better.append(paired(group, "test_accuracy", **sides).low > 0)
    return graded(all(smaller) and any(better), sum(smaller) >= len(smaller) / 2)


def _against_none(table, value, sign):
    """The verdict on a regularizer's effect in one direction, by the uncorrected interval of each case."""
    found = p3.against_none(table, value).values()
    above, below = [d.low > 0 for d in found], [d.high < 0 for d in found]
    return _in_all(above, below) if sign > 0 else _in_all(below, above)


def more_nodes(table):
    """The uncorrected interval above 0 in all 4 cases; partly: in 1; not: pruned weights differ by over 1 point."""
    unequal = max(abs(d.mean) for d in p3.against_none(table, "sparsity").values())
    return _against_none(table.assign(removed=p3.removed(table)), "removed", 1) if unequal <= 0.01 else NOT


def fewer_orphans(table):
    """The uncorrected interval below 0 in all 4 cases; partly: in 1 and above in none."""
    return _against_none(p3.with_orphans(table), "orphans", -1)


def _at_once(pruned, sizes):
    """Share of the hidden units whose incoming or outgoing weights independent zeros would all take."""
    sides = zip(pruned, sizes, pruned[1:], sizes[2:], sizes[1:], strict=False)
    gone = [n * (1 - (1 - before**n_in) * (1 - after**n_out)) for before, n_in, after, n_out, n in sides]
    return sum(gone) / sum(sizes[1:-1])


def more_than_independent(table):
    """The mean above 10 points for all four; partly: for some; not: for none. The zeros are those of the next rule."""
    beyond = p3.beyond_independent(table[table["penalty"] != "none"], _at_once).mean()
    return graded(all(beyond > 0.1), any(beyond > 0.1))


def more_than_at_once(table):
    """The rule as it stands, against 1 − (1 − ρ_in^n_in)(1 − ρ_out^n_out), without the nodes that fall after others."""
    return p3.more_than_independent(table, _at_once)[0]


def same_precision(table):
    """The interval within 0.1 points for both penalties; partly: for one; not reproduced: for none, however wide."""
    return _within(by_precision(table), 0.001)

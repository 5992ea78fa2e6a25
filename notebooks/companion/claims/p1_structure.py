"""What P1's fourth claim is judged by: how many units survive, by how many there were."""

from companion.claims.rules import NOT, NOT_AS_STATED, PARTLY, REPRODUCED, Lacking, enough_seeds

SETTLED, ONE_IN = 1.2, 0.01


def survivors(table, *, penalised=False):
    """How many hidden units P1 counts as alive (inputs are not counted), or those of them that are penalised."""
    counts = table["alive_1e-3"].map(lambda layers: sum(layers[1:]))
    if penalised and "alive_1e-3_free" in table:
        counts -= table["alive_1e-3_free"].map(lambda layers: sum(layers[1:]) if isinstance(layers, list) else 0)
    return counts


def structure(table, *, penalised=True):
    """P1's fourth claim: growth of the number of surviving units at the last doubling, and difference of data sets."""
    from scipy import stats  # a second to import

    table = table.assign(survivors=survivors(table, penalised=penalised), all=survivors(table))
    table, longer = _by_steps(table)
    if table["width"].nunique() < 2:
        raise Lacking("a second starting width")
    enough_seeds(table.groupby(["penalty", "data", "width"]).size().min())
    low, high = sorted(set(table["width"]))[-2:]
    growth, depends, words = {}, {}, []
    for penalty, group in table.groupby("penalty", sort=False):
        factors = {name: _growth(lines, low, high) for name, lines in group.groupby("data", sort=False)}
        growth |= {(penalty, name): factor["survivors"] for name, factor in factors.items()}
        last = [g["survivors"] for _, g in group[group["width"] == high].groupby("data")]
        depends[penalty] = len(last) > 1 and stats.f_oneway(*last).pvalue < ONE_IN
        each = ", ".join(f"{name} {_factors(factor)}" for name, factor in factors.items())
        words.append(f"{penalty}: {each}{' (data sets differ)' if depends[penalty] else ''}")
    settled = [_settled(factor) for factor in growth.values()]
    if all(settled) and all(depends.values()):
        verdict = REPRODUCED
    else:
        verdict = PARTLY if sum(settled) >= len(settled) / 2 and any(depends.values()) else NOT
    decided, told = _steps_decide(table, longer)
    lead = f"penalised units that survive, from width {high} / from {low}"
    return NOT_AS_STATED if decided else verdict, "; ".join([lead, *words, *told])


def _settled(factor):
    return 1 / SETTLED <= factor <= SETTLED


def _growth(lines, low, high):
    means = lines.groupby("width")[["survivors", "all"]].mean()
    return means.loc[high] / means.loc[low]


def _factors(factor):
    of_all_units = f" (all units × {factor['all']:.2f})" if factor["all"] != factor["survivors"] else ""
    return f"× {factor['survivors']:.2f}{of_all_units}"


def _by_steps(table):
    """The runs, and those of the same data that were trained for more steps."""
    if "steps" not in table:
        return table, table.iloc[:0]
    few = table["steps"] == table.groupby("data")["steps"].transform("min")
    return table[few], table[~few]


def _steps_decide(table, longer):
    """Whether more steps leave another number of survivors, and what they do, in words."""
    decided, words = False, []
    if longer.empty:
        return decided, words
    for (penalty, name, steps), lines in longer.groupby(["penalty", "data", "steps"], sort=False):
        same = table[(table["penalty"] == penalty) & (table["data"] == name)]
        means, before = (of.groupby("width")["survivors"].mean() for of in (lines, same))
        left = {width: means[width] / before[width] for width in means.index if width in before.index}
        decided |= not all(map(_settled, left.values()))
        each = ", ".join(f"× {factor:.2f} at width {width}" for width, factor in left.items())
        grown = _growth(lines, means.index[0], means.index[-1])
        words.append(
            f"with {steps:,} steps {penalty} on {name} leaves {each} of these survivors, and from width "
            f"{means.index[-1]} / from {means.index[0]} {_factors(grown)} ({lines['seed'].nunique()} seeds)"
        )
    return decided, words

"""What P1's fourth claim is judged by: how many units survive, by how many there were."""

import math

import numpy as np

from companion.claims.rules import INCONCLUSIVE, NOT, PARTLY, REPRODUCED, Lacking, alike, enough, interval

SETTLED, ONE_IN = 1.2, 0.01
STEPS = 25_000  # of the authors' demo; the notebook that trains says how many at quick


def survivors(table, *, penalised=False):
    """How many hidden units P1 counts as alive (inputs are not counted), or those of them that are penalised."""
    counts = table["alive_1e-3"].map(lambda layers: sum(layers[1:]))
    if penalised and "alive_1e-3_free" in table:
        counts -= table["alive_1e-3_free"].map(lambda layers: sum(layers[1:]) if isinstance(layers, list) else 0)
    return counts


def structure(table):
    """P1's fourth claim: growth of the number of surviving units at a doubling, and difference of data sets."""
    table = table.assign(survivors=survivors(table, penalised=True))
    widths = sorted(set(table["width"]))[-2:]
    if len(widths) < 2:
        raise Lacking("a second starting width")
    if table["data"].nunique() < 2:
        raise Lacking("a second data set")
    told, depends, words = [], [], []
    for penalty, group in table.groupby("penalty", sort=False):
        each = []
        for name, lines in group.groupby("data", sort=False):
            grown = _growth(lines, *widths)
            if grown is not None:
                enough(grown)
                told.append(alike(grown, math.log(SETTLED)))
            lam = f" (λ {lines['lam'].iloc[0]:g})" if "lam" in lines else ""
            units = lines.loc[lines["width"] == widths[-1], "survivors"].mean()
            each.append(f"{name}{lam} {units:.0f} units, {_factor(grown)}")
        depends.append(_depends(group[group["width"] == widths[-1]]))
        words.append(f"{penalty}: {', '.join(each)}{', data sets of one λ differ' * depends[-1]}")
    exists, not_there = told.count(REPRODUCED), told.count(NOT)
    if told and exists == len(told) and all(depends):
        verdict = REPRODUCED
    elif told and exists >= len(told) / 2 and any(depends):
        verdict = PARTLY
    else:
        verdict = NOT if not_there > len(told) / 2 else INCONCLUSIVE
    lead = f"hidden units that survive, from width {widths[1]}, and the factor from width {widths[0]}"
    return verdict, "; ".join([lead, *words])


def _depends(table):
    """Whether the numbers of survivors differ between data sets that got the same λ, by an analysis of variance."""
    from scipy import stats  # a second to import

    alike_but_for_data = [table] if "lam" not in table else [lines for _, lines in table.groupby("lam")]
    sets = [[g["survivors"] for _, g in lines.groupby("data")] for lines in alike_but_for_data]
    return any(stats.f_oneway(*numbers).pvalue < ONE_IN for numbers in sets if len(numbers) > 1)


def _growth(lines, low, high):
    """The `Difference` of the logarithms of the survivors at two widths, paired by seed; None where a run has none."""
    wide = lines.pivot(index="seed", columns="width", values="survivors")[[low, high]].dropna()
    return None if wide.empty or (wide == 0).any(axis=None) else interval(np.log(wide[high] / wide[low]))


def _factor(grown):
    if grown is None:
        return "of which a run has none"
    return "× {:.2f} [{:.2f}, {:.2f}]".format(*map(math.exp, grown[:3]))

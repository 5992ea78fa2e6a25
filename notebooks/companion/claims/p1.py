"""What P1's claims are judged by, partial regularization (arXiv 2009.01395): tables in, verdict and evidence out."""

import pandas as pd
import torch

from companion.claims.rules import (
    INCONCLUSIVE,
    MNIST,
    NOT,
    REPRODUCED,
    Lacking,
    alike,
    chosen,
    enough,
    graded,
    interval,
    need,
    of_all,
    on_two,
    paired,
    seen,
    sided,
    tally,
)
from lib import models

FASTER = 0.99  # of the time: medians of two sessions differ by about 2 %, so that each session has to agree
ALMOST_ALL = 0.9
AUTHORS_LAYOUT, TORCHS_LAYOUT = "authors'", "torch's"  # of weights in memory: (in, out), and (out, in)
AUTHORS_FORM = "autograd"  # automatic differentiation finds the penalty's gradient there
OVERLAP = 10 / 81  # of the splits of a table: a tenth is test, and a tenth of the rest validation
GAIN = 0.005  # half a point of accuracy, or half a percent of RMSE: less is no improvement to speak of


def faster_partial(table, layout=AUTHORS_LAYOUT):
    """P1's first claim from interleaved timings; a line per penalty, extent and form, `step_s` over the rounds."""
    need(table, "penalty", "GL", "SGL")
    need(table, "form", AUTHORS_FORM)
    table = _with_layouts(table[table["penalty"].isin(["GL", "SGL"])])
    need(table, "layout", layout)
    table = table[table["what"].fillna("step") == "step"] if "what" in table else table
    table = table.assign(extent=table["extent"].where(table["extent"] == "full", "partial"))
    ratios, words = {}, []
    for session, of in _by_session(table):
        for (where, form, penalty), group in of.groupby(["layout", "form", "penalty"]):
            ratios.setdefault((session, where, form), {})[penalty] = over_full(group, "partial").median()
    for (session, where, form), of in ratios.items():
        words.append(f"{session}{where} layout, {form}: " + ", ".join(f"{name} {r:.3f}" for name, r in of.items()))
    deciding = [of for (_, where, form), of in ratios.items() if (where, form) == (layout, AUTHORS_FORM)]
    wins = sum(all(of[penalty] < FASTER for of in deciding) for penalty in ("GL", "SGL"))
    verdict = graded(wins == 2, wins)
    return verdict, f"time of a step, partial / full, {_sessions(table)}; " + "; ".join(words)


def faster_in_almost_all(table, layout=AUTHORS_LAYOUT):
    """P1's first claim over situations, layout by layout and form by form: in how many cases partial is faster.

    A situation that was not timed in the layout that decides, having convolutions, counts as torch stores it.
    """
    ratios = partial_ratios(table)
    need(ratios, "layout", layout)
    need(ratios, "form", AUTHORS_FORM)
    words = []
    for session, of in _by_session(ratios):
        for (where, form), group in of.groupby(["layout", "form"], sort=False):
            counts = ", ".join(f"{what} {_faster(lines)}" for what, lines in group.groupby("what", sort=False))
            words.append(f"{session}{where} layout, {form}: {counts}")
    stored = ratios["situation"].isin(ratios[ratios["layout"] == layout]["situation"])
    deciding = ratios[(ratios["form"] == AUTHORS_FORM) & ((ratios["layout"] == layout) | ~stored)]
    cases = deciding.groupby(["situation", "what", "penalty", "beta"], sort=False)["ratio"].max().reset_index()
    for what, group in cases.groupby("what", sort=False):
        each = ", ".join(f"{name} {_faster(lines)}" for name, lines in group.groupby("situation", sort=False))
        words.append(f"what decides, in each session: {what} {_faster(group)} ({each})")
    almost_all = [(group["ratio"] < FASTER).mean() >= ALMOST_ALL for _, group in cases.groupby("what")]
    verdict = graded(all(almost_all), any(almost_all))
    return verdict, f"cases in which partial is faster than full, {_sessions(table)}; " + "; ".join(words)


def _with_layouts(table):
    """The table with the layout of the weights in every line, torch's where none is said."""
    return table.assign(layout=table["layout"].fillna(TORCHS_LAYOUT) if "layout" in table else TORCHS_LAYOUT)


def _faster(lines):
    return f"{(lines['ratio'] < FASTER).sum()} of {len(lines)}"


def _by_session(table):
    """The timings of each session (its number is a timing's seed), and what their words begin with."""
    if table["seed"].nunique() == 1:
        return [("", table)]
    return [(f"session {seed + 1}, ", group) for seed, group in table.groupby("seed")]


def _sessions(table):
    n = table["seed"].nunique()
    return f"{n} {'session' if n == 1 else 'sessions'}"


def over_full(group, extent):
    """The ratio of times, an extent / full, of every round of a session; a line of the group per extent."""
    times = group.set_index("extent")["step_s"]
    return pd.Series([p / f for p, f in zip(times[extent], times["full"], strict=True)])


def partial_ratios(table):
    """Median and quartiles over rounds of the ratio of times, partial / full: a line per case and session.

    `table` is a frame of timing records with variants named penalty / extent / form / what, extent "full" or β.
    """
    lines, table = [], _with_layouts(table[table["penalty"] != "none"])
    keys = ["situation", "what", "penalty", "form", "layout", "seed"]
    for key, group in table.groupby(keys, sort=False):
        for extent in group["extent"][group["extent"] != "full"]:
            low, ratio, high = over_full(group, extent).quantile([0.25, 0.5, 0.75])
            line = dict(zip(keys, key, strict=True))
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
            lines.append({"data": name, "penalty": penalty, "part": part} | found._asdict())
    lines = pd.DataFrame(lines).drop(columns="spread")
    above, below = lines["low"] > 0, lines["high"] < 0
    return lines.assign(better=above if sign > 0 else below, worse=below if sign > 0 else above)


def improves(table, score, *, relative=False, overlap=0.0, least=GAIN):
    """The verdict on training and on test, a case being a data set: GL and SGL, near-duplicates, count as their mean.

    relative: a gain is the share by which the score (an error) falls; else the points by which it rises. A penalty of
    which one extent was chosen to have none (λ = 0) is no case. least: what a mean must be to count as a difference;
    an accuracy of full that is nearer to 1 leaves no room for it, and the set is no case of this part.
    """
    verdicts, words, unit = [], [], "%" if relative else "points"
    table, idle = _penalised(table[table["penalty"].isin(["GL", "SGL"])])
    for part, told in {"train": "training", "test": "test"}.items():
        found, level = _gains_by_set(table, f"{part}_{score}", relative, overlap)
        enough(*found.values())
        full = [name for name in found if not relative and 1 - level[name] < least]
        cases = {name: gain for name, gain in found.items() if name not in full}
        sides, each = sided(cases, "better", "worse", least)
        of_part = tally([*sides, *[0] * (len(idle) + len(full))], cases.values(), GAIN) if cases else INCONCLUSIVE
        verdicts.append(of_part)
        each += [f"{name} {found[name].points()} (no room: full has {100 * level[name]:.2f} %)" for name in full]
        words.append(f"{told} {of_part}: {', '.join(each)} ({seen(found.values(), unit)})")
    words += [f"no case, since validation prefers no penalty for one of the two: {', '.join(idle)}"] * bool(idle)
    gain = "fall of the error in %" if relative else "accuracy in points"
    return of_all(verdicts), f"gain of partial over full, {gain}, 95 % interval; " + "; ".join(words)


def _gains_by_set(table, score, relative, overlap):
    """By data set: the `Difference` that is partial's gain over full, and the mean score of full."""
    found, level = {}, {}
    for name, group in table.groupby("data", sort=False):
        need(group, "extent", "full", "partial")
        wide = group.pivot_table(index=["seed", "penalty"], columns="extent", values=score)
        gain = 1 - wide["partial"] / wide["full"] if relative else wide["partial"] - wide["full"]
        across = max(on_two(of, "extent", "partial", "full") for _, of in group.groupby("penalty"))
        found[name] = interval(gain.groupby("seed").mean(), overlap)._replace(across=across)
        level[name] = wide["full"].mean()
    return found, level


def _penalised(table):
    """The pairs full and partial of which both have a penalty, and the data sets that have no such pair."""
    if "lam" not in table:
        return table, []
    kept = table[table.groupby(["data", "penalty"])["lam"].transform("min") > 0]
    if kept.empty:
        raise Lacking("a data set on which validation prefers a penalty to none")
    return kept, sorted(set(table["data"]) - set(kept["data"]))


SETTINGS = {"case": ["data", "penalty", "extent"], "among": ["lam", "steps"]}


def down_to_none(table):
    """The table with the runs without a penalty once more, as λ = 0 of each penalty and extent: a grid ends there."""
    plain = table[table["penalty"] == "none"]
    kinds = table[table["penalty"] != "none"][["penalty", "extent"]].drop_duplicates()
    ends = [plain.assign(penalty=penalty, extent=extent, lam=0.0) for penalty, extent in kinds.itertuples(index=False)]
    return pd.concat([table, *ends], ignore_index=True)


def better_partial(table, least=GAIN):
    """P1's second claim in the authors' demo; least: see `improves`."""
    need(table, "penalty", "GL", "SGL")
    return improves(table[table["version"] == "ours"].assign(data="MNIST"), "accuracy", least=least)


def better_fits(table, overlap=OVERLAP):
    """P1's second claim on regression tables: RMSE; λ and steps chosen on validation over the first 5 splits."""
    table = chosen(down_to_none(table), **SETTINGS, score="validation_rmse", smallest=True)
    return improves(table, "rmse", relative=True, overlap=overlap)


def better_classified(table):
    """P1's second claim on classification sets: accuracy, λ chosen on the validation part."""
    return improves(chosen(down_to_none(table), **SETTINGS, score="validation_accuracy"), "accuracy")


def chosen_cut(table):
    """The λ > 0 of every data set and extent that is best on validation after the tuning: data, extent, lam."""
    tuned = table[(table["stage"] == "tuned") & (table["lam"] > 0)]
    best = chosen(tuned, case=["data", "extent"], among=["lam"], score="validation_accuracy")
    return best[["data", "extent", "lam"]].drop_duplicates()


def generalises(table, fresh=True):
    """P1's second claim of pruned models: partial against full after cut and tuning, test accuracy and gap.

    fresh: whether seeds judge (`fresh` in their case) that had no part in the choice of λ, or those that chose it.
    """
    tuned = table[table["stage"] == "tuned"]
    tuned = tuned.assign(gap=tuned["test_accuracy"] - tuned["train_accuracy"])  # a larger one is a gain
    later = tuned.get("fresh", pd.Series(False, tuned.index)).eq(True)
    settings = chosen_cut(tuned[~later])
    if fresh and not later.any():
        raise Lacking("fresh seeds")
    best = tuned[later == fresh].merge(settings)
    found = {
        f"{name}, {measure}": paired(group, column, by="extent", of="partial", against="full")
        for name, group in best.groupby("data", sort=True)
        for measure, column in (("test accuracy", "test_accuracy"), ("gap smaller by", "gap"))
    }
    enough(*found.values())
    sides, words = sided(found, "better", "worse")
    n, cut = min(difference.n for difference in found.values()), 100 * tuned["sparsity"].mean()
    lead = f"partial against full in points, 95 % interval, {cut:.0f} % of the weights cut, {n} seeds"
    return tally(sides, found.values(), GAIN), "; ".join([lead, *words, seen(found.values())])


def relabelled_units(table):
    """The theorem behind P1's third claim, tried here: hidden units of a network in another order."""
    generator = torch.Generator().manual_seed(0)
    net = models.build("mlp", widths=[400, 300, 100], inputs=784, outputs=10).double().eval()
    images = torch.rand(64, 784, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        before = net(images)
        for first, second in (("fc1", "fc2"), ("fc2", "fc3"), ("fc3", "fc4")):
            into, out = getattr(net, first), getattr(net, second)
            order = torch.randperm(into.out_features, generator=generator)
            into.weight.copy_(into.weight[order])
            into.bias.copy_(into.bias[order])
            out.weight.copy_(out.weight[:, order])
        same = torch.allclose(net(images), before, rtol=0, atol=1e-12)
    found = "within 1e-12 of" if same else "not within 1e-12 of"
    words = f"outputs of P1's network on 64 random images, hidden units relabelled: {found} those before"
    return REPRODUCED if same else NOT, words


def by_relabelling(table):
    """By extent, full or partial: the paired `Difference` of test accuracy with relabelled inputs and in order."""
    table = table[table["beta"].isin([0, 8])]  # 0: full
    need(table, "extent", "partial")
    return {
        extent: paired(group, "test_accuracy", by="inputs", of="relabelled", against="in order")
        for extent, group in table.groupby("extent", sort=False)
    }


def relabelled(table, margin=MNIST):
    """The same where it is no theorem, at the inputs: accuracy with relabelled inputs against inputs in order.

    Partial is judged; full, where no input is free, shows what relabelling does by itself.
    """
    found = by_relabelling(table)
    enough(*found.values())
    words = "; ".join(f"{extent} {difference.points()}" for extent, difference in found.items())
    partial = found["partial"]
    words += f"; {seen([partial])}"
    return alike(partial, margin), f"test accuracy in points, relabelled − in order, {partial.n} seeds; {words}"

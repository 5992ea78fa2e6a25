"""The claims of P2, ℓ0-norm regularization and weight pruning (arXiv 2109.05075).

Stages of a pruning chain are called "dense", or by mode, compression and state, as in "gradual 56 cut".
"""

import math
from functools import partial

import pandas as pd
from scipy import special

from companion import settings
from companion.claims.rules import (
    INCONCLUSIVE,
    NOT,
    NOT_AS_STATED,
    NOT_JUDGED,
    NOT_RUN,
    PARTLY,
    REPRODUCED,
    SEEDS,
    Claim,
    chosen,
    paired,
)
from lib import models


def by_ratio(table, mode, state):
    """The stages of one mode and state, with their compression in the column `ratio`."""
    words = table["stage"].str.extract(r"^(\S+) (\S+) (\S+)$")
    table = table.assign(ratio=pd.to_numeric(words[1]))
    return table[(words[0] == mode) & (words[2] == state)]


def interval(values):
    """Mean and 95 % interval of a mean over seeds; NaN bounds for fewer than two. Returns (mean, low, high)."""
    values = pd.Series(values, dtype=float).dropna()
    if len(values) < 2:
        return values.mean(), math.nan, math.nan
    half = special.stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean(), values.mean() - half, values.mean() + half


def _main(table, penalty="ℓ0 + ℓ2"):
    """The runs of the method itself, by network and data set."""
    if not {"chain", "penalty"} <= set(table):
        return []
    kept = table[(table["chain"] == "main") & (table["penalty"] == penalty)]
    return [(f"{net} on {data}", group) for (net, data), group in kept.groupby(["net", "data"], sort=True)]


def _loss(stages, reference):
    """Test error of stages (with a `ratio`) minus that of one reference stage per seed; Series by (ratio, seed)."""
    accuracy = stages.set_index(["ratio", "seed"])["test_accuracy"]
    return reference.set_index("seed")["test_accuracy"].reindex(accuracy.index, level="seed") - accuracy


def sparse_in_training(table):
    """P2's first claim: weights below 0.001 after training, nothing pruned, and the accuracy that it costs."""
    shares = table.groupby("penalty", sort=True)["sparsity_1e-3"].mean()
    strong, costs = [], []
    for name in ("ℓ0", "ℓ0 + ℓ2"):
        mean, low, _, n = paired(table, "test_accuracy", by="penalty", of=name, against="none")
        strong.append(shares[name] >= 0.8 and low > -0.005)
        costs.append(f"{name} {100 * mean:+.2f} (from {100 * low:+.2f})")
    evidence = "weights below 0.001 in %: " + ", ".join(f"{name} {100 * share:.1f}" for name, share in shares.items())
    evidence += f"; test accuracy in points, against no penalty, {n} seeds: " + ", ".join(costs)
    return (REPRODUCED if all(strong) else PARTLY if any(strong) else NOT), evidence


def effective_when_small(table):
    """P2's second claim: the largest compression at which the error has hardly grown."""
    best = _effective(table, 0.005)
    if not best:
        return NOT_RUN, "no records of the method itself"
    wins = sum(ratio >= 20 for ratio in best.values())
    evidence = "error within 0.5 points of the dense network's up to: "
    evidence += ", ".join(f"{name} {ratio:g}×" for name, ratio in best.items())
    return (REPRODUCED if wins == len(best) >= 3 else PARTLY if wins else NOT), evidence


def effective_when_deep(table):
    """P2's second claim for one deep network, at the coefficients with the best validation accuracy in the end."""
    tuned = pd.concat([by_ratio(group, "gradual", "tuned") for _, group in _main(table)] or [pd.DataFrame()])
    if tuned.empty:
        return NOT_RUN, "no records of the method itself"
    last = tuned[tuned["ratio"] == tuned["ratio"].max()]
    best = chosen(last, case=["net", "data"], among=["setting"], score="validation_accuracy")["setting"].iloc[0]
    ((name, ratio),) = _effective(table[table["setting"] == best], 0.01).items()
    evidence = f"error within 1 point of the dense network's up to: {name} {ratio:g}× ({best})"
    return (REPRODUCED if ratio >= 20 else PARTLY if ratio >= 10 else NOT), evidence


def effective_at_equal_epochs(table, *, network, floor=0.0):
    """P2's second claim for one deep network, against the one that is never cut and trained for as many epochs."""
    kept = table[table["penalty"] == "ℓ0 + ℓ2"] if "penalty" in table else table.iloc[:0]
    cut, never = by_ratio(kept, "gradual", "tuned"), by_ratio(kept, "longer", "tuned")
    if cut.empty or never.empty:
        return NOT_RUN, "no records of the method itself, or of the network that is never cut"
    dense = kept[kept["stage"] == "dense"]["test_accuracy"].mean()
    accuracy = [stages.set_index(["ratio", "seed"])["test_accuracy"] for stages in (cut, never)]
    losses = (accuracy[1] - accuracy[0]).dropna()
    found = {ratio: interval(values) for ratio, values in losses.groupby("ratio")}
    seeds = int(losses.groupby("ratio").size().min())
    words = [
        f"{r:g}× {100 * m:+.2f}" + (f" [{100 * a:+.2f}, {100 * b:+.2f}]" * (seeds > 1))
        for r, (m, a, b) in found.items()
    ]
    evidence = f"dense {100 * dense:.2f} %; error in points, pruned − never cut: {', '.join(words)} ({seeds} seeds)"
    fine = [ratio for ratio, (_, _, high) in found.items() if high < DEEP_MARGIN]
    broken = any(low > DEEP_MARGIN for ratio, (_, low, _) in found.items() if ratio <= 10)
    if set(kept["units"]) != {sum(models.widths(network))} or dense < floor:
        return NOT_AS_STATED, evidence
    if seeds < SEEDS:
        return NOT_JUDGED, evidence
    best = max(fine, default=1)
    if best >= 10:
        return REPRODUCED if best >= 20 else PARTLY, evidence
    return NOT if broken else INCONCLUSIVE, evidence


def _effective(table, margin):
    """By network: the largest compression at which the 95 % interval of the loss of accuracy lies below the margin."""
    best = {}
    for name, group in _main(table):
        loss = _loss(by_ratio(group, "gradual", "tuned"), group[group["stage"] == "dense"])
        fine = [ratio for ratio, losses in loss.groupby("ratio") if interval(losses)[2] < margin]
        best[name] = max(fine, default=1)
    return best


def less_overfitting(table):
    """P2's third claim: the gap between training and test accuracy, with ℓ2 and without."""
    table = table[(table["stage"] == "dense") & table["chain"].isin(["main", "subset"])]
    table = table.assign(gap=table["train_accuracy"] - table["test_accuracy"])
    smaller, better, evidence = [], [], []
    for (net, data, examples), group in table.groupby(["net", "data", "examples"], sort=True):
        if not {"ℓ0", "ℓ0 + ℓ2"} <= set(group["penalty"]):
            continue
        sides = {"by": "penalty", "of": "ℓ0 + ℓ2", "against": "ℓ0"}
        gap, accuracy = paired(group, "gap", **sides), paired(group, "test_accuracy", **sides)
        smaller.append(gap[2] < 0)
        better.append(accuracy[1] > 0)
        name = f"{net} on {data}, {examples:,} examples"
        evidence.append(f"{name}: gap {100 * gap[0]:+.2f}, test {100 * accuracy[0]:+.2f}")
    if not smaller:
        return NOT_RUN, "no records with ℓ0 and with ℓ0 + ℓ2"
    verdict = REPRODUCED if all(smaller) and any(better) else PARTLY if sum(smaller) >= len(smaller) / 2 else NOT
    return verdict, "points of accuracy, ℓ0 + ℓ2 minus ℓ0: " + "; ".join(evidence)


def better_tuned(table, mode="one-shot"):
    """P2's fourth claim: the error before fine-tuning minus the one after, at every compression."""
    gains, evidence = [], []
    for name, group in _main(table):
        before, after = (by_ratio(group, mode, state) for state in ("cut", "tuned"))
        gain = (
            after.set_index(["ratio", "seed"])["test_accuracy"] - before.set_index(["ratio", "seed"])["test_accuracy"]
        )
        found = {ratio: interval(values) for ratio, values in gain.groupby("ratio")}
        gains += [low > 0 for _, low, _ in found.values()]
        evidence.append(f"{name} " + ", ".join(f"{100 * mean:.2f} at {r:g}×" for r, (mean, _, _) in found.items()))
    if not gains:
        return NOT_RUN, "no records of the method itself"
    verdict = REPRODUCED if all(gains) else PARTLY if sum(gains) >= len(gains) / 2 else NOT
    return verdict, "points gained by fine-tuning: " + "; ".join(evidence)


def published_frontier():
    """The published points: network, method, compression, test error in %, source."""
    return pd.read_csv(settings.ROOT / "data" / "published" / "p2_frontier.csv", comment="#")


def compares_well(table):
    """P2's fifth claim: the error at the first compression that is not below the other's, against the other's error."""
    won, lost, evidence = 0, 0, []
    for other, error, ours in _comparisons(table):
        mean, low, high = interval(ours - error)
        won, lost = won + (high < 0), lost + (low > 0)
        evidence.append(f"{other} {100 * mean:+.2f}")
    if not evidence:
        return NOT_RUN, "no records to compare"
    verdict = REPRODUCED if not lost and won >= len(evidence) / 2 else PARTLY if won > lost else NOT
    found = f"error in points, ours minus theirs ({won} won, {lost} lost): " + "; ".join(evidence)
    if not len(_compared(table)):  # half of what the rule is about
        return NOT_RUN, f"no records of the competitors trained here; published ones: {found}"
    return verdict, found


def _comparisons(table):
    """(name, their error, ours by seed): published points, then the competitors trained here, paired by seed."""
    mine = {name: by_ratio(group, "gradual", "tuned") for name, group in _main(table)}
    published = published_frontier()
    for point in published[published["compression"] > 1].itertuples():
        stages = mine.get(f"{point.network} on MNIST", pd.DataFrame())
        if len(stages) and stages["ratio"].max() >= point.compression:
            yield (f"{point.method} {point.compression:g}×", point.error / 100, _error_at(stages, point.compression))
    for (net, data, method), group in _compared(table):
        tried = group.groupby("setting")["seed"].transform("nunique")  # the tuning log has one seed of each setting
        group = group[tried == tried.max()]
        compression = 1 / (1 - group["sparsity"].mean())
        theirs = 1 - group.set_index("seed")["test_accuracy"]
        if (ours := mine.get(f"{net} on {data}")) is not None:
            yield f"{method} trained here {compression:.0f}×", theirs, _error_at(ours, compression)


def _compared(table):
    """The stages of competitors that are held against ours, by network, data set and method."""
    stages = table[table["stage"] == "compared"]
    return stages.groupby(["net", "data", "method"], sort=True) if "method" in table else ()


def _error_at(stages, compression):
    """Test error by seed at the smallest compression that reaches the given one, or at the largest there is."""
    ratios = stages["ratio"]
    ratio = ratios[ratios >= compression].min() if (ratios >= compression).any() else ratios.max()
    return 1 - stages[ratios == ratio].set_index("seed")["test_accuracy"]


DEEP_MARGIN = 0.01
EQUAL_EPOCHS = (
    "ℓ0 + ℓ2, pruned step by step and fine-tuned, against the same network, penalty and seed, trained for as many "
    "epochs and never cut. A compression is effective where the 95 % interval of the error, pruned − never cut, lies "
    f"below {100 * DEEP_MARGIN:g} point. Reproduced: at 20× or more; partly: at 10× or more; not reproduced: at 10× "
    f"the interval lies above {100 * DEEP_MARGIN:g}; inconclusive: otherwise; not judged: fewer than {SEEDS} seeds; "
    "not tested as stated: widths that are not the published ones{floor}. Margin and compressions are those of the "
    "quarter-width network, whose three seeds tell 0.5 points apart."
)
DEEP_RULE = (
    "ℓ0 + ℓ2, pruned step by step and fine-tuned, at the coefficients that are best on validation after the last step. "
    "A compression is effective where the 95 % interval of the test error minus that of the dense network, paired by "
    "seed, lies below 1 point. Reproduced: at 20× or more; partly: at 10× or more; not reproduced: otherwise."
)
P2_CHAINS = ("p2_lenet300_mnist", "p2_lenet300_fashion", "p2_lenet5_mnist")

CLAIMS = {
    "P2.1": Claim(
        paper="P2",
        notebook="10_l0_penalty",
        says="A regularization based on the ℓ0 norm induces strong sparseness in training.",
        where="abstract",
        experiment="p2_penalty_mnist",
        rule="LeNet-300-100 on MNIST, nothing pruned. A penalty (ℓ0, ℓ0 + ℓ2) is strong where on average at least 80 "
        "% of the weights end below 0.001 and the 95 % interval of its test accuracy minus that without a penalty, "
        "paired by seed, lies above −0.5 points. Reproduced: both are; partly: one is; not reproduced: neither.",
        judge=sparse_in_training,
    ),
    "P2.2": Claim(
        paper="P2",
        notebook="11_l0_lenet",
        says="Pruning the smaller weights then gives smaller yet highly effective networks.",
        where="abstract",
        experiment=P2_CHAINS,
        rule="ℓ0 + ℓ2, pruned step by step and fine-tuned. A compression is effective where the 95 % interval of the "
        "test error minus that of the dense network, paired by seed, lies below 0.5 points. Reproduced: at 20× or "
        "more for LeNet-300-100 on MNIST and on Fashion-MNIST and for LeNet-5 on MNIST; partly: for one of them; not "
        "reproduced: for none.",
        judge=effective_when_small,
    ),
    "P2.3": Claim(
        paper="P2",
        notebook="11_l0_lenet",
        says="ℓ2 is added to ℓ0 against overfitting.",
        where="abstract",
        experiment=("p2_lenet300_mnist", "p2_lenet300_fashion", "p2_lenet300_mnist_subsets"),
        rule="Dense networks, all training examples and small subsets. ℓ2 helps where the 95 % interval of the gap "
        "(train minus test accuracy) with ℓ0 + ℓ2 minus that with ℓ0, paired by seed, lies below 0. Reproduced: it "
        "helps everywhere and the test accuracy is higher, its interval above 0, somewhere; partly: it helps in at "
        "least half of the cases; not reproduced: otherwise.",
        judge=less_overfitting,
    ),
    "P2.4": Claim(
        paper="P2",
        notebook="11_l0_lenet",
        says="Fine-tuning improves the pruned network.",
        where="abstract",
        experiment=P2_CHAINS,
        rule="ℓ0 + ℓ2, one-shot pruning. Fine-tuning helps where the 95 % interval of the gain in test accuracy, "
        "paired by seed, lies above 0. Reproduced: at every compression of every network; partly: in at least half of "
        "the cases; not reproduced: otherwise.",
        judge=better_tuned,
    ),
    "P2.5": Claim(
        paper="P2",
        notebook="12_l0_competitors",
        says="The method compares well with competing approaches.",
        where="abstract",
        experiment=(*P2_CHAINS, "p2_competitors_mnist"),
        rule="ℓ0 + ℓ2, pruned step by step and fine-tuned, at the first compression that is not below the other's: "
        "test error minus the published one (Han 2015, SWS, DNS, sparse VD on LeNet-300-100 and LeNet-5), and minus "
        "that of the competitors trained here, paired by seed. Won (lost): the 95 % interval lies below (above) 0. "
        "Reproduced: none is lost and at least half are won; partly: more are won than lost; not reproduced: "
        "otherwise.",
        judge=compares_well,
    ),
    "P2.2 VGG-16": Claim(
        paper="P2",
        notebook="13_l0_vgg16",
        says="Pruning the smaller weights then gives smaller yet highly effective networks: VGG-16 at a quarter of its "
        "widths on CIFAR-10.",
        where="abstract; network and data set are the companion's",
        experiment="p2_vgg16_cifar10",
        rule=DEEP_RULE,
        judge=effective_when_deep,
    ),
    "P2.4 VGG-16": Claim(
        paper="P2",
        notebook="13_l0_vgg16",
        says="Fine-tuning improves the pruned network: VGG-16 at a quarter of its widths on CIFAR-10.",
        where="abstract; network and data set are the companion's",
        experiment="p2_vgg16_cifar10",
        rule="ℓ0 + ℓ2, each step of gradual pruning. Fine-tuning helps where the 95 % interval of the test accuracy "
        "after it minus that right after the cut, paired by seed, lies above 0. Reproduced: at every compression; "
        "partly: in at least half of them; not reproduced: otherwise.",
        judge=partial(better_tuned, mode="gradual"),
    ),
    "P2.2 VGG-16 full": Claim(
        paper="P2",
        notebook="14_l0_full_size",
        says="Pruning the smaller weights then gives smaller yet highly effective networks: VGG-16 at its published "
        "widths on CIFAR-10.",
        where="abstract; network and data set are the companion's",
        experiment="p2_vgg16_full",
        rule=EQUAL_EPOCHS.format(floor=", or a dense network below 92 %"),
        judge=partial(effective_at_equal_epochs, network="vgg16", floor=0.92),
    ),
    "P2 Experiment 5": Claim(
        paper="P2",
        notebook="14_l0_full_size",
        says="Pruning the smaller weights then gives smaller yet highly effective networks: ResNet-50 on CIFAR-100.",
        where="abstract; authors' code of Experiment 5",
        experiment="p2_resnet50_cifar100",
        rule=EQUAL_EPOCHS.format(floor=", or a dense network below 60 %"),
        judge=partial(effective_at_equal_epochs, network="resnet50", floor=0.6),
    ),
}

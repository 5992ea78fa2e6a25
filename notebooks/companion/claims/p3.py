"""The claims of P3, stochastic weight pruning and the nodes that fall with it (arXiv 2012.03827)."""

from functools import partial

from companion.claims.rules import (
    INCONCLUSIVE,
    NOT,
    NOT_AS_STATED,
    NOT_JUDGED,
    PARTLY,
    REPRODUCED,
    SEEDS,
    Claim,
    paired,
)
from lib import models
from lib.dynamics import independent


def removed(table):
    """Share of the units that are gone: `alive` counts them by layer, `units` is how many there were."""
    return 1 - table["alive"].map(sum) / table["units"]


def _against_none(table, value):
    """Paired differences L1 − none and L2 − none of a column, for each q: (name, mean, low, high)."""
    for q, group in table.groupby("q"):
        for penalty in ("L1", "L2"):
            found = paired(group, value, by="penalty", of=penalty, against="none")
            yield f"{penalty} q={q}", *found[:3]


def _in_points(differences):
    return "; ".join(
        f"{name} {100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]" for name, mean, low, high in differences
    )


def more_nodes(table):
    """P3's second claim: removed nodes with a regularizer against none, at the same share of pruned weights."""
    table = table.assign(removed=removed(table))
    found = list(_against_none(table, "removed"))
    unequal = max(abs(mean) for _, mean, _, _ in _against_none(table, "sparsity"))
    more, fewer = sum(low > 0 for _, _, low, _ in found), sum(high < 0 for *_, high in found)
    verdict = REPRODUCED if more == len(found) else PARTLY if more and not fewer else NOT
    verdict = verdict if unequal <= 0.01 else NOT
    evidence = (
        f"removed nodes in points, against none, 95 % interval: {_in_points(found)}; pruned weights differ by at most"
    )
    return verdict, f"{evidence} {100 * unequal:.2f} points"


def fewer_orphans(table):
    """The mechanism: of the nodes whose outgoing weights went first, the share that keeps incoming ones."""
    last = table["dynamics"]
    went = last.map(lambda d: sum(d["removed_outgoing"]))
    table = table.assign(orphans=last.map(lambda d: sum(d["orphans"])) / went.clip(lower=1))
    found = list(_against_none(table, "orphans"))
    fewer, more = sum(high < 0 for *_, high in found), sum(low > 0 for _, _, low, _ in found)
    verdict = REPRODUCED if fewer == len(found) else PARTLY if fewer and not more else NOT
    return (verdict, f"orphans among them in points, against none, 95 % interval: {_in_points(found)}")


def more_than_independent(table):
    """Weight and node pruning depend on each other: removed nodes beyond what independent zeros would remove."""
    extra = [independent(d["pruned"], sizes) for d, sizes in zip(table["dynamics"], table["sizes"], strict=True)]
    table = table.assign(beyond=removed(table) - extra)
    beyond = table[table["penalty"] != "none"].groupby(["penalty", "q"])["beyond"].mean()
    strong = int((beyond > 0.1).sum())
    words = "; ".join(f"{penalty} q={q} {100 * value:+.1f}" for (penalty, q), value in beyond.items())
    verdict = REPRODUCED if strong == len(beyond) else PARTLY if strong else NOT
    return verdict, f"removed nodes beyond independent zeros, in points: {words}"


def application(table, *, share, margins):
    """Half or more of the units gone at almost the dense score, for every network: stage stochastic, L2, against dense.

    margins: score → what may be lost; an interval's lower bound is held against twice that.
    """
    table = table[(table["stage"] == "dense") | ((table["stage"] == "stochastic") & (table["penalty"] == "L2"))]
    full, near, evidence = [], [], []
    for network, group in table.groupby("network", sort=False):
        gone = removed(group)[group["stage"] == "stochastic"].mean()
        words, kept = f"{network}: {100 * gone:.0f} % removed", []
        for score, margin in margins.items():
            mean, low, high, n = paired(group, score, by="stage", of="stochastic", against="dense")
            kept.append((mean >= -margin and low >= -2 * margin, mean >= -2 * margin))
            words += f", {score.removeprefix('test_')} {100 * mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"
        full.append(gone >= share and all(first for first, _ in kept))
        near.append(gone >= share - 0.1 and all(second for _, second in kept))
        evidence.append(f"{words} ({n} seeds)")
    verdict = REPRODUCED if all(full) else PARTLY if all(near) or any(full) else NOT
    return verdict, "stochastic − dense in points, 95 % interval: " + "; ".join(evidence)


def full_size(table, *, share, margin, floor):
    """The same for one network at its published widths, with what three seeds cannot tell said as such."""
    pair = table[(table["stage"] == "dense") | ((table["stage"] == "stochastic") & (table["penalty"] == "L2"))]
    if not {"dense", "stochastic"} <= set(pair["stage"]):
        return NOT_JUDGED, "the dense network or the pruned one has no finished run"
    dense, pruned = (pair[pair["stage"] == stage] for stage in ("dense", "stochastic"))
    gone, level = removed(pruned).mean(), dense["test_accuracy"].mean()
    mean, low, high, n = paired(pair, "test_accuracy", by="stage", of="stochastic", against="dense")
    evidence = f"{100 * gone:.1f} % removed, dense {100 * level:.2f} %, stochastic − dense {100 * mean:+.2f} points"
    evidence += f" [{100 * low:+.2f}, {100 * high:+.2f}]" if n > 1 else ""
    kept, broken = low >= -margin, high < -margin
    if set(pair["units"]) != {sum(models.widths(pair["network"].iloc[0]))}:
        verdict, why = NOT_AS_STATED, "not its published widths"
    elif level < floor:
        verdict, why = NOT_AS_STATED, f"dense is short of {100 * floor:g} %"
    elif n < SEEDS:
        verdict, why = NOT_JUDGED, f"{SEEDS} seeds are needed"
    elif gone < share - 0.1 or broken:
        verdict, why = NOT, ""
    elif kept:
        verdict, why = REPRODUCED if gone >= share else PARTLY, ""
    else:
        verdict, why = INCONCLUSIVE, ""
    return verdict, f"{evidence} ({n} {'seed' if n == 1 else 'seeds'}{why and '; ' + why})"


def _full_size(notebook, says, where, experiment, *, share, margin, floor, reason):
    return Claim(
        paper="P3",
        notebook=notebook,
        says=says,
        where=where,
        experiment=experiment,
        rule="At the published widths, L2 against dense of the same epochs, schedule and weight decay, paired by seed. "
        f"Reproduced: at least {100 * share:.0f} % of the units are removed on average, and the 95 % interval of the "
        f"test accuracy lies above −{100 * margin:g} points; partly: the interval does, and at least "
        f"{100 * share - 10:.0f} % are removed; not reproduced: fewer are, or the interval lies below "
        f"−{100 * margin:g}; inconclusive: it lies on both sides; not judged: fewer than {SEEDS} seeds; not tested as "
        f"stated: dense has less than {100 * floor:g} %, or the network other widths. {reason}",
        judge=partial(full_size, share=share, margin=margin, floor=floor),
    )


def _application(notebook, says, where, experiment, share, margins):
    bounds = ", ".join(f"{name.removeprefix('test_')} {100 * margin:g}" for name, margin in margins.items())
    return Claim(
        paper="P3",
        notebook=notebook,
        says=says,
        where=where,
        experiment=experiment,
        rule=f"For every network with L2: at least {100 * share:.0f} % of the units are removed on average, and of "
        "each score no more is lost against dense, paired by seed, than its margin on average and twice that at the "
        f"lower end of the 95 % interval (margins in points: {bounds}). Reproduced: for all networks; partly: for "
        f"some, or in all at least {100 * share - 10:.0f} % at no more than twice the margins on average; not "
        "reproduced: otherwise.",
        judge=partial(application, share=share, margins=margins),
    )


CLAIMS = {
    "P3.1": Claim(
        paper="P3",
        notebook="20_node_dynamics",
        says="L1 and L2 regularization make more nodes fall while only weights are pruned.",
        where="abstract",
        experiment="p3_dynamics",
        rule="Per regularizer (L1, L2) and q (1, 2): the 95 % interval of the difference of removed nodes, against no "
        "regularizer, paired by seed, is held against 0; the pruned weights must agree within 1 point on average. "
        "Reproduced: above 0 in all 4; partly: in at least 1 and below in none; not reproduced: otherwise.",
        judge=more_nodes,
    ),
    "P3.2": Claim(
        paper="P3",
        notebook="20_node_dynamics",
        says="A regularizer clears away the incoming weights of nodes that lost their outgoing ones; else they stay.",
        where="abstract; the mechanism as the companion states it",
        experiment="p3_dynamics",
        rule="Orphans are nodes whose outgoing weights went first and that keep incoming ones; their share of those "
        "whose outgoing weights went first is compared with the share without a regularizer. Reproduced: the 95 % "
        "interval of the difference, paired by seed, is below 0 for L1 and L2 at q = 1 and 2; partly: for at least 1 "
        "and above for none; not reproduced: otherwise.",
        judge=fewer_orphans,
    ),
    "P3.3": Claim(
        paper="P3",
        notebook="20_node_dynamics",
        says="Node pruning depends on weight pruning beyond chance: more nodes fall than independent zeros would fell.",
        where="abstract; the independent expectation is the companion's reference",
        experiment="p3_dynamics",
        rule="Removed nodes minus 1 − (1 − ρ_in^n_in)(1 − ρ_out^n_out), the expectation of independent zeros at the "
        "same pruned shares ρ of the layers, mean over seeds, is held against 10 points for L1 and L2 at q = 1 and 2. "
        "Reproduced: above for all; partly: for some; not reproduced: for none.",
        judge=more_than_independent,
    ),
    "P3.4": _application(
        "21_stochastic_mlp",
        "Half of the nodes of an MLP (MNIST) are removed at little loss of accuracy.",
        "abstract",
        "p3_mlp",
        0.5,
        {"test_accuracy": 0.002},
    ),
    "P3.5": _full_size(
        "25_stochastic_full_size",
        "60 % of the filters of VGG-16 (CIFAR-10) are removed at little loss of accuracy.",
        "abstract",
        "p3_vgg16_full",
        share=0.6,
        margin=0.01,
        floor=0.92,
        reason="The margin is 1 point because HRank gives up 1.6 points for 65 % of the operations, and three seeds "
        "whose differences spread by 0.3 tell 0.8 apart; a dense network below 92 % is two points short of the "
        "published one, and may have more filters to spare.",
    ),
    "P3.5 ¼": _application(
        "22_stochastic_vgg16",
        "60 % of the filters of VGG-16 (CIFAR-10) are removed at little loss of accuracy: at a quarter of its widths.",
        "abstract; the width is the companion's",
        "p3_vgg16",
        0.6,
        {"test_accuracy": 0.01},
    ),
    "P3.6": _application(
        "23_stochastic_unet",
        "60 % of the channels of a U-Net for the instance segmentation of cells are removed at little loss of quality.",
        "abstract",
        "p3_unet",
        0.6,
        {"test_dice": 0.01, "test_ap50": 0.02},
    ),
    "P3.7": _application(
        "24_stochastic_covid_cnn",
        "Half of the channels of a COVID-19 CNN are removed at little loss of accuracy.",
        "abstract",
        "p3_covid",
        0.5,
        {"test_accuracy": 0.03, "test_auc": 0.03},
    ),
    "P3.8 ResNet-56": _full_size(
        "25_stochastic_full_size",
        "More than half of the filters of ResNet-56 (CIFAR-100) are removed, at the dense network's accuracy.",
        "journal version, doi 10.1016/j.neucom.2021.08.007",
        "p3_resnet56_full",
        share=0.5,
        margin=0.01,
        floor=0.65,
        reason="The margin is 1 point because seeds of this network spread by about 0.3 on the 100 classes, and three "
        "could not clear a smaller one; published dense networks have 69 to 72 % after ten times the epochs.",
    ),
    "P3.8 MobileNetV2": _full_size(
        "25_stochastic_full_size",
        "More than half of the channels of MobileNetV2 (CIFAR-10) are removed, at the dense network's accuracy.",
        "journal version, doi 10.1016/j.neucom.2021.08.007",
        "p3_mobilenetv2_full",
        share=0.5,
        margin=0.005,
        floor=0.9,
        reason="The margin is half a point because the claim is the dense network's accuracy; published dense networks "
        "have 94 %.",
    ),
}

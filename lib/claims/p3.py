"""The claims of P3, stochastic weight pruning and the nodes that fall with it (arXiv 2012.03827)."""

from functools import partial

from lib.claims.rules import NOT, PARTLY, REPRODUCED, Claim, paired
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
    return verdict, f"orphans among them in points, against none, 95 % interval: {_in_points(found)}"


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


def _application(says, where, experiment, share, margins):
    bounds = ", ".join(f"{name.removeprefix('test_')} {100 * margin:g}" for name, margin in margins.items())
    return Claim(
        paper="P3",
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
        says="Node pruning depends on weight pruning beyond chance: more nodes fall than independent zeros would fell.",
        where="abstract; the independent expectation is the companion's reference",
        experiment="p3_dynamics",
        rule="Removed nodes minus 1 − (1 − ρ_in^n_in)(1 − ρ_out^n_out), the expectation of independent zeros at the "
        "same pruned shares ρ of the layers, mean over seeds, is held against 10 points for L1 and L2 at q = 1 and 2. "
        "Reproduced: above for all; partly: for some; not reproduced: for none.",
        judge=more_than_independent,
    ),
    "P3.4": _application(
        "Half of the nodes of an MLP (MNIST) are removed at little loss of accuracy.",
        "abstract",
        "p3_mlp",
        0.5,
        {"test_accuracy": 0.002},
    ),
    "P3.5": _application(
        "60 % of the filters of VGG-16 (CIFAR-10; the committed runs: at a quarter of its widths) are removed at "
        "little loss of accuracy.",
        "abstract",
        "p3_vgg16",
        0.6,
        {"test_accuracy": 0.01},
    ),
    "P3.6": _application(
        "60 % of the channels of a U-Net for the instance segmentation of cells are removed at little loss of quality.",
        "abstract",
        "p3_unet",
        0.6,
        {"test_dice": 0.01, "test_ap50": 0.02},
    ),
    "P3.7": _application(
        "Half of the channels of a COVID-19 CNN are removed at little loss of accuracy.",
        "abstract",
        "p3_covid",
        0.5,
        {"test_accuracy": 0.03, "test_auc": 0.03},
    ),
    "P3.8": _application(
        "More than half of the channels of MobileNetV2 (CIFAR-10) and of the filters of ResNet-56 (CIFAR-100) are "
        "removed, at the dense network's accuracy.",
        "journal version, doi 10.1016/j.neucom.2021.08.007",
        "p3_journal_paper",
        0.5,
        {"test_accuracy": 0.005},
    ),
}

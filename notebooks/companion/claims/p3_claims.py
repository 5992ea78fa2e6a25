"""The claims of P3, stochastic weight pruning and the nodes that fall with it (arXiv 2012.03827), and their rules."""

from functools import partial

from companion.claims import p3
from companion.claims.images import DRAWS, over_images
from companion.claims.rules import SEEDS, Claim

JOURNAL = "journal version, doi 10.1016/j.neucom.2021.08.007"
UNJUDGED = f"not judged: fewer than {SEEDS} seeds"
CORRECTED = "by a t test, paired by seed, at 5 % after Holm's correction for the four"
MLP, VGG16 = {"test_accuracy": 0.002}, {"test_accuracy": 0.01}
UNET, COVID = {"test_dice": 0.01, "test_ap50": 0.02}, {"test_accuracy": 0.03, "test_auc": 0.03}
SLIGHTLY = dict.fromkeys(("300-100", "1000-1000"), MLP["test_accuracy"])
SLIGHTLY |= {"vgg16": VGG16["test_accuracy"], "unet": UNET["test_dice"], "ct_cnn": COVID["test_accuracy"]}
COVID_SEEDS = 20
OF_INTEREST = {"test_accuracy": 0.002, "test_dice": 0.002, "removed": 0.01}


def _percent(value):
    return f"{100 * value:g}"


def _listed(margins):
    return ", ".join(f"{name} {_percent(margin)}" for name, margin in margins.items())


def _full_size(says, where, experiment, *, share, margin, floor, reason):
    return Claim(
        paper="P3",
        notebook="25_full_size_stochastic",
        says=says,
        where=where,
        experiment=experiment,
        rule="At the published widths, L2 against dense of the same epochs, each by the schedule that validation "
        f"chooses for it, paired by seed. Reproduced: at least {_percent(share)} % of the units are removed on "
        f"average, and the 95 % interval of the test accuracy lies above −{_percent(margin)} points; partly: the "
        f"interval does, and at least "
        f"{_percent(share - p3.SHORT)} % are removed; not reproduced: fewer are, or the interval lies below "
        f"−{_percent(margin)}; inconclusive: it lies on both sides; {UNJUDGED}; not tested as stated: dense has less "
        f"than {_percent(floor)} %, or the network other widths. {reason}",
        judge=partial(p3.full_size, share=share, margin=margin, floor=floor),
    )


def _application(notebook, says, experiment, share, margins, reason):
    bounds = _listed({name.removeprefix("test_"): margin for name, margin in margins.items()})
    return Claim(
        paper="P3",
        notebook=notebook,
        says=says,
        where="abstract",
        experiment=experiment,
        rule=f"L2 against dense, paired by seed, each network apart. Reproduced: at least {_percent(share)} % of the "
        "units are removed on average, and the 95 % interval of each score lies above minus its margin (in points: "
        f"{bounds}); partly: the intervals do, and at least {_percent(share - p3.SHORT)} % are removed; not "
        "reproduced: fewer are, or an interval lies below; inconclusive: otherwise. Of several networks, all must be "
        "reproduced; the claim is partly reproduced where one is, not reproduced where none is and one is not; "
        f"{UNJUDGED}; not tested as stated: VGG-16 at widths that are not the published ones. {reason}",
        judge=partial(p3.application, share=share, margins=margins),
    )


CLAIMS = {
    "P3.1": Claim(
        paper="P3",
        notebook="20_node_dynamics",
        says="L1 and L2 regularization make more nodes fall while only weights are pruned.",
        where="abstract",
        experiment="p3_dynamics",
        rule=f"Per regularizer (L1, L2) and q (1, 2): more nodes are removed than without a regularizer {CORRECTED}. "
        "Reproduced: more in all 4; partly: in at least 1 and fewer in none; not reproduced: otherwise; inconclusive: "
        f"no difference is told; {UNJUDGED}; not tested as stated: the pruned weights differ by more than "
        f"{_percent(p3.EQUALLY_PRUNED)} point on average.",
        judge=p3.more_nodes,
    ),
    "P3.2": Claim(
        paper="P3",
        notebook="20_node_dynamics",
        says="A regularizer clears away the incoming weights of nodes that lost their outgoing ones; else they stay.",
        where="the companion: a mechanism that would explain the abstract's claim",
        experiment="p3_dynamics",
        rule="Orphans are nodes whose outgoing weights went first and that keep incoming ones; their share of those "
        f"whose outgoing weights went first is lower than without a regularizer {CORRECTED} (L1 and L2 at q = 1 and "
        "2). Reproduced: lower in all; partly: in at least 1 and higher in none; not reproduced: otherwise; "
        f"inconclusive: no difference is told; {UNJUDGED}.",
        judge=p3.fewer_orphans,
    ),
    "P3.3": Claim(
        paper="P3",
        notebook="20_node_dynamics",
        says="Node pruning depends on weight pruning beyond chance: more nodes fall than independent zeros would fell.",
        where="abstract (dependency); the independent zeros it is held against are the companion's",
        experiment="p3_dynamics",
        rule="Removed nodes minus 1 − (1 − ρ_in^n_in)(1 − ρ_out^n_out), the expectation of independent zeros at the "
        f"same pruned shares ρ of the layers: its 95 % interval over seeds is held against {_percent(p3.BEYOND)} "
        "points for L1 and L2 at q = 1 and 2. Reproduced: above for all; partly: for some; not reproduced: for none, "
        f"and below for one; inconclusive: otherwise; {UNJUDGED}.",
        judge=p3.more_than_independent,
    ),
    "P3.4": _application(
        "21_mlp_stochastic",
        "Half of the nodes of an MLP (MNIST) are removed at little loss of accuracy.",
        "p3_mlp",
        0.5,
        MLP,
        "The margin is 20 of the 10,000 test images, which a user of such a network would hardly notice.",
    ),
    "P3.5": _full_size(
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
        "22_vgg16_stochastic",
        "60 % of the filters of VGG-16 (CIFAR-10) are removed at little loss of accuracy: at a quarter of its widths.",
        "p3_vgg16",
        0.6,
        VGG16,
        "A quarter of the widths has fewer filters to spare, so that this says little of the claim.",
    ),
    "P3.6": _application(
        "23_unet_stochastic",
        "60 % of the channels of a U-Net for the instance segmentation of cells are removed at little loss of quality.",
        "p3_unet",
        0.6,
        UNET,
        "The margins are about what the best and the worst of three dense networks differ by.",
    ),
    "P3.7": _application(
        "24_covid_cnn_stochastic",
        "Half of the channels of a COVID-19 CNN are removed at little loss of accuracy.",
        "p3_covid",
        0.5,
        COVID,
        "The margins are 6 of the 203 test images; the interval covers seeds, not which images were drawn.",
    ),
    "P3.7 images": Claim(
        paper="P3",
        notebook="24_covid_cnn_stochastic",
        says="Half of the channels of a COVID-19 CNN are removed at little loss of accuracy, on other images, too.",
        where="abstract",
        experiment="p3_covid_images",
        rule=f"The comparison of P3.7, with {COVID_SEEDS} seeds and an interval that covers which images were drawn: "
        f"seeds and, within each class, test images are drawn anew together, {DRAWS:,} times, and the 95 % interval is "
        "the mean ± Student's t of this standard error. λ and target are those of P3.7. Share, margins and verdicts "
        f"are P3.7's; not judged: fewer than {COVID_SEEDS} seeds. No first half is scored on test images. The rule was "
        "written before the runs.",
        judge=partial(p3.application, share=0.5, margins=COVID, difference=over_images, seeds=COVID_SEEDS),
    ),
    "P3.8 ResNet-56": _full_size(
        "More than half of the filters of ResNet-56 (CIFAR-100) are removed, at the dense network's accuracy.",
        JOURNAL,
        "p3_resnet56_full",
        share=0.5,
        margin=0.01,
        floor=0.65,
        reason="The margin is 1 point because seeds of this network spread by about 0.3 on the 100 classes, and three "
        "could not clear a smaller one; published dense networks have 69 to 72 % after ten times the epochs.",
    ),
    "P3.8 MobileNetV2": _full_size(
        "More than half of the channels of MobileNetV2 (CIFAR-10) are removed, at the dense network's accuracy.",
        JOURNAL,
        "p3_mobilenetv2_full",
        share=0.5,
        margin=0.005,
        floor=0.9,
        reason="The margin is half a point because the claim is the dense network's accuracy; published dense "
        "networks have 94 %.",
    ),
    "P3.9": Claim(
        paper="P3",
        notebook="00_overview",
        says="The weight-pruned networks are only slightly less accurate than the dense ones.",
        where="abstract",
        experiment=("p3_mlp", "p3_vgg16", "p3_unet", "p3_covid"),
        rule="Stochastic pruning with L2 against the dense network, paired by seed, each network apart (VGG-16 has a "
        f"quarter of its widths). Reproduced: the 95 % interval of the accuracy (U-Net: of Dice) lies above minus the "
        f"margin that the network has in P3.4 to P3.7 (in points: {_listed(SLIGHTLY)}) for all networks; partly: for "
        f"some; not reproduced: for none, and below for one; inconclusive: otherwise; {UNJUDGED}. Beside it stands the "
        "difference to the smallest weights cut at once, at the same share. The rule was written after the runs.",
        judge=partial(p3.only_slightly_less, margins=SLIGHTLY),
    ),
    "P3.10": Claim(
        paper="P3",
        notebook="21_mlp_stochastic",
        says="Sampling the zeros keeps more accuracy, or removes more nodes, than zeroing the smallest weights under "
        "the same regularizer and schedule.",
        where="the companion: a control that does not sample, to show what sampling adds",
        experiment="p3_mlp",
        rule="Zeroing with L2 against the same training in which each draw takes the smallest weights, as many. Per "
        "network and measure (accuracy, share of nodes removed), paired by seed, at 5 % after Holm's correction. "
        "Reproduced: better in more than half of the cases and worse in none; partly: better in more than worse; not "
        "reproduced: worse in at least as many, or every interval below the smallest gain of interest (in points: "
        f"accuracy {_percent(OF_INTEREST['test_accuracy'])}, nodes {_percent(OF_INTEREST['removed'])}); inconclusive: "
        f"otherwise; {UNJUDGED}. The rule was written before the runs without sampling.",
        judge=partial(p3.sampling, gains=OF_INTEREST),
    ),
}

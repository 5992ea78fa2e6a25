"""The claims of P2, ℓ0-norm regularization and weight pruning (arXiv 2109.05075), and the rule of each in words."""

from functools import partial

from companion.claims import p2, p2_competitors
from companion.claims.rules import SEEDS, Claim

EFFECTIVE = (
    "{method} pruned step by step and fine-tuned, against {reference}. A compression is effective where the 95 % "
    "interval of what it costs in test error, paired by seed, lies below {margin:.1f} points. Reproduced: at "
    f"{p2.STRONG}× or more; partly: at {p2.WEAK}× or more; not reproduced: the interval at the first compression from "
    f"{p2.WEAK}× on lies above the margin; inconclusive: otherwise; not judged: fewer than {SEEDS} seeds"
)
EQUAL_EPOCHS = EFFECTIVE.format(
    method=p2.METHOD,
    reference="the same network, penalty and seed, trained for as many epochs and never cut",
    margin=100 * p2.DEEP_MARGIN,
)
PUBLISHED_WIDTHS = (
    "; not tested as stated: widths that are not the published ones, or a dense network below {floor} %. Margin and "
    "compressions are those of the quarter-width network, whose three seeds tell 0.5 points apart."
)


def at_published_widths(network, floor):
    """The rule and the judge of a deep network at equal epochs; floor: what its dense accuracy must reach."""
    judge = partial(p2.effective_at_equal_epochs, network=network, floor=floor)
    return {"rule": EQUAL_EPOCHS + PUBLISHED_WIDTHS.format(floor=f"{100 * floor:g}"), "judge": judge}


P2_CHAINS = ("p2_lenet300_mnist", "p2_lenet300_fashion", "p2_lenet5_mnist")
TUNED = (
    f"{p2.METHOD}, {{mode}}. A compression counts where the cut alone costs test accuracy (its 95 % interval lies "
    "above 0): where the cut loses nothing there is nothing to gain. Where the seeds scatter too widely to show a "
    "loss, it does not count either. Fine-tuning helps where the 95 % interval of its gain, "
    "paired by seed, lies above 0. Reproduced: at every compression that counts{networks}; partly: in at least half "
    f"of them; not reproduced: otherwise; not judged: fewer than {SEEDS} seeds.{{more}}"
)

CLAIMS = {
    "P2.1": Claim(
        paper="P2",
        notebook="10_l0_penalty",
        says="A regularization based on the ℓ0 norm induces strong sparseness in training.",
        where="abstract",
        experiment="p2_penalty_mnist",
        rule="LeNet-300-100 on MNIST, nothing pruned. A penalty (ℓ0, ℓ0 + ℓ2) is strong where on average at least "
        f"{100 * p2.SMALL_SHARE:g} % of the weights end below 0.001 and the 95 % interval of its test accuracy minus "
        f"that without a penalty, paired by seed, lies above −{100 * p2.SMALL_COST:g} points. Reproduced: both are; "
        f"partly: one is; not reproduced: neither; not judged: fewer than {SEEDS} seeds.",
        judge=p2.sparse_in_training,
    ),
    "P2.1 ℓ1": Claim(
        paper="P2",
        notebook="10_l0_penalty",
        says="At an equal share of small weights, ℓ0 keeps more accuracy than ℓ1.",
        where="the companion: the argument of zero attraction, put to the test",
        experiment=("p2_penalty_mnist", "p2_penalty_l1_mnist"),
        rule="LeNet-300-100 on MNIST, nothing pruned, ℓ1 at several α. Per penalty (ℓ0, ℓ0 + ℓ2) and seed: the share "
        "of weights below 0.001, and the test accuracy minus that of ℓ1 at this share, by a straight line between its "
        "two nearest strengths. Reproduced: the 95 % interval of the difference lies above 0 for both; partly: for "
        f"one; not reproduced: for none, and below 0 for one; inconclusive: otherwise; not judged: fewer than {SEEDS} "
        "seeds, or the share is none that ℓ1 reaches.",
        judge=p2.sparser_than_l1,
    ),
    "P2.2": Claim(
        paper="P2",
        notebook="11_l0_lenet",
        says="Pruning the smaller weights then gives smaller yet highly effective networks.",
        where="abstract",
        experiment=P2_CHAINS,
        rule="LeNet-300-100 on MNIST and on Fashion-MNIST, LeNet-5 on MNIST. "
        + EFFECTIVE.format(
            method=p2.METHOD,
            reference="the dense network of the same seed that is trained without a penalty",
            margin=100 * p2.MARGIN,
        )
        + ". The claim is reproduced where all three networks are, partly where one is or is partly, not reproduced "
        "where one is not. The margin is what a user of MNIST would hardly notice; on Fashion-MNIST, where all of "
        "these networks err several times as often, it asks for more. The pruned networks train for more epochs than "
        "the dense one, so that the rule favours them.",
        judge=p2.effective_when_small,
    ),
    "P2.3": Claim(
        paper="P2",
        notebook="10_l0_penalty",
        says="ℓ2 is added to ℓ0 against overfitting.",
        where="abstract",
        experiment="p2_overfitting_mnist",
        rule="LeNet-300-100 on MNIST, dense, one α_ℓ0; 1,000, 5,000 and 55,000 training images; at each size the α_ℓ2 "
        "with the best mean validation accuracy, against none. The gap (training minus test accuracy) is smaller, and "
        "the test accuracy is higher, where a t test paired by seed says so at 5 % after Holm's correction for the "
        "three sizes. Reproduced: both at two sizes or more; partly: both at one, or the gap at all; not reproduced: "
        f"more is worse than better, or no interval of the test accuracy reaches {100 * p2.MORE:g} points; "
        f"inconclusive: otherwise; not judged: fewer than {SEEDS} seeds.",
        judge=p2.less_overfitting,
    ),
    "P2.4": Claim(
        paper="P2",
        notebook="11_l0_lenet",
        says="Fine-tuning improves the pruned network.",
        where="abstract",
        experiment=P2_CHAINS,
        rule=TUNED.format(
            mode="one-shot pruning", networks=" of every network", more=" None of these networks has batch norms."
        ),
        judge=p2.better_tuned,
    ),
    "P2.5": Claim(
        paper="P2",
        notebook="12_l0_competitors",
        says="The method compares well with competing approaches.",
        where="abstract",
        experiment=(*P2_CHAINS, "p2_competitors_mnist"),
        rule=f"{p2.METHOD}, pruned step by step and fine-tuned, against each published point (Han 2015, SWS, DNS, "
        f"sparse VD), at the first compression of at least {100 * p2_competitors.SIMILAR:g} % of its own; against the "
        "competitors trained here at theirs; and against ℓ1, ℓ2 and no penalty in the identical chain, a case per "
        "network, at the mean over the compressions that the published points of this network span. Won (lost): the "
        "test error is lower (higher) by a t test, paired by seed, at 5 % after Holm's correction for all cases. "
        "Reproduced: none is lost and at least half are won; partly: more are won than lost; not reproduced: "
        f"otherwise; inconclusive: none is won or lost; not judged: fewer than {SEEDS} seeds.",
        judge=p2_competitors.compares_well,
    ),
    "P2.2 VGG-16": Claim(
        paper="P2",
        notebook="13_l0_vgg16",
        says="Pruning the smaller weights then gives smaller yet highly effective networks: VGG-16 at a quarter of "
        "its widths on CIFAR-10.",
        where="abstract; network and data set are the companion's",
        experiment="p2_vgg16_cifar10",
        rule=f"The coefficients that are best on validation after the last step. {EQUAL_EPOCHS}.",
        judge=p2.effective_at_equal_epochs,
    ),
    "P2.4 VGG-16": Claim(
        paper="P2",
        notebook="13_l0_vgg16",
        says="Fine-tuning improves the pruned network: VGG-16 at a quarter of its widths on CIFAR-10.",
        where="abstract; network and data set are the companion's",
        experiment=("p2_vgg16_cifar10", "p2_vgg16_cifar10_norms"),
        rule=TUNED.format(
            mode="each step of gradual pruning",
            networks="",
            more=" After a cut the batch norms have the statistics of before it, and a part of the gain is their "
            "recovery. So, in chains of fewer epochs, they are taken anew from training images after a cut; "
            "fine-tuning, which starts from the cut network, has to end above this, too, by an interval above 0, at "
            "each compression there. Reproduced: both hold; partly: one does, or one holds at some compressions.",
        ),
        judge=p2.tuned_beyond_norms,
    ),
    "P2.2 VGG-16 full": Claim(
        paper="P2",
        notebook="14_l0_full_size",
        says="Pruning the smaller weights then gives smaller yet highly effective networks: VGG-16 at its published "
        "widths on CIFAR-10.",
        where="abstract; network and data set are the companion's",
        experiment="p2_vgg16_full",
        **at_published_widths("vgg16", floor=0.92),
    ),
    "P2 Experiment 5": Claim(
        paper="P2",
        notebook="14_l0_full_size",
        says="Pruning the smaller weights then gives smaller yet highly effective networks: ResNet-50 on CIFAR-100.",
        where="abstract; authors' code of Experiment 5",
        experiment="p2_resnet50_cifar100",
        **at_published_widths("resnet50", floor=0.6),
    ),
}

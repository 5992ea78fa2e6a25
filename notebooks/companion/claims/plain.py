"""The claims in the words of somebody who has not read the papers, and what was found, a sentence each, for README.

A finding speaks of one verdict. Where the records give another one, README shows the claim and the verdict alone.
"""

from companion.claims.rules import INCONCLUSIVE, NOT, NOT_AS_STATED, PARTLY, REPRODUCED

PLAIN = {  # claim: (in plain words, the verdict that the finding speaks of, the finding)
    "P1.1 MNIST": (
        "Penalising fewer units makes training faster (the authors' MNIST network)",
        NOT,
        "Leaving out an eighth of the penalty saves no time that turn-about timing could show; one session.",
    ),
    "P1.2 MNIST": (
        "Penalising fewer units makes the network more accurate (MNIST)",
        NOT,
        "New images are read worse; a better fit of the training images is not certain.",
    ),
    "P1.1": (
        "Penalising fewer units is faster, nearly always",
        NOT,
        "Timed alone the penalty is, in networks neither small nor very wide; the step in more than half of the cases.",
    ),
    "P1.2 regression": (
        "Penalising fewer units fits tables of numbers better",
        PARTLY,
        "In training on two tables of six, on one it is worse; on new data on none that could be told.",
    ),
    "P1.2 classification": (
        "Penalising fewer units classifies better",
        PARTLY,
        "In training by next to nothing on one of four sets; on new data nowhere, and once worse.",
    ),
    "P1.2 pruned": (
        "Networks that are penalised in part and then cut do better on new data",
        INCONCLUSIVE,
        "Three seeds cannot tell them from those that are penalised in full, on two sets.",
    ),
    "P1.3": (
        "It does not matter which hidden units go unpenalised",
        REPRODUCED,
        "A theorem: hidden units may change places, and the network computes the same.",
    ),
    "P1.3 inputs": (
        "Nor which inputs (the companion's own question)",
        PARTLY,
        "Which inputs are free matters a little, where any are.",
    ),
    "P1.4": (
        "Each data set has a network size of its own, which the penalty finds",
        NOT_AS_STATED,
        "In a fifth of the authors' steps more units survive the wider the network; with all of them far fewer do.",
    ),
    "P2.1": (
        "An ℓ0 penalty drives most weights to zero during training",
        REPRODUCED,
        "Nearly all weights end beside zero, at a cost of less than half a point of accuracy.",
    ),
    "P2.1 ℓ1": (
        "It leaves more accuracy than ℓ1 at as many small weights (the companion's own question)",
        REPRODUCED,
        "About two tenths of a point, on one network that reads digits.",
    ),
    "P2.2": (
        "Cutting the small weights then leaves a small network that works",
        PARTLY,
        "On digits one weight in a hundred is enough; on clothes no compression could be shown to do.",
    ),
    "P2.3": (
        "Adding ℓ2 prevents overfitting",
        PARTLY,
        "With 1,000 training images it does; with 5,000 or more no help could be shown.",
    ),
    "P2.4": (
        "Training on after the cut makes up for it",
        REPRODUCED,
        "Wherever a cut surely breaks something, training on repairs a good part of it.",
    ),
    "P2.5": (
        "The method keeps up with others",
        PARTLY,
        "Of twenty comparisons two are surely won, none surely lost, most open; with ℓ1 in its place likewise.",
    ),
    "P2.2 VGG-16": (
        "The same holds for a deep network (VGG-16 at a quarter of its width)",
        INCONCLUSIVE,
        "Cut to a tenth it loses half a point to one trained as long; three seeds cannot say whether a whole one.",
    ),
    "P2.4 VGG-16": (
        "And training on repairs the cut there, too",
        REPRODUCED,
        "Each cut does harm, and training on mends most of it; what of that the batch norms do alone is not known.",
    ),
    "P2.2 VGG-16 full": ("The same for VGG-16 at its full width", None, ""),
    "P2 Experiment 5": ("The same for ResNet-50 on CIFAR-100", None, ""),
    "P3.1": (
        "L1 and L2 make whole nodes vanish although only weights are removed",
        REPRODUCED,
        "With as many weights gone, more nodes fall with either of them than without.",
    ),
    "P3.2": (
        "A regularizer clears away what a dead node leaves behind",
        REPRODUCED,
        "Nothing reads such a node any more; without a regularizer its incoming weights stay several times as often.",
    ),
    "P3.3": (
        "Nodes vanish more often than chance would have it",
        REPRODUCED,
        "Far more often than if the zeros fell anywhere; without a regularizer, too.",
    ),
    "P3.4": (
        "Half of the nodes of a small network can go",
        PARTLY,
        "They go; the wide network's accuracy stays, and five seeds cannot say whether the narrow one's does.",
    ),
    "P3.5": ("60 % of the filters of VGG-16 can go", None, ""),
    "P3.5 ¼": (
        "60 % of the filters of VGG-16 at a quarter of its width can go",
        NOT_AS_STATED,
        "They go and the accuracy falls beyond the margin; the claim is about a network with four times as many.",
    ),
    "P3.6": (
        "60 % of the channels of a U-Net that finds cells can go",
        INCONCLUSIVE,
        "They go at little cost on average, but three seeds scatter too widely to be sure.",
    ),
    "P3.7": (
        "Half of the channels of a network that reads COVID-19 scans can go",
        INCONCLUSIVE,
        "They go; what it costs cannot be told from 203 scans and five seeds.",
    ),
    "P3.8 ResNet-56": ("More than half of the filters of ResNet-56 can go", None, ""),
    "P3.8 MobileNetV2": ("More than half of the channels of MobileNetV2 can go", None, ""),
    "P3.9": (
        "A network whose weights are pruned is hardly less accurate than a dense one",
        PARTLY,
        "So it is of two networks that read digits; a narrow VGG-16 loses two points, and two others cannot be told.",
    ),
    "P3.10": (
        "Drawing the zeros by chance does better than taking the smallest weights (the companion's own question)",
        PARTLY,
        "A few more nodes go; a difference of accuracy is not told. Without sampling nearly as many go.",
    ),
    "bf16": (
        "Training with 16-bit numbers is as accurate (the companion's own question)",
        REPRODUCED,
        "To within a tenth of a point, by ten seeds, so the companion trains so.",
    ),
}


def words(claim, says, verdict):
    """A claim in plain words, its own where there are none, and the finding where it speaks of this verdict."""
    plain, of, finding = PLAIN.get(claim, (says, None, ""))
    return plain, finding if verdict == of else ""

"""The claims in the words of somebody who has not read the papers, and what was found, a sentence each, for README.

A finding speaks of one verdict. Where the records give another one, README shows the claim and the verdict alone.
"""

from companion.claims.rules import NOT, PARTLY, REPRODUCED

PLAIN = {  # claim: (in plain words, the verdict that the finding speaks of, the finding)
    "P1.1 MNIST": (
        "Penalising fewer units makes training faster (the authors' MNIST network)",
        NOT,
        "Nearly all of a step is matrix products; the penalty's share is too small to matter.",
    ),
    "P1.2 MNIST": (
        "Penalising fewer units makes the network more accurate (MNIST)",
        NOT,
        "It fits the training images a little better and new images worse.",
    ),
    "P1.1": (
        "Penalising fewer units is faster, nearly always",
        NOT,
        "Only the penalty itself does, in networks neither small nor very wide; the training step hardly changes.",
    ),
    "P1.2 regression": (
        "Penalising fewer units fits tables of numbers better",
        PARTLY,
        "In training sometimes; on new data the two can hardly be told apart.",
    ),
    "P1.2 classification": (
        "Penalising fewer units classifies better",
        PARTLY,
        "In training a little; on new data nowhere.",
    ),
    "P1.3": (
        "It does not matter which units go unpenalised",
        PARTLY,
        "True of hidden units, by a theorem; which inputs are free matters a little.",
    ),
    "P1.4": (
        "Each data set has a network size of its own, which the penalty finds",
        NOT,
        "The wider the network at the start, the more units survive.",
    ),
    "P2.1": (
        "An ℓ0 penalty drives most weights to zero during training",
        REPRODUCED,
        "Nearly all weights end beside zero, the large ones are left alone, and the accuracy hardly falls.",
    ),
    "P2.2": (
        "Cutting the small weights then leaves a small network that works",
        REPRODUCED,
        "One weight in tens or hundreds is enough, as the network and the images ask.",
    ),
    "P2.3": (
        "Adding ℓ2 prevents overfitting",
        NOT,
        "New images are classified a little better with it, but the gap to the training images hardly closes.",
    ),
    "P2.4": (
        "Training on after the cut makes up for it",
        PARTLY,
        "It repairs deep cuts; a shallow one breaks nothing that could be repaired.",
    ),
    "P2.5": (
        "The method keeps up with others",
        PARTLY,
        "With most of them; sparse variational dropout makes fewer errors at large compressions.",
    ),
    "P2.2 VGG-16": (
        "The same holds for a deep network (VGG-16 at a quarter of its width)",
        REPRODUCED,
        "Cut in steps and tuned, it stays close to the dense network.",
    ),
    "P2.4 VGG-16": (
        "And training on repairs the cut there, too",
        REPRODUCED,
        "A cut at once is ruinous there, and training mends most of it.",
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
        "Nothing reads such a node any more; without a regularizer its incoming weights stay as orphans.",
    ),
    "P3.3": (
        "Nodes vanish more often than chance would have it",
        REPRODUCED,
        "Far more often than if the zeros fell anywhere; without a regularizer, too.",
    ),
    "P3.4": ("Half of the nodes of a small network can go", REPRODUCED, "Half and more go, and the accuracy stays."),
    "P3.5": ("60 % of the filters of VGG-16 can go", None, ""),
    "P3.5 ¼": (
        "60 % of the filters of VGG-16 at a quarter of its width can go",
        NOT,
        "They go, but the accuracy falls too far; whether a wider network has more to spare is open.",
    ),
    "P3.6": (
        "60 % of the channels of a U-Net that finds cells can go",
        PARTLY,
        "They go at little cost on average, but three seeds scatter too widely to be sure.",
    ),
    "P3.7": (
        "Half of the channels of a network that reads COVID-19 scans can go",
        PARTLY,
        "They go and the accuracy stays; the ranking of the scans, the AUC, suffers a little.",
    ),
    "P3.8 ResNet-56": ("More than half of the filters of ResNet-56 can go", None, ""),
    "P3.8 MobileNetV2": ("More than half of the channels of MobileNetV2 can go", None, ""),
    "bf16": (
        "Training with 16-bit numbers is as accurate (the companion's own question)",
        REPRODUCED,
        "No difference that ten seeds could show, so the companion trains so.",
    ),
}


def words(claim, says, verdict):
    """A claim in plain words, its own where there are none, and the finding where it speaks of this verdict."""
    plain, of, finding = PLAIN.get(claim, (says, None, ""))
    return plain, finding if verdict == of else ""

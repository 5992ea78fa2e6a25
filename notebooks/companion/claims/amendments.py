"""Rules that changed after their runs: the old rule and the verdict that it gives stay beside the new ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from companion import runs
from companion.claims import withdrawn
from companion.claims.rules import NOT_RUN


@dataclass(frozen=True)
class Amendment:
    """A claim's rule that was replaced: when, why, and what it judged by.

    judge: from `withdrawn`; its docstring is the rule. experiment: where it is another than the claim's now.
    """

    claim: str
    date: str
    reason: str
    judge: Callable[[pd.DataFrame], str]
    experiment: tuple[str, ...] = ()

    @property
    def rule(self):
        """The old rule in words."""
        return getattr(self.judge, "func", self.judge).__doc__

    def verdict(self, claim):
        """What the old rule makes of the committed records; NOT RUN where there are none."""
        names = self.experiment or claim.experiments
        records = [record for name in names for record in runs.committed(name).values()]
        return self.judge(runs.frame(records)) if records else NOT_RUN


ANY_FORM = "the form that is not the paper's counted as much as the paper's"
CORRECTED = "many cases were tested without correction, and near-duplicates (GL and SGL) counted twice"
FOUR = "four cases were tested without correction, and a difference that is not told counted as not reproduced"
EITHER_WAY = "an interval that is too wide counted as not reproduced, and a mean was judged in place of an interval"
AT_EQUAL_EPOCHS = "the reference had the method's own penalty or fewer epochs, which favoured the pruned network"
FLOOR = "validation chose the weakest λ in most cases; the grid now ends at no penalty, of which there were runs"
ANY_GAIN = (
    "a mean of +0.01 points counted as better; less than the gain of interest is none now, and a set without room for "
    "it is no case"
)
LOWER = "validation chose the weakest λ or none at all in many cases; one weaker λ, 1e-5, stands between the two"
SECOND, THIRD = "2026-11-28", "2026-11-29"


def _application(claim, share, margins):
    return Amendment(claim, SECOND, EITHER_WAY, partial(withdrawn.application, share=share, margins=margins))


AMENDMENTS = (
    Amendment("P1.1 MNIST", SECOND, ANY_FORM, withdrawn.faster_partial),
    Amendment("P1.1", SECOND, ANY_FORM, withdrawn.faster_in_almost_all),
    Amendment("P1.2 MNIST", SECOND, CORRECTED, withdrawn.better_partial),
    Amendment("P1.2 regression", SECOND, CORRECTED, withdrawn.better_fits),
    Amendment("P1.2 classification", SECOND, CORRECTED, withdrawn.better_classified),
    Amendment("P1.2 regression", SECOND, FLOOR, withdrawn.fits_from_floor),
    Amendment("P1.2 classification", SECOND, FLOOR, withdrawn.classified_from_floor),
    Amendment("P1.2 MNIST", SECOND, ANY_GAIN, withdrawn.partial_by_any_gain),
    Amendment("P1.2 regression", SECOND, ANY_GAIN, withdrawn.fits_by_any_gain),
    Amendment("P1.2 regression", THIRD, LOWER, withdrawn.fits_from_old_floor),
    Amendment(
        "P1.2 classification",
        SECOND,
        f"{ANY_GAIN}; one λ below the old floor was trained",
        withdrawn.classified_by_any_gain,
    ),
    Amendment("P1.3", SECOND, "one row held a theorem and what it does not cover", withdrawn.relabelled),
    Amendment(
        "P1.3 inputs", SECOND, "with full no input is free, so that it could not fail", withdrawn.relabelled_with_full
    ),
    Amendment(
        "P1.4",
        SECOND,
        "the free units of partial grow with the width by construction",
        withdrawn.structure,
        ("p1_structure",),
    ),
    Amendment(
        "P1.4",
        SECOND,
        "its networks had a fifth of the demo's steps, and with all of them a fraction of the units survives",
        withdrawn.structure_in_few_steps,
        ("p1_structure",),
    ),
    Amendment("P2.2", SECOND, AT_EQUAL_EPOCHS, withdrawn.effective_when_small),
    Amendment("P2.2 VGG-16", SECOND, AT_EQUAL_EPOCHS, withdrawn.effective_when_deep),
    Amendment(
        "P2.3",
        SECOND,
        "one strength of ℓ2 at sizes that leave hardly a gap; five seeds",
        withdrawn.less_overfitting,
        ("p2_lenet300_mnist", "p2_lenet300_fashion", "p2_lenet300_mnist_subsets"),
    ),
    Amendment("P2.4", SECOND, "where the cut loses nothing there is nothing to gain", withdrawn.better_tuned),
    Amendment(
        "P2.4 VGG-16",
        SECOND,
        "where the cut loses nothing there is nothing to gain",
        partial(withdrawn.better_tuned, mode="gradual"),
        ("p2_vgg16_cifar10",),
    ),
    Amendment(
        "P2.4 VGG-16",
        SECOND,
        "a part of the gain was the recovery of the batch norms' statistics; they are taken anew first",
        withdrawn.better_tuned_with_old_norms,
        ("p2_vgg16_cifar10",),
    ),
    Amendment("P2.5", SECOND, "ℓ1, ℓ2 and no penalty in the same chain are competitors, too", withdrawn.compares_well),
    Amendment("P3.1", SECOND, FOUR, withdrawn.more_nodes),
    Amendment("P3.2", SECOND, FOUR, withdrawn.fewer_orphans),
    Amendment("P3.3", SECOND, "a mean was judged in place of an interval", withdrawn.more_than_independent),
    _application("P3.4", 0.5, {"test_accuracy": 0.002}),
    _application("P3.5 ¼", 0.6, {"test_accuracy": 0.01}),
    _application("P3.6", 0.6, {"test_dice": 0.01, "test_ap50": 0.02}),
    _application("P3.7", 0.5, {"test_accuracy": 0.03, "test_auc": 0.03}),
    Amendment(
        "P3.9",
        SECOND,
        "1 point is most of the error on MNIST; each network has its claim's margin",
        withdrawn.slightly_less,
    ),
    Amendment("bf16", SECOND, EITHER_WAY, withdrawn.same_precision),
)


def table(claims):
    """A line per amendment: claim, date, reason, old rule, and both verdicts on the committed records."""
    lines = []
    for amendment in AMENDMENTS:
        claim = claims[amendment.claim]
        told = {name: getattr(amendment, name) for name in ("claim", "date", "reason")} | {"old rule": amendment.rule}
        verdicts = {"old verdict": amendment.verdict(claim), "new verdict": claim.verdict(claim.committed())[0]}
        lines.append(told | verdicts)
    return pd.DataFrame(lines)


def markdown(table):
    """The `table` in Markdown; a verdict that changed is set in bold."""
    lines = []
    for line in table.to_dict("records"):
        new = f"**{line['new verdict']}**" if line["new verdict"] != line["old verdict"] else line["new verdict"]
        lines.append([line["claim"], line["date"], line["old rule"], line["reason"], line["old verdict"], new])
    head = ["claim", "date", "old rule", "why it was replaced", "old verdict", "new verdict"]
    return runs.markdown(head, lines)

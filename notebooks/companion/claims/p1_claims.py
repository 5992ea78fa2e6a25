"""The claims of P1, partial regularization (arXiv 2009.01395), and the rule of each in words."""

from companion.claims import p1, p1_structure
from companion.claims.rules import SEEDS, Claim

FASTER = (
    "Partial is faster where the median over interleaved rounds of the ratio of times, partial / full, is below "
    f"{p1.FASTER}, in each session of measuring. The form that decides is {p1.PAPERS_FORM}, the paper's; the closed "
    "and the compiled form are the companion's and stand beside it."
)
BETTER = (
    "Training and test are judged apart; GL and SGL, which hardly differ, count as their mean. Partial is better "
    "(worse) on {case} where the gain over full, paired by seed, differs from 0 upwards (downwards) by a t test at 5 "
    "%, after Holm's correction for the number of sets, and its mean is at least {gain}.{room} A part is reproduced: "
    "better on more than half of the sets and worse on none; partly: better on more than worse; not reproduced: worse "
    "on as many as better, or every interval below this gain; inconclusive: otherwise, or no set is a case. The claim "
    f"is reproduced where both parts are, and partly where one is, or is partly; not judged: fewer than {SEEDS} seeds."
)
OF_INTEREST = f"{100 * p1.GAIN:g} points, less than which nobody would change the method for"
ROOM = (
    " A set on which full lacks less than this to 100 % leaves no room for it: it is no case of this part, and counts "
    "as neither better nor worse."
)
GRID = (
    "the grid ends at λ = 0, no penalty at all; where validation prefers that for full or for partial, this penalty is "
    "no case, and a set on which it does so for GL and SGL counts as neither better nor worse. "
)

CLAIMS = {
    "P1.1 MNIST": Claim(
        paper="P1",
        notebook="01_partial_group_lasso_mnist",
        says="Penalising only a part of the parameters runs faster than penalising all of them.",
        where="abstract; the authors' MNIST demo",
        experiment="p1_mnist_timing",
        rule=f"The whole training step, for GL and for SGL. {FASTER} Reproduced: faster for both; partly: for one; "
        "not reproduced: for none.",
        judge=p1.faster_partial,
    ),
    "P1.2 MNIST": Claim(
        paper="P1",
        notebook="01_partial_group_lasso_mnist",
        says="Partial regularization improves classification accuracy, in training and in test.",
        where="abstract; the authors' MNIST demo",
        experiment="p1_mnist",
        rule=BETTER.format(case="MNIST", gain=OF_INTEREST, room=ROOM),
        judge=p1.better_partial,
    ),
    "P1.1": Claim(
        paper="P1",
        notebook="02_partial_running_time",
        says="Penalising only a part of the parameters runs faster than penalising all, in almost all situations.",
        where="abstract",
        experiment="p1_running_time",
        rule=f"A case is a situation (network and data), a penalty and a β. {FASTER} The penalty with its gradient "
        "and the whole training step are judged apart; each holds if partial is faster in at least "
        f"{100 * p1.ALMOST_ALL:g} % of the cases. Reproduced: both hold; partly: one; not reproduced: none.",
        judge=p1.faster_in_almost_all,
    ),
    "P1.2 regression": Claim(
        paper="P1",
        notebook="03_partial_regression",
        says="Partial regularization improves regression fits, in training and in test.",
        where="abstract",
        experiment="p1_regression",
        rule=f"RMSE, each extent at the λ and steps that are best on validation over the first 5 splits; {GRID}The "
        "interval is corrected for overlapping training sets. "
        + BETTER.format(
            case="a table", gain=f"{100 * p1.GAIN:g} %, less than any table's error spreads by over its splits", room=""
        ),
        judge=p1.better_fits,
    ),
    "P1.2 classification": Claim(
        paper="P1",
        notebook="04_partial_classification",
        says="Partial regularization improves classification accuracy, in training and in test, on multiple data sets.",
        where="abstract",
        experiment="p1_classification",
        rule=f"Accuracy, each extent at the λ that is best on validation; {GRID}"
        + BETTER.format(case="a set", gain=OF_INTEREST, room=ROOM),
        judge=p1.better_classified,
    ),
    "P1.2 pruned": Claim(
        paper="P1",
        notebook="04_partial_classification",
        says="The pruned models generalise better.",
        where="abstract; the cut and the tuning are the companion's, P1 does neither",
        experiment="p1_pruned",
        rule="GL, full and partial, then the smallest nine tenths of the weights are cut and the rest is tuned without "
        "a penalty; each extent at the λ > 0 that is best on validation after tuning. Per set (digits; the "
        "first 5,000 training images of Fashion-MNIST) two cases: test accuracy, and the gap, training minus "
        "test accuracy. Better (worse): the difference of partial to full, paired by seed, differs from 0 by a t test "
        "at 5 %, after Holm's correction for all cases. Reproduced: better in more than half of the cases and worse in "
        "none; partly: better in more than worse; not reproduced: worse in as many as better, or every interval below "
        f"a gain of {OF_INTEREST}; inconclusive: otherwise; not judged: fewer than {SEEDS} seeds. The rule was written "
        "before the runs.",
        judge=p1.generalises,
    ),
    "P1.3": Claim(
        paper="P1",
        notebook="06_partial_beyond",
        says="Hidden units can be relabelled without changing the function, so it does not matter which of them are "
        "free.",
        where="abstract",
        experiment="p1_free",
        rule="A theorem. It is tried on P1's network with random weights in double precision: every hidden layer's "
        "units in another order. Reproduced: no output moves by more than 1e-12; not reproduced: otherwise.",
        judge=p1.relabelled_units,
    ),
    "P1.3 inputs": Claim(
        paper="P1",
        notebook="06_partial_beyond",
        says="It does not matter either which of the inputs are free.",
        where="the companion: the method frees inputs as well, of which the paper's argument does not hold",
        experiment="p1_free",
        rule="Partial with β = 8: the 95 % interval of the difference of test accuracies, inputs relabelled by chance "
        f"− in order, paired by seed, is held against ±{100 * p1.ALIKE:g} points, about what five seeds of one setting "
        "span. Reproduced: within; not reproduced: beyond; inconclusive: otherwise; not judged: fewer than "
        f"{SEEDS} seeds. Full, where no input is free, stands beside it and is not judged.",
        judge=p1.relabelled,
    ),
    "P1.4": Claim(
        paper="P1",
        notebook="05_partial_optimal_structure",
        says="An optimal network structure exists, and it depends on the input data.",
        where="abstract",
        experiment=("p1_structure", "p1_structure_longer"),
        rule="Survivors are the penalised hidden units that P1 counts as alive: those that partial leaves free grow "
        "with the width whatever happens. It exists where their mean number changes by a factor of at most "
        f"{p1_structure.SETTLED} when the starting width doubles from 400 to 800: a structure that the method finds "
        "cannot be twice as large for a network twice as wide. It depends on the data where the numbers from width 800 "
        f"differ between data sets (analysis of variance, p < {p1_structure.ONE_IN}). Reproduced: exists for every "
        "penalty and data set, depends for every penalty; partly: exists in at least half of the cases and depends "
        f"for at least one penalty; not reproduced: otherwise; not judged: fewer than {SEEDS} seeds; not tested as "
        "stated: where networks were trained for more steps, as many as the authors' demo has, the number of survivors "
        f"is another by a factor over {p1_structure.SETTLED}, so that the steps decide.",
        judge=p1_structure.structure,
    ),
}

"""What the companion itself has to show."""

from companion.claims.rules import SEEDS, Claim, alike, enough, of_all, paired

ALIKE = 0.001


def same_precision(table):
    """Equivalence of bf16 and fp32 within 0.1 points of test accuracy, for every penalty."""
    found = {
        penalty: paired(group, "test_accuracy", by="precision", of="bf16", against="fp32")
        for penalty, group in table.groupby("penalty")
    }
    enough(*found.values())
    verdict = of_all(alike(difference, ALIKE) for difference in found.values())
    words = "; ".join(f"{penalty} {difference.points(3)}" for penalty, difference in found.items())
    n = next(iter(found.values())).n
    return verdict, f"test accuracy in points, bf16 − fp32, 95 % interval, {n} seeds; {words}"


CLAIMS = {
    "bf16": Claim(
        paper="the companion",
        notebook="90_bf16_against_fp32",
        says="Training in bf16 autocast reaches the accuracy of training in fp32.",
        where="notebooks/90_bf16_against_fp32.ipynb",
        experiment="bf16_mnist",
        rule="Per penalty, the 95 % interval of the difference of test accuracies, bf16 − fp32, paired by seed, is "
        f"held against ±{100 * ALIKE:g} points. Reproduced: within for all; partly: for some; not reproduced: "
        f"beyond for one, within for none; inconclusive: otherwise; not judged: fewer than {SEEDS} seeds.",
        judge=same_precision,
    )
}

"""What the companion itself has to show."""

from companion.claims.rules import MNIST, alike, enough, of_all, paired

ALIKE = MNIST / 2  # all other records on MNIST are trained so: it has to be small beside their margin


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

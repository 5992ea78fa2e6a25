"""What the companion itself has to show."""

from companion.claims.rules import INCONCLUSIVE, MNIST, NOT, REPRODUCED, alike, enough, interval, of_all, paired

ALIKE = MNIST / 2  # all other records on MNIST are trained so: it has to be small beside their margin


def by_precision(table):
    """By penalty: the paired `Difference` of test accuracy, bf16 − fp32."""
    return {
        penalty: paired(group, "test_accuracy", by="precision", of="bf16", against="fp32")
        for penalty, group in table.groupby("penalty")
    }


def same_precision(table):
    """Equivalence of bf16 and fp32 within 0.1 points of test accuracy, for every penalty."""
    found = by_precision(table)
    enough(*found.values())
    verdict = of_all(alike(difference, ALIKE) for difference in found.values())
    words = "; ".join(f"{penalty} {difference.points(3)}" for penalty, difference in found.items())
    n = next(iter(found.values())).n
    return verdict, f"test accuracy in points, bf16 − fp32, 95 % interval, {n} seeds; {words}"


def hundredfold(table, bar):
    """The error of the way of fine-tuning that validation has chosen, against a bar."""
    table = table.assign(error=1 - table["test_accuracy"])
    way, first = table["chosen"].iloc[0], "as in notebook 11"
    found = interval(table[table["way"] == way].set_index("seed")["error"])
    enough(found)
    verdict = REPRODUCED if found.high <= bar else NOT if found.low > bar else INCONCLUSIVE
    words = f"{way}: {100 * found.mean:.2f} % [{100 * found.low:.2f}, {100 * found.high:.2f}], {found.n} seeds"
    if way != first:
        gain = paired(table, "error", by="way", of=way, against=first)
        words += f"; against {first}, in points: {gain.points()}"
    return verdict, f"test error, mean and 95 % interval; {words}"

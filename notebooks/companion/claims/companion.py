"""What the companion itself has to show."""

from companion.claims.rules import NOT, PARTLY, REPRODUCED, Claim, paired


def same_precision(table):
    """Equivalence of bf16 and fp32 within 0.1 points of test accuracy, for every penalty."""
    inside, evidence = [], []
    for penalty, group in table.groupby("penalty"):
        mean, low, high, n = paired(group, "test_accuracy", by="precision", of="bf16", against="fp32")
        inside.append(max(-low, high) < 0.001)
        evidence.append(f"{penalty} {100 * mean:+.3f} [{100 * low:+.3f}, {100 * high:+.3f}]")
    verdict = REPRODUCED if all(inside) else PARTLY if any(inside) else NOT
    return verdict, f"test accuracy in points, bf16 − fp32, 95 % interval, {n} seeds: " + "; ".join(evidence)


CLAIMS = {
    "bf16": Claim(
        paper="the companion",
        notebook="90_bf16_against_fp32",
        says="Training in bf16 autocast reaches the accuracy of training in fp32.",
        where="notebooks/90_bf16_against_fp32.ipynb",
        experiment="bf16_mnist",
        rule="Per penalty, the 95 % interval of the difference of test accuracies, bf16 − fp32, paired by seed, is "
        "held against ±0.1 points. Reproduced: within for all; partly: for some; not reproduced: for none.",
        judge=same_precision,
    )
}

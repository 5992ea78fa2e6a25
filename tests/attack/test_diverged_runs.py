"""Every notebook, rendered from records of which one of every experiment has diverged, in its first or last stage."""

import random

import diverged
import pytest

from companion import claims

NOTEBOOKS = sorted((diverged.ROOT / "notebooks").glob("*.ipynb"))


def first(experiment, records, rng):
    """A run of the first seed, of which notebooks show more than the scores; settings stay chosen."""
    if experiment.endswith("_grid") or experiment in ("p1_regression", "p1_regression_fits", "p2_competitors_mnist"):
        return diverged.victim(experiment, records, rng)
    return rng.choice([record for record in records if record["seed"] == min(r["seed"] for r in records)])


@pytest.mark.parametrize("pick", [diverged.victim, first], ids=["last seed", "first seed"])
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_goes_on_without_runs_that_diverged(notebook, pick, tmp_path):
    seed = random.randrange(10**6)
    print(f"seed of the choice: {seed}")
    shown, hit = diverged.render(notebook, tmp_path, seed, pick)
    judged = {name for claim in claims.CLAIMS.values() if claim.notebook == notebook.stem for name in claim.experiments}
    assert not judged & hit or "diverged, and left out: " in shown, "the run that diverged is not named"

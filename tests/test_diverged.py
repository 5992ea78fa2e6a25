"""Runs that diverged: a notebook names them and goes on with the others (`make attack` tries every notebook)."""

import diverged
import pytest


@pytest.mark.parametrize("stem", ["20_node_dynamics", "24_covid_cnn_stochastic"])
def test_a_notebook_goes_on_without_a_run_that_diverged(stem, tmp_path):
    shown, hit = diverged.render(diverged.ROOT / "notebooks" / f"{stem}.ipynb", tmp_path, seed=0)
    assert {"p3_dynamics", "p3_covid", "p3_covid_grid"} <= hit
    assert "diverged, and left out: p3_" in shown and "Verdict:" in shown

"""What is drawn on one processor is drawn on another, byte by byte, and what is drawn can be read."""

import numpy as np
import pandas as pd
import pytest

from companion import figures, parameters


def test_the_last_bit_of_the_layout_leaves_a_figure_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPANION_FIGURES", str(tmp_path))
    setup = parameters.Setup("10_l0_penalty", "laptop", "all", True)
    for name, left in (("one", 0.123), ("two", np.nextafter(0.123, 1))):
        figure, axes = figures.canvas()
        axes.set_position([left, 0.1, 0.8, 0.8])
        axes.plot([0.1, 1 / 3, 2 / 3], marker="o")
        axes.axhspan(0, 0.5, hatch="//")
        figures.save(figure, name, setup, alt="A line.")
    one, two = (tmp_path / "10_l0_penalty" / f"{name}.svg" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_folder_that_cannot_be_written_names_its_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPANION_FIGURES", str(tmp_path / "file"))
    figure, _ = figures.canvas()
    with pytest.raises(OSError, match=r"COMPANION_FIGURES.*one\.svg") as raised:
        figures.save(figure, "one", parameters.Setup("10_l0_penalty", "laptop", "all", True), alt="A line.")
    assert len(raised.value._render_traceback_()) == 1


@pytest.mark.parametrize(
    ("name", "alt", "which", "said"),
    [
        ("a/b", "dots", 0, "'a/b.svg' becomes the name of a file"),
        ("../b", "dots", 0, "'../b.svg' becomes the name of a file"),
        ("b", " ", 0, "alt says what 'b' shows"),
        ("b", "dots", 1, "save takes a figure, got Axes"),
    ],
)
def test_what_cannot_be_saved_says_why_and_leaves_nothing(tmp_path, monkeypatch, name, alt, which, said):
    monkeypatch.setenv("COMPANION_FIGURES", str(tmp_path / "figures"))
    setup = parameters.Setup("mine", "quick", "all", default=True)
    with pytest.raises(ValueError, match=said):
        figures.save(figures.canvas()[which], name, setup, alt=alt)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_only_coordinates_and_hashes_of_an_svg_are_steadied():
    svg = '<use x="-37.3130525" href="#m01234567ef"/><path id="m01234567ef" transform="scale(0.015625)" d="M 1.0001"/>'
    steady = '<use x="-37.313" href="#m0"/><path id="m0" transform="scale(0.015625)" d="M 1"/>'
    assert figures.steadied(svg) == steady == figures.steadied(steady)


def test_axes_without_runs_say_so_and_stay_linear(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPANION_FIGURES", str(tmp_path))
    figure, (empty, full, line) = figures.canvas(1, 3)
    empty.errorbar([], [], [])
    full.plot([1, 10], [1, 100])
    line.axhline(1)
    for axes in (empty, full):
        figures.logarithmic(axes, "y", figures.LogLocator())
    assert empty.get_yscale() == "linear" and full.get_yscale() == "log"
    figures.save(figure, "some", parameters.Setup("10_l0_penalty", "laptop", "all", True), alt="Three.")
    assert [[text.get_text() for text in axes.texts] for axes in (empty, full, line)] == [["no runs"], [], []]


def test_a_long_list_runs_out_of_no_colours():
    for entries in (figures.PALETTE, figures.MARKERS, figures.LINES):
        assert entries[len(entries) + 1] == entries[1] and len(list(entries)) == len(entries)


@pytest.mark.parametrize(("lowest", "written"), [(0.1, ["10.0 ± 0.0 %"]), (0.83, [])])
def test_one_row_far_below_the_others_does_not_stretch_the_axis(lowest, written):
    scores = {"dense": 0.86, "zeroing": 0.84, "scratch": 0.85, "chance": lowest}
    table = pd.DataFrame([{"method": name, "net": "mlp", "score": score} for name, score in scores.items()] * 2)
    _, axes = figures.canvas()
    figures.dots(axes, table, value="score", by="method", hue="net", percent=True, edge=True)
    assert [text.get_text() for text in axes.texts] == written
    assert axes.get_xlim()[0] > 0.8
    assert [label.get_text() for label in axes.get_yticklabels()] == list(scores)


def test_a_curve_over_compressions_has_the_mean_and_the_spread_of_its_runs():
    table = pd.DataFrame({"ratio": [2, 2, 8, 8], "score": [0.9, 0.8, 0.5, 0.5]})
    _, axes = figures.canvas()
    figures.over_compressions(axes, table, "score", index=1, label="mine")
    figures.compressions(axes, [2, 8])
    drawn = figures.drawn.table(axes.figure)
    assert drawn[["x", "y"]].to_numpy().tolist() == [[2, 85], [8, 50]]
    spread = 100 * np.std([0.9, 0.8], ddof=1)
    assert drawn["y_high"].tolist() == pytest.approx([85 + spread, 50], abs=1e-3)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2×", "8×"]
    assert axes.get_xlabel() == "compression" and axes.get_xscale() == "log"

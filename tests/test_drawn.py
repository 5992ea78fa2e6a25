"""The numbers beside a figure are those that are drawn, in the axes' units."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from companion import drawn, figures, parameters


def test_points_lines_bars_and_their_ends_are_told():
    figure, (left, right) = plt.subplots(1, 2)
    left.errorbar([1, 2], [3, 4], yerr=[0.5, 0.25], label="mean")
    left.plot([0, 1], [5, 6], label="curve")
    left.axvline(1)  # across the panel: no data
    left.set(title="errors", xlabel="compression", ylabel="%")
    right.scatter([1], [0], label="run")
    right.bar([2], [7])
    right.set_yticks([0, 1], ["dense", "pruned"])
    figure.canvas.draw()
    found = drawn.table(figure)
    mean = found[found["series"] == "mean"]
    assert mean[["panel", "x_axis", "y_axis"]].drop_duplicates().values.tolist() == [["errors", "compression", "%"]]
    assert mean[["x", "y", "y_low", "y_high"]].values.tolist() == [[1, 3, 2.5, 3.5], [2, 4, 3.75, 4.25]]
    assert found[found["series"] == "curve"][["x", "y"]].values.tolist() == [[0, 5], [1, 6]]
    assert found[found["series"] == "run"]["row"].tolist() == ["dense"]
    assert found[found["kind"] == "bar"][["x", "y"]].values.tolist() == [[2, 7]]
    assert len(found) == 6
    plt.close(figure)


def test_two_runs_at_one_place_are_two_points_and_a_line_drawn_twice_is_one():
    figure, axes = plt.subplots()
    axes.scatter([1, 1, 2], [0.5, 0.5, 0.5], label="run")
    for _ in range(2):
        axes.plot([0, 1], [5, 6], label="curve")
    assert drawn.table(figure).groupby("kind")["x"].apply(list).to_dict() == {"line": [0, 1], "point": [1, 1, 2]}
    plt.close(figure)
    figure, _ = plt.subplots()
    assert drawn.table(figure).empty
    plt.close(figure)


def test_a_figure_is_saved_with_its_numbers_and_a_table_beside_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COMPANION_FIGURES", str(tmp_path))
    setup = parameters.Setup("10_l0_penalty", "laptop", "all", True)
    figure, axes = figures.canvas()
    axes.plot([1, 2], [3, 4], label="a")
    figures.save(figure, "some", setup, alt="A line.")
    table = pd.DataFrame({"error": [1.5]}, index=pd.Index(["l0"], name="penalty"))
    figures.table(table, "errors", setup, caption="Errors")
    folder = tmp_path / "10_l0_penalty"
    assert pd.read_csv(folder / "some.csv")["y"].tolist() == [3, 4]
    assert (folder / "errors.csv").read_text() == "penalty,error\nl0,1.5\n"


@pytest.mark.parametrize("headings", [(), ("left", "right")])
def test_an_animation_has_words_over_its_columns_and_below(tmp_path, monkeypatch, headings):
    import numpy as np
    import PIL.Image

    monkeypatch.setenv("COMPANION_FIGURES", str(tmp_path))
    setup = parameters.Setup("10_l0_penalty", "laptop", "all", True)
    frames = np.ones((2, 10, 80), dtype=np.uint8)
    figures.animate(frames, "moving", setup, alt="Two.", headings=headings, notes=["one", "two"] if headings else ())
    gif = PIL.Image.open(tmp_path / "10_l0_penalty" / "moving.gif")
    assert gif.size == (80, 10 + (2 * figures.LETTERS if headings else 0))
    blue = tuple(round(255 * part) for part in figures.PALETTE[0])
    pixels = np.asarray(gif.convert("RGB"))
    middle = pixels[pixels.shape[0] // 2, 40]
    assert tuple(middle) == blue
    assert (pixels[: figures.LETTERS].min() < 100) == bool(headings) or not headings

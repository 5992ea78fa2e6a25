"""What a figure of matplotlib's shows, as numbers: the table that is written beside it, to cite and re-plot."""

import re

import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.ticker import FixedLocator

NUMBERS = ["x", "y", "x_low", "x_high", "y_low", "y_high"]
COLUMNS = ["panel", "x_axis", "y_axis", "series", "kind", "row", *NUMBERS]


def table(figure):
    """A line per point that is drawn: its panel and series, x and y in the axes' units, the ends of its error bars.

    kind: "point", "line", "bar" or "area" (the outline of a filled one). row: what the axis calls the point's place,
    where its ticks have words. Numbers have six digits. Pictures and lines across the whole panel are left out, and of
    lines and areas what is drawn twice; points that cover each other are two runs.
    """
    lines = []
    for k, axes in enumerate(figure.axes):
        if axes.axison:
            where = [axes.get_title() or str(k + 1), axes.get_xlabel(), axes.get_ylabel()]
            lines += [[*where, *line] for line in _points(axes)]
    found = pd.DataFrame(lines, columns=COLUMNS)
    found[NUMBERS] = found[NUMBERS].astype(float).map(lambda x: float(f"{x:.6g}"))
    twice = found.duplicated() & found["kind"].isin(["line", "area"])
    return found[~twice].dropna(axis="columns", how="all").reset_index(drop=True)


def _points(axes):
    """Lists with series, kind, row, x, y and the ends of bars, in the order of drawing."""
    taken = set()
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            taken |= {id(container[0]), *(id(cap) for cap in container[1])}
            yield from _errorbars(axes, container)
        elif isinstance(container, BarContainer):
            for patch in container:
                middle, top = patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height()
                yield [_named(container), "bar", _row(axes, middle, top), middle, top, *[None] * 4]
    for line in axes.lines:
        if id(line) not in taken and line.get_transform() == axes.transData:
            yield from _each(axes, _named(line), "line", np.c_[line.get_xdata(), line.get_ydata()])
    for shape in axes.collections:
        if isinstance(shape, PathCollection):
            yield from _each(axes, _named(shape), "point", shape.get_offsets())
        elif isinstance(shape, PolyCollection):
            for path in shape.get_paths():
                yield from _each(axes, _named(shape), "area", path.vertices)


def _each(axes, name, kind, pairs):
    for x, y in np.ma.filled(np.ma.asarray(pairs, dtype=float), np.nan):
        if np.isfinite([x, y]).all():
            yield [name, kind, _row(axes, x, y), x, y, *[None] * 4]


def _errorbars(axes, container):
    """The points of error bars with the ends of their bars."""
    line, _, bars = container
    if line is None:
        return
    ends = {"x": None, "y": None}
    for bar, axis in zip(bars, [a for a in "xy" if getattr(container, f"has_{a}err")], strict=False):
        column = "xy".index(axis)  # a bar that is not finite has no ends
        ends[axis] = [s[:, column] if np.shape(s) == (2, 2) else [None] * 2 for s in bar.get_segments()]
    for k, (x, y) in enumerate(zip(line.get_xdata(), line.get_ydata(), strict=True)):
        sides = [list(ends[a][k]) if ends[a] is not None and len(ends[a]) > k else [None] * 2 for a in "xy"]
        yield [_named(container), "point", _row(axes, x, y), x, y, *sides[0], *sides[1]]


def _named(artist):
    label = str(artist.get_label())
    return "" if label.startswith("_") else label


def _row(axes, x, y):
    """The label of the tick that is nearest, on an axis whose ticks have words."""
    for axis, value in ((axes.yaxis, y), (axes.xaxis, x)):
        if isinstance(axis.get_major_locator(), FixedLocator):
            words = {tick.get_loc(): tick.label1.get_text() for tick in axis.get_major_ticks()}
            if any(re.search(r"[^\d\s.,%×−-]", word) for word in words.values()):
                return words[min(words, key=lambda place: abs(place - value))].replace("\n", " ")
    return None

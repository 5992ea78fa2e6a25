"""The plots, one look for all: read at the size they appear, told apart without colour vision, the same bytes again."""

import base64
import html
import io
import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import seaborn as sns
from IPython.display import HTML, Image, Markdown, display
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    LogFormatterSciNotation,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from companion import drawn
from companion.settings import OneLine
from lib.atomic import write_whole


class FolderError(OneLine, OSError):
    """A figure that cannot be written: its path, why, and the variable that names another folder."""


class Around(tuple):
    """Entries that begin again after the last one, so that a long list runs out of no colours."""

    def __getitem__(self, k):
        return super().__getitem__(k % len(self))


PALETTE = Around(sns.color_palette("colorblind"))
MARKERS = Around(("o", "s", "^", "D", "v", "P"))
LINES = Around(("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1))))
LETTERS = 26  # pixels of a line of words in an animation
LOOK = matplotlib.rc_params_from_file(Path(__file__).with_suffix(".mplstyle"), use_default_template=False)


def canvas(rows=1, columns=1, *, width=7.2, height=2.8, **options):
    """A figure in the house's look, and its axes; sizes in inches."""
    plt.rcParams.update(matplotlib.rcParamsDefault | LOOK | {"backend": plt.get_backend()})
    return plt.subplots(rows, columns, figsize=(width, height), **options)


def save(figure, name, setup, *, alt):
    """Write a figure as SVG and PNG, and its numbers as CSV, and show it with its caption, the text alternative.

    The files carry no date and no ids but numbers, so the same records give the same bytes. Axes in which nothing is
    drawn say so. OSError: a file cannot be written; the older one is left as it was. ValueError: these are axes and no
    figure, the name is none of a file, or `alt` is empty.
    """
    if not isinstance(figure, Figure):
        raise ValueError(f"save takes a figure, got {type(figure).__name__}; figures.canvas() gives a figure and axes")
    if not alt.strip():
        raise ValueError(f"alt says what {name!r} shows to whoever cannot see it, and may not be empty")
    for axes in figure.axes:
        if axes.axison and np.isinf([axes.dataLim.x0, axes.dataLim.y0]).all():
            axes.text(0.5, 0.5, "no runs", transform=axes.transAxes, ha="center", va="center", color="0.4")
    if setup.title:
        figure.suptitle(f"{setup.title}{name.replace('_', ' ')}", fontsize=10)
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    figure.savefig(png, format="png", metadata={"Software": None})
    plt.close(figure)
    _write(setup, f"{name}.svg", steadied(svg.getvalue()))
    _write(setup, f"{name}.png", png.getvalue())
    numbers = drawn.table(figure)
    if len(numbers):
        _write(setup, f"{name}.csv", numbers.to_csv(index=False))
    display(Image(data=png.getvalue(), format="png", width=100 * figure.get_figwidth(), alt=alt))
    _caption(setup, name, alt)


def keep(frame, name, setup):
    """Write a table as CSV beside the figures, with its index where that has a name. OSError: it cannot be written."""
    _write(setup, f"{name}.csv", frame.to_csv(index=any(frame.index.names)))


def table(frame, name, setup, *, caption):
    """Show a table below its caption, and keep it."""
    keep(frame, name, setup)
    display(Markdown(f"**{caption}**"))
    display(frame)


def _write(setup, name, content):
    if not re.fullmatch(r"\w[\w .-]*", name):
        raise ValueError(f"{name!r} becomes the name of a file: letters, digits, spaces, _, - and points alone")
    try:
        write_whole(setup.figures / name, content)
    except OSError as error:
        why = f"{error.strerror}; make room, or let COMPANION_FIGURES name a folder that can be written"
        raise FolderError(error.errno, why, error.filename) from None


def _caption(setup, name, alt):
    """What a picture shows, in italics below it; the output's metadata say of which figure."""
    display(Markdown(f"*{alt}*"), metadata={"figure": f"{setup.figures.name}/{name}"})


def steadied(svg):
    """An SVG of matplotlib's without what depends on the processor: the last bits of coordinates, and ids from them.

    Coordinates from 1 point on keep thousandths; ids, which are hashes, are numbered in their order instead.
    """
    ids = {}
    svg = re.sub(r"\b[hmp][0-9a-f]{10}\b", lambda match: ids.setdefault(match[0], f"{match[0][0]}{len(ids)}"), svg)
    return re.sub(r"(?<![\w.#])-?[1-9]\d*\.\d{4,}", lambda match: f"{float(match[0]):.3f}".rstrip("0").rstrip("."), svg)


def animate(frames, name, setup, *, alt, headings=(), notes=()):
    """Write pictures (frames, H, W) of palette indices as a GIF that repeats, and show it with its text alternative.

    0 is white, k the palette's colour k − 1; the last picture stays for two seconds. headings: a word over each of as
    many columns of the same width; notes: a line below each picture.
    """
    colours = [255] * 3 + [round(255 * part) for colour in PALETTE for part in colour]
    colours += [255] * (3 * 240 - len(colours)) + [255 - 17 * shade for shade in range(16) for _ in range(3)]
    notes = notes or [""] * len(frames)
    pictures = [PIL.Image.fromarray(_lettered(*both, headings)) for both in zip(frames, notes, strict=True)]
    for picture in pictures:
        picture.putpalette(colours)
    times = [150] * (len(pictures) - 1) + [2000]  # milliseconds
    gif = io.BytesIO()
    pictures[0].save(gif, "GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=False)
    _write(setup, f"{name}.gif", gif.getvalue())
    encoded = base64.b64encode(gif.getvalue()).decode()
    display(HTML(f'<img alt="{html.escape(alt)}" src="data:image/gif;base64,{encoded}">'))
    _caption(setup, name, alt)


def _lettered(frame, note, headings):
    """A picture of palette indices with words over its columns and a line below it, in the greys from index 240 on."""
    if not note and not headings:
        return frame
    frame = np.pad(frame, [(LETTERS, LETTERS), (0, 0)])
    height, width = frame.shape
    layer = PIL.Image.new("L", (width, height))
    draw = PIL.ImageDraw.Draw(layer)
    font = PIL.ImageFont.truetype(matplotlib.get_data_path() + "/fonts/ttf/DejaVuSans.ttf", 15)
    for k, word in enumerate(headings):
        draw.text(((k + 0.5) * width / len(headings), LETTERS / 2), word, fill=255, font=font, anchor="mm")
    draw.text((width / 2, height - LETTERS / 2), note, fill=255, font=font, anchor="mm")
    shade = np.asarray(layer) // 16
    return np.where(shade, 240 + shade, frame).astype(np.uint8)


def percents(x, _):
    """A share as the label of a tick; matplotlib's PercentFormatter would write 98.200%."""
    return f"{100 * x:.6g}%"


def dots(axes, table, *, value, by, hue, percent=False, ticks=5, edge=False):
    """One row per entry of `by`: every run a small dot, mean ± standard deviation a marker with its bar.

    edge: a lowest mean that alone would stretch the axis more than threefold is written at the left edge, by an arrow.
    """
    rows, colours = list(dict.fromkeys(table[by])), list(dict.fromkeys(table[hue]))
    means = table.groupby([by, hue])[value].mean().sort_values()
    far = means.index[0] if edge and len(means) > 2 and np.ptp(means) > 3 * np.ptp(means[1:]) else None
    for (row, colour), group in table.groupby([by, hue], sort=False):
        k = colours.index(colour)
        beside = len(set(table[table[by] == row][hue]))
        y = rows.index(row) + ((k - (beside - 1) / 2) * 0.22 if beside > 1 else 0)
        mean, spread = group[value].mean(), group[value].std(ddof=1) if len(group) > 1 else 0
        if (row, colour) == far:
            _at_edge(axes, y, mean, spread, percent, PALETTE[k])
            continue
        axes.scatter(group[value], [y] * len(group), s=9, color=PALETTE[k], alpha=0.45, linewidths=0)
        axes.errorbar(mean, y, xerr=spread, fmt=MARKERS[k], color=PALETTE[k], ms=5, capsize=2.5, label=colour)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(ticks))
    if percent:
        axes.xaxis.set_major_formatter(percents)


def _at_edge(axes, y, mean, spread, percent, colour):
    """A value left of the axes: an arrow at the edge, mean ± standard deviation beside it."""
    said = f"{100 * mean:.1f} ± {100 * spread:.1f} %" if percent else f"{mean:.3g} ± {spread:.2g}"
    arrow = {"arrowstyle": "-|>", "color": colour, "shrinkA": 1, "shrinkB": 0}
    place = {"xy": (0, y), "xycoords": axes.get_yaxis_transform(), "xytext": (20, 0), "textcoords": "offset points"}
    axes.annotate(said, **place, va="center", fontsize=8, arrowprops=arrow)


def intervals(axes, table, *, index, of, label, scale=1.0):
    """Differences with their intervals (columns mean, low, high), one row each; 0 is marked.

    `index` out of `of` series share a row. scale: a number, or one per row.
    """
    mean, low, high = (scale * table[column].to_numpy() for column in ("mean", "low", "high"))
    y = np.arange(len(table)) + (index - (of - 1) / 2) * 0.22
    style = {"fmt": MARKERS[index], "color": PALETTE[index], "ms": 5, "capsize": 2.5, "label": label}
    axes.errorbar(mean, y, xerr=np.nan_to_num(np.array([mean - low, high - mean])), **style)
    axes.axvline(0, color="0.3", lw=1)
    axes.set_ylim(len(table) - 0.5, -0.5)


def band(axes, x, runs, *, label, index, percent=False):
    """A curve of means over runs, (runs, points), with ± one standard deviation as a band."""
    values = pd.DataFrame(runs)
    mean, spread = values.mean(), values.std(ddof=1).fillna(0)
    axes.plot(x, mean, color=PALETTE[index], lw=1.4, ls=LINES[index], label=label)
    axes.fill_between(x, mean - spread, mean + spread, color=PALETTE[index], alpha=0.18, lw=0)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if percent:
        axes.yaxis.set_major_formatter(percents)


def step_times(axes, table, *, rows):
    """Milliseconds per training step of the timed variants of one network, a row per entry of `rows` (column `case`).

    Medians over the rounds with quartiles; the dotted line is the unpenalised step.
    """
    forms = list(dict.fromkeys(table["form"][table["penalty"] != "none"]))
    for line in table.itertuples():
        k = forms.index(line.form)
        low, middle, high = 1e3 * pd.Series(line.step_s).quantile([0.25, 0.5, 0.75])
        y = rows.index(line.case) + (0 if line.penalty == "none" else 0.2 * (k - (len(forms) - 1) / 2))
        spread = [[middle - low], [high - middle]]
        style = {"fmt": MARKERS[k], "color": PALETTE[k], "ms": 4.5, "capsize": 2, "label": line.form}
        axes.errorbar(middle, y, xerr=spread, **style)
        if line.penalty == "none":
            axes.axvline(middle, color="0.5", lw=1, ls=":", label="unpenalised")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="ms per training step, one thread", ylim=(len(rows) - 0.5, -0.5))


def shares(axes, table, *, sizes, by, value):
    """Share of the units of each layer that is left: `value` holds a count per layer, `sizes` what there was.

    A marker per entry of `by`: mean ± standard deviation over runs.
    """
    labels = list(dict.fromkeys(table[by]))
    for k, label in enumerate(labels):
        counts = pd.DataFrame(table[table[by] == label][value].tolist()) / sizes
        x = [j + (k - (len(labels) - 1) / 2) * 0.7 / len(labels) for j in range(len(sizes))]
        style = {"fmt": MARKERS[k], "color": PALETTE[k], "ms": 5, "capsize": 2, "label": label}
        axes.errorbar(x, counts.mean(), yerr=counts.std(ddof=1).fillna(0), **style)
    axes.set_xticks(range(len(sizes)), [f"{n:,}" for n in sizes])
    axes.set_ylim(0, 1.08)
    axes.yaxis.set_major_formatter(percents)


def logarithmic(axes, which, locator, form="{x:g}"):
    """A logarithmic x or y axis, labelled where the locator says; one along which nothing is drawn stays as it is."""
    if not getattr(axes.dataLim, f"interval{which}")[1] > 0:
        return
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(locator)
    axis.set_major_formatter(StrMethodFormatter(form))
    axis.set_minor_locator(NullLocator())


def compressions(axes, ratios):
    """A logarithmic abscissa of compressions, labelled at these ratios."""
    axes.set_xlabel("compression")
    logarithmic(axes, "x", FixedLocator(ratios), "{x:g}×")


def over_compressions(axes, table, value, *, index, **style):
    """A curve over the column `ratio` of a column in per cent: mean ± standard deviation over runs."""
    values = 100 * table.groupby("ratio")[value].agg(["mean", "std"]).fillna(0)
    style = {"color": PALETTE[index], "marker": MARKERS[index], "ms": 4.5, "lw": 1.2, "capsize": 2} | style
    axes.errorbar(values.index, values["mean"], values["std"], **style)


def decades(axes):
    """A logarithmic abscissa labelled at the powers of ten, or where it spans no two of them at 1, 2 and 5 of each."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 15 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend(axes, **options):
    """A legend below the axes, an entry per label, so that it never covers data."""
    entries = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    columns = options.pop("ncols", len(entries))
    axes.figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, **options)

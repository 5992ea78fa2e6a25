"""The playground's room: what is looked at while a network trains, the picture of it, and the controls."""

import copy
import io
import time

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

from companion import figures
from lib import measures, models, pruning, shrinking, training

SMALL = 1e-3  # a smaller weight counts as zero here, since not every penalty reaches zero itself
POINTS = 20  # of the curves
INVITED = "Set, then press Train. Dotted: the recorded run."
CURVES = ("accuracy", "zero weights", "dead units")


def point(net, split):
    """Numbers of a network under way: its validation accuracy, and the shares of zero weights and of dead units."""
    cut = _cut(net)
    units = sum(group.width for group in cut.groups)
    accuracy = measures.accuracy(training.predict(net, split.validation.x), split.validation.y)
    dead = 1 - sum(shrinking.alive(cut).values()) / units
    return {"accuracy": accuracy, "zero weights": measures.sparsity(cut), "dead units": dead}


def state(net):
    """What the picture shows of the weights, plain data: their histogram, and the first layer with its dead units.

    The mask has a text for each unit, a hexadecimal digit for four of its incoming weights: 1 where one is not zero.
    """
    first = next(iter(models.weights(net).values())).detach()
    packed = np.packbits((first.abs() >= SMALL).numpy(), axis=1)
    dead = next(iter(shrinking.dead_units(_cut(net)).values()))
    found = {"mask": [row.tobytes().hex() for row in packed], "dead": dead.tolist()}
    return found | {"histogram": measures.histogram(net, bins=61, within=0.6)}


def _cut(net):
    """A copy without the small weights."""
    cut = copy.deepcopy(net)
    pruning.apply(cut, {name: w.detach().abs() >= SMALL for name, w in models.weights(cut).items()})
    return cut


def picture(curves, weights, *, beside=None, title=""):
    """A figure of three panels: curves over the training, the histogram of weights, the first layer's mask.

    beside: the curves of another run, drawn dotted. Both are dicts of lists; `weights` is `state`'s.
    """
    figure, panels = figures.canvas(1, 3, height=2.9, width=9.6, width_ratios=[1.5, 1.2, 1.3])
    for k, name in enumerate(CURVES):
        style = {"color": figures.PALETTE[k], "lw": 1.6, "ls": figures.LINES[k]}
        panels[0].plot(*_over(curves[name]), **style, label=name)
        if beside:
            panels[0].plot(*_over(beside[name]), color=figures.PALETTE[k], lw=1, ls=":", alpha=0.8)
    panels[0].set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="share of the training", title=title or "over the training")
    panels[0].yaxis.set_major_formatter(figures.percents)
    panels[0].xaxis.set_major_formatter(figures.percents)
    histogram(panels[1], weights["histogram"])
    _mask(panels[2], weights["mask"], weights["dead"])
    figures.legend(panels[0])
    return figure


def _over(values):
    """Abscissae and ordinates of a curve of which some of the POINTS are there."""
    return [(k + 1) / POINTS for k in range(len(values))], values


def histogram(axes, counted):
    """How many weights there are of each size, on a logarithmic scale; `counted` is `measures.histogram`'s."""
    counts, within = counted["counts"], counted["within"]
    edges = np.linspace(-within, within, len(counts) + 1)
    axes.stairs(np.maximum(counts, 0.5), edges, fill=True, baseline=0.5, color=figures.PALETTE[0])
    axes.set(yscale="log", ylim=(0.5, None), xlabel="weight (outermost: and beyond)", title="weights, how many")


def _mask(axes, rows, dead):
    """The units of the first layer as tiles, a pixel of the image each: filled where the weight is not zero."""
    bits = unpacked(rows)
    side, columns = round(bits.shape[1] ** 0.5), 8
    shade = 2 + np.array(dead)[:, None, None]  # 0 paper, 1 the tile, 2 a weight, 3 one of a dead unit
    tiles = np.where(bits.reshape(len(bits), side, side), shade, 1)
    tiles = np.pad(tiles, [(0, -len(bits) % columns), (1, 1), (1, 1)])
    tiles = tiles.reshape(-1, columns, side + 2, side + 2).transpose(0, 2, 1, 3)
    colours = ListedColormap(["white", "#e8e8e8", figures.PALETTE[0], figures.PALETTE[1]])
    picture = tiles.reshape(tiles.shape[0] * (side + 2), -1)
    axes.imshow(picture, cmap=colours, vmin=0, vmax=3, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(f"first layer: {sum(dead)} of {len(dead)} units dead")


def unpacked(rows):
    """The mask as booleans, (units, inputs)."""
    packed = np.frombuffer(bytes.fromhex("".join(rows)), np.uint8).reshape(len(rows), -1)
    return np.unpackbits(packed, axis=1).astype(bool)


def to_png(figure):
    """The bytes of a figure as PNG; the figure is closed."""
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    plt.close(figure)
    return png.getvalue()


class Playground(widgets.VBox):
    """Controls for the settings of a training, two buttons, and the picture that grows while it trains.

    train: called as train(settings, watch); it calls watch(net, split) POINTS times. settings: what Reset returns to.
    ranges: name → its label, then the choices, or the lowest, the highest and the step, or "log" and two powers of ten.
    beside: the curves of the recorded run, dotted.
    """

    def __init__(self, train, settings, ranges, beside):
        self.train, self.settings, self.beside = train, settings, beside
        self.drawn = self.cost = 0.0  # when the picture was drawn last, and the seconds that it took
        self.controls = {name: _control(settings[name], *given) for name, given in ranges.items()}
        self.button = widgets.Button(description="Train", button_style="primary", icon="play")
        self.again = widgets.Button(description="Reset", icon="undo")
        self.said = widgets.HTML(INVITED)
        self.image = widgets.Image(format="png", layout={"display": "none", "max_width": "100%"})
        self.button.on_click(lambda _: self.go())
        self.again.on_click(lambda _: self.reset())
        grid = widgets.GridBox([*self.controls.values()], layout={"grid_template_columns": "repeat(2, 28em)"})
        super().__init__([grid, widgets.HBox([self.button, self.again, self.said]), self.image])

    def __repr__(self):
        return "Controls and a live picture: they are there while this notebook runs in JupyterLab."

    def go(self):
        """Train with what the controls say; the buttons rest meanwhile."""
        chosen = {name: control.value for name, control in self.controls.items()}
        self.button.disabled = self.again.disabled = True
        self.said.value, curves = "training …", {}
        try:
            self.train(chosen, lambda net, split: self.watch(net, split, curves))
            last = ", ".join(f"{name} {curves[name][-1]:.1%}" for name in CURVES)
            self.said.value = f"Done: {last}."
        except Exception as error:  # a callback's traceback would go to a log that nobody reads
            self.said.value = f"{type(error).__name__}: {error}"
        finally:
            self.button.disabled = self.again.disabled = False

    def watch(self, net, split, curves):
        """Add a point to the curves, and renew the picture: at most once a second, and at the end."""
        for name, value in point(net, split).items():
            curves.setdefault(name, []).append(value)
        done = len(curves[name])
        started = time.monotonic()
        if started - self.drawn > max(1, 3 * self.cost) or done == POINTS:
            self.image.value = to_png(picture(curves, state(net), beside=self.beside, title="your run"))
            self.image.layout.display, self.drawn = "block", time.monotonic()
            self.cost = self.drawn - started
        return {}

    def reset(self):
        """All controls as they were, and no picture."""
        for name, control in self.controls.items():
            control.value = self.settings[name]
        self.image.layout.display, self.image.value, self.said.value = "none", b"", INVITED


def _control(value, label, *given):
    """A drop-down list for choices, a slider for a range."""
    common = {"description": label, "value": value, "style": {"description_width": "11em"}, "layout": {"width": "27em"}}
    if given[0] == "log":
        return widgets.FloatLogSlider(min=given[1], max=given[2], step=0.25, readout_format=".1e", **common)
    if isinstance(given[0], str):
        return widgets.Dropdown(options=given, **common)
    kind = widgets.IntSlider if isinstance(given[2], int) else widgets.FloatSlider
    return kind(min=given[0], max=given[1], step=given[2], **common)

"""The interactive chart of every run, in Vega-Lite 5: JupyterLab draws it itself, the site with a script of its own."""

import altair as alt
from IPython.display import display

LEFT = {  # column: what is on the abscissa
    "weights": "nonzero weights",
    "units": "hidden units",
    "operations": "operations, shrunk",
    "ms_1": "ms at batch 1, shrunk",
    "ms_64": "ms at batch 64, shrunk",
}
TOLD = ["method", "setting", "stage", "network", "data", "notebook", "error", "sd", "seeds", "score", *LEFT]
COLOURS = ["#0173b2", "#de8f05", "#029e73", "#949494"]  # the figures' own, told apart without colour vision
FILTERS = ("paper", "data", "network", "method")
MIME = "application/vnd.vegalite.v5+json"


def spec(table):
    """The chart of a table of `every_run.points` as a Vega-Lite specification, the data inside it as CSV."""
    show = _menu("left", "what is left", "weights", list(LEFT), labels=list(LEFT.values()))
    known = {name: sorted(set(table[name])) for name in FILTERS}
    first = dict.fromkeys(FILTERS, "all") | ({"data": "mnist"} if "mnist" in known["data"] else {})
    chosen = {name: _menu(f"pick_{name}", name, first[name], ["all", *known[name]]) for name in FILTERS}
    cuts = alt.param("cuts", value=False, bind=alt.binding_checkbox(name="with networks not yet fine-tuned "))
    chart = alt.Chart(_data(table), width=620, height=400).mark_point(filled=True, size=55, opacity=0.75)
    chart = chart.transform_calculate(left_="datum[left]").transform_filter("datum.left_ > 0 && datum.error > 0")
    for name in chosen:
        chart = chart.transform_filter(f"pick_{name} == 'all' || datum.{name} == pick_{name}")
    chart = chart.transform_filter("cuts || datum.intermediate != 'True'")
    wide = alt.Scale(type="log", nice=False, padding=12)
    chart = chart.encode(
        x=alt.X("left_:Q", scale=wide, axis=alt.Axis(format="~s", title=None, tickCount=6)),
        y=alt.Y("error:Q", scale=wide, axis=alt.Axis(format="~g", title="test error, %", tickCount=6)),
        color=alt.Color("paper:N", scale=alt.Scale(range=COLOURS), legend=alt.Legend(orient="top", title=None)),
        shape=alt.Shape("paper:N"),
        tooltip=[alt.Tooltip(f"{name}:N") for name in TOLD],
    )
    labels = ", ".join(f"{column}: '{words}'" for column, words in LEFT.items())
    title = alt.Title(alt.expr(f"'test error against ' + {{{labels}}}[left]"), anchor="start")
    menus = [show, *chosen.values(), cuts, alt.selection_interval(bind="scales")]
    return chart.properties(title=title).add_params(*menus).to_dict()


def _menu(name, words, value, options, **labels):
    return alt.param(name, value=value, bind=alt.binding_select(options=options, name=f"{words} ", **labels))


def _data(table):
    """The columns that the chart reads, as CSV: half the size of a list of objects."""
    columns = ["paper", "intermediate", *TOLD]
    return alt.InlineData(table[columns].to_csv(index=False), format=alt.CsvDataFormat(type="csv"))


def show(table):
    """Display the chart; where no Vega-Lite is at hand, say where it is drawn."""
    if table.empty:
        print("NOT RUN: there is no record of a network yet")
        return
    elsewhere = (
        f"*{len(table):,} networks in an interactive chart: JupyterLab draws it here, the site on its page Every run.*"
    )
    display({MIME: spec(table), "text/markdown": elsewhere, "text/plain": elsewhere.strip("*")}, raw=True)

"""Records as tables."""

import pandas as pd


def frame(records):
    """A table with one line per stage or timed variant: id, seed, the case's fields, then the row's, curves left out.

    A variant's name "GL / full / closed / step" becomes the columns penalty, extent, form and, where given, what.
    """
    lines = []
    for record in records:
        head = {"id": record["id"], "seed": record["seed"], **record.get("case", record["config"]["case"])}
        for row in record["rows"]:
            names = zip(("penalty", "extent", "form", "what"), row.get("variant", "").split(" / "), strict=False)
            fields = dict(names) if "variant" in row else {}
            lines.append(head | {"run": record["status"]} | fields | {k: v for k, v in row.items() if k != "curves"})
    return pd.DataFrame(lines)


def mean_std(values, *, digits=2, scale=1):
    """The mean of a column ± its standard deviation, as text; scale=100 for per cent."""
    spread = f" ± {scale * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * values.mean():.{digits}f}{spread}"


def step_times(table):
    """Timed variants as a reader wants them: steps per second, and the time of a step relative to the unpenalised one.

    `table` is a `frame` of timing records of one network or several, told apart by `network`. Ratios are paired by
    round: their median and quartiles.
    """
    return pd.concat([_relative(group) for _, group in table.groupby("network", sort=False)])


def _relative(group):
    rounds = pd.DataFrame(group["step_s"].tolist(), index=group.index).T  # a line per round, a column per variant
    ratios = rounds.div(rounds[group.index[group["penalty"] == "none"][0]], axis=0)
    low, high = (ratios.quantile(q).map("{:.3f}".format) for q in (0.25, 0.75))
    found = {
        "steps/s": (1 / rounds.median()).map("{:.0f}".format),
        "time / unpenalised": ratios.median().map("{:.3f}".format),
    }
    return group[["network", "penalty", "extent", "form"]].assign(**found, quartiles=low + " to " + high)

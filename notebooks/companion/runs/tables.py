"""Records as tables."""

from collections.abc import Iterable

import pandas as pd


def finished(records):
    """The records without those of runs that diverged."""
    return [record for record in listed(records) if record["status"] == "done"]


def listed(records):
    """The records as a list. ValueError: there is one alone, or something else among them."""
    records = list(records) if isinstance(records, Iterable) and not isinstance(records, dict) else [None]
    if not all(isinstance(record, dict) and "status" in record for record in records):
        raise ValueError("a list of records is needed, as runs.run_all returns it; of one record give [record]")
    return records


def frame(records):
    """A table, a line per stage or timed variant: id, seed, device, the case's fields, run, then the row's, no curves.

    Before the case's fields stand the parameters that the notebook's call has changed; one whose name the case or the
    row has as well is called "name (parameter)". A variant's name "GL / full / closed / step" becomes the columns
    penalty, extent, form and, where given, what. A run that is given twice under one case counts once; runs that
    diverged are left out, and `spent` names them.
    """
    lines = []
    once = {(r["id"], str(r.get("case")), str(r.get("parameters"))): r for r in finished(records)}
    for record in once.values():
        case, changed = record.get("case", record["config"]["case"]), record.get("parameters", {})
        for row in record["rows"]:
            named = {f"{name} (parameter)" if name in case | row else name: v for name, v in changed.items()}
            head = {"id": record["id"], "seed": record["seed"], "device": record.get("provenance", {}).get("device")}
            head |= named | case
            names = zip(("penalty", "extent", "form", "what"), row.get("variant", "").split(" / "), strict=False)
            fields = dict(names) if "variant" in row else {}
            lines.append(head | {"run": record["status"]} | fields | {k: v for k, v in row.items() if k != "curves"})
    return pd.DataFrame(lines)


def spent(records):
    """A sentence: how many runs there are, how many of them diverged and which, and what they took."""
    made = {record["id"]: record for record in listed(records)}.values()
    minutes = sum(record["wall_s"] for record in made) / 60
    took = f"{minutes / 60:.1f} hours" if minutes >= 120 else f"{minutes:.{0 if minutes >= 10 else 1}f} minutes"
    diverged = [record for record in made if record["status"] != "done"]
    told = f"{len(made)} runs, {len(diverged) or 'none'} diverged; together {took}; {_several(made, 'threads')} "
    told += f"{'thread' if _several(made, 'threads') == '1' else 'threads'} each; device: {_several(made, 'device')}"
    return "\n  ".join([told, *map(_diverged, diverged)])


def _several(records, key):
    """What the provenance of records says, each entry once; a timing's steps run on one thread of the process."""
    pinned = {"threads": 1}
    said = [record["provenance"] | (pinned if record["config"].get("kind") == "timing" else {}) for record in records]
    return ", ".join(sorted({str(provenance.get(key, "?")) for provenance in said}))


def _diverged(record):
    case = record.get("case", record["config"]["case"])
    where = ", ".join(f"{key} {value}" for key, value in case.items() if not isinstance(value, list))
    return f"diverged, and left out: {record['experiment']}, {where}, seed {record['seed']} ({record['message']})"


def mean_std(values, *, digits=2, scale=1):
    """The mean of a column ± its standard deviation, as text; scale=100 for per cent."""
    spread = f" ± {scale * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * values.mean():.{digits}f}{spread}"


def means(table, by, columns):
    """Means ± standard deviations over runs in per cent, a line per group: name → (column, digits)."""
    groups = table.groupby(by, sort=False)
    return pd.DataFrame({n: groups[c].agg(mean_std, digits=d, scale=100) for n, (c, d) in columns.items()})


def markdown(head, lines, *, numbers=0):
    """A table in Markdown of lists of cells, each in one line; the last `numbers` columns are set to the right."""
    lines = [[cell.replace("\n", " ") for cell in line] for line in lines]  # a line break would end the table
    rule = "|---" * (len(head) - numbers) + "|---:" * numbers + "|"
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


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

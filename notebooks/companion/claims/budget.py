"""All methods at equal budget: the points that notebook 00 trained, and the tables of them here and in README."""

from itertools import pairwise

from companion import runs

EXPERIMENTS = ("equal_budget", "equal_budget_latency")
WITHIN = 0.005  # of the dense network's validation error
COLUMNS = {  # column: (what it is called, factor, digits)
    "error": ("test error %", 100, 2),
    "nonzero": ("weights left, at most", 1, 0),
    "bytes": ("kB, at most", 0.001, 1),
    "units": ("hidden units left", 1, 0),
    "ms, batch 1": ("µs, batch 1", 1000, 0),
    "ms, batch 64": ("µs, batch 64", 1000, 0),
}


def widths_of(row):
    """The hidden widths of the network that a stage leaves when it is shrunk; a layer keeps one unit at least."""
    return tuple(max(1, units) for units in row["alive"])


def weights_of(record, row):
    """How many weights a stage needs at most: those that are not zero, and no more than the shrunk network has.

    A weight into or out of a unit that is gone does nothing. Of a network whose weights are pruned one by one the
    records do not say how many of those that are left lie there, so that its count is an upper bound.
    """
    return min(row["nonzero"], weights_between(record["config"]["model"], widths_of(row)))


def weights_between(mlp, widths):
    """How many weights a perceptron has, with a configuration's inputs and outputs and these hidden widths."""
    return sum(a * b for a, b in pairwise([mlp["inputs"], *widths, mlp["outputs"]]))


def bytes_of(record, row):
    """How many bytes the shrunk network takes at most in a file, dense or sparse, without the file's header.

    Four for each number; in a sparse file (`lib.sparse`) for those that are not zero, and a bit to each place.
    """
    widths = widths_of(row)
    places, numbers = weights_between(record["config"]["model"], widths), weights_of(record, row)
    biases = sum(widths) + record["config"]["model"]["outputs"]
    return min(4 * places, 4 * numbers + -(-places // 8)) + 4 * biases


def latencies(timed):
    """Milliseconds of a forward pass by (hidden widths, batch), of the records that notebook 00 timed."""
    return {(tuple(row["widths"]), row["batch"]): row["median"] for record in timed for row in record["rows"]}


def points(records, timed):
    """A line per method, setting and seed, with the latency of the widths that are left.

    `timed` are latency records, rows of widths, batch and median. A stage is called "method: setting", or "dense";
    one that only leads to others is called "train". The dense network comes first, then the papers' methods, then the
    others, each from many weights to few, in whatever order the records are.
    """
    done = {record["id"]: record for record in records if record["status"] == "done"}
    table = runs.frame(done.values())
    table = table[table["stage"] != "train"]
    rows = table.to_dict("records")
    left, stored = ([count(done[row["id"]], row) for row in rows] for count in (weights_of, bytes_of))
    names = table["stage"].str.partition(": ")
    took = latencies(timed)
    widths = [widths_of(row) for row in rows]
    latency = {f"ms, batch {b}": [took.get((w, b)) for w in widths] for b in sorted({b for _, b in took})}
    table = table.assign(
        method=names[0],
        setting=names[2],
        error=1 - table["test_accuracy"],
        units=table["alive"].map(sum),
        compression=table["nonzero"] / (1 - table["sparsity"]) / left,
        nonzero=left,
        bytes=stored,
        **latency,
    )
    kind = table["method"].map(lambda m: (m != "dense", m[0] != "P", m))
    size = -table.groupby(["method", "setting"])["nonzero"].transform("mean")
    order = table.assign(kind=kind, size=size).sort_values(["kind", "size", "setting", "seed"])
    return order.drop(columns=["kind", "size"])


def table(lines):
    """Points as a Markdown table, a line per method and setting: mean ± standard deviation over seeds."""
    columns = {name: how for name, how in COLUMNS.items() if name in lines}
    rows = []
    for (method, setting), group in lines.groupby(["method", "setting"], sort=False):
        cells = [runs.mean_std(group[name], scale=f, digits=d) for name, (_, f, d) in columns.items()]
        same = [group[name].nunique() == 1 for name in columns]  # a count that is set, or one timing for all seeds
        cells = [cell.partition(" ±")[0] if one else cell for cell, one in zip(cells, same, strict=True)]
        cells = [cell.replace(" ", "\N{NO-BREAK SPACE}") for cell in cells]  # else a narrow page breaks at ±
        rows.append([f"{method}, {setting}".removesuffix(", "), *cells])
    return runs.markdown(["method", *(title for title, *_ in columns.values())], rows, numbers=len(columns))


def best(lines):
    """The points of one setting per method, chosen on validation.

    The fewest weights at which the error is within half a point of the dense network's, else the smallest error.
    """
    lines = lines.assign(validation_error=1 - lines["validation_accuracy"])
    means = lines.groupby(["method", "setting"], sort=False)[["validation_error", "nonzero"]].mean()
    means["far"] = means["validation_error"] > means.xs("dense")["validation_error"].iloc[0] + WITHIN
    means["size"] = means["nonzero"].where(~means["far"], means["validation_error"])
    order = means.sort_values(["far", "size"], kind="stable").reset_index().drop_duplicates("method")
    return lines.merge(order[["method", "setting"]])


def markdown(records=None):
    """The table of the best points as README.md shows it, of the committed records if no others are given."""
    if records is None:
        records = [record for name in EXPERIMENTS for record in runs.committed(name).values()]
    timed = [record for record in records if record["config"]["kind"] == "own"]
    trained = [record for record in records if record["config"]["kind"] != "own"]
    found = points(trained, timed) if trained else None
    if found is None or "dense" not in set(found["method"]):
        return f"Not run yet: there are no records of {'it' if found is None else 'the dense network'}.\n"
    return table(best(found))

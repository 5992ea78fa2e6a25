"""What README shows first, computed from the records: what is gained, the verdicts in plain words, the gallery."""

from collections import Counter
from contextlib import suppress
from functools import cache

from companion import claims, runs
from companion.settings import ROOT

GALLERY = {  # notebook/figure: what to look at
    "05_partial_optimal_structure/demo": "Units that survive a long training, from two starting widths",
    "10_l0_penalty/histograms": "Where the weights end: ℓ0 leaves few, and those large",
    "11_l0_lenet/frontier": "Error against compression, published points as stars",
    "12_l0_competitors/competitors": "ℓ0 + ℓ2 beside ℓ1 and four other methods",
    "20_node_dynamics/removed_against_pruned": "More nodes fall than zeros in random places would fell",
    "21_mlp_stochastic/accuracy_and_nodes": "Half of the nodes gone, and what controls say",
    "23_unet_stochastic/instances": "Cells found by a U-Net before and after",
    "30_your_own_network/size_and_speed": "Size and speed of networks that `lib` did not build",
}
COLUMNS = 2
OWN = "the companion"
TITLES = {
    "P1": "P1, a part goes unpenalised",
    "P2": "P2, ℓ0 and pruning",
    "P3": "P3, zeros by chance",
    OWN: "The companion's own questions",
}


def named(text, notebook):
    """A text as a link to a notebook, seen from where README stands."""
    return f"[{text}](notebooks/{notebook}.ipynb)"


def numbers():
    """A table of what networks lose in size and keep in accuracy, a line per network; only of runs that are there."""
    lines = []
    for network in (lenet, stochastic_mlp, resnet, vgg):
        with suppress(claims.Lacking):
            lines.append(network())
    return runs.markdown(["network", "what was done", "what is left", "error, dense → small"], lines)


def frame(experiment, **where):
    """The committed rows of an experiment whose columns have these entries, divergent runs left out; Lacking: none."""
    table = runs.frame(runs.committed(experiment).values())
    for column, entry in where.items():
        table = table[table[column] == entry] if column in table else table.iloc[:0]
    if table.empty:
        raise claims.Lacking(f"{experiment} has no such runs")
    return table


def errors(before, after):
    """Test errors in per cent, mean ± standard deviation over seeds, before → after."""
    told = [runs.mean_std(1 - table["test_accuracy"], scale=100) for table in (before, after)]
    return f"{' → '.join(told)} %"


def lenet():
    """P2's network at 100×."""
    dense = frame("p2_lenet300_mnist", penalty="none", stage="dense")
    small = frame("p2_lenet300_mnist", penalty="ℓ0 + ℓ2", stage="gradual 100 tuned")
    as_long = frame("p2_lenet300_mnist", penalty="ℓ0 + ℓ2", stage="scratch 100 tuned")  # as the whole chain
    longer = as_long["steps"].mean() / dense["steps"].mean()
    done = f"trained with ℓ0 + ℓ2, pruned in steps, tuned; {longer:.1f} times the epochs of the dense one"
    left = f"{small['nonzero'].mean():,.0f} of {dense['nonzero'].mean():,.0f} weights"
    return [named("LeNet-300-100, MNIST", "11_l0_lenet"), done, left, errors(dense, small)]


def stochastic_mlp():
    """P3's network: zeroing with L2, units as `lib.shrinking` counts them."""
    table = frame("p3_mlp", network="1000-1000")
    dense = table[table["stage"] == "dense"]
    small = table[(table["stage"] == "stochastic") & (table["penalty"] == "L2")]
    units = small["alive"].map(sum).mean()
    left = f"{units:,.0f} of {small['units'].mean():,.0f} nodes, {small['nonzero'].mean():,.0f} weights"
    network = named("784-1000-1000-10, MNIST", "21_mlp_stochastic")
    return [network, "trained with zeroing and L2, tuned", left, errors(dense, small)]


def resnet():
    """A network that `lib` did not build: parameters, latency and error of the dense and of the compressed one."""
    table = frame("take_home", network="ResNet-18")
    dense, small = (table[table["stage"] == stage].set_index("seed") for stage in ("dense", "tuned"))
    times = [(dense[c] / small[c]).mean() for c in ("ms, batch 1", "ms, batch 64")]
    smaller = (dense["parameters"] / small["parameters"]).mean()
    network = named("torchvision's ResNet-18, digits of 8 × 8", "30_your_own_network")
    left = f"{smaller:.0f}× fewer parameters, {times[0]:.1f}× (batch 1) and {times[1]:.1f}× (batch 64) faster"
    return [network, "regularised, cut, shrunk, tuned", left, errors(dense, small)]


def vgg():
    """What removed filters are worth in time: a network at its published widths, which nobody trained for this."""
    table, told = frame("bench_removal"), []
    for layouts in (["default"], ["default", "channels last"]):
        ms = table[table["layout"].isin(layouts)].groupby(["network", "batch", "seed"])["ms"].min()
        times = (ms["masked"] / ms["shrunk"]).groupby("batch").mean()
        told.append(" and ".join(f"{times[batch]:.1f}× (batch {batch})" for batch in (1, 64)))
    flops = table.groupby("network")["flops"].mean()
    left = f"{flops['masked'] / flops['shrunk']:.1f}× fewer operations, {told[0]} faster than with the filters masked; "
    left += f"{told[1]} where each of the two networks has its faster memory layout"
    share = next(iter(runs.committed("bench_removal").values()))["config"]["options"]["removed"]
    network = named("VGG-16, full width", "91_bench")
    return [network, f"{100 * share:.0f} % of the filters removed", left, "timed only"]


@cache
def plain():
    """By claim: `says`, in plain words, and where something was found the `verdict` that the `finding` speaks of."""
    return claims.written.table("plain")


def words(claim, says, verdict):
    """A claim in plain words, its own where there are none, and the finding where it speaks of this verdict."""
    told = plain().get(claim, {})
    return told.get("says", says), told.get("finding", "") if told.get("verdict") == verdict else ""


def verdicts(table):
    """An `overview` in plain words by whose claims they are: how they fared, and a folded table with a line each."""
    parts = []
    for whose, group in _sides(table):
        told = _told(group)
        _, gist = words(whose, "", told)
        lines = []
        for line in group.itertuples():
            says, finding = words(line.claim, line.says, line.verdict)
            name = named(line.claim, line.notebook)
            lines.append([f"**{name}** {says}", f"{claims.SIGNS.get(line.verdict, '')}{line.verdict}", finding])
        folded = runs.markdown(["claim", "verdict", "what was found"], lines)
        folded = f"<details><summary>{len(group)} claims: {told}</summary>\n\n{folded}\n</details>"
        parts.append(f"**{TITLES[whose]}.** {gist}\n\n{folded}\n")
    return "\n".join(parts)


def _sides(table):
    """Whose claims, and these lines of an `overview`: of each paper, then the companion's own."""
    asked = [claims.CLAIMS[name] for name in table["claim"]]
    whose = [OWN if claim.own else claim.paper for claim in asked]
    return [(side, table[[side == mine for mine in whose]]) for side in TITLES if side in whose]


def _told(table):
    """How many claims of an `overview` have each verdict."""
    found = Counter(table["verdict"])
    return ", ".join(f"{found[verdict]} {verdict}" for verdict in claims.VERDICTS if found[verdict])


def counts(table, amended):
    """How an `overview` came out, the papers' claims and the companion's own apart, and what replaced rules changed.

    amended: the table of `claims.amendments`; of a rule that was replaced several times each older one counts.
    """
    own = table["claim"].map(lambda name: claims.CLAIMS[name].own)
    amended = amended[amended["claim"].isin(table["claim"])]
    changed = amended[amended["old verdict"] != amended["new verdict"]]["claim"].nunique()
    told = f"Of the papers' {(~own).sum()} claims the recorded runs give these [verdicts](#verdicts): "
    told += _told(table[~own]) + (f"; of the companion's own {own.sum()}: {_told(table[own])}. " if own.any() else ". ")
    told += f"The rules of {amended['claim'].nunique()} of all {len(table)} were replaced after runs; "
    return f"{told}{changed} of these had another verdict by an older rule.\n"


def found(table, notebook):
    """The verdicts of an `overview` on a notebook's claims, in plain words, and how often their rules were replaced."""
    replaced = Counter(amendment.claim for amendment in claims.amendments.AMENDMENTS)
    lines = ["**What was found**, by the committed runs:", ""]
    for line in table[table["notebook"] == notebook].itertuples():
        says, finding = words(line.claim, line.says, line.verdict)
        times = {0: "", 1: "once"}.get(replaced[line.claim], f"{replaced[line.claim]} times")
        note = f"Its rule was replaced {times} after runs." if times else ""
        verdict = f"{claims.SIGNS.get(line.verdict, '')}*{line.verdict}*."
        lines.append(" ".join(filter(None, [f"- **{line.claim}** {says}:", verdict, finding, note])))
    return "\n".join(lines) + "\n"


def gallery():
    """Pictures side by side, each a link to its notebook, those of notebooks that have been run."""
    shown = [name for name in GALLERY if (ROOT / "figures" / f"{name}.png").is_file()]
    lines = []
    for start in range(0, len(shown), COLUMNS):
        row = shown[start : start + COLUMNS]
        books = [name.partition("/")[0] for name in row]
        pictures = [
            f'<a href="notebooks/{book}.ipynb"><img src="figures/{name}.png" width="400" alt="{GALLERY[name]}"></a>'
            for book, name in zip(books, row, strict=True)
        ]
        titles = [f"{named(book[:2], book)} {GALLERY[name]}" for book, name in zip(books, row, strict=True)]
        pad = [""] * (COLUMNS - len(row))
        lines += [f"| {' | '.join(cells)} |" for cells in (pictures + pad, titles + pad)]
    head = [f"|{'  |' * COLUMNS}", f"|{':-:|' * COLUMNS}"]
    return "\n".join([*head, *lines]) + "\n"

"""What the applications of P3 have in common: a network pruned by zeroing, the dense one and its controls.

A notebook says what its experiment is (data, networks, epochs, strengths); this makes the configurations of it.
"""

from dataclasses import dataclass, field, replace

import pandas as pd

from companion import figures, runs
from companion.claims.p3 import removed, taken
from companion.parameters import PROFILES

FINALS = ("dense", "stochastic", "no sampling", "magnitude", "units", "chance", "scratch")
BY = {"size": "stochastic", "rank": "no sampling", "chance": "chance"}  # way of zeroing: the stage tuned after it
METHODS = ("dense", "dense, chosen λ", "zeroing, none", "zeroing, L1", "zeroing, L2", *FINALS[2:])

RANGES = {  # of the parameters that the notebooks of convolutional networks share
    "targets": [(0.01, 0.999)],
    "epochs": (1, 10**4),
    "tuning": (1, 10**4),
    "lr": (1e-6, 1.0),
    "lams_l2": [(0.0, 1.0)],
    "lams_l1": [(0.0, 1.0)],
    "lam_tuning": (0.0, 1.0),
    "grid_seed": (0, 10**6),
}


def sized(sizes, given):
    """What a notebook runs: of every size its value at the profile, or the parameter of that name, where one is set.

    sizes: name → its values at PROFILES. given: the notebook's globals(). Made of them: `steps` of the two halves,
    `lams` by regularizer, and `common`, options of all stages.
    """
    size = {name: dict(zip(PROFILES, values, strict=True))[given["profile"]] for name, values in sizes.items()}
    size |= {name: given[name] for name in RANGES if name in size and given[name] is not None}
    size["steps"] = [size[half] * size["per_epoch"] for half in ("epochs", "tuning")]
    size["lams"] = {"L2": size["lams_l2"], "L1": size["lams_l1"]}
    optimizer = {"name": "adam", "lr": size["lr"]}
    return size | {"common": {"batch": size["batch"], "augment": size["augment"], "optimizer": optimizer}}


@dataclass(frozen=True)
class Application:
    """Every run has two halves: it trains with zeroing or densely, then holds what is zero and tunes the rest.

    networks, experiments, data: network → its model, the experiment that its runs belong to, their data set.
    controls: network → what it is compared with beside the dense one, if anything: any of FINALS[2:].
    steps: of the two halves. common: options of all stages. zeroing: options of `lib.pruning.StochasticZeroing`.
    norms: whether the regularizer of the first half is on the scales and shifts of batch norms as well.
    shrunk: whether a network without some of its units is tuned as the smaller one that it is: same outputs, less time.
    last: seed → what the tuning of its dense and its pruned networks keeps beside the scores.
    at_end: whether test images are scored in final stages alone and not in runs that choose, as new experiments do.
    images: whether final stages keep what each test image was given.
    """

    networks: dict
    experiments: dict
    data: dict
    controls: dict
    steps: tuple[int, int]
    common: dict
    zeroing: dict
    lam_tuning: float
    norms: bool = False
    shrunk: bool = False
    last: dict = field(default_factory=dict)
    at_end: bool = False
    images: bool = False

    def zeroed(self, network, seed, penalty, lam, target, *, by="size", suffix=""):
        """A network pruned by zeroing to a target share; by="rank" takes the smallest weights, "chance" any."""
        term = {"name": penalty.lower(), "lam": lam} | ({"norms": True} if self.norms else {})
        zeroing = self.zeroing | {"target": target} | ({} if by == "size" else {"by": by})
        first = self._stage("zeroing", penalty=None if penalty == "none" else term, zeroing=zeroing)
        case = {"penalty": penalty, "lam": lam, "target": target}
        return self.run(network, seed, [first, self._tuned(BY[by], seed)], suffix=suffix, **case)

    def compared(self, network, seed, pruned):
        """The dense network and the controls; `pruned`, the record of zeroing with L2, says how much they leave."""
        last = pruned["rows"][-1]
        widths = [max(1, n) for n in last["alive"]]
        cuts = {"magnitude": {"sparsity": last["sparsity"]}, "units": {"rule": "units", "widths": widths}}
        wanted = self.controls.get(network, ())
        tuned = [self._tuned(name, seed, prune=cut) | {"from": "train"} for name, cut in cuts.items() if name in wanted]
        yield self.dense(network, seed, *tuned)
        if "scratch" in wanted:
            stages = [self._stage("train", penalty=self._decay), self._tuned("scratch", seed)]
            yield self.run(network, seed, stages, widths=widths, penalty="none")
        for by in ("chance", "rank"):
            if BY[by] in wanted:
                yield self._as_many(pruned, by)

    def dense(self, network, seed, *tuned, suffix=""):
        """The dense network; `tuned` are further stages, which start from its first half."""
        stages = [self._stage("train", penalty=self._decay), self._tuned("dense", seed), *tuned]
        return self.run(network, seed, stages, suffix=suffix, penalty="none")

    def run(self, network, seed, stages, *, widths=None, suffix="", **case):
        """One configuration; `case` is what a table calls it, `units` how many the network has before it is pruned."""
        model = self.networks[network]
        return {
            "experiment": self.experiments[network] + suffix,
            "seed": seed,
            "case": {"network": network, "units": sum(model["widths"])} | case,
            "data": self.data[network],
            "model": model | ({"widths": widths} if widths else {}),
            "stages": stages,
        }

    def tried(self, network, seed, penalty, lams, targets):
        """The configurations among which validation chooses."""
        options = [(penalty, lam, target) for lam in lams for target in targets]
        unseen = replace(self, images=False)
        found = [unseen.zeroed(network, seed, *option, suffix="_grid") for option in options]
        return [run | {"stages": [stage | self._unseen for stage in run["stages"]]} for run in found]

    def dense_at(self, network, seed, lam, *, suffix=""):
        """The dense network at another λ than that of tuning, which its case names."""
        run = replace(self, lam_tuning=lam).dense(network, seed, suffix=suffix)
        return run | {"case": run["case"] | {"lam": lam}}

    def tried_dense(self, network, seeds, lams):
        """The dense network at every seed and λ, among which validation chooses: an experiment of its own."""
        unseen, scores = replace(self, images=False), {"scores": ["train", "validation"]}
        found = [unseen.dense_at(network, seed, lam, suffix="_dense_grid") for lam in lams for seed in seeds]
        return [run | {"stages": [stage | scores for stage in run["stages"]]} for run in found]

    def choose(self, network, seed, lams, targets, *, share, score="validation_accuracy"):
        """Try L2 at every λ and target, then L1 and zeroing alone at the target that L2 has (`matched`).

        Returns penalty → (λ, target), the log as a table, and the configurations tried. A penalty of which every run
        diverged is left out; RunError where that is L2. `share`, `score`: see `best`.
        """
        configs = self.tried(network, seed, "L2", lams["L2"], targets)
        if not (done := runs.finished(runs.run_all(configs))):
            raise runs.RunError(
                f"{network}: all runs with L2 diverged ({len(configs)}); give smaller λ or learning rates"
            )
        tables = [outcomes(done)]
        chosen = best(tables[0], share=share, score=score)
        target = matched(chosen["target"], chosen["sparsity"])
        choices = {"none": (0.0, target), "L2": (chosen["lam"], chosen["target"])}
        configs_l1 = self.tried(network, seed, "L1", lams["L1"], [target])
        if done := runs.finished(runs.run_all(configs_l1)):
            tables.append(outcomes(done))
            choices["L1"] = (best(tables[1], share=share, score=score)["lam"], target)
        return choices, log(pd.concat(tables), choices, score=score), configs + configs_l1

    def cases(self, choices, seeds):
        """All configurations at the settings chosen, network → penalty → (λ, target).

        Those with zeroing are run at once: what they leave is what the controls are made of.
        """
        main = [
            self.zeroed(network, seed, penalty, *choice)
            for network, mine in choices.items()
            for seed in seeds
            for penalty, choice in mine.items()
        ]
        if runs.not_run(main):
            return []
        found = [record for record in runs.run_all(main) if record["status"] == "done"]
        pruned = [record for record in found if record["config"]["case"]["penalty"] == "L2"]
        return main + [
            config
            for record in pruned
            for config in self.compared(record["config"]["case"]["network"], record["seed"], record)
        ]

    def unsampled(self, choices, seeds):
        """Zeroing with L2 at the settings chosen, each draw taking the smallest weights: an experiment of its own.

        As many weights go as with sampling at the same seed (`matched`). Test images are scored in final stages alone.
        No configurations where nobody has run them yet.
        """
        return replace(self, at_end=True)._without_sampling(self._sampled(choices, seeds), "_unsampled")

    def side_by_side(self, choices, seeds):
        """Zeroing with L2 with and without sampling, at the settings chosen, made anew: an experiment of its own.

        One machine and one version of the code make both. As `unsampled` otherwise.
        """
        apart, suffix = replace(self, at_end=True), "_sampling"
        sampled = apart._sampled(choices, seeds, suffix)
        unsampled = apart._without_sampling(sampled, suffix)
        return sampled + unsampled if unsampled else []

    def _sampled(self, choices, seeds, suffix=""):
        """Zeroing with L2 at the settings chosen, for every seed."""
        settings = [(network, seed, "L2", *mine["L2"]) for network, mine in choices.items() for seed in seeds]
        return [self.zeroed(*setting, suffix=suffix) for setting in settings]

    def _without_sampling(self, sampled, suffix):
        """For each of these that ends, as many of the smallest weights zeroed; none where nobody has run them yet."""
        if runs.not_run(sampled, go_on=True):
            return []
        done = runs.finished(runs.run_all(sampled))
        configs = [self._as_many(record, "rank", suffix=suffix) for record in done]
        return [] if runs.not_run(configs, go_on=True) else configs

    def _as_many(self, pruned, by, suffix=""):
        """Zeroing with L2, drawn in another way, at the seed, λ and pruned share (`matched`) of a record of it."""
        case, share = pruned["config"]["case"], pruned["rows"][-1]["sparsity"]
        setting = case["network"], pruned["seed"], "L2", case["lam"], matched(case["target"], share)
        return self.zeroed(*setting, by=by, suffix=suffix)

    @property
    def _decay(self):
        return {"name": "l2", "lam": self.lam_tuning}

    @property
    def _unseen(self):
        return {"scores": ["train", "validation"]} if self.at_end else {}

    def _stage(self, name, **options):
        kept = ({"images": True} if self.images else {}) if name in FINALS else self._unseen
        return {"name": name, "steps": self.steps[0], **self.common, **kept, **options}

    def _tuned(self, name, seed, **options):
        """The second half: what is zero stays zero, and the learning rate falls to 0."""
        half = {"steps": self.steps[1], "hold": True, "schedule": "linear", "penalty": self._decay}
        kept = self.last.get(seed, {}) if name in ("dense", "stochastic") else {}
        small = {"shrunk": True} if self.shrunk and name in ("stochastic", "units") else {}
        return self._stage(name, **(half | kept | small | options))


def outcomes(records):
    """What a choice of settings looks at: the tuned stage of every run, with the share of units that are `removed`."""
    table = runs.frame(records)
    table = table[table["stage"] == "stochastic"]
    return table.assign(removed=removed(table))


def best(table, *, share, score="validation_accuracy"):
    """The line that is `taken`, as a dict."""
    return table.to_dict("index")[taken(table, share=share, score=score)]


def best_dense(records, score):
    """λ of the dense network with the best mean validation score, of equal ones the largest, and the means by λ."""
    table = runs.frame(records)
    means = table[table["stage"] == "dense"].groupby("lam")[score].mean().round(6)
    return means[means == means.max()].index.max(), means


def matched(target, pruned):
    """The target for comparisons at equal pruned weights: the setting's own, or what it pruned, if 2 points more.

    L2 goes beyond its target where its decay alone takes weights to zero. Targets by layer stay as they are.
    """
    return target if isinstance(target, list) or pruned <= target + 0.02 else round(pruned, 2)


def log(table, choices, *, score="validation_accuracy"):
    """The settings that were tried, a line each, and which were chosen: penalty → (λ, target)."""
    columns = {score.replace("_", " "): score, "removed": "removed", "pruned": "sparsity"}
    shown = {f"{name} %": (100 * table[column]).map("{:.2f}".format) for name, column in columns.items()}
    shown["chosen"] = ["✓" if choices[line.penalty] == (line.lam, line.target) else "" for line in table.itertuples()]
    return pd.DataFrame(shown).set_index(pd.MultiIndex.from_frame(table[["penalty", "lam", "target"]].astype(str)))


def methods(records, networks):
    """A table with a line per method of a run: `runs.frame` of the last stages, `method` and share `removed` added.

    In the order of `networks`, then of METHODS, then by seed. The pruned share of a network from scratch, a small one
    with all of its weights, is counted against the dense network's. A dense one with a λ in its case has a chosen λ.
    """
    table = runs.frame(records)
    table = table[table["stage"].isin(FINALS)]
    if (scratch := table["stage"] == "scratch").any():
        dense = table[table["stage"] == "dense"].groupby("network")["nonzero"].max()
        table.loc[scratch, "sparsity"] = 1 - table["nonzero"] / table["network"].map(dense)
    named = table["stage"].where(table["stage"] != "stochastic", "zeroing, " + table["penalty"])
    if "lam" in table:
        named = named.where((named != "dense") | table["lam"].isna(), "dense, chosen λ")
    table = table.assign(removed=removed(table), method=named, place=named.map(METHODS.index))
    table = table.assign(rank=table["network"].map(list(networks).index))
    return table.sort_values(["rank", "place", "seed"]).drop(columns=["rank", "place"])


def means(table, columns):
    """Means ± standard deviations over seeds in per cent, a line per network and method: name → (column, digits)."""
    return runs.means(table, ["network", "method"], columns).rename_axis([None, None])


def scores(setup, table, values, units, *, edge=False):
    """Draw and save the scores and the removed units of a `methods` table, a panel each; values: column → its label.

    edge: whether a score far below the others is written at the edge of its panel, and the removed units have the
    whole range from none to all.
    """
    columns = values | {"removed": f"removed {units}"}
    figure, panels = figures.canvas(1, len(columns), height=2.9, sharey=True)
    style = {"by": "method", "hue": "network", "percent": True, "ticks": 5 if len(columns) < 3 else 3}
    for axes, (value, label) in zip(panels, columns.items(), strict=True):
        figures.dots(axes, table, value=value, edge=edge and value in values, **style)
        axes.set(xlabel=label)
    if edge:
        axes.set(xlim=(-0.02, 1.02))
    alt = f"Scores on the test images and removed {units} of zeroing with every regularizer and of the controls; "
    alt += "small dots are runs, markers with bars mean ± standard deviation"
    alt += "; a mean far below the others is written beside an arrow." if edge else "."
    figures.save(figure, f"scores_and_{units}", setup, alt=alt)


def units_left(setup, table, widths, units):
    """Draw and save the share of each layer's units that zeroing with every regularizer has left, by a `methods` table.

    widths: how many each layer had. units: what they are called, filters or channels.
    """
    figure, axes = figures.canvas(height=2.9)
    left = table[table["method"].str.startswith("zeroing")]
    figures.shares(axes, left, sizes=widths, by="method", value="alive")
    axes.set(xlabel=f"layer, by its number of {units}", ylabel=f"{units} left")
    axes.tick_params(axis="x", labelsize=8)
    figures.legend(axes)
    alt = f"Share of the {units} of each layer that zeroing with every regularizer has left, mean ± standard deviation."
    figures.save(figure, f"{units}_left", setup, alt=alt)

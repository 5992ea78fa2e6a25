"""Every recorded network as a point: what it is, what it scores, what is left of it."""

import math
import re
from functools import cache

import pandas as pd
import torch

from companion import applications, runs, settings
from companion.claims import budget
from lib import measures, models

NOTEBOOKS = {  # how the names of experiments begin: the notebook that made them
    "equal_budget": "00_overview",
    "p1_mnist": "01_partial_group_lasso_mnist",
    "p1_regression": "03_partial_regression",
    "p1_classification": "04_partial_classification",
    "p1_pruned": "04_partial_classification",
    "p1_structure": "05_partial_optimal_structure",
    "p1_free": "06_partial_beyond",
    "p1_proximal": "06_partial_beyond",
    "p2_penalty": "10_l0_penalty",
    "p2_lenet": "11_l0_lenet",
    "p2_competitors": "12_l0_competitors",
    "p2_equal": "12_l0_competitors",
    "p2_vgg16_cifar10": "13_l0_vgg16",
    "p2_hundredfold": "15_l0_hundredfold",
    "p2_": "14_l0_full_size",
    "p3_dynamics": "20_node_dynamics",
    "p3_mlp": "21_mlp_stochastic",
    "p3_vgg16_full": "25_full_size_stochastic",
    "p3_vgg16": "22_vgg16_stochastic",
    "p3_unet": "23_unet_stochastic",
    "p3_nuclei": "23_unet_stochastic",
    "p3_covid": "24_covid_cnn_stochastic",
    "p3_": "25_full_size_stochastic",
    "bf16": "90_bf16_against_fp32",
}
SCORES = {"test_accuracy": "1 − accuracy", "test_dice": "1 − Dice", "test_r2": "1 − R²"}  # the first that a row has
PENALTIES = {"GL": "group lasso", "SGL": "sparse group lasso", "none": "no penalty"}
NAMES = {"300-100": "LeNet-300-100", "784-300-100-10": "LeNet-300-100", "1000-1000": "784-1000-1000-10"}
CONTROLS = tuple(stage for stage in applications.FINALS if stage != "stochastic")
SHAPES = {"lenet5": (1, 28, 28), "unet": (1, 256, 256), "ct_cnn": (1, 128, 128)}  # the others': (3, 32, 32)
KEYS = ["paper", "notebook", "experiment", "data", "network", "method", "setting", "stage", "score", "intermediate"]
KEYS += ["chain"]  # keeps the points of chains apart that are alike in all others
VALUES = ["error", "weights", "units", "operations", "ms_1", "ms_64"]
KNOWN = ("penalty", "extent", "method", "data", "net", "network", "chain", "units", "sizes", "examples")  # of a case


def notebook_of(experiment):
    """The notebook that made an experiment, None for one that is no training of networks to compare."""
    return next((name for begin, name in NOTEBOOKS.items() if experiment.startswith(begin)), None)


def points():
    """A table of the networks of committed chains with a score: a line per setting, chain and stage, means over seeds.

    paper, notebook, data, network, method, setting, stage; error and its standard deviation in %, by which score;
    weights, units, operations of the shrunk network, and its ms at batch 1 and 64 where its widths were timed.
    intermediate: a network between a cut and its fine-tuning, or one that others start from. chain: the names of the
    chain's stages, and the first one's optimizer.
    """
    lines = []
    for path in sorted(settings.runs_folder().glob("*.jsonl")):
        if notebook_of(path.stem):
            for record in runs.finished(runs.committed(path.stem).values()):
                lines += _lines(record)
    table = pd.DataFrame(lines)
    if table.empty:
        return pd.DataFrame(columns=[*KEYS, VALUES[0], "sd", "seeds", *VALUES[1:]])
    groups = table.groupby(KEYS, sort=True)
    means = groups[VALUES].mean()
    means.insert(1, "sd", groups["error"].std(ddof=1))
    means.insert(2, "seeds", groups["error"].size())
    numbers = means.select_dtypes("float").columns
    means[numbers] = means[numbers].map(lambda x: x if math.isnan(x) else float(f"{x:.4g}"))
    return means.reset_index()


def _lines(record):
    """A line per row of a record that has a score."""
    config, case = record["config"], record["config"]["case"]
    if config["kind"] != "chain":
        return
    rate = ", ".join(map(str, config["stages"][0]["optimizer"].values()))
    chain = " > ".join(stage["name"] for stage in config["stages"]) + f" ({rate})"
    for row in record["rows"]:
        score = next((name for name in SCORES if row.get(name) is not None), None)
        if row["status"] != "done" or score is None:
            continue
        stage = row["stage"]
        widths = budget.widths_of(row)
        cut = stage.endswith(" cut") or (stage in ("train", "zeroing") and len(record["rows"]) > 1)
        timed = _timed() if config["model"]["name"] == "mlp" and config["model"]["inputs"] == 784 else {}
        yield {
            "paper": _paper(record["experiment"], stage),
            "notebook": notebook_of(record["experiment"]),
            "experiment": record["experiment"],
            "data": config["data"]["name"],
            "network": _network(config["model"], case),
            "method": _method(record["experiment"], case, stage),
            "setting": _setting(config, case, stage),
            "stage": stage,
            "score": SCORES[score],
            "intermediate": cut,
            "chain": chain,
            "error": 100 * (1 - row[score]),
            "weights": row["nonzero"],
            "units": sum(row["alive"]),
            "operations": _operations(config["model"], widths),
            **{f"ms_{batch}": timed.get((widths, batch)) for batch in (1, 64)},
        }


def _paper(experiment, stage):
    paper = re.match(r"p([123])_", experiment) or re.match(r"P([123]) ", stage)
    return f"P{paper[1]}" if paper else "others"


def _network(model, case):
    named = case.get("net") or case.get("network") or model["name"]
    if named == "mlp":
        named = "-".join(map(str, [model["inputs"], *model["widths"], model["outputs"]]))
    return NAMES.get(named, named)


def _method(experiment, case, stage):
    """What made the network small, in words by which points of several notebooks can be filtered."""
    if ": " in stage:
        return stage.partition(": ")[0]
    if stage in CONTROLS and not experiment.startswith("p2_lenet"):
        return stage
    penalty = case.get("penalty", "GL" if experiment.startswith(("p1_free", "p1_proximal")) else "")
    if stage == "stochastic" or experiment.startswith("p3_dynamics"):
        return f"zeroing, {penalty}"
    words = [PENALTIES.get(word, word) for word in penalty.split(" ")] if "+" not in penalty else [penalty]
    extent = [case["extent"]] if case.get("extent", "none") != "none" else []
    return case.get("method") or " ".join([*words, *extent]).strip() or "dense"


def _setting(config, case, stage):
    words = {"lam": "λ", "fresh": "fresh seeds"}
    told = [words.get(key, key) + f" {value}" * (value is not True) for key, value in case.items() if key not in KNOWN]
    told += [f"{config['data']['subset']:,} examples"] if config["data"].get("subset") else []
    if config["experiment"].endswith("_sensitivity"):  # its settings differ in how it is zeroed alone
        told += [f"{key} {value}" for key, value in config["stages"][0]["zeroing"].items() if key != "target"]
    return "; ".join(told + ([stage.partition(": ")[2]] if ": " in stage else []))


@cache
def _timed():
    """Milliseconds by widths and batch, of networks on 28 × 28 images, as notebook 00 timed them."""
    return budget.latencies(runs.committed("equal_budget_latency").values())


@cache
def _shrunk(name, widths, options):
    """Operations of one example, 2 per multiply-add, from shapes alone; NaN where the widths do not fit the builder."""
    options = dict(options) | {"widths": list(widths)}
    try:
        with torch.device("meta"):
            return measures.flops(models.build(name, **options), SHAPES.get(name, (3, 32, 32)))
    except (ValueError, RuntimeError, TypeError):
        return math.nan


def _operations(model, widths):
    if model["name"] == "mlp":
        return 2 * budget.weights_between(model, widths)
    options = {key: value for key, value in model.items() if key not in ("name", "widths") and value is not None}
    return _shrunk(model["name"], widths, tuple(sorted(options.items())))

"""The network behind a record, whose weights no record keeps: its stages are trained again."""

from companion.runs.configuration import Stage, resolve
from companion.runs.datasets import load
from companion.runs.execution import ended, seed_stage, started, train_stage
from companion.runs.locks import RunError


def trained(record, stage, *, device="cpu"):
    """The network that a stage of a record ended with, and the row of this training; only what it comes from is run.

    The same seeds and random numbers as the record's, so on a processor of the same kind the same network, and
    elsewhere another of the same kind: hold the row against the record's. RunError: no such stage, or it diverged.
    """
    config = resolve(record["config"])  # options that are younger than the record are at their defaults
    if config["kind"] != "chain":
        raise RunError(f"record {record['id']} is of the kind {config['kind']}, which has no stages")
    stages = {each["name"]: (k, Stage.of(each, "stage")) for k, each in enumerate(config["stages"])}
    if stage not in stages:
        raise RunError(f"record {record['id']} has no stage {stage!r}; it has {', '.join(stages)}")
    split, end = load(config["data"]).to(device), {}
    for name in lineage(config["stages"], stage):
        k, options = stages[name]
        seed_stage(config["seed"], k)
        model = started(config["model"], options, end, device)
        row, _ = train_stage(model, split, options, seed=config["seed"])
        if row["status"] != "done":
            raise RunError(f"{name} of record {record['id']} ended as {row['status']}: {row['message']}")
        end = ended(model, row, options, end, config["model"])
    return model.eval(), end["row"]


def lineage(stages, name):
    """The names of the stages that one comes from, the first one first, itself last."""
    lines, last = {}, None
    for stage in stages:
        lines[stage["name"]] = [*lines.get(stage["from"] or last, []), stage["name"]]
        last = stage["name"]
    return lines[name]

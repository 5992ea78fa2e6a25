"""Keep the network behind a record as a sparse file in data/networks, with a JSON that says what it is.

python -m companion.workflow.keep EXPERIMENT ID STAGE NAME    trains again what that stage of the record comes from
"""

import json
import sys

from companion.runs import store
from companion.runs.again import lineage, trained
from companion.runs.configuration import file_name
from companion.runs.datasets import load
from companion.runs.locks import RunError
from companion.runs.provenance import provenance
from companion.settings import ROOT
from companion.workflow import in_one_line
from lib import sparse
from lib.atomic import write_whole

FOLDER = ROOT / "data" / "networks"
SCORES = ("train_accuracy", "validation_accuracy", "test_accuracy", "nonzero", "sparsity", "alive")


def keep(record, stage, name, model, row):
    """Write NAME.safetensors and NAME.json; `row` is of the training that made the model, beside the record's own."""
    split = load(record["config"]["data"])
    normalisation = {"mean": split.mean.flatten().tolist(), "std": split.std.flatten().tolist()}
    size = sparse.save(model, FOLDER / f"{name}.safetensors", normalisation=normalisation)
    (told,) = [each for each in record["rows"] if each["stage"] == stage]
    about = {
        "file": f"{name}.safetensors",
        "bytes": size,
        "how": f'python -m companion.workflow.keep {record["experiment"]} {record["id"]} "{stage}" {name}',
        "what": "trained anew by the configuration of a record, with its seed and the stages it comes from; on another "
        "processor than the record's sums are rounded otherwise, so that the scores differ by chance",
        "stages": lineage(record["config"]["stages"], stage),
        "scores": {key: row[key] for key in SCORES},
        "scores of the record": {key: told[key] for key in SCORES},
        "record": {key: record["provenance"][key] for key in ("device", "date", "git", "packages")},
        "made": {key: provenance()[key] for key in ("device", "date", "git", "lib", "packages", "threads")},
    }
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(FOLDER / f"{name}.json", text + "\n")


@in_one_line()
def main(experiment, record_id, stage, name):
    file_name(name, "the network's file")
    records = store.committed(experiment)
    if record_id not in records:
        sys.exit(f"{experiment} has no record {record_id}; it has {', '.join(sorted(records)) or 'none'}")
    keep(records[record_id], stage, name, *trained(records[record_id], stage))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (ValueError, RunError) as error:
        sys.exit(str(error))

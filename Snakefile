# `make figures` runs this; `snakemake --cores 4 --config profile=laptop` does too.
#
# Without a profile: every notebook is rendered from the committed records, and run at `quick`, end to end.
# With one: shards of notebook x seed train in parallel, each notebook's timing part then has the machine to
# itself, and the notebook is rendered. What is trained is kept by companion.runs, not here: a shard without work
# to do ends in seconds, so training's sentinels last only until the run is complete.
#
# `make figures` renders whatever has changed or not (`--forcerun render`); that takes seconds. With fresh=1 it does
# not: rendering would train, and a notebook that was finished before a kill stays so until all are; then the
# launcher takes the sentinels away.
#
# On a cluster: `make figures PROFILE=paper SNAKEMAKE="--executor slurm --jobs 20"`.
import json
from fnmatch import fnmatchcase
from pathlib import Path

from companion.parameters import declared

PROFILES = ("laptop", "paper", "quick")
PROFILE = str(config.get("profile", ""))
FRESH = str(config.get("fresh", "0")) == "1"
ONLY = f"{config.get('only', '*')}.ipynb"
SWEEP = json.loads(Path(config["sweep"]).read_text()) if "sweep" in config else {}  # see companion.workflow.sweep
NOTEBOOKS = sorted(p.stem for p in Path("notebooks").glob("*.ipynb") if p.is_file() and fnmatchcase(p.name, ONLY))
RUN = f"logs/{PROFILE}-fresh" if FRESH else f"logs/{PROFILE or 'committed'}"
TRAIN = "fresh" if FRESH else "missing"
CODE = [path for folder in ("lib", "notebooks/companion") for path in sorted(Path(folder).rglob("*.py"))]
CODE = [str(path) for path in CODE if path.is_file()]
EXECUTE = "python -m companion.workflow.run notebooks/{wildcards.notebook:q}.ipynb {log:q}"

if unknown := set(config) - {"profile", "fresh", "only", "sweep"}:
    raise WorkflowError(f"{sorted(unknown)[0]}= is unknown; known: profile=, fresh=, only=, sweep=")
if str(config.get("fresh", "0")) not in ("", "0", "1"):
    raise WorkflowError(f"fresh={config['fresh']} must be 0 or 1")
if PROFILE not in ("", *PROFILES):
    raise WorkflowError(f"profile {PROFILE!r} is unknown; known: {', '.join(PROFILES)}")
if FRESH and PROFILE not in ("laptop", "paper"):
    raise WorkflowError("fresh=1 retrains everything of a profile: give profile=laptop or profile=paper, too")
if not NOTEBOOKS:
    raise WorkflowError(f"there is no notebooks/{ONLY}")


def parameters(notebook):
    """The literals of a notebook's parameters cell."""
    path = Path(f"notebooks/{notebook}.ipynb")
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        return declared(["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorkflowError(f"{path} has no parameters that can be read ({error}); mend it, or leave it out by only=")


def shards(wildcards):
    """The sentinels of one notebook's training, a seed each."""
    known = parameters(wildcards.notebook)
    first = known.get("first_seed", 0)
    if not (type(known.get("seeds")) is type(first) is int and known["seeds"] > 0 <= first):
        raise WorkflowError(f"notebooks/{wildcards.notebook}.ipynb: its parameters cell has no whole number of `seeds`")
    return [f"{RUN}/{wildcards.notebook}/seed{k}.done" for k in range(first, first + known["seeds"])]


def whole_machine(wildcards):
    """All cores here, so that nothing runs beside it; elsewhere a node of its own is asked for."""
    return workflow.cores if workflow.local_exec else 1


wildcard_constraints:
    notebook="[^/]+",
    seed=r"\d+",
    point="[^/]+",


DONE = expand("logs/quick/{notebook}.done", notebook=NOTEBOOKS) if PROFILE in ("", "quick") else []
if PROFILE != "quick":
    DONE += expand(f"{RUN}/{{notebook}}/figures.done", notebook=NOTEBOOKS)
if SWEEP:
    DONE = expand("logs/sweep/{notebook}/{point}.done", notebook=SWEEP["notebook"], point=SWEEP["points"])


rule all:
    input:
        DONE,


if SWEEP:

    rule render:
        input:
            CODE,
            "notebooks/{notebook}.ipynb",
        output:
            touch("logs/sweep/{notebook}/{point}.done"),
        log:
            "logs/sweep/{notebook}/{point}.ipynb",
        params:
            given=lambda wildcards: SWEEP["points"][wildcards.point],
        resources:
            mem_mb=4000,
            runtime=24 * 60,
        shell:
            f"{EXECUTE} --custom --threads 1 {{params.given:q}}"

elif PROFILE in ("laptop", "paper"):

    rule train:
        input:
            CODE,
            "notebooks/{notebook}.ipynb",
        output:
            temp(touch(f"{RUN}/{{notebook}}/seed{{seed}}.done")),
        log:
            f"{RUN}/{{notebook}}/seed{{seed}}.ipynb",
        threads: 1
        resources:
            mem_mb=4000,
            runtime=24 * 60,
        shell:
            f"{EXECUTE} --train {TRAIN} --threads 1 profile={PROFILE} part=train seeds=1 "
            "first_seed={wildcards.seed}"

    rule timing:
        input:
            shards,
        output:
            temp(touch(f"{RUN}/{{notebook}}/timing.done")),
        log:
            f"{RUN}/{{notebook}}/timing.ipynb",
        threads: whole_machine
        resources:
            mem_mb=8000,
            runtime=24 * 60,
            slurm_extra="--exclusive",
        shell:
            f"{EXECUTE} --train {TRAIN} profile={PROFILE} part=timing"

    rule render:
        input:
            shards,
            f"{RUN}/{{notebook}}/timing.done",
        output:
            touch(f"{RUN}/{{notebook}}/figures.done"),
        log:
            f"{RUN}/{{notebook}}/figures.ipynb",
        resources:
            mem_mb=4000,
            runtime=60,
        shell:
            f"{EXECUTE} --train {TRAIN} --threads 1 profile={PROFILE}"

else:

    rule render:
        input:
            CODE,
            "notebooks/{notebook}.ipynb",
        output:
            touch(f"{RUN}/{{notebook}}/figures.done"),
        log:
            f"{RUN}/{{notebook}}/figures.ipynb",
        priority: 1
        resources:
            mem_mb=4000,
            runtime=10,
        shell:
            f"{EXECUTE} --train never --threads 1 --offline"


rule quick:
    input:
        CODE,
        "notebooks/{notebook}.ipynb",
    output:
        touch("logs/quick/{notebook}.done"),
    log:
        "logs/quick/{notebook}.ipynb",
    resources:
        mem_mb=4000,
        runtime=10,
    shell:
        f"{EXECUTE} --scratch --threads 1 --offline profile=quick"

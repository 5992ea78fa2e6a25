"""The wheel: the method alone under a name of its own, beside another project's `lib`; a checkout as it lies."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAME = "compression_companion"
BLOCKED = ("filelock", "matplotlib", "onnx", "PIL", "pooch", "scipy", "skimage", "sklearn", "torchvision")
AT_HOME = f"""
import sys

sys.modules |= dict.fromkeys({BLOCKED})  # a fresh environment has what the wheel asks for, and no extra
import torch
from compression_companion import data, depgraph, measures, models, pruning, saving, shrinking, training

net = models.build("mlp", widths=[16, 8], inputs=4, outputs=2)
x, y = torch.randn(64, 4), torch.randint(2, (64,))
training.fit(net, (x, y), steps=20, penalty={{"name": "gl", "lam": 1e-1, "prox": True}})
pruning.apply(net, pruning.magnitude(net, 0.5))
small = shrinking.shrink(net)
torch.testing.assert_close(small(x), net(x))
measures.compare({{"trained": net, "shrunk": small}}, (4,))
depgraph.shrink(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)), x)
saving.save(small, "saved")
refused = [lambda: shrinking.shrink(torch.nn.Linear(2, 2))]
refused += [lambda: data.load("mnist", download=False), lambda: data.load("digits")]
for wrong in refused:
    try:
        wrong()
    except (ValueError, ModuleNotFoundError) as error:
        print(error)
assert not any(name.split(".")[0] in ("lib", "companion") for name in sys.modules), "another lib was mixed in"
"""


def built(kind, folder):
    """The wheel that the project's build backend makes, unpacked; kind: build_wheel or build_editable."""
    call = f"from hatchling.build import {kind} as build; print(build({str(folder)!r}))"
    said = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(folder / said.stdout.strip()) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_the_wheel_works_beside_another_lib_and_without_extras(tmp_path):
    site, rival = built("build_wheel", tmp_path), tmp_path / "rival" / "lib"
    rival.mkdir(parents=True)
    for name in ("__init__", "models", "checks", "data"):
        (rival / f"{name}.py").write_text("raise RuntimeError('the lib of another project')\n")
    assert {path.name for path in site.iterdir()} == {NAME, f"{NAME}-0.1.0.dist-info"}
    paths = os.pathsep.join([str(rival.parent), str(site)])
    env = os.environ | {"PYTHONPATH": paths, "TQDM_DISABLE": "1"}
    done = subprocess.run([sys.executable, "-c", AT_HOME], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert f"use {NAME}.depgraph.shrink(net, example)" in told[0]
    assert f"`python -m {NAME}.data mnist --root data`" in told[1]
    assert told[2] == "sklearn is missing; install it, or all of compression-companion's extra [data]"
    assert {path.name for path in tmp_path.iterdir()} >= {"saved"}
    assert not list(site.rglob("*.jsonl")) and not list(site.rglob("runs"))


def test_a_checkout_is_installed_as_it_lies(tmp_path):
    (listed,) = built("build_editable", tmp_path).glob("*.pth")
    folders = [Path(line) for line in listed.read_text().splitlines()]
    assert folders == [ROOT, ROOT / "notebooks"]
    assert (folders[0] / "lib" / "__init__.py").is_file() and (folders[1] / "companion" / "__init__.py").is_file()

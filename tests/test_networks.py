"""The networks that are kept: a record's training made anew, the committed file, and the playground's controls."""

import json

import pytest
import torch

from companion import playground, runs, settings
from companion.runs.again import lineage, trained
from lib import data, measures, models, sparse, training

FILES = sorted((settings.ROOT / "data" / "networks").glob("*.json"))


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPANION_RUNS", str(tmp_path))
    monkeypatch.setenv("COMPANION_TRAIN", "missing")
    common = {"steps": 30, "batch": 64}
    stages = [
        {"name": "dense", **common},
        {"name": "other", "restart": True, **common},
        {"name": "cut", "from": "dense", "prune": {"sparsity": 0.9}},
        {"name": "tuned", "hold": True, **common},
    ]
    model = {"name": "mlp", "widths": [12, 8], "inputs": 64, "outputs": 10}
    return runs.run({"experiment": "again", "seed": 3, "data": {"name": "digits"}, "model": model, "stages": stages})


def test_the_network_behind_a_record_is_trained_again(record):
    model, row = trained(record, "tuned")
    assert lineage(record["config"]["stages"], "tuned") == ["dense", "cut", "tuned"]
    (told,) = [each for each in record["rows"] if each["stage"] == "tuned"]
    for score in ("test_accuracy", "validation_accuracy", "sparsity", "nonzero"):
        assert row[score] == pytest.approx(told[score])
    assert measures.nonzero(model) == told["nonzero"] and not model.training
    with pytest.raises(runs.RunError, match="has no stage 'fine'; it has dense, other, cut, tuned"):
        trained(record, "fine")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_committed_network_is_what_its_json_says(path, real):
    about = json.loads(path.read_text("utf-8"))
    file = path.with_name(about["file"])
    net, _ = sparse.load(file)
    assert file.stat().st_size == about["bytes"] < 2**15
    assert measures.nonzero(net) == about["scores"]["nonzero"]
    assert sum(about["scores"]["alive"]) == measures.alive(net)
    split = real("mnist")
    accuracy = measures.accuracy(training.predict(net, split.test.x), split.test.y)
    assert accuracy == pytest.approx(about["scores"]["test_accuracy"], abs=2e-4)  # a bf16 score, here in fp32


def test_the_playground_trains_shows_and_starts_over():
    split, net = data.load("digits"), models.build("mlp", widths=[40, 20], inputs=64, outputs=10)

    def train(chosen, watch):
        asked.append(chosen)
        for _ in range(playground.POINTS):
            watch(net, split)

    asked, settings_ = [], {"penalty": "GL", "lam": 1e-3}
    beside = {name: [0.5] * playground.POINTS for name in playground.CURVES}
    ranges = {"penalty": ("penalty", "none", "GL"), "lam": ("λ", "log", -5, -1)}
    panel = playground.Playground(train, settings_, ranges, beside)
    panel.controls["penalty"].value = "none"
    panel.go()
    assert asked == [{"penalty": "none", "lam": pytest.approx(1e-3)}]
    assert bytes(panel.image.value).startswith(b"\x89PNG") and panel.image.layout.display == "block"
    assert panel.said.value.startswith("Done: accuracy") and not panel.button.disabled
    panel.reset()
    assert panel.controls["penalty"].value == "GL" and panel.image.layout.display == "none"
    panel.train = lambda chosen, watch: 1 / 0
    panel.go()
    assert panel.said.value == "ZeroDivisionError: division by zero" and not panel.button.disabled


def test_the_mask_and_the_dead_units_are_the_networks():
    net = models.build("mlp", widths=[40, 20], inputs=64, outputs=10)
    with torch.no_grad():
        net.fc1.weight[3] = 1e-4  # smaller than counts
        net.fc2.weight[:, 5] = 0
    state = playground.state(net)
    seen = torch.tensor(playground.unpacked(state["mask"]))
    assert torch.equal(seen, net.fc1.weight.abs() >= playground.SMALL)
    assert [k for k, dead in enumerate(state["dead"]) if dead] == [3, 5]

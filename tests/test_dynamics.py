"""The log of dying units: causes against weights set by hand, revival, the same after a resume."""

import numpy as np
import pytest
import torch

from lib import data, models, pruning, shrinking, training
from lib.dynamics import Dynamics, independent


@pytest.fixture
def net():
    torch.manual_seed(0)
    return models.build("mlp", widths=[6, 4], inputs=64, outputs=10)


@torch.no_grad()
def test_a_unit_counts_by_what_went_first(net):
    log = Dynamics(net, steps=10)
    net.fc1.weight[0] = 0
    net.fc2.weight[:, 1] = 0
    net.fc2.weight[3] = 0
    point = log.point(net)
    assert point["removed_incoming"] == [1, 1] and point["removed_outgoing"] == [1, 0]
    assert point["removed_both"] == [0, 0] and point["orphans"] == [1, 0]
    assert point["pruned"] == pytest.approx([1 / 6, 1 - 15 / 24, 0.0])
    net.fc1.weight[1] = 0  # what was left of the orphan
    net.fc2.weight[:, 0] = 0
    later = log.point(net)
    assert [later[key] for key in ("removed_incoming", "removed_outgoing", "orphans")] == [[1, 1], [1, 0], [0, 0]]


@torch.no_grad()
def test_a_unit_that_lives_again_dies_anew(net):
    log, kept = Dynamics(net, steps=10), net.fc2.weight.clone()
    net.fc2.weight[:, 2] = 0
    assert log.point(net)["removed_outgoing"] == [1, 0]
    net.fc2.weight.copy_(kept)
    log(net, 0)
    net.fc1.weight[2] = 0
    point = log.point(net)
    assert point["removed_outgoing"] == [0, 0] and point["removed_incoming"] == [1, 0]


def test_norms_are_those_of_rows_and_columns(net):
    point = Dynamics(net, steps=10, units=2).point(net)
    assert point["fan_in"][1] == pytest.approx(net.fc2.weight[:2].norm(dim=1).tolist(), rel=1e-3)
    assert point["fan_out"][0] == pytest.approx(net.fc2.weight[:, :2].norm(dim=0).tolist(), rel=1e-3)


def test_a_compiled_network_is_known_by_its_layers(net):
    compiled = torch.compile(net)
    pruning.apply(compiled, pruning.units(compiled, [5, 3]))
    assert Dynamics(compiled, steps=10).point(compiled) == Dynamics(net, steps=10).point(net)
    assert shrinking.shrink(compiled).config["widths"] == shrinking.shrink(net).config["widths"] == [5, 3]


@pytest.mark.parametrize("pruned", [[0.7, 0.6, 0.5], [0.9, 0.8, 0.9], [0, 0, 0]])
def test_independent_zeros_remove_what_the_formula_says(pruned):
    torch.manual_seed(0)
    sizes, gone = [6, 20, 8, 3], []
    net = models.build("mlp", widths=sizes[1:-1], inputs=sizes[0], outputs=sizes[-1])
    for _ in range(3000):
        with torch.no_grad():
            for w, share in zip(models.weights(net).values(), pruned, strict=True):
                w.copy_(torch.rand_like(w) >= share)
        gone += [28 - sum(shrinking.alive(net).values())]
    assert independent(pruned, sizes) == pytest.approx(sum(gone) / len(gone) / 28, abs=0.005)


def test_a_resumed_log_is_the_uninterrupted_one(tmp_path):
    digits, found = data.load("digits"), []
    for cuts in ((), (45,)):
        for until in (*cuts, None):
            torch.manual_seed(0)
            net = models.build("mlp", widths=[16], inputs=64, outputs=10)
            log = Dynamics(net, steps=90, frames=5, frame_units=3)
            zeroing = pruning.StochasticZeroing(net, steps=90, target=0.9)
            file = {"checkpoint": tmp_path / f"{len(cuts)}.pt", "checkpoint_seconds": 0}
            training.fit(net, digits, steps=90, after_step=[zeroing, log], until=until, **file)
        found.append((log.first["fc1"], *log.arrays().values()))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    _, mask, steps = found[0]
    assert steps.tolist() == [18, 36, 54, 72, 90]
    last = np.unpackbits(mask[-1].numpy(), axis=1, count=64)
    assert (last == (net.fc1.weight[:3] != 0).numpy()).all()


def test_a_checkpoint_with_another_log_is_not_taken_up(tmp_path, capsys):
    digits, file = data.load("digits"), tmp_path / "checkpoint.pt"
    for frames, until in ((2, 30), (6, None)):
        net = models.build("mlp", widths=[16], inputs=64, outputs=10)
        log = Dynamics(net, steps=60, frames=frames)
        training.fit(net, digits, steps=60, after_step=[log], until=until, checkpoint=file, seed=1)
    assert len(log.frames) == 6 and "is of another training" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"dynamics: steps must be a whole number in \[1, inf\), got 0"),
        ({"steps": 10, "units": 2.5}, "dynamics: units must be a whole number .* got 2.5"),
        ({"steps": 10, "frames": -1}, "dynamics: frames must be a whole number .* got -1"),
        ({"steps": 10, "frame_units": True}, "dynamics: frame_units must be a whole number .* got True"),
    ],
)
def test_wrong_options_are_named(net, options, message):
    with pytest.raises(ValueError, match=message):
        Dynamics(net, **options)


def test_what_has_no_groups_and_lists_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="needs the groups of a network of models.build, Linear has none"):
        Dynamics(torch.nn.Linear(2, 2), steps=10)
    with pytest.raises(ValueError, match="a share for each layer between 3 sizes, got 1"):
        independent([0.5], [4, 3, 2])


def test_a_state_is_of_its_moment():
    net = models.build("mlp", widths=[8], inputs=5, outputs=3)
    log = Dynamics(net, steps=4, frames=2)
    state = log.state_dict()
    with torch.no_grad():
        net.fc1.weight[0] = 0
    for step in range(4):
        log(net, step)
    assert not state["frames"] and not any(cause.any() for cause in state["first"].values())
    net.prunable = ["fc1.weight"]
    assert len(log.point(net)["pruned"]) == 1 and len(log.point(net)["fan_out"]) == 1

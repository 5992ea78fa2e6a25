"""The applications of P3: the configurations that they are made of, and the choice among them."""

import dataclasses

import pandas as pd
import pytest

from companion import applications


@pytest.fixture
def application():
    return applications.Application(
        networks={"net": {"name": "mlp", "widths": [20, 10], "inputs": 64, "outputs": 10}},
        experiments={"net": "mine"},
        data={"net": {"name": "digits"}},
        controls={"net": ["magnitude", "units", "scratch", "chance", "no sampling"]},
        steps=(30, 20),
        common={"batch": 32},
        zeroing={"every": 4},
        lam_tuning=1e-4,
        last={0: {"pictures": [0]}},
    )


@pytest.fixture
def pruned(application):
    config = application.zeroed("net", 3, "L2", 1e-3, 0.9)
    return {"config": config, "seed": 3, "rows": [{}, {"alive": [7, 0], "sparsity": 0.95}]}


def test_a_pruned_network_is_zeroed_and_then_tuned(application):
    config = application.zeroed("net", 0, "L1", 1e-3, 0.9)
    first, second = config["stages"]
    assert first["penalty"] == {"name": "l1", "lam": 1e-3} and first["zeroing"] == {"every": 4, "target": 0.9}
    assert (first["steps"], second["steps"]) == (30, 20) and second["hold"] and second["schedule"] == "linear"
    assert second["penalty"] == {"name": "l2", "lam": 1e-4} and second["pictures"] == [0]
    assert config["case"] == {"network": "net", "units": 30, "penalty": "L1", "lam": 1e-3, "target": 0.9}
    assert application.zeroed("net", 0, "none", 0.0, 0.9)["stages"][0]["penalty"] is None
    assert "pictures" not in application.zeroed("net", 1, "none", 0.0, 0.9)["stages"][1]


def test_a_new_experiment_scores_test_images_at_its_end_alone(application):
    fresh = dataclasses.replace(application, at_end=True, images=True)
    first, second = fresh.zeroed("net", 0, "L2", 1e-3, 0.9)["stages"]
    assert first["scores"] == ["train", "validation"] and "scores" not in second and second["images"]
    assert [stage.get("scores") for stage in fresh.dense("net", 0)["stages"]] == [["train", "validation"], None]
    (grid,) = fresh.tried("net", 1000, "L2", [1e-3], [0.9])
    assert all(stage["scores"] == ["train", "validation"] and "images" not in stage for stage in grid["stages"])
    old = application.zeroed("net", 0, "L2", 1e-3, 0.9)["stages"]
    assert not any({"scores", "images"} & set(stage) for stage in old), "the names of older records stay"


def test_the_controls_have_as_much_left_as_zeroing_with_l2(application, pruned):
    dense, scratch, chance, ranked = application.compared("net", 3, pruned)
    assert [stage["name"] for stage in dense["stages"]] == ["train", "dense", "magnitude", "units"]
    assert [stage.get("from") for stage in dense["stages"]] == [None, None, "train", "train"]
    assert dense["stages"][2]["prune"] == {"sparsity": 0.95}
    assert dense["stages"][3]["prune"] == {"rule": "units", "widths": [7, 1]}, "a layer keeps one unit at least"
    assert scratch["model"]["widths"] == [7, 1] and scratch["case"]["units"] == 30
    assert chance["stages"][0]["zeroing"] == {"every": 4, "target": 0.95, "by": "chance"}, "L2 went beyond its target"
    assert ranked["stages"][0]["zeroing"] == {"every": 4, "target": 0.95, "by": "rank"}
    assert [config["stages"][1]["name"] for config in (chance, ranked)] == ["chance", "no sampling"]


@pytest.mark.parametrize(("share", "target"), [(0.91, 0.9), (0.954, 0.95)])
def test_without_sampling_as_many_weights_go_in_an_experiment_of_its_own(application, monkeypatch, share, target):
    sampled = application.zeroed("net", 3, "L2", 1e-3, 0.9)
    made = {"config": sampled, "seed": 3, "status": "done", "rows": [{}, {"sparsity": share}]}
    monkeypatch.setattr(applications.runs, "not_run", lambda configs, go_on: not go_on)
    monkeypatch.setattr(applications.runs, "run_all", lambda configs: [made] if configs == [sampled] else [])
    (config,) = application.unsampled({"net": {"L2": (1e-3, 0.9), "L1": (1e-4, 0.95)}}, [3])
    assert config["experiment"] == "mine_unsampled" and config["case"] == sampled["case"] | {"target": target}
    first, second = config["stages"]
    ranked = {"by": "rank", "target": target}
    assert first["zeroing"] == sampled["stages"][0]["zeroing"] | ranked and second["name"] == "no sampling"
    assert first["scores"] == ["train", "validation"] and "scores" not in second, "test images at the end alone"
    kept = ("steps", "penalty", "hold", "schedule")
    assert [[stage.get(key) for key in kept] for stage in (first, second)] == [
        [stage.get(key) for key in kept] for stage in sampled["stages"]
    ]
    monkeypatch.setattr(applications.runs, "not_run", lambda configs, go_on: True)
    assert application.unsampled({"net": {"L2": (1e-3, 0.9)}}, [3]) == []


def test_what_has_lost_units_may_be_tuned_as_the_smaller_network_that_it_is(application, pruned):
    small = dataclasses.replace(application, shrunk=True)
    assert [stage.get("shrunk") for stage in small.zeroed("net", 0, "L2", 1e-3, 0.9)["stages"]] == [None, True]
    dense = next(small.compared("net", 3, pruned))
    assert [stage["name"] for stage in dense["stages"] if stage.get("shrunk")] == ["units"]


def test_a_network_without_controls_has_the_dense_one(application, pruned):
    application.controls.clear()
    (dense,) = application.compared("net", 3, pruned)
    assert [stage["name"] for stage in dense["stages"]] == ["train", "dense"]


def test_the_setting_is_the_best_of_those_that_remove_enough_or_else_the_one_that_removes_most():
    table = pd.DataFrame({"lam": [1, 2, 3], "target": 0.9, "penalty": "L2", "sparsity": 0.9})
    table = table.assign(removed=[0.4, 0.5, 0.6], validation_accuracy=[0.99, 0.98, 0.97])
    for share, lam in ((0.0, 1), (0.5, 2), (0.6, 3), (0.7, 3)):
        assert applications.best(table, share=share)["lam"] == lam
        chosen = applications.log(table, {"L2": (lam, 0.9)})["chosen"]
        assert list(chosen == "✓") == [lam == other for other in (1, 2, 3)]


def test_what_is_compared_with_l2_prunes_as_many_weights():
    assert applications.matched(0.8, 0.956) == 0.96
    assert applications.matched(0.8, 0.816) == 0.8 and applications.matched(0.9, 0.9) == 0.9
    assert applications.matched([0.98, 0.9], 0.956) == [0.98, 0.9]


def test_methods_are_the_last_stages_in_their_order():
    def record(seed, penalty, *stages):
        rows = [{"stage": stage, "alive": [5, 5], "curves": {}} for stage in stages]
        config = {"case": {"network": "net", "units": 40, "penalty": penalty}}
        return {"id": f"{seed} {penalty}", "seed": seed, "config": config, "rows": rows, "status": "done"}

    records = [record(1, "none", "train", "dense", "units"), record(1, "L2", "zeroing", "stochastic")]
    records += [record(0, "L2", "zeroing", "stochastic"), record(0, "none", "zeroing", "stochastic")]
    table = applications.methods(records, ["net"])
    assert list(table["method"]) == ["dense", "zeroing, none", "zeroing, L2", "zeroing, L2", "units"]
    assert list(table["seed"]) == [1, 0, 0, 1, 1] and set(table["removed"]) == {0.75}


def test_the_pruned_share_of_a_network_from_scratch_is_counted_against_the_dense_one():
    def record(stage, left, pruned):
        rows = [{"stage": stage, "alive": [5], "nonzero": left, "sparsity": pruned, "curves": {}}]
        config = {"case": {"network": "net", "units": 10, "penalty": "none"}}
        return {"id": stage, "seed": 0, "config": config, "rows": rows, "status": "done"}

    table = applications.methods(
        [record("dense", 200, 0.0), record("units", 40, 0.8), record("scratch", 50, 0.0)], ["net"]
    )
    assert table.set_index("method")["sparsity"].to_dict() == {"dense": 0.0, "units": 0.8, "scratch": 0.75}


@pytest.mark.parametrize("diverged", [(), ("L1",), ("L2",)])
def test_a_choice_goes_on_without_runs_that_diverged(application, monkeypatch, diverged):
    def record(config):
        case, rows = config["case"], [{"stage": "zeroing"}, {"stage": "stochastic", "alive": [9, 3], "sparsity": 0.9}]
        rows[-1]["validation_accuracy"] = 0.9 + case["lam"]
        status = "diverged" if case["penalty"] in diverged else "done"
        return {"id": str(case), "seed": 0, "config": config, "rows": rows, "status": status}

    monkeypatch.setattr(applications.runs, "run_all", lambda configs: list(map(record, configs)))
    lams = {"L1": [0.01], "L2": [0.01, 0.02]}
    if "L2" in diverged:
        with pytest.raises(applications.runs.RunError, match="net: all runs with L2 diverged"):
            application.choose("net", 0, lams, [0.9], share=0.0)
        return
    choices, log, tried = application.choose("net", 0, lams, [0.9], share=0.0)
    assert choices == {"none": (0.0, 0.9), "L2": (0.02, 0.9)} | ({} if diverged else {"L1": (0.01, 0.9)})
    assert len(tried) == 3 and len(log) == 3 - len(diverged)


def test_sizes_are_those_of_the_profile_but_for_what_the_call_sets():
    sizes = {"per_epoch": (10, 2, 10), "epochs": (3, 1, 9), "tuning": (2, 1, 4), "lr": (0.1, 0.2, 0.3)}
    sizes |= {"lams_l2": ([1], [2], [3]), "lams_l1": ([4], [5], [6]), "batch": (8, 4, 8), "augment": ("a", "b", "c")}
    given = dict.fromkeys(applications.RANGES) | {"profile": "quick", "batch": 99}
    assert applications.sized(sizes, given)["steps"] == [2, 2]
    size = applications.sized(sizes, given | {"profile": "paper", "epochs": 5, "lams_l1": [7], "lr": 0.4})
    assert size["steps"] == [50, 40] and size["lams"] == {"L2": [3], "L1": [7]}
    assert size["common"] == {"batch": 8, "augment": "c", "optimizer": {"name": "adam", "lr": 0.4}}
    with pytest.raises(ValueError, match="zip"):
        applications.sized(sizes | {"lr": (0.1, 0.2)}, given)


@pytest.mark.parametrize("edge", [False, True])
def test_scores_stand_beside_the_units_that_are_gone(edge, monkeypatch):
    saved = {}
    monkeypatch.setattr(
        applications.figures, "save", lambda figure, name, setup, alt: saved.update({name: (figure, alt)})
    )
    scores = {"dense": 0.95, "magnitude": 0.94, "scratch": 0.2}
    lines = [{"method": m, "network": "net", "test_accuracy": s, "removed": 0.5} for m, s in scores.items()]
    applications.scores(None, pd.DataFrame(lines), {"test_accuracy": "test accuracy"}, "filters", edge=edge)
    figure, alt = saved["scores_and_filters"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["test accuracy", "removed filters"]
    assert len(figure.axes[0].texts) == edge == ("arrow" in alt), "a score far below the others is written there"
    assert (figure.axes[1].get_xlim() == (-0.02, 1.02)) == edge

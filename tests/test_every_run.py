"""The table and the chart of every run: complete, with counts that an independent counter confirms, and drawable."""

import json

import pytest
import vl_convert

from companion import chart, every_run, settings
from lib import measures, models


@pytest.fixture(scope="module")
def table():
    return every_run.points()


def test_every_experiment_with_scores_is_in_it_and_names_a_notebook(table):
    scored = set()
    for path in settings.runs_folder().glob("*.jsonl"):
        first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
        if first["config"].get("kind") == "chain" and any(
            score in row for row in first["rows"] for score in every_run.SCORES
        ):
            scored.add(path.stem)
    unnamed = {name for name in scored if every_run.notebook_of(name) is None}
    assert not unnamed, f"every_run.NOTEBOOKS does not say which notebook made {unnamed}"
    assert set(table["experiment"]) == scored
    for name in set(table["notebook"]):
        assert (settings.ROOT / "notebooks" / f"{name}.ipynb").is_file(), name


def test_a_store_without_records_has_a_table_and_a_chart_without_points(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "runs_folder", lambda: tmp_path)
    none = every_run.points()
    assert none.empty and chart.spec(none)["mark"]


def test_points_are_whole(table):
    assert table["error"].between(0, 200).all() and (table["weights"] > 0).mean() > 0.9
    assert table["operations"].notna().all() and set(table["paper"]) == {"P1", "P2", "P3", "others"}
    assert table["ms_1"].notna().any() and not table.duplicated().any()


@pytest.mark.parametrize(
    ("name", "shape"), [("lenet5", (1, 28, 28)), ("vgg16", (3, 32, 32)), ("ct_cnn", (1, 128, 128))]
)
def test_operations_are_those_that_torch_counts(name, shape):
    options = {"inputs": 1, "outputs": 2} if name == "ct_cnn" else {}
    net = models.build(name, **options)
    widths = tuple(net.config["widths"])
    assert every_run._operations({"name": name, **options}, widths) == measures.flops(net, shape)


def test_the_chart_is_valid_vega_lite_5_and_draws(table):
    spec = chart.spec(table)
    assert "/vega-lite/v5" in spec["$schema"]
    assert "<svg" in vl_convert.vegalite_to_svg(json.dumps(spec), vl_version="5.20")


def test_the_menus_know_every_paper_network_data_set_and_method(table):
    menus = {
        param["name"]: param["bind"] for param in chart.spec(table)["params"] if "options" in param.get("bind", {})
    }
    for column in chart.FILTERS:
        assert menus[f"pick_{column}"]["options"] == ["all", *sorted(set(table[column]))]
    assert menus["left"]["options"] == list(chart.LEFT)

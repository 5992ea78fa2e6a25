"""List parameters: what cannot be is refused by name; some of the entries are enough (`make attack` tries them all)."""

import random

import lists
import pytest

from companion import parameters

WITH_LISTS = [notebook for notebook in lists.NOTEBOOKS if lists.of(notebook)]


@pytest.mark.parametrize("notebook", WITH_LISTS, ids=lambda path: path.stem)
def test_an_empty_list_and_one_with_an_entry_twice_are_refused_by_name(notebook):
    cells, ranges, rng = lists.code(notebook), lists.ranges(notebook), random.Random(0)
    declared = parameters.declared(cells)
    for name, entries in lists.of(notebook).items():
        for how in ("none", "one twice"):
            if how == "one twice" and name in lists.repeated(notebook):
                continue
            values = declared | {name: lists.drawn(entries, how, rng), "In": cells}
            with pytest.raises(parameters.ParameterError, match=f"^{name} must be a list"):
                parameters.check(notebook.stem, values, **ranges)
        for how in ("one", "all but one")[: len(entries)]:
            assert parameters.check(
                notebook.stem, declared | {name: lists.drawn(entries, how, rng), "In": cells}, **ranges
            )


def test_layers_of_one_width_are_no_repetition():
    (notebook,) = [path for path in lists.NOTEBOOKS if path.stem.startswith("03")]
    cells = lists.code(notebook)
    values = parameters.declared(cells) | {"widths": [50, 50], "In": cells}
    assert parameters.check(notebook.stem, values, repeated=lists.repeated(notebook), **lists.ranges(notebook))


@pytest.mark.parametrize("stem", ["01", "11", "20"])
def test_some_of_the_entries_are_enough(stem, tmp_path):
    (notebook,) = [path for path in WITH_LISTS if path.stem.startswith(stem)]
    rng = random.Random(stem)
    name, entries = rng.choice([(name, entries) for name, entries in lists.of(notebook).items() if len(entries) > 1])
    assert not lists.tried(
        notebook, tmp_path, {name: lists.drawn(entries, rng.choice(["one", "all but one"]), rng)}, steps=20
    )


def test_one_width_and_no_partial_penalty_are_enough_where_growth_is_shown(tmp_path):
    (notebook,) = [path for path in WITH_LISTS if path.stem.startswith("05")]
    given = {"penalties": ["GL full"], "widths": [20], "datasets": ["digits"], "seeds": 1}
    assert not lists.tried(notebook, tmp_path, given, steps=5)
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert "width 20" in said and "width 10" not in said  # what was asked for goes before the widths of `quick`

"""Files damaged at random: what reads them gives what it gave before, or one clear error that names the file.

ATTACK_SEED repeats a draw, ATTACK_FILES changes their number.
"""

import importlib
import os
import random
import shutil

import chains
import lists
import pytest
import torch

from companion import parameters, runs, settings
from lib import data, models, saving

SEED = os.environ["ATTACK_SEED"]
SHARE = int(os.environ.get("ATTACK_FILES", "200")) / 200


def damage(path, rng):
    """Do one of nine things to a file; what it was."""
    content = path.read_bytes()
    place = rng.randrange(len(content))
    bit = bytes([content[place] ^ 1 << rng.randrange(8)])
    made = {
        "a bit": content[:place] + bit + content[place + 1 :],
        "cut": content[:place],
        "empty": b"",
        "64 zeros": content[:place] + bytes(len(content[place : place + 64])) + content[place + 64 :],
        "longer": content + rng.randbytes(50),
        "other bytes": rng.randbytes(len(content)),
        "other encoding": content.decode("latin-1").encode("utf-16"),
    }
    how = rng.choice([*made, "a bit", "a bit", "a bit", "gone", "a folder"])
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how != "gone":
        path.write_bytes(made[how])
    return how, place


def tries(count, kind):
    """As many tries of a kind, each with a random generator of its own."""
    return pytest.mark.parametrize(
        "rng",
        [pytest.param(random.Random(f"{SEED} {kind} {k}"), id=f"{SEED}-{k}") for k in range(round(count * SHARE))],
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store with three collected runs, one with their records still live, one of a run killed in its second stage."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("stores")
        for name in ("live", "collected"):
            patch.setenv("COMPANION_RUNS", str(folder / name))
            for seed in range(3):
                chains.trained(seed, collected=name == "collected")
        expected = [chains.found(seed) for seed in range(3)]
        patch.setenv("COMPANION_RUNS", str(folder / "killed"))
        patch.setattr(runs.execution, "keep", keep_one(runs.execution.keep))
        with pytest.raises(KeyboardInterrupt):
            chains.trained(0)
    return folder, expected


def keep_one(keep):
    """Keep the first stage; the second is as if it had been killed before it was kept."""

    def kept(saved, file):
        if file.stem != "0":
            raise KeyboardInterrupt
        keep(saved, file)

    return kept


def copied(stores, name, folder, monkeypatch):
    shutil.copytree(stores[0] / name, folder / "runs")
    monkeypatch.setenv("COMPANION_RUNS", str(folder / "runs"))
    return folder / "runs"


@tries(50, "record")
def test_a_damaged_record_is_made_again_or_named(rng, stores, note, tmp_path, monkeypatch, capsys):
    store = copied(stores, name := rng.choice(["live", "collected"]), tmp_path, monkeypatch)
    path = rng.choice([p for p in sorted(store.rglob("*.json*")) if p.is_file()])
    how, said = damage(path, rng), ""
    for seed in range(3):
        monkeypatch.setenv("COMPANION_TRAIN", "never")
        try:
            assert chains.found(seed) == stores[1][seed], (how, path, "another result")
            continue
        except TypeError:  # no record
            pass
        said += capsys.readouterr().out
        between = how[0] == "cut" and name == "collected" and path.read_bytes()[-1:] == b"\n"  # as if never made
        if how[0] != "gone" and not between:
            assert path.name in said, (how, path, "a record counts as missing without a word")
        monkeypatch.setenv("COMPANION_TRAIN", "missing")
        if how[0] == "a folder" and name == "live":
            with pytest.raises(runs.RunError, match=path.name):
                chains.trained(seed, collected=False)
        elif seed == 0:
            chains.trained(seed, collected=False)
            assert chains.found(seed) == stores[1][seed], (how, path, "another result")
    note("clear" if said else "survived")


@tries(50, "checkpoint")
def test_a_damaged_checkpoint_is_named_and_trained_again(rng, stores, note, tmp_path, monkeypatch, capsys):
    store = copied(stores, "killed", tmp_path, monkeypatch)
    path = rng.choice(sorted(path for path in store.rglob("*.pt") if path.name in ("0.pt", "1.part.pt")))
    how = damage(path, rng)
    chains.trained(0)
    assert chains.found(0) == stores[1][0], (how, path, "another result")
    assert how[0] == "gone" or path.name in capsys.readouterr().out, (how, path, "started over without a word")
    note("survived" if how[0] == "gone" else "clear")


@tries(20, "arrays")
def test_damaged_arrays_are_named(rng, stores, note, tmp_path, monkeypatch):
    store = copied(stores, rng.choice(["live", "collected"]), tmp_path, monkeypatch)
    path = rng.choice(sorted(store.rglob("*.npz")))
    how, outcome = damage(path, rng), "survived"
    for seed in range(3):
        try:
            assert chains.found(seed) == stores[1][seed], (how, path, "another result")
        except runs.RunError as error:
            assert path.name in str(error), (how, path, error)
            outcome = "clear"
    note(outcome)


@tries(20, "network")
def test_a_damaged_network_is_refused_by_name(rng, note, tmp_path):
    torch.manual_seed(0)
    net = models.build("mlp", widths=[6], inputs=4, outputs=3)
    saving.save(net, tmp_path, normalisation={"mean": [0.5], "std": [0.25]}, labels=["a", "b", "c"])
    (tmp_path / "own.safetensors").write_bytes(saving.to_bytes(net))
    path = tmp_path / rng.choice(["model.safetensors", "model.json", "own.safetensors"])
    how = damage(path, rng)
    try:
        if path.stem == "own":
            again = saving.load_into(models.build("mlp", widths=[6], inputs=4, outputs=3), path)
        else:
            again = saving.load(tmp_path)
            assert (again.normalisation, again.labels) == ({"mean": [0.5], "std": [0.25]}, ["a", "b", "c"]), how
    except (ValueError, OSError) as error:
        assert path.name in str(error), (how, path, error)
        note("clear")
    else:
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True)), (how, path)
        note("survived")


SMALL = {"mnist": "MNIST/raw/", "fashion_mnist": "FashionMNIST/raw/", "cifar10": "cifar-10-batches-bin/"}
SMALL |= {"uci/yacht": "UCI/yacht/", "uci/energy": "UCI/energy/", "covid_ct": "COVID-CT/", "nuclei": "BBBC038/"}


@tries(30, "data")
def test_a_damaged_data_file_is_refused_by_name(rng, real, note, tmp_path):
    name = rng.choice([*SMALL, "uci/yacht", "uci/energy"])
    root = settings.data_folder()
    if data.files.missing(data.sources.PATHS[name], root):
        pytest.skip(f"{name} is not downloaded")
    paths = [path for path in data.sources.PATHS[name] if "UCI" not in path or path.endswith(("data.txt", "_0.txt"))]
    for path in data.sources.PATHS[name]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(root / path)
    chosen = tmp_path / rng.choice(paths)
    content = chosen.read_bytes()
    chosen.unlink()
    chosen.write_bytes(content)
    how = damage(chosen, rng)
    try:
        after = data.load(name, root=tmp_path, download=False)
    except data.DataError as error:
        assert chosen.name in str(error), (how, chosen, error)
        note("clear")
    else:
        before = real(name)
        assert after.sha256 == before.sha256 or after.variant != before.variant, (how, chosen, "another data set")
        note("survived" if after.sha256 == before.sha256 else "clear")


@tries(20, "notebook")
def test_a_damaged_cell_of_parameters_is_an_error_or_another_value(rng, note):
    cells = lists.code(notebook := rng.choice(lists.NOTEBOOKS))
    (place,) = [k for k, cell in enumerate(cells) if parameters.PARAMETERS.search(cell)]
    at = rng.randrange(len(cells[place]))
    cells[place] = cells[place][:at] + chr(ord(cells[place][at]) ^ 1 << rng.randrange(7)) + cells[place][at + 1 :]
    try:
        values = parameters.declared(cells)
        parameters.check(notebook.stem, values | {"In": [*cells]}, **lists.ranges(notebook))
    except (parameters.ParameterError, ValueError, KeyError) as error:
        assert str(error), (notebook, cells[place])
        note("clear")
    else:
        note("survived")


@tries(10, "stamp")
def test_a_damaged_stamp_of_the_environment_has_it_made_anew(rng, note, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(lists.ROOT / ".ci")
    setup = importlib.import_module("setup")
    monkeypatch.setattr(setup, "READY", tmp_path / ".ready")
    monkeypatch.setattr(setup, "made_with", setup.version)
    setup.READY.write_text(setup.wanted())
    assert setup.ready()
    how = damage(setup.READY, rng)
    assert not setup.ready(), (how, "an environment counts as finished whose stamp says otherwise")
    note("clear")

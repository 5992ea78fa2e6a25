"""Data sets: what is embedded or generated here, every file format from files made here, and the real sets."""

import gzip
import hashlib
import io
import sys
import time
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from companion import settings
from companion.runs.configuration import Data, defaults
from companion.runs.datasets import load
from lib import data
from lib.data import files, medical
from lib.data.dataset import carve, fingerprint
from lib.data.sources import COVID_CLASSES, PATHS, SUMS, UCI_SPLITS, URLS

EMBEDDED = {  # name: task, sizes, shape of a sample, outputs, sha256
    "breast_cancer": (
        "classification",
        (343, 113, 113),
        (30,),
        2,
        "f467b7108cc8eda1cd9649319f760aa3ddeb4b70d76330ab2f97e04952c7fab0",
    ),
    "diabetes": (
        "regression",
        (266, 88, 88),
        (10,),
        1,
        "09eb5b77a5b1e52607b9a70163d9b87b844ea453e4c1f2ae1de1e592f9b0a77a",
    ),
    "digits": (
        "classification",
        (1079, 359, 359),
        (1, 8, 8),
        10,
        "2189647c66af2655358a804579f70b0d0c99c8f4a5d902b654f6bb29c17d95f0",
    ),
    "wine": (
        "classification",
        (106, 36, 36),
        (13,),
        3,
        "97fe6c37e9cda3789b38681ada5175a0b4916b064eece23eea399e3172ebe14a",
    ),
    "cells": (
        "segmentation",
        (120, 40, 40),
        (1, 64, 64),
        3,
        "fb56b688e353f8455f1cdaedf65d869048d2c07085823838a5f5812f0e357838",
    ),
    "ct_slices": (
        "classification",
        (360, 120, 120),
        (1, 64, 64),
        2,
        "21e1e6980c8cb04d653faf9d6b17fa28b9c0338c56d76b55c6d5b2f93699ce22",
    ),
}


def parts(ds):
    return ds.train, ds.validation, ds.test


def raw(ds, part):
    """The pixels of an image set as they were before normalisation, uint8."""
    return ((part.x * ds.std + ds.mean) * 255).round().to(torch.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder for files made here, without published checksums."""
    monkeypatch.setattr(files, "SUMS", {})
    return tmp_path


def here(name, folder, **options):
    """Load a set from a folder, without any download."""
    return data.load(name, root=folder, download=False, **options)


def store(root, path, payload):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(payload)


def png(array, **kw):
    buffer = io.BytesIO()
    Image.fromarray(array, **kw).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, payload in members.items():
            archive.writestr(name, payload)
    return buffer.getvalue()


# ---- embedded and generated


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded(name):
    task, sizes, shape, outputs, sha256 = EMBEDDED[name]
    ds = data.load(name)
    assert (ds.name, ds.task, ds.outputs, ds.sha256) == (name, task, outputs, sha256)
    assert ds.variant == ("generated" if ds.source == "generated" else "embedded")
    assert tuple(len(p.x) for p in parts(ds)) == sizes == tuple(len(p.y) for p in parts(ds))
    assert all(p.x.shape[1:] == shape and p.x.dtype == torch.float32 for p in parts(ds))
    axes = (0, 2, 3) if len(shape) == 3 else 0
    torch.testing.assert_close(ds.train.x.mean(axes), torch.zeros(shape[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(ds.train.x.std(axes, correction=0), torch.ones(shape[0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["breast_cancer", "digits", "wine", "ct_slices"])
def test_classes_keep_their_shares(name):
    ds = data.load(name)
    shares = [torch.bincount(p.y, minlength=ds.outputs) / len(p.y) for p in parts(ds)]
    assert all(p.y.dtype == torch.int64 for p in parts(ds))
    assert len(ds.classes) == ds.outputs
    assert max((s - shares[0]).abs().max() for s in shares) < 0.02


def test_regression_targets_are_standardised_and_come_back():
    ds = data.load("diabetes")
    assert ds.train.y.shape == (266, 1)
    assert ds.train.y.dtype == torch.float32
    assert abs(ds.train.y.mean()) < 1e-5
    back = torch.cat([p.y for p in parts(ds)]) * ds.target_std + ds.target_mean
    assert (back.min().round(), back.max().round()) == (25, 346)  # the range that the set is known to have


def test_cells_have_instances_where_it_is_bright():
    ds = data.load("cells", size=30)
    for x, y in parts(ds):
        assert y.dtype == torch.int16
        assert y.shape == (len(x), 64, 64)
        assert all(set(range(int(m.max()) + 1)) == set(m.unique().tolist()) and m.max() >= 2 for m in y)
        assert x[:, 0][y > 0].mean() > x[:, 0][y == 0].mean() + 1


def test_a_smaller_generated_set_has_the_same_images():
    small, large = data.load("cells", size=10), data.load("cells", size=20)
    assert small.sha256 != large.sha256
    assert torch.equal(raw(small, small.train), raw(large, large.train)[:6])
    assert small.variant == "generated"
    assert data.load("cells", size=10).sha256 == small.sha256


def test_functions_are_noisy_to_train_on_and_exact_to_test():
    for name, f in data.generated.FUNCTIONS.items():
        ds, other = (data.load(f"function/{name}", split=split) for split in (0, 1))
        x, y = (ds.test.x * ds.std + ds.mean).double(), ds.test.y.double() * ds.target_std + ds.target_mean
        assert [len(p.x) for p in parts(ds)] == [150, 75, 500] and ds.sha256 != other.sha256
        assert np.abs(f(x.numpy()) - y.numpy()).max() < (0.51 if name == "steps" else 1e-3)  # a step may be one off
        x, y = (ds.train.x * ds.std + ds.mean).double(), ds.train.y.double() * ds.target_std + ds.target_mean
        assert 0.08 < (f(x.numpy()) - y.numpy()).std() < 0.12
    with pytest.raises(data.DataError, match="function/sine: split=-1; the seed of its points"):
        data.load("function/sine", split=-1)


def test_carve_divides_everything_once_and_always_alike():
    rest, a, b = carve(103, 0.2, 0.1)
    assert sorted(np.concatenate([rest, a, b])) == list(range(103))
    assert (len(a), len(b)) == (21, 10)
    assert carve(12, 0.25)[1].tolist() == [0, 3, 5]


def test_fingerprint_sees_values_shapes_types_and_parts():
    x = np.arange(6, dtype=np.float64)
    kinds = [[(x,)], [(x.reshape(2, 3),)], [(x.astype(np.int64),)], [(x + 1e-15,)], [(x[:3],), (x[3:],)]]
    assert len({fingerprint(k) for k in kinds}) == len(kinds)
    assert fingerprint([(x,)]) == fingerprint([(x.astype(">f8"),)])


def test_moving_a_set_keeps_all_but_the_device():
    ds = data.load("wine")
    moved = ds.to("meta")
    assert {t.device.type for p in parts(moved) for t in p} | {moved.mean.device.type} == {"meta"}
    assert moved.sha256 == ds.sha256
    assert ds.train.x.device.type == "cpu"
    assert repr(ds) == "wine: classification, 106 / 36 / 36 (train / validation / test) of (13,), embedded"


# ---- wrong input


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(
        data.DataError, match="^unknown data set 'minst'; known: breast_cancer, cells, .*, mnist, .*, wine$"
    ):
        data.load("minst")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("uci/yacht", {"split": 20}, "split=20; its splits are the integers 0 to 19"),
        ("uci/protein-tertiary-structure", {"split": -1}, "split=-1; .* 0 to 4"),
        ("uci/yacht", {"split": 1.5}, "split=1.5"),
        ("mnist", {"split": 1}, "mnist: split=1, but only"),
        ("mnist", {"size": 9}, "mnist: size=9, but only cells and ct_slices"),
        ("cells", {"size": 9}, "cells: size=9; .* at least 10"),
        ("ct_slices", {"size": 2**70}, "ct_slices: size=.* at most 100,000"),
        ("function/sine", {"split": 2**32}, "function/sine: split=4294967296; .* below 2³²"),
        ("ct_slices", {"size": 2.5}, "size=2.5"),
        ("mnist", {"root": None}, "mnist: root=None, .* root is a folder"),
        ("mnist", {"root": "~no-such-user/data"}, "root='~no-such-user/data': there is no such user's home"),
        ("mnist", {"download": "no"}, "download='no'; .* True or False"),
    ],
)
def test_wrong_options_name_the_value_and_the_range(name, options, message):
    with pytest.raises(data.DataError, match=message):
        data.load(name, **options)


@pytest.mark.parametrize("name", PATHS)
def test_missing_and_forbidden_to_fetch(name, folder):
    with pytest.raises(data.DataError) as error:
        here(name, folder)
    for part in (PATHS[name][0], f"`python -m lib.data {name} --root {folder}`", "root=", "download=False"):
        assert part in str(error.value)
    assert "COMPANION" not in str(error.value)
    assert not error.value.__context__


def test_the_default_root_is_the_folder_data_of_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(data.DataError, match="is not in data, .*`python -m lib.data mnist --root data` fetches it"):
        data.load("mnist", download=False)


def test_the_companion_tells_of_its_own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path))
    monkeypatch.setenv("COMPANION_DOWNLOAD", "0")
    with pytest.raises(data.DataError) as error:
        load(defaults(Data) | {"name": "mnist"})
    for part in (f"--root {tmp_path}`", "download=False", "COMPANION_DATA", "COMPANION_DOWNLOAD=0"):
        assert part in str(error.value)
    with pytest.raises(data.DataError, match="^unknown data set 'minst'; known: .*, wine$"):
        load(defaults(Data) | {"name": "minst"})


# ---- file formats, from files made here


def idx(array):
    shape = np.array(array.shape, ">i4").tobytes()
    return gzip.compress(b"\0\0\x08" + bytes([array.ndim]) + shape + array.tobytes())


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files(name, folder):
    rng = np.random.RandomState(1)
    made = [rng.randint(0, 256, (n, 28, 28)).astype(np.uint8) for n in (60, 12)]
    labels = [np.arange(n, dtype=np.uint8) % 10 for n in (60, 12)]
    for path, array in zip(PATHS[name], (made[0], labels[0], made[1], labels[1]), strict=True):
        store(folder, path, idx(array))
    ds = here(name, folder)
    assert [tuple(p.x.shape) for p in parts(ds)] == [(55, 1, 28, 28), (5, 1, 28, 28), (12, 1, 28, 28)]
    assert ds.variant.startswith("unknown: ")
    assert torch.equal(raw(ds, ds.test)[:, 0], torch.tensor(made[1]))
    assert ds.test.y.tolist() == labels[1].tolist()
    both = torch.cat([raw(ds, ds.train), raw(ds, ds.validation)])[:, 0]
    assert sorted(map(bytes, both.numpy())) == sorted(map(bytes, made[0]))  # each image once
    assert not [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".gz"]  # nothing is written


@pytest.mark.parametrize(("name", "labels", "count"), [("cifar10", 1, 10), ("cifar100", 2, 100)])
def test_cifar_records(name, labels, count, folder):
    rng = np.random.RandomState(2)
    made = {}
    for path in (p for p in PATHS[name] if p.endswith(".bin")):
        records = rng.randint(0, 256, (20, labels + 3072)).astype(np.uint8)
        records[:, :labels] = rng.randint(0, count, (20, labels))
        store(folder, path, records.tobytes())
        made[path] = records
    ds = here(name, folder)
    total = 20 * (len(made) - 1)
    assert [len(p.x) for p in parts(ds)] == [total * 9 // 10, total // 10, 20]
    assert len(ds.classes) == ds.outputs == count
    test = list(made.values())[-1]
    assert ds.test.y.tolist() == test[:, labels - 1].tolist()  # CIFAR-100: the fine label, not the coarse one
    assert torch.equal(raw(ds, ds.test), torch.tensor(test[:, labels:].reshape(-1, 3, 32, 32)))


def test_uci_table(folder):
    rows = np.random.RandomState(3).standard_normal((40, 4))
    order = np.random.RandomState(4).permutation(40)
    texts = {"data": rows, "index_features": [0, 1, 3], "index_target": [2]}
    for k in (0, 7):
        texts |= {f"index_train_{k}": np.roll(order, k)[:36], f"index_test_{k}": np.roll(order, k)[36:]}
    for stem, array in texts.items():
        buffer = io.StringIO()
        np.savetxt(buffer, array, fmt="%.17g")
        store(folder, f"UCI/yacht/data/{stem}.txt", buffer.getvalue().encode())
    ds, other = here("uci/yacht", folder), here("uci/yacht", folder, split=7)
    assert [len(p.x) for p in parts(ds)] == [32, 4, 4]
    assert ds.sha256 != other.sha256
    test = texts["index_test_7"]
    torch.testing.assert_close(other.test.x * other.std + other.mean, torch.tensor(rows[test][:, [0, 1, 3]]).float())
    torch.testing.assert_close(
        other.test.y * other.target_std + other.target_mean, torch.tensor(rows[test][:, [2]]).float()
    )


def test_nuclei_zip(folder, monkeypatch):
    rng, members, images = np.random.RandomState(5), {}, {}
    shapes = dict(zip("abcdefghij", [(256, 256), (520, 696), (200, 300), (256, 256), (300, 260)] * 2, strict=True))
    for name, shape in shapes.items():
        grey = rng.randint(0, 200, shape).astype(np.uint8)
        rgba = np.dstack([grey] * 3 + [np.full_like(grey, 255)])  # as the official pictures are
        members[f"stage1_train/{name}/images/{name}.png"] = png(rgba)
        images[name] = grey, np.zeros(shape, np.int16)
        for k in range(3):
            mask = np.zeros(shape, np.uint8)
            mask[40 * k : 40 * k + 20, 10:90] = 255
            members[f"stage1_train/{name}/masks/{k:03d}.png"] = png(mask)
            images[name][1][mask > 0] = k + 1
    members["stage1_train/unlisted/images/unlisted.png"] = png(np.zeros((256, 256), np.uint8))
    store(folder, PATHS["nuclei"][0], zipped(members))
    monkeypatch.setattr(medical, "NUCLEI_IDS", tuple(shapes))
    ds = here("nuclei", folder)
    assert ds.task == "segmentation"
    chosen = [[list(shapes)[k] for k in rows] for rows in carve(10, 0.2, 0.2)]
    assert [len(c) for c in chosen] == [6, 2, 2]
    for names, part in zip(chosen, parts(ds), strict=True):
        cut = [tile for name in names for tile in medical.tiles(*images[name])]
        assert torch.equal(raw(ds, part)[:, 0], torch.tensor(np.stack([x for x, _ in cut])))
        assert torch.equal(part.y, torch.tensor(np.stack([y for _, y in cut])))
    monkeypatch.setattr(medical, "NUCLEI_IDS", (*shapes, "nowhere"))
    with pytest.raises(data.DataError, match=r"stage1_train\.zip is damaged: it lacks 1 of 11 .* nowhere"):
        here("nuclei", folder)


def test_tiles_are_centred_disjoint_and_renumbered():
    ids = np.zeros((520, 696), np.int16)
    ids[4, 92], ids[3, 92], ids[515, 603], ids[300, 100] = 5, 6, 7, 9
    grey = (np.arange(520 * 696) % 251).astype(np.uint8).reshape(520, 696)
    cut = list(medical.tiles(grey, ids))
    assert len(cut) == 4  # 512 x 512 of 520 x 696, from row 4 and column 92 on
    assert np.array_equal(cut[3][0], grey[260:516, 348:604])
    assert [int(y.max()) for _, y in cut] == [1, 0, 1, 1]
    assert cut[0][1][0, 0] == 1
    assert cut[3][1][-1, -1] == 1
    ((small, _),) = medical.tiles(grey[:200, :256], ids[:200, :256])
    assert small.shape == (256, 256)
    assert np.array_equal(small[28:228], grey[:200, :256])
    assert np.array_equal(small[27], grey[1, :256])  # reflected, the edge itself not doubled


def test_covid_zips(folder):
    rng, made = np.random.RandomState(6), {}
    for kind in ("COVID", "NonCOVID"):
        names = [f"{k}%{kind}.png" for k in range(12)]
        for k, name in enumerate(names):
            shape = (256, 256) if k else (150, 333)
            made[name] = rng.randint(0, 256, shape).astype(np.uint8)
        members = {f"CT_{kind}/{n}": png(made[n]) for n in names} | {f"__MACOSX/CT_{kind}/._{names[0]}": b"-"}
        store(folder, f"COVID-CT/CT_{kind}.zip", zipped(members))
        for part, chosen in zip(("train", "val", "test"), (names[:6], names[6:8], names[8:]), strict=True):
            store(folder, f"COVID-CT/Data-split/{kind}/{part}CT_{kind}.txt", "\n".join([*chosen, ""]).encode())
    ds = here("covid_ct", folder)
    assert [tuple(p.x.shape) for p in parts(ds)] == [(12, 1, 128, 128), (4, 1, 128, 128), (8, 1, 128, 128)]
    assert ds.classes == ("NonCOVID", "COVID")
    assert ds.validation.y.tolist() == [0, 0, 1, 1]
    means = made["6%NonCOVID.png"].reshape(128, 2, 128, 2).mean((1, 3))
    assert np.abs(raw(ds, ds.validation)[0, 0].numpy() - means).max() <= 1.01  # area averages
    (folder / "COVID-CT/Data-split/COVID/valCT_COVID.txt").write_text("ghost.png\n")
    with pytest.raises(data.DataError, match=r"CT_COVID\.zip is damaged: it lacks 'ghost\.png"):
        here("covid_ct", folder)


# ---- damage


def flip(file, where):
    payload = bytearray(file.read_bytes())
    payload[where] ^= 1
    file.write_bytes(payload)


def test_damaged_files_are_refused_by_name(folder):
    for path in PATHS["mnist"]:
        store(folder, path, idx(np.zeros((12, 28, 28) if "images" in path else 12, np.uint8)))
    here("mnist", folder)
    file = folder / PATHS["mnist"][2]
    flip(file, -6)  # the gzip's own checksum
    with pytest.raises(data.DataError, match=r"^mnist: .*t10k-images-idx3-ubyte\.gz is damaged: .* Delete it"):
        here("mnist", folder)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(data.DataError, match="t10k-images-idx3-ubyte"):
        here("mnist", folder)
    store(folder, PATHS["cifar10"][0], b"\0" * 3072)
    for path in PATHS["cifar10"][1:]:
        store(folder, path, b"\0" * 3073 * 10)
    with pytest.raises(data.DataError, match="data_batch_1.bin is damaged"):
        here("cifar10", folder)
    store(folder, PATHS["cifar10"][0], b"\x0a" * 3073 * 10)
    with pytest.raises(data.DataError, match="cifar10: a label exceeds its 10 classes"):
        here("cifar10", folder)


def test_a_flipped_byte_in_a_zip_is_refused_by_name(folder, monkeypatch):
    monkeypatch.setattr(medical, "NUCLEI_IDS", ("a",))
    store(folder, PATHS["nuclei"][0], zipped({"a/images/a.png": png(np.zeros((256, 256), np.uint8))}))
    flip(folder / PATHS["nuclei"][0], 120)
    with pytest.raises(data.DataError, match=r"stage1_train\.zip is damaged: its member a/images/a\.png has another"):
        here("nuclei", folder)


def test_a_bit_or_half_of_a_known_file_makes_another_file(monkeypatch):
    payload = np.random.RandomState(7).bytes(1000)
    monkeypatch.setattr(files, "SUMS", {"a": {hashlib.md5(payload).hexdigest(): "official"}})
    assert files.check("a", payload) == "official"
    for bad in (payload[:500], b"", payload + b"-", bytes([payload[0] ^ 1]) + payload[1:]):
        with pytest.raises(ValueError, match="its md5 is [0-9a-f]{32}, expected [0-9a-f]{32}"):
            files.check("a", bad)


def put_a_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: flip(file, -6), "is damaged: its md5 is"),
        (lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]), "is damaged: its md5 is"),
        (lambda file: file.write_bytes(b""), "is damaged: its md5 is"),
        (put_a_folder, "cannot be read: Is a directory"),
    ],
    ids=["bit", "half", "empty", "folder"],
)
@pytest.mark.parametrize("k", range(4))
def test_every_damaged_file_is_named_with_a_remedy(folder, damage, message, k, monkeypatch):
    sums = {}
    for path in PATHS["mnist"]:
        store(folder, path, idx(np.zeros((12, 28, 28) if "images" in path else 12, np.uint8)))
        sums[path] = {hashlib.md5((folder / path).read_bytes()).hexdigest(): "official"}
    monkeypatch.setattr(files, "SUMS", sums)
    assert here("mnist", folder).variant == "official"
    damage(folder / PATHS["mnist"][k])
    with pytest.raises(data.DataError) as error:
        data.load("mnist", root=folder)  # which may download, but the file is there
    for part in (f"{PATHS['mnist'][k]} {message}", "Delete it", f"`python -m lib.data mnist --root {folder}`"):
        assert part in str(error.value)


def test_a_file_without_permission_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    store(folder, PATHS["nuclei"][0], b"-")
    monkeypatch.setattr(files.Path, "read_bytes", refuse)
    with pytest.raises(data.DataError, match=r"stage1_train\.zip cannot be read: Permission denied\. Delete it"):
        here("nuclei", folder)


def bomb(size):
    """A zip file of one member that unpacks to `size` zero bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/images/a.png", "w") as member:
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return buffer.getvalue()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(folder, monkeypatch):
    monkeypatch.setattr(files, "UNPACKED", 1 << 24)
    store(folder, PATHS["nuclei"][0], bomb(1 << 25))
    with pytest.raises(data.DataError, match=r"stage1_train\.zip is damaged: it would unpack to 33,554,432 bytes"):
        here("nuclei", folder)
    huge = bytearray(png(np.zeros((1, 1), np.uint8)))
    huge[16:24] = np.array([50_000, 50_000], ">u4").tobytes()  # a picture that claims 2.5 GB
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    store(folder, PATHS["nuclei"][0], zipped({"a/images/a.png": bytes(huge)}))
    monkeypatch.setattr(medical, "NUCLEI_IDS", ("a",))
    with pytest.raises(data.DataError, match=r"stage1_train\.zip is damaged: .*decompression bomb"):
        here("nuclei", folder)


def test_a_zip_writes_nothing_wherever_its_members_point(folder, monkeypatch):
    picture = png(np.zeros((256, 256), np.uint8))
    members = {f"{id_}/{kind}/a.png": picture for id_ in "abcde" for kind in ("images", "masks")}
    members |= {"../../evil/images/a.png": picture, "/evil/images/b.png": picture}
    store(folder, PATHS["nuclei"][0], zipped(members))
    before = sorted(folder.parent.rglob("*"))
    monkeypatch.setattr(medical, "NUCLEI_IDS", tuple("abcde"))
    here("nuclei", folder)
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a/masks/0.png": (256, 256)}, "it lacks one picture beside the masks"),
        ({"a/images/a.png": (256, 256), "a/images/b.png": (256, 256)}, "it lacks one picture beside the masks"),
        ({"a/images/a.png": (256, 256), "a/masks/0.png": (256, 200)}, "0.png has another size than its picture"),
    ],
)
def test_nuclei_that_do_not_fit_their_picture(folder, members, message, monkeypatch):
    monkeypatch.setattr(medical, "NUCLEI_IDS", ("a",))
    store(folder, PATHS["nuclei"][0], zipped({path: png(np.ones(s, np.uint8)) for path, s in members.items()}))
    with pytest.raises(data.DataError, match=f"is damaged: .*{message}"):
        here("nuclei", folder)


def test_every_file_but_two_has_a_checksum_and_every_address_is_fixed():
    assert {path for paths in PATHS.values() for path in paths} - SUMS.keys() == {
        f"COVID-CT/CT_{c}.zip" for c in COVID_CLASSES
    }
    assert all(len(sum_) == (64 if path.endswith(".zip") else 32) for path in SUMS for sum_ in SUMS[path])
    assert all("official" in known.values() for known in SUMS.values())
    assert [url for urls in URLS.values() for url in urls if "/master/" in url or "/main/" in url] == []


# ---- the real sets


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("mnist", "448463a491869239875bcf9e58c912e357c9a28b62f5a51aa2d3a57af7492d61"),
        ("fashion_mnist", "3f8cd56ca7edd4de6fdba561e7faeaf6c529065e9b9800c626221e1e8181e5bb"),
    ],
)
def test_real_mnist(name, sha256, real):
    real(name)  # the first call also pays for what torch sets up
    start = time.process_time()
    ds = real(name)
    assert time.process_time() - start < 2
    assert [len(p.x) for p in parts(ds)] == [55000, 5000, 10000]
    assert (ds.variant, ds.sha256) == ("official", sha256)
    counts = sum(torch.bincount(p.y) for p in parts(ds)[:2]).tolist()
    mnist = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert counts == (mnist if name == "mnist" else [6000] * 10)


@pytest.mark.realdata
def test_a_flipped_bit_or_half_of_any_real_file_is_seen():
    rng, root = np.random.RandomState(8), settings.data_folder()
    known = [path for paths in PATHS.values() for path in paths if (root / path).is_file()]
    if not known:
        pytest.skip("no data set is downloaded")
    for path in known:
        payload = bytearray((root / path).read_bytes())
        files.check(path, payload)
        where = zipfile.ZipFile(root / path).infolist()[0].file_size if path.endswith(".zip") else len(payload)
        payload[rng.randint(100, where) if where > 100 else 0] ^= 1 << rng.randint(8)
        for bad in (payload, payload[: len(payload) // 2]):
            with pytest.raises((ValueError, zipfile.BadZipFile)):
                files.check(path, bad)


@pytest.mark.realdata
def test_real_cifar10(real):
    ds = real("cifar10")
    assert [len(p.x) for p in parts(ds)] == [45000, 5000, 10000]
    assert torch.bincount(ds.test.y).tolist() == [1000] * 10
    assert ds.variant in ("official", "20 approximate test images")
    if ds.variant != "official":
        assert ds.sha256 == "745589dd3a8e6ae1bb7d835563b4bc6bdd825cf38bb4e8e55e4674dd353c1042"


@pytest.mark.realdata
def test_real_cifar100(real):
    ds = real("cifar100")
    assert [len(p.x) for p in parts(ds)] == [45000, 5000, 10000]
    assert torch.bincount(ds.test.y).tolist() == [100] * 100
    assert (ds.classes[0], ds.classes[-1], len(set(ds.classes))) == ("apple", "worm", 100)
    assert ds.variant in ("official", "training pixels within 2 of 255")


@pytest.mark.realdata
@pytest.mark.parametrize("table", UCI_SPLITS)
def test_real_uci(table, real):
    last = UCI_SPLITS[table] - 1
    for split in (0, last):
        ds = real(f"uci/{table}", split=split)
        rows = sum(len(p.x) for p in parts(ds))
        assert abs(len(ds.test.x) - rows * 0.1) <= 1
        assert abs(len(ds.validation.x) - rows * 0.09) <= 1
        assert ds.variant == "official"
        assert all(torch.isfinite(t).all() for p in parts(ds) for t in p)
    first, columns = {"concrete": (1030, 8), "protein-tertiary-structure": (45730, 9)}.get(
        table, (rows, ds.mean.numel())
    )
    assert (rows, ds.train.x.shape[1]) == (first, columns)


@pytest.mark.realdata
def test_real_nuclei(real):
    ds = real("nuclei")
    assert len(medical.NUCLEI_IDS) == len(set(medical.NUCLEI_IDS)) == 541
    assert [len(rows) for rows in carve(541, 0.2, 0.2)] == [325, 108, 108]
    digests = [{hash(t.numpy().tobytes()) for t in raw(ds, p)} for p in parts(ds)]
    assert not digests[0] & digests[1]
    assert not digests[0] & digests[2]
    assert not digests[1] & digests[2]
    assert all(p.x.shape[1:] == (1, 256, 256) and p.y.shape[1:] == (256, 256) for p in parts(ds))
    bright = [p.x[:, 0][p.y > 0].mean() - p.x[:, 0][p.y == 0].mean() for p in parts(ds)]
    assert min(bright) > 1
    if ds.variant == "corrected masks":
        assert [len(p.x) for p in parts(ds)] == [562, 195, 154]


@pytest.mark.realdata
def test_real_covid(real):
    ds = real("covid_ct")
    assert [len(p.x) for p in parts(ds)] == [425, 118, 203]
    assert [torch.bincount(p.y).tolist() for p in parts(ds)] == [[234, 191], [58, 60], [105, 98]]
    assert ds.variant == "grey 256 x 256 copies" or ds.variant.startswith("unknown: ")


@pytest.mark.parametrize("download", [True, False])
def test_a_folder_without_permission_is_named_and_nothing_is_fetched(download, folder, monkeypatch, capsys):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.Path, "stat", refuse)
    with pytest.raises(data.DataError, match=r"stage1_train\.zip cannot be looked for: Permission denied\. Make the"):
        data.load("nuclei", root=folder, download=download)


@pytest.mark.parametrize(("link", "to"), [("BBBC038", "nowhere"), ("BBBC038", "BBBC038"), ("stage1_train.zip", "-")])
def test_a_link_that_leads_nowhere_is_named(link, to, folder):
    place = folder / link if link == "BBBC038" else folder / "BBBC038" / link
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(to)
    with pytest.raises(data.DataError, match=rf"is not in {folder} \(the link {place} leads nowhere\), and download=F"):
        here("nuclei", folder)


DEEP = png(np.full((256, 256), 40000, np.uint16))
FLAT = png(np.zeros((256, 256), np.uint8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a/images/a.png": b"text"}, r"member a/images/a\.png cannot be read as a picture \(UnidentifiedImageError"),
        ({"a/masks/0.png": b""}, r"member a/masks/0\.png cannot be read as a picture \(it is empty"),
        ({"a/masks/0.png": FLAT[:60]}, r"member a/masks/0\.png cannot be read as a picture \(OSError"),
        ({"a/images/a.png": DEEP}, r"member a/images/a\.png has more than 8 bits a pixel"),
        ({"a/masks/0.png": None}, r"lacks masks beside a/images/a\.png"),
        ({"__MACOSX/a/images/._a.png": b"-", "__MACOSX/a/masks/._0.png": b"-"}, ""),
    ],
)
def test_a_picture_or_mask_that_is_none_is_named(change, message, folder, monkeypatch):
    members = {f"{k}/{name}": FLAT for k in "abcde" for name in (f"images/{k}.png", "masks/0.png")} | change
    store(
        folder, PATHS["nuclei"][0], zipped({name: content for name, content in members.items() if content is not None})
    )
    monkeypatch.setattr(medical, "NUCLEI_IDS", tuple("abcde"))
    if not message:
        assert len(here("nuclei", folder).train.x) == 3
        return
    with pytest.raises(data.DataError, match=rf"stage1_train\.zip is damaged: it.* {message}"):
        here("nuclei", folder)


def test_a_file_is_not_damaged_where_pillow_is_missing(folder, monkeypatch):
    monkeypatch.setattr(medical, "NUCLEI_IDS", ("a",))
    store(folder, PATHS["nuclei"][0], zipped({"a/images/a.png": FLAT, "a/masks/0.png": FLAT}))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"^PIL is missing; install it, or all of .* extra \[data\]$"):
        here("nuclei", folder)


VALID = "Data-split/COVID/valCT_COVID.txt"


@pytest.mark.parametrize(
    ("zip_change", "listed", "message"),
    [
        ({"3.png": b"text"}, b"3.png", r"CT_COVID\.zip is damaged: its member 3\.png cannot be read as a picture"),
        ({"3.png": DEEP}, b"3.png", r"CT_COVID\.zip is damaged: its member 3\.png has more than 8 bits"),
        ({"other/3.png": FLAT}, b"3.png", r"CT_COVID\.zip is damaged: it has two pictures of one name, 3\.png and"),
        ({}, b"\xff\xfe", r"valCT_COVID\.txt is damaged: 'utf-8' codec"),
        ({}, b" \n", r"valCT_COVID\.txt is damaged: it lists no picture"),
    ],
)
def test_a_slice_or_list_that_is_none_is_named(zip_change, listed, message, folder):
    for kind in COVID_CLASSES:
        members = {f"{k}.png": FLAT for k in range(6)} | (zip_change if kind == "COVID" else {})
        store(folder, f"COVID-CT/CT_{kind}.zip", zipped(members))
        for part, chosen in zip(("train", "val", "test"), (b"1.png\n2.png", b"3.png", b"4.png"), strict=True):
            store(folder, f"COVID-CT/Data-split/{kind}/{part}CT_{kind}.txt", chosen)
    if not zip_change:
        assert len(here("covid_ct", folder).train.x) == 4
    store(folder, f"COVID-CT/{VALID}", listed)
    with pytest.raises(data.DataError, match=message):
        here("covid_ct", folder)


@pytest.mark.parametrize(
    ("stem", "text", "message"),
    [
        ("data", "1 2\nnan 3\n4 5", r"data\.txt is damaged: row 1, column 0, counted from 0, is nan"),
        ("data", "1 2\n3 inf\n4 5", r"data\.txt is damaged: row 1, column 1, counted from 0, is inf"),
        ("data", " \n", r"data\.txt is damaged: it is empty"),
        ("index_test_0", "-1", r"index_test_0\.txt is damaged: it has an index that is no whole number"),
        ("index_train_0", "0\n0.5", r"index_train_0\.txt is damaged: it has an index that is no whole number"),
    ],
)
def test_a_table_without_numbers_names_file_row_and_column(stem, text, message, folder):
    texts = {"data": "1 2\n3 3\n4 5", "index_features": "0", "index_target": "1"}
    for name, content in (texts | {"index_train_0": "0\n1", "index_test_0": "2"} | {stem: text}).items():
        store(folder, f"UCI/yacht/data/{name}.txt", content.encode())
    with pytest.raises(data.DataError, match=message):
        here("uci/yacht", folder)

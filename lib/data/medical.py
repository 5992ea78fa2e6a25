"""Biomedical images: the fluorescence nuclei of BBBC038 and the chest CTs of COVID-CT."""

import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..checks import needing
from .dataset import carve, pack
from .files import whole
from .sources import COVID_CLASSES, COVID_PARTS, PATHS

TILE = 256  # side of a crop of nuclei
CT_SIDE = 128  # a quarter of the operations that 256 takes: what a laptop's CPU can train on
NUCLEI_IDS = tuple(Path(__file__).with_name("nuclei_ids.txt").read_text("ascii").split())


def nuclei(name, *, files):
    """Fluorescence nuclei of BBBC038: (1, 256, 256) tiles with instance ids.

    The images are divided 60 / 20 / 20 % first (their sorted ids shuffled), cut into tiles after: no image is
    in two parts.
    """
    (file,), variant = files(PATHS[name])
    with whole(file), zipfile.ZipFile(io.BytesIO(file.payload)) as archive:
        members = {}  # image id → its picture and masks, out of <id>/images/*.png and <id>/masks/*.png
        for path in sorted(p for p in archive.namelist() if p.endswith(".png") and p.count("/") > 1 and p[0] != "_"):
            members.setdefault(path.split("/")[-3], []).append(path)
        if lost := [i for i in NUCLEI_IDS if i not in members]:
            raise ValueError(f"it lacks {len(lost)} of {len(NUCLEI_IDS)} listed images, e.g. {lost[0]}")
        with ThreadPoolExecutor(4) as pool:  # Pillow inflates outside the interpreter lock
            images = list(pool.map(lambda i: _nuclei_image(archive, *members[i]), NUCLEI_IDS))
    parts = []
    for chosen in carve(len(images), 0.2, 0.2):
        cut = [tile for k in chosen for tile in tiles(*images[k])]
        parts.append((np.stack([grey for grey, _ in cut])[:, None], np.stack([ids for _, ids in cut])))
    return pack(name, "segmentation", parts, classes=("background", "nucleus"), vouched=variant)


def _nuclei_image(archive, picture, *masks):
    """Grey levels uint8 (H, W) and instance ids int16 (H, W), numbered in the order of the masks' names."""
    grey = np.asarray(_grey(archive, picture))
    if "/images/" not in picture or "/images/" in "".join(masks):
        raise ValueError(f"it lacks one picture beside the masks, at {picture}")
    if not masks:
        raise ValueError(f"it lacks masks beside {picture}")
    ids = np.zeros(grey.shape, np.int16)
    for k, path in enumerate(masks, 1):
        mask = _grey(archive, path)
        if mask.size != grey.shape[::-1]:
            raise ValueError(f"{path} has another size than its picture")
        if box := mask.getbbox():  # most of a mask is empty
            left, top, right, bottom = box
            ids[top:bottom, left:right][np.asarray(mask.crop(box)) > 0] = k
    return grey, ids


def _pillow():
    with needing("data"):
        from PIL import Image
    return Image


def _grey(archive, path):
    """The picture of that name in a zip, in grey levels of 8 bits. ValueError: it is none, or has more bits."""
    try:
        picture = _pillow().open(io.BytesIO(archive.read(path)))
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's, which do not name it
        why = "it is empty" if not archive.getinfo(path).file_size else type(error).__name__
        raise ValueError(f"its member {path} cannot be read as a picture ({why})") from None
    if picture.mode[0] in "IF":  # Pillow would clip them at 255
        raise ValueError(f"its member {path} has more than 8 bits a pixel (mode {picture.mode}); convert it to 8")
    return picture if picture.mode == "L" else picture.convert("L")


def tiles(grey, ids):
    """Cut an image into as many disjoint 256 x 256 tiles as fit, their grid centred; the margin is lost.

    A side below 256 is first reflected to 256. Each tile numbers its instances 1, 2, … anew.
    """
    short = [(max(0, TILE - n) // 2, (max(0, TILE - n) + 1) // 2) for n in grey.shape]
    grey, ids = np.pad(grey, short, "reflect"), np.pad(ids, short, "reflect")
    tops, lefts = ([n % TILE // 2 + TILE * k for k in range(n // TILE)] for n in grey.shape)
    for window in (np.s_[top : top + TILE, left : left + TILE] for top in tops for left in lefts):
        present = np.bincount(ids[window].ravel()) > 0
        present[0] = False  # the background keeps its 0
        yield grey[window], np.cumsum(present, dtype=np.int16)[ids[window]] * (ids[window] > 0)


def covid_ct(name, *, files):
    """COVID-CT with its published split: 425 / 118 / 203 of (1, 128, 128), classes NonCOVID and COVID.

    Grey levels, averaged over areas down to a square; the aspect ratio is not kept.
    """
    found, variant = files(PATHS[name])
    parts = [([], []) for _ in COVID_PARTS]
    for label, archive in enumerate(found[: len(COVID_CLASSES)]):
        slices = _slices(archive)
        lists = found[len(COVID_CLASSES) + label * len(COVID_PARTS) :]
        for (x, y), names in zip(parts, lists, strict=False):
            with whole(names):
                listed = [line.strip() for line in names.payload.decode().split("\n") if line.strip()]
                if not listed:
                    raise ValueError("it lists no picture")
            with whole(archive):
                x += [slices[line] for line in listed]
            y += [label] * (len(x) - len(y))
    parts = [(np.stack(x)[:, None], np.array(y, np.int64)) for x, y in parts]
    return pack(name, "classification", parts, classes=COVID_CLASSES, vouched=variant)


def _slices(file):
    """File name → grey uint8 (128, 128), of every picture in a zip."""
    with whole(file), zipfile.ZipFile(io.BytesIO(file.payload)) as archive:
        pictures = [p for p in archive.namelist() if p.lower().endswith((".png", ".jpg", ".jpeg")) and p[0] != "_"]
        slices = {path.rpartition("/")[2]: path for path in pictures}
        if twice := set(pictures) - set(slices.values()):
            raise ValueError(f"it has two pictures of one name, {min(twice)} and another")
        return {name: _squared(archive, path) for name, path in slices.items()}


def _squared(archive, path):
    return np.asarray(_grey(archive, path).resize((CT_SIDE, CT_SIDE), _pillow().Resampling.BOX))

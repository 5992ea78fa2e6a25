"""What is measured of a network at the end of a stage: scores on the three parts, sizes, and what a picture needs."""

import torch

from lib import measures, models, shrinking, training

PARTS = ("train", "validation", "test")
MAPS = 8  # images at a time that a segmentation network sees: its maps are large


def score(model, split, part, precision="auto"):
    """Accuracy, the RMSE in the table's units, or the foreground's Dice, of a model on one part."""
    if split.task == "segmentation":
        outputs = training.predict(model, part.x, batch=MAPS, precision=precision)
        return measures.foreground_dice(outputs, part.y)
    outputs = training.predict(model, part.x, precision=precision)
    if split.task == "regression":
        return measures.rmse(outputs, part.y) * split.target_std
    return measures.accuracy(outputs, part.y)


def measure(model, split, parts=PARTS):
    """The row of a finished stage: scores on the three parts, and sizes. `images`, `pictures` read test images, too.

    In fp32 whatever the stage was trained in: that is what is saved, shrunk and taken home. Of a large network this
    takes as long as an epoch: `parts` can leave the training part out.
    """
    return _scores(model, split, parts) | {
        "parameters": measures.parameters(model),
        "nonzero": measures.nonzero(model),
        "nonzero_layers": [int(w.count_nonzero()) for w in models.weights(model).values()],
        "sparsity": measures.sparsity(model),
        "alive": list(shrinking.alive(model).values()),
        "alive_1e-3": shrinking.alive_1e3(model),
        "sparsity_1e-3": shrinking.sparsity_1e3(model),
    }


def _scores(model, split, parts):
    """The scores of each part by name; of segmentations not of the training part."""
    found = {}
    for part in PARTS[split.task == "segmentation" :]:
        if part in parts:
            scores = _scores_of(model, split, *getattr(split, part))
            found |= {f"{part}_{key}": value for key, value in scores.items()}
    one = split.task == "regression" and split.train.x[0].numel() == 1
    return found | ({"fit": fit(model, split)} if one else {})


def _scores_of(model, split, x, y):
    """Accuracy, with f1 and auc for two classes; rmse and r2; those of instances."""
    if split.task == "segmentation":
        return measures.instance_scores(_instances(model, x), y.cpu())
    outputs = training.predict(model, x, precision="fp32")
    if split.task == "regression":
        return {"rmse": measures.rmse(outputs, y) * split.target_std, "r2": measures.r2(outputs, y)}
    two = {"f1": measures.f1(outputs, y), "auc": measures.auc(outputs, y)} if split.outputs == 2 else {}
    return {"accuracy": measures.accuracy(outputs, y)} | two


def images(model, split):
    """The class of every test image, and its second logit minus its first, in fp32 as in the scores."""
    first, second = training.predict(model, split.test.x, precision="fp32").double().T
    return {"class": split.test.y.tolist(), "margin": (second - first).tolist()}


def _instances(model, x):
    return measures.split(training.predict(model, x, batch=MAPS, precision="fp32"))


def pictures(model, split, chosen):
    """Test images as bytes, their true instances and the predicted ones: what a picture of them needs."""
    if not chosen:
        return {}
    x, y = (t[chosen] for t in split.test)
    grey = ((x * split.std + split.mean) * 255).round().clamp(0, 255).to(torch.uint8)
    found = torch.stack([torch.from_numpy(m).to(torch.int16) for m in _instances(model, x)])
    return {"image": grey.cpu(), "true": y.cpu(), "predicted": found}


def fit(model, split, points=121):
    """The function that a network with one input and one output is: its values between the training set's ends."""
    x = torch.linspace(split.train.x.min(), split.train.x.max(), points, device=split.train.x.device)[:, None]
    y = training.predict(model, x, precision="fp32") * split.target_std + split.target_mean
    return {"x": (x * split.std + split.mean).flatten().tolist(), "y": y.flatten().tolist()}

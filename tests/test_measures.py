"""Scores on hand-computed cases, counts and operations against formulas, the table."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from sklearn.metrics import roc_auc_score
from torch.nn.utils import prune

from lib import measures, models, shrinking
from lib.training import losses

LOGITS = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.0, 1.0]])
Y = torch.tensor([0, 1, 1, 1])


def test_scores_of_classification():
    assert measures.accuracy(LOGITS, Y) == 0.75
    # class 0: precision 1/2, recall 1, F1 2/3; class 1: precision 1, recall 2/3, F1 4/5
    # margins of class 1: -1 (y = 0) against 3, -1, 1: two pairs in order and a tie
    assert measures.auc(LOGITS, Y) == pytest.approx(2.5 / 3)
    assert measures.f1(LOGITS, Y) == pytest.approx(4 / 5), "of class 1"
    three = torch.eye(3)[[0, 1, 2, 0]]
    assert measures.auc(three, torch.tensor([0, 1, 2, 0])) == 1


@pytest.mark.parametrize("count", [2, 3, 5])
def test_auc_is_that_of_the_chances_where_these_do_not_saturate(count):
    logits, y = torch.randn(200, count), torch.arange(200) % count
    chances = logits.double().softmax(1)
    expected = roc_auc_score(y, chances[:, 1] if count == 2 else chances, multi_class="ovr")
    assert measures.auc(logits, y) == expected


def test_rows_that_differ_by_a_shift_are_ties():
    logits = (torch.randn(30, 3, generator=torch.Generator().manual_seed(4)) * 3).round()
    y = torch.cat([torch.arange(3), torch.arange(27) % 3])
    chances = np.round(logits.double().softmax(1).numpy(), 12)
    expected = np.mean([roc_auc_score(y == k, chances[:, k]) for k in range(3)])
    assert measures.auc(logits, y) == pytest.approx(expected, abs=1e-12)
    assert measures.auc(logits + 100, y) == measures.auc(logits, y)


def test_confident_networks_have_an_auc():
    assert measures.auc(torch.tensor([[0.0, 50], [0, 40], [0, -3]]), torch.tensor([1, 0, 0])) == 1
    assert measures.auc(torch.tensor([[0.0, 50], [0, 40], [0, -torch.inf]]), torch.tensor([1, 0, 0])) == 1
    three = torch.tensor([[60.0, 0, 0], [50, 0, 0], [0, 60, 0], [0, 0, 60]])
    assert measures.auc(three, torch.tensor([0, 1, 1, 2])) == 1


@pytest.mark.parametrize("score", [measures.accuracy, measures.f1, measures.auc])
def test_ignored_targets_do_not_count(score):
    more, y = torch.cat([LOGITS, 9 * LOGITS[:2]]), torch.cat([Y, torch.tensor([-100, -100])])
    assert score(more, y) == score(LOGITS, Y) and math.isnan(score(LOGITS, torch.full((4,), -100)))


@pytest.mark.parametrize(("score", "shape", "message"), [
    (measures.f1, (8, 3), r"f1 is of two classes, logits \(N, 2\), got \(8, 3\)"),
    (measures.f1, (2, 2, 4, 4), r"a row for each target, \(N, classes\) and \(N,\), got \(2, 2, 4, 4\)"),
    (measures.auc, (2, 2, 4, 4), r"a row for each target, \(N, classes\) and \(N,\), got \(2, 2, 4, 4\)"),
    (measures.auc, (8, 3), "no target is of class 2"),
])  # fmt: skip
def test_scores_of_classes_refuse_what_they_do_not_know(score, shape, message):
    y = (torch.rand(shape[:1] + shape[2:]) > 0.5).long()
    with pytest.raises(ValueError, match=message):
        score(torch.randn(shape), y)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_histogram_of_half_floats_has_all_weights(dtype):
    net = torch.nn.Linear(20, 20).to(dtype)
    assert sum(measures.histogram(net, within=0.1)["counts"]) == 400


def test_scores_of_regression():
    y, outputs = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [2.0], [5.0]])
    assert measures.rmse(outputs, y) == pytest.approx((4 / 3) ** 0.5)
    assert measures.r2(outputs, y) == pytest.approx(1 - 4 / 2)
    assert measures.r2(y, y) == 1
    with pytest.raises(ValueError, match=r"outputs \(3, 1\) and targets \(3,\) differ in shape"):
        measures.rmse(outputs, y.flatten())


# Two true objects of 4 and 6 pixels; predicted: 3 of the first (IoU 3/4), 3 of the second and 1 beside it (IoU 3/7),
# and one object in the background.
TRUE = np.array([[1, 1, 0, 0, 0], [1, 1, 0, 2, 2], [0, 0, 0, 2, 2], [0, 0, 0, 2, 2]])
PREDICTED = np.array([[7, 7, 0, 0, 0], [7, 0, 0, 4, 4], [0, 0, 4, 4, 0], [9, 0, 0, 0, 0]])


def test_scores_of_segmentation():
    assert measures.dice(PREDICTED, TRUE) == pytest.approx(2 * 6 / (8 + 10))
    # found: the first object up to IoU 0.70 (5 of 10 thresholds), as 3/4 > 0.75 is false; then TP 1, FP 2, FN 1
    assert measures.average_precision(PREDICTED, TRUE) == pytest.approx(5 / 10 * 1 / 4)
    assert measures.average_precision(PREDICTED, TRUE, thresholds=(0.5,)) == 1 / 4
    # three of six pixels are not more than half
    assert measures.seg(PREDICTED, TRUE) == pytest.approx((3 / 4 + 0) / 2)
    assert measures.seg(PREDICTED, np.where(TRUE == 2, 0, TRUE)) == 3 / 4


def test_segmentation_of_equal_other_and_empty_maps():
    empty = np.zeros_like(TRUE)
    relabelled = torch.tensor(np.where(TRUE == 1, 5, TRUE * 20))
    for score in (measures.dice, measures.average_precision, measures.seg):
        assert score(relabelled, TRUE) == 1
        assert score(empty, TRUE) == 0
    assert measures.average_precision(empty, empty) == measures.dice(empty, empty) == 1
    assert measures.average_precision(TRUE, empty) == 0
    assert np.isnan(measures.seg(TRUE, empty))
    with pytest.raises(ValueError, match=r"thresholds must be in \[0.5, 1\), got 0.3"):
        measures.average_precision(TRUE, TRUE, thresholds=(0.3,))


def test_scores_of_many_maps_are_means_over_images_or_objects():
    empty = np.zeros_like(TRUE)
    found = measures.instance_scores([PREDICTED, TRUE, empty], [TRUE, TRUE == 1, empty])
    assert found["ap50"] == pytest.approx((1 / 4 + 1 / 2 + 1) / 3)
    assert found["ap"] == pytest.approx(np.mean(found["ap_at"])) and len(found["ap_at"]) == 10
    assert found["dice"] == pytest.approx((2 * 6 / 18 + 2 * 4 / 14 + 1) / 3)
    assert found["seg"] == pytest.approx((3 / 4 + 0 + 1) / 3), "three objects in all"


def test_touching_objects_are_split_along_their_boundary():
    true = torch.zeros(2, 24, 24, dtype=torch.int16)
    true[0, 2:12, 2:12], true[0, 2:12, 12:22], true[0, 14:20, 4:10] = 1, 2, 3
    logits = 20 * F.one_hot(losses.regions(true), 3).permute(0, 3, 1, 2).float()
    maps = measures.split(logits)
    assert measures.instances(true[0] > 0).max() == 2, "as components two of the three are one"
    assert [m.max() for m in maps] == [3, 0] and measures.average_precision(maps[0], true[0]) == 1
    assert measures.foreground_dice(logits, true) == 1
    logits[0, 0, 2:12, 2:12] += 40  # the first square is taken for background
    assert measures.foreground_dice(logits, true) == pytest.approx((2 * 136 / (136 + 236) + 1) / 2)


def test_no_object_grows_from_a_speck():
    logits = torch.zeros(1, 3, 24, 24)
    logits[:, 0] = 10
    for corner, side in ((2, 2), (12, 4)):
        logits[0, 1, corner : corner + side, corner : corner + side] = 20
    (found,) = measures.split(logits)
    assert (found > 0).sum() == 16 and not found[2:4, 2:4].any()
    assert len(set(measures.split(logits, smallest=1)[0].flat)) == 3, "the background and both"


def test_instances_are_4_connected():
    assert measures.instances(torch.tensor([[1, 0], [0, 1]]) > 0).tolist() == [[1, 0], [0, 2]]
    assert measures.seg(measures.instances(TRUE > 0), TRUE) == 1


def pruned(name="mlp", **options):
    torch.manual_seed(0)
    net = models.build(name, **options)
    with torch.no_grad():
        for w in models.weights(net).values():
            w *= w.abs() > w.abs().median()
            w[0] = 0
    return net


def test_counts_against_a_loop():
    net = pruned(widths=[20, 10], inputs=30)
    left = sum(v != 0 for w in models.weights(net).values() for v in w.flatten().tolist())
    total = 30 * 20 + 20 * 10 + 10 * 10
    assert measures.nonzero(net) == left
    assert measures.sparsity(net) == pytest.approx(1 - left / total)
    assert measures.compression(net) == pytest.approx(total / left)
    assert measures.parameters(net) == total + 20 + 10 + 10
    for w in models.weights(net).values():
        torch.nn.init.zeros_(w)
    assert measures.compression(net) == float("inf")


def test_sparsity_agrees_with_torch_prune():
    net = pruned(widths=[20, 10], inputs=30)
    layers = [(net.fc1, "weight"), (net.fc2, "weight"), (net.fc3, "weight")]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=0.9)
    for layer, name in layers:
        prune.remove(layer, name)
    assert measures.sparsity(net) == pytest.approx(0.9, abs=1e-3)


def test_flops_are_those_of_the_formulas():
    assert measures.flops(models.build("mlp"), (784,)) == 2 * 266_200
    conv = 24 * 24 * 20 * 25 + 8 * 8 * 50 * 20 * 25
    assert measures.flops(models.build("lenet5"), (1, 28, 28)) == 2 * (conv + 800 * 500 + 500 * 10)
    with torch.device("meta"):  # 13 convolutions on maps of 32² to 2², 9 multiply-adds a weight and position
        vgg16 = models.build("vgg16", widths=[2] * 13)
    sides = [32] * 2 + [16] * 2 + [8] * 3 + [4] * 3 + [2] * 3
    assert measures.flops(vgg16, (3, 32, 32)) == 2 * (sum(36 * s * s for s in sides) + 18 * 32 * 32 + 20)


class Token(torch.nn.Module):
    """A parameter goes into a layer, as class tokens and learned queries do."""

    def __init__(self):
        super().__init__()
        self.token, self.a = torch.nn.Parameter(torch.rand(1, 1, 8)), torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.a(x) + self.a(self.token.expand(len(x), -1, -1))


def test_flops_of_a_layer_that_reads_a_parameter():
    assert measures.flops(Token(), (5, 8)) == 2 * 8 * 4 * (5 + 1)


def test_parameters_and_flops_are_torchvisions():
    with torch.device("meta"):
        ours, theirs = models.build("resnet50", stem="imagenet", outputs=1000), torchvision.models.resnet50()
    assert measures.parameters(ours) == measures.parameters(theirs)
    assert measures.flops(ours, (3, 224, 224)) == measures.flops(theirs, (3, 224, 224))


def test_latency_tells_a_large_network_from_a_small_one():
    threads = torch.get_num_threads()
    nets = {"large": models.build("mlp", widths=[2000, 2000]), "small": models.build("mlp", widths=[2, 2])}
    times = measures.latency(nets, torch.rand(64, 784), repeats=5)
    assert torch.get_num_threads() == threads
    assert all(net.training for net in nets.values())
    for t in times.values():
        assert 0 < t["q1"] <= t["median"] <= t["q3"]
    assert times["large"]["q1"] > times["small"]["q3"]


def test_the_table_of_dense_masked_and_shrunk():
    pytest.importorskip("safetensors")
    masked = pruned(widths=[20, 10], inputs=30)
    nets = {
        "dense": models.build("mlp", widths=[20, 10], inputs=30),
        "masked": masked,
        "shrunk": shrinking.shrink(masked),
    }
    table = measures.compare(nets, (30,), batches=(1,), repeats=2)
    assert list(table.index) == ["dense", "masked", "shrunk"]
    assert table.loc["masked", "flops"] == table.loc["dense", "flops"] > table.loc["shrunk", "flops"]
    assert table.loc["masked", "alive"] == table.loc["shrunk", "alive"] == 19 + 9
    assert table.loc["dense", "alive"] == 30
    assert (table["ms, batch 1"] > 0).all()
    assert table["bytes"].is_monotonic_decreasing
    assert table["bytes"].min() > 4 * table["parameters"].min()
    records = json.loads(measures.compare(nets, (30,)).to_json(orient="index"))
    assert records["dense"]["parameters"] == 30 * 20 + 20 * 10 + 10 * 10 + 40
    assert measures.alive(torch.nn.Linear(2, 2)) is None


def test_scores_of_logits_that_are_no_numbers_are_none():
    logits, y = torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), torch.tensor([1, 0])
    assert all(math.isnan(score(logits, y)) for score in (measures.accuracy, measures.f1, measures.auc))
    assert measures.accuracy(torch.tensor([[-math.inf, 0.0]]), torch.tensor([1])) == 1


def test_a_bin_counts_beyond_what_float32_counts_and_a_class_of_uint8_may_be_156():
    net = torch.nn.Linear(4096, 4200, bias=False)
    torch.nn.init.zeros_(net.weight)
    assert max(measures.histogram(net)["counts"]) == 4096 * 4200 > 2**24
    y = torch.tensor([156, 3], dtype=torch.uint8)  # −100 as a uint8 is 156
    assert measures.accuracy(torch.nn.functional.one_hot(torch.tensor([0, 3]), 200).float(), y) == 0.5


def test_logits_of_any_floating_type_are_split():
    logits = torch.full((1, 3, 8, 8), -4.0)
    logits[:, 0], logits[:, 1, 2:6, 2:6] = 0, 8
    expected = measures.split(logits)[0]
    for given in (logits.bfloat16(), logits.half(), logits.double(), logits.clone().requires_grad_()):
        assert np.array_equal(measures.split(given)[0], expected)

"""A few of torchvision's networks from the table of notebook 30: smaller, and the same."""

import pytest
from torch import nn

from companion import zoo


@pytest.mark.parametrize(
    ("name", "share"),
    [("mobilenet_v3_small", 0.27), ("regnet_x_400mf", 0.71), ("shufflenet_v2_x0_5", 0.6), ("vit", 0.8)],
)
def test_smaller_and_the_same(name, share):
    found = zoo.row(name, "filters")
    assert found["here difference"] < 1e-5
    assert found["here after"] < share * found["before"]


def test_cutting_leaves_half_of_the_filters():
    net, _ = zoo.build("mnasnet0_5")
    zoo.cut(net, "filters")
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert all(int((~layer.weight.flatten(1).any(1)).sum()) == layer.out_channels // 2 for layer in layers)


def test_torch_pruning_leaves_the_same_of_a_plain_network():
    for kind in ("filters", "columns"):
        found = zoo.row("squeezenet1_1", kind)
        assert found["peer difference"] < 1e-6
        assert found["here after"] <= found["peer after"] < 0.5 * found["before"]

"""A few of torchvision's networks from the table of `python -m lib.depgraph`: smaller, and the same."""

import pytest
from torch import nn

from lib.depgraph import __main__ as table


@pytest.mark.filterwarnings("ignore:.*dead units stay:UserWarning")
@pytest.mark.parametrize(
    ("name", "share"),
    [("mobilenet_v3_small", 0.27), ("regnet_x_400mf", 0.71), ("shufflenet_v2_x0_5", 0.6), ("vit", 0.8)],
)
def test_smaller_and_the_same(name, share):
    found = table.row(name, "filters")
    assert found["difference"] < 1e-5
    assert found["after"] < share * found["before"]


def test_cutting_leaves_half_of_the_filters():
    net, _ = table.build("mnasnet0_5")
    table.cut(net, "filters")
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert all(int((~layer.weight.flatten(1).any(1)).sum()) == layer.out_channels // 2 for layer in layers)

"""Torchvision's networks, cut and shrunk by `lib.depgraph` and, at the same zeros, by Torch-Pruning."""

import copy
import time

import torch
import torchvision
from torch import nn

from lib import depgraph, measures
from lib.depgraph.passes import tensors_in

SMALL_VIT = dict(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128)
NAMES = [
    "squeezenet1_1",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "densenet121",
    "googlenet",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "convnext_tiny",
    "vit",
    "deeplabv3",
    "lraspp",
]
SIZES = {"inception_v3": 96, "vit": 32}
SEVERAL = {
    "deeplabv3": "segmentation.deeplabv3_mobilenet_v3_large",
    "lraspp": "segmentation.lraspp_mobilenet_v3_large",
    "fasterrcnn": "detection.fasterrcnn_mobilenet_v3_large_320_fpn",
}
SUMMED = (nn.Conv2d, nn.Linear)


def build(name):
    """A network of torchvision without trained weights, its statistics and shifts random, and four inputs."""
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if name == "vit":
        net = torchvision.models.VisionTransformer(**SMALL_VIT, num_classes=10)
        nn.init.normal_(net.heads.head.weight, std=0.1)  # torchvision starts it at zero
    elif name in SEVERAL:
        make = getattr(getattr(torchvision.models, SEVERAL[name].split(".")[0]), SEVERAL[name].split(".")[1])
        net = make(weights=None, weights_backbone=None, num_classes=5)
    else:
        net = getattr(torchvision.models, name)(weights=None, num_classes=10, **options)
    x = torch.randn(4, 3, SIZES.get(name, 64), SIZES.get(name, 64))
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.normal_(std=0.2)
                layer.weight.uniform_(0.5, 1.5)
                layer.momentum = None
        if name != "fasterrcnn":
            net.train()(x)
    return net.eval(), x


@torch.no_grad()
def cut(net, kind):
    """Zero the smaller half of each layer's inputs ("columns"), or of its filters with their norms ("filters")."""
    layers = [layer for layer in net.modules() if isinstance(layer, (*SUMMED, nn.BatchNorm2d))]
    summed = [layer for layer in layers if isinstance(layer, SUMMED)]
    for layer in summed[1:] if kind == "columns" else summed[:-1]:
        rows = layer.weight.transpose(0, 1) if kind == "columns" else layer.weight
        dead = rows.flatten(1).norm(dim=1).argsort()[: len(rows) // 2]
        rows[dead] = 0
        behind = layers[layers.index(layer) + 1 : layers.index(layer) + 2]
        behind = [norm for norm in behind if isinstance(norm, nn.BatchNorm2d) and norm.num_features == len(rows)]
        for tensor in [t for m in (layer, *behind) for t in (m.weight, m.bias) if kind == "filters" and t is not None]:
            tensor[dead] = 0


def row(name, kind):
    """Parameters before and after, here and by Torch-Pruning; the largest difference of outputs; seconds."""
    net, x = build(name)
    cut(net, kind)
    found = {"network": name, "cut": kind, "before": measures.parameters(net)}
    for who, shrink in {"here": _here, "peer": peer}.items():
        start = time.perf_counter()
        try:
            small = shrink(net, x[:1])
            found |= {f"{who} after": measures.parameters(small), f"{who} difference": _difference(net, small, x[:1])}
        except Exception as failure:
            said = next(iter(str(failure).splitlines()), "")
            found |= {f"{who} failure": f"{type(failure).__name__}: {said}"}
        found[f"{who} s"] = time.perf_counter() - start
    return found


def _here(net, x):
    return depgraph.shrunk(net, x, keep_one=True, seconds=30)[0]


@torch.no_grad()
def _difference(net, other, x):
    """The largest difference of two networks' outputs, over the largest output."""
    pairs = list(zip(tensors_in(net(x)), tensors_in(other(x)), strict=True))
    size = max((float(a.abs().max()) for a, _ in pairs if a.numel()), default=1.0)
    return max((float((a - b).abs().max()) for a, b in pairs if a.numel()), default=0.0) / (size or 1.0)


def peer(net, x):
    """Torch-Pruning's network without the channels of a group that nothing makes or nothing reads."""
    import torch_pruning as tp

    other = copy.deepcopy(net).requires_grad_(True)
    graph = tp.DependencyGraph().build_dependency(other, x, verbose=False)
    chosen = [
        (group[0].dep.target.module, group[0].dep.handler, _dead(graph, group))
        for group in graph.get_all_groups(root_module_types=list(SUMMED))
    ]
    for layer, handler, dead in chosen:
        if 0 < len(dead) < len(layer.weight):
            graph.get_pruning_group(layer, handler, dead).prune()
    return other.eval()


def _dead(graph, group):
    """Channels of a group that are zero in all that makes or normalises them, or in all that reads them."""
    made, read, reader = (torch.zeros(len(group[0].idxs), dtype=torch.bool) for _ in range(3))
    for item in group:
        layer, root = item.dep.target.module, torch.tensor(item.root_idxs)
        if not isinstance(layer, (*SUMMED, nn.BatchNorm2d)) or 1 < getattr(layer, "groups", 1) == layer.out_channels:
            continue
        if graph.is_out_channel_pruning_fn(item.dep.handler):
            rows = layer.weight.flatten(1).any(1) if layer.weight.dim() > 1 else layer.weight != 0
            rows = rows if layer.bias is None else rows | (layer.bias != 0)
            made[root] |= rows[torch.tensor(item.idxs)]
        else:
            columns = layer.weight.transpose(0, 1).flatten(1).any(1)
            whole = getattr(layer, "groups", 1) == 1
            read[root] |= columns[torch.tensor(item.idxs)] if whole else torch.tensor(True)
            reader[root] = True
    return (~made | reader & ~read).nonzero().flatten().tolist()

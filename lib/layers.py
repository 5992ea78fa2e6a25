"""What torch's layers say of their widths beside their tensors, and which widths their tensors may have."""

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SUMMED = (nn.Linear, *CONVOLUTIONS)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def tell_widths(layer):
    """Set what a layer of torch says of its widths to what its tensors are."""
    weight = layer._parameters.get("weight")
    if isinstance(layer, NORMS):
        known = [t for t in (layer.running_mean, layer.weight) if t is not None]
        layer.num_features = len(known[0]) if known else layer.num_features
    elif isinstance(layer, nn.RNNBase):
        layer.hidden_size, layer.input_size = layer.weight_hh_l0.shape[1], layer.weight_ih_l0.shape[1]
        if layer.proj_size:
            layer.proj_size, layer.hidden_size = layer.weight_hr_l0.shape
    elif isinstance(layer, nn.RNNCellBase):
        layer.hidden_size, layer.input_size = layer.weight_hh.shape[1], layer.weight_ih.shape[1]
    elif weight is None:
        return  # it has none, or one that is made of others before each call, and of their widths
    elif isinstance(layer, nn.Linear) and weight.dim() == 2:  # else it is a kind of its own, as several layers in one
        layer.out_features, layer.in_features = weight.shape
    elif isinstance(layer, CONVOLUTIONS):
        if 1 < layer.groups == layer.out_channels:  # depthwise
            layer.groups = len(weight)
        layer.out_channels, layer.in_channels = len(weight), weight.shape[1] * layer.groups
    elif isinstance(layer, TRANSPOSED):
        layer.in_channels, layer.out_channels = len(weight), weight.shape[1] * layer.groups
    elif isinstance(layer, nn.GroupNorm):
        layer.num_groups = len(weight) if layer.num_groups == layer.num_channels else layer.num_groups
        layer.num_channels = len(weight)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(weight)
    elif isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        layer.num_embeddings, layer.embedding_dim = weight.shape


def grouped(layer):
    """Whether a convolution has groups whose number its weight does not tell, or has lost some of them."""
    if not isinstance(layer, CONVOLUTIONS + TRANSPOSED):
        return getattr(layer, "regrouped", False)  # one of a reader's
    several = 1 < layer.groups < max(layer.in_channels, layer.out_channels)
    return several or getattr(layer, "regrouped", False)


def resizable(layer, found, wanted):
    """Whether a layer takes a tensor of another width: a kernel keeps its size, a layer norm all of it."""
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm) or len(found) != len(wanted):
        return False
    return found[2:] == wanted[2:] or not isinstance(layer, CONVOLUTIONS + TRANSPOSED)

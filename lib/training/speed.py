"""What makes a step fast; the gains that are told were measured once, on two cores with AVX512-BF16.

`make bench` measures the compiled penalties, bf16 in P1's perceptron and the whole loop anew.
"""

import contextlib
import itertools
import math
import os
import shutil
import types

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..checks import one_of
from ..models import copied

PRECISIONS = ("auto", "fp32", "bf16")
NOT_LEAN = ("amsgrad", "decoupled_weight_decay")  # options of Adam that `lean` does not know
COMPILE_PAYS = 50_000  # steps from which what is compiled has made up for its compilation
WIDE, SMALL = 256 * 256, 4 * 4  # channels in × out from which, and outputs of each up to which, oneDNN is slow


def bf16_pays(device):
    """Whether a GPU, or a CPU by AVX512-BF16 or AMX, multiplies bf16 matrices in hardware.

    Then a step of VGG-16 takes half of the time; in a small perceptron bf16 may cost some.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)() if kind == "cpu" else {}
    return any(capabilities.get(k, False) for k in ("avx512_bf16", "amx_bf16"))


def autocast(precision, device):
    """The context of the forward pass: bf16 autocast, or none, also within a caller's."""
    one_of("precision", precision, PRECISIONS)
    kind, bf16 = torch.device(device).type, precision == "bf16" or (precision == "auto" and bf16_pays(device))
    if bf16 or torch.is_autocast_enabled(kind):  # a caller's
        return torch.autocast(kind, torch.bfloat16, enabled=bf16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def flushed():
    """Within it, what is nearer to 0 than 1.2e-38, a denormal, counts as 0 on this thread.

    Decay leaves such weights behind, and what they multiply becomes such, too: CPUs take ten times as long for it.
    """
    before = not torch.tensor(1e-39, dtype=torch.float32).mul(1.0).item()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _patches(x, size, stride, padding):
    """What each output of a convolution sees: (B, C, H, W), (h, w) -> (B·H′·W′, h·w·C)."""
    (h, w), (down, right), (above, beside) = size, stride, padding
    x = functional.pad(x.permute(0, 2, 3, 1), (0, 0, beside, beside, above, above))
    return x.unfold(1, h, down).unfold(2, w, right).permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)


def _places(x, weight, stride, padding):
    """Height and width of a convolution's output."""
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True)
    return [(n + 2 * p - k) // step + 1 for n, k, step, p in sizes]


class Products(torch.autograd.Function):
    """A convolution as products of matrices: x (B, I, H, W), weight (O, I, h, w) -> (B, O, H′, W′)."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        out = _patches(x, weight.shape[2:], stride, padding) @ weight.permute(0, 2, 3, 1).flatten(1).t()
        return out.view(len(x), *_places(x, weight, stride, padding), -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, grad):
        (x, weight), of_x, of_weight = ctx.saved_tensors, None, None
        size, rows = weight.shape[2:], grad.permute(0, 2, 3, 1)
        if ctx.needs_input_grad[0]:  # the convolution of the gradient, 0 between the strides, with the taps reversed
            spread = rows.new_zeros(len(x), *_places(x, weight, (1, 1), ctx.padding), len(weight))
            spread[:, :: ctx.stride[0], :: ctx.stride[1]] = rows
            around = [k - 1 - p for k, p in zip(size, ctx.padding, strict=True)]
            taps = weight.permute(2, 3, 0, 1).flatten(0, 1).flip(0).flatten(0, 1)
            of_x = _patches(spread.permute(0, 3, 1, 2), size, (1, 1), around) @ taps
            of_x = of_x.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            of_weight = rows.flatten(0, 2).t().contiguous() @ _patches(x, size, ctx.stride, ctx.padding)
            of_weight = of_weight.view(len(weight), *size, -1).permute(0, 3, 1, 2)
        return of_x, of_weight, None, None


class Convolutions(TorchFunctionMode):
    """Within it, two kinds of convolutions in bf16 take another way, to the same outputs but for rounding.

    oneDNN takes five times as long as it needs for the gradients of wide ones to small images: they are `Products`. A
    step of VGG-16 takes half of the time by it. It takes up to ten times as long for those of depthwise ones with a
    stride: they are computed without it and thinned out. A step of MobileNetV2 takes three quarters of the time by it.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.conv2d and (given := _in_bf16(*args, **(kwargs or {}))):
            x, weight, bias, stride, padding, dilation, groups = given
            if groups == 1 and _wide_and_small(*given):
                out = Products.apply(x.bfloat16(), weight.bfloat16(), stride, padding)
                out = out if bias is None else out + bias.bfloat16().view(-1, 1, 1)
                return out.contiguous() if x.is_contiguous() else out
            if groups == len(weight) == x.shape[1] and max(stride) > 1:
                down, right = stride
                out = function(x, weight, bias, 1, padding, dilation, groups)[:, :, ::down, ::right]
                return out.contiguous() if x.is_contiguous() else out
        return function(*args, **(kwargs or {}))


def _in_bf16(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Arguments, those of torch, of a convolution of images that bf16 autocast computes here; of any other nothing."""
    if not (torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16):
        return None
    stride, padding, dilation = (
        tuple(v) * (2 // len(v)) if isinstance(v, tuple | list) else (v, v) for v in (stride, padding, dilation)
    )
    cast = {input.dtype, weight.dtype} <= {torch.float32, torch.bfloat16}  # autocast leaves float64 as it is
    plain = input.ndim == 4 and len(input) and input.device.type == "cpu" and not isinstance(padding[0], str)
    fits = input.ndim == 4 and input.shape[1] == weight.shape[1] * groups
    return (input, weight, bias, stride, padding, dilation, groups) if cast and plain and fits else None


def _wide_and_small(x, weight, _, stride, padding, dilation, groups):
    inside = all(0 <= p < k for p, k in zip(padding, weight.shape[2:], strict=True))
    wide = weight.shape[0] * weight.shape[1] >= WIDE
    return dilation == (1, 1) and inside and wide and 0 < math.prod(_places(x, weight, stride, padding)) <= SMALL


def convolutions(model):
    """The context of a network's forward pass in training; it costs nothing where no convolution gains by it."""
    kinds = (w for w in model.parameters() if w.ndim == 4 and (w.shape[0] * w.shape[1] >= WIDE or w.shape[1] == 1))
    return Convolutions() if any(True for _ in kinds) else contextlib.nullcontext()


def channels_last(model):
    """Lay the weights of convolutions of images out with the channels last, but those that are made of others.

    torch's own function reads each weight, which moves the one that a spectral norm makes.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer._parameters.get("weight") is not None:
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return model


def runs_channels_last(model, x):
    """Whether a network trains on these images with the channels last: at a `view` of theirs torch raises."""
    try:
        trial = channels_last(copied(model)).train()
        with torch.no_grad(), torch.random.fork_rng():
            trial(x.contiguous(memory_format=torch.channels_last))
    except Exception:  # of any kind: the trial is of a network from outside, which need not have copies
        return False
    return True


def update_of(optimizer):
    """What takes an optimizer's step."""
    kind, group = type(optimizer), optimizer.param_groups[0]
    if kind is torch.optim.SGD and group["momentum"] and group["fused"]:
        return even(optimizer)
    plain = kind is torch.optim.Adam and group["fused"] and not any(group[name] for name in NOT_LEAN)
    return lean(optimizer) if plain else optimizer.step


def even(optimizer):
    """optimizer.step of torch's fused SGD with momentum, also where some layers have their first gradient and some not.

    The fused step takes only parameters that all have a momentum already, or that all have none.
    """
    params = optimizer.param_groups[0]["params"]

    def update():
        mixed, begun = False, optimizer.state
        if len(begun) < len(params):
            mixed = len({p in begun for p in params if p.grad is not None}) > 1
        optimizer.param_groups[0]["fused"] = not mixed
        optimizer.step()

    return update


def lean(optimizer):
    """optimizer.step of torch's fused Adam, less the bookkeeping that costs a small network a tenth of its step."""
    params, moments = optimizer.param_groups[0]["params"], []

    @torch.no_grad()
    def update():
        grads = [p.grad for p in params]
        if len(optimizer.state) < len(params) or any(g is None for g in grads):
            return optimizer.step()
        if not moments or moments[2][0] is not optimizer.state[params[0]]["step"]:  # also after load_state_dict
            moments[:] = [[optimizer.state[p][k] for p in params] for k in ("exp_avg", "exp_avg_sq", "step")]
        group, (averages, squares, steps) = optimizer.param_groups[0], moments
        torch._foreach_add_(steps, 1)
        (beta1, beta2), decay = group["betas"], group["weight_decay"]
        rest = {"lr": group["lr"], "eps": group["eps"], "weight_decay": decay, "amsgrad": False, "maximize": False}
        torch._fused_adam_(params, grads, averages, squares, [], steps, beta1=beta1, beta2=beta2, **rest)

    return update


def compile_pays(steps, device):
    """Whether a training on a CPU has the steps from which compiling its penalty into one pass is worth a try.

    Penalties of several passes (ℓ0, sparse group lasso) take down to half of their time; ℓ2, of one, takes longer.
    """
    return steps >= COMPILE_PAYS and device.type == "cpu"


_COUNT = itertools.count()


def compiled(function):
    """The function compiled, or itself where there is no compiler or compilation fails."""
    if not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
        return function
    # a code object of its own for each: torch keeps only few compilations of one
    own = function.__code__.replace(co_name=f"compiled_{next(_COUNT)}")
    chosen = [torch.compile(types.FunctionType(own, function.__globals__, closure=function.__closure__))]

    def call(*arguments):
        try:
            return chosen[0](*arguments)
        except Exception as error:
            if chosen[0] is function:
                raise
            print(f"torch.compile failed ({type(error).__name__}); {function.__name__} runs uncompiled")
            chosen[0] = function
            return function(*arguments)

    return call


def keep_freed_memory():
    """Make glibc keep freed blocks of up to 32 MiB: handing them back and faulting them in again can halve the speed.

    Its threshold follows the largest mapped block that was freed.
    """
    torch.empty(8 * 2**20 - 2**12)

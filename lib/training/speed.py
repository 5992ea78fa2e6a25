"""What makes a step fast, each with what it gains on two cores with AVX512-BF16 (`make bench` measures it anew)."""

import contextlib
import itertools
import os
import shutil
import types

import torch

from ..checks import one_of

PRECISIONS = ("auto", "fp32", "bf16")
NOT_LEAN = ("amsgrad", "decoupled_weight_decay")  # options of Adam that `lean` does not know
COMPILE_PAYS = 50_000  # steps from which what is compiled has made up for its compilation


def bf16_pays(device):
    """Whether this device multiplies bf16 matrices in hardware: then a step of VGG-16 takes half of the time."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)() if kind == "cpu" else {}
    return any(capabilities.get(k, False) for k in ("avx512_bf16", "amx_bf16"))


def autocast(precision, device):
    """The context of the forward pass: bf16 autocast, or nothing."""
    one_of("precision", precision, PRECISIONS)
    if precision == "fp32" or (precision == "auto" and not bf16_pays(device)):
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def lean(optimizer):
    """optimizer.step of torch's fused Adam, less the bookkeeping that costs a small network a tenth of its step."""
    params, moments = optimizer.param_groups[0]["params"], []

    @torch.no_grad()
    def update():
        grads = [p.grad for p in params]
        if not optimizer.state or any(g is None for g in grads):
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
    """Whether a training of so many steps makes up for a compilation, which fuses a penalty into one pass: up to 2×."""
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

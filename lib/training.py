"""The one training loop: data sets are tensors, batches are index selections, penalties are added to the gradients."""

import contextlib
import io
import itertools
import math
import os
import shutil
import time
import types
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from lib import losses, models, regularizers

# --- the plain dicts that a configuration names --------------------------------------------------------------------

LOSSES = {
    "cross_entropy": F.cross_entropy,
    # label smoothing of 0.1 (arXiv 1512.00567): a tenth of the target is spread over all classes
    "smoothed": lambda logits, y: F.cross_entropy(logits, y, label_smoothing=0.1),
    # the authors' P1 demo feeds softmax outputs to a softmax cross-entropy (arXiv 2009.01395, authors' code)
    "double_softmax": lambda logits, y: F.cross_entropy(logits.softmax(1), y),
    "mse": F.mse_loss,
    "boundary": losses.boundary,
    "boundary_dice": losses.boundary_dice,
}
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
SCHEDULES = {  # share of training done, in [0, 1) -> factor on the learning rate
    "constant": lambda t: 1.0,
    "linear": lambda t: 1.0 - t,
    "late_linear": lambda t: min(1.0, 2 * (1.0 - t)),
    "warm_up": lambda t: min(1.0, 0.05 + t / WARM_UP),  # then constant: what comes after it may fall to 0
    "one_cycle": lambda t: one_cycle(t),  # up and down again (arXiv 1708.07120)
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "steps": lambda t: 0.1 ** ((t >= 0.5) + (t >= 0.75)),
    "plateau": lambda t: 1.0,  # `fit` puts `plateau` in its place
}
WARM_UP = 0.1  # of a training: the learning rate rises for so long
RISE = 0.3  # of one cycle
PLATEAU = 0.08  # of a training: 8 of the 100 epochs of Experiment 5 (arXiv 2109.05075, authors' code)
ORDERS = ("shuffle", "sequence")
PRECISIONS = ("auto", "fp32", "bf16")


def one_cycle(t):
    """The factor on the learning rate at the share t: a cosine from 0.04 up to 1, and one from there down to 0."""
    if t < RISE:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * t / RISE))
    return 0.5 * (1 + math.cos(math.pi * (t - RISE) / (1 - RISE)))


def flip_crop(x, generator):
    """Mirrored with probability ½ and shifted by up to 4 pixels, zero-padded; (N, C, H, W) -> (N, C, H, W)."""
    n, _, height, width = x.shape
    rows, columns = (torch.randint(0, 9, (n, 1), generator=generator, device=x.device) for _ in range(2))
    flip = torch.rand((n, 1), generator=generator, device=x.device) < 0.5
    across = torch.arange(width, device=x.device).expand(n, width)
    across = torch.where(flip, width - 1 - across, across) + columns
    return _picked(F.pad(x, (4, 4, 4, 4)), torch.arange(height, device=x.device) + rows, across)


def _picked(x, rows, columns):
    """Of each image its own rows and columns; (N, C, H, W), (N, h), (N, w) -> (N, C, h, w)."""
    images = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def dihedral(x, generator):
    """Each image mirrored, turned by quarters or both, one of eight ways by chance; (N, C, H, H) -> (N, C, H, H)."""
    upside, sideways, turned = torch.rand((3, len(x), 1, 1, 1), generator=generator, device=x.device) < 0.5
    x = torch.where(upside, x.flip(2), x)
    x = torch.where(sideways, x.flip(3), x)
    return torch.where(turned, x.transpose(2, 3), x)


def dihedral_window(x, generator):
    """`dihedral` of a window of half the side, anywhere in the image: a quarter of the work; (N, C, H, H)."""
    side = x.shape[-1] // 2
    starts = torch.randint(0, side + 1, (2, len(x), 1), generator=generator, device=x.device)
    rows, columns = starts + torch.arange(side, device=x.device)
    return dihedral(_picked(x, rows, columns), generator)


def affine(x, generator):
    """Mirrored with probability ½, turned by up to 10°, zoomed, shifted and sheared by up to 0.1; the edges go on.

    Experiment 5 of arXiv 2109.05075 (authors' code); (N, C, H, H) -> (N, C, H, H).
    """
    draws = 2 * torch.rand((7, len(x)), generator=generator, device=x.device) - 1
    turn, shear, (right, down) = math.radians(10) * draws[0], 0.1 * draws[1], 0.2 * draws[2:4]  # the side is 2 long
    (wide, high), cos, sin = 1 + 0.1 * draws[4:6], turn.cos(), turn.sin()
    wide = torch.where(draws[6] < 0, -wide, wide)
    rows = [wide * cos, high * (shear * cos - sin), right, wide * sin, high * (shear * sin + cos), down]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), x.shape, align_corners=False)
    mode = "bilinear" if x.is_floating_point() else "nearest"  # maps hold ids, which have no values in between
    return F.grid_sample(x.float(), grid, mode, "border", align_corners=False).to(x.dtype)


COMPILE_PAYS = 50_000  # steps from which what is compiled has made up for its compilation
CHECKPOINT_SECONDS = 60.0  # at most this much training is lost when a run is killed

AUGMENTATIONS = {
    "none": None,
    "flip_crop": flip_crop,
    "dihedral": dihedral,
    "dihedral_window": dihedral_window,
    "affine": affine,
}


def named(table, name, what):
    """The entry of a plain dict, or an error that lists the known ones."""
    if callable(name):
        return name
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(table)}")
    return table[name]


# --- where and how precisely ---------------------------------------------------------------------------------------


def bf16_pays(device):
    """Whether this device multiplies bf16 matrices in hardware."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(k, False) for k in ("avx512_bf16", "amx_bf16"))


def autocast(precision, device):
    """The context of the forward pass: bf16 autocast, or nothing."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if precision == "fp32" or (precision == "auto" and not bf16_pays(device)):
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


@torch.no_grad()
def predict(model, x, *, batch=1000, precision="auto"):
    """Outputs in eval mode as float32, the model's mode restored; (N, …) -> (N, …)."""
    was_training = model.training
    model.eval()
    with autocast(precision, x.device):
        outputs = torch.cat([model(part).float() for part in x.split(batch)])
    model.train(was_training)
    return outputs


def progress(items, **options):
    """A tqdm bar, silent where COMPANION_PROGRESS=0."""
    return tqdm(items, disable=os.environ.get("COMPANION_PROGRESS") == "0", leave=False, **options)


# --- one step ------------------------------------------------------------------------------------------------------


def batches(n, *, batch, order="shuffle", seed=0, device="cpu"):
    """A function step -> selection of `batch` indices out of n, the same for the same seed whatever came before.

    "sequence" takes them in order and wraps around; "shuffle" takes a new order every epoch, without the incomplete
    last batch. Returns (function, steps per epoch).
    """
    if order not in ORDERS:
        raise ValueError(f"unknown order {order!r}; known: {', '.join(ORDERS)}")
    batch = min(batch, n)
    per_epoch = n // batch
    permutation = {}

    def in_order(step):
        start = step * batch % n
        if start + batch <= n:
            return slice(start, start + batch)
        return torch.arange(start, start + batch, device=device) % n

    def shuffled(step):
        epoch, start = step // per_epoch, step % per_epoch * batch
        if epoch not in permutation:
            permutation.clear()
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            permutation[epoch] = torch.randperm(n, generator=generator).to(device)
        return permutation[epoch][start : start + batch]

    return (in_order if order == "sequence" else shuffled), per_epoch


def stepper(
    model,
    part,
    *,
    loss="cross_entropy",
    penalty=None,
    after_step=(),
    optimizer=None,
    steps=1000,
    batch=128,
    order="shuffle",
    seed=0,
    precision="auto",
    schedule="constant",
    augment="none",
    autograd_penalty=False,
    compile="auto",
    extra_loss=None,
):
    """The function step -> loss (a tensor, penalty not included) that trains the model once, and what it is made of.

    `part` holds x and y on the model's device. `autograd_penalty` has autograd find the penalty's gradient, as in
    the papers' code, in place of the closed form: same numbers, for timing. `compile` fuses the closed form into one
    pass over the weights: True, False, or "auto", for trainings long enough to pay for it, where there is a compiler.
    `extra_loss(t)` is added to the loss when the share t of the training is done (`lib.baselines`).
    Returns (step, optimizer, steps per epoch).
    """
    loss_of, augmentation = named(LOSSES, loss, "loss"), named(AUGMENTATIONS, augment, "augmentation")
    factor, options = named(SCHEDULES, schedule, "schedule"), {"name": "adam", **(optimizer or {})}
    maker, rate = named(OPTIMIZERS, options.pop("name"), "optimizer"), options.setdefault("lr", 1e-3)
    x, y = part.x, part.y
    if x.ndim == 4:  # convolutions are faster with the channels last, on CPUs as on GPUs
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    with autocast(precision, x.device):  # inputs are cast once for all, not in every step
        x = x.to(torch.get_autocast_dtype(x.device.type)) if torch.is_autocast_enabled(x.device.type) else x
    optimizer = maker(model.parameters(), fused=True, **options)
    update = lean(optimizer) if maker is torch.optim.Adam else optimizer.step
    ws, parameters = list(models.weights(model).values()), list(model.parameters())
    pays = compile is True or (compile == "auto" and compile_pays(steps, x.device))
    _, add_gradient_, prox_ = regularizers.bind(
        penalty,
        ws,
        norms=models.norms(model),
        views=models.unit_views(model),
        transform=compiled if pays and penalty else None,
        autograd=autograd_penalty,
    )
    select, per_epoch = batches(len(x), batch=batch, order=order, seed=seed, device=x.device)
    # momentum takes a lasting gradient 1/(1 − μ) times as far: so must the proximal step, or λ would count for less
    reach = 1 / (1 - options.get("momentum", 0))
    generator = torch.Generator(x.device)
    keep_freed_memory()
    model.zero_grad()  # what another loop left behind would move even frozen layers

    def step(k):
        now = select(k)
        inputs, targets = x[now], y[now]
        if augmentation:
            inputs = augmentation(inputs, generator.manual_seed(seed * 1_000_003 + k))
            if targets.ndim == 3:  # maps go the same way, by the same random numbers
                targets = augmentation(targets[:, None], generator.manual_seed(seed * 1_000_003 + k))[:, 0]
        with autocast(precision, x.device):
            outputs = model(inputs)
        objective = loss_of(outputs.float(), targets)
        (objective + extra_loss(k / steps) if extra_loss else objective).backward()
        if penalty:
            add_gradient_()
        lr = rate * factor(k / steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        update()
        prox_(lr * reach)
        for hook in after_step:
            hook(model, k)
        for p in parameters:  # last: a layer without a gradient is left alone by those above
            p.grad = None
        return objective.detach()

    return step, optimizer, per_epoch


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
    """Whether a training of so many steps makes up for a compilation."""
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


# --- the loop ------------------------------------------------------------------------------------------------------


@dataclass
class History:
    """What a training was: its status ("done", "diverged" or, cut by `until`, "stopped"), curves and seconds."""

    status: str = "done"
    message: str = ""
    step: int = 0
    seconds: float = 0.0
    curves: dict = field(default_factory=lambda: {"step": [], "loss": []})


def fit(
    model,
    split,
    *,
    steps,
    after_step=(),
    watch=None,
    log_points=50,
    checkpoint=None,
    checkpoint_seconds=None,
    until=None,
    label="training",
    **options,
):
    """Train a model in place on split.train and return its History.

    `options` are those of `stepper`. `after_step` hooks are called as hook(model, step) after every update; one that
    has state carries `state_dict` and `load_state_dict`. `watch(model) -> dict of numbers` is asked at the (at most
    50) log points. From a `checkpoint` file a killed training goes on and ends with the same bits on the same machine.
    A NaN or infinite loss ends it as "diverged". `until` stops after that many of the `steps`.
    """
    if options.get("schedule") == "plateau":
        if watch is None or split.task == "regression":
            raise ValueError("schedule 'plateau' needs a watched 'validation' score that rises; take another one")
        options["schedule"] = lambda t: plateau(history.curves, steps)
    device = next(model.parameters()).device
    step, optimizer, per_epoch = stepper(model, _to(split.train, device), steps=steps, after_step=after_step, **options)
    parts = {"model": model, "optimizer": optimizer}
    parts |= {f"hook {i}": hook for i, hook in enumerate(after_step) if hasattr(hook, "state_dict")}
    history, total = _resume(checkpoint, parts)
    log_at = {round((i + 1) * steps / log_points) for i in range(log_points)} if steps >= log_points else {steps}
    stop, saved, model_was = min(steps, until or steps), time.monotonic(), model.training
    interval = CHECKPOINT_SECONDS if checkpoint_seconds is None else checkpoint_seconds
    model.train()
    with progress(range(history.step, stop), initial=history.step, total=stop, desc=label) as bar:
        started = time.perf_counter()
        for k in bar:
            total = total + step(k)
            history.step = k + 1
            pause = history.step in log_at or history.step == stop
            if not (pause or history.step % per_epoch == 0):
                continue
            if not math.isfinite(float(total)):
                history.status, history.message = "diverged", f"loss not finite in epoch {k // per_epoch + 1}"
                break
            history.seconds += time.perf_counter() - started
            if pause:
                _log(history, total, watch(model) if watch else {})
                total = torch.zeros((), device=device)
            if checkpoint and time.monotonic() - saved >= interval:
                _save(checkpoint, parts, history, total)
                saved = time.monotonic()
            started = time.perf_counter()
    if history.status == "done" and stop < steps:
        history.status = "stopped"
    model.train(model_was)
    return history


def plateau(curves, steps):
    """The factor on the learning rate: halved after every 8 % of the steps in which no validation score was a best."""
    best, since, factor = -math.inf, 0, 1.0
    for step, score in zip(curves["step"], curves.get("validation", ()), strict=False):
        if score > best:
            best, since = score, step
        elif step - since >= PLATEAU * steps:
            since, factor = step, factor / 2
    return factor


def _to(part, device):
    return type(part)(*(t.to(device) for t in part))


def _log(history, total, watched):
    """One point of the curves: the mean training loss since the last one, and what is watched."""
    since = history.step - (history.curves["step"][-1] if history.curves["step"] else 0)
    for name, value in {"step": history.step, "loss": float(total) / since, **watched}.items():
        history.curves.setdefault(name, []).append(value)


# --- checkpoints ---------------------------------------------------------------------------------------------------


def _save(path, parts, history, total):
    states = {name: part.state_dict() for name, part in parts.items()}
    save_atomically({"states": states, "history": vars(history), "total": total, "random": torch.get_rng_state()}, path)


def save_atomically(content, path):
    """torch.save, whole or not at all; a full disk is a warning: training can do without its checkpoints."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        write_whole(Path(path), buffer.getbuffer())
    except OSError as error:
        print(f"{path}: not written ({error.strerror}); training goes on, but could not be resumed from here")


def write_whole(path, content):
    """Write bytes through a temporary file: a kill or a full disk meanwhile leaves the old file whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def load_if_whole(path):
    """What `save_atomically` wrote, or None where there is no such file or it is damaged."""
    if not (path and Path(path).exists()):
        return None
    try:
        return torch.load(path, weights_only=True)
    except Exception:  # torch raises half a dozen kinds for a damaged file; starting over is right for all
        return None


def _resume(path, parts):
    saved = load_if_whole(path)
    if saved is None:
        return History(), torch.zeros(())
    for name, part in parts.items():
        part.load_state_dict(saved["states"][name])
    torch.set_rng_state(saved["random"])
    return History(**saved["history"]), saved["total"]

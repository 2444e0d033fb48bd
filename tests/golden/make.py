"""Writes the golden cases of this folder: PyTorch's float64 results, one safetensors file a case.

    pip install torch safetensors numpy
    python tests/golden/make.py [--out FOLDER]

Checked with PyTorch 2.15.0 on x86-64: every tensor has the bits of the files here. The numbers are drawn one after the
other from fixed seeds, so a new case goes behind all others: into a function at the end of the list in `main`, or to the
end of `odd`. Every input is exactly representable in float16, so that one file serves float64, float32 and float16.
README.md describes the format.
"""
import argparse
import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from model import PRESETS, Mamba, Predictor, selective_scan

torch.set_default_dtype(torch.float64)


def half(t):
    """The nearest values that float16 holds."""
    return t.half().double()


def normal(*shape, scale=1.0):
    return half(torch.randn(*shape) * scale).requires_grad_(True)


def uniform(*shape, low, high):
    return half(low + (high - low) * torch.rand(*shape)).requires_grad_(True)


class Writer:
    """Writes cases into a folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, name, op, tensors, **params):
        tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
        path = self.folder / f"{name}.safetensors"
        save_file(tensors, path, metadata={"op": op, "params": json.dumps(params)})

    def case(self, name, op, inputs, function, more=None, **params):
        """function(*inputs) and, under a random cotangent, the gradients of its inputs."""
        inputs = {k: v for k, v in inputs.items() if v is not None}
        y = function(*inputs.values())
        dy = half(torch.randn(y.shape))
        gradients = torch.autograd.grad(y, list(inputs.values()), dy)
        tensors = {f"in.{k}": v for k, v in inputs.items()} | {"out.y": y, "grad_out.y": dy}
        tensors |= {f"grad_in.{k}": g for k, g in zip(inputs, gradients)}
        self.save(name, op, tensors | (more or {}), **params)

    def conv2d(self, name, x, weight, bias, stride, padding):
        self.case(name, "conv2d", dict(x=x, weight=weight, bias=bias),
                  lambda x, weight, bias=None: F.conv2d(x, weight, bias, stride, padding),
                  stride=stride, padding=padding)

    def conv_transpose2d(self, name, x, weight, bias, stride, padding, **output_padding):
        self.case(name, "conv_transpose2d", dict(x=x, weight=weight, bias=bias),
                  lambda x, weight, bias=None: F.conv_transpose2d(x, weight, bias, stride, padding, **output_padding),
                  stride=stride, padding=padding, **output_padding)

    def linear(self, name, x, weight, bias=None):
        self.case(name, "linear", dict(x=x, weight=weight, bias=bias), F.linear)

    def batch_norm2d(self, name, x, weight, bias, mean, var, training, eps=1e-5, momentum=0.1):
        more = {"in.running_mean": mean, "in.running_var": var}
        if training:
            new = mean.clone(), var.clone()
            F.batch_norm(x, *new, weight, bias, True, momentum, eps)
            more |= {"out.running_mean": new[0], "out.running_var": new[1]}
        self.case(name, "batch_norm2d", dict(x=x, weight=weight, bias=bias),
                  lambda x, weight, bias: F.batch_norm(
                      x, mean.clone(), var.clone(), weight, bias, training, momentum, eps),
                  more, training=training, eps=eps, momentum=momentum)

    def layer_norm(self, name, x, weight, bias):
        self.case(name, "layer_norm", dict(x=x, weight=weight, bias=bias),
                  lambda x, weight, bias: F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5), eps=1e-5)

    def max_pool2d(self, name, x, kernel, stride, padding):
        self.case(name, "max_pool2d", dict(x=x), lambda x: F.max_pool2d(x, kernel, stride, padding),
                  kernel=kernel, stride=stride, padding=padding)

    def upsample_nearest2d(self, name, x, scale):
        self.case(name, "upsample_nearest2d", dict(x=x),
                  lambda x: F.interpolate(x, scale_factor=scale, mode="nearest"), scale=scale)

    def causal_conv1d(self, name, x, weight, bias):
        """x [B,L,D]; weight [D,1,taps]; output t sees the inputs up to t."""
        channels, _, taps = weight.shape
        self.case(name, "causal_conv1d", dict(x=x, weight=weight, bias=bias),
                  lambda x, weight, bias: F.conv1d(
                      x.transpose(1, 2), weight, bias, padding=taps - 1, groups=channels,
                  )[..., : x.shape[1]].transpose(1, 2),
                  layout="BLD")

    def selective_scan(self, name, b, l, d, n):
        inputs = dict(u=normal(b, l, d), delta=uniform(b, l, d, low=0.01, high=0.5),
                      a=uniform(d, n, low=-4.0, high=-0.1), b=normal(b, l, n), c=normal(b, l, n), d=normal(d))
        self.case(name, "selective_scan", inputs, selective_scan)


UNARY = dict(relu=F.relu, silu=F.silu, sigmoid=torch.sigmoid, softplus=F.softplus, tanh=torch.tanh)
SOFTMAX = dict(softmax=lambda x: F.softmax(x, -1), log_softmax=lambda x: F.log_softmax(x, -1))


def operators(w):
    for tag, cin, cout, height, width, kernel, stride, padding in [
        ("3x3", 5, 8, 9, 7, 3, 1, 1),
        ("3x3s2", 8, 16, 8, 8, 3, 2, 1),
        ("7x7s2", 3, 8, 16, 16, 7, 2, 3),
        ("1x1s2", 16, 8, 8, 8, 1, 2, 0),
    ]:
        x, weight, bias = normal(3, cin, height, width), normal(cout, cin, kernel, kernel, scale=0.3), normal(cout)
        w.conv2d(f"conv2d_{tag}", x, weight, bias, stride, padding)
    for tag, cin, cout, height, width in [("a", 12, 8, 4, 4), ("b", 8, 3, 5, 7)]:
        x, weight = normal(2, cin, height, width), normal(cin, cout, 4, 4, scale=0.3)
        w.conv_transpose2d(f"conv_transpose2d_{tag}", x, weight, None, 2, 1)
    w.linear("linear_6x20x12", normal(6, 20), normal(12, 20, scale=0.3), normal(12))
    x, weight, bias = normal(4, 6, 5, 5), normal(6), normal(6)
    mean, var = half(torch.randn(6)), half(torch.rand(6) + 0.5)
    w.batch_norm2d("batch_norm2d_train_a", x, weight, bias, mean, var, True)
    w.batch_norm2d("batch_norm2d_eval_a", x, weight, bias, mean, var, False)
    w.layer_norm("layer_norm_5x32", normal(5, 32), normal(32), normal(32))
    for name, function in UNARY.items():
        w.case(name, name, dict(x=normal(7, 11, scale=3.0)), function)
    w.max_pool2d("max_pool2d", normal(2, 3, 8, 8), 3, 2, 1)
    w.upsample_nearest2d("upsample_nearest2d", normal(2, 3, 8, 8), 2)
    w.causal_conv1d("causal_conv1d_2x6x8", normal(2, 6, 8), normal(8, 1, 4), normal(8))
    for sizes in [(2, 7, 6, 4), (1, 10, 8, 16)]:
        w.selective_scan("selective_scan_" + "x".join(map(str, sizes)), *sizes)
    prediction, target = normal(2, 2, 3, 8, 8), half(torch.rand(2, 2, 3, 8, 8))
    loss = F.l1_loss(prediction, target)
    (gradient,) = torch.autograd.grad(loss, prediction)
    w.save("l1_loss", "l1_loss", {"in.prediction": prediction, "in.target": target, "out.y": loss,
                                  "grad_in.prediction": gradient})


def rounded(module):
    """The module with parameters that float16 holds."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(half(p))
    return module


def mamba_mixer(w):
    mixer = rounded(Mamba(16, state=16))
    x = normal(2, 5, 16)
    y = mixer(x)
    dy = half(torch.randn(y.shape))
    parameters = dict(mixer.named_parameters())
    dx, *gradients = torch.autograd.grad(y, [x, *parameters.values()], dy)
    tensors = {"in.x": x, "out.y": y, "grad_out.y": dy, "grad_in.x": dx}
    tensors |= {f"param.{k}": p for k, p in parameters.items()}
    tensors |= {f"grad_param.{k}": g for k, g in zip(parameters, gradients)}
    w.save("mamba_mixer_16x5", "mamba_mixer", tensors, dim=16, state=16, conv=4, expand=2)


def adamw(w, steps=4):
    p = torch.nn.Parameter(half(torch.randn(37)))
    lr, weight_decay, beta1, beta2, eps = 2e-4, 1e-4, 0.9, 0.999, 1e-8
    optimiser = torch.optim.AdamW([p], lr=lr, weight_decay=weight_decay, betas=(beta1, beta2), eps=eps)
    tensors = {"in.p": p.detach().clone()}
    for i in range(steps):
        gradient = half(torch.randn(37))
        p.grad = gradient.clone()
        optimiser.step()
        tensors |= {f"in.grad.{i}": gradient, f"out.p.{i}": p.detach().clone()}
    state = optimiser.state[p]
    w.save("adamw", "adamw", tensors | {"out.m": state["exp_avg"], "out.v": state["exp_avg_sq"]},
           lr=lr, weight_decay=weight_decay, beta1=beta1, beta2=beta2, eps=eps, steps=steps)


def clip_grad_norm(w):
    gradients = [torch.randn(5, 3) * scale for scale in (1.0, 30.0)]
    parameters = [torch.nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for p, g in zip(parameters, gradients):
        p.grad = g.clone()
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    (a, b), (da, db) = gradients, (p.grad for p in parameters)
    tensors = {"in.a": a, "in.b": b, "out.norm": norm, "out.a": da, "out.b": db}
    w.save("clip_grad_norm", "clip_grad_norm", tensors, max_norm=1.0)


def cosine_annealing(w, epochs=10, base_lr=2e-4):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs)
    rates = []
    for _ in range(epochs + 1):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    w.save("cosine_annealing", "cosine_annealing", {"out.lr": torch.tensor(rates)},
           base_lr=base_lr, t_max=epochs, eta_min=0.0)


def grad_scaler(w, interval=4):
    """The scale of torch.amp.GradScaler after each step; 1 in `found_inf`: some gradient was inf or NaN."""
    found = [0.0] * 3 + [1.0] * 2 + [0.0] * 9
    scale, tracker = torch.tensor(1024.0, dtype=torch.float32), torch.tensor(0, dtype=torch.int32)
    trace = []
    for f in found:
        torch._amp_update_scale_(scale, tracker, torch.tensor(f, dtype=torch.float32), 2.0, 0.5, interval)
        trace.append(scale.item())
    w.save("grad_scaler", "grad_scaler", {"in.found_inf": torch.tensor(found), "out.scale": torch.tensor(trace)},
           init_scale=1024.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=interval)


def predictor(w, preset="nano", batch=2, steps=4, next_frames=2, name="predictor_nano"):
    spec = PRESETS[preset]
    model = rounded(Predictor(**spec, next_frames=next_frames).train())
    size = spec["size"]
    frames, target = half(torch.rand(batch, steps, 3, size, size)), half(torch.rand(batch, next_frames, 3, size, size))
    before = {f"state.{k}": v.clone() for k, v in model.state_dict().items() if "num_batches" not in k}
    y = model(frames)
    loss = F.l1_loss(y, target)
    loss.backward()
    tensors = before | {"in.frames": frames, "in.target": target, "out.y": y, "out.loss": loss}
    tensors |= {f"grad.{k}": p.grad for k, p in model.named_parameters()}
    tensors |= {f"out_state.{k}": v for k, v in model.state_dict().items() if "running" in k}
    model.eval()
    with torch.no_grad():
        tensors["out.y_eval"] = model(frames)
    w.save(name, "predictor", tensors, preset=preset, training=True)


def skip(n, spare=False):
    """Passes over n numbers. Normal numbers are made in pairs: `spare` drops the second one where it is left over."""
    if spare:
        torch.randn(1)
    torch.rand(n)


def odd(w):
    """The cases of odd/: shapes and values where operators break first.

    Other cases were drawn between these, and are not kept. `skip` draws their numbers, so that these keep their own.
    """
    torch.manual_seed(0)
    skip(495374)
    torch.randn(1)
    # Two values a channel: all but ε's share of the gradient cancels.
    x, weight, bias = normal(2, 3, 1, 1), normal(3), normal(3)
    mean, var = half(torch.randn(3)), half(torch.rand(3) + 0.5)
    w.batch_norm2d("batch_norm2d_train_b", x, weight, bias, mean, var, True)

    torch.manual_seed(7)
    odd_conv2d(w)
    skip(443520)
    odd_conv_transpose2d(w)
    skip(244372)
    w.linear("linear_nobias_1", normal(7), normal(5, 7))
    w.linear("linear_nobias_3", normal(2, 3, 9), normal(4, 9))
    skip(7127)
    odd_max_pool2d(w)
    w.upsample_nearest2d("upsample_1", normal(2, 17, 3, 4), 1)
    w.upsample_nearest2d("upsample_3", normal(2, 17, 5, 1), 3)
    skip(4062)
    for taps in [1, 2, 4, 7]:
        w.causal_conv1d(f"causal_{taps}", normal(2, 5, 19), normal(19, 1, taps), normal(19))
    w.selective_scan("scan_1_1", 1, 1, 1, 1)
    skip(55150, spare=True)
    x, weight, bias = normal(2, 1, 3, 3), normal(1), normal(1)
    mean, var = half(torch.randn(1)), half(torch.rand(1) + 0.5)
    w.batch_norm2d("bn_c1", x, weight, bias, mean, var, True, eps=1e-3, momentum=0.3)
    skip(2154163, spare=True)
    for name, function in UNARY.items():
        w.case(f"{name}_tiny", name, dict(x=normal(200, scale=1e-3)), function)
        w.case(f"{name}_huge", name, dict(x=normal(200, scale=60.0)), function)
        skip(80000)
    skip(240000)
    for columns in [2, 3]:
        w.layer_norm(f"ln{columns}", normal(50, columns), normal(columns), normal(columns))


def odd_conv2d(w):
    def case(name, n, cin, height, width, cout, kernel, stride, padding, bias=True):
        x, weight = normal(n, cin, height, width), normal(cout, cin, *kernel, scale=0.3)
        w.conv2d(f"conv2d_{name}", x, weight, normal(cout) if bias else None, stride, padding)

    case("s3", 2, 5, 11, 8, 7, (3, 3), 3, 1)
    case("s3k2", 2, 5, 11, 8, 7, (2, 2), 3, 0, bias=False)
    case("s3k1p1", 2, 5, 11, 8, 7, (1, 1), 3, 1)
    case("k1s2p1", 1, 2, 1, 1, 3, (1, 1), 2, 1)
    case("k1s2p1w", 1, 2, 1, 5, 3, (1, 1), 2, 1)
    case("bigpad", 2, 3, 5, 6, 4, (3, 3), 1, 4)
    case("bigpad2", 2, 3, 5, 6, 4, (3, 3), 2, 5)
    case("pair", 2, 3, 9, 6, 4, (3, 5), (2, 1), (0, 2), bias=False)
    case("pair2", 1, 1, 9, 6, 1, (1, 5), (1, 4), (3, 2), bias=False)
    case("onech", 3, 1, 7, 7, 1, (5, 5), 1, 2, bias=False)
    case("single", 1, 1, 1, 1, 1, (1, 1), 1, 0)
    skip(364355, spare=True)
    case("even", 2, 3, 8, 8, 4, (4, 4), 2, 1)


def odd_conv_transpose2d(w):
    def case(name, sizes, cout, kernel, stride, padding, output_padding, bias=True):
        x, weight = normal(*sizes), normal(sizes[1], cout, kernel, kernel, scale=0.3)
        w.conv_transpose2d(f"conv_transpose2d_{name}", x, weight, normal(cout) if bias else None, stride, padding,
                           output_padding=output_padding)

    case("op", (2, 5, 4, 3), 7, 3, 2, 1, 1)
    skip(2538, spare=True)
    case("s3k2op", (2, 5, 4, 3), 7, 2, 3, 0, 1)
    skip(1953)
    case("s1", (2, 5, 4, 3), 7, 3, 1, 2, 0, bias=False)
    case("k1", (2, 5, 4, 3), 7, 1, 2, 0, 1)
    case("k1p", (2, 5, 4, 3), 7, 1, 2, 1, 0)
    case("one", (1, 1, 1, 1), 1, 4, 2, 1, 0, bias=False)


def odd_max_pool2d(w):
    w.max_pool2d("max_pool2d_311", normal(2, 17, 5, 4), 3, 1, 1)
    skip(2532)
    w.max_pool2d("max_pool2d_321", normal(2, 17, 1, 1), 3, 2, 1)
    w.max_pool2d("max_pool2d_231", normal(2, 17, 8, 5), 2, 3, 1)
    w.max_pool2d("max_pool2d_110", normal(2, 17, 3, 3), 1, 1, 0)
    w.max_pool2d("max_pool2d_ties", torch.randint(0, 3, (2, 3, 9, 8)).double().requires_grad_(True), 3, 2, 1)
    # Padding must not win over values below zero.
    w.max_pool2d("max_pool2d_neg", half(-torch.rand(2, 3, 9, 8) - 1).requires_grad_(True), 3, 2, 1)


def arithmetic(w):
    """Element by element, with operands that are broadcast, and softmax."""
    torch.manual_seed(17)
    for name, function in dict(neg=torch.neg, exp=torch.exp).items():
        w.case(name, name, dict(x=normal(7, 11)), function)
    for name, function in dict(log=torch.log, sqrt=torch.sqrt).items():
        w.case(name, name, dict(x=uniform(7, 11, low=0.05, high=8.0)), function)
    for name, function, a, b in [
        ("add", torch.add, (5,), (3, 4, 5)),
        ("sub", torch.sub, (3, 4, 5), (4, 1)),
        ("mul", torch.mul, (2, 1, 4), (3, 1)),
        ("div", torch.div, (4, 5), (3, 1, 5)),
    ]:
        w.case(name, name, dict(a=normal(*a), b=uniform(*b, low=0.5, high=2.0)), function)
    for name, function in SOFTMAX.items():
        w.case(name, name, dict(x=normal(3, 5, 40, scale=3.0)), function)


def odd_arithmetic(w):
    torch.manual_seed(19)
    w.case("log_near_1", "log", dict(x=half(1 + 1e-2 * torch.randn(200)).requires_grad_(True)), torch.log)
    w.case("sqrt_tiny", "sqrt", dict(x=uniform(200, low=1e-3, high=2e-3)), torch.sqrt)
    w.case("div_one", "div", dict(a=normal(1), b=uniform(1, 1, low=0.5, high=2.0)), torch.div)
    for name, function in SOFTMAX.items():
        w.case(f"{name}_1", name, dict(x=normal(5, 1)), function)
        # e^1000 is beyond float64.
        w.case(f"{name}_far", name, dict(x=half(1000 + 3 * torch.randn(4, 33)).requires_grad_(True)), function)
        w.case(f"{name}_long", name, dict(x=normal(2, 1025)), function)
    x = normal(6, 9).detach()
    x[:, 4:7] = -torch.inf
    w.case("softmax_masked", "softmax", dict(x=x.requires_grad_(True)), SOFTMAX["softmax"])


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent, help="folder to write into")
    out = parse.parse_args().out
    torch.manual_seed(0)
    for write in [operators, mamba_mixer, adamw, clip_grad_norm, cosine_annealing, grad_scaler, predictor]:
        write(Writer(out))
    odd(Writer(out / "odd"))
    arithmetic(Writer(out))
    odd_arithmetic(Writer(out / "odd"))
    torch.manual_seed(29)
    predictor(Writer(out), batch=1, steps=3, next_frames=5, name="predictor_nano_next5")


if __name__ == "__main__":
    main()

"""Writes the golden cases of this folder: PyTorch's float64 results, one safetensors file a case.

    pip install torch safetensors numpy
    python tests/golden/make.py [--out FOLDER]

Checked with PyTorch 2.15.0 on x86-64: every tensor has the bits of the files here, which need no PyTorch to be read. The
numbers are drawn one after the other from two seeds, so a new case belongs at the end of its list. Every input is
exactly representable in float16: one file serves float64, float32 and float16. README.md describes the format.
"""
import argparse
import pathlib

import torch
import torch.nn.functional as F

import odd
from model import PRESETS, Mamba, Predictor
from writer import UNARY, Writer, half, normal


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


def predictor(w, preset="nano", batch=2, steps=4):
    spec = PRESETS[preset]
    model = rounded(Predictor(**spec).train())
    size = spec["size"]
    frames, target = half(torch.rand(batch, steps, 3, size, size)), half(torch.rand(batch, 2, 3, size, size))
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
    w.save(f"predictor_{preset}", "predictor", tensors, preset=preset, training=True)


def main():
    parse = argparse.ArgumentParser()
    parse.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent, help="folder to write into")
    out = parse.parse_args().out
    torch.manual_seed(0)
    for write in [operators, mamba_mixer, adamw, clip_grad_norm, cosine_annealing, grad_scaler, predictor]:
        write(Writer(out))
    odd.write(Writer(out / "odd"))


if __name__ == "__main__":
    main()

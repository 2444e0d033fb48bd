"""The selective scans that PyTorch has: which one a run uses, the mixer that calls it, and its check against model.py's.

Every scan here is f(u, dt, a, b, c, d, z, bias) -> y with u, dt, z [B, L, channels], b, c [B, L, states], a [channels,
states], d and bias [channels]: y = (scan(u, softplus(dt + bias), a, b, c) + d u) silu(z). That is the fused form that
mamba_ssm has; the mixer's dt_proj leaves its bias to it.
"""
import importlib

import torch
import torch.nn.functional as F

NAMES = ("auto", "mamba_ssm", "triton", "compiled", "eager")
INPUTS = ("u", "dt", "a", "b", "c", "d", "z", "bias")
# (B, L, channels, states): the model's length; tails in steps and channels; one step; states that are no power of two.
SIZES = ((2, 10, 64, 16), (3, 29, 40, 16), (1, 1, 8, 16), (2, 7, 33, 5))
# Largest difference over the largest value of that output or gradient.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 4e-3}


def eager_scan(u, dt, a, b, c, d, z, bias):
    """model.py's loop, on the device of its inputs, in f32."""
    kind, (u, dt, b, c, z) = u.dtype, (x.float() for x in (u, dt, b, c, z))
    delta = F.softplus(dt + bias)
    h = torch.zeros(u.shape[0], u.shape[2], a.shape[1], device=u.device)
    ys = []
    for t in range(u.shape[1]):
        h = torch.exp(delta[:, t, :, None] * a) * h + (delta[:, t] * u[:, t])[..., None] * b[:, t, None, :]
        ys.append((h * c[:, t, None, :]).sum(-1))
    return ((torch.stack(ys, 1) + u * d) * F.silu(z)).to(kind)


def mamba_scan():
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    def scan(u, dt, a, b, c, d, z, bias):
        u, dt, b, c, z = (x.transpose(1, 2).contiguous() for x in (u, dt, b, c, z))
        return selective_scan_fn(u, dt, a, b, c, d, z, bias, delta_softplus=True).transpose(1, 2)

    return scan


def need_triton():
    try:
        importlib.import_module("triton")
    except ImportError as error:
        raise SystemExit(f"error: triton cannot be imported ({error}): install it, or choose --mode eager --scan eager") from None


def choose(name, compiling):
    """(its name, the scan). `compiling`: the whole model is compiled, and the loop in PyTorch with it."""
    if compiling or name in ("triton", "compiled"):
        need_triton()
    if name in ("auto", "mamba_ssm"):
        try:
            return "mamba_ssm", mamba_scan()
        except ImportError as error:
            if name == "mamba_ssm":
                raise SystemExit(f"error: mamba_ssm cannot be imported ({error}): install it, or choose another --scan") from None
            need_triton()
    if name == "eager" or (name == "compiled" and compiling):
        return name, eager_scan
    if name == "compiled":
        return name, torch.compile(eager_scan, dynamic=False, fullgraph=True)
    from torch_scan import triton_scan

    return "triton", triton_scan


def mixer(scan):
    """A forward for model.Mamba that is the same function with the fused scan."""

    def forward(self, x):
        u, z = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv1d(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        dt, b, c = self.x_proj(u).split([self.rank, self.state, self.state], -1)
        dt = F.linear(dt, self.dt_proj.weight)
        return self.out_proj(scan(u, dt, -torch.exp(self.A_log), b, c, self.D, z, self.dt_proj.bias))

    return forward


def draw(size, kind, device):
    """Inputs as the model has them: steps of 0.001 to 0.1 and longer, decays of -1 to -states."""
    batch, steps, channels, states = size

    def normal(*shape):
        return torch.randn(shape, device=device).to(kind)

    a = -(torch.rand(channels, states, device=device) + 0.5) * torch.arange(1, states + 1, device=device)
    return {
        "u": normal(batch, steps, channels), "dt": normal(batch, steps, channels), "a": a, "b": normal(batch, steps, states),
        "c": normal(batch, steps, states), "d": torch.randn(channels, device=device), "z": normal(batch, steps, channels),
        "bias": torch.rand(channels, device=device) * 6 - 6,
    }


def gradients(scan, inputs, dy):
    inputs = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
    y = scan(*(inputs[name] for name in INPUTS))
    return {"y": y.detach(), **dict(zip(INPUTS, torch.autograd.grad(y, list(inputs.values()), dy), strict=True))}


def check(name, scan, reference, device):
    """Compares the scan and its gradients with model.py's on the CPU in f64; a line of what was found, or an exit."""
    assert tuple(draw(SIZES[0], torch.float32, "cpu")) == INPUTS

    def exact(u, dt, a, b, c, d, z, bias):
        return reference(u, F.softplus(dt + bias), a, b, c, d) * F.silu(z)

    found = []
    for kind, tolerance in TOLERANCE.items():
        worst = 0.0
        for size in SIZES:
            inputs = draw(size, kind, device)
            dy = torch.randn(size[:3], device=device).to(kind)
            want = gradients(exact, {n: x.double().cpu() for n, x in inputs.items()}, dy.double().cpu())
            for output, value in gradients(scan, inputs, dy).items():
                error = ((value.double().cpu() - want[output]).abs().max() / want[output].abs().max().clamp_min(1e-30)).item()
                if not error <= tolerance:
                    what = "y" if output == "y" else f"the gradient of {output}"
                    where = f"{what} at {size}, {kind}: {error:.2e} > {tolerance:.0e}"
                    raise SystemExit(f"error: the scan {name} differs from model.py's: {where}")
                worst = max(worst, error)
        found.append(f"{str(kind)[6:]} {worst:.1e} (tolerance {tolerance:.0e})")
    return f"scan {name}: y and 8 gradients at {len(SIZES)} sizes within " + ", ".join(found) + " of model.py's in f64"

"""How a golden case is drawn and written."""
import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from model import selective_scan

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

"""The golden cases of odd/: shapes and values where operators break first. make.py writes them.

All but the first are drawn from one seed, in this order. More cases were drawn than are kept: `skip` passes over the
others, so that those that are kept have the numbers that they always had.
"""
import torch

from writer import UNARY, half, normal


def skip(n, spare=False):
    """Passes over n numbers. Normal numbers are made in pairs: `spare` drops the second one where it is left over."""
    if spare:
        torch.randn(1)
    torch.rand(n)


def write(w):
    torch.manual_seed(0)
    skip(495374)
    torch.randn(1)
    # Two values a channel: all but ε's share of the gradient cancels.
    x, weight, bias = normal(2, 3, 1, 1), normal(3), normal(3)
    mean, var = half(torch.randn(3)), half(torch.rand(3) + 0.5)
    w.batch_norm2d("batch_norm2d_train_b", x, weight, bias, mean, var, True)

    torch.manual_seed(7)
    conv2d(w)
    skip(443520)
    conv_transpose2d(w)
    skip(244372)
    w.linear("linear_nobias_1", normal(7), normal(5, 7))
    w.linear("linear_nobias_3", normal(2, 3, 9), normal(4, 9))
    skip(7127)
    max_pool2d(w)
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


def conv2d(w):
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


def conv_transpose2d(w):
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


def max_pool2d(w):
    w.max_pool2d("max_pool2d_311", normal(2, 17, 5, 4), 3, 1, 1)
    skip(2532)
    w.max_pool2d("max_pool2d_321", normal(2, 17, 1, 1), 3, 2, 1)
    w.max_pool2d("max_pool2d_231", normal(2, 17, 8, 5), 2, 3, 1)
    w.max_pool2d("max_pool2d_110", normal(2, 17, 3, 3), 1, 1, 0)
    w.max_pool2d("max_pool2d_ties", torch.randint(0, 3, (2, 3, 9, 8)).double().requires_grad_(True), 3, 2, 1)
    # Padding must not win over values below zero.
    w.max_pool2d("max_pool2d_neg", half(-torch.rand(2, 3, 9, 8) - 1).requires_grad_(True), 3, 2, 1)

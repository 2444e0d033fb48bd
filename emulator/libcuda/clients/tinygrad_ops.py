"""tinygrad on its CUDA device with its PTX renderer, over the emulated driver, against NumPy.

    DEV=CUDA:PTX LD_LIBRARY_PATH=target/libcuda python tinygrad_ops.py

Every operation is drawn with random data; the last checks are gradients and a training step of a small network. Ends with
the count, and with an error when an operation differs or fewer than 100 ran.
"""
import sys

import numpy as np
from tinygrad import Context, Tensor, TinyJit, dtypes, nn

rng = np.random.default_rng(7)
done = 0
failed = []


def draw(*shape, low=-2.0, high=2.0):
    return rng.uniform(low, high, shape).astype(np.float32)


def compare(name, found, wanted, bound=2e-5):
    """Counts one operation; notes it when its values differ by more than the bound, relative to the largest."""
    global done
    found, wanted = np.asarray(found), np.asarray(wanted)
    done += 1
    if found.shape != wanted.shape:
        failed.append(f"{name}: shape {found.shape}, not {wanted.shape}")
        return
    if wanted.dtype == bool or np.issubdtype(wanted.dtype, np.integer):
        wrong = int((found != wanted).sum())
    else:
        error = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
        wrong = int((~(error <= bound * max(1.0, np.abs(wanted).max(initial=0)))).sum())
    if wrong:
        failed.append(f"{name}: {wrong} of {wanted.size} values differ")


def each(cases, *arrays, bound=2e-5):
    """A table of name -> (tinygrad's form, NumPy's form) over the same arrays."""
    for name, (ours, theirs) in cases.items():
        try:
            compare(name, ours(*map(Tensor, arrays)).numpy(), theirs(*arrays), bound)
        except Exception as error:  # the whole table is worth seeing
            failed.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


x, y, positive = draw(33, 17), draw(33, 17), draw(33, 17, low=0.1)
each({
    "neg": (lambda x: -x, lambda x: -x),
    "abs": (lambda x: x.abs(), np.abs),
    "sign": (lambda x: x.sign(), np.sign),
    "relu": (lambda x: x.relu(), lambda x: np.maximum(x, 0)),
    "leaky_relu": (lambda x: x.leaky_relu(0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
    "relu6": (lambda x: x.relu6(), lambda x: np.clip(x, 0, 6)),
    "exp": (lambda x: x.exp(), np.exp),
    "exp2": (lambda x: x.exp2(), np.exp2),
    "sin": (lambda x: x.sin(), np.sin),
    "cos": (lambda x: x.cos(), np.cos),
    "tan": (lambda x: (x * 0.5).tan(), lambda x: np.tan(x * 0.5)),
    "tanh": (lambda x: x.tanh(), np.tanh),
    "sinh": (lambda x: x.sinh(), np.sinh),
    "cosh": (lambda x: x.cosh(), np.cosh),
    "sigmoid": (lambda x: x.sigmoid(), sigmoid),
    "silu": (lambda x: x.silu(), lambda x: x * sigmoid(x)),
    "softplus": (lambda x: x.softplus(), lambda x: np.log1p(np.exp(x))),
    "softsign": (lambda x: x.softsign(), lambda x: x / (1 + np.abs(x))),
    "elu": (lambda x: x.elu(), lambda x: np.where(x > 0, x, np.exp(x) - 1)),
    "hardswish": (lambda x: x.hardswish(), lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "hardtanh": (lambda x: x.hardtanh(), lambda x: np.clip(x, -1, 1)),
    "square": (lambda x: x.square(), np.square),
    "clip": (lambda x: x.clip(-1, 1), lambda x: np.clip(x, -1, 1)),
    "floor": (lambda x: x.floor(), np.floor),
    "ceil": (lambda x: x.ceil(), np.ceil),
    "trunc": (lambda x: x.trunc(), np.trunc),
    "round": (lambda x: x.round(), np.round),
    "isnan": (lambda x: x.isnan(), np.isnan),
    "isinf": (lambda x: x.isinf(), np.isinf),
    "to half": (lambda x: x.half(), lambda x: x.astype(np.float16)),
    "to int": (lambda x: x.int(), lambda x: x.astype(np.int32)),
    "to double": (lambda x: x.double(), lambda x: x.astype(np.float64)),
    "to int8": (lambda x: (x * 30).cast(dtypes.int8), lambda x: (x * 30).astype(np.int8)),
    "to bool": (lambda x: x.cast(dtypes.bool), lambda x: x.astype(bool)),
}, x)
each({
    "log": (lambda x: x.log(), np.log),
    "log2": (lambda x: x.log2(), np.log2),
    "sqrt": (lambda x: x.sqrt(), np.sqrt),
    "rsqrt": (lambda x: x.rsqrt(), lambda x: 1 / np.sqrt(x)),
    "reciprocal": (lambda x: x.reciprocal(), lambda x: 1 / x),
    "pow": (lambda x: x ** 2.5, lambda x: x ** 2.5),
    "pow of two": (lambda x: 2 ** x, lambda x: 2 ** x),
    "prod": (lambda x: x[:5].prod(axis=0), lambda x: x[:5].prod(axis=0)),
}, positive)
each({
    "add": (lambda x, y: x + y, lambda x, y: x + y),
    "sub": (lambda x, y: x - y, lambda x, y: x - y),
    "mul": (lambda x, y: x * y, lambda x, y: x * y),
    "div": (lambda x, y: x / (y.abs() + 1), lambda x, y: x / (np.abs(y) + 1)),
    "maximum": (lambda x, y: x.maximum(y), np.maximum),
    "minimum": (lambda x, y: x.minimum(y), np.minimum),
    "less": (lambda x, y: x < y, lambda x, y: x < y),
    "less or equal": (lambda x, y: x <= y, lambda x, y: x <= y),
    "equal": (lambda x, y: x == y, lambda x, y: x == y),
    "not equal": (lambda x, y: x != y, lambda x, y: x != y),
    "where": (lambda x, y: (x > 0).where(x, y), lambda x, y: np.where(x > 0, x, y)),
    "lerp": (lambda x, y: x.lerp(y, 0.3), lambda x, y: x + (y - x) * np.float32(0.3)),
    "cat": (lambda x, y: x.cat(y, dim=1), lambda x, y: np.concatenate([x, y], 1)),
    "stack": (lambda x, y: x.stack(y), lambda x, y: np.stack([x, y])),
    "matmul": (lambda x, y: x @ y.T, lambda x, y: x @ y.T),
    "dot of rows": (lambda x, y: (x * y).sum(1), lambda x, y: (x * y).sum(1)),
    "einsum": (lambda x, y: Tensor.einsum("ij,kj->ik", x, y), lambda x, y: np.einsum("ij,kj->ik", x, y)),
}, x, y)
each({
    "sum": (lambda x: x.sum(), np.sum),
    "sum of rows": (lambda x: x.sum(1), lambda x: x.sum(1)),
    "sum of columns": (lambda x: x.sum(0), lambda x: x.sum(0)),
    "mean": (lambda x: x.mean(1), lambda x: x.mean(1)),
    "max": (lambda x: x.max(1), lambda x: x.max(1)),
    "min": (lambda x: x.min(0), lambda x: x.min(0)),
    "argmax": (lambda x: x.argmax(1), lambda x: x.argmax(1).astype(np.int32)),
    "argmin": (lambda x: x.argmin(1), lambda x: x.argmin(1).astype(np.int32)),
    "var": (lambda x: x.var(1), lambda x: x.var(1, ddof=1)),
    "std": (lambda x: x.std(0), lambda x: x.std(0, ddof=1)),
    "softmax": (lambda x: x.softmax(), softmax),
    "log_softmax": (lambda x: x.log_softmax(), lambda x: np.log(softmax(x))),
    "logsumexp": (lambda x: x.logsumexp(1), lambda x: np.log(np.exp(x).sum(1))),
    "cumsum": (lambda x: x.cumsum(1), lambda x: x.cumsum(1)),
    "all": (lambda x: (x > -1).all(1), lambda x: (x > -1).all(1)),
    "any": (lambda x: (x > 1.9).any(1), lambda x: (x > 1.9).any(1)),
    "layernorm": (lambda x: x.layernorm(), lambda x: (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)),
    "sort": (lambda x: x.sort(1)[0], lambda x: np.sort(x, 1)),
    "topk": (lambda x: x.topk(3)[0], lambda x: -np.sort(-x, 1)[:, :3]),
}, x)
each({
    "transpose": (lambda x: x.T.contiguous(), lambda x: x.T),
    "reshape": (lambda x: x.reshape(17, 33) + 0, lambda x: x.reshape(17, 33)),
    "slice": (lambda x: x[3:20:2, 1:5].contiguous(), lambda x: x[3:20:2, 1:5]),
    "negative stride": (lambda x: x[::-1].contiguous(), lambda x: x[::-1]),
    "one row": (lambda x: x[5].contiguous(), lambda x: x[5]),
    "rows by index": (lambda x: x[Tensor([3, 1, 30])], lambda x: x[[3, 1, 30]]),
    "gather": (lambda x: x.gather(1, Tensor([[0, 3], [2, 1]])), lambda x: np.take_along_axis(x[:2], np.array([[0, 3], [2, 1]]), 1)),
    "pad": (lambda x: x.pad(((1, 2), (0, 3))), lambda x: np.pad(x, ((1, 2), (0, 3)))),
    "flip": (lambda x: x.flip(1).contiguous(), lambda x: x[:, ::-1]),
    "expand": (lambda x: x.reshape(33, 1, 17).expand(33, 4, 17).contiguous(), lambda x: np.repeat(x[:, None], 4, 1)),
    "repeat": (lambda x: x.repeat(2, 3), lambda x: np.tile(x, (2, 3))),
    "roll": (lambda x: x.roll(3, 0), lambda x: np.roll(x, 3, 0)),
    "tril": (lambda x: x.tril(), np.tril),
    "triu": (lambda x: x.triu(1), lambda x: np.triu(x, 1)),
    "one_hot": (lambda x: (x[:, 0].abs() * 3).int().one_hot(7), lambda x: np.eye(7, dtype=np.int32)[(np.abs(x[:, 0]) * 3).astype(int)]),
}, x)
integers, others = rng.integers(-100, 100, (40,), dtype=np.int32), rng.integers(1, 20, (40,), dtype=np.int32)
each({
    "int add": (lambda a, b: a + b, lambda a, b: a + b),
    "int mul": (lambda a, b: a * b, lambda a, b: a * b),
    "int floor div": (lambda a, b: a // b, lambda a, b: a // b),
    "int mod": (lambda a, b: a % b, lambda a, b: a % b),
    "int and": (lambda a, b: a & b, lambda a, b: a & b),
    "int or": (lambda a, b: a | b, lambda a, b: a | b),
    "int xor": (lambda a, b: a ^ b, lambda a, b: a ^ b),
    "int shift": (lambda a, b: b.cast(dtypes.uint32) << 3, lambda a, b: b.astype(np.uint32) << 3),
    "int64 mul": (lambda a, b: a.cast(dtypes.int64) * 1_000_003, lambda a, b: a.astype(np.int64) * 1_000_003),
    "int sum": (lambda a, b: a.sum(), lambda a, b: a.sum(dtype=np.int32)),
    "int max": (lambda a, b: a.max(), lambda a, b: a.max()),
}, integers, others)

image, filters = draw(2, 3, 12, 12), draw(5, 3, 3, 3)


def conv(image, filters, stride=1, padding=0):
    image = np.pad(image, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(image, filters.shape[2:], (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,ocij->nohw", windows, filters)


each({
    "conv2d": (lambda i, f: i.conv2d(f), conv),
    "conv2d, stride 2": (lambda i, f: i.conv2d(f, stride=2, padding=1), lambda i, f: conv(i, f, 2, 1)),
    "max_pool2d": (lambda i, f: i.max_pool2d(2), lambda i, f: i.reshape(2, 3, 6, 2, 6, 2).max((3, 5))),
    "avg_pool2d": (lambda i, f: i.avg_pool2d(2), lambda i, f: i.reshape(2, 3, 6, 2, 6, 2).mean((3, 5))),
}, image, filters, bound=1e-4)
for size in (16, 65, 128):
    a, b = draw(size, size), draw(size, size)
    compare(f"matmul {size}", (Tensor(a) @ Tensor(b)).numpy(), a @ b, 1e-4)
    half = (Tensor(a).half() @ Tensor(b).half()).float().numpy()
    compare(f"matmul {size} in half", half, a.astype(np.float16).astype(np.float32) @ b.astype(np.float16).astype(np.float32), 4e-3)

# Gradients against central differences of the same loss in NumPy.
w = draw(17, 4)


def loss(w):
    return (np.tanh(x.astype(np.float64) @ w) ** 2).sum()


tensor = Tensor(w)
(gradient,) = ((Tensor(x) @ tensor).tanh() ** 2).sum().gradient(tensor)
numeric = np.zeros_like(w, dtype=np.float64)
for index in np.ndindex(*w.shape):
    step = np.zeros_like(w, dtype=np.float64)
    step[index] = 1e-5
    numeric[index] = (loss(w + step) - loss(w - step)) / 2e-5
compare("backward", gradient.numpy(), numeric, 1e-4)


class Network:
    """A convolution and two linear layers over images of 28x28."""

    def __init__(self):
        self.conv, self.first, self.second = nn.Conv2d(1, 8, 5, stride=2), nn.Linear(8 * 12 * 12, 32), nn.Linear(32, 10)

    def __call__(self, x):
        return self.second(self.first(self.conv(x).relu().flatten(1)).relu())


Tensor.manual_seed(3)
network = Network()
optimiser = nn.optim.Adam(nn.state.get_parameters(network), lr=3e-3)
images, labels = Tensor(draw(16, 1, 28, 28)), Tensor(rng.integers(0, 10, 16, dtype=np.int32))


@TinyJit
def step(images, labels):
    optimiser.zero_grad()
    loss = network(images).sparse_categorical_crossentropy(labels).backward()
    return loss.realize(*optimiser.schedule_step())


# From the third call on the steps are one CUDA graph.
with Context(TRAINING=1):
    losses = [step(images, labels).item() for _ in range(6)]
compare("training", np.array([losses[-1] < 0.7 * losses[0], np.isfinite(losses).all()]), np.array([True, True]))

print(f"tinygrad: {done} operations, {len(failed)} wrong; losses {losses[0]:.3f} to {losses[-1]:.3f}")
for line in failed:
    print("  " + line)
sys.exit(1 if failed or done < 100 else 0)

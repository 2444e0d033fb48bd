"""Times PyTorch's kernels on the shapes of the kernel benchmark: cuBLAS products in f16, fused AdamW, a copy.

    python3 benches/peers/torch_kernels.py [--quick] [--filter TEXT] [--out FILE.md] [--json FILE.json]

The method is that of `cargo bench --bench kernels`: CUDA events, the median of the runs, random data, a write of more than
the L2 cache before each run. Products have f32 sums throughout (no reduced-precision reduction), as ours do. The names of
the rows are those of our table.
"""
import argparse
import json
import pathlib
import statistics

# The encoder of `base` (src/model/presets.rs, tests/golden/model.py): side of a frame, stem, (channels, blocks, stride).
SIDE, STEM = 64, 64
STAGES = [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 1, 1)]
FRAMES = 16 * 10
PARAMETERS = 230_046_080


def convolutions():
    """(name, m, k, n) of each convolution as a product: a row of A is the patch under a pixel of the output."""
    found = []

    def add(side, cin, cout, kernel):
        row = (f"conv {kernel}×{kernel} {cin}→{cout}, {side}×{side}", FRAMES * side * side, kernel * kernel * cin, cout)
        if row not in found:
            found.append(row)

    add(SIDE // 2, 3, STEM, 7)
    channels, side = STEM, SIDE // 4
    for cout, _, stride in STAGES:
        side //= stride
        add(side, channels, cout, 3)
        add(side, cout, cout, 3)
        channels = cout
    return found


def products():
    """(name, m, k, n) with B stored as [n, k], a linear layer's weight."""
    return [
        ("square", 4096, 4096, 4096),
        ("linear 16384→1024", FRAMES, 16384, 1024),
        ("linear 1024→16384", FRAMES, 1024, 16384),
        ("linear 1024→4096", FRAMES, 1024, 4096),
        ("linear 2048→1024", FRAMES, 2048, 1024),
        *convolutions(),
    ]


def main():
    parse = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parse.add_argument("--quick", action="store_true", help="7 runs instead of 30")
    parse.add_argument("--filter", default="", help="only rows whose name has this in it")
    parse.add_argument("--out", type=pathlib.Path, help="write the table to a file too")
    parse.add_argument("--json", type=pathlib.Path, help="write the numbers as JSON")
    args = parse.parse_args()

    import torch
    import torch.nn.functional as F

    if not torch.cuda.is_available():
        raise SystemExit("error: PyTorch finds no CUDA device")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    device, runs = torch.device("cuda"), 7 if args.quick else 30
    properties = torch.cuda.get_device_properties(device)
    flush = torch.empty(max(2 * getattr(properties, "L2_cache_size", 0), 1 << 28), dtype=torch.uint8, device=device)

    def seconds(body):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        times = []
        for run in range(runs + 3):
            flush.zero_()
            start.record()
            body()
            end.record()
            end.synchronize()
            if run >= 3:
                times.append(start.elapsed_time(end) / 1e3)
        return statistics.median(times)

    def halves(*shape):
        return torch.rand(shape, device=device, dtype=torch.float32).mul_(2).sub_(1).half()

    rows = []

    def row(name, shape, size, operations, body):
        """Sizes in bytes read and written; `body` is what is timed."""
        if args.filter not in name:
            return
        time = seconds(body)
        rows.append({"kernel": name, "shape": shape, "seconds": time, "bytes": size, "operations": operations})
        print(f"| {name} | {shape} | {time * 1e6:.1f} | {size / time / 1e9:.0f} | {operations / time / 1e12:.2f} |", flush=True)

    heading = (
        f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) on {properties.name}. Median of {runs} runs by CUDA events, "
        "L2 flushed, random data.\n\n| kernel | shape | time, µs | GB/s | TFLOP/s |\n| --- | --- | --- | --- | --- |"
    )
    print(heading, flush=True)
    with torch.no_grad():
        from_, to = (torch.randint(256, (1 << 30,), dtype=torch.uint8, device=device) for _ in range(2))
        row("copy", "1 GiB", 2 << 30, 0, lambda: to.copy_(from_))
        del from_, to
        for name, m, k, n in products():
            a, w = halves(m, k), halves(n, k)
            row(name, f"{m}×{n}×{k}", 2 * (m * k + n * k + m * n), 2 * m * n * k, lambda: torch.matmul(a, w.t()))
        a, b = halves(4096, 4096), halves(4096, 4096)
        row("square, B not transposed", "4096×4096×4096", 6 * 4096**2, 2 * 4096**3, lambda: torch.matmul(a, b))
        a, w, bias = halves(FRAMES, 1024), halves(4096, 1024), halves(4096)
        size = 2 * (FRAMES * 1024 + 4096 * 1024 + FRAMES * 4096 + 4096)
        fused = lambda: F.silu(F.linear(a, w, bias))  # noqa: E731
        row("linear 1024→4096, bias, silu", f"{FRAMES}×4096×1024", size, 2 * FRAMES * 4096 * 1024, fused)
        x = halves(160 * 64 * 64 * 64)
        row("silu f16", str(x.numel()), 4 * x.numel(), x.numel(), lambda: F.silu(x))
        del a, b, w, bias, x
    # One flat parameter: nothing is lost between tensors. It reads p, m, v, g and writes p, m, v.
    parameter = torch.nn.Parameter(torch.rand(PARAMETERS, device=device))
    parameter.grad = torch.rand(PARAMETERS, device=device).mul_(2).sub_(1)
    optimiser = torch.optim.AdamW([parameter], lr=1e-4, weight_decay=1e-4, fused=True)
    row("AdamW, f32 gradients", str(PARAMETERS), 28 * PARAMETERS, 15 * PARAMETERS, optimiser.step)

    cells = [
        f"| {r['kernel']} | {r['shape']} | {r['seconds'] * 1e6:.1f} | {r['bytes'] / r['seconds'] / 1e9:.0f} "
        f"| {r['operations'] / r['seconds'] / 1e12:.2f} |"
        for r in rows
    ]
    if args.out:
        args.out.write_text("\n".join([heading, *cells, ""]))
    if args.json:
        about = {"torch": torch.__version__, "cuda": torch.version.cuda, "device": properties.name, "runs": runs}
        args.json.write_text(json.dumps({**about, "rows": rows}, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

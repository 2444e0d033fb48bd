"""Times PyTorch's eager training step of the same model: forward, L1 loss, backward, AdamW.

    python benches/peers/torch_step.py --model-dir DIR [--preset tiny] [--batch 16] [--steps 12] [--threads 2]

DIR holds model.py, the reference model. Prints one JSON object with the fields of the `step` benchmark.
"""
import argparse
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

parse = argparse.ArgumentParser()
parse.add_argument("--model-dir", required=True)
parse.add_argument("--preset", default="tiny")
parse.add_argument("--batch", type=int, default=16)
parse.add_argument("--steps", type=int, default=12)
parse.add_argument("--threads", type=int, default=2)
parse.add_argument("--channels-last", action="store_true", help="try PyTorch's NHWC layout")
args = parse.parse_args()

sys.path.insert(0, args.model_dir)
from model import PRESETS, Predictor  # noqa: E402

torch.set_num_threads(args.threads)
torch.manual_seed(0)
spec = PRESETS[args.preset]
model = Predictor(**spec).train()
if args.channels_last:
    model = model.to(memory_format=torch.channels_last)
size = spec["size"]
frames = torch.rand(args.batch, 10, 3, size, size)
target = torch.rand(args.batch, 2, 3, size, size)
optimiser = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=1e-4)
times = []
for step in range(args.steps + 2):
    start = time.perf_counter()
    optimiser.zero_grad(set_to_none=True)
    loss = F.l1_loss(model(frames), target)
    loss.backward()
    optimiser.step()
    if step >= 2:
        times.append(time.perf_counter() - start)
times.sort()
median = times[len(times) // 2]
print(json.dumps({
    "preset": args.preset, "batch": args.batch, "threads": args.threads, "torch": torch.__version__,
    "seconds": median, "samples_per_second": args.batch / median,
    "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
}))

"""One rank of Gloo's all-reduce, for benches/ranks, which starts it and says what to measure.

    gloo_all_reduce.py RANK RANKS PORT

Reads lines `BYTES REPEATS` and answers each with the seconds of every repeat.
"""

import sys
import time

import torch
import torch.distributed as dist


def main():
    rank, ranks, port = map(int, sys.argv[1:])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        size, repeats = map(int, line.split())
        source = torch.rand(size // 4, generator=torch.Generator().manual_seed(rank)) - 0.5
        data, seconds = torch.empty_like(source), []
        for _ in range(repeats):
            data.copy_(source)
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(data)
            seconds.append(time.perf_counter() - start)
        print(*seconds, flush=True)
    dist.destroy_process_group()


main()

// What a warp's lanes tell one another: votes, matches, compaction of what passes a test, shuffles of each kind.

/// Keeps the elements that are not 0, in any order; *count says how many.
extern "C" __global__ void compact(const int* x, int* y, unsigned* count, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v = x[i];
    if (v != 0) {
        unsigned active = __activemask();
        unsigned lane = threadIdx.x & 31, leader = __ffs(active) - 1, base;
        if (lane == leader) base = atomicAdd(count, __popc(active));
        base = __shfl_sync(active, base, leader);
        y[base + __popc(active & ((1u << lane) - 1))] = v;
    }
}

/// For each lane: ballot, any, all of x > 0; the mask of lanes with the same x; whether all are the same.
extern "C" __global__ void votes(const int* x, unsigned* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, v = x[i], same;
    out[i * 5] = __ballot_sync(0xffffffff, v > 0);
    out[i * 5 + 1] = __any_sync(0xffffffff, v > 0);
    out[i * 5 + 2] = __all_sync(0xffffffff, v > 0);
    out[i * 5 + 3] = __match_any_sync(0xffffffff, v);
    unsigned mask = __match_all_sync(0xffffffff, v, &same);
    out[i * 5 + 4] = mask ^ same;
}

/// Butterfly, rotation by index, up and down within groups of 8, and an integer reduction.
extern "C" __global__ void shuffles(const int* x, int* out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x & 31, v = x[i];
    out[i * 5] = __shfl_xor_sync(0xffffffff, v, 5);
    out[i * 5 + 1] = __shfl_sync(0xffffffff, v, (lane + 3) & 31);
    out[i * 5 + 2] = __shfl_up_sync(0xffffffff, v, 2, 8);
    out[i * 5 + 3] = __shfl_down_sync(0xffffffff, v, 3, 8);
    out[i * 5 + 4] = __reduce_add_sync(0xffffffff, v);
}

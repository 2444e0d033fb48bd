// Inclusive prefix sums of a block, through shared memory (Hillis and Steele) and through shuffles.

/// y[i] = x[0] + … + x[i] within each block of 256.
extern "C" __global__ void scan_shared(const int* x, int* y, int n) {
    __shared__ int buffer[2][256];
    int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    int from = 0;
    buffer[from][t] = i < n ? x[i] : 0;
    __syncthreads();
    for (int offset = 1; offset < blockDim.x; offset *= 2) {
        int v = buffer[from][t];
        if (t >= offset) v += buffer[from][t - offset];
        buffer[1 - from][t] = v;
        from = 1 - from;
        __syncthreads();
    }
    if (i < n) y[i] = buffer[from][t];
}

/// The same, warp by warp.
extern "C" __global__ void scan_shuffle(const unsigned long long* x, unsigned long long* y, int n) {
    __shared__ unsigned long long totals[32];
    int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    unsigned long long v = i < n ? x[i] : 0;
    for (int offset = 1; offset < 32; offset *= 2) {
        unsigned long long other = __shfl_up_sync(0xffffffff, v, offset);
        if (lane >= offset) v += other;
    }
    if (lane == 31) totals[warp] = v;
    __syncthreads();
    for (int w = 0; w < warp; w++) v += totals[w];
    if (i < n) y[i] = v;
}

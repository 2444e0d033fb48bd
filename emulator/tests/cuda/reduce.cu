// Sums: through shared memory, through shuffles, and of a whole grid by the last block that is done.

/// partial[block] = Σ of the block's 2·blockDim elements. Dynamic shared memory: blockDim floats.
extern "C" __global__ void reduce_shared(const float* x, float* partial, int n) {
    extern __shared__ float sums[];
    unsigned t = threadIdx.x;
    unsigned i = blockIdx.x * blockDim.x * 2 + t;
    float sum = i < n ? x[i] : 0.0f;
    if (i + blockDim.x < n) sum += x[i + blockDim.x];
    sums[t] = sum;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) sums[t] += sums[t + half];
        __syncthreads();
    }
    if (t == 0) partial[blockIdx.x] = sums[0];
}

__device__ float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_down_sync(0xffffffff, v, offset);
    return v;
}

/// partial[block] = Σ of a grid-stride share of x, by shuffles; one float a warp in shared memory.
extern "C" __global__ void reduce_shuffle(const float* x, float* partial, int n) {
    __shared__ float warps[32];
    float sum = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    sum = warp_sum(sum);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) warps[warp] = sum;
    __syncthreads();
    if (warp == 0) {
        sum = lane < blockDim.x / 32 ? warps[lane] : 0.0f;
        sum = warp_sum(sum);
        if (lane == 0) partial[blockIdx.x] = sum;
    }
}

__device__ unsigned done;

/// *total = Σ x, in one launch: each block writes its partial sum, the last one adds them up in order.
extern "C" __global__ void reduce_last_block(const int* x, volatile int* partial, int* total, int n) {
    __shared__ int sums[256];
    __shared__ bool last;
    int sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sums[0];
        __threadfence();
        last = atomicInc(&done, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        int all = 0;
        for (int i = 0; i < gridDim.x; i++) all += partial[i];
        *total = all;
    }
}

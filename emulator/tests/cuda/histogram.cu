// Atomics: a histogram in shared memory that is then added to global memory, and one of each atomic operation.

extern "C" __global__ void histogram(const unsigned char* x, unsigned* bins, int n) {
    __shared__ unsigned local[256];
    for (int b = threadIdx.x; b < 256; b += blockDim.x) local[b] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[x[i]], 1u);
    __syncthreads();
    for (int b = threadIdx.x; b < 256; b += blockDim.x) {
        if (local[b] != 0) atomicAdd(&bins[b], local[b]);
    }
}

/// out[0..10]: sum, min, max, and, or, xor of x; its largest as signed; a 64-bit sum; a count by compare-and-swap; an
/// exchanged value; a float sum of whole numbers.
extern "C" __global__ void atomics(const unsigned* x, unsigned* out, unsigned long long* wide, float* real, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned v = x[i];
    atomicAdd(&out[0], v);
    atomicMin(&out[1], v);
    atomicMax(&out[2], v);
    atomicAnd(&out[3], v);
    atomicOr(&out[4], v);
    atomicXor(&out[5], v);
    atomicMax((int*)&out[6], (int)v);
    atomicMin((int*)&out[7], (int)v);
    atomicAdd(wide, (unsigned long long)v);
    unsigned seen = out[8], expected;
    do {
        expected = seen;
        seen = atomicCAS(&out[8], expected, expected + 1);
    } while (seen != expected);
    atomicExch(&out[9], 7u);
    atomicSub(&out[10], 1u);
    atomicAdd(real, (float)(v & 15));
}

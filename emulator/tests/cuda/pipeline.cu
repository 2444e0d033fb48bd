// y[i] = Σ of x over a sliding tile, with tiles brought in by asynchronous copies two stages ahead.

#include <cuda_pipeline.h>

/// Each block sums `tiles` tiles of 256 floats, element by element: y[block·256 + t] = Σ_k x[(block·tiles + k)·256 + t].
extern "C" __global__ void pipeline(const float* x, float* y, int tiles) {
    __shared__ __align__(16) float stage[3][256];
    const float* from = x + blockIdx.x * tiles * 256;
    int t = threadIdx.x;
    for (int k = 0; k < 2; k++) {
        if (k < tiles && t < 64) __pipeline_memcpy_async(&stage[k][t * 4], from + k * 256 + t * 4, 16);
        __pipeline_commit();
    }
    float sum = 0.0f;
    for (int k = 0; k < tiles; k++) {
        __pipeline_wait_prior(1);
        __syncthreads();
        if (k + 2 < tiles && t < 64) __pipeline_memcpy_async(&stage[(k + 2) % 3][t * 4], from + (k + 2) * 256 + t * 4, 16);
        __pipeline_commit();
        sum += stage[k % 3][t];
    }
    y[blockIdx.x * 256 + t] = sum;
}

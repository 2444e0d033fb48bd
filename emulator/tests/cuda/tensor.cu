// C = A·Bᵀ on tensor cores: one warp computes 16×8 of C. A is m×k, B n×k, both f16 (or bf16) and row by row.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

__device__ unsigned pair(const void* x, int index) { return ((const unsigned*)x)[index / 2]; }

/// Fragments straight from global memory; m a multiple of 16, n of 8, k of 16. Grid (n/8, m/16), 32 threads.
extern "C" __global__ void tensor_f16(const __half* a, const __half* b, float* c, int n, int k) {
    int group = threadIdx.x / 4, four = threadIdx.x % 4;
    int row = blockIdx.y * 16 + group, column = blockIdx.x * 8;
    float d[4] = {0, 0, 0, 0};
    for (int k0 = 0; k0 < k; k0 += 16) {
        int at = row * k + k0 + four * 2, bt = (column + group) * k + k0 + four * 2;
        unsigned a0 = pair(a, at), a1 = pair(a, at + 8 * k), a2 = pair(a, at + 8), a3 = pair(a, at + 8 * k + 8);
        unsigned b0 = pair(b, bt), b1 = pair(b, bt + 8);
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    }
    c[row * n + column + four * 2] = d[0];
    c[row * n + column + four * 2 + 1] = d[1];
    c[(row + 8) * n + column + four * 2] = d[2];
    c[(row + 8) * n + column + four * 2 + 1] = d[3];
}

/// bf16, with tiles brought through shared memory by ldmatrix. k is a multiple of 16.
extern "C" __global__ void tensor_bf16_ldmatrix(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int n, int k) {
    __shared__ __align__(16) __nv_bfloat16 at[16][16], bt[8][16];
    int lane = threadIdx.x, row = blockIdx.y * 16, column = blockIdx.x * 8;
    float d[4] = {0, 0, 0, 0};
    for (int k0 = 0; k0 < k; k0 += 16) {
        ((uint4*)at)[lane] = *(const uint4*)&a[(row + lane / 2) * k + k0 + lane % 2 * 8];
        if (lane < 16) ((uint4*)bt)[lane] = *(const uint4*)&b[(column + lane / 2) * k + k0 + lane % 2 * 8];
        __syncthreads();
        unsigned a0, a1, a2, a3, b0, b1;
        unsigned from = (unsigned)__cvta_generic_to_shared(&at[lane % 16][lane / 16 * 8]);
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(a0), "=r"(a1), "=r"(a2), "=r"(a3) : "r"(from) : "memory");
        from = (unsigned)__cvta_generic_to_shared(&bt[lane % 8][lane / 8 % 2 * 8]);
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(b0), "=r"(b1) : "r"(from) : "memory");
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
        __syncthreads();
    }
    int group = lane / 4, four = lane % 4;
    c[(row + group) * n + column + four * 2] = d[0];
    c[(row + group) * n + column + four * 2 + 1] = d[1];
    c[(row + group + 8) * n + column + four * 2] = d[2];
    c[(row + group + 8) * n + column + four * 2 + 1] = d[3];
}

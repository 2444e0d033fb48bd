// f16 in pairs, and bf16: y = max(a·x + b, 0), sums, comparisons, conversions.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

extern "C" __global__ void half_pairs(const __half2* x, const __half2* y, __half2* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    __half2 a = x[i], b = y[i];
    __half2* o = out + i * 7;
    o[0] = __hadd2(a, b);
    o[1] = __hmul2(a, b);
    o[2] = __hfma2(a, b, __floats2half2_rn(0.5f, -0.25f));
    o[3] = __hmax2(__hsub2(a, b), __float2half2_rn(0.0f));
    o[4] = __hneg2(__habs2(a));
    o[5] = __hgt2(a, b);
    o[6] = __halves2half2(__float2half_rn(__low2float(a) * 3.0f), __high2half(b));
}

extern "C" __global__ void half_functions(const __half* x, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    __half a = x[i];
    float* o = out + i * 5;
    o[0] = __half2float(a) * 2.0f;
    o[1] = (float)__half2int_rn(a) + (float)__half2uint_rz(__habs(a));
    o[2] = __half2float(__hdiv(a, __float2half(3.0f)));
    o[3] = __half2float(h2exp2(__half2half2(a)).x);
    o[4] = __half2float(hsqrt(__habs(a)));
}

extern "C" __global__ void bfloats(const __nv_bfloat162* x, const __nv_bfloat162* y, __nv_bfloat162* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    __nv_bfloat162 a = x[i], b = y[i];
    __nv_bfloat162* o = out + i * 3;
    o[0] = __hfma2(a, b, a);
    o[1] = __hmin2(a, b);
    o[2] = __floats2bfloat162_rn(__low2float(a) + __high2float(b), __high2float(a));
}

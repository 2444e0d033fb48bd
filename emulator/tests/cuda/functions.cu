// f32 library functions as nvcc expands them: sinf brings its slow path with a table in local memory.

extern "C" __global__ void functions(const float* x, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    float* o = out + i * 10;
    o[0] = expf(v * 0.01f);
    o[1] = sinf(v);
    o[2] = cosf(v);
    o[3] = logf(fabsf(v));
    o[4] = powf(fabsf(v), 0.37f);
    o[5] = tanhf(v * 0.01f);
    o[6] = sqrtf(fabsf(v));
    o[7] = 1.0f / v;
    o[8] = v / 3.7f;
    o[9] = erff(v * 0.1f);
}

extern "C" __global__ void rounding(const float* x, const float* y, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float a = x[i], b = y[i];
    float* o = out + i * 12;
    o[0] = __fadd_rd(a, b);
    o[1] = __fadd_ru(a, b);
    o[2] = __fmul_rz(a, b);
    o[3] = __fmaf_ru(a, b, 1.0f);
    o[4] = __fdiv_rd(a, b);
    o[5] = __fsqrt_ru(fabsf(a));
    o[6] = (float)__float2int_rd(a) + (float)__float2int_ru(b);
    o[7] = rintf(a) + floorf(b);
    o[8] = __saturatef(a);
    o[9] = fminf(a, b) - fmaxf(a, b);
    o[10] = copysignf(a, b);
    o[11] = (float)__float_as_int(a) + __uint2float_rd(__float_as_uint(b));
}

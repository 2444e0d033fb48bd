// target: compute_80
// options: --use_fast_math
// The approximate instructions, as --use_fast_math writes them: ex2, lg2, sin, cos, rcp, rsqrt, tanh, div.approx, .ftz.

extern "C" __global__ void fast(const float* x, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    float* o = out + i * 8;
    o[0] = expf(v);
    o[1] = sinf(v);
    o[2] = cosf(v);
    o[3] = logf(fabsf(v));
    o[4] = powf(fabsf(v), 1.5f);
    o[5] = tanhf(v);
    o[6] = rsqrtf(fabsf(v) + 1.0f);
    o[7] = v / (1.0f + expf(-v));
}

// f64: polynomial, root, division, conversions, and a library function.

extern "C" __global__ void doubles(const double* x, const double* y, double* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double a = x[i], b = y[i];
    double* o = out + i * 9;
    o[0] = fma(a, b, 1.0) - a * b;
    o[1] = a / b;
    o[2] = sqrt(fabs(a));
    o[3] = fmin(a, b) + 2.0 * fmax(a, b);
    o[4] = (double)(long long)(a * 1000.0) + (double)(float)b;
    o[5] = __dadd_ru(a, b) - __dadd_rd(a, b);
    o[6] = floor(a) + 10.0 * ceil(b) + 100.0 * rint(a) + 1000.0 * trunc(b);
    o[7] = exp(-fabs(a));
    o[8] = 1.0 / b + rsqrt(fabs(a) + 1.0);
}

// options: -lineinfo
// Memory from the top of the stack, variables that outlive a function, arrays of several dimensions, strings.

__device__ int weights[2][3][2] = {{{1, 2}, {3}}, {{4, 5}, {6, 7}, {8, 9}}};
__constant__ const char* words[3] = {"abc", "de", "fghi"};

__device__ __noinline__ int horner(int n, int by) {
    int* digits = static_cast<int*>(__builtin_alloca(n * sizeof(int)));
    for (int i = 0; i < n; i++) digits[i] = i * i + by;
    int sum = 0;
    for (int i = n - 1; i >= 0; i--) sum = sum * by + digits[i];
    return sum;
}

/// Many calls, each of which takes up to 256 bytes and gives them back.
extern "C" __global__ void digits(const int* n, int* y) {
    static __device__ int added[4] = {1, 2};
    static __constant__ float factors[2][2] = {{1.5f}, {2.5f, 3.5f}};
    int i = threadIdx.x, size = n[i], sum = 0;
    for (int round = 0; round < 200; round++) sum ^= horner((size + round) & 63, round + 2);
    y[i] = sum + added[size & 3] + weights[size & 1][i % 3][(i >> 1) & 1];
    y[i] += words[i % 3][1] + static_cast<int>(factors[size & 1][i & 1] * 2.0f);
}

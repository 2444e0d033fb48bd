// State spaces: an array in local memory, a table in constant memory, structs by value, vector loads, generic pointers.

__constant__ float weights[16] = {1, -2, 3, -4, 5, -6, 7, -8, 0.5f, -0.25f, 2, 4, 8, 16, 32, -64};
__device__ int table[4] = {10, 20, 30, 40};
__device__ const unsigned char letters[6] = "ptxas";

/// y[i] = x[i] sorted by insertion, 8 at a time, indexed by a key that the compiler does not know.
extern "C" __global__ void sort_local(const int* x, int* y, const int* key, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v[8];
    for (int j = 0; j < 8; j++) {
        int at = j, w = x[i * 8 + j];
        while (at > 0 && v[at - 1] > w) {
            v[at] = v[at - 1];
            at--;
        }
        v[at] = w;
    }
    y[i] = v[key[i] & 7];
}

/// y[i] = Σ weights[index]·x[…], table and letters.
extern "C" __global__ void constants(const int* index, const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int at = index[i];
    float sum = 0.0f;
    for (int j = 0; j < 4; j++) sum += weights[(at + j) & 15] * x[i];
    y[i] = sum + (float)table[at & 3] + (float)letters[at % 5];
}

template <int N>
struct Affine {
    float scale[N];
    short shift[N];
    char on;
};

/// y[i] = on ? scale[i % 5]·x[i] + shift[i % 5] : x[i]; the struct comes by value.
extern "C" __global__ void affine(const float* x, float* y, const Affine<5> f, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    y[i] = f.on ? f.scale[i % 5] * x[i] + (float)f.shift[i % 5] : x[i];
}

/// y = x + x reversed in fours, with 16-byte accesses, the read-only path and streaming stores.
extern "C" __global__ void vectors(const float4* __restrict__ x, float4* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float4 v = __ldg(&x[i]), w = __ldcs(&x[i]);
    __stcs(&y[i], make_float4(v.x + w.w, v.y + w.z, v.z + w.y, v.w + w.x));
}

__device__ __noinline__ float sum_of(const float* p, int n) {
    float sum = 0.0f;
    for (int j = 0; j < n; j++) sum += p[j];
    return sum;
}

/// The same function on global, shared and local memory.
extern "C" __global__ void generic(const float* x, float* y) {
    __shared__ float s[4];
    float l[4];
    int t = threadIdx.x;
    if (t < 4) s[t] = x[t] * 2.0f;
    for (int j = 0; j < 4; j++) l[j] = x[j] + (float)t;
    __syncthreads();
    y[t] = sum_of(t % 3 == 0 ? x : t % 3 == 1 ? s : l, 4);
}

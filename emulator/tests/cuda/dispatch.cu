// options: -lineinfo
// Calls that are known only as the kernel runs: virtual functions, a table of function pointers.

#include <new>

struct Shape {
    float size;
    __device__ Shape(float size) : size(size) {}
    __device__ virtual float area() const = 0;
    __device__ virtual float scaled(float by) const { return by * area(); }
};
struct Square : Shape {
    __device__ Square(float size) : Shape(size) {}
    __device__ float area() const override { return size * size; }
};
struct Disc : Shape {
    __device__ Disc(float size) : Shape(size) {}
    __device__ float area() const override { return 3.0f * size * size; }
    __device__ float scaled(float by) const override { return area() - by; }
};

/// Each thread makes an object, and asks that of its neighbour: the lanes of a warp call different functions.
extern "C" __global__ void shapes(const int* kinds, const float* sizes, float* out) {
    __shared__ __align__(16) char room[64][sizeof(Disc)];
    int i = threadIdx.x;
    if (kinds[i] & 1) new (room[i]) Disc(sizes[i]);
    else new (room[i]) Square(sizes[i]);
    __syncthreads();
    const Shape* shape = reinterpret_cast<const Shape*>(room[(i + 1) % blockDim.x]);
    out[2 * i] = shape->area();
    out[2 * i + 1] = shape->scaled(2.0f);
}

typedef int (*Step)(int, int);
__device__ __noinline__ int add(int a, int b) { return a + b; }
__device__ __noinline__ int subtract(int a, int b) { return a - b; }
__device__ __noinline__ int times(int a, int b) { return a * b; }
__device__ Step steps[4] = {add, subtract, times, add};

/// Each thread runs its own program of steps.
extern "C" __global__ void programs(const int* program, int length, const int* x, int* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, value = x[i];
    for (int at = 0; at < length; at++) value = steps[program[i * length + at] & 3](value, at + i);
    y[i] = value;
}

/// Chosen by another kernel, and called by this one.
extern "C" __global__ void choose(Step* chosen, int which) { *chosen = steps[which & 3]; }
extern "C" __global__ void call_chosen(const Step* chosen, int* y) { y[threadIdx.x] = (*chosen)(threadIdx.x, 7); }

/* An ordinary C program of the driver API, linked with -lcuda: y = a*x + y over a vector, then a product of two matrices.

       cc -o program program.c -L../../../target/libcuda -lcuda -lm
       LD_LIBRARY_PATH=target/libcuda ./program saxpy.ptx matrix_product.ptx
*/
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The few declarations of cuda.h that are needed here. */
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
int cuInit(unsigned);
int cuDeviceGet(CUdevice *, int);
int cuDeviceGetName(char *, int, CUdevice);
int cuCtxCreate_v2(CUcontext *, unsigned, CUdevice);
int cuCtxDestroy_v2(CUcontext);
int cuCtxSynchronize(void);
int cuGetErrorName(int, const char **);
int cuModuleLoad(CUmodule *, const char *);
int cuModuleUnload(CUmodule);
int cuModuleGetFunction(CUfunction *, CUmodule, const char *);
int cuMemAlloc_v2(CUdeviceptr *, size_t);
int cuMemFree_v2(CUdeviceptr);
int cuMemcpyHtoD_v2(CUdeviceptr, const void *, size_t);
int cuMemcpyDtoH_v2(void *, CUdeviceptr, size_t);
int cuLaunchKernel(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, void **, void **);
int cuEventCreate(CUevent *, unsigned);
int cuEventRecord(CUevent, CUstream);
int cuEventSynchronize(CUevent);
int cuEventElapsedTime(float *, CUevent, CUevent);
int cuEventDestroy_v2(CUevent);

static void check(int code, const char *call) {
    const char *name = "unknown";
    if (code == 0) return;
    cuGetErrorName(code, &name);
    fprintf(stderr, "%s: %s\n", call, name);
    exit(1);
}
#define CHECK(call) check(call, #call)

static float *randoms(size_t n) {
    float *values = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++) values[i] = (float)rand() / RAND_MAX - 0.5f;
    return values;
}

static CUdeviceptr upload(const float *values, size_t n) {
    CUdeviceptr address;
    CHECK(cuMemAlloc_v2(&address, n * sizeof(float)));
    CHECK(cuMemcpyHtoD_v2(address, values, n * sizeof(float)));
    return address;
}

static void vectors(const char *path) {
    unsigned n = 50000;
    float a = 1.5f, worst = 0, *x = randoms(n), *y = randoms(n), *found = malloc(n * sizeof(float));
    CUmodule module;
    CUfunction function;
    CHECK(cuModuleLoad(&module, path));
    CHECK(cuModuleGetFunction(&function, module, "saxpy"));
    CUdeviceptr dx = upload(x, n), dy = upload(y, n);
    void *arguments[] = {&dx, &dy, &a, &n};
    CHECK(cuLaunchKernel(function, (n + 255) / 256, 1, 1, 256, 1, 1, 0, NULL, arguments, NULL));
    CHECK(cuMemcpyDtoH_v2(found, dy, n * sizeof(float)));
    for (unsigned i = 0; i < n; i++) worst = fmaxf(worst, fabsf(found[i] - fmaf(a, x[i], y[i])));
    CHECK(cuMemFree_v2(dx));
    CHECK(cuMemFree_v2(dy));
    CHECK(cuModuleUnload(module));
    printf("saxpy: %u values, worst error %g\n", n, worst);
    if (worst != 0) exit(1);
}

static void matrices(const char *path) {
    unsigned n = 96;
    float worst = 0, time, *a = randoms(n * n), *b = randoms(n * n), *found = malloc(n * n * sizeof(float));
    CUmodule module;
    CUfunction function;
    CUevent start, end;
    CHECK(cuModuleLoad(&module, path));
    CHECK(cuModuleGetFunction(&function, module, "matrix_product"));
    CUdeviceptr da = upload(a, n * n), db = upload(b, n * n), dc;
    CHECK(cuMemAlloc_v2(&dc, n * n * sizeof(float)));
    CHECK(cuEventCreate(&start, 0));
    CHECK(cuEventCreate(&end, 0));
    void *arguments[] = {&dc, &da, &db, &n};
    CHECK(cuEventRecord(start, NULL));
    CHECK(cuLaunchKernel(function, n / 16, n / 16, 1, 16, 16, 1, 0, NULL, arguments, NULL));
    CHECK(cuEventRecord(end, NULL));
    CHECK(cuEventSynchronize(end));
    CHECK(cuEventElapsedTime(&time, start, end));
    CHECK(cuMemcpyDtoH_v2(found, dc, n * n * sizeof(float)));
    for (unsigned row = 0; row < n; row++)
        for (unsigned column = 0; column < n; column++) {
            float sum = 0;
            for (unsigned k = 0; k < n; k++) sum = fmaf(a[row * n + k], b[k * n + column], sum);
            worst = fmaxf(worst, fabsf(found[row * n + column] - sum));
        }
    CHECK(cuMemFree_v2(da));
    CHECK(cuMemFree_v2(db));
    CHECK(cuMemFree_v2(dc));
    CHECK(cuEventDestroy_v2(start));
    CHECK(cuEventDestroy_v2(end));
    CHECK(cuModuleUnload(module));
    printf("matrix product: %u x %u, worst error %g\n", n, n, worst);
    if (worst != 0 || time < 0) exit(1);
}

int main(int count, char **arguments) {
    CUdevice device;
    CUcontext context;
    char name[64];
    if (count != 3) {
        fprintf(stderr, "usage: program saxpy.ptx matrix_product.ptx\n");
        return 2;
    }
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDeviceGetName(name, sizeof name, device));
    printf("on %s\n", name);
    CHECK(cuCtxCreate_v2(&context, 0, device));
    vectors(arguments[1]);
    matrices(arguments[2]);
    CHECK(cuCtxSynchronize());
    CHECK(cuCtxDestroy_v2(context));
    return 0;
}

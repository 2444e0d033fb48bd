// Integers: 64-bit arithmetic and division, high products, bit tricks, narrow types, saturation.

typedef long long s64;
typedef unsigned long long u64;

extern "C" __global__ void wide(const s64* x, const s64* y, s64* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    s64 a = x[i], b = y[i];
    s64* o = out + i * 12;
    o[0] = a + b;
    o[1] = a * b;
    o[2] = a / b;
    o[3] = a % b;
    o[4] = (s64)((u64)a / (u64)b);
    o[5] = (s64)((u64)a % (u64)b);
    o[6] = __mul64hi(a, b);
    o[7] = (s64)__umul64hi(a, b);
    o[8] = a << (b & 63);
    o[9] = a >> (b & 63);
    o[10] = a < b ? a : b;
    o[11] = (a & b) ^ ~(a | 0xff);
}

extern "C" __global__ void bits(const unsigned* x, const unsigned* y, unsigned* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned a = x[i], b = y[i];
    unsigned* o = out + i * 20;
    o[0] = __popc(a);
    o[1] = __clz(a);
    o[2] = __brev(a);
    o[3] = __byte_perm(a, b, 0x5410);
    o[4] = __byte_perm(a, b, b & 0x7777);
    o[5] = __funnelshift_l(a, b, b & 31);
    o[6] = __funnelshift_rc(a, b, b & 63);
    o[7] = __ffs(a);
    o[8] = __umulhi(a, b);
    o[9] = __mulhi((int)a, (int)b);
    o[10] = __sad((int)a, (int)b, 5u);
    o[11] = __usad(a, b, 5u);
    o[12] = (a >> 5) & 0x3ff;
    o[13] = (unsigned)((int)(a << 9) >> 20);
    o[14] = __popcll((u64)a << 32 | b) + 100 * __clzll((u64)a << (b & 31));
    o[15] = (a & b) | (~a & 0x0f0f0f0f);
    o[16] = __mul24((int)a, (int)b);
    unsigned field;
    asm("bfi.b32 %0, %1, %2, 7, 11;" : "=r"(field) : "r"(a), "r"(b));
    o[17] = field;
    asm("bfe.s32 %0, %1, %2, 9;" : "=r"(field) : "r"(a), "r"(b & 31));
    o[18] = field;
    o[19] = __dp4a(a, b, 17u);
}

extern "C" __global__ void narrow(const signed char* x, const unsigned short* y, short* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    signed char a = x[i];
    unsigned short b = y[i];
    short* o = out + i * 6;
    o[0] = a * 3;
    o[1] = (short)(b >> 3);
    o[2] = (signed char)(a + b);
    o[3] = (unsigned char)(a - 1);
    o[4] = a < 0 ? (short)-b : (short)(b / 5);
    o[5] = (short)((unsigned char)a * (unsigned char)b);
}

/// Quotients by constants and by variables, signed and not.
extern "C" __global__ void divide(const int* x, const int* y, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int a = x[i], b = y[i];
    int* o = out + i * 8;
    o[0] = a / b;
    o[1] = a % b;
    o[2] = (int)((unsigned)a / (unsigned)b);
    o[3] = (int)((unsigned)a % (unsigned)b);
    o[4] = a / 10;
    o[5] = a % 1000;
    o[6] = (int)((unsigned)a / 641u);
    o[7] = a / 16;
}

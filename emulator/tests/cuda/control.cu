// Control flow: a switch, a jump table, loops whose lanes leave at different times, break and continue.

extern "C" __global__ void switches(const int* x, int* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v = x[i], r = 1;
    for (int j = 0; j < 3; j++) {
        switch (v % 16) {
            case 0: r += v * 3; break;
            case 1: r = __popc(r) ^ v; break;
            case 2: r = v / (r | 1); break;
            case 3: y[i + n] = r; break;
            case 4: r <<= 3; // and on
            case 5: r += 1000; break;
            case 6: r %= 13; break;
            case 7: while (r > 100) r /= 3; break;
            case 8: r = __clz(r); break;
            case 9: y[i + n] += r >> 2; break;
            case 10: r = ~v; break;
            case 11: r ^= y[i] + 1; break;
            case 12: return;
            default: r = 42; break;
        }
        v = v / 2 + 5;
    }
    y[i] = r;
}

/// y[i] = 3·x[i], x[i] − 7, x[i]² or −1 as i mod 4 says, by an indexed branch. nvcc makes none of a switch of its own accord.
extern "C" __global__ void jump_table(const int* x, int* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v = x[i], r;
    asm volatile(
        "{\n"
        "    table: .branchtargets zero, one, two, three;\n"
        "    brx.idx %2, table;\n"
        "zero:\n"
        "    mul.lo.s32 %0, %1, 3;\n"
        "    bra.uni done;\n"
        "one:\n"
        "    sub.s32 %0, %1, 7;\n"
        "    bra.uni done;\n"
        "two:\n"
        "    mul.lo.s32 %0, %1, %1;\n"
        "    bra.uni done;\n"
        "three:\n"
        "    mov.s32 %0, -1;\n"
        "done:\n"
        "}" : "=r"(r) : "r"(v), "r"(i & 3));
    y[i] = r;
}

/// steps[i] = length of the Collatz sequence from x[i] to 1.
extern "C" __global__ void collatz(const unsigned* x, unsigned* steps, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        unsigned long long v = x[i];
        unsigned count = 0;
        while (v > 1) {
            v = v & 1 ? 3 * v + 1 : v / 2;
            count++;
        }
        steps[i] = count;
    }
}

/// y[i] = how many primes below x[i], by trial division: nested loops with break and continue.
extern "C" __global__ void primes(const unsigned* x, unsigned* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned count = 0;
    for (unsigned p = 2; p < x[i]; p++) {
        if (p > 2 && p % 2 == 0) continue;
        bool prime = true;
        for (unsigned d = 3; d * d <= p; d += 2) {
            if (p % d == 0) {
                prime = false;
                break;
            }
        }
        if (prime) count++;
    }
    y[i] = count;
}

// Control flow: a switch that becomes a jump table, loops whose lanes leave at different times, break and continue.

extern "C" __global__ void jump_table(const int* x, int* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int v = x[i], r;
    switch (v & 15) {
        case 0: r = v * 3; break;
        case 1: r = v ^ 0x55; break;
        case 2: r = v / 7; break;
        case 3: r = -v; break;
        case 4: r = v << 3; // and on
        case 5: r = v + 1000; break;
        case 6: r = v % 13; break;
        case 7: r = v * v; break;
        case 8: r = __popc(v); break;
        case 9: r = v >> 2; break;
        case 10: r = ~v; break;
        case 11: r = y[i] + 1; break;
        default: r = 42; break;
    }
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

// options: -Xcicc -jump-table-density=1
// A jump table that nvcc makes of a switch; the option is what makes it do so.

/// Each thread runs its own program: a is the accumulator, b a second register, y[i] a word of memory.
extern "C" __global__ void machine(const unsigned char* code, int length, const int* x, int* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, a = x[i], b = i;
    y[i] = 0;
    for (int at = 0, steps = 0; at < length && steps < 100; steps++) {
        switch (code[i * length + at++]) {
            case 0: a += b; break;
            case 1: a -= b; break;
            case 2: a *= 3; break;
            case 3: b ^= a; break;
            case 4: a = __popc(a) + y[i]; break;
            case 5: { int t = a; a = b; b = t; break; }
            case 6: y[i] = a; break;
            case 7: if (a & 1) at++; break;
            case 8: b = a >> 3; break;
            case 9: at = length; break;
            case 10: a = a > b ? a : b; break;
            case 11: if (at > 2 && (a & 3) == 0) at -= 2; a++; break;
            default: a = ~a;
        }
    }
    y[i] = a * 31 + b;
}

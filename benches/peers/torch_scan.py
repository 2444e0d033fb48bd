"""The selective scan of Mamba (Gu & Dao 2023) for PyTorch in Triton, forward and backward.

    y = (scan(u, softplus(dt + bias), A, B, C) + D u) silu(z)
    h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t,  scan_t = C_t h_t

One program has one sequence and BLOCK channels with all their states, and walks the steps. States and sums are f32; the
rest is read and written in the dtype it has. The backward keeps the states of up to CHUNK steps in registers, recomputed from
the chunk's first, which the forward saves only where a sequence is longer than a chunk. No atomics: what several
programs add to goes to memory as parts that PyTorch sums, so the same inputs give the same bits.
"""
import torch
import triton
import triton.language as tl

BLOCK, CHUNK, WARPS = 32, 12, 4


@triton.jit
def softplus(x):
    """log(1 + e^x); x itself above 20, as PyTorch has it, and four terms of the series where 1 + e^x would round."""
    e = tl.exp(tl.minimum(x, 20.0))
    series = e * (1.0 - e * (0.5 - e * (0.33333334 - e * 0.25)))
    return tl.where(x > 20.0, x, tl.where(e < 0.03, series, tl.log(1.0 + e)))


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def scan_forward(
    u, dt, a, b, c, d, z, bias, y, starts, row_u, row_dt, row_b, row_c, row_z, steps, chunks, channels, states,
    STATES: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, SAVE: tl.constexpr,
):
    """u, dt, z, y [B, steps, channels], b, c [B, steps, states], all with rows of their own; starts [B, chunks, channels, states]."""
    sequence = tl.program_id(1)
    j = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    has_j, has_n = j < channels, n < states
    has = has_j[:, None] & has_n[None, :]
    at = j[:, None] * states + n[None, :]
    decay = tl.load(a + at, has, 0.0)
    skip, shift = tl.load(d + j, has_j, 0.0), tl.load(bias + j, has_j, 0.0)
    h = tl.zeros([BLOCK, STATES], tl.float32)
    for t in range(steps):
        if SAVE:  # noqa: SIM102, decided when it compiles
            if t % CHUNK == 0:
                tl.store(starts + (sequence * chunks + t // CHUNK) * channels * states + at, h, has)
        row = sequence * steps + t
        u_t = tl.load(u + row * row_u + j, has_j, 0.0).to(tl.float32)
        z_t = tl.load(z + row * row_z + j, has_j, 0.0).to(tl.float32)
        delta = softplus(tl.load(dt + row * row_dt + j, has_j, 0.0).to(tl.float32) + shift)
        b_t = tl.load(b + row * row_b + n, has_n, 0.0).to(tl.float32)
        c_t = tl.load(c + row * row_c + n, has_n, 0.0).to(tl.float32)
        h = tl.exp(delta[:, None] * decay) * h + (delta * u_t)[:, None] * b_t[None, :]
        y_t = tl.sum(h * c_t[None, :], 1) + skip * u_t
        tl.store(y + row * channels + j, y_t * z_t * sigmoid(z_t), has_j)


@triton.jit
def scan_backward(
    u, dt, a, b, c, d, z, bias, dy, starts, du, ddt, dz, da, db, dc, dd, dbias,
    row_u, row_dt, row_b, row_c, row_z, row_dy, steps, chunks, channels, states,
    STATES: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, SAVE: tl.constexpr,
):
    """Parts: da [B, channels, states], dd and dbias [B, channels], db and dc [blocks of channels, B, steps, states]."""
    block, sequence, sequences = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    j = block * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, STATES)
    has_j, has_n = j < channels, n < states
    has = has_j[:, None] & has_n[None, :]
    at = j[:, None] * states + n[None, :]
    decay = tl.load(a + at, has, 0.0)
    skip, shift = tl.load(d + j, has_j, 0.0), tl.load(bias + j, has_j, 0.0)
    g = tl.zeros([BLOCK, STATES], tl.float32)
    da_sum = tl.zeros([BLOCK, STATES], tl.float32)
    dd_sum = tl.zeros([BLOCK], tl.float32)
    dbias_sum = tl.zeros([BLOCK], tl.float32)
    for chunks_done in range(chunks):
        chunk = chunks - 1 - chunks_done
        h = tl.zeros([BLOCK, STATES], tl.float32)
        if SAVE:
            h = tl.load(starts + (sequence * chunks + chunk) * channels * states + at, has, 0.0)
        before = ()
        for i in tl.static_range(CHUNK):
            t = chunk * CHUNK + i
            in_j = j < tl.where(t < steps, channels, 0)
            in_n = n < tl.where(t < steps, states, 0)
            row = sequence * steps + t
            u_t = tl.load(u + row * row_u + j, in_j, 0.0).to(tl.float32)
            raw = tl.load(dt + row * row_dt + j, in_j, 0.0).to(tl.float32) + shift
            b_t = tl.load(b + row * row_b + n, in_n, 0.0).to(tl.float32)
            delta = softplus(raw)
            before = before + (h,)
            h = tl.exp(delta[:, None] * decay) * h + (delta * u_t)[:, None] * b_t[None, :]
        for k in tl.static_range(CHUNK):
            t = chunk * CHUNK + CHUNK - 1 - k
            in_j = j < tl.where(t < steps, channels, 0)
            in_n = n < tl.where(t < steps, states, 0)
            row = sequence * steps + t
            u_t = tl.load(u + row * row_u + j, in_j, 0.0).to(tl.float32)
            z_t = tl.load(z + row * row_z + j, in_j, 0.0).to(tl.float32)
            dy_t = tl.load(dy + row * row_dy + j, in_j, 0.0).to(tl.float32)
            raw = tl.load(dt + row * row_dt + j, in_j, 0.0).to(tl.float32) + shift
            b_t = tl.load(b + row * row_b + n, in_n, 0.0).to(tl.float32)
            c_t = tl.load(c + row * row_c + n, in_n, 0.0).to(tl.float32)
            delta = softplus(raw)
            factor = tl.exp(delta[:, None] * decay)
            kept = factor * before[CHUNK - 1 - k]
            h = kept + (delta * u_t)[:, None] * b_t[None, :]
            y_t = tl.sum(h * c_t[None, :], 1) + skip * u_t
            gate = sigmoid(z_t)
            tl.store(dz + row * channels + j, dy_t * y_t * gate * (1.0 + z_t * (1.0 - gate)), in_j)
            dy_t = dy_t * z_t * gate
            # g is the gradient at h_t. Steps past the end come first, while it is still 0, and add nothing.
            g += dy_t[:, None] * c_t[None, :]
            dx = tl.sum(g * b_t[None, :], 1)
            draw = (tl.sum(g * decay * kept, 1) + u_t * dx) * sigmoid(raw)
            tl.store(du + row * channels + j, dy_t * skip + delta * dx, in_j)
            tl.store(ddt + row * channels + j, draw, in_j)
            part = ((block * sequences + sequence) * steps + t) * states + n
            tl.store(db + part, tl.sum(g * (delta * u_t)[:, None], 0), in_n)
            tl.store(dc + part, tl.sum(h * dy_t[:, None], 0), in_n)
            da_sum += g * delta[:, None] * kept
            dd_sum += dy_t * u_t
            dbias_sum += draw
            g = g * factor
    tl.store(da + sequence * channels * states + at, da_sum, has)
    tl.store(dd + sequence * channels + j, dd_sum, has_j)
    tl.store(dbias + sequence * channels + j, dbias_sum, has_j)


def rows(x):
    """x [B, L, W] itself where its rows are evenly apart and dense, which is all the kernels ask; else a copy that is so."""
    even = x.stride(2) == 1 and x.stride(0) == x.size(1) * x.stride(1)
    return x if even else x.contiguous()


class SelectiveScan(torch.autograd.Function):
    """u, dt, z [B, L, channels] and b, c [B, L, states] in any float dtype; a [channels, states], d and bias [channels] in f32."""

    @staticmethod
    def forward(ctx, u, dt, a, b, c, d, z, bias):
        u, dt, b, c, z = (rows(x) for x in (u, dt, b, c, z))
        a, d, bias = (x.contiguous() for x in (a, d, bias))
        (batch, steps, channels), states = u.shape, a.shape[1]
        chunks = triton.cdiv(steps, CHUNK)
        chunk, save = triton.cdiv(steps, chunks), chunks > 1
        y = torch.empty((batch, steps, channels), dtype=u.dtype, device=u.device)
        starts = torch.empty((batch, chunks, channels, states), dtype=torch.float32, device=u.device) if save else a
        scan_forward[(triton.cdiv(channels, BLOCK), batch)](
            u, dt, a, b, c, d, z, bias, y, starts,
            u.stride(1), dt.stride(1), b.stride(1), c.stride(1), z.stride(1), steps, chunks, channels, states,
            STATES=triton.next_power_of_2(states), BLOCK=BLOCK, CHUNK=chunk, SAVE=save, num_warps=WARPS,
        )
        ctx.save_for_backward(u, dt, a, b, c, d, z, bias, starts)
        ctx.chunk, ctx.chunks = chunk, chunks
        return y

    @staticmethod
    def backward(ctx, dy):
        u, dt, a, b, c, d, z, bias, starts = ctx.saved_tensors
        (batch, steps, channels), states = u.shape, a.shape[1]
        dy = rows(dy)
        du, ddt, dz = (torch.empty((batch, steps, channels), dtype=x.dtype, device=u.device) for x in (u, dt, z))
        blocks = triton.cdiv(channels, BLOCK)

        def part(*shape):
            return torch.empty(shape, dtype=torch.float32, device=u.device)

        da, dd, dbias = part(batch, channels, states), part(batch, channels), part(batch, channels)
        db, dc = part(blocks, batch, steps, states), part(blocks, batch, steps, states)
        scan_backward[(blocks, batch)](
            u, dt, a, b, c, d, z, bias, dy, starts, du, ddt, dz, da, db, dc, dd, dbias,
            u.stride(1), dt.stride(1), b.stride(1), c.stride(1), z.stride(1), dy.stride(1), steps, ctx.chunks, channels, states,
            STATES=triton.next_power_of_2(states), BLOCK=BLOCK, CHUNK=ctx.chunk, SAVE=ctx.chunks > 1, num_warps=WARPS,
        )
        db, dc = db.sum(0).to(b.dtype), dc.sum(0).to(c.dtype)
        return du, ddt, da.sum(0), db, dc, dd.sum(0), dz, dbias.sum(0)


def triton_scan(u, dt, a, b, c, d, z, bias):
    return SelectiveScan.apply(u, dt, a, b, c, d, z, bias)

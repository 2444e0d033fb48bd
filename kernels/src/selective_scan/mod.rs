//! Mamba's selective scan (Gu & Dao 2023, arXiv 2312.00752, algorithm 2), fused with the operations around it in the
//! model, forward and backward.
//!
//! For each sequence, channel d and state n, with h₋₁ = 0:
//!
//! | | forward | option |
//! | --- | --- | --- |
//! | step size | Δ_t = softplus(delta_t + bias) | [`softplus`](SelectiveScan::softplus), [`dt_bias`](SelectiveScan::dt_bias) |
//! | decay | A = −exp(A_log) | [`log_a`](SelectiveScan::log_a) |
//! | states | h_t = exp(Δ_t·A)·h_{t−1} + Δ_t·u_t·B_t | |
//! | output | s_t = Σ_n C_t·h_t + D·u_t | [`skip`](SelectiveScan::skip) |
//! | gate | y_t = s_t·silu(z_t) | [`gate`](SelectiveScan::gate) |
//!
//! Backward, with g_t = dy_t·silu(z_t) and λ_t = C_t·g_t + exp(Δ_{t+1}·A)·λ_{t+1}, the gradient that arrives at h_t, and
//! e_t = λ_t·exp(Δ_t·A)·h_{t−1}:
//!
//! dz_t = dy_t·s_t·silu′(z_t), du_t = D·g_t + Δ_t·Σ_n λ_t·B_t, dΔ_t = Σ_n A·e_t + u_t·Σ_n λ_t·B_t,
//! ddelta_t = dΔ_t·σ(delta_t + bias), dbias = Σ ddelta, dA = Σ Δ_t·e_t, dA_log = A·dA, dB_t = Σ_d λ_t·Δ_t·u_t,
//! dC_t = Σ_d g_t·h_t, dD = Σ g_t·u_t.
//!
//! # Layout
//! u, delta, z, y [B, L, D] and B, C [B, L, N] of the element type T, their gradients too; A or A_log [D, N], D [D] and
//! bias [D] in f32, their gradients too. z may be half of a wider matrix, and B and C columns of one
//! ([`z_row`](SelectiveScan::z_row), [`bc_row`](SelectiveScan::bc_row)), so that no projection has to be split. States,
//! exponentials and sums are in f32; f16 results are rounded once. A gated output beyond f16's 65,504 becomes infinite,
//! so that a finite check detects it. No output may overlap an input.
//!
//! # Threads
//! The recurrence is sequential in time; sequences, channels and states run in parallel. A thread has S = 4 states of
//! one or two channels, so P = N/4 lanes share a channel, and a warp has 16 channels of the model's 16 states in f16:
//! each of its accesses covers whole sectors. Work per channel and step (softplus, gate, skip, stores) would be
//! repeated P times. Instead each lane of a channel takes one of P steps: the loads of P steps are one access, and the
//! scan gets Δ_t and Δ_t·u_t from the step's lane by a shuffle. Sums over states use the opposite direction:
//! [`Asm::lanes_scatter`](crate::ptx::Asm::lanes_scatter) leaves the sum of each step in the step's lane.
//!
//! # Bytes and operations
//! Forward moves 4 elements per channel and step (u, delta, z, y): 8 bytes in f16 for N exponentials and about 6·N
//! other operations, 14 operations per byte with 16 states. Exponentials bound it: at 16 per cycle and multiprocessor,
//! those of `base` (16 × 10 × 2048 × 16) take at least 1.4 µs on an H100, its bytes 0.8 µs. So A is multiplied by log₂
//! e once, and each exponential is one instruction. Backward moves 7 elements (u, delta, z, dy, du, ddelta, dz), for
//! 2·N exponentials and about 22·N operations. It holds the states in registers, 96 per thread: 12 steps of the model
//! in f16, 24 in f32. Longer sequences are cut into chunks; a forward run over them first stores the states at the
//! beginning of each chunk.
//!
//! # Order of summation
//! There are no atomics: sums over channels (dB, dC), and over sequences (dA, dD, dbias), use a workspace, and a second
//! kernel adds the parts in order. Every run gives the same bits.

mod backward;
mod finish;
mod forward;
mod layout;
mod thread;

use layout::{Layout, Workspace};

use crate::{
    Error, Kernel, Plan, Result, Target,
    ptx::{F16, F32},
    span::Real,
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "selective_scan";

/// Most states per channel: eight per lane.
const MOST_STATES: u32 = 256;

/// Specification of a selective scan: its sizes, and the operations fused into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SelectiveScan {
    /// Number of sequences B, up to 65,535.
    pub batch: u32,
    /// Steps per sequence, L.
    pub length: u32,
    /// Number of channels D of the mixer.
    pub channels: u32,
    /// States per channel, N, up to 256.
    pub states: u32,
    /// Whether Δ is the softplus of delta instead of delta itself.
    pub softplus: bool,
    /// Whether a bias of [D] is added to delta first.
    pub dt_bias: bool,
    /// Whether A_log is given, A = −exp(A_log), instead of A itself.
    pub log_a: bool,
    /// Whether D·u is added.
    pub skip: bool,
    /// Whether the output is multiplied by silu(z).
    pub gate: bool,
    /// Elements from one row of z (and of dz) to the next: D, or the width of the matrix that contains these columns.
    /// If both are even, z must begin at an even element.
    pub z_row: u32,
    /// Elements from one row of B (and of C, dB, dC) to the next: N, or the width of the matrix that contains these
    /// columns. If 2 or 4 divides both, they must begin at a multiple of that.
    pub bc_row: u32,
}

impl SelectiveScan {
    /// The operator on its own: Δ and A given, with D, no gate.
    pub fn plain(batch: u32, length: u32, channels: u32, states: u32) -> Self {
        Self {
            batch,
            length,
            channels,
            states,
            softplus: false,
            dt_bias: false,
            log_a: false,
            skip: true,
            gate: false,
            z_row: channels,
            bc_row: states,
        }
    }

    /// The scan of Mamba's mixer: with softplus, bias, A_log, D and gate.
    pub fn mixer(batch: u32, length: u32, channels: u32, states: u32) -> Self {
        let plain = Self::plain(batch, length, channels, states);
        Self { softplus: true, dt_bias: true, log_a: true, gate: true, ..plain }
    }

    /// The kernel of the forward pass.
    ///
    /// Parameters, with those in brackets only if the option is on: u, delta, [bias], A or A_log, B, C, [D], [z], y.
    ///
    /// # Errors
    /// Empty arrays, rows that are too short, and arrays that are too large to index.
    pub fn forward<T: Real>(&self, target: Target) -> Result<Kernel> {
        self.check::<T>()?;
        Ok(forward::kernel::<T>(self, target))
    }

    /// The kernels of the backward pass. From the forward pass they need only its inputs.
    ///
    /// Parameters, with those in brackets only if the option is on: the inputs as above, dy; du, ddelta, [dbias], dA or
    /// dA_log, dB, dC, [dD], [dz]; workspace.
    ///
    /// # Errors
    /// As [`SelectiveScan::forward`].
    pub fn backward<T: Real>(&self, target: Target) -> Result<Plan> {
        let workspace = self.check::<T>()?;
        let kernels =
            [backward::kernel::<T>(self, workspace, target), finish::kernel::<T>(self, workspace, target)];
        Ok(Plan { kernels: kernels.into(), workspace_bytes: workspace.elements() * 4 })
    }

    /// The workspace of a valid scan.
    fn check<T: Real>(&self) -> Result<Workspace> {
        let Self { batch, length, channels, states, z_row, bc_row, .. } = *self;
        let sizes = format!("{batch} sequences of {length} steps, {channels} channels and {states} states");
        let error = |message| Err(Error::new(FAMILY, format!("{sizes}: {message}")));
        if [batch, length, channels, states].contains(&0) {
            return error("there must be at least one of each".into());
        }
        if batch > 65_535 || states > MOST_STATES {
            return error(format!("at most 65535 sequences and {MOST_STATES} states"));
        }
        if z_row < channels || bc_row < states {
            return error(format!("rows of {z_row} (z) and {bc_row} (B, C) elements are too short"));
        }
        let (rows, channels) = (u64::from(batch) * u64::from(length), u64::from(channels));
        let largest = (rows.saturating_mul(u64::from(z_row.max(bc_row)))).max(channels * u64::from(states));
        // Offsets in a kernel are 32 bits, and constant offsets are signed.
        let layout = Layout::new::<T>(self);
        let workspace = Workspace::new(self, layout);
        if largest >= 1 << 31 || workspace.elements() >= 1 << 29 {
            return error("too large for 32-bit offsets; cut the batch".into());
        }
        Ok(workspace)
    }

    /// The kernels' name: sizes, and a letter for each option.
    fn name<T: Real>(&self, pass: &str) -> String {
        let Self { batch, length, channels, states, z_row, bc_row, .. } = *self;
        let options = [
            (self.softplus, 's'),
            (self.dt_bias, 'b'),
            (self.log_a, 'l'),
            (self.skip, 'd'),
            (self.gate, 'z'),
        ];
        let options: String = options.into_iter().filter_map(|(on, letter)| on.then_some(letter)).collect();
        let mut name =
            format!("{FAMILY}_{pass}_{}_{batch}x{length}x{channels}x{states}_{options}", T::SPELLED);
        if z_row != channels {
            name += &format!("_zrow{z_row}");
        }
        if bc_row != states {
            name += &format!("_bcrow{bc_row}");
        }
        name
    }

    /// Total size of the inputs in bytes.
    fn input_bytes<T: Real>(&self) -> u64 {
        let [batch, length, channels, states] =
            [self.batch, self.length, self.channels, self.states].map(u64::from);
        let rows = batch * length;
        let per_row = (2 + u64::from(self.gate)) * channels + 2 * states;
        let per_channel = states + u64::from(self.skip) + u64::from(self.dt_bias);
        rows * per_row * u64::from(T::BYTES) + channels * per_channel * 4
    }

    /// Number of elements of [B, L, D].
    fn elements(&self) -> u64 {
        u64::from(self.batch) * u64::from(self.length) * u64::from(self.channels)
    }
}

/// The kernels of this family: the mixers of `base` and of the smallest preset, a long sequence, and odd sizes.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let base = SelectiveScan::mixer(16, 10, 2048, 16);
    // In the mixer u and z are halves of one projection; B and C follow 64 columns of another.
    let in_place = SelectiveScan { z_row: 2 * 2048, bc_row: 64 + 2 * 16, ..base };
    let specs = [
        base,
        in_place,
        SelectiveScan { batch: 64, ..in_place },
        SelectiveScan::mixer(16, 7, 128, 16),
        SelectiveScan::mixer(16, 20, 2048, 16),
        SelectiveScan::mixer(4, 1000, 512, 16),
        SelectiveScan::plain(16, 10, 2048, 16),
        SelectiveScan { skip: false, ..SelectiveScan::mixer(1, 1, 1, 1) },
        SelectiveScan::mixer(2, 9, 33, 5),
        SelectiveScan::mixer(2, 30, 40, 256),
    ];
    let both = |spec: &SelectiveScan| {
        let kernels = [
            (spec.forward::<F16>(target), spec.backward::<F16>(target)),
            (spec.forward::<F32>(target), spec.backward::<F32>(target)),
        ];
        kernels.into_iter().flat_map(|(forward, backward)| {
            forward.into_iter().chain(backward.into_iter().flat_map(|plan| plan.kernels))
        })
    };
    specs.iter().flat_map(both).collect()
}

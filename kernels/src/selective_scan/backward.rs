//! The gradients, from the last step to the first, except for the sums that [`finish`](super::finish) completes.
//!
//! The states of a chunk of steps are recomputed and held in registers, as many as fit. A longer sequence has several
//! chunks: a forward run over it first stores the states at the beginning of each chunk.

use std::f32::consts::LN_2;

use super::{
    FAMILY, SelectiveScan,
    layout::{BLOCK, Chunks, Layout, WARPS, Workspace},
    thread::{Group, Inputs, Mine, States, Steps, Thread},
};
use crate::{
    Kernel, Target, Work,
    pointwise::unary::{SILU, SOFTPLUS},
    ptx::{Asm, F32, Global, Launch, Reg, Shared, U32, Var},
    span::Real,
    tile::reduce::Fold,
};

/// Operations per state and step: those of the forward pass, and ten instructions of which six count two.
const STATE_OPERATIONS: u64 = 7 + 16;

/// Operations per channel and step: those of the forward pass, and the derivatives.
const CHANNEL_OPERATIONS: u64 = 12 + 20;

/// The output arrays, in the order of the parameters.
pub(super) struct Results<'a, T: Real> {
    pub dy: Global<'a, T>,
    pub du: Global<'a, T>,
    pub ddelta: Global<'a, T>,
    pub dbias: Option<Global<'a, F32>>,
    /// dA, or dA_log with A_log.
    pub da: Global<'a, F32>,
    pub db: Global<'a, T>,
    pub dc: Global<'a, T>,
    pub dd: Option<Global<'a, F32>>,
    pub dz: Option<Global<'a, T>>,
    pub workspace: Global<'a, F32>,
}

impl<'a, T: Real> Results<'a, T> {
    /// Declares the output parameters, dy before them and the workspace after them.
    pub fn parameters(asm: &'a Asm, spec: &SelectiveScan) -> Self {
        Self {
            dy: asm.pointer("dy"),
            du: asm.pointer("du"),
            ddelta: asm.pointer("ddelta"),
            dbias: spec.dt_bias.then(|| asm.pointer("dbias")),
            da: asm.pointer(if spec.log_a { "da_log" } else { "da" }),
            db: asm.pointer("db"),
            dc: asm.pointer("dc"),
            dd: spec.skip.then(|| asm.pointer("dd")),
            dz: spec.gate.then(|| asm.pointer("dz")),
            workspace: asm.pointer("workspace"),
        }
    }
}

/// Computes du, ddelta and dz; writes the sums over a block's channels and over a sequence to the workspace.
pub(super) fn kernel<T: Real>(spec: &SelectiveScan, workspace: Workspace, target: Target) -> Kernel {
    let layout = Layout::new::<T>(spec);
    let launch = Launch::new(FAMILY, spec.name::<T>("backward"), target)
        .grid([workspace.blocks, spec.batch, 1])
        .block([BLOCK, 1, 1]);
    let written = (3 + u64::from(spec.gate)) * spec.elements() * u64::from(T::BYTES);
    let work = Work {
        bytes: spec.input_bytes::<T>() + written + workspace.elements() * 4,
        operations: spec.elements() * (STATE_OPERATIONS * u64::from(spec.states) + CHANNEL_OPERATIONS),
    };
    Asm::kernel(launch, work, "the gradients of a selective scan, sums in parts", |asm| {
        let inputs = Inputs::<T>::parameters(asm, spec);
        let results = Results::parameters(asm, spec);
        let thread = Thread::new(asm, spec, layout, inputs);
        BackwardThread::new(thread, results, workspace).run();
    })
}

/// State that a thread carries from chunk to chunk.
struct BackwardThread<'a, T: Real> {
    asm: &'a Asm,
    thread: Thread<'a, T>,
    results: Results<'a, T>,
    workspace: Workspace,
    /// exp(Δ_{t+1}·A)·λ_{t+1} of each state.
    carried: Vec<Var<'a, F32>>,
    /// Σ Δ·e of each state.
    da: Vec<Var<'a, F32>>,
    /// Σ g·u and Σ ddelta of each channel, over the lane's own steps.
    dd: Vec<Var<'a, F32>>,
    dbias: Vec<Var<'a, F32>>,
    /// Sums over the channels of each warp, [warps, steps of a chunk, 2N].
    slots: Shared<'a, F32>,
}

/// Values of a group of steps that are kept from the forward to the backward run: few, since registers are scarce.
/// Other values of u and delta are loaded and computed again.
struct Passed<'a> {
    group: Group,
    dt: Vec<Reg<'a, F32>>,
    /// The gradient of s.
    g: Vec<Reg<'a, F32>>,
}

impl<'a, T: Real> BackwardThread<'a, T> {
    fn new(thread: Thread<'a, T>, results: Results<'a, T>, workspace: Workspace) -> Self {
        let asm = thread.asm;
        let zeros = |n: u32| (0..n).map(|_| asm.var::<F32>(0.0)).collect();
        let Layout { channels, .. } = thread.layout;
        let held = thread.layout.held();
        let slots = asm.shared::<F32>(WARPS * workspace.chunks.steps * 2 * thread.spec.states);
        Self {
            carried: zeros(held),
            da: zeros(held),
            dd: zeros(channels),
            dbias: zeros(channels),
            asm,
            thread,
            results,
            workspace,
            slots,
        }
    }

    fn run(&self) {
        let Self { asm, thread, workspace, .. } = self;
        let Chunks { count, steps, last } = workspace.chunks;
        if count == 1 {
            self.chunk(asm.value(0), last, None);
        } else {
            asm.step("the states at the beginning of each chunk");
            self.store_starts();
            let start = |chunk: Reg<'a, U32>| {
                let (starts, row) = self.start(chunk - 1);
                thread.load_matrix(starts, row)
            };
            asm.step("the last chunk");
            self.chunk(asm.value((count - 1) * steps), last, Some(start(asm.value(count - 1))));
            if count > 2 {
                asm.step("the chunks between, from the last to the first");
                asm.for_range(0, count - 2, 1, |i| {
                    let chunk = asm.value::<U32>(count - 2) - i;
                    self.chunk(chunk * steps, steps, Some(start(chunk)));
                });
            }
            asm.step("the first chunk");
            self.chunk(asm.value(0), steps, None);
        }
        asm.step("the sums over the sequence");
        let (sequence, channels) = (thread.sequence, thread.spec.channels);
        let part = |first: u64| self.results.workspace.plus(first as i64);
        let row = sequence.mad(channels, thread.channel);
        let da: Vec<_> = self.da.iter().map(|x| x.get()).collect();
        thread.store_matrix(part(workspace.a), row, &da);
        let over_steps = |sums: &[Var<'a, F32>]| -> Vec<_> {
            sums.iter().map(|x| asm.lanes_fold(Fold::Sum, x.get(), 1, thread.layout.lanes)).collect()
        };
        if thread.spec.skip {
            thread.store_row(part(workspace.d).at(sequence * channels), &over_steps(&self.dd));
        }
        if thread.spec.dt_bias {
            thread.store_row(part(workspace.bias).at(sequence * channels), &over_steps(&self.dbias));
        }
    }

    /// Address of the states before chunk `index` + 1: a matrix, and the row of the thread's first channel.
    fn start(&self, index: Reg<'a, U32>) -> (Global<'a, F32>, Reg<'a, U32>) {
        let starts = self.workspace.chunks.count - 1;
        let row = self.thread.sequence.mad(starts, index).mad(self.thread.spec.channels, self.thread.channel);
        (self.results.workspace.plus(self.workspace.starts as i64), row)
    }

    /// Runs forward once and stores the states before each chunk except the first.
    fn store_starts(&self) {
        let Self { asm, thread, .. } = self;
        let Chunks { count, steps, .. } = self.workspace.chunks;
        let h: Vec<_> = (0..thread.layout.held()).map(|_| asm.var::<F32>(0.0)).collect();
        asm.for_range(0, count - 1, 1, |index| {
            let at = thread.steps_from((thread.sequence * thread.spec.length) + index * steps);
            let mut states = Some(h.iter().map(|h| h.get()).collect());
            for group in thread.groups(steps) {
                let mine = thread.mine(&at, group);
                for j in 0..group.count {
                    states = thread.advance(&states, &mine, j, &thread.b(&at, group.first + j));
                }
            }
            let states = states.unwrap_or_default();
            let (starts, row) = self.start(index);
            thread.store_matrix(starts, row, &states);
            h.iter().zip(states).for_each(|(h, x)| h.set(x));
        });
    }

    /// Runs `steps` steps from step `first` on, forward and backward, from the states `start`.
    fn chunk(&self, first: Reg<'a, U32>, steps: u32, start: States<'a>) {
        let Self { asm, thread, results, .. } = self;
        let row = thread.sequence.mad(thread.spec.length, first);
        let at = thread.steps_from(row);
        let channels = thread.spec.channels;
        let dy = thread.wide(results.dy, row, channels);
        let dz = results.dz.map(|dz| thread.wide(dz, row, thread.spec.z_row));
        asm.step("forth: the states before each step, and the last ones");
        let mut history = vec![start];
        let mut passed = Vec::new();
        for group in thread.groups(steps) {
            passed.push(self.forth(&at, group, dy, dz, &mut history));
        }
        let du = thread.wide(results.du, row, channels);
        let ddelta = thread.wide(results.ddelta, row, channels);
        for passed in passed.iter().rev() {
            asm.step(&format!("back: {} steps to {}", passed.group.count, passed.group.first));
            self.back(&at, passed, &history, [du, ddelta]);
        }
        asm.step("the warps' sums over channels");
        self.store_sums(first, steps);
    }

    /// Appends the states after each of a group's steps to the history; with a gate, writes dz.
    fn forth(
        &self,
        at: &Steps<'a, T>,
        group: Group,
        dy: Global<'a, T>,
        dz: Option<Global<'a, T>>,
        history: &mut Vec<States<'a>>,
    ) -> Passed<'a> {
        let Self { asm, thread, .. } = self;
        let (mine, z) = (thread.mine(at, group), thread.z(at, group));
        let dy = thread.load(dy, thread.spec.channels, group);
        let mut own = Vec::new();
        for j in 0..group.count {
            let step = group.first + j;
            let h = thread.advance(&history[step as usize], &mine, j, &thread.b(at, step));
            if z.is_some() {
                own.push(thread.own_output(&h, &thread.c(at, step)));
            }
            history.push(h);
        }
        let (Some(z), Some(dz)) = (z, dz) else { return Passed { group, dt: mine.dt, g: dy } };
        let s = thread.output(&own, &mine);
        let slopes = z.iter().map(|&z| (SILU.derivative)(asm, z));
        let values: Vec<_> = dy.iter().zip(s).zip(slopes).map(|((&dy, s), slope)| dy * s * slope).collect();
        thread.store(dz, thread.spec.z_row, group, &values);
        let g = dy.iter().zip(&z).map(|(&dy, &z)| dy * (SILU.value)(asm, z)).collect();
        Passed { group, dt: mine.dt, g }
    }

    /// The gradients of a group's steps, from the last one to the first.
    fn back(
        &self,
        at: &Steps<'a, T>,
        passed: &Passed<'a>,
        history: &[States<'a>],
        [du, ddelta]: [Global<'a, T>; 2],
    ) {
        let Self { asm, thread, .. } = self;
        let Passed { group, dt, g } = passed;
        let u = thread.u(at, *group);
        let mine = Mine::new(dt.clone(), u);
        // Σ_n λ·B and Σ_n A·log₂ e·e of each step.
        let (mut lambda_b, mut a_e) = (Vec::new(), Vec::new());
        for j in (0..group.count).rev() {
            let step = group.first + j;
            let (own_lambda_b, own_a_e) =
                self.step_back(at, (&mine, g), (j, step), &history[step as usize..]);
            lambda_b.insert(0, own_lambda_b);
            a_e.insert(0, own_a_e);
        }
        let (lambda_b, a_e) = (thread.over_states(&lambda_b), thread.over_states(&a_e));
        let slopes = thread.spec.softplus.then(|| {
            let x = thread.delta(at, *group);
            x.into_iter().map(|x| (SOFTPLUS.derivative)(asm, x)).collect::<Vec<_>>()
        });
        let (mut du_values, mut ddelta_values) = (Vec::new(), Vec::new());
        for (c, (lambda_b, a_e)) in lambda_b.into_iter().zip(a_e).enumerate() {
            let through_states = mine.dt[c] * lambda_b;
            du_values.push(if thread.spec.skip {
                thread.d[c].mad(g[c], through_states)
            } else {
                through_states
            });
            let ddt = a_e.mad(LN_2, mine.u[c] * lambda_b);
            let ddelta = slopes.as_ref().map_or(ddt, |slopes| ddt * slopes[c]);
            ddelta_values.push(ddelta);
            self.dd[c].add_product(g[c], mine.u[c]);
            self.dbias[c].add(ddelta);
        }
        thread.store(du, thread.spec.channels, *group, &du_values);
        thread.store(ddelta, thread.spec.channels, *group, &ddelta_values);
    }

    /// Step `j` of a group, `step` of the chunk, between the states `history[0]` and `history[1]`. Returns Σ_n λ·B and
    /// Σ_n A·log₂ e·e of each channel, over the thread's own states.
    fn step_back(
        &self,
        at: &Steps<'a, T>,
        (mine, g): (&Mine<'a>, &[Reg<'a, F32>]),
        (j, step): (u32, u32),
        history: &[States<'a>],
    ) -> (Vec<Reg<'a, F32>>, Vec<Reg<'a, F32>>) {
        let Self { asm, thread, .. } = self;
        let [dt, dtu, g] = [&mine.dt, &mine.dtu, g].map(|x| thread.at_step(x, j));
        let (b, c) = (thread.b(at, step), thread.c(at, step));
        let zeros = |n: u32| (0..n).map(|_| asm.var::<F32>(0.0)).collect::<Vec<_>>();
        let Layout { channels, states, .. } = thread.layout;
        let (lambda_b, a_e) = (zeros(channels), zeros(channels));
        let (db, dc) = (zeros(states), zeros(states));
        let (before, after) = (&history[0], history[1].as_deref().unwrap_or_default());
        for (channel, s, i) in thread.each_state() {
            let lambda = g[channel].mad(c[s], self.carried[i]);
            dc[s].add_product(g[channel], after[i]);
            db[s].add_product(lambda, dtu[channel]);
            lambda_b[channel].add_product(lambda, b[s]);
            // The first step of all has no earlier state, and no gradient to carry further.
            if let Some(before) = before {
                let carried = lambda * thread.decay(dt[channel], i);
                let e = carried * before[i];
                self.da[i].add_product(dt[channel], e);
                a_e[channel].add_product(thread.a[i], e);
                self.carried[i].set(carried);
            }
        }
        let get = |sums: Vec<Var<'a, F32>>| sums.into_iter().map(|x| x.get()).collect::<Vec<_>>();
        self.fold_channels(step, &[get(db), get(dc)].concat());
        (get(lambda_b), get(a_e))
    }

    /// Sums a step's dB and dC over the warp's channels and stores them in the warp's slots.
    fn fold_channels(&self, step: u32, values: &[Reg<'a, F32>]) {
        let Self { asm, thread, .. } = self;
        let Layout { states, lanes, .. } = thread.layout;
        let n = thread.spec.states;
        let (neighbours, count) = (32 / lanes, 2 * states);
        let sums = asm.lanes_scatter(values, lanes, 32);
        let (channel, _) = asm.divide(asm.lane(), lanes);
        let (number, copy) = asm.divide(channel, (neighbours / count).max(1));
        let (warp, _) = asm.divide(asm.thread(0), 32);
        let slots = self.slots.at(warp * (self.workspace.chunks.steps * 2 * n)).plus((step * 2 * n).into());
        for (i, sum) in (0..).zip(&sums) {
            // All dB come before all dC, in the slots and in the workspace.
            let (is_c, s) = asm.divide(number.mad(sums.len() as u32, asm.value(i)), states);
            let state = thread.state + s;
            let kept = copy.eq(0) & state.lt(n);
            asm.when(kept, || slots.at(is_c.mad(n, state)).store(*sum));
        }
    }

    /// Sums the slots of the block's warps, in order, for `steps` steps from step `first` on.
    fn store_sums(&self, first: Reg<'a, U32>, steps: u32) {
        let Self { asm, thread, workspace, .. } = self;
        let row = 2 * thread.spec.states;
        let block = thread.sequence.mad(workspace.blocks, asm.block(0));
        let to = self.results.workspace.plus(workspace.bc as i64);
        let to = to.at(block.mad(thread.spec.length, first) * row);
        asm.barrier();
        asm.for_range(asm.thread(0), steps * row, BLOCK, |i| {
            let slots = self.slots.at(i);
            let warps = (0..WARPS).map(|w| slots.plus((w * workspace.chunks.steps * row).into()).load());
            if let Some(sum) = warps.reduce(|a, b| a + b) {
                to.at(i).store(sum);
            }
        });
        asm.barrier();
    }
}

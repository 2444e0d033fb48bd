//! A thread of either pass: its channels and states, its step of a group, the recurrence.

use std::f32::consts::LOG2_E;

use super::{
    SelectiveScan,
    layout::{BLOCK, Layout},
};
use crate::{
    ptx::{Asm, F32, Global, Pred, Reg, U32},
    span::{Real, access_width},
};

/// The input arrays, in the order of the parameters.
pub(super) struct Inputs<'a, T: Real> {
    u: Global<'a, T>,
    delta: Global<'a, T>,
    bias: Option<Global<'a, F32>>,
    /// A, or A_log with that option.
    pub a: Global<'a, F32>,
    b: Global<'a, T>,
    c: Global<'a, T>,
    d: Option<Global<'a, F32>>,
    z: Option<Global<'a, T>>,
}

impl<'a, T: Real> Inputs<'a, T> {
    /// Declares the input parameters.
    pub fn parameters(asm: &'a Asm, spec: &SelectiveScan) -> Self {
        Self {
            u: asm.pointer("u"),
            delta: asm.pointer("delta"),
            bias: spec.dt_bias.then(|| asm.pointer("bias")),
            a: asm.pointer(if spec.log_a { "a_log" } else { "a" }),
            b: asm.pointer("b"),
            c: asm.pointer("c"),
            d: spec.skip.then(|| asm.pointer("d")),
            z: spec.gate.then(|| asm.pointer("z")),
        }
    }
}

/// One number for each of a thread's states, channel by channel; `None` means zeros.
pub(super) type States<'a> = Option<Vec<Reg<'a, F32>>>;

/// A thread of a block that covers `block_channels` channels of one sequence; the block's axes are those of the grid.
pub(super) struct Thread<'a, T: Real> {
    pub asm: &'a Asm,
    pub spec: SelectiveScan,
    pub layout: Layout,
    pub inputs: Inputs<'a, T>,
    /// Index of the sequence.
    pub sequence: Reg<'a, U32>,
    /// Index among the lanes of its channels: selects its states, and its step of a group.
    pub place: Reg<'a, U32>,
    /// Index of its first state.
    pub state: Reg<'a, U32>,
    /// First channel of the vector.
    pub channel: Reg<'a, U32>,
    /// Whether the channel exists; `None` if it does in all threads.
    exists: Option<Reg<'a, Pred>>,
    /// A·log₂ e of each state.
    pub a: Vec<Reg<'a, F32>>,
    /// D of each channel; zeros without it.
    pub d: Vec<Reg<'a, F32>>,
    /// The bias of delta of each channel.
    bias: Option<Vec<Reg<'a, F32>>>,
}

/// Addresses of the thread's elements, for steps of a sequence from some row of [B·L] on.
pub(super) struct Steps<'a, T: Real> {
    /// Addresses of its channels at its step of the first group.
    u: Global<'a, T>,
    delta: Global<'a, T>,
    z: Option<Global<'a, T>>,
    /// Addresses of its states at the first step.
    b: Global<'a, T>,
    c: Global<'a, T>,
}

/// One step for each lane that shares a channel: `count` steps from `first` on; the lane of place p has step `first +
/// p`.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub first: u32,
    pub count: u32,
}

/// A lane's values at its step of a group, one number per channel; zeros if the step or the channel does not exist.
pub(super) struct Mine<'a> {
    /// The step size Δ.
    pub dt: Vec<Reg<'a, F32>>,
    pub u: Vec<Reg<'a, F32>>,
    /// The product Δ·u of each channel.
    pub dtu: Vec<Reg<'a, F32>>,
}

impl<'a> Mine<'a> {
    /// Values from Δ and u.
    pub fn new(dt: Vec<Reg<'a, F32>>, u: Vec<Reg<'a, F32>>) -> Self {
        let dtu = dt.iter().zip(&u).map(|(&dt, &u)| dt * u).collect();
        Self { dt, u, dtu }
    }
}

impl<'a, T: Real> Thread<'a, T> {
    /// The current thread, with its inputs A, D and bias loaded.
    pub fn new(asm: &'a Asm, spec: &SelectiveScan, layout: Layout, inputs: Inputs<'a, T>) -> Self {
        asm.step(
            "the lanes of a channel take its states and, for what there is once a step, the steps of a group",
        );
        let (group, place) = asm.divide(asm.thread(0), layout.lanes);
        let channel = asm.block(0).mad(layout.block_channels(), group * layout.channels);
        let threads = layout.blocks(spec.channels) * BLOCK / layout.lanes * layout.channels;
        let exists = (threads > spec.channels).then(|| channel.lt(spec.channels));
        let state = place * layout.states;
        let row = |array: Global<'a, F32>| {
            or_zeros(asm, exists, layout.channels, || F32::load(array.at(channel), layout.channels))
        };
        let bias = inputs.bias.map(row);
        let d = inputs.d.map_or_else(|| vec![asm.value(0.0); layout.channels as usize], row);
        let sequence = asm.block(1);
        let mut thread = Self {
            asm,
            spec: *spec,
            layout,
            inputs,
            sequence,
            place,
            state,
            channel,
            exists,
            a: vec![],
            d,
            bias,
        };
        let a = thread.load_matrix(thread.inputs.a, channel);
        thread.a = a.into_iter().map(|a| decay(asm, spec, a) * LOG2_E).collect();
        thread
    }

    /// The groups that cover `steps` steps.
    pub fn groups(&self, steps: u32) -> impl DoubleEndedIterator<Item = Group> + use<T> {
        let lanes = self.layout.lanes;
        (0..steps.div_ceil(lanes))
            .map(move |i| Group { first: i * lanes, count: lanes.min(steps - i * lanes) })
    }

    /// The steps from row `row` of [B·L] on.
    pub fn steps_from(&self, row: Reg<'a, U32>) -> Steps<'a, T> {
        let Self { spec, inputs, .. } = self;
        let states = row.mad(spec.bc_row, self.state);
        Steps {
            u: self.wide(inputs.u, row, spec.channels),
            delta: self.wide(inputs.delta, row, spec.channels),
            z: inputs.z.map(|z| self.wide(z, row, spec.z_row)),
            b: inputs.b.at(states),
            c: inputs.c.at(states),
        }
    }

    /// Address of its channels at its step of a group that begins at row `row`, in rows of `pitch` elements.
    pub fn wide(&self, array: Global<'a, T>, row: Reg<'a, U32>, pitch: u32) -> Global<'a, T> {
        array.at((row + self.place).mad(pitch, self.channel))
    }

    /// Whether its channel and its step of the group exist; `None` if they do in all threads.
    fn has(&self, group: Group) -> Option<Reg<'a, Pred>> {
        let step = (group.count < self.layout.lanes).then(|| self.place.lt(group.count));
        both(self.exists, step)
    }

    /// Loads its channels' elements at its step of a group; `first` is the address for the group of step 0.
    pub fn load(&self, first: Global<'a, T>, pitch: u32, group: Group) -> Vec<Reg<'a, F32>> {
        let at = first.plus(i64::from(group.first) * i64::from(pitch));
        let channels = self.layout.channels;
        or_zeros(self.asm, self.has(group), channels, || T::load(at, channels))
    }

    /// Stores its channels' elements at its step of a group.
    pub fn store(&self, first: Global<'a, T>, pitch: u32, group: Group, values: &[Reg<'a, F32>]) {
        let at = first.plus(i64::from(group.first) * i64::from(pitch));
        when(self.asm, self.has(group), || T::store(at, values));
    }

    /// Stores its channels' numbers of a row [D]; the first lane of each channel writes.
    pub fn store_row(&self, row: Global<'a, F32>, values: &[Reg<'a, F32>]) {
        let first = (self.layout.lanes > 1).then(|| self.place.eq(0));
        when(self.asm, both(self.exists, first), || F32::store(row.at(self.channel), values));
    }

    /// Loads its states' numbers of a matrix [D, N], from row `row` for its first channel on.
    pub fn load_matrix(&self, matrix: Global<'a, F32>, row: Reg<'a, U32>) -> Vec<Reg<'a, F32>> {
        let at = matrix.at(row.mad(self.spec.states, self.state));
        let row = |c: u32| self.load_states(at.plus((c * self.spec.states).into()), 0, self.exists);
        (0..self.layout.channels).flat_map(row).collect()
    }

    /// Stores its states' numbers of a matrix [D, N].
    pub fn store_matrix(&self, matrix: Global<'a, F32>, row: Reg<'a, U32>, values: &[Reg<'a, F32>]) {
        let at = matrix.at(row.mad(self.spec.states, self.state));
        let width = self.state_width::<F32>(0);
        for (c, values) in (0..).zip(values.chunks(self.layout.states as usize)) {
            for (s, part) in (0..).step_by(width as usize).zip(values.chunks(width as usize)) {
                let at = at.plus((c * self.spec.states + s).into());
                when(self.asm, both(self.exists, self.has_state(s)), || F32::store(at, part));
            }
        }
    }

    /// Loads its states' numbers of B or C at a step.
    fn load_step(&self, first: Global<'a, T>, step: u32) -> Vec<Reg<'a, F32>> {
        let pitch = self.spec.bc_row;
        self.load_states(first.plus(i64::from(step) * i64::from(pitch)), pitch, None)
    }

    /// Loads B at a step.
    pub fn b(&self, steps: &Steps<'a, T>, step: u32) -> Vec<Reg<'a, F32>> {
        self.load_step(steps.b, step)
    }

    /// Loads C at a step.
    pub fn c(&self, steps: &Steps<'a, T>, step: u32) -> Vec<Reg<'a, F32>> {
        self.load_step(steps.c, step)
    }

    /// Loads z at its step of a group, with the gate.
    pub fn z(&self, steps: &Steps<'a, T>, group: Group) -> Option<Vec<Reg<'a, F32>>> {
        steps.z.map(|z| self.load(z, self.spec.z_row, group))
    }

    /// Loads a row of its states, in rows `pitch` elements apart, if the condition holds; zeros for states beyond N.
    fn load_states<X: Real>(
        &self,
        at: Global<'a, X>,
        pitch: u32,
        condition: Option<Reg<'a, Pred>>,
    ) -> Vec<Reg<'a, F32>> {
        let width = self.state_width::<X>(pitch);
        let part = |s: u32| {
            or_zeros(self.asm, both(condition, self.has_state(s)), width, || {
                X::load(at.plus(s.into()), width)
            })
        };
        (0..self.layout.states).step_by(width as usize).flat_map(part).collect()
    }

    /// Number of states per access.
    fn state_width<X: Real>(&self, pitch: u32) -> u32 {
        access_width(self.spec.states | pitch, self.layout.states.min(X::VECTOR))
    }

    /// Whether its state `s` is below N; `None` if it always is.
    pub fn has_state(&self, s: u32) -> Option<Reg<'a, Pred>> {
        let all = self.layout.states * self.layout.lanes == self.spec.states;
        (!all).then(|| (self.state + s).lt(self.spec.states))
    }

    /// Loads u at its step of a group.
    pub fn u(&self, steps: &Steps<'a, T>, group: Group) -> Vec<Reg<'a, F32>> {
        self.load(steps.u, self.spec.channels, group)
    }

    /// Loads delta + bias at its step of a group.
    pub fn delta(&self, steps: &Steps<'a, T>, group: Group) -> Vec<Reg<'a, F32>> {
        let delta = self.load(steps.delta, self.spec.channels, group);
        match &self.bias {
            Some(bias) => delta.into_iter().zip(bias).map(|(x, &bias)| x + bias).collect(),
            None => delta,
        }
    }

    /// The lane's values at its step of a group.
    pub fn mine(&self, steps: &Steps<'a, T>, group: Group) -> Mine<'a> {
        let (u, x) = (self.u(steps, group), self.delta(steps, group));
        let dt = x.into_iter().map(|x| if self.spec.softplus { self.asm.softplus(x) } else { x });
        Mine::new(dt.collect(), u)
    }

    /// The value of the lane of step `j` of a group, in all lanes of its channel.
    pub fn at_step(&self, mine: &[Reg<'a, F32>], j: u32) -> Vec<Reg<'a, F32>> {
        mine.iter().map(|x| x.shuffle_in_group(j, self.layout.lanes)).collect()
    }

    /// The thread's states: the channel, the state's index in it (as in B and C), and its index among all of them.
    pub fn each_state(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<T> {
        let [channels, states] = [self.layout.channels, self.layout.states].map(|n| n as usize);
        (0..channels).flat_map(move |c| (0..states).map(move |s| (c, s, c * states + s)))
    }

    /// exp(Δ·A) of state `i`, in a channel with step size `dt`.
    pub fn decay(&self, dt: Reg<'a, F32>, i: usize) -> Reg<'a, F32> {
        (dt * self.a[i]).exp2_flushed()
    }

    /// h ← exp(Δ·A)·h + Δ·u·B at step `j` of a group.
    pub fn advance(&self, h: &States<'a>, mine: &Mine<'a>, j: u32, b: &[Reg<'a, F32>]) -> States<'a> {
        let (dt, dtu) = (self.at_step(&mine.dt, j), self.at_step(&mine.dtu, j));
        let next = self.each_state().map(|(c, s, i)| match h {
            Some(h) => self.decay(dt[c], i).mad(h[i], dtu[c] * b[s]),
            None => dtu[c] * b[s],
        });
        Some(next.collect())
    }

    /// Σ_n C·h of each channel, over the thread's own states.
    pub fn own_output(&self, h: &States<'a>, c: &[Reg<'a, F32>]) -> Vec<Reg<'a, F32>> {
        let states = h.as_deref().unwrap_or_default().chunks(self.layout.states as usize);
        states.filter_map(|h| dot(h, c)).collect()
    }

    /// Sums over the states at a group's steps, one vector of channels per step: returns those of the lane's step, over
    /// the states of all lanes.
    pub fn over_states(&self, own: &[Vec<Reg<'a, F32>>]) -> Vec<Reg<'a, F32>> {
        let lanes = self.layout.lanes as usize;
        let channel = |c: usize| {
            let mut steps: Vec<_> = own.iter().map(|step| step[c]).collect();
            steps.resize_with(lanes, || self.asm.value(0.0));
            self.asm.lanes_scatter(&steps, 1, self.layout.lanes)[0]
        };
        (0..self.layout.channels as usize).map(channel).collect()
    }

    /// s = Σ_n C·h + D·u at its step of a group.
    pub fn output(&self, own: &[Vec<Reg<'a, F32>>], mine: &Mine<'a>) -> Vec<Reg<'a, F32>> {
        let sums = self.over_states(own);
        if !self.spec.skip {
            return sums;
        }
        sums.into_iter().zip(&self.d).zip(&mine.u).map(|((sum, d), &u)| d.mad(u, sum)).collect()
    }
}

/// A from the input, which is A or A_log.
pub(super) fn decay<'a>(asm: &'a Asm, spec: &SelectiveScan, given: Reg<'a, F32>) -> Reg<'a, F32> {
    if spec.log_a { -asm.exp(given) } else { given }
}

/// Σ a·b, with fused multiply-adds after the first product.
fn dot<'a>(a: &[Reg<'a, F32>], b: &[Reg<'a, F32>]) -> Option<Reg<'a, F32>> {
    let mut pairs = a.iter().zip(b);
    let (&a, &b) = pairs.next()?;
    Some(pairs.fold(a * b, |sum, (a, &b)| a.mad(b, sum)))
}

/// The conjunction of two optional conditions.
fn both<'a>(a: Option<Reg<'a, Pred>>, b: Option<Reg<'a, Pred>>) -> Option<Reg<'a, Pred>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a & b),
        (a, b) => a.or(b),
    }
}

/// Runs a few instructions if the condition holds; unconditionally without one.
fn when<'a>(asm: &'a Asm, condition: Option<Reg<'a, Pred>>, body: impl FnOnce()) {
    match condition {
        Some(p) => asm.when(p, body),
        None => body(),
    }
}

/// The result of `load` if the condition holds, otherwise `len` zeros.
fn or_zeros<'a>(
    asm: &'a Asm,
    condition: Option<Reg<'a, Pred>>,
    len: u32,
    load: impl FnOnce() -> Vec<Reg<'a, F32>>,
) -> Vec<Reg<'a, F32>> {
    let Some(p) = condition else { return load() };
    let values: Vec<_> = (0..len).map(|_| asm.var::<F32>(0.0)).collect();
    asm.when(p, || values.iter().zip(load()).for_each(|(value, x)| value.set(x)));
    values.into_iter().map(|value| value.get()).collect()
}

//! What a thread of either pass has and does: its channels and states, its step of a group, the recurrence.

use std::f32::consts::LOG2_E;

use super::{
    SelectiveScan,
    layout::{BLOCK, Layout},
};
use crate::{
    ptx::{Asm, F32, Global, Pred, Reg, U32},
    span::{Real, access_width},
};

/// The inputs, in the order of the parameters.
pub(super) struct Inputs<'a, T: Real> {
    u: Global<'a, T>,
    delta: Global<'a, T>,
    bias: Option<Global<'a, F32>>,
    /// A, or A_log.
    pub a: Global<'a, F32>,
    b: Global<'a, T>,
    c: Global<'a, T>,
    d: Option<Global<'a, F32>>,
    z: Option<Global<'a, T>>,
}

impl<'a, T: Real> Inputs<'a, T> {
    /// Declares them.
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

/// A number for each of a thread's states, channel by channel; `None` is zeros.
pub(super) type States<'a> = Option<Vec<Reg<'a, F32>>>;

/// A thread of a block that has `block_channels` channels of one sequence, its axes those of the grid.
pub(super) struct Thread<'a, T: Real> {
    pub asm: &'a Asm,
    pub spec: SelectiveScan,
    pub layout: Layout,
    pub inputs: Inputs<'a, T>,
    /// The sequence.
    pub sequence: Reg<'a, U32>,
    /// Its place among the lanes of its channels: which states it has, and which step of a group.
    pub place: Reg<'a, U32>,
    /// Its first state.
    pub state: Reg<'a, U32>,
    /// First channel of the vector.
    pub channel: Reg<'a, U32>,
    /// Whether there is such a channel, where some threads have none.
    exists: Option<Reg<'a, Pred>>,
    /// A·log₂ e.
    pub a: Vec<Reg<'a, F32>>,
    /// D, zeros without it.
    pub d: Vec<Reg<'a, F32>>,
    /// The bias of delta.
    bias: Option<Vec<Reg<'a, F32>>>,
}

/// Steps of a sequence that begin at some row of [B·L]: where the thread's elements lie.
pub(super) struct Steps<'a, T: Real> {
    /// Of its channels at its step of the first group.
    u: Global<'a, T>,
    delta: Global<'a, T>,
    z: Option<Global<'a, T>>,
    /// Of its states at the first step.
    b: Global<'a, T>,
    c: Global<'a, T>,
}

/// A step for each lane that shares a channel: `count` steps from `first` on, the lane of place p has step `first + p`.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub first: u32,
    pub count: u32,
}

/// What a lane has of its step of a group, a number a channel; zeros where there is no such step or channel.
pub(super) struct Mine<'a> {
    /// Δ.
    pub dt: Vec<Reg<'a, F32>>,
    pub u: Vec<Reg<'a, F32>>,
    /// Δ·u.
    pub dtu: Vec<Reg<'a, F32>>,
}

impl<'a> Mine<'a> {
    /// From Δ and u.
    pub fn new(dt: Vec<Reg<'a, F32>>, u: Vec<Reg<'a, F32>>) -> Self {
        let dtu = dt.iter().zip(&u).map(|(&dt, &u)| dt * u).collect();
        Self { dt, u, dtu }
    }
}

impl<'a, T: Real> Thread<'a, T> {
    /// This one.
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

    /// The groups of `steps` steps.
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

    /// Its channels at its step of a group that begins at row `row`, in rows of `pitch` elements.
    pub fn wide(&self, array: Global<'a, T>, row: Reg<'a, U32>, pitch: u32) -> Global<'a, T> {
        array.at((row + self.place).mad(pitch, self.channel))
    }

    /// Whether it has a channel, and a step of the group; `None` where all have.
    fn has(&self, group: Group) -> Option<Reg<'a, Pred>> {
        let step = (group.count < self.layout.lanes).then(|| self.place.lt(group.count));
        both(self.exists, step)
    }

    /// Its channels' elements at its step of a group; `first` is that of the group of step 0.
    pub fn load(&self, first: Global<'a, T>, pitch: u32, group: Group) -> Vec<Reg<'a, F32>> {
        let at = first.plus(i64::from(group.first) * i64::from(pitch));
        let channels = self.layout.channels;
        or_zeros(self.asm, self.has(group), channels, || T::load(at, channels))
    }

    /// Writes them.
    pub fn store(&self, first: Global<'a, T>, pitch: u32, group: Group, values: &[Reg<'a, F32>]) {
        let at = first.plus(i64::from(group.first) * i64::from(pitch));
        when(self.asm, self.has(group), || T::store(at, values));
    }

    /// Its channels' numbers of a row [D], written by the first lane of each channel.
    pub fn store_row(&self, row: Global<'a, F32>, values: &[Reg<'a, F32>]) {
        let first = (self.layout.lanes > 1).then(|| self.place.eq(0));
        when(self.asm, both(self.exists, first), || F32::store(row.at(self.channel), values));
    }

    /// Its states' numbers of a matrix [D, N], from row `row` for its first channel on.
    pub fn load_matrix(&self, matrix: Global<'a, F32>, row: Reg<'a, U32>) -> Vec<Reg<'a, F32>> {
        let at = matrix.at(row.mad(self.spec.states, self.state));
        let row = |c: u32| self.load_states(at.plus((c * self.spec.states).into()), 0, self.exists);
        (0..self.layout.channels).flat_map(row).collect()
    }

    /// Writes them.
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

    /// Its states' numbers of B or C at a step.
    fn load_step(&self, first: Global<'a, T>, step: u32) -> Vec<Reg<'a, F32>> {
        let pitch = self.spec.bc_row;
        self.load_states(first.plus(i64::from(step) * i64::from(pitch)), pitch, None)
    }

    /// B at a step.
    pub fn b(&self, steps: &Steps<'a, T>, step: u32) -> Vec<Reg<'a, F32>> {
        self.load_step(steps.b, step)
    }

    /// C at a step.
    pub fn c(&self, steps: &Steps<'a, T>, step: u32) -> Vec<Reg<'a, F32>> {
        self.load_step(steps.c, step)
    }

    /// z at its step of a group, with the gate.
    pub fn z(&self, steps: &Steps<'a, T>, group: Group) -> Option<Vec<Reg<'a, F32>>> {
        steps.z.map(|z| self.load(z, self.spec.z_row, group))
    }

    /// A row of its states, in rows `pitch` elements apart, where the condition holds; zeros for states beyond N.
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

    /// States of an access.
    fn state_width<X: Real>(&self, pitch: u32) -> u32 {
        access_width(self.spec.states | pitch, self.layout.states.min(X::VECTOR))
    }

    /// Whether its state number `s` is one of the N, where not all are.
    pub fn has_state(&self, s: u32) -> Option<Reg<'a, Pred>> {
        let all = self.layout.states * self.layout.lanes == self.spec.states;
        (!all).then(|| (self.state + s).lt(self.spec.states))
    }

    /// u at its step of a group.
    pub fn u(&self, steps: &Steps<'a, T>, group: Group) -> Vec<Reg<'a, F32>> {
        self.load(steps.u, self.spec.channels, group)
    }

    /// delta + bias at its step of a group.
    pub fn delta(&self, steps: &Steps<'a, T>, group: Group) -> Vec<Reg<'a, F32>> {
        let delta = self.load(steps.delta, self.spec.channels, group);
        match &self.bias {
            Some(bias) => delta.into_iter().zip(bias).map(|(x, &bias)| x + bias).collect(),
            None => delta,
        }
    }

    /// What the lane has of its step of a group.
    pub fn mine(&self, steps: &Steps<'a, T>, group: Group) -> Mine<'a> {
        let (u, x) = (self.u(steps, group), self.delta(steps, group));
        let dt = x.into_iter().map(|x| if self.spec.softplus { self.asm.softplus(x) } else { x });
        Mine::new(dt.collect(), u)
    }

    /// The number that the lane of step `j` of a group has, in all lanes of its channel.
    pub fn at_step(&self, mine: &[Reg<'a, F32>], j: u32) -> Vec<Reg<'a, F32>> {
        mine.iter().map(|x| x.shuffle_in_group(j, self.layout.lanes)).collect()
    }

    /// The thread's states: their channel, their number in it (that of B and C), and their number among all of them.
    pub fn each_state(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<T> {
        let [channels, states] = [self.layout.channels, self.layout.states].map(|n| n as usize);
        (0..channels).flat_map(move |c| (0..states).map(move |s| (c, s, c * states + s)))
    }

    /// exp(Δ·A) of state number `i`, one of a channel whose step size is `dt`.
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

    /// Sums over the states of a group's steps, a vector of channels a step: the lane's step's, over all lanes' states.
    pub fn over_states(&self, own: &[Vec<Reg<'a, F32>>]) -> Vec<Reg<'a, F32>> {
        let lanes = self.layout.lanes as usize;
        let channel = |c: usize| {
            let mut steps: Vec<_> = own.iter().map(|step| step[c]).collect();
            steps.resize_with(lanes, || self.asm.value(0.0));
            self.asm.lanes_scatter(&steps, 1, self.layout.lanes)[0]
        };
        (0..self.layout.channels as usize).map(channel).collect()
    }

    /// s = Σ_n C·h + D·u of its step of a group.
    pub fn output(&self, own: &[Vec<Reg<'a, F32>>], mine: &Mine<'a>) -> Vec<Reg<'a, F32>> {
        let sums = self.over_states(own);
        if !self.spec.skip {
            return sums;
        }
        sums.into_iter().zip(&self.d).zip(&mine.u).map(|((sum, d), &u)| d.mad(u, sum)).collect()
    }
}

/// A from what is given for it.
pub(super) fn decay<'a>(asm: &'a Asm, spec: &SelectiveScan, given: Reg<'a, F32>) -> Reg<'a, F32> {
    if spec.log_a { -asm.exp(given) } else { given }
}

/// Σ a·b, fused from the first product on.
fn dot<'a>(a: &[Reg<'a, F32>], b: &[Reg<'a, F32>]) -> Option<Reg<'a, F32>> {
    let mut pairs = a.iter().zip(b);
    let (&a, &b) = pairs.next()?;
    Some(pairs.fold(a * b, |sum, (a, &b)| a.mad(b, sum)))
}

/// Both of two conditions that may be absent.
fn both<'a>(a: Option<Reg<'a, Pred>>, b: Option<Reg<'a, Pred>>) -> Option<Reg<'a, Pred>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a & b),
        (a, b) => a.or(b),
    }
}

/// Runs a few instructions where the condition holds; everywhere without one.
fn when<'a>(asm: &'a Asm, condition: Option<Reg<'a, Pred>>, body: impl FnOnce()) {
    match condition {
        Some(p) => asm.when(p, body),
        None => body(),
    }
}

/// What `load` gives where the condition holds, and `len` zeros elsewhere.
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

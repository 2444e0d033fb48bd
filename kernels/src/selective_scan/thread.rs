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
pub(super) struct Inputs<'k, T: Real> {
    u: Global<'k, T>,
    delta: Global<'k, T>,
    bias: Option<Global<'k, F32>>,
    /// A, or A_log.
    pub a: Global<'k, F32>,
    b: Global<'k, T>,
    c: Global<'k, T>,
    d: Option<Global<'k, F32>>,
    z: Option<Global<'k, T>>,
}

impl<'k, T: Real> Inputs<'k, T> {
    /// Declares them.
    pub fn parameters(k: &'k Asm, spec: &SelectiveScan) -> Self {
        Self {
            u: k.pointer("u"),
            delta: k.pointer("delta"),
            bias: spec.dt_bias.then(|| k.pointer("bias")),
            a: k.pointer(if spec.log_a { "a_log" } else { "a" }),
            b: k.pointer("b"),
            c: k.pointer("c"),
            d: spec.skip.then(|| k.pointer("d")),
            z: spec.gate.then(|| k.pointer("z")),
        }
    }
}

/// A number for each of a thread's states, channel by channel; `None` is zeros.
pub(super) type States<'k> = Option<Vec<Reg<'k, F32>>>;

/// A thread of a block that has `block_channels` channels of one sequence, its axes those of the grid.
pub(super) struct Thread<'k, T: Real> {
    pub k: &'k Asm,
    pub spec: SelectiveScan,
    pub layout: Layout,
    pub inputs: Inputs<'k, T>,
    /// The sequence.
    pub sequence: Reg<'k, U32>,
    /// Its place among the lanes of its channels: which states it has, and which step of a group.
    pub place: Reg<'k, U32>,
    /// Its first state.
    pub state: Reg<'k, U32>,
    /// Its first channel.
    pub channel: Reg<'k, U32>,
    /// Whether there is such a channel, where some threads have none.
    exists: Option<Reg<'k, Pred>>,
    /// A·log₂ e.
    pub a: Vec<Reg<'k, F32>>,
    /// D, zeros without it.
    pub d: Vec<Reg<'k, F32>>,
    /// The bias of delta.
    bias: Option<Vec<Reg<'k, F32>>>,
}

/// Steps of a sequence that begin at some row of [B·L]: where the thread's elements lie.
pub(super) struct Steps<'k, T: Real> {
    /// Of its channels at its step of the first group.
    u: Global<'k, T>,
    delta: Global<'k, T>,
    z: Option<Global<'k, T>>,
    /// Of its states at the first step.
    b: Global<'k, T>,
    c: Global<'k, T>,
}

/// A step for each lane that shares a channel: `count` steps from `first` on, the lane of place p has step `first + p`.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub first: u32,
    pub count: u32,
}

/// What a lane has of its step of a group, a number a channel; zeros where there is no such step or channel.
pub(super) struct Mine<'k> {
    /// Δ.
    pub dt: Vec<Reg<'k, F32>>,
    pub u: Vec<Reg<'k, F32>>,
    /// Δ·u.
    pub dtu: Vec<Reg<'k, F32>>,
}

impl<'k> Mine<'k> {
    /// From Δ and u.
    pub fn new(dt: Vec<Reg<'k, F32>>, u: Vec<Reg<'k, F32>>) -> Self {
        let dtu = dt.iter().zip(&u).map(|(&dt, &u)| dt * u).collect();
        Self { dt, u, dtu }
    }
}

impl<'k, T: Real> Thread<'k, T> {
    /// This one.
    pub fn new(k: &'k Asm, spec: &SelectiveScan, layout: Layout, inputs: Inputs<'k, T>) -> Self {
        k.step(
            "the lanes of a channel take its states and, for what there is once a step, the steps of a group",
        );
        let (group, place) = k.divide(k.thread(0), layout.lanes);
        let channel = k.block(0).mad(layout.block_channels(), group * layout.channels);
        let threads = layout.blocks(spec.channels) * BLOCK / layout.lanes * layout.channels;
        let exists = (threads > spec.channels).then(|| channel.lt(spec.channels));
        let state = place * layout.states;
        let row = |array: Global<'k, F32>| {
            or_zeros(k, exists, layout.channels, || F32::load(array.at(channel), layout.channels))
        };
        let bias = inputs.bias.map(row);
        let d = inputs.d.map_or_else(|| vec![k.value(0.0); layout.channels as usize], row);
        let sequence = k.block(1);
        let mut thread = Self {
            k,
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
        thread.a = a.into_iter().map(|a| decay(k, spec, a) * LOG2_E).collect();
        thread
    }

    /// The groups of `steps` steps.
    pub fn groups(&self, steps: u32) -> impl DoubleEndedIterator<Item = Group> + use<T> {
        let lanes = self.layout.lanes;
        (0..steps.div_ceil(lanes))
            .map(move |i| Group { first: i * lanes, count: lanes.min(steps - i * lanes) })
    }

    /// The steps from row `row` of [B·L] on.
    pub fn steps_from(&self, row: Reg<'k, U32>) -> Steps<'k, T> {
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
    pub fn wide(&self, array: Global<'k, T>, row: Reg<'k, U32>, pitch: u32) -> Global<'k, T> {
        array.at((row + self.place).mad(pitch, self.channel))
    }

    /// Whether it has a channel, and a step of the group; `None` where all have.
    fn has(&self, group: Group) -> Option<Reg<'k, Pred>> {
        let step = (group.count < self.layout.lanes).then(|| self.place.lt(group.count));
        both(self.exists, step)
    }

    /// Its channels' elements at its step of a group; `first` is that of the group of step 0.
    pub fn load(&self, first: Global<'k, T>, pitch: u32, group: Group) -> Vec<Reg<'k, F32>> {
        let at = first.plus(i64::from(group.first) * i64::from(pitch));
        let channels = self.layout.channels;
        or_zeros(self.k, self.has(group), channels, || T::load(at, channels))
    }

    /// Writes them.
    pub fn store(&self, first: Global<'k, T>, pitch: u32, group: Group, values: &[Reg<'k, F32>]) {
        let at = first.plus(i64::from(group.first) * i64::from(pitch));
        when(self.k, self.has(group), || T::store(at, values));
    }

    /// Its channels' numbers of a row [D], written by the first lane of each channel.
    pub fn store_row(&self, row: Global<'k, F32>, values: &[Reg<'k, F32>]) {
        let first = (self.layout.lanes > 1).then(|| self.place.eq(0));
        when(self.k, both(self.exists, first), || F32::store(row.at(self.channel), values));
    }

    /// Its states' numbers of a matrix [D, N], from row `row` for its first channel on.
    pub fn load_matrix(&self, matrix: Global<'k, F32>, row: Reg<'k, U32>) -> Vec<Reg<'k, F32>> {
        let at = matrix.at(row.mad(self.spec.states, self.state));
        let row = |c: u32| self.load_states(at.plus((c * self.spec.states).into()), 0, self.exists);
        (0..self.layout.channels).flat_map(row).collect()
    }

    /// Writes them.
    pub fn store_matrix(&self, matrix: Global<'k, F32>, row: Reg<'k, U32>, values: &[Reg<'k, F32>]) {
        let at = matrix.at(row.mad(self.spec.states, self.state));
        let width = self.state_width::<F32>(0);
        for (c, values) in (0..).zip(values.chunks(self.layout.states as usize)) {
            for (s, part) in (0..).step_by(width as usize).zip(values.chunks(width as usize)) {
                let at = at.plus((c * self.spec.states + s).into());
                when(self.k, both(self.exists, self.has_state(s)), || F32::store(at, part));
            }
        }
    }

    /// Its states' numbers of B or C at a step.
    fn load_step(&self, first: Global<'k, T>, step: u32) -> Vec<Reg<'k, F32>> {
        let pitch = self.spec.bc_row;
        self.load_states(first.plus(i64::from(step) * i64::from(pitch)), pitch, None)
    }

    /// B at a step.
    pub fn b(&self, steps: &Steps<'k, T>, step: u32) -> Vec<Reg<'k, F32>> {
        self.load_step(steps.b, step)
    }

    /// C at a step.
    pub fn c(&self, steps: &Steps<'k, T>, step: u32) -> Vec<Reg<'k, F32>> {
        self.load_step(steps.c, step)
    }

    /// z at its step of a group, with the gate.
    pub fn z(&self, steps: &Steps<'k, T>, group: Group) -> Option<Vec<Reg<'k, F32>>> {
        steps.z.map(|z| self.load(z, self.spec.z_row, group))
    }

    /// A row of its states, in rows `pitch` elements apart, where the condition holds; zeros for states beyond N.
    fn load_states<X: Real>(
        &self,
        at: Global<'k, X>,
        pitch: u32,
        condition: Option<Reg<'k, Pred>>,
    ) -> Vec<Reg<'k, F32>> {
        let width = self.state_width::<X>(pitch);
        let part = |s: u32| {
            or_zeros(self.k, both(condition, self.has_state(s)), width, || X::load(at.plus(s.into()), width))
        };
        (0..self.layout.states).step_by(width as usize).flat_map(part).collect()
    }

    /// States of an access.
    fn state_width<X: Real>(&self, pitch: u32) -> u32 {
        access_width(self.spec.states | pitch, self.layout.states.min(X::VECTOR))
    }

    /// Whether its state number `s` is one of the N, where not all are.
    pub fn has_state(&self, s: u32) -> Option<Reg<'k, Pred>> {
        let all = self.layout.states * self.layout.lanes == self.spec.states;
        (!all).then(|| (self.state + s).lt(self.spec.states))
    }

    /// u at its step of a group.
    pub fn u(&self, steps: &Steps<'k, T>, group: Group) -> Vec<Reg<'k, F32>> {
        self.load(steps.u, self.spec.channels, group)
    }

    /// delta + bias at its step of a group.
    pub fn delta(&self, steps: &Steps<'k, T>, group: Group) -> Vec<Reg<'k, F32>> {
        let delta = self.load(steps.delta, self.spec.channels, group);
        match &self.bias {
            Some(bias) => delta.into_iter().zip(bias).map(|(x, &bias)| x + bias).collect(),
            None => delta,
        }
    }

    /// What the lane has of its step of a group.
    pub fn mine(&self, steps: &Steps<'k, T>, group: Group) -> Mine<'k> {
        let (u, x) = (self.u(steps, group), self.delta(steps, group));
        let dt = x.into_iter().map(|x| if self.spec.softplus { self.k.softplus(x) } else { x });
        Mine::new(dt.collect(), u)
    }

    /// The number that the lane of step `j` of a group has, in all lanes of its channel.
    pub fn at_step(&self, mine: &[Reg<'k, F32>], j: u32) -> Vec<Reg<'k, F32>> {
        mine.iter().map(|x| x.shuffle_in_group(j, self.layout.lanes)).collect()
    }

    /// The thread's states: their channel, their number in it (that of B and C), and their number among all of them.
    pub fn each_state(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<T> {
        let [channels, states] = [self.layout.channels, self.layout.states].map(|n| n as usize);
        (0..channels).flat_map(move |c| (0..states).map(move |s| (c, s, c * states + s)))
    }

    /// exp(Δ·A) of state number `i`, one of a channel whose step size is `dt`.
    pub fn decay(&self, dt: Reg<'k, F32>, i: usize) -> Reg<'k, F32> {
        (dt * self.a[i]).exp2_flushed()
    }

    /// h ← exp(Δ·A)·h + Δ·u·B at step `j` of a group.
    pub fn advance(&self, h: &States<'k>, mine: &Mine<'k>, j: u32, b: &[Reg<'k, F32>]) -> States<'k> {
        let (dt, dtu) = (self.at_step(&mine.dt, j), self.at_step(&mine.dtu, j));
        let next = self.each_state().map(|(c, s, i)| match h {
            Some(h) => self.decay(dt[c], i).mad(h[i], dtu[c] * b[s]),
            None => dtu[c] * b[s],
        });
        Some(next.collect())
    }

    /// Σ_n C·h of each channel, over the thread's own states.
    pub fn own_output(&self, h: &States<'k>, c: &[Reg<'k, F32>]) -> Vec<Reg<'k, F32>> {
        let states = h.as_deref().unwrap_or_default().chunks(self.layout.states as usize);
        states.filter_map(|h| dot(h, c)).collect()
    }

    /// Sums over the states of a group's steps, a vector of channels a step: the lane's step's, over all lanes' states.
    pub fn over_states(&self, own: &[Vec<Reg<'k, F32>>]) -> Vec<Reg<'k, F32>> {
        let lanes = self.layout.lanes as usize;
        let channel = |c: usize| {
            let mut steps: Vec<_> = own.iter().map(|step| step[c]).collect();
            steps.resize_with(lanes, || self.k.value(0.0));
            self.k.lanes_scatter(&steps, 1, self.layout.lanes)[0]
        };
        (0..self.layout.channels as usize).map(channel).collect()
    }

    /// s = Σ_n C·h + D·u of its step of a group.
    pub fn output(&self, own: &[Vec<Reg<'k, F32>>], mine: &Mine<'k>) -> Vec<Reg<'k, F32>> {
        let sums = self.over_states(own);
        if !self.spec.skip {
            return sums;
        }
        sums.into_iter().zip(&self.d).zip(&mine.u).map(|((sum, d), &u)| d.mad(u, sum)).collect()
    }
}

/// A from what is given for it.
pub(super) fn decay<'k>(k: &'k Asm, spec: &SelectiveScan, given: Reg<'k, F32>) -> Reg<'k, F32> {
    if spec.log_a { -k.exp(given) } else { given }
}

/// Σ a·b, fused from the first product on.
fn dot<'k>(a: &[Reg<'k, F32>], b: &[Reg<'k, F32>]) -> Option<Reg<'k, F32>> {
    let mut pairs = a.iter().zip(b);
    let (&a, &b) = pairs.next()?;
    Some(pairs.fold(a * b, |sum, (a, &b)| a.mad(b, sum)))
}

/// Both of two conditions that may be absent.
fn both<'k>(a: Option<Reg<'k, Pred>>, b: Option<Reg<'k, Pred>>) -> Option<Reg<'k, Pred>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a & b),
        (a, b) => a.or(b),
    }
}

/// Runs a few instructions where the condition holds; everywhere without one.
fn when<'k>(k: &'k Asm, condition: Option<Reg<'k, Pred>>, body: impl FnOnce()) {
    match condition {
        Some(p) => k.when(p, body),
        None => body(),
    }
}

/// What `load` gives where the condition holds, and `len` zeros elsewhere.
fn or_zeros<'k>(
    k: &'k Asm,
    condition: Option<Reg<'k, Pred>>,
    len: u32,
    load: impl FnOnce() -> Vec<Reg<'k, F32>>,
) -> Vec<Reg<'k, F32>> {
    let Some(p) = condition else { return load() };
    let values: Vec<_> = (0..len).map(|_| k.var::<F32>(0.0)).collect();
    k.when(p, || values.iter().zip(load()).for_each(|(value, x)| value.set(x)));
    values.into_iter().map(|value| value.get()).collect()
}

//! A thread of either pass: its channels, its piece of a sequence, and the rows around the piece.

use super::{CausalConv1d, Pieces};
use crate::{
    ptx::{Asm, F32, Global, Pred, Reg, U32},
    span::Real,
};

/// A thread's channels of one row of x or of the weights.
pub(super) type Row<'a> = Vec<Reg<'a, F32>>;

/// A thread with its vector of channels and its piece of a sequence.
pub(super) struct Thread<'a> {
    asm: &'a Asm,
    spec: CausalConv1d,
    /// Index of the piece among all pieces of all sequences.
    pub piece: Reg<'a, U32>,
    /// Index of the piece in its sequence.
    in_sequence: Reg<'a, U32>,
    /// First channel of the vector.
    pub channel: Reg<'a, U32>,
    /// First row of the piece in [B·L].
    row: Reg<'a, U32>,
}

impl<'a> Thread<'a> {
    /// The current thread: channels vary fastest, then pieces, then sequences. Threads beyond them exit here.
    pub fn new(asm: &'a Asm, spec: &CausalConv1d) -> Self {
        let Pieces { count, steps, .. } = spec.pieces();
        let vectors = spec.channels / spec.width();
        let thread = asm.global_thread();
        asm.exit_if(thread.ge(vectors * spec.batch * count));
        let (piece, vector) = asm.divide(thread, vectors);
        let (sequence, in_sequence) = asm.divide(piece, count);
        let row = sequence.mad(spec.length, in_sequence * steps);
        Self { asm, spec: *spec, piece, in_sequence, channel: vector * spec.width(), row }
    }

    /// Emits `body` for the piece's number of steps, a constant of the text: once for the last piece if it is shorter,
    /// and once for all others.
    pub fn by_length(&self, body: impl Fn(u32)) {
        let Pieces { count, steps, last } = self.spec.pieces();
        if count > 1 && last < steps {
            self.asm.if_else(self.in_sequence.lt(count - 1), || body(steps), || body(last));
        } else {
            body(steps);
        }
    }

    /// Address of its channels in its first row, where rows are `pitch` elements apart.
    pub fn at<T: Real>(&self, array: Global<'a, T>, pitch: u32) -> Global<'a, T> {
        array.at(self.row.mad(pitch, self.channel))
    }

    /// Loads rows `from` to `to` − 1, counted from the first of a piece of `steps`; zeros outside of the sequence.
    pub fn rows<T: Real>(
        &self,
        first: Global<'a, T>,
        pitch: u32,
        steps: u32,
        from: i64,
        to: i64,
    ) -> Vec<Row<'a>> {
        let (asm, width) = (self.asm, self.spec.width());
        let load = |t: i64| T::load(first.plus(t * i64::from(pitch)), width);
        let row = |t: i64| match self.inside(steps, t) {
            Inside::Always => load(t),
            Inside::Never => vec![asm.value(0.0); width as usize],
            Inside::Where(inside) => {
                let values: Vec<_> = (0..width).map(|_| asm.var::<F32>(0.0)).collect();
                asm.when(inside, || values.iter().zip(load(t)).for_each(|(value, x)| value.set(x)));
                values.into_iter().map(|value| value.get()).collect()
            }
        };
        (from..to).map(row).collect()
    }

    /// Whether row `t` of a piece of `steps` lies inside the sequence.
    fn inside(&self, steps: u32, t: i64) -> Inside<'a> {
        let pieces = self.spec.pieces();
        let own = 0..i64::from(steps);
        if own.contains(&t) {
            return Inside::Always;
        }
        if pieces.count == 1 {
            return Inside::Never;
        }
        // Pieces may be shorter than the filter, so compare with the sequence's steps.
        let step = self.in_sequence * pieces.steps;
        Inside::Where(if t < 0 {
            step.ge(t.unsigned_abs() as u32)
        } else {
            (step + t as u32).lt(self.spec.length)
        })
    }

    /// Loads the channels' weights, [K][channels], and their bias.
    pub fn weights(&self, weight: Global<'a, F32>, bias: Global<'a, F32>) -> (Vec<Row<'a>>, Row<'a>) {
        let CausalConv1d { channels, taps, .. } = self.spec;
        let (weight, width) = (weight.at(self.channel), self.spec.width());
        let taps = (0..taps).map(|tap| F32::load(weight.plus((tap * channels).into()), width));
        (taps.collect(), F32::load(bias.at(self.channel), width))
    }
}

/// Whether a row exists, as far as the text's constants decide it.
enum Inside<'a> {
    Always,
    Never,
    Where(Reg<'a, Pred>),
}

/// `sum` + Σ_k w_k·rows_k, by channel, the oldest row first.
pub(super) fn taps<'a>(weights: &[Row<'a>], rows: &[Row<'a>], sum: &Row<'a>) -> Row<'a> {
    let add = |sum: Row<'a>, (w, x): (&Row<'a>, &Row<'a>)| {
        sum.into_iter().zip(w.iter().zip(x)).map(|(sum, (w, &x))| w.mad(x, sum)).collect()
    };
    weights.iter().zip(rows).fold(sum.clone(), add)
}

//! A stopwatch around every operator: what each pass took, and what it had to do.

use std::{cell::RefCell, time::Instant};

use crate::Shape;

/// Direction of an operator's pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The output from the inputs.
    Forward,
    /// The inputs' gradients from the output's.
    Backward,
}

/// One pass of one operator, as [`profile`] records it.
#[derive(Clone, Debug, PartialEq)]
pub struct PassTime {
    /// The operator's name.
    pub op: &'static str,
    /// Forward or backward.
    pub direction: Direction,
    /// Shapes of its inputs.
    pub inputs: Vec<Shape>,
    /// Wall-clock time in seconds. A gradient that is added to another counts for the operator that made it.
    pub seconds: f64,
    /// Floating-point operations of its matrix products ([`Op::operations`](crate::Op::operations)); twice as many
    /// backward, less those of an input without a gradient.
    pub operations: u64,
    /// The fewest bytes that move: inputs and output once; backward also the gradients.
    pub bytes: u64,
}

thread_local! {
    static RECORD: RefCell<Option<Vec<PassTime>>> = const { RefCell::new(None) };
}

/// Runs `body` and returns, beside its result, every operator's pass that this thread ran in it, in order. On a GPU the
/// times are those of the launches.
pub fn profile<R>(body: impl FnOnce() -> R) -> (R, Vec<PassTime>) {
    struct Restore(Option<Option<Vec<PassTime>>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(before) = self.0.take() {
                RECORD.replace(before);
            }
        }
    }
    let mut restore = Restore(Some(RECORD.replace(Some(Vec::new()))));
    let result = body();
    let passes = RECORD.replace(restore.0.take().flatten()).unwrap_or_default();
    (result, passes)
}

/// Runs a pass; `describe` makes its record from its time where one is kept.
pub(crate) fn timed<R>(pass: impl FnOnce() -> R, describe: impl FnOnce(f64) -> PassTime) -> R {
    if RECORD.with_borrow(Option::is_none) {
        return pass();
    }
    let start = Instant::now();
    let result = pass();
    let record = describe(start.elapsed().as_secs_f64());
    RECORD.with_borrow_mut(|passes| passes.get_or_insert_default().push(record));
    result
}

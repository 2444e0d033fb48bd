//! Every operator and composite against central differences in f64, over shapes and attributes drawn at random but the
//! same in every run. Operators are drawn from the rows of `src/check/operators/`, parts of the model from those of
//! `gradcheck/composites.rs`.

use std::sync::LazyLock;

use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};
use ssmv_raw::check::{self, operators::By};

#[path = "gradcheck/composites.rs"]
mod composites;
#[path = "gradcheck/gradients.rs"]
mod gradients;
#[path = "gradcheck/refusals.rs"]
mod refusals;
#[path = "gradcheck/seeded.rs"]
mod seeded;

/// Thread pools of other sizes than the default one; results must have the same bits on all.
fn pools() -> &'static [(usize, ThreadPool)] {
    static POOLS: LazyLock<Vec<(usize, ThreadPool)>> = LazyLock::new(|| {
        [1, 3].map(|n| (n, ThreadPoolBuilder::new().num_threads(n).build().expect("threads start"))).into()
    });
    &POOLS
}

fn check_all<T: Sync>(table: &[T], check: fn(&T) -> Result<(), String>) {
    let failures: Vec<String> = table.par_iter().filter_map(|row| check(row).err()).collect();
    assert!(failures.is_empty(), "{} of {} rows fail:\n{}", failures.len(), table.len(), failures.join("\n"));
}

#[test]
fn operators() {
    let all = check::operators().flat_map(|row| row.drawn.iter().map(move |check| (row, check)));
    let checks: Vec<_> = all.filter(|(_, check)| matches!(check.by, By::Gradients(_))).collect();
    check_all(&checks, gradients::row);
}

#[test]
fn composites() {
    check_all(composites::TABLE, composites::check);
}

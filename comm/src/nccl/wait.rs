//! Waiting with a limit.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::Result;

/// Looks that are taken without a pause: most work is done at once.
const EAGER: usize = 20;
/// The first pause between two looks, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// Looks again and again until `done`, which may fail, says so; false when the time is over. It looks once at least.
pub(super) fn until(limit: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let (start, mut looks, mut pause) = (Instant::now(), 0, PAUSES.0);
    while !done()? {
        if start.elapsed() >= limit {
            return Ok(false);
        }
        looks += 1;
        if looks < EAGER {
            thread::yield_now();
        } else {
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nccl::Error;

    #[test]
    fn it_ends_when_done_when_late_and_when_it_fails() {
        let mut looks = 0;
        let mut third = || {
            looks += 1;
            Ok(looks == 3)
        };
        assert_eq!(until(Duration::from_secs(60), &mut third), Ok(true));
        assert_eq!(until(Duration::from_millis(5), || Ok(false)), Ok(false));
        let failure = Error::misuse("look", "it failed");
        assert_eq!(until(Duration::from_secs(60), || Err(failure.clone())), Err(failure));
        assert_eq!(until(Duration::ZERO, || Ok(true)), Ok(true));
    }
}

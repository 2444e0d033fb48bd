//! How many threads the work is spread over.

use crate::{Error, Result};

/// Lets all parallel work of this process use `threads` threads, or one a core. To be called once, before any work.
///
/// # Errors
/// [`Error::Failure`] when the system does not give that many threads.
pub fn use_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else {
        return Ok(());
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .map_err(|e| Error::Failure(format!("cannot start {threads} threads: {e}; lower --threads")))
}

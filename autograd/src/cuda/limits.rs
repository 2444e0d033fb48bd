//! Limits of a launch, checked before it reaches the driver.

use super::driver::{DeviceInfo, FunctionAttributes, LaunchConfig};
use crate::{Error, Result};

/// Shared memory in bytes that a kernel may use without opting in (CUDA C++ programming guide, "Shared memory").
const SHARED_BY_DEFAULT: u32 = 48 << 10;
/// Most threads of a block along x, y, z, and in total (same guide, "Technical specifications per compute capability").
const BLOCK: [u32; 3] = [1024, 1024, 64];
const THREADS: u32 = 1024;
/// Most blocks of a grid along x, y, z (same place).
const GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// An error if the kernel requests more dynamic shared memory than this device has.
pub(super) fn check_shared(
    kernel: &str,
    bytes: u32,
    attributes: &FunctionAttributes,
    device: &DeviceInfo,
) -> Result<()> {
    let total = u64::from(bytes) + u64::from(attributes.static_shared);
    if total <= u64::from(device.shared_per_block) {
        return Ok(());
    }
    Err(Error::misuse(
        format!("shared memory of {kernel}"),
        format!("{total} bytes a block, and {} has {}", device.name, device.shared_per_block),
    ))
}

/// An error for a launch that is empty, larger than the device allows, or beyond the allowed shared memory.
pub(super) fn check_launch(
    kernel: &str,
    config: &LaunchConfig,
    attributes: &FunctionAttributes,
    allowed_shared: u32,
) -> Result<()> {
    let refuse = |message: String| Err(Error::misuse(format!("launch {kernel}"), message));
    let LaunchConfig { grid, block, shared } = *config;
    let within =
        |sizes: [u32; 3], most: [u32; 3]| sizes.iter().zip(most).all(|(&n, most)| (1..=most).contains(&n));
    if !within(grid, GRID) {
        return refuse(format!(
            "a grid of {grid:?} blocks; each side must be at least 1 and at most {GRID:?}"
        ));
    }
    if !within(block, BLOCK) {
        return refuse(format!(
            "a block of {block:?} threads; each side must be at least 1 and at most {BLOCK:?}"
        ));
    }
    let threads: u32 = block.iter().product();
    let most = if attributes.max_threads == 0 { THREADS } else { attributes.max_threads };
    if threads > most {
        return refuse(format!("a block of {threads} threads; the kernel runs with {most} at most"));
    }
    let default = SHARED_BY_DEFAULT.saturating_sub(attributes.static_shared);
    if shared > default.max(allowed_shared) {
        return refuse(format!(
            "{shared} bytes of dynamic shared memory; {} are allowed until more is asked for",
            default.max(allowed_shared)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_launches_are_refused() {
        let attributes = FunctionAttributes { static_shared: 1024, max_threads: 512, ..Default::default() };
        let check = |grid, block, shared, allowed| {
            check_launch("k", &LaunchConfig { grid, block, shared }, &attributes, allowed)
        };
        check([1, 1, 1], [512, 1, 1], 47 << 10, 0).unwrap();
        check([GRID[0], 65_535, 65_535], [1, 1, 64], 100 << 10, 100 << 10).unwrap();
        for (grid, block, shared, part) in [
            ([0, 1, 1], [1, 1, 1], 0, "grid"),
            ([1, 65_536, 1], [1, 1, 1], 0, "grid"),
            ([u32::MAX, 1, 1], [1, 1, 1], 0, "grid"),
            ([1, 1, 1], [1, 0, 1], 0, "block"),
            ([1, 1, 1], [1, 1, 65], 0, "block"),
            ([1, 1, 1], [1025, 1, 1], 0, "block"),
            ([1, 1, 1], [513, 1, 1], 0, "512 at most"),
            ([1, 1, 1], [1024, 1024, 64], 0, "512 at most"),
            ([1, 1, 1], [1, 1, 1], (47 << 10) + 1, "dynamic shared"),
        ] {
            let error = check(grid, block, shared, 0).unwrap_err().to_string();
            assert!(error.starts_with("launch k: ") && error.contains(part), "{error}");
        }
    }
}

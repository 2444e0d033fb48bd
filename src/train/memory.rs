//! Memory checks: of the host's memory before a training allocates anything large, and of a device's after it was full.

use rustix::process::{Resource, getrlimit};
use ssmv_autograd::{cuda::DeviceInfo, host_memory};

use super::gpu::largest_batch;
use crate::{
    Error, Result,
    config::TrainConfig,
    device,
    model::{FRAMES_OUT, Preset, outline},
};

/// Number of maps of the stem's size that a step holds at its peak, activations and gradients together: measured on
/// `tiny` (19.5) and `small` (19).
const MAPS: u64 = 20;
/// Number of all maps of the decoder that a step holds for each predicted frame beyond the two that [`MAPS`] includes:
/// measured with 20 frames on `tiny` (5.4) and `small` (8.5).
const FRAME_MAPS: u64 = 9;
/// The part 1/n of a device's free memory that is left for the kernels' code.
const CODE_SHARE: u64 = 32;
/// f32 values per parameter: the value, its gradient, two moments.
const COPIES: u64 = 4;

/// Refuses a batch whose step would need more than the free memory. Not checked on systems that do not report their
/// free memory.
///
/// # Errors
/// [`Error::Usage`] with the estimate and a batch size that would fit.
pub(super) fn check(config: &TrainConfig) -> Result<()> {
    let preset = &config.model()?;
    let parameters = outline(preset).0.iter().map(|p| p.layout.numel()).sum();
    let limits = [host_memory().map(|memory| memory.available), addresses_left()];
    limits.into_iter().flatten().min().map_or(Ok(()), |free| fits(config, preset, parameters, free))
}

/// Remaining bytes below the limit of the process's address space (`ulimit -v`), if there is one.
fn addresses_left() -> Option<u64> {
    let most = getrlimit(Resource::As).current?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?.split_whitespace().next()?;
    Some(most.saturating_sub(used.parse::<u64>().ok()?.saturating_mul(1024)))
}

fn fits(config: &TrainConfig, preset: &Preset, parameters: usize, free: u64) -> Result<()> {
    let side = (preset.size / 2) as u64;
    let up = |(i, channels): (usize, &usize)| ((preset.start() << i) as u64).pow(2) * *channels as u64;
    let frame: u64 = preset.decoder.iter().enumerate().skip(1).map(up).sum();
    let more_frames = preset.frames_out.saturating_sub(FRAMES_OUT) as u64;
    let sample = MAPS * config.frames_in as u64 * side * side * preset.stem as u64 * 4
        + FRAME_MAPS * more_frames * frame * 4;
    let copies = COPIES + u64::from(config.ema.is_some());
    let model = parameters as u64 * 4 * copies;
    let need = sample.saturating_mul(config.batch_size as u64).saturating_add(model);
    if need <= free {
        return Ok(());
    }
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let advice = match free.saturating_sub(model) / sample {
        0 => "take a smaller --preset".to_owned(),
        most => format!("{most} would fit, and --accumulate makes several batches one step"),
    };
    Err(Error::Usage(format!(
        "--batch-size {}: a step of `{}` takes about {:.1} GB, and {:.1} GB of memory are free; {advice}",
        config.batch_size,
        preset.name,
        gigabytes(need),
        gigabytes(free)
    )))
}

/// Adds the largest batch that would fit to an out-of-memory error, counted after the training is dropped.
pub(super) fn advise(config: &TrainConfig, error: Error) -> Error {
    let Error::Tensor(ssmv_autograd::Error::OutOfMemory { device, asked, free, total, pool, advice }) = error
    else {
        return error;
    };
    let fitting = free_device(config).and_then(|device| match device {
        Some(device) => largest_batch(config, &device),
        None => Ok(None),
    });
    let advice = match fitting {
        Ok(Some(batch)) => {
            format!("--batch-size {batch} would fit, and --accumulate makes several batches one step")
        }
        Ok(None) => "no batch fits; take a smaller --preset".to_owned(),
        // Keep the original advice: an error of this search explains less.
        Err(_) => advice,
    };
    ssmv_autograd::Error::OutOfMemory { device, asked, free, total, pool, advice }.into()
}

/// The device of the configuration with its free memory.
fn free_device(config: &TrainConfig) -> Result<Option<DeviceInfo>> {
    let Some(cuda) = device::open(config.device)? else { return Ok(None) };
    let free = cuda.driver().memory()?.free;
    Ok(Some(DeviceInfo { memory: free - free / CODE_SHARE, ..cuda.device().clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PRESETS;

    #[test]
    fn absurd_batches_are_refused_and_the_defaults_are_not() {
        for (preset, parameters) in
            PRESETS.iter().zip([75_939, 1_095_139, 8_369_267, 230_046_051, 559_803_875])
        {
            let config = TrainConfig::preset(preset.name).unwrap();
            fits(&config, preset, parameters, 16 << 30).unwrap();
            let absurd = TrainConfig { batch_size: 65_536, ..config.clone() };
            let error = fits(&absurd, preset, parameters, 16 << 30).unwrap_err().to_string();
            assert!(error.contains("65536") && error.contains("would fit"), "{error}");
            let error = fits(&config, preset, parameters, 1 << 20).unwrap_err().to_string();
            assert!(error.contains("--preset"), "{error}");
            // Twenty frames need several times the memory of two.
            let most = preset.with(preset.size, 20).unwrap();
            let batch = TrainConfig { batch_size: 64, ..config.clone() };
            let largest = |preset: &Preset| {
                let fit = |free: &u64| fits(&batch, preset, 0, *free << 20).is_ok();
                (1..1 << 20).find(fit).unwrap()
            };
            assert!(largest(&most) > largest(preset) * 3 / 2, "{}", preset.name);
        }
    }
}

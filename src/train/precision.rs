//! The precision in which a training's device computes.

use crate::{
    Error, Result,
    config::{Device, Precision},
};

/// The precision that `asked` selects on a GPU, which `--device` selected, or on a processor for `None`; never `auto`.
/// `bf16`: whether the processor has products of bf16.
///
/// # Errors
/// [`Error::Usage`] for a precision that the device does not have; it names one to take.
pub(super) fn resolve(asked: Precision, gpu: Option<Device>, bf16: bool) -> Result<Precision> {
    let refused = |text: &str| Err(Error::Usage(format!("--precision {asked}: {text}")));
    match (gpu, asked) {
        (Some(_), Precision::Auto | Precision::F16) => Ok(Precision::F16),
        (Some(device), Precision::F32 | Precision::Bf16) => refused(&format!(
            "the kernels of a GPU take f16; take --precision f16, or --device cpu (--device is {device})"
        )),
        (None, Precision::Auto | Precision::F32) => Ok(Precision::F32),
        (None, Precision::Bf16) if bf16 => Ok(Precision::Bf16),
        (None, Precision::Bf16) => {
            refused("this processor has no products of bf16 (avx512_bf16); take --precision f32")
        }
        (None, Precision::F16) if bf16 => {
            refused("the processor trains in f32 or bf16; take one of them, or --device cuda")
        }
        (None, Precision::F16) => {
            refused("the processor trains in f32; take --precision f32, or --device cuda")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Precision::{Auto, Bf16, F16, F32};

    #[test]
    fn a_device_computes_in_what_it_has() {
        for (gpu, bf16, asked, expected) in [
            (None, false, Auto, F32),
            (None, true, Auto, F32),
            (None, true, F32, F32),
            (None, true, Bf16, Bf16),
            (Some(Device::Cuda), true, Auto, F16),
            (Some(Device::Emulator), false, F16, F16),
        ] {
            assert_eq!(resolve(asked, gpu, bf16).unwrap(), expected, "{asked} {gpu:?}");
        }
    }

    #[test]
    fn a_precision_that_is_not_there_is_refused_with_one_that_is() {
        for (gpu, bf16, asked, advice) in [
            (None, false, Bf16, "(avx512_bf16); take --precision f32"),
            (None, false, F16, "take --precision f32, or --device cuda"),
            (None, true, F16, "f32 or bf16; take one of them, or --device cuda"),
            (
                Some(Device::Emulator),
                true,
                Bf16,
                "take --precision f16, or --device cpu (--device is emulator)",
            ),
            (Some(Device::Auto), true, F32, "take --precision f16, or --device cpu (--device is auto)"),
        ] {
            let error = resolve(asked, gpu, bf16).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("--precision {asked}: ")) && text.ends_with(advice), "{text}");
            assert!(error.exit_code() == 2 && text.lines().count() == 1, "{text}");
        }
    }
}

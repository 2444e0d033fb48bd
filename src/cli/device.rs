//! The device of a command that evaluates: the model there.

use ssmv_autograd::cuda::Cuda;

use crate::Result;
use crate::model::{DevicePredictor, Predict, Predictor};

/// The model on a device that was opened, or on the CPU, ready to predict.
pub fn place(model: Predictor, device: Option<&Cuda>) -> Result<Box<dyn Predict>> {
    Ok(match device {
        Some(cuda) => Box::new(DevicePredictor::upload(&model, cuda)?),
        None => Box::new(model),
    })
}

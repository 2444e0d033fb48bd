//! The device of a command that evaluates: the model there.

use crate::config::Device;
use crate::model::{DevicePredictor, Predict, Predictor};
use crate::{Result, device};

/// The model where `device` says, and ready to predict.
pub fn place(model: Predictor, device: Device) -> Result<Box<dyn Predict>> {
    Ok(match device::open(device)? {
        Some(cuda) => Box::new(DevicePredictor::upload(&model, &cuda)?),
        None => Box::new(model),
    })
}

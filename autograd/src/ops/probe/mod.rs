//! A node in the graph that reports when each pass reaches it, to time parts of a network.

use std::sync::Arc;

use crate::{Backward, Forward, Op, Result, Shape, Tensor, apply};

/// The pass that reached the probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The operators before the probe are computed; on a device, queued.
    Forward,
    /// The gradients of all operators after the probe are computed; on a device, queued.
    Backward,
}

/// Called when a pass reaches the probe.
pub type Listener = Arc<dyn Fn(Pass) -> Result<()> + Send + Sync>;

/// y = x.  dx = dy. Memory is shared and nothing is launched.
pub struct Probe {
    listener: Listener,
}

impl Op for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(inputs[0].clone())
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        (self.listener)(Pass::Forward)?;
        Ok(inputs[0].with_shape(inputs[0].shape().clone()))
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        (self.listener)(Pass::Backward)?;
        cx.give(0, dy.clone())
    }
}

impl Tensor {
    /// The same tensor; calls `listener` when the forward pass reaches it and when the backward pass does.
    pub fn probe(&self, listener: Listener) -> Result<Tensor> {
        apply(Probe { listener }, &[self])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::Gradients;

    #[test]
    fn each_pass_is_heard_in_its_order() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listener = |name: &'static str| -> Listener {
            let heard = Arc::clone(&heard);
            Arc::new(move |pass| {
                heard.lock().unwrap().push((name, pass));
                Ok(())
            })
        };
        let x = Tensor::new([2], &[1.0f64, -2.0]).unwrap().leaf();
        let y = x.scale(3.0).unwrap().probe(listener("first")).unwrap();
        let y = y.mul(&y).unwrap().probe(listener("second")).unwrap().sum(&[0]).unwrap();
        let mut gradients = Gradients::of_leaves();
        y.backward(&mut gradients).unwrap();
        assert_eq!(gradients.of(&x).unwrap().values::<f64>().unwrap(), [18.0, -36.0]);
        let expected = [
            ("first", Pass::Forward),
            ("second", Pass::Forward),
            ("second", Pass::Backward),
            ("first", Pass::Backward),
        ];
        assert_eq!(*heard.lock().unwrap(), expected);
    }
}

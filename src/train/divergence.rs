//! Warnings about a training that goes wrong: black predictions, a loss that is not a number, a loss scale that keeps
//! falling.

/// The latest figures of training or of an evaluation; unknown ones are `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Mean of the predicted pixels.
    pub predicted_mean: Option<f64>,
    /// Mean of the true pixels.
    pub target_mean: Option<f64>,
    /// Mean absolute error per pixel of the prediction.
    pub l1: Option<f64>,
    /// Mean absolute error per pixel of an all-black prediction of the same targets.
    pub black_l1: Option<f64>,
    /// Training loss of the step.
    pub loss: Option<f64>,
    /// The loss scale; `None` without loss scaling.
    pub loss_scale: Option<f32>,
}

/// Stores the state of each warning, and warns only when a state changes.
#[derive(Debug, Clone, Default)]
pub struct DivergenceMonitor {
    black: bool,
    not_a_number: bool,
    /// Peak of the scale since it last grew, and its last value.
    scale: Option<(f32, f32)>,
    scale_falls: bool,
}

/// A prediction darker than this fraction of its target is black.
const DARK: f64 = 0.1;
/// A prediction brighter than this fraction of its target is not black, even if its error is near that of black.
const LIT: f64 = 0.5;
/// Relative distance within which an error is near that of black.
const NEAR_BLACK: f64 = 0.02;
/// A larger fall than in a scale's search for its level.
const FALL: f32 = 1.0 / 256.0;

impl DivergenceMonitor {
    /// A monitor without warnings so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks the figures of step `step`. Returns one line for each problem that began or ended:
    ///
    /// - Black: the predicted mean is below a tenth of the target's, or the L1 within 2 % of black's, unless the
    ///   prediction is known to be at least half as bright as its target.
    /// - NaN: the loss is not finite.
    /// - Falling scale: it is at most 1/256 of its value when it last grew (or began).
    pub fn observe(&mut self, step: u64, figures: &Figures) -> Vec<String> {
        let mut lines = Vec::new();
        self.watch_black(step, figures, &mut lines);
        if let Some(loss) = figures.loss
            && turned(&mut self.not_a_number, !loss.is_finite())
        {
            lines.push(if self.not_a_number {
                format!("step {step}: the loss is {loss}: training has diverged; lower the learning rate")
            } else {
                format!("step {step}: the loss is a number again ({loss:.4})")
            });
        }
        self.watch_scale(step, figures, &mut lines);
        lines
    }

    fn watch_black(&mut self, step: u64, figures: &Figures, lines: &mut Vec<String>) {
        let brightness = figures.predicted_mean.zip(figures.target_mean).filter(|(_, target)| *target > 0.0);
        let brightness = brightness.map(|(predicted, target)| predicted / target);
        let distance = figures.l1.zip(figures.black_l1).filter(|(_, black)| *black > 0.0);
        let distance = distance.map(|(l1, black)| (l1 - black).abs() / black);
        if brightness.is_none() && distance.is_none() {
            return;
        }
        let dark = brightness.is_some_and(|b| b < DARK);
        let lit = brightness.is_some_and(|b| b >= LIT);
        if !turned(&mut self.black, dark || (!lit && distance.is_some_and(|d| d <= NEAR_BLACK))) {
            return;
        }
        let mut facts = Vec::new();
        if let Some((l1, black)) = figures.l1.zip(figures.black_l1) {
            facts.push(format!("L1 {l1:.4} a pixel, all black has {black:.4}"));
        }
        if let Some((predicted, target)) = figures.predicted_mean.zip(figures.target_mean) {
            facts.push(format!("mean {predicted:.4}, the target's is {target:.4}"));
        }
        let facts = facts.join("; ");
        lines.push(if self.black {
            format!(
                "step {step}: the predictor has collapsed to black ({facts}): if it stays there, try another learning \
                 rate, a longer warm-up or the loss l1+mse"
            )
        } else {
            format!("step {step}: the predictor has left black ({facts})")
        });
    }

    fn watch_scale(&mut self, step: u64, figures: &Figures, lines: &mut Vec<String>) {
        let Some(scale) = figures.loss_scale else { return };
        let grew = self.scale.is_none_or(|(_, last)| scale > last);
        let peak = match self.scale {
            Some((peak, _)) if !grew => peak,
            _ => scale,
        };
        self.scale = Some((peak, scale));
        if turned(&mut self.scale_falls, scale <= peak * FALL) {
            lines.push(if self.scale_falls {
                format!(
                    "step {step}: the loss scale fell from {peak} to {scale}: gradients overflow step after step; \
                     training may be diverging"
                )
            } else {
                format!("step {step}: the loss scale grows again ({scale})")
            });
        }
    }
}

/// Sets `state`; returns whether that changed it.
fn turned(state: &mut bool, now: bool) -> bool {
    std::mem::replace(state, now) != now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(predicted: f64, l1: f64) -> Figures {
        Figures {
            predicted_mean: Some(predicted),
            target_mean: Some(0.05),
            l1: Some(l1),
            black_l1: Some(0.0497),
            ..Figures::default()
        }
    }

    #[test]
    fn says_black_once_and_that_it_ended() {
        let mut divergence_monitor = DivergenceMonitor::new();
        assert!(divergence_monitor.observe(1, &evaluation(0.04, 0.03)).is_empty());
        let line = divergence_monitor.observe(2, &evaluation(0.001, 0.0496)).join("\n");
        assert!(
            line.contains("step 2") && line.contains("collapsed to black") && line.contains("0.0497"),
            "{line}"
        );
        assert!(divergence_monitor.observe(3, &evaluation(0.001, 0.0496)).is_empty());
        assert!(divergence_monitor.observe(4, &Figures { loss: Some(0.1), ..Figures::default() }).is_empty());
        assert!(divergence_monitor.observe(5, &evaluation(0.04, 0.03))[0].contains("left black"));
    }

    #[test]
    fn black_is_known_by_its_mean_or_by_its_error() {
        let black = |figures| !DivergenceMonitor::new().observe(0, &figures).is_empty();
        assert!(black(evaluation(0.004, 0.04)), "dark");
        assert!(black(evaluation(0.01, 0.0490)), "near black's error");
        assert!(!black(evaluation(0.045, 0.0490)), "as near, but bright");
        assert!(!black(evaluation(0.01, 0.045)));
        assert!(black(Figures { l1: Some(0.05), black_l1: Some(0.0497), ..Figures::default() }));
        assert!(
            !black(Figures { l1: Some(0.0), black_l1: Some(0.0), ..Figures::default() }),
            "black targets"
        );
    }

    #[test]
    fn says_nan_once() {
        let mut divergence_monitor = DivergenceMonitor::new();
        let mut lines =
            |loss| divergence_monitor.observe(7, &Figures { loss: Some(loss), ..Figures::default() });
        assert!(lines(0.3).is_empty());
        assert!(lines(f64::NAN)[0].contains("the loss is NaN"));
        assert!(lines(f64::INFINITY).is_empty());
        assert!(lines(0.2)[0].contains("a number again"));
    }

    #[test]
    fn says_when_the_scale_keeps_falling() {
        let mut divergence_monitor = DivergenceMonitor::new();
        let mut scale = 65536.0;
        let mut said = Vec::new();
        let mut see = |scale, said: &mut Vec<String>| {
            said.extend(
                divergence_monitor.observe(0, &Figures { loss_scale: Some(scale), ..Figures::default() }),
            );
        };
        for _ in 0..7 {
            see(scale, &mut said);
            scale *= 0.5;
        }
        assert!(said.is_empty(), "{said:?}");
        for _ in 0..5 {
            see(scale, &mut said);
            scale *= 0.5;
        }
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("from 65536 to 256"), "{said:?}");
        see(1024.0, &mut said);
        assert!(said[1].contains("grows again"), "{said:?}");
    }
}

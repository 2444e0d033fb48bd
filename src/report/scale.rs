//! Axes: from values to places, and the round values at their ticks.

/// A linear or logarithmic axis over finite values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

/// A tick of an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Value at the tick.
    pub value: f64,
    /// The value as text.
    pub label: String,
}

impl Scale {
    /// A linear axis from `low` to `high`; wider if both are equal.
    pub fn linear(low: f64, high: f64) -> Self {
        let size = low.abs().max(high.abs());
        let margin = match high - low {
            span if span > 1e-9 * size.max(1e-290) => 0.0,
            _ if size < 1e-290 => 1.0,
            _ => 0.05 * size,
        };
        Self { low: low - margin, high: high + margin, log: false }
    }

    /// A logarithmic axis from `low` to `high`, both above 0; wider if both are equal.
    pub fn log(low: f64, high: f64) -> Self {
        let low = low.max(1e-100);
        let high = high.max(low);
        let factor = if high > low * 1.001 { 1.0 } else { 1.5 };
        Self { low: low / factor, high: high * factor, log: true }
    }

    /// The axis with a margin of `share` of its length at both ends.
    pub fn with_margin(self, share: f64) -> Self {
        if self.log {
            let factor = (self.high / self.low).powf(share);
            return Self { low: self.low / factor, high: self.high * factor, ..self };
        }
        let margin = (self.high - self.low) * share;
        Self { low: self.low - margin, high: self.high + margin, ..self }
    }

    /// Lowest and highest value.
    pub fn limits(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Whether it is logarithmic.
    pub fn is_log(&self) -> bool {
        self.log
    }

    /// Place of a value: 0 at the low end, 1 at the high end; beyond them for values outside.
    pub fn place(&self, value: f64) -> f64 {
        if self.log {
            // A value that has no logarithm is far below the axis.
            let place = (value / self.low).ln() / (self.high / self.low).ln();
            return if place.is_nan() { -10.0 } else { place.clamp(-10.0, 10.0) };
        }
        ((value - self.low) / (self.high - self.low)).clamp(-10.0, 10.0)
    }

    /// As [`Scale::ticks`], of a linear axis that counts: only at whole numbers.
    pub fn whole_ticks(&self, about: usize) -> Vec<Tick> {
        self.linear_ticks(round_step(((self.high - self.low) / about.max(1) as f64).max(1.0)))
    }

    /// About `about` ticks at round values: 1, 2 or 5 times powers of ten; on a logarithmic axis of several decades, powers of
    /// ten.
    pub fn ticks(&self, about: usize) -> Vec<Tick> {
        if self.log {
            let (first, last) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
            let decades = (last - first + 1).max(0) as usize;
            if decades >= 3 {
                let powers = (first..=last).step_by(decades.div_ceil(about + 1));
                return powers.map(|power| tick(10f64.powi(power), 0.0)).collect();
            }
            let fine: Vec<f64> = (first - 1..=last)
                .flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)))
                .filter(|value| (self.low..=self.high).contains(value))
                .collect();
            if fine.len() >= 3 {
                return fine.into_iter().map(|value| tick(value, 0.0)).collect();
            }
        }
        self.linear_ticks(round_step((self.high - self.low) / about.max(1) as f64))
    }

    fn linear_ticks(&self, step: f64) -> Vec<Tick> {
        let first = (self.low / step).ceil();
        let count = (self.high / step + 1e-9).floor() - first;
        // A span far below its values has no round value within it.
        let numbers = (0..=count.clamp(-1.0, 100.0) as i64).map(|i| first + i as f64);
        numbers.map(|number| tick(number * step, step)).collect()
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let digit = least / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|step| digit <= step * (1.0 + 1e-9)).unwrap_or(10.0)
}

/// A tick whose neighbours are `step` apart; 0: its value has one digit.
fn tick(value: f64, step: f64) -> Tick {
    // Without this, a zero that is the difference of two numbers would be -0 or 1e-17.
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    // Rounding must not put a power of ten below itself.
    let size = value.abs() * (1.0 + 1e-12);
    let step = if step > 0.0 { step } else { 10f64.powf(size.log10().floor()) };
    let (unit, suffix) = match size {
        0.0 => (1.0, ""),
        1e15.. => (0.0, ""),
        1e9.. => (1e9, "G"),
        1e6.. => (1e6, "M"),
        1e3.. => (1e3, "k"),
        1e-3.. if size >= 1e-2 || step >= 1e-3 => (1.0, ""),
        _ => (0.0, ""),
    };
    let decimals = |step: f64| (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0) as usize;
    let text = if size == 0.0 {
        "0".to_owned()
    } else if unit > 0.0 {
        format!("{size:.*}", decimals(step / unit), size = size / unit)
    } else {
        let power = size.log10().floor();
        let digits = format!("{:.*}", decimals(step / 10f64.powf(power)), size / 10f64.powf(power));
        format!("{}e{power}", short(&digits))
    };
    let text = if suffix.is_empty() { text.as_str() } else { short(&text) };
    let sign = if value < 0.0 { "−" } else { "" };
    Tick { value, label: format!("{sign}{text}{suffix}") }
}

/// Decimals without zeros at their end.
fn short(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(scale: Scale, about: usize) -> Vec<String> {
        scale.ticks(about).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round() {
        for (low, high, expected) in [
            (0.0, 100.0, &["0", "20", "40", "60", "80", "100"][..]),
            (1.0, 60.0, &["20", "40", "60"]),
            (0.0, 1_000_000.0, &["0", "200k", "400k", "600k", "800k", "1M"]),
            (0.0, 7875.0, &["0", "2k", "4k", "6k"]),
            (0.0, 0.01, &["0", "0.002", "0.004", "0.006", "0.008", "0.010"]),
            (0.0, 2e-4, &["0", "5e-5", "1e-4", "1.5e-4", "2e-4"]),
            (0.0, 1.1e-3, &["0", "5e-4", "1e-3"]),
            (-0.3, 0.3, &["−0.2", "0", "0.2"]),
            (143.52, 143.71, &["143.55", "143.60", "143.65", "143.70"]),
            (5.0, 5.0, &["4.8", "4.9", "5.0", "5.1", "5.2"]),
            (0.0, 0.0, &["−1.0", "−0.5", "0", "0.5", "1.0"]),
        ] {
            assert_eq!(labels(Scale::linear(low, high), 5), expected, "{low} to {high}");
        }
    }

    #[test]
    fn steps_are_counted_in_whole_numbers() {
        let labels = |low, high| -> Vec<String> {
            Scale::linear(low, high).whole_ticks(5).into_iter().map(|tick| tick.label).collect()
        };
        assert_eq!(labels(0.0, 2.0), ["0", "1", "2"]);
        assert_eq!(labels(1.0, 60.0), ["20", "40", "60"]);
        assert_eq!(labels(1.0, 5.0), ["1", "2", "3", "4", "5"]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten_or_the_digits_between() {
        for (low, high, expected) in [
            (1e-4, 1.0, &["1e-4", "0.001", "0.01", "0.1", "1"][..]),
            (0.03, 0.6, &["0.05", "0.1", "0.2", "0.5"]),
            (1e-12, 1e3, &["1e-12", "1e-8", "1e-4", "1"]),
            (0.31, 0.38, &["0.32", "0.34", "0.36", "0.38"]),
            (1024.0, 65536.0, &["2k", "5k", "10k", "20k", "50k"]),
        ] {
            assert_eq!(labels(Scale::log(low, high), 4), expected, "{low} to {high}");
        }
        let equal = Scale::log(65536.0, 65536.0);
        assert_eq!(equal.place(65536.0), 0.5);
        assert_eq!(labels(equal, 4), ["60k", "80k"]);
    }

    #[test]
    fn places_grow_with_values() {
        let scale = Scale::linear(10.0, 20.0);
        assert_eq!([10.0, 15.0, 20.0, 30.0].map(|value| scale.place(value)), [0.0, 0.5, 1.0, 2.0]);
        let scale = Scale::log(0.01, 100.0);
        assert!((scale.place(1.0) - 0.5).abs() < 1e-12);
        assert_eq!([0.0, -1.0].map(|value| scale.place(value)), [-10.0, -10.0]);
        let (low, high) = Scale::linear(0.0, 10.0).with_margin(0.1).limits();
        assert_eq!((low, high), (-1.0, 11.0));
    }

    proptest! {
        #[test]
        fn any_axis_has_few_ticks_within_it(
            low in prop_oneof![-1e100..1e100f64, -1.0..1.0f64, Just(0.0), Just(1e-310)],
            span in prop_oneof![0.0..1e100f64, 0.0..1.0f64, Just(0.0), Just(1e-300)], about in 1..9usize,
        ) {
            let mut scales = vec![Scale::linear(low, low + span)];
            if low > 0.0 {
                scales.push(Scale::log(low, low + span));
            }
            for scale in scales {
                let (ticks, (least, most)) = (scale.ticks(about), scale.limits());
                prop_assert!(ticks.len() <= 2 * about + 10, "{ticks:?}");
                let slack = (most - least) * 1e-6;
                prop_assert!(ticks.iter().all(|t| (least - slack..=most + slack).contains(&t.value)), "{ticks:?}");
                prop_assert!(scale.place(low).is_finite() && scale.place(low + span).is_finite());
            }
        }
    }
}

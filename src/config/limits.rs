//! What each number on the command line and in a file may be: one row an option.

use clap::builder::RangedI64ValueParser;

/// The values that an option may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// A whole number from the first to the second, both allowed.
    Whole(i64, i64),
    /// A number above zero, up to and with this one.
    Positive(f64),
    /// A number from zero up to and with this one.
    NotNegative(f64),
    /// A number from zero to below this one.
    Below(f64),
}
use Limit::{Below, NotNegative, Positive, Whole};

const MILLION: i64 = 1_000_000;
const BILLION: i64 = 1_000_000_000;

/// Every option with a number, by its name.
#[rustfmt::skip]
const LIMITS: &[(&str, Limit)] = &[
    ("threads",          Whole(1, 1024)),
    ("seed",             Whole(0, i64::MAX)),
    ("digits",           Whole(1, 64)),
    ("canvas",           Whole(8, 1024)),
    ("digit-size",       Whole(4, 1024)),
    ("frames-in",        Whole(3, 1000)), // the model's skip connections show it the last three frames
    ("sequences",        Whole(1, BILLION)),
    ("epochs",           Whole(1, MILLION)),
    ("steps",            Whole(1, BILLION)),
    ("batch-size",       Whole(1, 65536)),
    ("accumulate",       Whole(1, 65536)),
    ("lr",               Positive(10.0)),
    ("warmup",           Whole(0, BILLION)),
    ("weight-decay",     NotNegative(10.0)),
    ("clip-norm",        NotNegative(1e9)),
    ("ema",              Below(1.0)),
    ("save-every",       Whole(0, MILLION)),
    ("save-every-steps", Whole(0, BILLION)),
    ("keep-last",        Whole(0, MILLION)),
    ("eval-every",       Whole(0, MILLION)),
    ("eval-sequences",   Whole(1, MILLION)),
    ("zero",             Whole(0, 1)),
    ("bucket-mib",       Whole(1, 65536)),
    ("check-ranks-every", Whole(0, BILLION)),
    ("comm-timeout",     Positive(1e6)),
    ("ranks",            Whole(1, 65535)),
    // Of other commands than `train`.
    ("frames",           Whole(1, 1000)),
    ("roll-out",         Whole(1, 1000)),
    ("index",            Whole(0, BILLION)),
];

/// The limit of the option called `name`, where it is a number.
pub fn find(name: &str) -> Option<Limit> {
    LIMITS.iter().find(|(option, _)| *option == name).map(|(_, limit)| *limit)
}

/// The command line's parser of the whole number called `name`, for commands that have no layers. A name
/// without a row takes any number that is not negative.
pub(crate) fn whole<T>(name: &str) -> RangedI64ValueParser<T>
where
    T: TryFrom<i64> + Clone + Send + Sync,
{
    let (low, high) = match find(name) {
        Some(Whole(low, high)) => (low, high),
        _ => (0, i64::MAX),
    };
    RangedI64ValueParser::new().range(low..=high)
}

impl Limit {
    /// Whether a whole number is within it.
    pub fn allows_whole(self, value: i64) -> bool {
        match self {
            Whole(low, high) => (low..=high).contains(&value),
            _ => self.allows(value as f64),
        }
    }

    /// Whether a number is within it: NaN and the infinities never are.
    pub fn allows(self, value: f64) -> bool {
        match self {
            Whole(low, high) => value.fract() == 0.0 && value >= low as f64 && value <= high as f64,
            Positive(high) => value > 0.0 && value <= high,
            NotNegative(high) => (0.0..=high).contains(&value),
            Below(high) => (0.0..high).contains(&value),
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Whole(low, high) => write!(f, "a whole number from {low} to {high}"),
            Positive(high) => write!(f, "a number above 0, at most {high}"),
            NotNegative(high) => write!(f, "a number from 0 to {high}"),
            Below(high) => write!(f, "0 (off) or a number between 0 and {high}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_are_where_the_text_says() {
        for (name, inside, outside) in [
            ("lr", vec![1e-9, 2e-4, 10.0], vec![0.0, -1e-3, 10.5, f64::NAN, f64::INFINITY]),
            ("ema", vec![0.0, 0.999], vec![1.0, -0.1, f64::NAN]),
            ("weight-decay", vec![0.0, 10.0], vec![-1e-9, 11.0, f64::NAN, f64::NEG_INFINITY]),
            ("frames-in", vec![3.0, 1000.0], vec![2.0, 1001.0, 3.5]),
        ] {
            let limit = find(name).unwrap();
            inside.into_iter().for_each(|value| assert!(limit.allows(value), "{name} {value}"));
            outside.into_iter().for_each(|value| assert!(!limit.allows(value), "{name} {value}"));
        }
        assert!(find("seed").unwrap().allows_whole(i64::MAX));
        assert!(!find("batch-size").unwrap().allows_whole(0));
    }
}

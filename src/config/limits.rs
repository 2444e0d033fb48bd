//! Limits of the numbers on the command line and in a configuration file.

use clap::builder::RangedI64ValueParser;

/// The values that an option may have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Not a number: no limit.
    Any,
    /// A whole number from the first to the second, both allowed.
    Whole(i64, i64),
    /// A number above 0 and at most this.
    Positive(f64),
    /// A number from 0 to this, both allowed.
    NotNegative(f64),
    /// A number from 0 to this, which is not allowed.
    Below(f64),
}
use Limit::{Any, Below, NotNegative, Positive, Whole};

pub(super) const MILLION: i64 = 1_000_000;
pub(super) const BILLION: i64 = 1_000_000_000;

/// Whole numbers of other commands than `train`.
const OTHERS: [(&str, Limit); 4] = [
    ("frames", Whole(1, 1000)),
    ("roll-out", Whole(1, 1000)),
    ("index", Whole(0, BILLION)),
    ("canvas", Whole(8, 1024)),
];

/// The limit of the option `name`, where it is a number.
pub fn find(name: &str) -> Option<Limit> {
    let other = || OTHERS.iter().find(|(option, _)| *option == name).map(|(_, limit)| *limit);
    super::options::limit(name).or_else(other)
}

/// The command line's parser of the whole number `name`, for commands that read no configuration file. A name without a
/// limit takes any number that is not negative.
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

/// As [`whole`], for any number.
pub(crate) fn number(name: &'static str) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync {
    move |text| {
        let limit = find(name).unwrap_or(Any);
        let number = text.parse::<f64>().map_err(|e| e.to_string())?;
        if limit.allows(number) { Ok(number) } else { Err(format!("must be {limit}")) }
    }
}

impl Limit {
    /// True if a whole number is within the limit.
    pub fn allows_whole(self, value: i64) -> bool {
        match self {
            Whole(low, high) => (low..=high).contains(&value),
            _ => self.allows(value as f64),
        }
    }

    /// True if a number is within the limit. NaN and the infinities are never within one.
    pub fn allows(self, value: f64) -> bool {
        match self {
            Any => true,
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
            Any => write!(f, "any value"),
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

//! The values of an array that are black and white.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, data::npy::Dtype};

/// The values that become black and white. Values outside are clamped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ValueRange {
    /// By the type and the values: see [`ValueRange::of`].
    #[default]
    Auto,
    /// These values.
    Between(f64, f64),
}

impl fmt::Display for ValueRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Between(black, white) => write!(f, "{black},{white}"),
        }
    }
}

impl FromStr for ValueRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let number = |part: &str| part.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        let numbers = text.split_once(',').and_then(|(black, white)| Some((number(black)?, number(white)?)));
        match numbers {
            Some((black, white)) if black != white => Ok(Self::Between(black, white)),
            _ => Err(Error::Usage(format!(
                "`{text}` is neither auto nor two different numbers BLACK,WHITE, as in --range=-1,1"
            ))),
        }
    }
}

impl TryFrom<String> for ValueRange {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ValueRange> for String {
    fn from(range: ValueRange) -> Self {
        range.to_string()
    }
}

impl ValueRange {
    /// The range of an array whose values, or a sample of them, lie between `least` and `most`:
    /// - bytes and booleans with nothing above 1: 0 to 1 (a mask); other bytes: 0 to 255;
    /// - uint16: 0 to 255 with nothing above it, else 0 to 65535;
    /// - other types: 0 to 1, or 0 to 255 if a value is above 1 (by more than a rounding error).
    ///
    /// # Errors
    /// What is wrong and the option to give: values below 0, or above 255 in a type without a range of its own.
    pub fn of(self, dtype: Dtype, [least, most]: [f64; 2]) -> Result<(f64, f64), String> {
        // Predictions pass black and white a little; a range of -1 to 1 passes black by far.
        const SLACK: f64 = 0.5;
        if let Self::Between(black, white) = self {
            return Ok((black, white));
        }
        match dtype {
            Dtype::Bool => Ok((0.0, 1.0)),
            Dtype::U8 if most <= 1.0 && most > least => Ok((0.0, 1.0)),
            Dtype::U8 => Ok((0.0, 255.0)),
            Dtype::U16 if most <= 255.0 => Ok((0.0, 255.0)),
            Dtype::U16 => Ok((0.0, 65535.0)),
            _ if least < -SLACK => Err(format!(
                "has values from {least} to {most:.3}; say which are black and white, for example --range=-1,1"
            )),
            _ if most <= 1.0 + SLACK => Ok((0.0, 1.0)),
            _ if most <= 255.5 => Ok((0.0, 255.0)),
            _ => Err(format!(
                "has values from {least} to {most}; say which are black and white, for example --range 0,{most}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers() {
        assert_eq!("auto".parse::<ValueRange>().unwrap(), ValueRange::Auto);
        let range: ValueRange = "-1, 1".parse().unwrap();
        assert_eq!((range, range.to_string().as_str()), (ValueRange::Between(-1.0, 1.0), "-1,1"));
        for bad in ["", "1", "1,1", "a,b", "nan,1", "0,inf"] {
            assert!(bad.parse::<ValueRange>().unwrap_err().to_string().contains("--range"), "{bad}");
        }
    }

    #[test]
    fn types_and_values_decide() {
        for (dtype, values, range) in [
            (Dtype::U8, [0.0, 200.0], (0.0, 255.0)),
            (Dtype::U8, [0.0, 1.0], (0.0, 1.0)),
            (Dtype::U8, [0.0, 0.0], (0.0, 255.0)),
            (Dtype::Bool, [0.0, 1.0], (0.0, 1.0)),
            (Dtype::U16, [0.0, 255.0], (0.0, 255.0)),
            (Dtype::U16, [0.0, 4000.0], (0.0, 65535.0)),
            (Dtype::F32, [0.0, 0.9], (0.0, 1.0)),
            (Dtype::F64, [0.0, 255.0], (0.0, 255.0)),
            (Dtype::I64, [0.0, 17.0], (0.0, 255.0)),
        ] {
            assert_eq!(ValueRange::Auto.of(dtype, values).unwrap(), range, "{dtype:?} {values:?}");
        }
        assert!(ValueRange::Auto.of(Dtype::F32, [-1.0, 1.0]).unwrap_err().contains("--range=-1,1"));
        assert!(ValueRange::Auto.of(Dtype::F32, [0.0, 4095.0]).unwrap_err().contains("--range 0,4095"));
        let given = ValueRange::Between(-1.0, 1.0);
        assert_eq!(given.of(Dtype::F32, [-9.0, 9.0]).unwrap(), (-1.0, 1.0));
    }
}

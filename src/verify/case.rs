//! A golden case in memory: its operator, attributes and tensors.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use ssmv_autograd::{DType, Tensor};

use crate::{Error, Result};

/// The largest file that is read, in bytes.
const LARGEST_FILE: u64 = 1 << 30;
/// The largest whole number that an attribute may be: a kernel, stride or padding beyond it is a mistake.
const LARGEST_ATTRIBUTE: u64 = 4096;

/// Elements that an intermediate result may have: 2 GiB in f64.
const LARGEST_RESULT: usize = 1 << 28;

/// Values in row-major order under a shape, in PyTorch's layout.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    pub fn of(tensor: &Tensor) -> Result<Self> {
        Ok(Self { shape: tensor.shape().to_vec(), values: tensor.to_f64()? })
    }

    pub fn vector(values: Vec<f64>) -> Self {
        Self { shape: vec![values.len()], values }
    }

    pub fn tensor(&self, dtype: DType) -> Result<Tensor> {
        Ok(Tensor::new(&self.shape, &self.values)?.to_dtype(dtype)?)
    }
}

/// One case.
#[derive(Debug)]
pub(super) struct Case {
    /// The file's name without its extension.
    pub name: String,
    /// The operator.
    pub op: String,
    params: Map<String, Value>,
    tensors: BTreeMap<String, Array>,
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// A file that cannot be read, is no well-formed safetensors file, or lacks `op` or `params`; the message names it.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &read_bounded(path)?)
    }

    /// A case from the bytes of its file; errors name it by `path`.
    ///
    /// # Errors
    /// As [`Case::read`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let fail = |message: String| Error::file(path, message);
        let wrong = |e| fail(format!("is not a well-formed safetensors file: {e}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(wrong)?;
        let file = SafeTensors::deserialize(bytes).map_err(wrong)?;
        let about = |key: &str| {
            let value = header.metadata().as_ref().and_then(|all| all.get(key));
            value.ok_or_else(|| fail(format!("has no {key:?} in its metadata; is it a golden case?")))
        };
        let op = about("op")?.clone();
        let params = serde_json::from_str(about("params")?)
            .map_err(|e| fail(format!("\"params\" in the metadata is no JSON object: {e}")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let values = decode(view.dtype(), view.data())
                .ok_or_else(|| fail(format!("{name} is {:?}; F64, F32 or F16 are read", view.dtype())))?;
            tensors.insert(name.to_owned(), Array { shape: view.shape().to_vec(), values });
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, op, params, tensors })
    }

    /// A tensor that may be absent.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.tensors.get(name)
    }

    /// A tensor that must be there.
    pub fn tensor(&self, name: &str) -> Result<&Array> {
        self.get(name).ok_or_else(|| Error::Failure(format!("the case has no tensor {name}")))
    }

    /// The tensors whose name begins with `prefix`, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Array)> {
        self.tensors.iter().filter_map(move |(name, a)| Some((name.strip_prefix(prefix)?, a)))
    }

    fn param(&self, name: &str) -> Result<&Value> {
        self.params.get(name).ok_or_else(|| Error::Failure(format!("the case has no attribute {name}")))
    }

    /// Whether an attribute is given.
    pub fn has(&self, name: &str) -> bool {
        self.params.contains_key(name)
    }

    /// A finite number.
    pub fn number(&self, name: &str) -> Result<f64> {
        let value = self.param(name)?;
        value.as_f64().filter(|v| v.is_finite()).ok_or_else(|| unfit(name, value, "a number"))
    }

    /// A truth value.
    pub fn flag(&self, name: &str) -> Result<bool> {
        let value = self.param(name)?;
        value.as_bool().ok_or_else(|| unfit(name, value, "true or false"))
    }

    /// A word.
    pub fn word(&self, name: &str) -> Result<&str> {
        let value = self.param(name)?;
        value.as_str().ok_or_else(|| unfit(name, value, "a word"))
    }

    /// A whole number.
    pub fn count(&self, name: &str) -> Result<usize> {
        let value = self.param(name)?;
        count(value).ok_or_else(|| unfit(name, value, "a whole number of at most 4096"))
    }

    /// A whole number a direction: one for both, or rows and columns.
    pub fn pair(&self, name: &str) -> Result<[usize; 2]> {
        let value = self.param(name)?;
        let pair = match value.as_array().map(Vec::as_slice) {
            Some([both]) => count(both).map(|n| [n; 2]),
            Some([rows, columns]) => count(rows).zip(count(columns)).map(|(r, c)| [r, c]),
            Some(_) => None,
            None => count(value).map(|n| [n; 2]),
        };
        pair.ok_or_else(|| unfit(name, value, "one or two whole numbers of at most 4096"))
    }

    /// The same in both directions.
    pub fn square(&self, name: &str) -> Result<usize> {
        match self.pair(name)? {
            [a, b] if a == b => Ok(a),
            pair => Err(Error::Failure(format!("{name} {pair:?}: the two directions must agree"))),
        }
    }

    /// Refuses an intermediate result of these sizes where it would not fit.
    pub fn room(&self, sizes: &[usize]) -> Result<()> {
        let elements = sizes.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        match elements {
            Some(n) if n <= LARGEST_RESULT => Ok(()),
            _ => Err(Error::Failure(format!("an intermediate result of {sizes:?} is too large"))),
        }
    }

    /// Refuses attributes that this engine has no equal of, unless they say "as usual".
    pub fn only_usual(&self, usual: &[(&str, Value)]) -> Result<()> {
        for (name, value) in usual {
            if let Some(given) = self.params.get(*name)
                && given != value
            {
                return Err(Error::Failure(format!("{name} {given} is not supported; {value} is")));
            }
        }
        Ok(())
    }
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().filter(|&n| n <= LARGEST_ATTRIBUTE).map(|n| n as usize)
}

fn unfit(name: &str, value: &Value, expected: &str) -> Error {
    Error::Failure(format!("attribute {name} is {value}; {expected} is expected"))
}

/// All bytes of a regular file of bearable size.
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let fail = |e: std::io::Error| Error::file(path, format_args!("cannot read: {e}"));
    // A pipe would block when opened, so what it is comes first.
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(Error::file(path, "is not a regular file"));
    }
    let file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    if size > LARGEST_FILE {
        return Err(Error::file(path, format_args!("{size} bytes are too many for a golden case")));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

/// Little-endian values as f64; `None` for other dtypes.
fn decode(dtype: Dtype, data: &[u8]) -> Option<Vec<f64>> {
    match dtype {
        Dtype::F64 => Some(data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()),
        Dtype::F32 => Some(data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()),
        Dtype::F16 => Some(data.as_chunks().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect()),
        _ => None,
    }
}

/// The value of an IEEE binary16.
fn half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3ff);
    let magnitude = match bits >> 10 & 0x1f {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1024.0 + fraction) * 2f64.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::half;

    #[test]
    fn halves_are_read() {
        for (bits, want) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 2f64.powi(-24)),
            (0x0400, 2f64.powi(-14)),
            (0x3555, 0.333_251_953_125),
            (0x7c00, f64::INFINITY),
        ] {
            assert_eq!(half(bits), want, "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
    }
}

//! A golden case in memory: its operator, attributes and tensors.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use half::f16;
use safetensors::{Dtype, SafeTensors};

use super::case::{Array, Attributes};
use crate::{Error, Result};

/// Maximum size of a file in bytes.
const LARGEST_FILE: u64 = 1 << 30;

/// A golden case: an operator, its inputs and PyTorch's results.
#[derive(Debug)]
pub(crate) struct GoldenCase {
    /// The file's name without its extension.
    pub name: String,
    /// Name of the operator.
    pub op: String,
    /// Attributes of the operator.
    pub attributes: Attributes,
    tensors: BTreeMap<String, Array>,
}

impl GoldenCase {
    /// Reads a case.
    ///
    /// # Errors
    /// The file cannot be read, is not a well-formed safetensors file, or lacks `op` or `params`; the message names it.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &read_bounded(path)?)
    }

    /// A case from the bytes of its file; errors name it by `path`.
    ///
    /// # Errors
    /// As [`GoldenCase::read`].
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
        let attributes = serde_json::from_str(about("params")?)
            .map(Attributes)
            .map_err(|e| fail(format!("\"params\" in the metadata is not a JSON object: {e}")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            let values = decode(view.dtype(), view.data()).ok_or_else(|| {
                fail(format!("{name} has type {:?}; only F64, F32 and F16 are supported", view.dtype()))
            })?;
            tensors.insert(name.to_owned(), Array { shape: view.shape().to_vec(), values });
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, op, attributes, tensors })
    }

    /// A tensor that may be missing.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.tensors.get(name)
    }

    /// A required tensor.
    pub fn tensor(&self, name: &str) -> Result<&Array> {
        self.get(name).ok_or_else(|| Error::Failure(format!("the case has no tensor {name}")))
    }

    /// The tensors whose name begins with `prefix`, without it.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Array)> {
        self.tensors.iter().filter_map(move |(name, a)| Some((name.strip_prefix(prefix)?, a)))
    }

    /// A required tensor of a given shape.
    pub fn shaped(&self, name: &str, shape: &[usize]) -> Result<&Array> {
        let array = self.tensor(name)?;
        if array.shape != shape {
            return Err(Error::Failure(format!(
                "{name} has the shape {:?} instead of {shape:?}",
                array.shape
            )));
        }
        Ok(array)
    }
}

/// All bytes of a regular file of limited size.
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let fail = |e: std::io::Error| Error::file(path, format_args!("cannot read: {e}"));
    // Check its type first: opening a pipe would block.
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
        Dtype::F16 => Some(data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect()),
        _ => None,
    }
}

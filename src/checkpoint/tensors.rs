//! One safetensors file, opened for reading.

use super::header::{self, Dtype, Header, LENGTH_BYTES, MAX_HEADER, TensorInfo};
use crate::{Error, Result};
use half::{bf16, f16};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A safetensors file whose header was checked against its size; tensors are read when asked for.
///
/// Reads are plain reads into the caller's vector rather than a memory map: a value is copied once either way, and
/// a file that shrinks meanwhile is an error instead of a bus error.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: Mutex<File>,
    header: Header,
}

impl TensorFile {
    /// Opens `path` and checks its header.
    ///
    /// # Errors
    /// A file that cannot be read or is not a well-formed safetensors file; the message names it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (mut file, size) = open_regular(path)?;
        let fail = |message: String| Error::file(path, message);
        let unreadable = |e| Error::file(path, format_args!("cannot read: {e}"));
        if size < LENGTH_BYTES {
            return Err(fail(format!("{size} bytes are too few for a safetensors file")));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(unreadable)?;
        if length.starts_with(b"PK") || length.starts_with(&[0x80, 2]) {
            return Err(fail("is a PyTorch pickle; save it with safetensors.torch.save_file instead".into()));
        }
        let length = u64::from_le_bytes(length);
        let behind = size - LENGTH_BYTES;
        if length > behind.min(MAX_HEADER) {
            return Err(fail(format!(
                "is not a safetensors file or is cut short: a header of {length} bytes, {behind} bytes are there"
            )));
        }
        let mut json = vec![0; length as usize];
        file.read_exact(&mut json).map_err(unreadable)?;
        let header = header::parse(&json, behind - length).map_err(fail)?;
        Ok(Self { path: path.into(), file: Mutex::new(file), header })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// dtype and shape of a tensor, if it is there.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensors.get(name)
    }

    /// A value of the file's own metadata ("preset" and "step" in files of this program).
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata.get(key).map(String::as_str)
    }

    /// The values of an F32 tensor, row-major; F64, F16 and BF16 are converted.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or another dtype, or holds NaN or infinity (also: an F64 value
    /// beyond f32). The message names file and tensor.
    pub fn read_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let info = self.info(name, shape)?;
        let values: Vec<f32> = match info.dtype {
            Dtype::F32 => self.read(info)?,
            Dtype::F64 => self.read::<f64>(info)?.iter().map(|&v| v as f32).collect(),
            Dtype::F16 => self.read::<u16>(info)?.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect(),
            Dtype::BF16 => {
                self.read::<u16>(info)?.iter().map(|&bits| bf16::from_bits(bits).to_f32()).collect()
            }
            other => return Err(self.fail(format!("tensor {name:?} is {other:?}, a float was expected"))),
        };
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(self.fail(format!("tensor {name:?} holds {} at element {i}", values[i]))),
            None => Ok(values),
        }
    }

    /// The values of an I64 tensor, row-major.
    ///
    /// # Errors
    /// As [`TensorFile::read_f32`].
    pub fn read_i64(&self, name: &str, shape: &[usize]) -> Result<Vec<i64>> {
        let info = self.info(name, shape)?;
        match info.dtype {
            Dtype::I64 => self.read(info),
            other => Err(self.fail(format!("tensor {name:?} is {other:?}, I64 was expected"))),
        }
    }

    fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let info = self.get(name).ok_or_else(|| {
            self.fail(format!("tensor {name:?} is missing: the file is of another model or preset"))
        })?;
        if info.shape != shape {
            return Err(self.fail(format!(
                "tensor {name:?} has shape {:?}, {shape:?} was expected: the file is of another preset",
                info.shape
            )));
        }
        Ok(info)
    }

    /// The tensor's bytes as `T`; the header was checked, so its size is one that the file has.
    fn read<T: bytemuck::Pod>(&self, info: &TensorInfo) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); info.bytes as usize / size_of::<T>()];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(info.start))
            .and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut values)))
            .map_err(|e| self.fail(format!("cannot read: {e}")))?;
        Ok(values)
    }

    fn fail(&self, message: String) -> Error {
        Error::file(&self.path, message)
    }
}

/// Opens a regular file (no folder, pipe or device, which could block or never end) and gives its size.
pub(super) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let unreadable = |e: std::io::Error| Error::file(path, format_args!("cannot read: {e}"));
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Error::file(path, "is not a file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    Ok((file, size))
}

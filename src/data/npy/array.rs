//! Whole arrays: inputs and outputs of predictions.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::header::{Dtype, Header, MAX_HEADER};
use crate::OutputFile;
use crate::{Error, Result};

/// Size in bytes of one read.
const READ_BYTES: usize = 64 << 10;

/// Elements of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Bytes, 255 is white.
    U8(Vec<u8>),
    /// Single precision, converted from any other type.
    F32(Vec<f32>),
}

/// A whole array in C order.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sizes, the first varies slowest (C order).
    pub shape: Vec<usize>,
    /// As many elements as the product of `shape`.
    pub values: Values,
}

impl Array {
    /// The elements in units where 1 is white: bytes are divided by 255.
    pub fn into_unit(self) -> Vec<f32> {
        match self.values {
            Values::U8(bytes) => bytes.into_iter().map(|b| f32::from(b) / 255.0).collect(),
            Values::F32(values) => values,
        }
    }
}

/// An array in a file, of which parts are read: the file may be larger than memory.
#[derive(Debug)]
pub struct ArrayFile {
    file: File,
    path: PathBuf,
    header: Header,
    elements: usize,
}

impl ArrayFile {
    /// Opens an array; reads its header only.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be read, is not such an array, or its length differs from its header.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
        let mut file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut bytes = Vec::new();
        (&mut file).take(MAX_HEADER as u64).read_to_end(&mut bytes).map_err(unreadable)?;
        let header = Header::parse(&bytes, path)?;
        let elements = header.check_length(length, path)?;
        Ok(Self { file, path: path.to_owned(), header, elements })
    }

    /// The elements `range`, in C order, as an array of `shape`.
    ///
    /// # Errors
    /// [`Error::File`] when there are no such elements, memory does not suffice for them, or one is NaN or infinity.
    pub fn part(&self, range: Range<usize>, shape: &[usize]) -> Result<Array> {
        let fail = |message: String| Error::file(&self.path, message);
        if range.end > self.elements || range.start > range.end {
            return Err(fail(format!("has {} elements, not {range:?}", self.elements)));
        }
        let (dtype, size) = (self.header.dtype, self.header.dtype.size());
        let mut values = match dtype {
            Dtype::U8 => Values::U8(Vec::new()),
            _ => Values::F32(Vec::new()),
        };
        let reserved = match &mut values {
            Values::U8(bytes) => bytes.try_reserve_exact(range.len()),
            Values::F32(floats) => floats.try_reserve_exact(range.len()),
        };
        reserved.map_err(|_| fail(format!("{} elements do not fit in memory", range.len())))?;
        let mut buffer = [0; READ_BYTES];
        let (mut at, mut left) = (self.header.start + range.start * size, range.len() * size);
        while left > 0 {
            let part = &mut buffer[..left.min(READ_BYTES)];
            self.file.read_exact_at(part, at as u64).map_err(|e| fail(format!("cannot be read: {e}")))?;
            match &mut values {
                Values::U8(bytes) => bytes.extend_from_slice(part),
                Values::F32(floats) => dtype.decode(part, floats),
            }
            (at, left) = (at + part.len(), left - part.len());
        }
        if let Values::F32(floats) = &values
            && let Some(i) = floats.iter().position(|value| !value.is_finite())
        {
            let at = range.start + i;
            return Err(fail(format!("has {} at element {at}; values must be finite", floats[i])));
        }
        Ok(Array { shape: shape.to_vec(), values })
    }

    /// Sizes, the first varies slowest (C order).
    pub fn shape(&self) -> &[usize] {
        &self.header.shape
    }
}

/// Reads a whole array.
///
/// # Errors
/// As [`ArrayFile::open`] and [`ArrayFile::part`].
pub fn read(path: &Path) -> Result<Array> {
    let file = ArrayFile::open(path)?;
    file.part(0..file.elements, &file.header.shape)
}

/// Writes a float32 array in C order; an existing `path` is replaced atomically.
///
/// # Errors
/// [`Error::File`] when it cannot be written, [`Error::Failure`] when `values` is not as long as `shape` says.
pub fn write_f32(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    write(path, Dtype::F32, shape, values.len(), |out| {
        values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
    })
}

/// Writes a uint8 array in C order; an existing `path` is replaced atomically.
///
/// # Errors
/// As [`write_f32`].
pub fn write_u8(path: &Path, shape: &[usize], values: &[u8]) -> Result<()> {
    write(path, Dtype::U8, shape, values.len(), |out| out.write_all(values))
}

fn write(
    path: &Path,
    dtype: Dtype,
    shape: &[usize],
    length: usize,
    body: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    if shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size)) != Some(length) {
        return Err(Error::Failure(format!("{length} values do not make an array of shape {shape:?}")));
    }
    let mut output = OutputFile::create(path, true)?;
    let mut buffer = BufWriter::new(output.file());
    let written = buffer
        .write_all(&Header::bytes(dtype, shape))
        .and_then(|()| body(&mut buffer))
        .and_then(|()| buffer.flush());
    drop(buffer);
    written.map_err(|e| output.error(e))?;
    output.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let values = vec![0.25, -1.0, 3.5e-9, 7.0, 0.0, 1.0];
        write_f32(&path, &[1, 2, 3], &values).unwrap();
        let array = read(&path).unwrap();
        assert_eq!(array, Array { shape: vec![1, 2, 3], values: Values::F32(values) });
        let file = ArrayFile::open(&path).unwrap();
        assert_eq!(file.shape(), [1, 2, 3]);
        let part = file.part(2..4, &[2]).unwrap();
        assert_eq!(part, Array { shape: vec![2], values: Values::F32(vec![3.5e-9, 7.0]) });
        assert!(file.part(2..7, &[5]).is_err());
        write_u8(&path, &[2, 1], &[0, 255]).unwrap();
        let array = read(&path).unwrap();
        assert_eq!(array.into_unit(), [0.0, 1.0]);
        assert!(write_u8(&path, &[2, 2], &[0, 255]).is_err());
    }

    #[test]
    fn refuses_what_is_not_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write_f32(&path, &[2], &[0.0, f32::NAN]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("NaN at element 1"));
        std::fs::write(&path, b"PK\x03\x04").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("a.npy"));
        assert!(read(&folder.path().join("none.npy")).is_err());
    }
}

//! Tensors in safetensors files (github.com/huggingface/safetensors): a u64 length, that many bytes of JSON from each
//! tensor's name to its dtype, shape and byte range, then the data, which the ranges cover without hole or overlap.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use half::{bf16, f16};
pub use safetensors::{Dtype, tensor::TensorInfo};
use safetensors::{
    serialize,
    tensor::{Metadata, TensorView},
};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::{DType, Element, Error, Result, Shape, Tensor};

/// The largest header that is accepted, in bytes: bounds the memory for a header.
pub const MAX_HEADER: u64 = 8 << 20;
/// The most axes of a shape that is accepted.
const MAX_RANK: usize = 8;
/// Size of the header's length field in bytes.
const LENGTH_BYTES: u64 = 8;

/// A safetensors file whose header was checked against its size; tensors are read on request.
///
/// Values are read rather than memory-mapped: they are copied once either way, and a file that shrinks meanwhile causes
/// an error instead of a bus error.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: Mutex<File>,
    metadata: Metadata,
    /// The tensors' names, in alphabetical order.
    names: Vec<String>,
    /// Offset of the data in the file, in bytes.
    data_start: u64,
}

impl TensorFile {
    /// Opens `path` and checks its header.
    ///
    /// # Errors
    /// A file that cannot be read or is not a well-formed safetensors file; the message names it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let fail = |message: String| Error::file(path, message);
        let unreadable = |e| Error::file(path, format!("cannot read: {e}"));
        // A pipe or a device could block, or never end.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(Error::file(path, "is not a file"));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
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
        let metadata = parse(&json, behind - length)
            .map_err(|why| fail(format!("the safetensors header is not valid: {why}")))?;
        let mut names = metadata.offset_keys();
        names.sort_unstable();
        let data_start = LENGTH_BYTES + length;
        Ok(Self { path: path.into(), file: Mutex::new(file), metadata, names, data_start })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// dtype and shape of a tensor, if it exists.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.metadata.info(name)
    }

    /// A value of the file's free-form metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// A tensor on the CPU: F64 as f64; F32, F16 and BF16 as f32.
    ///
    /// # Errors
    /// A tensor that is missing or has another dtype; the message names file and tensor.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let info = self.get(name).ok_or_else(|| self.fail(format!("tensor {name:?} is missing")))?;
        let shape = Shape::from(&info.shape);
        match info.dtype {
            Dtype::F64 => Tensor::new(shape, &self.values::<f64>(info)?),
            _ => Tensor::new(shape, &self.floats(name, info)?),
        }
    }

    /// The values of an F32 tensor, row-major; F64, F16 and BF16 are converted.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or another dtype, or holds NaN or infinity (also: an F64 value
    /// beyond f32). The message names file and tensor.
    pub fn read_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let info = self.info(name, shape)?;
        let values = self.floats(name, info)?;
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
            Dtype::I64 => self.values(info),
            other => Err(self.fail(format!("tensor {name:?} is {other:?}, I64 was expected"))),
        }
    }

    fn floats(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>> {
        Ok(match info.dtype {
            Dtype::F32 => self.values(info)?,
            Dtype::F64 => self.values::<f64>(info)?.iter().map(|&v| v as f32).collect(),
            Dtype::F16 => self.values::<f16>(info)?.iter().map(|v| v.to_f32()).collect(),
            Dtype::BF16 => self.values::<bf16>(info)?.iter().map(|v| v.to_f32()).collect(),
            other => return Err(self.fail(format!("tensor {name:?} is {other:?}, a float was expected"))),
        })
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

    /// The tensor's bytes as `T`; the checked header guarantees that the file contains them.
    fn values<T: bytemuck::Pod>(&self, info: &TensorInfo) -> Result<Vec<T>> {
        let (start, end) = info.data_offsets;
        let mut values = vec![T::zeroed(); (end - start) / size_of::<T>()];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut values)))
            .map_err(|e| self.fail(format!("cannot read: {e}")))?;
        Ok(values)
    }

    fn fail(&self, message: String) -> Error {
        Error::file(&self.path, message)
    }
}

/// Writes tensors under their names into a safetensors file; those of a device as F32. The file is renamed into place
/// when it is complete and replaces an existing one.
///
/// # Errors
/// A duplicate name, and a file that cannot be written; the message names it.
pub fn save_tensors(path: impl AsRef<Path>, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let path = path.as_ref();
    let fail = |message: String| Error::file(path, message);
    let mut parts: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, tensor) in tensors {
        if parts.iter().any(|(taken, ..)| taken == name) {
            return Err(fail(format!("tensor {name:?} is given twice")));
        }
        let host = tensor.to_host()?;
        let (dtype, bytes) = match host.dtype() {
            DType::F64 => (Dtype::F64, bytes_of::<f64>(&host)?),
            _ => (Dtype::F32, bytes_of::<f32>(&host)?),
        };
        parts.push((*name, dtype, host.shape().to_vec(), bytes));
    }
    let views: Result<Vec<_>, _> = parts
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect();
    let bytes = views
        .and_then(|views| serialize(views, None))
        .map_err(|e: safetensors::SafeTensorError| fail(format!("cannot be written: {e}")))?;
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .map_err(|e| fail(format!("cannot write: {e}")))
}

fn bytes_of<T: Element + bytemuck::Pod>(tensor: &Tensor) -> Result<Vec<u8>> {
    Ok(bytemuck::cast_slice(tensor.values::<T>()?).to_vec())
}

/// Parses the header's JSON and checks it against the `data_bytes` that follow it.
fn parse(json: &[u8], data_bytes: u64) -> Result<Metadata, String> {
    if json.first() != Some(&b'{') {
        return Err("it does not begin with '{'".into());
    }
    let Entries { metadata, mut tensors } = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let count = tensors.len();
    if let Some((name, info)) = tensors.iter().find(|(_, info)| info.shape.len() > MAX_RANK) {
        return Err(format!("tensor {name:?} has {} extents; at most {MAX_RANK} are read", info.shape.len()));
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let header = Metadata::new(metadata, tensors).map_err(|e| e.to_string())?;
    if header.tensors().len() != count {
        return Err("a tensor's name is used twice".into());
    }
    match header.data_len() as u64 {
        covered if covered == data_bytes => Ok(header),
        covered => Err(format!("its tensors cover {covered} bytes, {data_bytes} follow it")),
    }
}

/// All entries of a header in order, so that a duplicate name is detected.
struct Entries {
    metadata: Option<HashMap<String, String>>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object from names to tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Entries { metadata: None, tensors: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name != "__metadata__" {
                        entries.tensors.push((name, map.next_value()?));
                    } else if entries.metadata.replace(map.next_value()?).is_some() {
                        return Err(A::Error::custom("__metadata__ is there twice"));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_come_back_with_dtype_and_shape() {
        let folder = std::env::temp_dir().join(format!("tensor-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model.safetensors");
        let (a, b) =
            (Tensor::new([2, 2], &[1f32, -2.0, 0.5, 3.0]).unwrap(), Tensor::new([1], &[0.1f64]).unwrap());
        save_tensors(&path, &[("a", &a), ("b", &b)]).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(file.read("a").unwrap().values::<f32>().unwrap(), a.values::<f32>().unwrap());
        assert_eq!(file.read("b").unwrap().values::<f64>().unwrap(), b.values::<f64>().unwrap());
        assert!(file.read("c").unwrap_err().to_string().contains("model.safetensors: tensor \"c\""));
        assert!(save_tensors(&path, &[("a", &a), ("a", &b)]).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }
}

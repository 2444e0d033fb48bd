//! Tensors in safetensors files (github.com/huggingface/safetensors): a u64 length, that many bytes of JSON from each
//! tensor's name to its dtype, shape and byte range, then the data, which the ranges cover without hole or overlap.

mod foreign;
mod index;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use half::{bf16, f16};
pub use index::INDEX_FILE;
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

/// Tensors of a safetensors file whose header was checked against its size, or of several such files (shards); they are
/// read on request.
///
/// Values are read rather than memory-mapped: they are copied once either way, and a file that shrinks meanwhile causes
/// an error instead of a bus error.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Place>,
}

/// One file on the disk.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: Mutex<File>,
    metadata: Metadata,
    /// Offset of the data in the file, in bytes.
    data_start: u64,
}

/// A tensor's file, and its name there.
#[derive(Debug)]
struct Place {
    shard: usize,
    name: String,
}

impl Shard {
    fn open(path: &Path) -> Result<Self> {
        let fail = |message: String| Error::file(path, message);
        let unreadable = |e| Error::file(path, format!("cannot read: {e}"));
        // A pipe or a device could block, or never end.
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(Error::file(path, "is not a file"));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        if let Some(message) = foreign::recognise(path, &mut file, size).map_err(unreadable)? {
            return Err(fail(message));
        }
        if size < LENGTH_BYTES {
            return Err(fail(format!("{size} bytes are too few for a safetensors file")));
        }
        let mut length = [0; LENGTH_BYTES as usize];
        file.read_exact(&mut length).map_err(unreadable)?;
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
        Ok(Self { path: path.into(), file: Mutex::new(file), metadata, data_start: LENGTH_BYTES + length })
    }
}

impl TensorFile {
    /// Opens `path` and checks its header. If its name ends in `.json`, it is the index of a sharded file
    /// (`model.safetensors.index.json`), and all shards are opened.
    ///
    /// # Errors
    /// A file that cannot be read or is not a well-formed safetensors file; the message names it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.extension().is_some_and(|end| end == "json") {
            return index::open(path);
        }
        let shard = Shard::open(path)?;
        let place = |name: String| (name.clone(), Place { shard: 0, name });
        let tensors = shard.metadata.offset_keys().into_iter().map(place).collect();
        Ok(Self { path: path.into(), shards: vec![shard], tensors })
    }

    /// The same tensors without the prefixes that wrappers put before every name: as long as all names begin with the
    /// same one of `prefixes`, it is taken off.
    #[must_use]
    pub fn without_prefixes(mut self, prefixes: &[&str]) -> Self {
        let common = |tensors: &BTreeMap<String, Place>| {
            let of_all = |prefix: &&&str| {
                tensors.keys().all(|name| name.len() > prefix.len() && name.starts_with(**prefix))
            };
            prefixes.iter().find(of_all).filter(|_| !tensors.is_empty()).map(|prefix| prefix.len())
        };
        while let Some(length) = common(&self.tensors) {
            let shorter = |(name, place): (String, Place)| (name[length..].to_owned(), place);
            self.tensors = self.tensors.into_iter().map(shorter).collect();
        }
        self
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// dtype and shape of a tensor, if it exists.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        let place = self.tensors.get(name)?;
        self.shards.get(place.shard)?.metadata.info(&place.name)
    }

    /// A value of the file's free-form metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.shards.first()?.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// A tensor on the CPU: F64 as f64; F32, F16 and BF16 as f32.
    ///
    /// # Errors
    /// A tensor that is missing or has another dtype; the message names file and tensor.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let info = self.get(name).ok_or_else(|| self.fail(format!("tensor {name:?} is missing")))?;
        let shape = Shape::from(&info.shape);
        match info.dtype {
            Dtype::F64 => Tensor::new(shape, &self.values::<f64>(name, info)?),
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
            Dtype::I64 => self.values(name, info),
            other => Err(self.fail(format!("tensor {name:?} has the type {other:?}, I64 was expected"))),
        }
    }

    fn floats(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>> {
        Ok(match info.dtype {
            Dtype::F32 => self.values(name, info)?,
            Dtype::F64 => self.values::<f64>(name, info)?.iter().map(|&v| v as f32).collect(),
            Dtype::F16 => self.values::<f16>(name, info)?.iter().map(|v| v.to_f32()).collect(),
            Dtype::BF16 => self.values::<bf16>(name, info)?.iter().map(|v| v.to_f32()).collect(),
            other => {
                return Err(self.fail(format!(
                    "tensor {name:?} has the type {other:?}, which is not supported; F32, F64, F16 and BF16 are"
                )));
            }
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
    fn values<T: bytemuck::Pod>(&self, name: &str, info: &TensorInfo) -> Result<Vec<T>> {
        let shard = self.tensors.get(name).and_then(|place| self.shards.get(place.shard));
        let shard = shard.ok_or_else(|| self.fail(format!("tensor {name:?} is missing")))?;
        let (start, end) = info.data_offsets;
        let mut values = vec![T::zeroed(); (end - start) / size_of::<T>()];
        let mut file = shard.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(shard.data_start + start as u64))
            .and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut values)))
            .map_err(|e| Error::file(&shard.path, format!("cannot read: {e}")))?;
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
                        // The parser's own error of an unknown type does not name the tensor.
                        let info = map.next_value();
                        let info = info.map_err(|e| A::Error::custom(format!("tensor {name:?}: {e}")))?;
                        entries.tensors.push((name, info));
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

    /// A safetensors file with `count` bytes of data, of tensors in JSON.
    fn written(path: &Path, tensors: &str, count: usize) {
        let mut bytes = (tensors.len() as u64).to_le_bytes().to_vec();
        bytes.extend(tensors.bytes());
        bytes.resize(bytes.len() + count, 0);
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn types_that_cannot_be_used_are_named_with_their_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        for dtype in ["F8_E4M3", "F8_E5M2", "U16"] {
            let bytes = if dtype == "U16" { 8 } else { 4 };
            let json = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[4],"data_offsets":[0,{bytes}]}}}}"#);
            written(&path, &json, bytes);
            let error = TensorFile::open(&path).unwrap().read_f32("w", &[4]).unwrap_err().to_string();
            assert!(error.contains(&format!("tensor \"w\" has the type {dtype}")), "{error}");
        }
        written(&path, r#"{"w":{"dtype":"X3","shape":[4],"data_offsets":[0,4]}}"#, 4);
        let error = TensorFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("\"w\"") && error.contains("X3"), "{error}");
    }

    #[test]
    fn prefixes_go_only_where_all_names_have_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let one = Tensor::new([1], &[1f32]).unwrap();
        let prefixes = ["module.", "_orig_mod.", "model."];
        for (given, expected) in [
            (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
            (["model.module.model.a", "model.module.model.b.c"], ["a", "b.c"]),
            (["module.a", "b"], ["b", "module.a"]),
            (["module.", "module.b"], ["module.", "module.b"]),
            (["module.model.a", "module.b"], ["b", "model.a"]),
        ] {
            save_tensors(&path, &given.map(|name| (name, &one))).unwrap();
            let file = TensorFile::open(&path).unwrap().without_prefixes(&prefixes);
            assert_eq!(file.names().collect::<Vec<_>>(), expected);
            for name in expected {
                assert_eq!(file.read_f32(name, &[1]).unwrap(), [1.0]);
            }
        }
    }
}

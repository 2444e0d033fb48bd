//! Tensors in safetensors files (github.com/huggingface/safetensors): a u64 length, that many bytes of JSON from each
//! tensor's name to its dtype, shape and byte range, then the data, which the ranges cover without hole or overlap.

use std::{
    collections::{BTreeMap, HashMap},
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

/// Prefixes that PyTorch's wrappers put before every name: data parallelism, `torch.compile`, and modules that hold the model.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];
/// End of the name of a file that lists in which file each tensor of a model is.
pub const INDEX_ENDING: &str = ".safetensors.index.json";
/// The most files of a model.
const MAX_SHARDS: usize = 10_000;

/// A safetensors file whose header was checked against its size, or several that an index joins; tensors are read on request.
///
/// Values are read rather than memory-mapped: they are copied once either way, and a file that shrinks meanwhile causes
/// an error instead of a bus error.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    files: Vec<One>,
    tensors: Places,
}

/// Number of the file and the own name of each tensor, by its name without prefixes.
type Places = BTreeMap<String, (usize, String)>;

/// One safetensors file.
#[derive(Debug)]
struct One {
    file: Mutex<File>,
    metadata: Metadata,
    /// Offset of the data in the file, in bytes.
    data_start: u64,
}

/// An index of several files.
#[derive(serde::Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl TensorFile {
    /// Opens `path` and checks its header. A path that ends in `.safetensors.index.json` stands for the files in its folder
    /// that it lists. Prefixes of PyTorch's wrappers (`module.`, `_orig_mod.`, `model.`) that all names have are taken off.
    ///
    /// # Errors
    /// A file that cannot be read or is not a well-formed safetensors file, a pickle, an index that names a missing file or
    /// tensor; the message names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let is_index = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(INDEX_ENDING));
        let (files, mut tensors) = if is_index { Self::shards(path)? } else { Self::single(path)? };
        while let Some(prefix) = PREFIXES
            .iter()
            .find(|prefix| !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(*prefix)))
        {
            let shorter = |(name, place): (String, _)| (name[prefix.len()..].to_owned(), place);
            tensors = tensors.into_iter().map(shorter).collect();
        }
        Ok(Self { path: path.into(), files, tensors })
    }

    fn single(path: &Path) -> Result<(Vec<One>, Places)> {
        let one = One::open(path)?;
        let tensors = one.metadata.offset_keys().into_iter().map(|name| (name.clone(), (0, name))).collect();
        Ok((vec![one], tensors))
    }

    fn shards(path: &Path) -> Result<(Vec<One>, Places)> {
        let fail = |message: String| Error::file(path, message);
        let unreadable = |e: std::io::Error| fail(format!("cannot read: {e}"));
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_HEADER + 1).read_to_end(&mut text))
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_HEADER {
            return Err(fail(format!("is longer than {MAX_HEADER} bytes")));
        }
        let index: Index = serde_json::from_slice(&text)
            .map_err(|e| fail(format!("is not an index of safetensors files: {e}")))?;
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut files, mut tensors) = (Vec::<One>::new(), BTreeMap::new());
        for (name, shard) in &index.weight_map {
            let plain = Path::new(shard).file_name().is_some_and(|file| file == shard.as_str());
            if !plain || numbers.len() > MAX_SHARDS {
                return Err(fail(format!("names the file {shard:?}, which is not one of its own folder")));
            }
            let number = match numbers.get(shard.as_str()) {
                Some(number) => *number,
                None => {
                    files.push(One::open(&path.with_file_name(shard))?);
                    numbers.insert(shard, files.len() - 1);
                    files.len() - 1
                }
            };
            if files[number].metadata.info(name).is_none() {
                return Err(fail(format!("says that {shard} has the tensor {name:?}, which is not there")));
            }
            tensors.insert(name.clone(), (number, name.clone()));
        }
        Ok((files, tensors))
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
        self.place(name).map(|(_, info)| info)
    }

    fn place(&self, name: &str) -> Option<(&One, &TensorInfo)> {
        let (file, own) = self.tensors.get(name)?;
        let one = &self.files[*file];
        Some((one, one.metadata.info(own)?))
    }

    /// A value of the file's free-form metadata; of several files, of the first that has it.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.files.iter().find_map(|one| Some(one.metadata.metadata().as_ref()?.get(key)?.as_str()))
    }

    /// A tensor on the CPU: F64 as f64; F32, F16 and BF16 as f32.
    ///
    /// # Errors
    /// A tensor that is missing or has another dtype; the message names file and tensor.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let place = self.place(name).ok_or_else(|| self.fail(format!("tensor {name:?} is missing")))?;
        let shape = Shape::from(&place.1.shape);
        match place.1.dtype {
            Dtype::F64 => Tensor::new(shape, &self.values::<f64>(place)?),
            _ => Tensor::new(shape, &self.floats(name, place)?),
        }
    }

    /// The values of an F32 tensor, row-major; F64, F16 and BF16 are converted.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or another dtype, or holds NaN or infinity (also: an F64 value
    /// beyond f32). The message names file and tensor.
    pub fn read_f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let place = self.checked(name, shape)?;
        let values = self.floats(name, place)?;
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
        let place = self.checked(name, shape)?;
        match place.1.dtype {
            Dtype::I64 => self.values(place),
            other => Err(self.fail(format!("tensor {name:?} is {other:?}, I64 was expected"))),
        }
    }

    fn floats(&self, name: &str, place: (&One, &TensorInfo)) -> Result<Vec<f32>> {
        Ok(match place.1.dtype {
            Dtype::F32 => self.values(place)?,
            Dtype::F64 => self.values::<f64>(place)?.iter().map(|&v| v as f32).collect(),
            Dtype::F16 => self.values::<f16>(place)?.iter().map(|v| v.to_f32()).collect(),
            Dtype::BF16 => self.values::<bf16>(place)?.iter().map(|v| v.to_f32()).collect(),
            other => {
                let message = "which is not read; save it as F32, F16 or BF16 (tensor.float())";
                return Err(self.fail(format!("tensor {name:?} has the type {other:?}, {message}")));
            }
        })
    }

    /// A tensor that must exist with this shape.
    fn checked(&self, name: &str, shape: &[usize]) -> Result<(&One, &TensorInfo)> {
        let place = self.place(name).ok_or_else(|| {
            self.fail(format!("tensor {name:?} is missing: the file is of another model or preset"))
        })?;
        if place.1.shape != shape {
            return Err(self.fail(format!(
                "tensor {name:?} has shape {:?}, {shape:?} was expected: the file is of another preset",
                place.1.shape
            )));
        }
        Ok(place)
    }

    /// The tensor's bytes as `T`; the checked header guarantees that the file contains them.
    fn values<T: bytemuck::Pod>(&self, (one, info): (&One, &TensorInfo)) -> Result<Vec<T>> {
        let (start, end) = info.data_offsets;
        let mut values = vec![T::zeroed(); (end - start) / size_of::<T>()];
        let mut file = one.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(one.data_start + start as u64))
            .and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut values)))
            .map_err(|e| self.fail(format!("cannot read: {e}")))?;
        Ok(values)
    }

    fn fail(&self, message: String) -> Error {
        Error::file(&self.path, message)
    }
}

impl One {
    /// Opens a file and checks its header.
    fn open(path: &Path) -> Result<Self> {
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
        if let Some(kind) = pickle(&length) {
            let (name, stem) = (path.display(), path.with_extension("safetensors"));
            return Err(fail(format!(
                "is a PyTorch pickle ({kind}), which can run code and is not read; convert it in Python: state = \
                 torch.load({:?}, map_location=\"cpu\", weights_only=True); safetensors.torch.save_file({{k: \
                 v.contiguous() for k, v in state.items()}}, {:?})",
                name.to_string(),
                stem.display().to_string()
            )));
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
        Ok(Self { file: Mutex::new(file), metadata, data_start: LENGTH_BYTES + length })
    }
}

/// The kind of pickle that begins so, if one does. Protocols 2 to 5 begin with their number; no header of a safetensors file
/// is as long as these bytes would say.
fn pickle(start: &[u8; LENGTH_BYTES as usize]) -> Option<String> {
    match start {
        [b'P', b'K', 3, 4, ..] => Some("a zip archive".to_owned()),
        [0x80, protocol @ 2..=5, ..] => Some(format!("protocol {protocol}")),
        _ => None,
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

        // Names of wrapped modules, only where all have the prefix.
        save_tensors(&path, &[("module._orig_mod.a", &a), ("module._orig_mod.model.b", &b)]).unwrap();
        let wrapped = TensorFile::open(&path).unwrap();
        assert_eq!(wrapped.names().collect::<Vec<_>>(), ["a", "model.b"]);
        assert_eq!(wrapped.read_f32("a", &[2, 2]).unwrap(), [1.0, -2.0, 0.5, 3.0]);

        // Several files and their index.
        let at = |name: &str| folder.join(name);
        save_tensors(at("one.safetensors"), &[("model.a", &a)]).unwrap();
        save_tensors(at("two.safetensors"), &[("model.b", &b)]).unwrap();
        let index = at("model.safetensors.index.json");
        let open = |map: &str| {
            std::fs::write(
                &index,
                format!("{{\"metadata\": {{\"total_size\": 24}}, \"weight_map\": {map}}}"),
            )
            .unwrap();
            TensorFile::open(&index).map_err(|e| e.to_string())
        };
        let both = open(r#"{"model.a": "one.safetensors", "model.b": "two.safetensors"}"#).unwrap();
        assert_eq!(both.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(both.read("b").unwrap().values::<f64>().unwrap(), [0.1]);
        for (map, says) in [
            (r#"{"model.a": "none.safetensors"}"#, "none.safetensors: cannot read"),
            (r#"{"model.b": "one.safetensors"}"#, "says that one.safetensors has the tensor"),
            (r#"{"model.a": "../one.safetensors"}"#, "not one of its own folder"),
            ("3", "is not an index"),
        ] {
            let error = open(map).unwrap_err();
            assert!(error.contains(says), "{error}");
        }

        // Pickles by their first bytes, and types that are not read by their names.
        for (start, says) in [
            (&b"PK\x03\x04...."[..], "a zip archive"),
            (b"\x80\x02......", "protocol 2"),
            (b"\x80\x05......", "protocol 5"),
        ] {
            std::fs::write(at("model.pt"), start).unwrap();
            let error = TensorFile::open(at("model.pt")).unwrap_err().to_string();
            assert!(
                error.contains(says) && error.contains("torch.load(") && error.contains("save_file("),
                "{error}"
            );
        }
        for dtype in ["F8_E4M3", "F8_E5M2", "U16"] {
            let bytes = if dtype == "U16" { 4 } else { 2 };
            let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{bytes}]}}}}"#);
            let file =
                [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]].concat();
            std::fs::write(&path, file).unwrap();
            let error = TensorFile::open(&path).unwrap().read("a").unwrap_err().to_string();
            assert!(error.contains(dtype) && error.contains("F32"), "{error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}

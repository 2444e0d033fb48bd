//! Sharded safetensors: `model.safetensors.index.json` lists the file of each tensor, as Hugging Face's libraries write it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use super::{MAX_HEADER, Place, Shard, TensorFile};
use crate::{Error, Result};

/// Name of the index in its folder.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// The most shards that are accepted: bounds the open files.
const MAX_SHARDS: usize = 256;

/// The part of an index that is read.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor, in the index's folder.
    weight_map: BTreeMap<String, String>,
}

/// Opens the index `path` and all of its shards.
pub(super) fn open(path: &Path) -> Result<TensorFile> {
    let fail = |message: String| Error::file(path, message);
    let unreadable = |e| Error::file(path, format!("cannot read: {e}"));
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Error::file(path, "is not a file"));
    }
    let mut json = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_HEADER + 1).read_to_end(&mut json).map_err(unreadable)?;
    if json.len() as u64 > MAX_HEADER {
        return Err(fail(format!("has more than {MAX_HEADER} bytes, too many for an index of tensors")));
    }
    let Index { weight_map } = serde_json::from_slice(&json)
        .map_err(|e| fail(format!("is not an index of safetensors files: {e}")))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut shards, mut numbers) = (Vec::<Shard>::new(), BTreeMap::<String, usize>::new());
    let mut tensors = BTreeMap::new();
    for (name, file) in weight_map {
        let shard = match numbers.get(&file) {
            Some(&shard) => shard,
            None if shards.len() == MAX_SHARDS => {
                return Err(fail(format!("lists more than {MAX_SHARDS} files")));
            }
            None => {
                shards.push(
                    Shard::open(&inside(folder, &file).ok_or_else(|| {
                        fail(format!("lists {file:?}, which is not the name of a file in the index's folder"))
                    })?)
                    .map_err(|e| fail(format!("a shard cannot be used: {e}")))?,
                );
                numbers.insert(file.clone(), shards.len() - 1);
                shards.len() - 1
            }
        };
        if shards[shard].metadata.info(&name).is_none() {
            return Err(fail(format!("lists tensor {name:?} in {file:?}, which does not have it")));
        }
        tensors.insert(name.clone(), Place { shard, name });
    }
    Ok(TensorFile { path: path.into(), shards, tensors })
}

/// The path of a file in `folder`, if `name` is a plain name that cannot lead out of it.
fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name && !name.contains('\\') => {
            Some(folder.join(name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tensor, tensor_file::save_tensors};

    #[test]
    fn shards_are_found_by_their_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(INDEX_FILE);
        let (a, b) = (Tensor::new([1], &[1f32]).unwrap(), Tensor::new([2], &[2f32, 3.0]).unwrap());
        save_tensors(folder.path().join("1.safetensors"), &[("a", &a)]).unwrap();
        save_tensors(folder.path().join("2.safetensors"), &[("b", &b)]).unwrap();
        let open = |map: &str| {
            std::fs::write(&path, format!(r#"{{"metadata":{{"total_size":12}},"weight_map":{{{map}}}}}"#))
                .unwrap();
            TensorFile::open(&path)
        };
        let file = open(r#""a":"1.safetensors","b":"2.safetensors""#).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            (file.read_f32("a", &[1]).unwrap(), file.read_f32("b", &[2]).unwrap()),
            (vec![1.0], vec![2.0, 3.0])
        );
        for (map, expected) in [
            (r#""a":"1.safetensors","b":"3.safetensors""#, "3.safetensors"),
            (r#""c":"1.safetensors""#, "tensor \"c\" in \"1.safetensors\""),
            (r#""a":"../1.safetensors""#, "not the name of a file"),
            (r#""a":"/1.safetensors""#, "not the name of a file"),
            (r#""a":"./1.safetensors""#, "not the name of a file"),
            (r#""a":"..""#, "not the name of a file"),
            (r#""a":"""#, "not the name of a file"),
            (r#""a":1"#, "not an index"),
        ] {
            let error = open(map).unwrap_err().to_string();
            assert!(error.contains(INDEX_FILE) && error.contains(expected), "{error}");
        }
        let many: Vec<String> = (0..300).map(|i| format!(r#""{i:03}":"{i}.safetensors""#)).collect();
        for i in 0..300 {
            save_tensors(folder.path().join(format!("{i}.safetensors")), &[(&format!("{i:03}"), &a)])
                .unwrap();
        }
        assert!(open(&many.join(",")).unwrap_err().to_string().contains("more than 256"));
    }
}

//! Writes a checkpoint so that a complete one exists at every moment.

use super::folder::{self, Hidden, step_name};
use super::manifest::{FileDigest, Manifest, hex};
use super::{MANIFEST_FILE, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE};
use crate::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use ssmv_autograd::tensor_file::{Dtype, MAX_HEADER};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Size in bytes of the blocks that are hashed and written: they stay in the cache between the two.
const CHUNK: usize = 1 << 20;

/// The values of one tensor, computed just before they are written and dropped after it.
pub enum Data<'a> {
    /// Values of 32-bit floats.
    F32(Box<dyn Fn() -> Cow<'a, [f32]> + 'a>),
    /// Values of 64-bit integers.
    I64(Box<dyn Fn() -> Cow<'a, [i64]> + 'a>),
}

/// One tensor to write.
pub struct Entry<'a> {
    /// Name, unique in its file.
    pub name: String,
    /// Row-major shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, as many as the shape has.
    pub data: Data<'a>,
}

impl<'a> Entry<'a> {
    /// An F32 tensor whose values `data` computes or lends when they are written.
    pub fn f32(name: impl Into<String>, shape: &[usize], data: impl Fn() -> Cow<'a, [f32]> + 'a) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), data: Data::F32(Box::new(data)) }
    }

    /// An I64 scalar, as BatchNorm's `num_batches_tracked`.
    pub fn i64_scalar(name: impl Into<String>, value: i64) -> Self {
        Self {
            name: name.into(),
            shape: Vec::new(),
            data: Data::I64(Box::new(move || Cow::Owned(vec![value]))),
        }
    }

    fn dtype(&self) -> Dtype {
        match self.data {
            Data::F32(_) => Dtype::F32,
            Data::I64(_) => Dtype::I64,
        }
    }
}

/// The tensors of a checkpoint.
pub struct Contents<'a> {
    /// Name of the preset, for the manifest.
    pub preset: &'a str,
    /// Parameters and buffers under PyTorch's names, in PyTorch's layouts.
    pub model: Vec<Entry<'a>>,
    /// Moments, averaged weights and other tensors of the training, under names of the caller's choice.
    pub optimizer: Vec<Entry<'a>>,
}

/// A moment at which a test can interrupt a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// Before a folder or file is created.
    Create,
    /// Before that many bytes are written.
    Write(usize),
    /// Before a file or folder is synced.
    Sync,
    /// Before a file or folder is renamed.
    Rename,
    /// Before a folder is deleted.
    Remove,
}

/// Called at every [`Point`]; an error from it is an error of the system call that was to follow.
pub(super) type Hook<'h> = &'h mut dyn FnMut(Point) -> io::Result<()>;

/// Makes a folder that may be there, but not the one it is in: a run folder that was moved away stays away.
fn made(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made,
    }
}

/// Writes the checkpoint `parent/step-00000800` (for step 800) and returns its path. `parent` is created
/// if it is missing; the folder it is in must exist.
///
/// The files are written to a hidden folder beside it, synced, and renamed into place. A checkpoint of the same
/// step is replaced; at every moment either it or the new one is complete and [`super::Checkpoint::open`] on `parent`
/// finds it. Then, of the checkpoints up to this step, the last `keep_last` are kept (this one always), and older
/// ones deleted; one that cannot be deleted is tried again after the next write. Files of killed processes
/// are cleaned up first. Only one process at a time may write to `parent`: a training locks its run folder.
///
/// # Errors
/// A name that is already used, values that do not fit their shape, NaN or infinity in a tensor (such a checkpoint could
/// not be read and would replace good ones), or a disk that is full or read-only. The temporary folder is removed
/// and earlier checkpoints stay as they were.
pub fn write(
    parent: &Path,
    step: u64,
    contents: &Contents,
    state: &impl Serialize,
    keep_last: Option<usize>,
) -> Result<PathBuf> {
    let state = serde_json::to_vec_pretty(state)
        .map_err(|e| Error::Failure(format!("the training state cannot be written as JSON: {e}")))?;
    write_with(parent, step, contents, &state, keep_last, &mut |_| Ok(()))
}

/// [`write`] with the state as JSON and a hook.
pub(super) fn write_with(
    parent: &Path,
    step: u64,
    contents: &Contents,
    state: &[u8],
    keep_last: Option<usize>,
    hook: Hook,
) -> Result<PathBuf> {
    let metadata = BTreeMap::from([
        ("format", "pt".to_string()),
        ("preset", contents.preset.to_string()),
        ("step", step.to_string()),
    ]);
    let model = Tensors::new(&contents.model, &metadata)?;
    let optimizer = Tensors::new(&contents.optimizer, &metadata)?;
    let wanted = model.bytes() + optimizer.bytes() + state.len() as u64;
    let explain = |path: &Path, e: io::Error| {
        let others = match e.kind() {
            // Of folders and files that this write has made.
            io::ErrorKind::NotFound => "another process removes files here",
            _ => "earlier checkpoints are intact",
        };
        let message = format!(
            "cannot write a checkpoint of {wanted} bytes ({:.1} MB): {e}; {others}",
            wanted as f64 / 1e6
        );
        Error::file(path, message)
    };

    let mut staging =
        Staging { folder: Hidden::Temporary.path(parent, step), files: BTreeMap::new(), hook, explain };
    staging.call(parent, Point::Create, || made(parent))?;
    staging.sync_parents(parent)?;
    folder::recover(parent).map_err(|e| (staging.explain)(parent, e))?;
    let result = staging
        .create_folder()
        .and_then(|()| staging.tensors(MODEL_FILE, &model))
        .and_then(|()| staging.tensors(OPTIMIZER_FILE, &optimizer))
        .and_then(|()| staging.file(STATE_FILE, |file| file.put(state)))
        .and_then(|()| Manifest::new(contents.preset, step, staging.files.clone()).encode())
        .and_then(|manifest| staging.file(MANIFEST_FILE, |file| file.put(&manifest)))
        .and_then(|()| staging.install(parent, step));
    if result.is_err() {
        // If the removal fails, the next write removes it.
        let _ = fs::remove_dir_all(&staging.folder);
    }
    let path = result?;
    if let Some(keep) = keep_last {
        staging.prune(parent, step, keep);
    }
    Ok(path)
}

/// A file's tensors in the order of their bytes: I64 before F32, so that each lies at a multiple of its size.
struct Tensors<'c, 'a> {
    entries: Vec<&'c Entry<'a>>,
    header: Vec<u8>,
}

impl<'c, 'a> Tensors<'c, 'a> {
    fn new(entries: &'c [Entry<'a>], metadata: &BTreeMap<&str, String>) -> Result<Self> {
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(element_bytes(entry.dtype())));
        let tensors = entries.iter().map(|e| (e.name.as_str(), e.dtype(), e.shape.as_slice()));
        let header = encode_header(metadata, tensors).map_err(Error::Failure)?;
        if header.len() as u64 > MAX_HEADER {
            return Err(Error::Failure("too many tensors for one file of a checkpoint".into()));
        }
        Ok(Self { entries, header })
    }

    fn bytes(&self) -> u64 {
        let sizes = self.entries.iter().filter_map(|e| byte_size(&e.shape, e.dtype()));
        sizes.fold(self.header.len() as u64, u64::saturating_add)
    }
}

/// Bytes of an element, of the two dtypes that a checkpoint has.
fn element_bytes(dtype: Dtype) -> u64 {
    if dtype == Dtype::I64 { 8 } else { 4 }
}

/// Size in bytes of a tensor of `shape` and `dtype`; `None` above 2⁶⁴.
fn byte_size(shape: &[usize], dtype: Dtype) -> Option<u64> {
    shape.iter().try_fold(element_bytes(dtype), |product, &extent| product.checked_mul(extent as u64))
}

/// The length, the JSON and its padding, for tensors stored in the given order.
fn encode_header<'a>(
    metadata: &BTreeMap<&str, String>,
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize])>,
) -> Result<Vec<u8>, String> {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let pairs: Vec<_> = metadata.iter().map(|(k, v)| format!("{}:{}", quote(k), quote(v))).collect();
    let mut json = format!("{{\"__metadata__\":{{{}}}", pairs.join(","));
    let mut offset = 0u64;
    let mut names = BTreeSet::new();
    for (name, dtype, shape) in tensors {
        if !names.insert(name) || name == "__metadata__" {
            return Err(format!("tensor {name:?} cannot be written: its name is already used"));
        }
        let end = byte_size(shape, dtype).and_then(|bytes| offset.checked_add(bytes));
        let end = end.ok_or_else(|| format!("tensor {name:?} of shape {shape:?} is too large"))?;
        json += &format!(
            ",{}:{{\"dtype\":\"{dtype:?}\",\"shape\":{shape:?},\"data_offsets\":[{offset},{end}]}}",
            quote(name)
        );
        offset = end;
    }
    json.push('}');
    // The data starts at a multiple of 8 bytes, so that a reader can map it.
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    Ok(bytes)
}

/// A checkpoint that is being written.
struct Staging<'h, E> {
    folder: PathBuf,
    files: BTreeMap<String, FileDigest>,
    hook: Hook<'h>,
    explain: E,
}

impl<E: Fn(&Path, io::Error) -> Error> Staging<'_, E> {
    /// Runs the hook, then `action`; an error of either names `path`.
    fn call<T>(&mut self, path: &Path, point: Point, action: impl FnOnce() -> io::Result<T>) -> Result<T> {
        (self.hook)(point).and_then(|()| action()).map_err(|e| (self.explain)(path, e))
    }

    /// Syncs the names of `parent` and of the run folder, so that a power loss after this write loses neither.
    fn sync_parents(&mut self, parent: &Path) -> Result<()> {
        use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
        let full = parent.canonicalize().map_err(|e| (self.explain)(parent, e))?;
        for folder in full.ancestors().skip(1).take(2) {
            self.call(parent, Point::Sync, || match folder::sync(folder) {
                // A folder that this user may not read or change has been there before; some systems sync no folders.
                Err(e) if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem | InvalidInput) => Ok(()),
                synced => synced,
            })?;
        }
        Ok(())
    }

    fn create_folder(&mut self) -> Result<()> {
        let folder = self.folder.clone();
        self.call(&folder, Point::Create, || fs::create_dir(&folder))
    }

    /// Writes and syncs one file of the staged folder and records its digest.
    fn file(&mut self, name: &str, fill: impl FnOnce(&mut Sink) -> Result<(), Fault>) -> Result<()> {
        let path = self.folder.join(name);
        let file = self.call(&path, Point::Create, || File::create_new(&path))?;
        let mut sink = Sink { file: &file, sha: Sha256::new(), bytes: 0, hook: self.hook };
        let filled = fill(&mut sink);
        let digest = FileDigest { bytes: sink.bytes, sha256: hex(&sink.sha.finalize()) };
        filled.map_err(|fault| match fault {
            Fault::System(e) => (self.explain)(&path, e),
            Fault::Values(message) => Error::Failure(message),
        })?;
        self.call(&path, Point::Sync, || file.sync_all())?;
        self.files.insert(name.into(), digest);
        Ok(())
    }

    fn tensors(&mut self, name: &str, tensors: &Tensors) -> Result<()> {
        self.file(name, |sink| {
            sink.put(&tensors.header)?;
            tensors.entries.iter().try_for_each(|entry| sink.tensor(entry))
        })
    }

    /// Renames the staged folder to its final name.
    fn install(&mut self, parent: &Path, step: u64) -> Result<PathBuf> {
        let (staged, home, old) =
            (self.folder.clone(), parent.join(step_name(step)), Hidden::Old.path(parent, step));
        self.call(&staged, Point::Sync, || folder::sync(&staged))?;
        let replaces = home.try_exists().map_err(|e| (self.explain)(&home, e))?;
        if replaces {
            self.call(&home, Point::Rename, || fs::rename(&home, &old))?;
        }
        if let Err(e) = self.call(&home, Point::Rename, || fs::rename(&staged, &home)) {
            if replaces {
                let _ = fs::rename(&old, &home);
            }
            return Err(e);
        }
        self.call(parent, Point::Sync, || folder::sync(parent))?;
        if replaces {
            // The new one is in place; the next write deletes the rest of the old one.
            let _ = self.call(&old, Point::Remove, || fs::remove_dir_all(&old));
        }
        Ok(home)
    }

    /// Deletes finished checkpoints before `step` except the last `keep − 1`; later ones belong to another run and stay.
    fn prune(&mut self, parent: &Path, step: u64, keep: usize) {
        let earlier = folder::finished(parent).unwrap_or_default().into_iter().filter(|(s, _)| *s < step);
        for (step, path) in earlier.skip(keep.saturating_sub(1)) {
            // Renamed first: a folder named step-… is never half deleted.
            let deleted = Hidden::Deleted.path(parent, step);
            let renamed = self.call(&path, Point::Rename, || fs::rename(&path, &deleted));
            let _ =
                renamed.and_then(|()| self.call(&deleted, Point::Remove, || fs::remove_dir_all(&deleted)));
        }
    }
}

/// Reason why a file could not be written.
enum Fault {
    System(io::Error),
    Values(String),
}

/// A file that is hashed as it is written.
struct Sink<'s> {
    file: &'s File,
    sha: Sha256,
    bytes: u64,
    hook: Hook<'s>,
}

impl Sink<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for chunk in bytes.chunks(CHUNK) {
            self.sha.update(chunk);
            (self.hook)(Point::Write(chunk.len()))
                .and_then(|()| self.file.write_all(chunk))
                .map_err(Fault::System)?;
            self.bytes += chunk.len() as u64;
        }
        Ok(())
    }

    fn tensor(&mut self, entry: &Entry) -> Result<(), Fault> {
        let (name, shape) = (&entry.name, &entry.shape);
        let misfit = |n| Fault::Values(format!("tensor {name:?} of shape {shape:?} got {n} values"));
        let count: usize = shape.iter().product();
        match &entry.data {
            Data::F32(make) => {
                let values = make();
                if values.len() != count {
                    return Err(misfit(values.len()));
                }
                if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                    return Err(Fault::Values(format!(
                        "tensor {name:?} has {} at element {i}: no checkpoint was written",
                        values[i]
                    )));
                }
                self.put(bytemuck::cast_slice(&values))
            }
            Data::I64(make) => {
                let values = make();
                if values.len() != count {
                    return Err(misfit(values.len()));
                }
                self.put(bytemuck::cast_slice(&values))
            }
        }
    }
}

//! Files that the command line names: checks, reads and writes.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::checkpoint::{CHECKPOINTS_FOLDER, MANIFEST_FILE, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE};
use crate::config::{ANIMATION_FILE, CONFIG_FILE, STRIP_FILE};
use crate::data::npy::{Dtype, Header};
use crate::media;
use crate::record::{METRICS_FILE, STARTS_FILE};
use crate::report::PAGE_START;
use crate::{Error, OutputFile, Result};

/// Kind of a command's output. `--force` replaces only what is of the same kind, so that a slip of the keyboard costs no other
/// file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// .npy of predicted frames of one sequence: float32, 3 axes. Those of several could be somebody's data.
    Frames,
    /// .npy of sequences: uint8 [T, N, H, W].
    Sequences,
    Gif,
    Png,
    /// Folder with files `frame-000.png`, `frame-001.png`, ….
    PngFolder,
    /// JSON that `eval` writes.
    Report,
    /// HTML that `report` writes.
    Page,
    /// Folder of kernels, whose other files stay.
    Kernels,
}

impl Output {
    /// The kind of picture for a name that ends in .gif or .png.
    pub fn picture(path: &Path) -> Self {
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gif")) { Self::Gif } else { Self::Png }
    }

    /// Checks that an existing `path` is of this kind; `refusal` is the error's end if it is not.
    fn check(self, path: &Path, refusal: &str) -> Result<()> {
        let is_ours = match self {
            Self::PngFolder => return media::check_png_folder(path),
            Self::Kernels => path.is_dir(),
            _ => start_of_file(path).is_some_and(|start| start.is_empty() || self.is_start(&start)),
        };
        let kind = match self {
            _ if is_ours => return Ok(()),
            Self::Frames => "an .npy file of one sequence's predicted frames (float32, 3 axes)",
            Self::Sequences => "an .npy file of sequences (uint8, 4 axes)",
            Self::Gif => "a GIF",
            Self::Png => "a PNG",
            Self::Report => "a result of `eval`",
            Self::Page => "a report of this program",
            Self::PngFolder | Self::Kernels => "a folder",
        };
        Err(Error::file(path, format!("is not {kind}, so {refusal}; give another name")))
    }

    /// True if a file of this kind can start so.
    fn is_start(self, start: &[u8]) -> bool {
        let npy = |dtype, axes| {
            let header = Header::parse(start, Path::new(""));
            header.is_ok_and(|header| (header.dtype, header.shape.len()) == (dtype, axes))
        };
        match self {
            Self::Frames => npy(Dtype::F32, 3),
            Self::Sequences => npy(Dtype::U8, 4),
            Self::Gif => start.starts_with(b"GIF8"),
            Self::Png => start.starts_with(b"\x89PNG\r\n"),
            // The first field of a report; no other file of the program starts with it.
            Self::Report => start.starts_with(b"{\n  \"checkpoint\": "),
            Self::Page => start.starts_with(PAGE_START.as_bytes()),
            Self::PngFolder | Self::Kernels => false,
        }
    }
}

/// The first 64 KiB of a regular file; `None` for anything else.
fn start_of_file(path: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    path.metadata().ok().filter(fs::Metadata::is_file)?;
    File::open(path).ok()?.take(64 << 10).read_to_end(&mut start).ok()?;
    Some(start)
}

/// Checks that a path exists.
pub fn must_exist(path: &Path) -> Result<()> {
    path.metadata().map(drop).map_err(|e| Error::file(path, format!("cannot be read: {e}")))
}

/// Checks that a path does not exist or is an empty folder; with `force`, that what exists is of the kind that will be written.
pub fn must_be_free(path: &Path, output: Output, force: bool) -> Result<()> {
    let is_empty_folder = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) if is_empty_folder() => Ok(()),
        Ok(_) if force => output.check(path, "--force does not overwrite it"),
        Ok(_) => Err(Error::file(path, "exists already: give another name, or --force to overwrite it")),
    }
}

/// Checks that a path does not exist, or has a file of this kind, which is replaced without `--force`.
pub fn must_be_replaceable(path: &Path, output: Output) -> Result<()> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(_) => output.check(path, "it is not overwritten"),
    }
}

/// Checks that the output is not one of the files that the command reads, under another name, through a symbolic link or as a
/// hard link. Of an input folder, the files in it count; of a run folder or a checkpoint, the files that belong to it.
pub fn must_not_be_read(
    option: &str,
    output: &Path,
    inputs: &[&Path],
    checkpoint: Option<&Path>,
) -> Result<()> {
    let mut written = vec![output.to_owned()];
    written.extend(entries(output));
    let written: HashSet<_> = written.iter().filter_map(|path| identity(path)).collect();
    let of_input = |input: &&Path| [vec![input.to_path_buf()], entries(input)].concat();
    let read = inputs.iter().flat_map(of_input).chain(checkpoint.into_iter().flat_map(files_of_run));
    for path in read {
        if identity(&path).is_some_and(|identity| written.contains(&identity)) {
            let (output, path) = (output.display(), path.display());
            return Err(Error::Usage(format!(
                "{option} {output}: would overwrite {path}, which is read; give another name"
            )));
        }
    }
    Ok(())
}

/// Device and inode: the same for all names of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|data| (data.dev(), data.ino()))
}

/// The paths in a folder; none if `path` is not one.
fn entries(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The paths of a run folder, a folder of checkpoints, a checkpoint or a bare file of weights.
fn files_of_run(path: &Path) -> Vec<PathBuf> {
    let inner = path.join(CHECKPOINTS_FOLDER);
    let root = if inner.is_dir() { &inner } else { path };
    let mut files = vec![path.to_owned(), root.to_owned()];
    let names = [CONFIG_FILE, METRICS_FILE, STARTS_FILE, ANIMATION_FILE, STRIP_FILE];
    files.extend(names.map(|name| path.join(name)));
    for folder in entries(root).iter().map(PathBuf::as_path).chain([path]) {
        files.extend([MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, MANIFEST_FILE].map(|name| folder.join(name)));
    }
    files
}

/// Checks, before any work is done, that a file can be written: its parent folder exists, and it is not a folder itself.
pub fn must_be_writable(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match parent.metadata() {
        _ if path.is_dir() => Err(Error::file(path, "is a folder; give a file name")),
        Ok(data) if data.is_dir() => Ok(()),
        Ok(_) => Err(Error::file(path, "cannot be written: its parent is not a folder")),
        Err(e) => Err(Error::file(path, format!("cannot be written: {e}"))),
    }
}

/// Checks that the name of `option`'s output has one of the extensions `endings` (without the dot).
pub fn must_end_in(option: &str, path: &Path, endings: &[&str]) -> Result<()> {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    if endings.contains(&ending.as_str()) {
        return Ok(());
    }
    let allowed = endings.iter().map(|ending| format!(".{ending}")).collect::<Vec<_>>().join(" or ");
    Err(Error::Usage(format!("{option} {}: the name must end in {allowed}", path.display())))
}

/// True for a pipe or a device (/dev/stdout), which is written to and not replaced.
pub fn is_stream(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| !data.is_file() && !data.is_dir())
}

/// Writes a file atomically: after a full disk or a kill the old file is still there.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if is_stream(path) {
        return fs::write(path, bytes).map_err(|e| Error::file(path, format!("cannot be written: {e}")));
    }
    OutputFile::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        write_whole(&path, b"first").unwrap();
        write_whole(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_whole(folder.path(), b"").is_err());
        assert!(write_whole(&folder.path().join("none/result.json"), b"").is_err());
    }

    #[test]
    fn names_that_cannot_be_written_to_are_refused_early() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        must_be_writable(&path).unwrap();
        must_be_writable(Path::new("result.json")).unwrap();
        fs::write(&path, "").unwrap();
        for bad in [folder.path().to_owned(), folder.path().join("none/x.json"), path.join("x.json")] {
            assert!(must_be_writable(&bad).is_err(), "{}", bad.display());
        }
    }

    #[test]
    fn only_existing_files_are_guarded() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("old.gif");
        must_be_free(folder.path(), Output::PngFolder, false).unwrap();
        must_be_free(&folder.path().join("new.gif"), Output::Gif, false).unwrap();
        fs::write(&old, "GIF89a…").unwrap();
        for (path, output) in [(old.as_path(), Output::Gif), (folder.path(), Output::Kernels)] {
            assert!(must_be_free(path, output, false).unwrap_err().to_string().contains("--force"));
            must_be_free(path, output, true).unwrap();
        }
        for output in [Output::Png, Output::Frames, Output::Sequences, Output::Report, Output::PngFolder] {
            assert!(must_be_free(&old, output, true).is_err(), "{output:?}");
        }
        fs::write(&old, "").unwrap();
        must_be_free(&old, Output::Report, true).unwrap();
    }

    #[test]
    fn endings_are_checked_whatever_their_case() {
        must_end_in("--out", Path::new("a/b.NPY"), &["npy"]).unwrap();
        let error = must_end_in("--out", Path::new("a/npy"), &["gif", "png"]).unwrap_err();
        assert_eq!(error.to_string(), "--out a/npy: the name must end in .gif or .png");
        assert_eq!(error.exit_code(), 2);
    }
}

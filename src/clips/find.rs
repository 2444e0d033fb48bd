//! What a path names: one clip, or a folder of clips.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use super::pictures::{animated_png, has_ending};
use crate::{Error, Result};

const PICTURES: &[&str] = &["png", "jpg", "jpeg"];
const VIDEOS: &[&str] =
    &["mp4", "mov", "avi", "mkv", "webm", "m4v", "mpg", "mpeg", "wmv", "flv", "ogv", "ts", "3gp", "y4m"];
/// Files that file managers leave in folders.
const LEFT_BEHIND: &[&str] = &["thumbs.db", "desktop.ini", "__macosx"];
/// Maximum number of clips, and of pictures of a clip.
const MAX_ENTRIES: usize = 1_000_000;

/// One clip in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClipFile {
    /// Pictures in their order.
    Pictures(Vec<PathBuf>),
    /// An animated GIF.
    Gif(PathBuf),
    /// An animated PNG.
    Apng(PathBuf),
    /// A video.
    Video(PathBuf),
}

impl ClipFile {
    /// Files that it consists of.
    pub fn paths(&self) -> &[PathBuf] {
        match self {
            Self::Pictures(paths) => paths,
            Self::Gif(path) | Self::Apng(path) | Self::Video(path) => std::slice::from_ref(path),
        }
    }
}

/// The clips of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An .npy file.
    Npy,
    /// An .npz archive.
    Npz,
    /// Clips in files, at least one.
    Files(Vec<ClipFile>),
}

/// Finds the clips of a file, or of a folder: its folders of pictures, animations and videos in natural order (clip-2 before
/// clip-10); or its pictures, as one clip. Hidden files are passed over.
///
/// # Errors
/// [`Error::File`] when there are none, or the folder has clips and loose pictures.
pub(super) fn find(path: &Path) -> Result<Found> {
    if !path.is_dir() {
        return match () {
            () if has_ending(path, &["npy"]) => Ok(Found::Npy),
            () if has_ending(path, &["npz"]) => Ok(Found::Npz),
            () => match single(path)? {
                Some(clip) => Ok(Found::Files(vec![clip])),
                None => Err(Error::file(
                    path,
                    "is not a clip: give an .npy or .npz array, a GIF, an animated PNG, a video, or a folder of clips or \
                     of PNG or JPEG frames",
                )),
            },
        };
    }
    let (mut clips, mut pictures, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries(path)? {
        if entry.is_dir() {
            let frames = pictures_of(&entry)?;
            if !frames.is_empty() {
                clips.push(ClipFile::Pictures(frames));
            }
        } else if let Some(clip) = single(&entry)? {
            clips.push(clip);
        } else if has_ending(&entry, PICTURES) {
            pictures.push(entry);
        } else {
            others.push(entry);
        }
    }
    match (clips.is_empty(), pictures.is_empty()) {
        (false, true) => Ok(Found::Files(clips)),
        (true, false) => Ok(Found::Files(vec![ClipFile::Pictures(pictures)])),
        (false, false) => {
            let (picture, clip) = (name(&pictures[0]), name(&clips[0].paths()[0]));
            Err(Error::file(
                path,
                format!(
                    "has pictures ({picture}) beside clips ({clip}); put the pictures into a folder of their own"
                ),
            ))
        }
        (true, true) => {
            let hint = others.first().map(|other| format!(" (it has {}, for example)", name(other)));
            Err(Error::file(
                path,
                format!(
                    "has neither pictures nor clips nor MNIST's files{}: give a folder of PNG or JPEG frames, or of \
                     folders of them, GIFs, animated PNGs or videos",
                    hint.unwrap_or_default()
                ),
            ))
        }
    }
}

/// A file that is a clip by itself.
fn single(path: &Path) -> Result<Option<ClipFile>> {
    let owned = || path.to_owned();
    if has_ending(path, &["gif"]) {
        return Ok(Some(ClipFile::Gif(owned())));
    }
    if has_ending(path, VIDEOS) {
        return Ok(Some(ClipFile::Video(owned())));
    }
    if has_ending(path, &["apng"]) || (has_ending(path, &["png"]) && animated_png(path)?.is_some()) {
        return Ok(Some(ClipFile::Apng(owned())));
    }
    Ok(None)
}

/// The pictures of a folder in natural order.
fn pictures_of(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_file() && has_ending(path, PICTURES)).collect())
}

/// The visible entries of a folder in natural order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| Error::file(folder, format!("cannot be read: {e}"));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = name(&path);
        if name.starts_with('.') || LEFT_BEHIND.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        paths.push(path);
        if paths.len() > MAX_ENTRIES {
            return Err(Error::file(folder, format!("has more than {MAX_ENTRIES} entries")));
        }
    }
    paths.sort_by(|a, b| natural(&name(a), &name(b)));
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The order of names in which numbers count by their value.
fn natural(a: &str, b: &str) -> Ordering {
    let digits = |s: &str| s.len() - s.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (mut left, mut right) = (a, b);
    loop {
        let (m, n) = (digits(left), digits(right));
        if m > 0 && n > 0 {
            let (x, y) = (left[..m].trim_start_matches('0'), right[..n].trim_start_matches('0'));
            match x.len().cmp(&y.len()).then_with(|| x.cmp(y)) {
                Ordering::Equal => (left, right) = (&left[m..], &right[n..]),
                order => return order,
            }
        }
        match (left.chars().next(), right.chars().next()) {
            (Some(x), Some(y)) if x == y => (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]),
            // Equal but for leading zeros: by the whole name, so that the order is total.
            (None, None) => return a.cmp(b),
            (x, y) => return x.cmp(&y),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Image, write_png};

    #[test]
    fn numbers_count_by_their_value() {
        let mut names = ["f10", "f9", "f-2", "f-10", "F1", "f09", "f9b", ""];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["", "F1", "f-2", "f-10", "f09", "f9", "f9b", "f10"]);
    }

    #[test]
    fn folders_of_clips_and_of_pictures() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let files = |path: &Path| match find(path).unwrap() {
            Found::Files(clips) => clips,
            other => panic!("{other:?}"),
        };
        for clip in ["clip-10", "clip-2", "clip-1"] {
            fs::create_dir(at(clip)).unwrap();
            for frame in ["10.png", "9.PNG", "._9.png", "Thumbs.db"] {
                write_png(&at(clip).join(frame), &Image::new(1, 1, [0; 3])).unwrap();
            }
        }
        fs::create_dir(at("empty")).unwrap();
        fs::write(at(".DS_Store"), "").unwrap();
        fs::write(at("notes.txt"), "").unwrap();
        fs::write(at("a.Gif"), "").unwrap();
        fs::write(at("b.mp4"), "").unwrap();
        let clips = files(root.path());
        assert_eq!(clips.len(), 5);
        assert_eq!(clips[0], ClipFile::Gif(at("a.Gif")));
        assert_eq!(clips[1], ClipFile::Video(at("b.mp4")));
        let frames = |clip: &str| vec![at(clip).join("9.PNG"), at(clip).join("10.png")];
        assert_eq!(clips[2], ClipFile::Pictures(frames("clip-1")));
        assert_eq!(clips[4], ClipFile::Pictures(frames("clip-10")));
        assert_eq!(files(&at("clip-2")), [ClipFile::Pictures(frames("clip-2"))]);
        let error = |path: &Path| find(path).unwrap_err().to_string();
        assert!(error(&at("empty")).contains("neither pictures nor clips"));
        assert!(error(&at("notes.txt")).contains("is not a clip"));
        write_png(&at("loose.png"), &Image::new(1, 1, [0; 3])).unwrap();
        assert!(error(root.path()).contains("loose.png"));
    }
}

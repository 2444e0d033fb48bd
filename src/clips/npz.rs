//! The array of clips in an .npz archive, unpacked into a file without a name, so that a part of it can be read.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use zip::ZipArchive;

use crate::data::npy::{Header, MAX_HEADER};
use crate::output::unnamed_file;
use crate::{Error, Result};

/// Moving MNIST's archive: all frames, and for each sequence the first frame and the number of frames of its two parts.
const MOVING_MNIST: [&str; 2] = ["input_raw_data.npy", "clips.npy"];
/// Maximum size of an unpacked array in bytes: 64 GiB.
const MAX_BYTES: u64 = 64 << 30;
/// Maximum size of the list of clips in bytes.
const MAX_LIST: u64 = 256 << 20;

/// An array, and where its clips are if it says so.
pub(super) struct Unpacked {
    pub file: File,
    pub listed: Option<Vec<(usize, usize)>>,
}

/// Unpacks the only array of an archive that has 3 to 5 axes, or Moving MNIST's.
///
/// # Errors
/// [`Error::File`] when it is not an archive, is broken, or has no or several such arrays.
pub(super) fn unpack(path: &Path) -> Result<Unpacked> {
    let broken = |e: &dyn std::fmt::Display| {
        Error::file(path, format!("is not an .npz archive that can be read: {e}"))
    };
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    let mut archive = ZipArchive::new(file).map_err(|e| broken(&e))?;
    let (mut arrays, mut names) = (Vec::new(), Vec::new());
    for i in 0..archive.len() {
        let mut member = archive.by_index(i).map_err(|e| broken(&e))?;
        let name = member.name().map_err(|e| broken(&e))?.into_owned();
        let mut start = Vec::new();
        member.by_ref().take(MAX_HEADER as u64).read_to_end(&mut start).map_err(|e| broken(&e))?;
        if let Ok(header) = Header::parse(&start, path)
            && (3..=5).contains(&header.shape.len())
        {
            arrays.push((i, name.clone(), header.shape));
        }
        names.push(name);
    }
    let [frames, list] = MOVING_MNIST.map(|wanted| names.iter().position(|name| name == wanted));
    let moving_mnist = frames.zip(list);
    let number = match (moving_mnist, &arrays[..]) {
        (Some((frames, _)), _) => frames,
        (None, [(only, ..)]) => *only,
        (None, []) => {
            return Err(Error::file(path, format!("has no array of 3 to 5 axes among {}", names.join(", "))));
        }
        (None, several) => {
            let several: Vec<_> =
                several.iter().map(|(_, name, shape)| format!("{name} {shape:?}")).collect();
            return Err(Error::file(
                path,
                format!("has several arrays: {}; save the one to use as an .npy file", several.join(", ")),
            ));
        }
    };
    let listed = match moving_mnist {
        Some((_, list)) => {
            let mut bytes = Vec::new();
            let mut member = archive.by_index(list).map_err(|e| broken(&e))?;
            member.by_ref().take(MAX_LIST).read_to_end(&mut bytes).map_err(|e| broken(&e))?;
            Some(clips(&bytes, path)?)
        }
        None => None,
    };
    let mut member = archive.by_index(number).map_err(|e| broken(&e))?;
    let mut file = unnamed_file()?;
    let copied = std::io::copy(&mut member.by_ref().take(MAX_BYTES + 1), &mut file)
        .and_then(|bytes| file.flush().map(|()| bytes))
        .map_err(|e| {
            Error::file(path, format!("cannot be unpacked into the folder for temporary files: {e}"))
        })?;
    if copied > MAX_BYTES {
        return Err(Error::file(path, format!("has an array of more than {} GiB", MAX_BYTES >> 30)));
    }
    Ok(Unpacked { file, listed })
}

/// The clips of Moving MNIST's list [2, N, 2]: inputs and targets, which follow them, with first frame and number of frames.
fn clips(bytes: &[u8], path: &Path) -> Result<Vec<(usize, usize)>> {
    let bad =
        || Error::file(path, "has a list `clips` that is not [2, N, 2] of neighbouring inputs and targets");
    let header = Header::parse(bytes, path)?;
    header.check_length(bytes.len() as u64, path)?;
    let &[2, count, 2] = &header.shape[..] else { return Err(bad()) };
    let mut numbers = Vec::new();
    header.dtype.decode(&bytes[header.start..], &mut numbers);
    let whole =
        |value: f32| ((0.0..16_777_216.0).contains(&value) && value.fract() == 0.0).then_some(value as usize);
    let numbers: Vec<usize> = numbers.into_iter().map(whole).collect::<Option<_>>().ok_or_else(bad)?;
    let (inputs, targets) = numbers.split_at(2 * count);
    let clip = |(input, target): (&[usize; 2], &[usize; 2])| {
        (input[0] + input[1] == target[0]).then_some((input[0], input[1] + target[1]))
    };
    let pairs = inputs.as_chunks::<2>().0.iter().zip(targets.as_chunks::<2>().0);
    pairs.map(clip).collect::<Option<_>>().ok_or_else(bad)
}

//! MNIST's IDX files (<https://web.archive.org/web/2024/http://yann.lecun.com/exdb/mnist/>): a big-endian header,
//! magic 0x00000803 and the sizes `[n, height, width]`, then bytes. Labels are in other files and are not read.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use byteorder::{BigEndian, ReadBytesExt};
use flate2::bufread::MultiGzDecoder;

use crate::{Error, Result};

const IMAGES: u32 = 0x0803;

/// Maximum size of one file in bytes, uncompressed: twice the largest file of the MNIST family (EMNIST by class), so that a
/// compressed file of a few kilobytes cannot use all memory.
const MAX_BYTES: u64 = 1 << 30;
/// Maximum height and width of an image in pixels.
const MAX_SIDE: u64 = 1024;

/// The images of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxImages {
    /// Number of images, at least 1.
    pub count: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// [count, height, width], 0 is black.
    pub pixels: Vec<u8>,
}

/// Reads a file of images, gzipped or not.
///
/// # Errors
/// [`Error::File`] when the file cannot be read, is not IDX images, is empty, or its length is not what its header
/// says.
pub fn read_images(path: &Path) -> Result<IdxImages> {
    images_from(open(path)?, path)
}

/// Whether a file starts as IDX images do, gzipped or not.
pub fn is_images(path: &Path) -> bool {
    let mut start = [0; 4];
    let source = open(path).and_then(|source| {
        plain(source, path)?.read_exact(&mut start).map_err(|e| unreadable(path, &e))?;
        Ok(u32::from_be_bytes(start))
    });
    source.is_ok_and(|magic| magic == IMAGES)
}

/// As [`read_images`], from any source. Messages use `name`.
pub fn images_from(source: impl BufRead, name: &Path) -> Result<IdxImages> {
    let mut source = plain(source, name)?;
    let [count, height, width] = header(&mut source, name)?;
    if height > MAX_SIDE || width > MAX_SIDE {
        return Err(Error::file(
            name,
            format!("has images of {height}×{width} pixels; the maximum is {MAX_SIDE}×{MAX_SIDE}"),
        ));
    }
    let pixels = body(source, name, [count, height, width])?;
    // Each product above fits, so each factor does.
    Ok(IdxImages { count: count as usize, height: height as usize, width: width as usize, pixels })
}

fn open(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::new(File::open(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?))
}

/// The uncompressed bytes. gzip is recognised by its first two bytes, not by the file's name.
fn plain<'a>(mut source: impl BufRead + 'a, name: &Path) -> Result<Box<dyn Read + 'a>> {
    let start = source.fill_buf().map_err(|e| unreadable(name, &e))?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(source))
    } else {
        Box::new(source)
    })
}

/// Reads the magic number and the three sizes that follow it.
fn header(source: &mut dyn Read, name: &Path) -> Result<[u64; 3]> {
    let found = source.read_u32::<BigEndian>().map_err(|e| unreadable(name, &e))?;
    if found != IMAGES {
        return Err(Error::file(
            name,
            format!("is not an MNIST file of images: it starts with {found:#010x}, not {IMAGES:#010x}"),
        ));
    }
    let mut sizes = [0; 3];
    for size in &mut sizes {
        *size = u64::from(source.read_u32::<BigEndian>().map_err(|e| unreadable(name, &e))?);
    }
    if sizes.contains(&0) {
        return Err(Error::file(name, format!("has no images: its sizes are {sizes:?}")));
    }
    Ok(sizes)
}

/// Reads exactly the product of `sizes` bytes. Memory grows with the bytes read, not with the header's numbers.
fn body(source: impl Read, name: &Path, sizes: [u64; 3]) -> Result<Vec<u8>> {
    let total = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size));
    let total = total.filter(|&total| total <= MAX_BYTES).ok_or_else(|| {
        Error::file(name, format!("its header declares {sizes:?} bytes; the maximum is {MAX_BYTES}"))
    })?;
    let mut bytes = Vec::new();
    // One byte more, to check that nothing follows (and to make gzip verify its checksum).
    source.take(total + 1).read_to_end(&mut bytes).map_err(|e| match e.kind() {
        ErrorKind::OutOfMemory => Error::file(name, format!("its {total} bytes do not fit into memory")),
        _ => unreadable(name, &e),
    })?;
    match (bytes.len() as u64).cmp(&total) {
        std::cmp::Ordering::Less => Err(Error::file(
            name,
            format!("is cut short: {} of {total} bytes; download it again", bytes.len()),
        )),
        std::cmp::Ordering::Greater => Err(Error::file(
            name,
            format!("has more than the {total} bytes of its header {sizes:?}; download it again"),
        )),
        std::cmp::Ordering::Equal => Ok(bytes),
    }
}

fn unreadable(name: &Path, e: &std::io::Error) -> Error {
    if e.kind() == ErrorKind::UnexpectedEof {
        Error::file(name, "is cut short; download it again")
    } else {
        Error::file(name, format!("cannot be read: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(sizes: &[u32], body: &[u8]) -> Vec<u8> {
        let mut bytes = IMAGES.to_be_bytes().to_vec();
        sizes.iter().for_each(|s| bytes.extend(s.to_be_bytes()));
        bytes.extend(body);
        bytes
    }

    fn error(bytes: &[u8]) -> String {
        images_from(bytes, Path::new("x.idx")).unwrap_err().to_string()
    }

    #[test]
    fn reads_images() {
        let images = images_from(&file(&[2, 1, 3], &[1, 2, 3, 4, 5, 6])[..], Path::new("x")).unwrap();
        assert_eq!((images.count, images.height, images.width), (2, 1, 3));
        assert_eq!(images.pixels, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(error(&file(&[2, 1, 3], &[0; 5])).contains("cut short: 5 of 6"));
        assert!(error(&file(&[2, 1, 3], &[0; 7])).contains("has more than"));
        assert!(error(&file(&[0, 28, 28], &[])).contains("no images"));
        assert!(error(&file(&[u32::MAX, 1000, 1000], &[])).contains("declares"));
        assert!(error(&file(&[1, u32::MAX, u32::MAX], &[])).contains("pixels"));
        // A file of three labels.
        assert!(error(&[0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3]).contains("is not an MNIST file of images"));
        assert!(error(&[]).contains("cut short"));
        assert!(error(b"x.idx").starts_with("x.idx: "));
    }
}

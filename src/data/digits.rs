//! Handwritten digits.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::idx::{self, IdxImages};
use super::{MAX_BYTES, Split};
use crate::{Error, Result};

/// Grey digits of one size, split into digits for training and for testing. `data/README.md` has the source of the embedded
/// ones.
#[derive(Debug, Clone)]
pub struct Digits {
    images: Vec<u8>,
    side: usize,
    train: Range<usize>,
    test: Range<usize>,
    note: Option<String>,
}

impl Digits {
    /// The 10,000 embedded digits of 28×28: the first 9,000 for training, the last 1,000 for testing.
    ///
    /// # Errors
    /// Only if the embedded data is damaged.
    pub fn embedded() -> Result<Self> {
        let bytes: &[u8] = include_bytes!("../../data/digits-10k.idx3-ubyte.gz");
        let images = idx::images_from(bytes, Path::new("the embedded digits"))?;
        let train = images.count * 9 / 10;
        Self::from_images(images, train, Path::new("the embedded digits"))
    }

    /// MNIST's files from a folder, gzipped or not: `train-images-idx3-ubyte` (or `train-images.idx3-ubyte`) train,
    /// `t10k-images-idx3-ubyte` test. Without the second file, the last tenth of the first is for testing, and
    /// [`Digits::note`] says so.
    ///
    /// # Errors
    /// [`Error::File`] when the folder has no training images or a file is broken.
    pub fn from_dir(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::file(folder, "is not a folder with MNIST files"));
        }
        let path = find(folder, "train").ok_or_else(|| {
            Error::file(
                folder,
                "has no train-images-idx3-ubyte or train-images-idx3-ubyte.gz; put MNIST's files there",
            )
        })?;
        let Some(test_path) = find(folder, "t10k") else {
            let mut digits = Self::from_file(&path)?;
            digits.note = Some(format!(
                "{}: no t10k-images-idx3-ubyte, so the last {} of the training digits are kept for testing",
                folder.display(),
                digits.test.len()
            ));
            return Ok(digits);
        };
        let mut images = idx::read_images(&path)?;
        let test = idx::read_images(&test_path)?;
        if (test.height, test.width) != (images.height, images.width) {
            return Err(Error::file(
                test_path,
                format!(
                    "has digits of {}×{}, the training file {}×{}; both must agree",
                    test.height, test.width, images.height, images.width
                ),
            ));
        }
        let train = images.count;
        images.count += test.count;
        images.pixels.extend_from_slice(&test.pixels);
        Self::from_images(images, train, &path)
    }

    /// One IDX file of images, gzipped or not: the last tenth of them is for testing.
    ///
    /// # Errors
    /// [`Error::File`] when it is broken or has fewer than 2 images.
    pub fn from_file(path: &Path) -> Result<Self> {
        let images = idx::read_images(path)?;
        let train = images.count - (images.count / 10).max(1);
        let mut digits = Self::from_images(images, train, path)?;
        let (path, count) = (path.display(), digits.test.len());
        digits.note = Some(format!("{path}: the last {count} of its digits are kept for testing"));
        Ok(digits)
    }

    /// Whether a folder has MNIST's file of training images.
    pub fn are_in(folder: &Path) -> bool {
        folder.is_dir() && find(folder, "train").is_some()
    }

    /// The first `train` images are for training, the rest for testing.
    fn from_images(images: IdxImages, train: usize, path: &Path) -> Result<Self> {
        if images.height != images.width {
            return Err(Error::file(
                path,
                format!("has images of {}×{}; digits must be square", images.height, images.width),
            ));
        }
        if train == 0 || train >= images.count {
            return Err(Error::file(
                path,
                "has too few digits: at least 1 to train and 1 to test are needed",
            ));
        }
        Ok(Self {
            images: images.pixels,
            side: images.height,
            train: 0..train,
            test: train..images.count,
            note: None,
        })
    }

    /// The digits at `side`×`side` pixels: area averages where smaller, bilinear where larger.
    ///
    /// # Errors
    /// [`Error::Usage`] when `side` is 0 or all digits together would pass 1 GiB.
    pub fn resized(&self, side: usize) -> Result<Self> {
        if side == self.side {
            return Ok(self.clone());
        }
        let bytes = side.checked_mul(side).and_then(|area| area.checked_mul(self.len()));
        if side == 0 || bytes.is_none_or(|bytes| bytes > MAX_BYTES) {
            return Err(Error::Usage(format!(
                "digits of {side} pixels are not possible; MNIST's own size is 28"
            )));
        }
        Ok(Self { images: resize(&self.images, self.side, side), side, ..self.clone() })
    }

    /// Number of digits, training and testing together.
    #[allow(clippy::len_without_is_empty, reason = "there is always at least one of each split")]
    pub fn len(&self) -> usize {
        self.test.end
    }

    /// Rows and columns of a digit.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Range of the digits of `split`.
    pub fn range(&self, split: Split) -> Range<usize> {
        match split {
            Split::Train => self.train.clone(),
            Split::Test => self.test.clone(),
        }
    }

    /// Digit `index` as [side, side], 0 is black; `None` past the end.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.images.chunks_exact(self.side * self.side).nth(index)
    }

    /// A note about the split of the digits for the user.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

/// The first file that exists of the names that MNIST's image files have.
fn find(folder: &Path, part: &str) -> Option<PathBuf> {
    ["-images-idx3-ubyte", "-images-idx3-ubyte.gz", "-images.idx3-ubyte", "-images.idx3-ubyte.gz"]
        .iter()
        .map(|rest| folder.join(format!("{part}{rest}")))
        .find(|path| path.is_file())
}

/// Resizes every `from`×`from` image of `images` to `to`×`to`: each new pixel is the mean of the area that it covers
/// when smaller, the bilinear value at its centre when larger. `from` and `to` are at least 1.
fn resize(images: &[u8], from: usize, to: usize) -> Vec<u8> {
    let taps = taps(from, to);
    let mut rows = vec![0f32; from * to];
    let mut out = Vec::with_capacity(images.len() / (from * from) * to * to);
    for image in images.chunks_exact(from * from) {
        for (row, values) in image.chunks_exact(from).zip(rows.chunks_exact_mut(to)) {
            for (value, taps) in values.iter_mut().zip(&taps) {
                *value = taps.iter().map(|&(i, weight)| weight * f32::from(row[i])).sum();
            }
        }
        for taps in &taps {
            out.extend((0..to).map(|x| {
                let sum: f32 = taps.iter().map(|&(y, weight)| weight * rows[y * to + x]).sum();
                (sum + 0.5) as u8
            }));
        }
    }
    out
}

/// For every new pixel along an axis: the old pixels that it is computed from, and their weights, which sum to 1.
fn taps(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            if to > from {
                let centre = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
                let low = (centre as usize).min(from - 1);
                let part = centre - low as f64;
                return vec![(low, 1.0 - part as f32), ((low + 1).min(from - 1), part as f32)];
            }
            let (start, end) = (i as f64 * scale, (i + 1) as f64 * scale);
            (start as usize..(end.ceil() as usize).min(from))
                .map(|j| {
                    let covered = end.min((j + 1) as f64) - start.max(j as f64);
                    (j, (covered.max(0.0) / scale) as f32)
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_idx(path: &Path, count: u32, side: u32) {
        let mut bytes = 0x803u32.to_be_bytes().to_vec();
        [count, side, side].iter().for_each(|s| bytes.extend(s.to_be_bytes()));
        bytes.extend((0..count * side * side).map(|i| i as u8));
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn ten_thousand_come_with_the_program() {
        let digits = Digits::embedded().unwrap();
        assert_eq!((digits.len(), digits.side()), (10_000, 28));
        assert_eq!((digits.range(Split::Train), digits.range(Split::Test)), (0..9_000, 9_000..10_000));
        // MNIST's mean pixel is 0.1307.
        let mean =
            digits.images.iter().map(|&p| f64::from(p)).sum::<f64>() / digits.images.len() as f64 / 255.0;
        approx::assert_abs_diff_eq!(mean, 0.1307, epsilon = 0.002);
        assert_eq!(digits.get(9_999).unwrap().len(), 784);
        assert!(digits.get(10_000).is_none());
    }

    #[test]
    fn halving_averages_two_by_two() {
        let digits = Digits::embedded().unwrap();
        let half = digits.resized(14).unwrap();
        assert_eq!(half.side(), 14);
        let (a, b) = (digits.get(77).unwrap(), half.get(77).unwrap());
        for y in 0..14 {
            for x in 0..14 {
                let at = |dy: usize, dx: usize| f64::from(a[(2 * y + dy) * 28 + 2 * x + dx]);
                let mean = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0;
                assert!((f64::from(b[y * 14 + x]) - mean).abs() <= 0.5);
            }
        }
        assert!(digits.resized(0).is_err() && digits.resized(usize::MAX).is_err());
    }

    #[test]
    fn folders_of_mnist_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(Digits::from_dir(folder.path()).unwrap_err().to_string().contains("train-images"));
        write_idx(&at("train-images.idx3-ubyte"), 20, 4);
        let alone = Digits::from_dir(folder.path()).unwrap();
        assert_eq!((alone.range(Split::Train), alone.range(Split::Test)), (0..18, 18..20));
        assert!(alone.note().unwrap().contains("last 2"));
        write_idx(&at("t10k-images-idx3-ubyte"), 5, 4);
        let both = Digits::from_dir(folder.path()).unwrap();
        assert_eq!((both.range(Split::Train), both.range(Split::Test)), (0..20, 20..25));
        assert!(both.note().is_none());
        write_idx(&at("t10k-images-idx3-ubyte"), 5, 3);
        assert!(Digits::from_dir(folder.path()).unwrap_err().to_string().contains("must agree"));
    }

    #[test]
    fn a_flat_image_stays_flat_when_resized() {
        for (from, to) in [(28, 14), (28, 9), (28, 27), (28, 56), (5, 64), (1, 3), (7, 1)] {
            let images = vec![200; 2 * from * from];
            assert_eq!(resize(&images, from, to), vec![200; 2 * to * to], "{from} → {to}");
        }
    }

    #[test]
    fn resized_images_have_known_values() {
        assert_eq!(
            resize(&[0, 2, 4, 100, 7, 8, 9, 10, 0, 0, 0, 0, 255, 255, 255, 255], 4, 2),
            [4, 31, 128, 128]
        );
        assert_eq!(resize(&[0, 100, 0, 100], 2, 4)[..4], [0, 25, 75, 100]);
    }
}

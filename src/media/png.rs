//! PNG pictures and folders of them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::{Path, PathBuf};

use ::png::{BitDepth, ColorType, Decoder, Encoder, Limits, Transformations};

use super::{Image, MAX_BYTES, MAX_SIDE};
use crate::OutputFile;
use crate::{Error, Result};

/// A picture from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Values as [height, width, channels].
    pub pixels: Vec<u8>,
}

/// Writes a picture; an existing `path` is replaced atomically.
///
/// # Errors
/// [`Error::File`] when it cannot be written, [`Error::Failure`] for a picture without pixels.
pub fn write_png(path: &Path, image: &Image) -> Result<()> {
    let bytes = encode_png(image)?;
    let mut output = OutputFile::create(path, true)?;
    output.file().write_all(&bytes).map_err(|e| output.error(e))?;
    output.commit()
}

/// A picture as the bytes of a PNG file: a grey PNG if all pixels are grey.
///
/// # Errors
/// [`Error::Failure`] for a picture without pixels.
pub fn encode_png(image: &Image) -> Result<Vec<u8>> {
    let cannot = |why: &dyn std::fmt::Display| {
        Error::Failure(format!("a picture of {}×{} pixels cannot be a PNG: {why}", image.width, image.height))
    };
    let (Ok(width @ 1..), Ok(height @ 1..)) = (u32::try_from(image.width), u32::try_from(image.height))
    else {
        return Err(cannot(&"no such size"));
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_depth(BitDepth::Eight);
    let is_grey = image.pixels.iter().all(|[red, green, blue]| red == green && green == blue);
    encoder.set_color(if is_grey { ColorType::Grayscale } else { ColorType::Rgb });
    let mut writer = encoder.write_header().map_err(|e| cannot(&e))?;
    let written = if is_grey {
        writer.write_image_data(&image.pixels.iter().map(|p| p[0]).collect::<Vec<u8>>())
    } else {
        writer.write_image_data(image.pixels.as_flattened())
    };
    written.and_then(|()| writer.finish()).map_err(|e| cannot(&e))?;
    Ok(bytes)
}

/// Reads a PNG of any kind as 8-bit grey or colour; transparent pixels are drawn on black.
///
/// # Errors
/// [`Error::File`] when it is not a PNG, is broken, or larger than 4096×4096.
pub fn read_png(path: &Path) -> Result<Raster> {
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    png_from(BufReader::new(file), path)
}

fn png_from(source: impl BufRead + Seek, name: &Path) -> Result<Raster> {
    let broken = |e: ::png::DecodingError| Error::file(name, format!("is not a readable PNG: {e}"));
    let mut decoder = Decoder::new_with_limits(source, Limits { bytes: MAX_BYTES });
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(broken)?;
    if header.width.max(header.height) > MAX_SIDE {
        return Err(Error::file(
            name,
            format!("has {}×{} pixels; the maximum side is {MAX_SIDE}", header.width, header.height),
        ));
    }
    let mut reader = decoder.read_info().map_err(broken)?;
    let size = reader.output_buffer_size().filter(|&size| size <= MAX_BYTES);
    let mut pixels = vec![0; size.ok_or_else(|| Error::file(name, "is too large"))?];
    let frame = reader.next_frame(&mut pixels).map_err(broken)?;
    pixels.truncate(frame.buffer_size());
    let over_black = |value: u8, alpha: u8| ((u32::from(value) * u32::from(alpha) + 127) / 255) as u8;
    let (channels, pixels) = match frame.color_type {
        ColorType::Grayscale => (1, pixels),
        ColorType::Rgb => (3, pixels),
        ColorType::GrayscaleAlpha => {
            (1, pixels.as_chunks::<2>().0.iter().map(|&[v, a]| over_black(v, a)).collect())
        }
        ColorType::Rgba => (
            3,
            pixels
                .as_chunks::<4>()
                .0
                .iter()
                .flat_map(|&[r, g, b, a]| [r, g, b].map(|v| over_black(v, a)))
                .collect(),
        ),
        ColorType::Indexed => return Err(Error::file(name, "has an unreadable palette")),
    };
    Ok(Raster { width: frame.width as usize, height: frame.height as usize, channels, pixels })
}

/// Checks that a folder has only files that [`write_png_folder`] may replace: `frame-000.png`, `frame-001.png`, ….
///
/// # Errors
/// [`Error::File`] when there are others, or the folder cannot be read.
pub fn check_png_folder(folder: &Path) -> Result<()> {
    frames_of(folder).map(drop)
}

/// The files of a folder, all of them frames.
fn frames_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| Error::file(folder, format!("cannot be read: {e}"));
    let mut frames = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_file = path.symlink_metadata().is_ok_and(|data| data.is_file());
        if !is_file || !is_frame(&name(&path)) {
            let name = name(&path);
            let message = format!(
                "has {name}, which is not a frame of this program; give another folder for the frames"
            );
            return Err(Error::file(folder, message));
        }
        frames.push(path);
    }
    Ok(frames)
}

/// True for `frame-000.png` and for the leftover of a killed process, `.frame-000.png.….partial`.
fn is_frame(name: &str) -> bool {
    let plain = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
    let name = plain.and_then(|name| name.split_once(".png.")).map_or(name, |(stem, _)| stem);
    let number = name.strip_suffix(".png").unwrap_or(name).strip_prefix("frame-");
    number.is_some_and(|number| number.len() >= 3 && number.bytes().all(|byte| byte.is_ascii_digit()))
        && (name.ends_with(".png") || plain.is_some())
}

/// Writes pictures as `frame-000.png`, `frame-001.png`, … into `folder`, which is created if it does not exist.
///
/// # Errors
/// [`Error::File`] when the folder has other files, has frames and not `overwrite`, or cannot be written. Nothing is removed
/// then.
pub fn write_png_folder(folder: &Path, images: &[Image], overwrite: bool) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::file(folder, format!("cannot be written: {e}")))?;
    let old = frames_of(folder)?;
    if !old.is_empty() && !overwrite {
        return Err(Error::file(folder, "already has .png files; remove them or choose another folder"));
    }
    // Old frames among new ones would be read back as one clip.
    for path in old {
        fs::remove_file(&path).map_err(|e| Error::file(&path, format!("cannot be removed: {e}")))?;
    }
    let digits = images.len().to_string().len().max(3);
    images
        .iter()
        .enumerate()
        .try_for_each(|(i, image)| write_png(&folder.join(format!("frame-{i:0digits$}.png")), image))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_png(&path, &Image::grey(2, 1, &[3, 200])).unwrap();
        let read = read_png(&path).unwrap();
        assert_eq!(read, Raster { width: 2, height: 1, channels: 1, pixels: vec![3, 200] });
        write_png(&path, &Image { width: 1, height: 2, pixels: vec![[1, 2, 3], [255, 255, 255]] }).unwrap();
        let read = read_png(&path).unwrap();
        assert_eq!((read.channels, read.pixels), (3, vec![1, 2, 3, 255, 255, 255]));
        assert!(write_png(&path, &Image::new(0, 4, [0; 3])).is_err());
    }

    #[test]
    fn folders_of_frames() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("notes.txt"), "").unwrap();
        assert!(write_png_folder(folder.path(), &[], false).is_err());
        let images: Vec<Image> = (0..12).map(|i| Image::grey(1, 1, &[i])).collect();
        write_png_folder(&at("new"), &images, false).unwrap();
        assert_eq!(read_png(&at("new/frame-011.png")).unwrap().pixels, [11]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_bytes_make_it_panic(at in 0usize..90, with: u8, end in 0usize..100) {
            let mut bytes = Vec::new();
            let mut encoder = Encoder::new(&mut bytes, 3, 3);
            encoder.set_color(ColorType::Rgba);
            encoder.write_header().unwrap().write_image_data(&[77; 36]).unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            bytes.truncate(bytes.len().saturating_sub(end));
            let _ = png_from(std::io::Cursor::new(bytes), Path::new("x"));
        }
    }
}

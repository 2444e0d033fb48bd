//! Frames of picture files: PNG and JPEG, animated PNG and GIF.

use std::fs::File;
use std::io::BufReader;
use std::num::NonZeroU64;
use std::path::Path;

use ::gif::{ColorOutput, DecodeOptions, DisposalMethod, MemoryLimit};
use ::png::{BlendOp, Decoder, DisposeOp, Limits, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use super::Frame;
use crate::media::read_png;
use crate::{Error, Result};

/// Maximum width and height of a picture in pixels.
const MAX_SIDE: usize = 4096;
/// Maximum memory of a decoder in bytes: 256 MiB.
const MAX_BYTES: usize = 256 << 20;
/// Maximum size of a JPEG file in bytes.
const MAX_JPEG: u64 = 64 << 20;
/// Seconds that browsers show a GIF's frame for which it has no delay.
const DEFAULT_DELAY: f64 = 0.1;

/// A still picture: a PNG (transparent pixels on black) or a JPEG.
///
/// # Errors
/// [`Error::File`] when it is neither, broken, or larger than 4096×4096.
pub(super) fn still(path: &Path) -> Result<Frame> {
    if has_ending(path, &["jpg", "jpeg"]) {
        return jpeg(path);
    }
    let raster = read_png(path)?;
    Ok(Frame { height: raster.height, width: raster.width, channels: raster.channels, pixels: raster.pixels })
}

/// Whether a name has one of the extensions, in any case.
pub(super) fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    endings.iter().any(|known| known.eq_ignore_ascii_case(ending))
}

fn jpeg(path: &Path) -> Result<Frame> {
    let broken = |e: &dyn std::fmt::Display| Error::file(path, format!("is not a readable JPEG: {e}"));
    let length = path.metadata().map_err(|e| Error::file(path, format!("cannot be read: {e}")))?.len();
    if length > MAX_JPEG {
        return Err(Error::file(path, format!("has more than {} MiB", MAX_JPEG >> 20)));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    let options = DecoderOptions::default().set_max_width(MAX_SIDE).set_max_height(MAX_SIDE);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes), options);
    decoder.decode_headers().map_err(|e| broken(&e))?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let output = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let pixels = decoder.decode().map_err(|e| broken(&e))?;
    let info = decoder.info().ok_or_else(|| broken(&"it has no size"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let channels = if grey { 1 } else { 3 };
    if pixels.len() != height * width * channels {
        return Err(broken(&"its pixels do not fit its size"));
    }
    Ok(Frame { height, width, channels, pixels })
}

/// The frames of an animation at a constant rate: frame k is the picture that is seen at k/fps seconds; without a rate, each
/// picture once.
struct Clock<'a> {
    fps: Option<f64>,
    /// Time at which the next frame is due, as a number of frames, and the time that has passed.
    due: u64,
    seconds: f64,
    each: &'a mut dyn FnMut(Frame) -> Result<()>,
}

impl Clock<'_> {
    /// A picture, red, green, blue and alpha, that is seen for `delay` seconds; transparent pixels are black.
    fn show(&mut self, [width, height]: [usize; 2], canvas: &[[u8; 4]], delay: f64) -> Result<()> {
        let frame = || {
            let over_black = |value: u8, alpha: u8| ((u32::from(value) * u32::from(alpha) + 127) / 255) as u8;
            let pixels =
                canvas.iter().flat_map(|&[r, g, b, a]| [r, g, b].map(|v| over_black(v, a))).collect();
            Frame { height, width, channels: 3, pixels }
        };
        let Some(fps) = self.fps else { return (self.each)(frame()) };
        self.seconds += delay;
        // A little less than a frame's time, against rounding.
        while (self.due as f64) / fps + 1e-6 < self.seconds {
            (self.each)(frame())?;
            self.due += 1;
        }
        Ok(())
    }
}

/// The frames of a GIF, each drawn over what the frames before it left.
///
/// # Errors
/// [`Error::File`] when it is broken or larger than 4096×4096; the error of `each`.
pub(super) fn gif(path: &Path, fps: Option<f64>, each: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
    let broken = |e: ::gif::DecodingError| Error::file(path, format!("is not a GIF that can be read: {e}"));
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.set_memory_limit(
        NonZeroU64::new(MAX_BYTES as u64).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes),
    );
    let mut decoder = options.read_info(BufReader::new(file)).map_err(broken)?;
    let size = [usize::from(decoder.width()), usize::from(decoder.height())];
    let mut canvas = Canvas::new(size, path)?;
    let mut clock = Clock { fps, due: 0, seconds: 0.0, each };
    let mut frames = 0_u64;
    while let Some(frame) = decoder.read_next_frame().map_err(broken)? {
        frames += 1;
        let place = Place {
            left: usize::from(frame.left),
            top: usize::from(frame.top),
            width: usize::from(frame.width),
        };
        let before = (frame.dispose == DisposalMethod::Previous).then(|| canvas.pixels.clone());
        let pixels = frame.buffer.as_chunks::<4>().0;
        canvas.lay(place, pixels, |to, from| {
            if from[3] > 0 {
                *to = *from
            }
        });
        let delay = match frame.delay {
            0 => DEFAULT_DELAY,
            delay => f64::from(delay) / 100.0,
        };
        clock.show(size, &canvas.pixels, delay)?;
        match (before, frame.dispose) {
            (Some(before), _) => canvas.pixels = before,
            (None, DisposalMethod::Background) => canvas.lay(place, pixels, |to, _| *to = [0; 4]),
            _ => {}
        }
    }
    match frames {
        0 => Err(Error::file(path, "is a GIF without frames")),
        _ => Ok(()),
    }
}

/// The number of pictures of a PNG if it is animated.
///
/// # Errors
/// [`Error::File`] when it is not a PNG.
pub(super) fn animated_png(path: &Path) -> Result<Option<u32>> {
    let decoder = png_decoder(path)?;
    let reader = decoder.read_info().map_err(|e| broken_png(path, &e))?;
    Ok(reader.info().animation_control().map(|control| control.num_frames).filter(|&frames| frames > 1))
}

fn broken_png(path: &Path, e: &::png::DecodingError) -> Error {
    Error::file(path, format!("is not a readable PNG: {e}"))
}

fn png_decoder(path: &Path) -> Result<Decoder<BufReader<File>>> {
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    let mut decoder = Decoder::new_with_limits(BufReader::new(file), Limits { bytes: MAX_BYTES });
    decoder.set_transformations(Transformations::normalize_to_color8() | Transformations::ALPHA);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    Ok(decoder)
}

/// The frames of an animated PNG (<https://www.w3.org/TR/png-3/#apng-frame-based-animation>).
///
/// # Errors
/// [`Error::File`] when it is broken or larger than 4096×4096; the error of `each`.
pub(super) fn apng(path: &Path, fps: Option<f64>, each: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
    let broken = |e: ::png::DecodingError| broken_png(path, &e);
    let mut reader = png_decoder(path)?.read_info().map_err(broken)?;
    let size = [reader.info().width as usize, reader.info().height as usize];
    let mut canvas = Canvas::new(size, path)?;
    let pictures = reader.info().animation_control().map_or(1, |control| control.num_frames);
    // A first picture without a frame control is for programs that do not know animations.
    let still = reader.info().frame_control().is_none();
    let mut pixels = vec![
        0;
        reader
            .output_buffer_size()
            .filter(|&size| size <= MAX_BYTES)
            .ok_or_else(|| Error::file(path, "is too large"))?
    ];
    let mut clock = Clock { fps, due: 0, seconds: 0.0, each };
    for number in 0..u64::from(pictures) + u64::from(still) {
        let output = reader.next_frame(&mut pixels).map_err(broken)?;
        if still && number == 0 {
            continue;
        }
        let Some(control) = reader.info().frame_control().copied() else {
            return Err(Error::file(path, "has a picture of its animation without a place"));
        };
        let rgba: Vec<[u8; 4]> = match output.color_type.samples() {
            2 => {
                pixels[..output.buffer_size()].as_chunks::<2>().0.iter().map(|&[v, a]| [v, v, v, a]).collect()
            }
            _ => pixels[..output.buffer_size()].as_chunks::<4>().0.to_vec(),
        };
        let place = Place {
            left: control.x_offset as usize,
            top: control.y_offset as usize,
            width: output.width as usize,
        };
        let before = (control.dispose_op == DisposeOp::Previous).then(|| canvas.pixels.clone());
        match control.blend_op {
            BlendOp::Source => canvas.lay(place, &rgba, |to, from| *to = *from),
            BlendOp::Over => canvas.lay(place, &rgba, |to, from| *to = over(*from, *to)),
        }
        let denominator = if control.delay_den == 0 { 100 } else { control.delay_den };
        clock.show(size, &canvas.pixels, f64::from(control.delay_num) / f64::from(denominator))?;
        match (before, control.dispose_op) {
            (Some(before), _) => canvas.pixels = before,
            (None, DisposeOp::Background) => canvas.lay(place, &rgba, |to, _| *to = [0; 4]),
            _ => {}
        }
    }
    Ok(())
}

/// `top` over `below`, both with alpha.
fn over(top: [u8; 4], below: [u8; 4]) -> [u8; 4] {
    let [a, b] = [top[3], below[3]].map(|alpha| f32::from(alpha) / 255.0);
    let alpha = a + b * (1.0 - a);
    if alpha == 0.0 {
        return [0; 4];
    }
    let mix =
        |i: usize| ((f32::from(top[i]) * a + f32::from(below[i]) * b * (1.0 - a)) / alpha).round() as u8;
    [mix(0), mix(1), mix(2), (alpha * 255.0).round() as u8]
}

/// A picture that is drawn on: red, green, blue, alpha.
struct Canvas {
    width: usize,
    pixels: Vec<[u8; 4]>,
}

/// Place of a part of the picture.
#[derive(Clone, Copy)]
struct Place {
    left: usize,
    top: usize,
    width: usize,
}

impl Canvas {
    fn new([width, height]: [usize; 2], path: &Path) -> Result<Self> {
        if width == 0 || height == 0 || width.max(height) > MAX_SIDE {
            return Err(Error::file(path, format!("is {width}×{height} pixels; 1 to {MAX_SIDE} can be")));
        }
        Ok(Self { width, pixels: vec![[0; 4]; width * height] })
    }

    /// Applies `draw` to each pixel of the place that lies inside, with the part's own pixel.
    fn lay(&mut self, place: Place, part: &[[u8; 4]], draw: impl Fn(&mut [u8; 4], &[u8; 4])) {
        let lines = self.pixels.chunks_exact_mut(self.width).skip(place.top);
        // A part without columns has no lines to lay.
        for (line, from) in lines.zip(part.chunks_exact(place.width.max(1))) {
            line.iter_mut().skip(place.left).zip(from).for_each(|(to, from)| draw(to, from));
        }
    }
}

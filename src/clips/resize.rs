//! Frames of any size to the model's side.

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use super::Frame;
use crate::config::choices;
use crate::{Error, Result};

choices! {
    /// How a frame of another size becomes one of the model's side. Pixels are averaged by area.
    Resize {
        /// Cut to the middle square.
        Fill = "fill",
        /// Whole, with black bars.
        Fit = "fit",
        /// Whole, stretched to a square.
        Stretch = "stretch",
    }
}

/// Makes frames of one side.
#[derive(Default)]
pub(super) struct Scaler {
    resizer: Resizer,
}

impl Scaler {
    /// `frame` as one of `side`×`side` pixels; unchanged if it has that size.
    ///
    /// # Errors
    /// [`Error::Failure`] for a frame without pixels.
    pub fn scale(&mut self, frame: &mut Frame, side: usize, how: Resize) -> Result<()> {
        let (height, width) = (frame.height, frame.width);
        if (height, width) == (side, side) {
            return Ok(());
        }
        let cannot = |e: &dyn std::fmt::Display| {
            Error::Failure(format!(
                "a frame of {width}×{height} pixels cannot become one of {side}×{side}: {e}"
            ))
        };
        let least = height.min(width);
        let scaled = |length: usize| (length * side).div_ceil(height.max(width)).clamp(1, side);
        let (crop, inner) = match how {
            Resize::Fill => ([least, least], [side, side]),
            Resize::Stretch => ([height, width], [side, side]),
            Resize::Fit => ([height, width], [scaled(height), scaled(width)]),
        };
        let kind = if frame.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
        let of = |length: usize| u32::try_from(length).map_err(|e| cannot(&e));
        let source =
            images::ImageRef::new(of(width)?, of(height)?, &frame.pixels, kind).map_err(|e| cannot(&e))?;
        let mut scaled = images::Image::new(of(inner[1])?, of(inner[0])?, kind);
        // Averages where it becomes smaller; between the pixels where it becomes larger.
        let filter = if crop[0] >= inner[0] { FilterType::Box } else { FilterType::Bilinear };
        let middle = |whole: usize, part: usize| (whole - part) as f64 / 2.0;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
            middle(width, crop[1]),
            middle(height, crop[0]),
            crop[1] as f64,
            crop[0] as f64,
        );
        self.resizer.resize(&source, &mut scaled, &options).map_err(|e| cannot(&e))?;
        let channels = frame.channels;
        let mut pixels = vec![0; side * side * channels];
        let (top, left) = ((side - inner[0]) / 2, (side - inner[1]) / 2);
        for (y, row) in scaled.buffer().chunks_exact(inner[1] * channels).enumerate() {
            let at = ((top + y) * side + left) * channels;
            pixels[at..at + row.len()].copy_from_slice(row);
        }
        *frame = Frame { height: side, width: side, channels, pixels };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of 4 rows and 8 columns: black left, white right, with two grey columns in the middle.
    fn frame() -> Frame {
        let row = [0, 0, 0, 100, 100, 255, 255, 255];
        Frame { height: 4, width: 8, channels: 1, pixels: row.repeat(4) }
    }

    #[test]
    fn each_way_keeps_what_it_says() {
        let scale = |side, how| {
            let mut frame = frame();
            Scaler::default().scale(&mut frame, side, how).unwrap();
            assert_eq!((frame.height, frame.width), (side, side));
            frame.pixels
        };
        // The middle four columns, two by two.
        assert_eq!(scale(2, Resize::Fill), [50, 178, 50, 178]);
        assert_eq!(scale(2, Resize::Stretch), [25, 216, 25, 216]);
        // Two rows of four, with a black row above and below.
        let fitted = [0, 0, 0, 0, 0, 50, 178, 255, 0, 50, 178, 255, 0, 0, 0, 0];
        assert_eq!(scale(4, Resize::Fit), fitted);
    }

    #[test]
    fn colours_stay_apart_and_larger_is_smooth() {
        let mut frame = Frame { height: 1, width: 2, channels: 3, pixels: vec![0, 10, 20, 200, 10, 20] };
        Scaler::default().scale(&mut frame, 4, Resize::Stretch).unwrap();
        assert!(frame.pixels.chunks_exact(3).all(|p| p[1..] == [10, 20]));
        let reds: Vec<u8> = frame.pixels.iter().step_by(3).take(4).copied().collect();
        assert!(reds.is_sorted() && reds[0] < 60 && reds[3] > 140, "{reds:?}");
    }
}

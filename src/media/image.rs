//! Colour pictures in memory, and their composition.

use super::font;

/// A picture of 8-bit red, green and blue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// [height, width], row by row from the top.
    pub pixels: Vec<[u8; 3]>,
}

impl Image {
    /// A picture of one colour.
    pub fn new(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self { width, height, pixels: vec![colour; width * height] }
    }

    /// A picture of greys [height, width]; missing pixels are black.
    pub fn grey(width: usize, height: usize, greys: &[u8]) -> Self {
        let mut image = Self::new(width, height, [0; 3]);
        image.pixels.iter_mut().zip(greys).for_each(|(pixel, &grey)| *pixel = [grey; 3]);
        image
    }

    /// A picture of values [height, width, channels] with 1 or 3 channels; missing pixels are black.
    pub fn from_u8(width: usize, height: usize, channels: usize, values: &[u8]) -> Self {
        if channels != 3 {
            return Self::grey(width, height, values);
        }
        let mut image = Self::new(width, height, [0; 3]);
        image.pixels.iter_mut().zip(values.as_chunks::<3>().0).for_each(|(pixel, &colours)| *pixel = colours);
        image
    }

    /// Every pixel as a square of `factor`×`factor`; a factor of 0 counts as 1.
    pub fn upscale(&self, factor: usize) -> Self {
        let factor = factor.max(1);
        let mut image = Self::new(self.width * factor, self.height * factor, [0; 3]);
        for (y, line) in image.pixels.chunks_exact_mut((self.width * factor).max(1)).enumerate() {
            let from = &self.pixels[y / factor * self.width..];
            line.iter_mut().enumerate().for_each(|(x, pixel)| *pixel = from[x / factor]);
        }
        image
    }

    /// Draws `other` with its top-left corner at (x, y); parts beyond the edge are cut off.
    pub fn paste(&mut self, other: &Self, x: usize, y: usize) {
        let columns = other.width.min(self.width.saturating_sub(x));
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let to = (y + row) * self.width + x;
            let from = row * other.width;
            self.pixels[to..to + columns].copy_from_slice(&other.pixels[from..from + columns]);
        }
    }

    /// Pictures side by side, their tops in line, `gutter` pixels of `colour` between them.
    pub fn hstack(images: &[Self], gutter: usize, colour: [u8; 3]) -> Self {
        let height = images.iter().map(|i| i.height).max().unwrap_or(0);
        let gaps = images.len().saturating_sub(1) * gutter;
        let mut whole = Self::new(images.iter().map(|i| i.width).sum::<usize>() + gaps, height, colour);
        let mut x = 0;
        for image in images {
            whole.paste(image, x, 0);
            x += image.width + gutter;
        }
        whole
    }

    /// Pictures below each other, their left edges in line, `gutter` pixels of `colour` between them.
    pub fn vstack(images: &[Self], gutter: usize, colour: [u8; 3]) -> Self {
        let width = images.iter().map(|i| i.width).max().unwrap_or(0);
        let gaps = images.len().saturating_sub(1) * gutter;
        let mut whole = Self::new(width, images.iter().map(|i| i.height).sum::<usize>() + gaps, colour);
        let mut y = 0;
        for image in images {
            whole.paste(image, 0, y);
            y += image.height + gutter;
        }
        whole
    }

    /// The picture with `margin` pixels of `colour` around it.
    pub fn framed(&self, margin: usize, colour: [u8; 3]) -> Self {
        let mut whole = Self::new(self.width + 2 * margin, self.height + 2 * margin, colour);
        whole.paste(self, margin, margin);
        whole
    }

    /// Writes `text` in capitals of 5×7 pixels times `scale`, its top-left corner at (x, y). Signs that the font lacks
    /// are left empty.
    pub fn text(&mut self, text: &str, x: usize, y: usize, scale: usize, colour: [u8; 3]) {
        let scale = scale.max(1);
        for (i, sign) in text.chars().enumerate() {
            let left = x + i * font::ADVANCE * scale;
            for (row, bits) in font::glyph(sign).into_iter().enumerate() {
                for column in (0..font::WIDTH).filter(|column| bits >> (font::WIDTH - 1 - column) & 1 == 1) {
                    let dot = Self::new(scale, scale, colour);
                    self.paste(&dot, left + column * scale, y + row * scale);
                }
            }
        }
    }

    /// Columns that [`Image::text`] needs for `text`.
    pub fn text_width(text: &str, scale: usize) -> usize {
        (text.chars().count() * font::ADVANCE).saturating_sub(1) * scale.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_and_scales() {
        let a = Image::grey(2, 1, &[1, 2]);
        assert_eq!(a.upscale(2).pixels, Image::grey(4, 2, &[1, 1, 2, 2, 1, 1, 2, 2]).pixels);
        let b = Image::grey(1, 2, &[3, 4]);
        let h = Image::hstack(&[a.clone(), b.clone()], 1, [9; 3]);
        assert_eq!(h, Image::grey(4, 2, &[1, 2, 9, 3, 9, 9, 9, 4]));
        let v = Image::vstack(&[a, b], 1, [9; 3]);
        assert_eq!(v, Image::grey(2, 4, &[1, 2, 9, 9, 3, 9, 4, 9]));
        assert_eq!(Image::hstack(&[], 3, [0; 3]).pixels.len(), 0);
    }

    #[test]
    fn text_stays_inside() {
        let mut image = Image::new(12, 8, [0; 3]);
        image.text("T=+1 é", 0, 0, 1, [255; 3]);
        image.text("AB", 100, 100, 3, [255; 3]);
        assert_eq!(image.pixels[..5], [[255; 3]; 5]);
        assert_eq!(Image::text_width("AB", 2), 22);
    }
}

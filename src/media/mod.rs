//! Pictures: clips read from files, comparisons of predictions with the truth, GIF and PNG.

mod clip;
mod compare;
mod font;
mod gif;
mod image;
mod png;
mod show;

pub use self::clip::{Clip, read_clips};
pub use self::compare::{Row, Style, comparison, strip};
pub use self::gif::{Animation, read_gif, write_gif};
pub use self::image::Image;
pub use self::png::{Raster, encode_png, read_png, read_png_folder, write_png, write_png_folder};
pub use self::show::{show, tile_animation, tile_strip};

/// The largest width and height of a picture that is read.
const MAX_SIDE: u32 = 4096;
/// The most frames or pictures that are read.
const MAX_FRAMES: usize = 10_000;
/// The most bytes that the pictures of one file or folder may take: 256 MiB.
const MAX_BYTES: usize = 256 << 20;

//! Pictures: clips in memory, comparisons of predictions with the truth, GIF and PNG.

mod clip;
mod compare;
mod font;
mod gif;
mod image;
mod png;
mod show;

pub use self::clip::Clip;
pub use self::compare::{Row, Style, comparison, strip};
pub use self::gif::{Animation, write_gif};
pub use self::image::Image;
pub use self::png::{Raster, check_png_folder, encode_png, read_png, write_png, write_png_folder};
pub use self::show::{show, tile_animation, tile_strip};

/// Maximum width and height of a picture in pixels.
const MAX_SIDE: u32 = 4096;
/// Maximum size in bytes of the pictures of one file or folder: 256 MiB.
const MAX_BYTES: usize = 256 << 20;

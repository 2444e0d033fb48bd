//! Draws clips to train on: balls that move and bounce over a coloured ground, 160×120, each clip a folder of PNG frames.
//!
//! ```text
//! cargo run --release --example colour_clips -- clips 400
//! ```

use std::path::PathBuf;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssmv_raw::media::{Image, write_png_folder};

const WIDTH: usize = 160;
const HEIGHT: usize = 120;
const FRAMES: usize = 24;

struct Ball {
    centre: [f32; 2],
    step: [f32; 2],
    radius: f32,
    colour: [f32; 3],
}

impl Ball {
    fn new(random: &mut ChaCha8Rng) -> Self {
        let radius = random.random_range(9.0..18.0);
        let angle = random.random_range(0.0..std::f32::consts::TAU);
        let speed = random.random_range(2.0..5.0);
        Self {
            centre: [WIDTH, HEIGHT].map(|side| random.random_range(radius..side as f32 - radius)),
            step: [angle.cos() * speed, angle.sin() * speed],
            radius,
            colour: std::array::from_fn(|_| random.random_range(0.3..1.0)),
        }
    }

    /// Moves by one frame; a wall turns the step.
    fn advance(&mut self) {
        for (axis, side) in [WIDTH, HEIGHT].into_iter().enumerate() {
            self.centre[axis] += self.step[axis];
            let (least, most) = (self.radius, side as f32 - self.radius);
            if !(least..=most).contains(&self.centre[axis]) {
                self.step[axis] = -self.step[axis];
                self.centre[axis] = self.centre[axis].clamp(least, most);
            }
        }
    }

    /// How much of a pixel it covers, and its colour there: brighter towards the top left.
    fn at(&self, x: f32, y: f32) -> (f32, [f32; 3]) {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let covered = (self.radius + 0.5 - dx.hypot(dy)).clamp(0.0, 1.0);
        let light = 0.85 - 0.35 * (dx + dy) / self.radius / 2.0;
        (covered, self.colour.map(|part| part * light))
    }
}

fn frame(ground: &[[f32; 3]; 2], balls: &[Ball]) -> Image {
    let mut image = Image::new(WIDTH, HEIGHT, [0; 3]);
    for (i, pixel) in image.pixels.iter_mut().enumerate() {
        let (x, y) = ((i % WIDTH) as f32, (i / WIDTH) as f32);
        let down = y / HEIGHT as f32;
        let mut colour: [f32; 3] = std::array::from_fn(|c| ground[0][c] * (1.0 - down) + ground[1][c] * down);
        for ball in balls {
            let (covered, own) = ball.at(x, y);
            colour = std::array::from_fn(|c| colour[c] * (1.0 - covered) + own[c] * covered);
        }
        *pixel = colour.map(|part| (part.clamp(0.0, 1.0) * 255.0).round() as u8);
    }
    image
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(count)) = (arguments.next(), arguments.next()) else {
        return Err("usage: colour_clips FOLDER NUMBER".into());
    };
    let (folder, count): (PathBuf, u64) = (folder.into(), count.parse()?);
    std::fs::create_dir_all(&folder)?;
    for clip in 0..count {
        let random = &mut ChaCha8Rng::seed_from_u64(clip);
        let ground: [[f32; 3]; 2] =
            std::array::from_fn(|_| std::array::from_fn(|_| random.random_range(0.0..0.3)));
        let mut balls: Vec<Ball> = (0..2).map(|_| Ball::new(random)).collect();
        let mut frames = Vec::new();
        for _ in 0..FRAMES {
            frames.push(frame(&ground, &balls));
            balls.iter_mut().for_each(Ball::advance);
        }
        write_png_folder(&folder.join(format!("clip-{clip:03}")), &frames, false)?;
    }
    println!("{count} clips of {FRAMES} frames in {}", folder.display());
    Ok(())
}

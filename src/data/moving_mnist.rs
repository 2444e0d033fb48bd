//! Moving MNIST: digits that move on a black canvas and turn at its edges.

use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::digits::Digits;
use super::{MAX_BYTES, Split};
use crate::config::choices;
use crate::{Error, Result};

choices! {
    /// Motion of the digits and their overlap.
    Rule {
        /// The field's rule, as in OpenSTL's generator. Position (x, y): uniform in [0, 1)²; direction: uniform on the
        /// circle; motion: 0.1 before every frame including the first. A coordinate that reaches 0 or 1 is set to it and
        /// its direction turned. Top-left = ⌊(canvas − digit)·coordinate⌋; overlap by maximum.
        Standard = "standard",
        /// The rule of the ssm-video project. Start: an integer in 0…canvas − digit; velocity: ±{1, 2, 3} on each axis. A
        /// step that would reach or pass an edge is not made and turns the velocity. Overlap by sum, clamped to white.
        SsmVideo = "ssm-video",
    }
}

/// Step of [`Rule::Standard`] per frame, as a fraction of the free width.
const STEP: f64 = 0.1;

/// Generator of Moving MNIST. A sequence depends only on (seed, split, epoch, index), so any process can make it.
#[derive(Debug, Clone)]
pub struct MovingMnist {
    digits: Arc<Digits>,
    rule: Rule,
    count: usize,
    canvas: usize,
    frames: usize,
    seed: u64,
}

impl MovingMnist {
    /// Sequences of `frames` frames of `canvas`×`canvas` pixels with `count` digits.
    ///
    /// # Errors
    /// [`Error::Usage`] when the canvas is smaller than a digit, there are 0 or more than 100 digits, 0 or more than
    /// 10,000 frames, or a sequence would pass 1 GiB.
    pub fn new(
        digits: Arc<Digits>,
        rule: Rule,
        count: usize,
        canvas: usize,
        frames: usize,
        seed: u64,
    ) -> Result<Self> {
        let side = digits.side();
        if canvas < side {
            return Err(Error::Usage(format!(
                "a canvas of {canvas} pixels is smaller than a digit of {side}; make the canvas larger or the digits \
                 smaller (--canvas, --digit-size)"
            )));
        }
        if !(1..=100).contains(&count) {
            return Err(Error::Usage(format!("{count} digits in a sequence; must be 1 to 100 (--digits)")));
        }
        if !(1..=10_000).contains(&frames) {
            return Err(Error::Usage(format!("{frames} frames in a sequence; must be 1 to 10000")));
        }
        let bytes = canvas.checked_mul(canvas).and_then(|area| area.checked_mul(frames));
        if bytes.is_none_or(|bytes| bytes > MAX_BYTES) {
            return Err(Error::Usage(format!(
                "{frames} frames of {canvas}×{canvas} pixels are more than 1 GiB; make the canvas smaller (--canvas)"
            )));
        }
        Ok(Self { digits, rule, count, canvas, frames, seed })
    }

    /// Bytes of a sequence: frames · canvas · canvas.
    pub fn sequence_bytes(&self) -> usize {
        self.frames * self.canvas * self.canvas
    }

    /// Writes sequence `index` of `epoch` to `out`, [frames, canvas, canvas], 0 is black. The test split has one
    /// epoch only: it ignores `epoch`.
    ///
    /// # Errors
    /// [`Error::Failure`] when `out` is not [`MovingMnist::sequence_bytes`] long.
    pub fn sequence(&self, split: Split, epoch: u64, index: u64, out: &mut [u8]) -> Result<()> {
        if out.len() != self.sequence_bytes() {
            return Err(Error::Failure(format!(
                "a sequence of {} bytes does not fit a buffer of {}",
                self.sequence_bytes(),
                out.len()
            )));
        }
        out.fill(0);
        let mut random = Random::new(self.seed, split, epoch, index);
        for _ in 0..self.count {
            let range = self.digits.range(split);
            let number = range.start + random.below(range.len() as u64) as usize;
            let digit = self.digits.get(number).unwrap_or_default();
            let path = self.path(&mut random);
            for ((top, left), frame) in path.into_iter().zip(out.chunks_exact_mut(self.canvas * self.canvas))
            {
                self.draw(digit, top, left, frame);
            }
        }
        Ok(())
    }

    /// Top-left corners (row, column) of a digit, one for each frame.
    fn path(&self, random: &mut Random) -> Vec<(usize, usize)> {
        let free = self.canvas - self.digits.side();
        match self.rule {
            Rule::Standard => {
                let (mut x, mut y) = (random.unit(), random.unit());
                let (mut dx, mut dy) = random.direction();
                (0..self.frames)
                    .map(|_| {
                        bounce(&mut y, &mut dy);
                        bounce(&mut x, &mut dx);
                        ((free as f64 * y) as usize, (free as f64 * x) as usize)
                    })
                    .collect()
            }
            Rule::SsmVideo => {
                let free = free as i64;
                let mut start = || random.below(free as u64 + 1) as i64;
                let (mut top, mut left) = (start(), start());
                let mut velocity = || {
                    let sign = if random.below(2) == 0 { -1 } else { 1 };
                    sign * (1 + random.below(3) as i64)
                };
                let (mut down, mut right) = (velocity(), velocity());
                (0..self.frames)
                    .map(|_| {
                        let here = (top as usize, left as usize);
                        step_or_turn(&mut top, &mut down, free);
                        step_or_turn(&mut left, &mut right, free);
                        here
                    })
                    .collect()
            }
        }
    }

    /// Draws a digit onto a frame.
    fn draw(&self, digit: &[u8], top: usize, left: usize, frame: &mut [u8]) {
        let side = self.digits.side();
        for (row, line) in digit.chunks_exact(side).zip(frame.chunks_exact_mut(self.canvas).skip(top)) {
            for (&ink, pixel) in row.iter().zip(&mut line[left..left + side]) {
                *pixel = match self.rule {
                    Rule::Standard => ink.max(*pixel),
                    Rule::SsmVideo => ink.saturating_add(*pixel),
                };
            }
        }
    }
}

/// One step of [`Rule::Standard`] along an axis.
fn bounce(coordinate: &mut f64, direction: &mut f64) {
    *coordinate += STEP * *direction;
    if *coordinate <= 0.0 || *coordinate >= 1.0 {
        *coordinate = coordinate.clamp(0.0, 1.0);
        *direction = -*direction;
    }
}

/// One step of [`Rule::SsmVideo`] along an axis with positions 0…`free`.
fn step_or_turn(position: &mut i64, velocity: &mut i64, free: i64) {
    let next = *position + *velocity;
    if next <= 0 || next >= free {
        *velocity = -*velocity;
    } else {
        *position = next;
    }
}

/// Random numbers that depend only on this file and ChaCha8, so that a sequence is the same with every version of every
/// library and on every machine.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// The stream of one sequence. The test split has one epoch.
    fn new(seed: u64, split: Split, epoch: u64, index: u64) -> Self {
        match split {
            Split::Train => Self::from_words([seed, 0, epoch, index]),
            Split::Test => Self::from_words([seed, 1, 0, index]),
        }
    }

    /// The stream of four words: they are ChaCha's key.
    pub(super) fn from_words(words: [u64; 4]) -> Self {
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in 0…n − 1 (up to a bias of n/2⁶⁴).
    pub(super) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform on the circle, by rejection from the square: sine and cosine differ between machines in the last bit,
    /// square root and division do not.
    fn direction(&mut self) -> (f64, f64) {
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square <= 1.0 && square > 1e-6 {
                let length = square.sqrt();
                return (x / length, y / length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn maker(rule: Rule, count: usize, canvas: usize, frames: usize, seed: u64) -> MovingMnist {
        static DIGITS: std::sync::OnceLock<Arc<Digits>> = std::sync::OnceLock::new();
        let digits = DIGITS.get_or_init(|| Arc::new(Digits::embedded().unwrap()));
        MovingMnist::new(Arc::clone(digits), rule, count, canvas, frames, seed).unwrap()
    }

    fn sequence(maker: &MovingMnist, split: Split, epoch: u64, index: u64) -> Vec<u8> {
        let mut out = vec![1; maker.sequence_bytes()];
        maker.sequence(split, epoch, index, &mut out).unwrap();
        out
    }

    #[test]
    fn black_is_as_far_off_as_the_rule_says() {
        let maker = maker(Rule::Standard, 2, 64, 12, 5);
        let (mut sum, mut squares, mut frames) = (0.0, 0.0, 0.0);
        for index in 0..4000 {
            for pixel in sequence(&maker, Split::Train, 0, index) {
                let value = f64::from(pixel) / 255.0;
                sum += value;
                squares += value * value;
            }
            frames += 12.0;
        }
        let (l1, mse) = (sum / frames / 4096.0, squares / frames);
        // The field's all-black picture (0.0497 and 176) is of other digits; a NumPy statement of the rule over these
        // ones has 0.04874 and 172.02 after 20,000 sequences.
        for (value, field, these) in [(l1, 0.0497, 0.04874), (mse, 176.0, 172.02)] {
            approx::assert_relative_eq!(value, field, max_relative = 0.04);
            approx::assert_relative_eq!(value, these, max_relative = 0.012);
        }
    }

    #[test]
    fn values_never_change() {
        // A checksum of the generator's output: a change here changes every published number.
        let sum = |rule| {
            sequence(&maker(rule, 2, 64, 12, 1), Split::Train, 2, 3)
                .iter()
                .fold(0u64, |hash, &pixel| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(pixel))
        };
        assert_eq!((sum(Rule::Standard), sum(Rule::SsmVideo)), (STANDARD_SUM, SSM_VIDEO_SUM));
    }

    const STANDARD_SUM: u64 = 12_827_507_920_425_152_234;
    const SSM_VIDEO_SUM: u64 = 16_569_402_257_991_681_591;

    #[test]
    fn splits_use_other_digits() {
        // One digit on a canvas of its own size: every frame is the digit itself.
        let maker = maker(Rule::Standard, 1, 28, 1, 9);
        let digits = &maker.digits;
        for split in [Split::Train, Split::Test] {
            let own: std::collections::HashSet<&[u8]> =
                digits.range(split).map(|i| digits.get(i).unwrap()).collect();
            for index in 0..300 {
                assert!(own.contains(&sequence(&maker, split, 0, index)[..]));
            }
        }
    }

    #[test]
    fn refuses_nonsense() {
        let digits = Arc::new(Digits::embedded().unwrap());
        for (count, canvas, frames) in
            [(2, 27, 12), (0, 64, 12), (101, 64, 12), (2, 64, 0), (2, 64, 10_001), (2, usize::MAX, 1)]
        {
            let made = MovingMnist::new(Arc::clone(&digits), Rule::Standard, count, canvas, frames, 0);
            assert!(matches!(made, Err(Error::Usage(_))), "{count} {canvas} {frames}");
        }
        let maker = MovingMnist::new(digits, Rule::Standard, 1, 28, 1, 0).unwrap();
        assert!(maker.sequence(Split::Train, 0, 0, &mut [0; 7]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn paths_stay_on_the_canvas_and_turn_at_the_edge(
            seed: u64, canvas in 28usize..100, standard: bool,
        ) {
            let rule = if standard { Rule::Standard } else { Rule::SsmVideo };
            let maker = maker(rule, 1, canvas, 200, seed);
            let free = canvas - 28;
            let path = maker.path(&mut Random::new(seed, Split::Train, 0, 0));
            let most = if standard { (free as f64 * STEP).ceil() as i64 } else { 3 };
            for pair in path.windows(2) {
                for (a, b) in [(pair[0].0, pair[1].0), (pair[0].1, pair[1].1)] {
                    prop_assert!(a <= free && b <= free);
                    prop_assert!((a as i64 - b as i64).abs() <= most);
                }
            }
            if standard && free > 0 {
                // 200 steps of 0.1 cross the canvas: along at least one axis both edges are met.
                let meets = |at: &dyn Fn(&(usize, usize)) -> usize| {
                    path.iter().any(|p| at(p) == 0) && path.iter().any(|p| at(p) == free)
                };
                prop_assert!(meets(&|p| p.0) || meets(&|p| p.1));
            }
        }

        #[test]
        fn the_same_words_make_the_same_sequence(seed: u64, epoch: u64, index: u64) {
            let (a, b) = (maker(Rule::SsmVideo, 2, 40, 3, seed), maker(Rule::SsmVideo, 2, 40, 3, seed));
            prop_assert_eq!(sequence(&a, Split::Train, epoch, index), sequence(&b, Split::Train, epoch, index));
            prop_assert_eq!(sequence(&a, Split::Test, epoch, index), sequence(&b, Split::Test, 0, index));
            prop_assert_ne!(
                sequence(&a, Split::Train, epoch, index),
                sequence(&a, Split::Train, epoch.wrapping_add(1), index)
            );
        }

        #[test]
        fn a_bounce_keeps_the_speed(start in 0.0f64..1.0, direction in -1.0f64..1.0) {
            let (mut at, mut way) = (start, direction);
            bounce(&mut at, &mut way);
            prop_assert!((0.0..=1.0).contains(&at));
            prop_assert_eq!(way.abs(), direction.abs());
            let passed = start + STEP * direction;
            prop_assert_eq!(way == -direction && direction != 0.0, (passed <= 0.0 || passed >= 1.0) && direction != 0.0);
        }
    }
}

//! The video instructions (PTX ISA, "Video Instructions"): arithmetic on parts of words, with a second operation or a merge.
//!
//! The scalar instructions use a byte, a half or all of each operand, and keep 34 bits until they saturate. The SIMD
//! instructions select any of the 4 halves or 8 bytes of two words for each of their 2 or 4 places.

/// A byte, a half, or all of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Index of the lowest bit.
    pub shift: u32,
    pub bits: u32,
}

impl Part {
    pub const WHOLE: Self = Self { shift: 0, bits: 32 };

    fn of(self, x: u32, signed: bool) -> i64 {
        let top = x >> self.shift << (32 - self.bits);
        if signed { i64::from(top as i32 >> (32 - self.bits)) } else { i64::from(top >> (32 - self.bits)) }
    }

    /// The nearest value with as many bits.
    fn clamp(self, x: i64, signed: bool) -> i64 {
        if signed {
            x.clamp(-1 << (self.bits - 1), (1 << (self.bits - 1)) - 1)
        } else {
            x.clamp(0, (1 << self.bits) - 1)
        }
    }

    /// `x` in the place of this part of `into`.
    fn put(self, x: i64, into: u32) -> u32 {
        let mask = (u32::MAX >> (32 - self.bits)) << self.shift;
        into & !mask | (x as u32) << self.shift & mask
    }
}

/// A comparison operator of `vset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Compare {
    fn holds(self, a: i64, b: i64) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => a < b,
            Self::LessEqual => a <= b,
            Self::Greater => a > b,
            Self::GreaterEqual => a >= b,
        }
    }
}

/// An operation on two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VideoOp {
    Add,
    Sub,
    /// |a − b|.
    AbsDiff,
    Min,
    Max,
    /// The mean, with halves rounded away from zero.
    Average,
    /// A comparison: 1 or 0.
    Set(Compare),
    /// Shifts, by the amount modulo 32 or by 32 at most.
    ShiftLeft {
        wrap: bool,
    },
    /// a >> b, with the same rule for b.
    ShiftRight {
        wrap: bool,
    },
}

impl VideoOp {
    fn apply(self, a: i64, b: i64) -> i64 {
        let amount = |wrap: bool| if wrap { b as u32 & 31 } else { b.clamp(0, 32) as u32 };
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::AbsDiff => (a - b).abs(),
            Self::Min => a.min(b),
            Self::Max => a.max(b),
            Self::Average => (a + b + i64::from(a + b >= 0)) >> 1,
            Self::Set(compare) => compare.holds(a, b).into(),
            // A shift past 34 bits keeps the low ones of them.
            Self::ShiftLeft { wrap } => (((a as u64) << amount(wrap)) << 30) as i64 >> 30,
            Self::ShiftRight { wrap } => a >> amount(wrap),
        }
    }
}

/// The second operation of a scalar instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    Add,
    Min,
    Max,
}

/// A scalar video instruction other than `vmad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub op: VideoOp,
    /// Whether the types of d, a and b are signed.
    pub signed: [bool; 3],
    /// The parts of d (the others are c's), a and b.
    pub parts: [Part; 3],
    /// Whether `.sat` is given.
    pub saturate: bool,
    /// A second operation, on the result and `c`.
    pub second: Option<Second>,
}

impl Scalar {
    /// Computes the result of one lane.
    pub fn apply(self, a: u32, b: u32, c: u32) -> u32 {
        let ([to, a_part, b_part], [signed, a_signed, b_signed]) = (self.parts, self.signed);
        let result = self.op.apply(a_part.of(a, a_signed), b_part.of(b, b_signed));
        let result = if self.saturate { to.clamp(result, signed) } else { result };
        let other = Part::WHOLE.of(c, signed);
        match self.second {
            Some(Second::Add) => result.wrapping_add(other) as u32,
            Some(Second::Min) => result.min(other) as u32,
            Some(Second::Max) => result.max(other) as u32,
            None => to.put(result, c),
        }
    }
}

/// The instruction `vmad`: multiply and add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MultiplyAdd {
    /// Whether the types of a and b are signed.
    pub signed: [bool; 2],
    /// The parts of a and b.
    pub parts: [Part; 2],
    /// Whether the product is negated: −(a·b).
    pub negate_product: bool,
    /// Whether c is negated: −c.
    pub negate_addend: bool,
    /// `.po`: adds one to the result.
    pub plus_one: bool,
    /// Whether `.sat` is given.
    pub saturate: bool,
    /// Right shift of the result by 0, 7 or 15 bits.
    pub scale: u32,
}

impl MultiplyAdd {
    /// Computes the result of one lane.
    pub fn apply(self, a: u32, b: u32, c: u32) -> u32 {
        let [a_part, b_part] = self.parts;
        let signed = self.signed.contains(&true) || self.negate_product || self.negate_addend;
        let product = i128::from(a_part.of(a, self.signed[0])) * i128::from(b_part.of(b, self.signed[1]));
        let product = if self.negate_product { -product } else { product };
        let c = i128::from(Part::WHOLE.of(c, signed));
        let c = if self.negate_addend { -c } else { c };
        let sum = (product + c + i128::from(self.plus_one)) >> self.scale;
        let (least, most) = if signed { (i32::MIN.into(), i32::MAX.into()) } else { (0, u32::MAX.into()) };
        if self.saturate { sum.clamp(least, most) as u32 } else { sum as u32 }
    }
}

/// A SIMD video instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Simd {
    pub op: VideoOp,
    /// Bits of a place: 16 or 8.
    pub bits: u32,
    /// Whether the types of d, a and b are signed.
    pub signed: [bool; 3],
    /// Which of a's and b's halves or bytes, counted from a's lowest, goes to each place, for the first and second operand.
    pub picks: [[u8; 4]; 2],
    /// The places that are computed, a bit each.
    pub mask: u8,
    /// Whether `.sat` is given.
    pub saturate: bool,
    /// `.add`: the results are added to c; otherwise they take their places in it.
    pub accumulate: bool,
}

impl Simd {
    /// Computes the result of one lane.
    pub fn apply(self, a: u32, b: u32, c: u32) -> u32 {
        let [signed, a_signed, b_signed] = self.signed;
        let mut out = c;
        for place in (0..32 / self.bits).filter(|place| self.mask >> place & 1 == 1) {
            let pick = |picks: [u8; 4], signed: bool| {
                let shift = u32::from(picks[place as usize]) * self.bits;
                let (word, shift) = if shift < 32 { (a, shift) } else { (b, shift - 32) };
                Part { shift, bits: self.bits }.of(word, signed)
            };
            let to = Part { shift: place * self.bits, bits: self.bits };
            let result = self.op.apply(pick(self.picks[0], a_signed), pick(self.picks[1], b_signed));
            let result = if self.saturate { to.clamp(result, signed) } else { result };
            out = if self.accumulate { out.wrapping_add(result as u32) } else { to.put(result, out) };
        }
        out
    }
}

/// One of the video instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Video {
    Scalar(Scalar),
    MultiplyAdd(MultiplyAdd),
    Simd(Simd),
}

impl Video {
    /// Computes the result of one lane.
    pub fn apply(self, a: u32, b: u32, c: u32) -> u32 {
        match self {
            Self::Scalar(op) => op.apply(a, b, c),
            Self::MultiplyAdd(op) => op.apply(a, b, c),
            Self::Simd(op) => op.apply(a, b, c),
        }
    }
}

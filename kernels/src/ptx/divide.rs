//! Division by a constant as a multiply-high (Granlund & Montgomery 1994; Hacker's Delight, chapter 10): an integer
//! division takes about twenty instructions on a GPU, this takes two to four.

use super::{Asm, Reg, U32};

/// A divisor that is a constant of the text, with its method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Divisor {
    divisor: u32,
    method: Method,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// A power of two: q = x » shift.
    Shift(u32),
    /// q = mulhi(x, magic) » shift.
    Multiply { magic: u32, shift: u32 },
    /// The magic number has 33 bits; its top bit is added separately: t = mulhi(x, magic), q = (((x − t) » 1) + t) »
    /// shift.
    MultiplyAdd { magic: u32, shift: u32 },
}

impl Divisor {
    /// The method for `divisor`; `None` for 0.
    pub fn new(divisor: u32) -> Option<Self> {
        if divisor == 0 {
            return None;
        }
        let method = if divisor.is_power_of_two() {
            Method::Shift(divisor.trailing_zeros())
        } else {
            Self::multiply(divisor)
        };
        Some(Self { divisor, method })
    }

    fn multiply(divisor: u32) -> Method {
        // The smallest 2^(32 + shift) whose rounded-up quotient by the divisor is exact enough for every 32-bit x.
        let d = u128::from(divisor);
        let log = 32 - divisor.leading_zeros();
        for shift in 0..log {
            let power = 1u128 << (32 + shift);
            let magic = power.div_ceil(d);
            if magic < 1 << 32 && magic * d - power <= 1 << shift {
                return Method::Multiply { magic: magic as u32, shift };
            }
        }
        let magic = (1u128 << (32 + log)).div_ceil(d) - (1 << 32);
        Method::MultiplyAdd { magic: magic as u32, shift: log - 1 }
    }

    /// The divisor, known at compile time.
    pub fn get(self) -> u32 {
        self.divisor
    }

    /// ⌊x / divisor⌋, computed on the host as the kernel does.
    pub fn quotient(self, x: u32) -> u32 {
        let high = |magic: u32| ((u64::from(x) * u64::from(magic)) >> 32) as u32;
        match self.method {
            Method::Shift(shift) => x >> shift,
            Method::Multiply { magic, shift } => high(magic) >> shift,
            Method::MultiplyAdd { magic, shift } => (((x - high(magic)) >> 1) + high(magic)) >> shift,
        }
    }
}

impl Asm {
    /// ⌊x / d⌋ and x mod d for a constant d.
    ///
    /// # Panics
    /// If `divisor` is 0: a programming error of the kernel.
    pub fn divide<'a>(&'a self, x: Reg<'a, U32>, divisor: u32) -> (Reg<'a, U32>, Reg<'a, U32>) {
        let Some(Divisor { method, .. }) = Divisor::new(divisor) else {
            panic!("a kernel divides by the constant 0");
        };
        let quotient = match method {
            Method::Shift(0) => return (x, self.value::<U32>(0)),
            Method::Shift(shift) => return (x >> shift, x & (divisor - 1)),
            Method::Multiply { magic, shift: 0 } => x.mul_hi(magic),
            Method::Multiply { magic, shift } => x.mul_hi(magic) >> shift,
            Method::MultiplyAdd { magic, shift } => {
                let t = x.mul_hi(magic);
                (((x - t) >> 1) + t) >> shift
            }
        };
        (quotient, x - quotient * divisor)
    }
}

#[cfg(test)]
mod tests {
    use super::Divisor;

    #[test]
    fn quotients_are_exact() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        let large = [7 << 28, u32::MAX, u32::MAX - 1, 1 << 31, (1 << 31) + 1, 6_700_417];
        for d in (1..3000).chain(large) {
            let divisor = Divisor::new(d).unwrap();
            for _ in 0..200 {
                let near = (random() / d).wrapping_mul(d);
                for x in [random(), near, near.wrapping_sub(1), 0, u32::MAX, d - 1, d] {
                    assert_eq!(divisor.quotient(x), x / d, "{x} / {d} by {divisor:?}");
                }
            }
        }
        assert_eq!(Divisor::new(0), None);
    }
}

//! The arithmetic against independent slow models.

mod approx;
mod convert;
mod float;
mod half;
mod mma;
mod products;
mod small;
mod worst;

use super::Rounding;

/// An exact number, small enough for the tests: ±m·2^e, m below 2¹²⁰.
#[derive(Clone, Copy, Debug)]
struct Exact {
    m: i128,
    e: i32,
}

impl Exact {
    /// A finite f64, exactly.
    fn new(x: f64) -> Self {
        let bits = x.to_bits();
        let field = (bits >> 52 & 0x7ff) as i32;
        let m = (bits & ((1 << 52) - 1)) as i128 | if field == 0 { 0 } else { 1 << 52 };
        Self { m: if x.is_sign_negative() { -m } else { m }, e: field.max(1) - 1075 }
    }

    /// Compares m·2^e with a finite f64.
    fn compare(self, x: f64) -> std::cmp::Ordering {
        let other = Self::new(x);
        let sign = self.m.signum().cmp(&other.m.signum());
        if sign.is_ne() || self.m == 0 {
            return sign;
        }
        // Different lengths decide; otherwise both are shifted to one exponent, which is near.
        let length = |n: Self| 128 - n.m.unsigned_abs().leading_zeros() as i32 + n.e;
        let by_length = length(self).cmp(&length(other));
        if by_length.is_ne() {
            return if self.m > 0 { by_length } else { by_length.reverse() };
        }
        let trim = |n: Self| Self { m: n.m >> n.m.trailing_zeros(), e: n.e + n.m.trailing_zeros() as i32 };
        let (a, b) = (trim(self), trim(other));
        let e = a.e.min(b.e);
        (a.m << (a.e - e)).cmp(&(b.m << (b.e - e)))
    }
}

/// Whether `found` is `exact` rounded to f32 as asked, told by comparing `exact` with `found` and its neighbours. ∞ counts
/// as 2¹²⁸, the number that would follow the largest.
fn is_rounded(exact: Exact, found: f32, rounding: Rounding) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let wide = |x: f32| if x.is_infinite() { 2f64.powi(128).copysign(x.into()) } else { f64::from(x) };
    let side = exact.compare(wide(found));
    let outward = if found > 0.0 { Greater } else { Less };
    if side == Equal {
        return true;
    }
    if found.is_infinite() && side == outward {
        let toward = if found > 0.0 { Rounding::Up } else { Rounding::Down };
        return rounding == Rounding::Nearest || rounding == toward;
    }
    let other = if side == Greater { found.next_up() } else { found.next_down() };
    // The largest number stands for all beyond it where the rounding points inward.
    let inside = exact.compare(wide(other)) == side.reverse() || (other.is_infinite() && side == outward);
    match rounding {
        Rounding::Down => side == Greater && inside,
        Rounding::Up => side == Less && inside,
        Rounding::Zero => (side == Greater) == (exact.m > 0) && inside,
        Rounding::Nearest => {
            let middle = (wide(found) + wide(other)) / 2.0;
            let nearer = exact.compare(middle);
            nearer == side.reverse() || (nearer == Equal && found.to_bits() & 1 == 0)
        }
    }
}

//! Tests of integer instructions of every width.

use super::{Guide, IsaTest, isa_test};
use crate::{
    Target,
    ptx::{S32, S64, U16, U32, U64},
};

/// The test of integer arithmetic, comparisons and bit operations.
pub fn integers(target: Target) -> IsaTest {
    isa_test("integers", target, vec![], |t| {
        narrow(t);
        unsigned(t);
        wide(t);
        signed(t);
        signed_wide(t);
        products(t);
        bits(t);
        divisions(t);
        predicates(t);
    })
}

/// Instructions of every integer type, of host type `$host`, with values that differ from lane to lane.
macro_rules! every {
    ($function:ident, $tag:ident, $host:ty, $a:expr, $b:expr) => {
        fn $function(t: &Guide) {
            const NAME: &str = stringify!($tag);
            let (a, b): (fn(u32) -> $host, fn(u32) -> $host) = ($a, $b);
            let (x, y) = (t.give::<$tag>(a), t.give::<$tag>(b));
            let name = |what: &str| format!("{what} {NAME}");
            t.asm.step(NAME);
            t.check(&name("add"), x + y, |l| a(l).wrapping_add(b(l)));
            t.check(&name("sub"), x - y, |l| a(l).wrapping_sub(b(l)));
            t.check(&name("mul.lo"), x * y, |l| a(l).wrapping_mul(b(l)));
            t.check(&name("div"), x / y, |l| a(l) / b(l));
            t.check(&name("rem"), x % y, |l| a(l) % b(l));
            t.check(&name("mad.lo"), x.mad(y, x), |l| a(l).wrapping_mul(b(l)).wrapping_add(a(l)));
            t.check(&name("mul.hi"), x.mul_hi(y), |l| {
                (i128::from(a(l)).wrapping_mul(b(l).into()) >> <$host>::BITS) as $host
            });
            t.check(&name("min"), x.min(y), |l| a(l).min(b(l)));
            t.check(&name("max"), x.max(y), |l| a(l).max(b(l)));
            t.check(&name("and"), x & y, |l| a(l) & b(l));
            t.check(&name("or"), x | y, |l| a(l) | b(l));
            t.check(&name("xor"), x ^ y, |l| a(l) ^ b(l));
            t.check(&name("not"), !x, |l| !a(l));
            t.check(&name("shl"), x << 3, |l| a(l) << 3);
            t.check(&name("shr"), x >> t.lane, |l| (i128::from(a(l)) >> l) as $host);
            t.holds(&name("setp.eq"), x.eq(y), |l| a(l) == b(l));
            t.holds(&name("setp.ne"), x.ne(y), |l| a(l) != b(l));
            t.holds(&name("setp.lt"), x.lt(y), |l| a(l) < b(l));
            t.holds(&name("setp.le"), x.le(y), |l| a(l) <= b(l));
            t.holds(&name("setp.gt"), x.gt(y), |l| a(l) > b(l));
            t.holds(&name("setp.ge"), x.ge(y), |l| a(l) >= b(l));
            t.check(&name("selp"), t.asm.select(x.lt(y), x, y), |l| if a(l) < b(l) { a(l) } else { b(l) });
            let sum = t.asm.var(x);
            sum.add(y);
            sum.add_product(x, y);
            t.check(&name("add in place"), sum.get(), |l| {
                a(l).wrapping_add(b(l)).wrapping_add(a(l).wrapping_mul(b(l)))
            });
        }
    };
}

// Lane 7's operands are equal; quotients and products need all of their bits.
every!(narrow, U16, u16, |l| 51_493u16.wrapping_mul(l as u16 + 1), |l| if l == 7 {
    51_493u16.wrapping_mul(8)
} else {
    l as u16 * 97 + 5
});
every!(unsigned, U32, u32, |l| 2_654_435_761u32.wrapping_mul(l + 1), |l| if l == 7 {
    2_654_435_761u32.wrapping_mul(8)
} else {
    l * 7_919_317 + 3
});
every!(wide, U64, u64, |l| 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(u64::from(l) + 1), |l| if l == 7 {
    0x9E37_79B9_7F4A_7C15u64.wrapping_mul(8)
} else {
    u64::from(l) * 7_919_317_000_123 + 3
});
every!(signed, S32, i32, |l| (-1_640_531_527i32).wrapping_mul(l as i32 + 1), |l| if l == 7 {
    (-1_640_531_527i32).wrapping_mul(8)
} else {
    (l as i32 - 16) * 7_919 + 3
});
every!(signed_wide, S64, i64, |l| (-7_046_029_254_386_353_131i64).wrapping_mul(i64::from(l) + 1), |l| if l
    == 7
{
    (-7_046_029_254_386_353_131i64).wrapping_mul(8)
} else {
    (i64::from(l) - 16) * 7_919_000_317 + 3
});

/// Signs, and products of twice the width.
fn products(t: &Guide) {
    t.asm.step("signs and wide products");
    let (narrow, unsigned) = (|l: u32| 65_535 - l as u16 * 3, |l: u32| u32::MAX - l * 5);
    let signed = |l: u32| (l as i32 - 16) * 123_456_789;
    let (h, r, s) = (t.give::<U16>(narrow), t.give::<U32>(unsigned), t.give::<S32>(signed));
    let long = t.give::<S64>(|l| i64::from(signed(l)) * 65_537);
    t.check("neg.s32", -s, |l| signed(l).wrapping_neg());
    t.check("abs.s32", s.abs(), |l| signed(l).wrapping_abs());
    t.check("neg.s64", -long, |l| -(i64::from(signed(l)) * 65_537));
    t.check("abs.s64", long.abs(), |l| (i64::from(signed(l)) * 65_537).abs());
    t.check("mul.wide.u16", h.mul_wide(h), |l| u32::from(narrow(l)).pow(2));
    t.check("mul.wide.u32", r.mul_wide(r), |l| u64::from(unsigned(l)).pow(2));
    t.check("mul.wide.s32", s.mul_wide(s), |l| i64::from(signed(l)).pow(2));
    t.check("mad.wide.u16", h.mad_wide(h, r), |l| u32::from(narrow(l)).pow(2).wrapping_add(unsigned(l)));
    t.check("mad.wide.u32", r.mad_wide(r, 1u64 << 40), |l| {
        u64::from(unsigned(l)).pow(2).wrapping_add(1 << 40)
    });
    t.check("mad.wide.s32", s.mad_wide(-7, long), |l| {
        i64::from(signed(l)) * -7 + i64::from(signed(l)) * 65_537
    });
}

/// Bit counts, bit fields and bytes; the same bits under other types.
fn bits(t: &Guide) {
    t.asm.step("bits");
    let word = |l: u32| 0xF731_8ACE_u32.rotate_left(l) >> (l / 2);
    let x = t.give::<U32>(word);
    t.check("popc", x.popc(), |l| word(l).count_ones());
    t.check("clz", x.clz(), |l| word(l).leading_zeros());
    t.check("clz of 0", t.asm.value::<U32>(0).clz(), |_| 32);
    t.check("bfe", x.bit_field(5, 11), |l| word(l) >> 5 & 0x7FF);
    // Bytes 0 to 3 are the first operand's.
    t.check("prmt", x.permute_bytes(t.lane, 0x4013), |l| {
        let (x, y) = (word(l).to_le_bytes(), l.to_le_bytes());
        u32::from_le_bytes([x[3], x[1], x[0], y[0]])
    });
    t.check("mov.b32 to f32", x.bits_as::<crate::ptx::F32>().bits_as::<U32>(), word);
    let long = |l: u32| u64::from(word(l)) << 17 | 5;
    let y = t.give::<U64>(long);
    t.check("mov.b64 to f64", y.bits_as::<crate::ptx::F64>().bits_as::<U64>(), long);
    t.check("mov.b64 of words", t.asm.wide([x, t.lane]), |l| u64::from(l) << 32 | u64::from(word(l)));
    t.check("words of mov.b64", y.bits_as::<crate::ptx::F64>().words()[1], |l| (long(l) >> 32) as u32);
    t.check("not.b32", (!x.bits_as::<crate::ptx::B32>()).bits_as::<U32>(), |l| !word(l));
}

/// Division by constants, in each of its forms.
fn divisions(t: &Guide) {
    t.asm.step("division by constants");
    let value = |l: u32| 0x9E37_79B9u32.wrapping_mul(l * l + 1);
    let x = t.give::<U32>(value);
    for divisor in [1, 64, 3, 10, 7, 160] {
        let (quotient, remainder) = t.asm.divide(x, divisor);
        t.check(&format!("x / {divisor}"), quotient, |l| value(l) / divisor);
        t.check(&format!("x mod {divisor}"), remainder.mad(1, 0), |l| value(l) % divisor);
    }
}

/// Logic operations on predicates.
fn predicates(t: &Guide) {
    t.asm.step("conditions");
    let (even, low) = ((t.lane & 1).eq(0), t.lane.lt(16));
    t.holds("and.pred", even & low, |l| l % 2 == 0 && l < 16);
    t.holds("or.pred", even | low, |l| l % 2 == 0 || l < 16);
    t.holds("xor.pred", even ^ low, |l| (l % 2 == 0) != (l < 16));
    t.holds("not.pred", !even, |l| l % 2 == 1);
}

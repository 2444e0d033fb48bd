//! Tests of floating-point instructions of every width.

use super::{Guide, IsaTest, isa_test, word::half};
use crate::{
    Target,
    ptx::{F16, F16x2, F32, F64},
};

/// The test of floating-point arithmetic, comparisons and functions.
pub fn floats(target: Target) -> IsaTest {
    isa_test("floats", target, vec![], |t| {
        single(t);
        double(t);
        halves(t);
        pairs(t);
        functions(t);
        approximations(t);
    })
}

/// Instructions of f32 and f64. Lane 5's second operand is NaN, lane 7's are equal.
macro_rules! every {
    ($function:ident, $tag:ident, $host:ty) => {
        fn $function(t: &Guide) {
            const NAME: &str = stringify!($tag);
            let a = |l: u32| (l as $host - 11.0) * 1.37 + 0.1;
            let b = |l: u32| match l {
                5 => <$host>::NAN,
                7 => a(7),
                _ => (l as $host * 0.61 - 9.3) / 3.0,
            };
            let (x, y) = (t.give::<$tag>(a), t.give::<$tag>(b));
            let name = |what: &str| format!("{what} {NAME}");
            t.asm.step(NAME);
            t.check(&name("add.rn"), x + y, |l| a(l) + b(l));
            t.check(&name("sub.rn"), x - y, |l| a(l) - b(l));
            t.check(&name("mul.rn"), x * y, |l| a(l) * b(l));
            t.check(&name("div.rn"), x / y, |l| a(l) / b(l));
            t.check(&name("fma.rn"), x.mad(y, x), |l| a(l).mul_add(b(l), a(l)));
            t.check(&name("neg"), -x, |l| -a(l));
            t.check(&name("abs"), x.abs(), |l| a(l).abs());
            t.check(&name("min"), x.min(y), |l| a(l).min(b(l)));
            t.check(&name("max"), x.max(y), |l| a(l).max(b(l)));
            t.check(&name("sqrt.rn"), x.abs().sqrt(), |l| a(l).abs().sqrt());
            t.check(&name("rcp.rn"), x.reciprocal(), |l| 1.0 / a(l));
            t.holds(&name("setp.eq"), x.eq(y), |l| a(l) == b(l));
            t.holds(&name("setp.neu"), x.ne(y), |l| a(l) != b(l));
            t.holds(&name("setp.lt"), x.lt(y), |l| a(l) < b(l));
            t.holds(&name("setp.le"), x.le(y), |l| a(l) <= b(l));
            t.holds(&name("setp.gt"), x.gt(y), |l| a(l) > b(l));
            t.holds(&name("setp.ge"), x.ge(y), |l| a(l) >= b(l));
            t.check(&name("selp"), t.asm.select(y.ne(y), x, y), |l| if l == 5 { a(l) } else { b(l) });
            let sum = t.asm.var(x);
            sum.add(y);
            sum.add_product(x, y);
            t.check(&name("add in place"), sum.get(), |l| a(l).mul_add(b(l), a(l) + b(l)));
            t.check(&name("immediate"), x * (0.1 as $host), |l| a(l) * 0.1);
        }
    };
}

every!(single, F32, f32);
every!(double, F64, f64);

/// Instructions of binary16, on numbers whose results it represents exactly.
fn halves(t: &Guide) {
    t.asm.step("F16");
    let (a, b) = (|l: u32| l as f32 * 0.5 - 8.0, |l: u32| if l == 9 { -3.5 } else { 24.0 - l as f32 });
    let (x, y) = (t.give::<F16>(|l| half(a(l))), t.give::<F16>(|l| half(b(l))));
    t.check("add.rn.f16", x + y, |l| half(a(l) + b(l)));
    t.check("sub.rn.f16", x - y, |l| half(a(l) - b(l)));
    t.check("mul.rn.f16", x * y, |l| half(a(l) * b(l)));
    t.check("fma.rn.f16", x.mad(y, y), |l| half(a(l) * b(l) + b(l)));
    t.check("neg.f16", -y, |l| half(b(l)) ^ 0x8000);
    t.check("abs.f16", y.abs(), |l| half(b(l).abs()));
    t.check("min.f16", x.min(y), |l| half(a(l).min(b(l))));
    t.check("max.f16", x.max(y), |l| half(a(l).max(b(l))));
    let nan = t.asm.f16_bits(0x7E00);
    t.check("max.f16 of NaN", x.max(nan), |l| half(a(l)));
    t.check("max.NaN.f16", x.max_nan(nan), |_| 0x7FFF);
    t.holds("setp.lt.f16", x.lt(y), |l| a(l) < b(l));
    t.holds("setp.eq.f16", x.eq(y), |l| a(l) == b(l));
    t.holds("setp.neu.f16", x.ne(nan), |_| true);
    t.check("selp.b16", t.asm.select(x.lt(y), x, y), |l| half(a(l).min(b(l))));
}

/// Instructions on two binary16 at once.
fn pairs(t: &Guide) {
    t.asm.step("F16x2");
    let (a, b) = (|l: u32| [l as f32 - 4.5, 3.0], |l: u32| [0.25, l as f32 * 0.5 + 1.0]);
    let bits = |v: [f32; 2]| v.map(half);
    let both = |l: u32, f: fn(f32, f32) -> f32| bits([f(a(l)[0], b(l)[0]), f(a(l)[1], b(l)[1])]);
    let (x, y) = (t.give::<F16x2>(|l| bits(a(l))), t.give::<F16x2>(|l| bits(b(l))));
    t.check("add.rn.f16x2", x + y, |l| both(l, |a, b| a + b));
    t.check("sub.rn.f16x2", x - y, |l| both(l, |a, b| a - b));
    t.check("mul.rn.f16x2", x * y, |l| both(l, |a, b| a * b));
    t.check("fma.rn.f16x2", x.mad(y, x), |l| both(l, |a, b| a * b + a));
    t.check("neg.f16x2", -x, |l| both(l, |a, _| -a));
    t.check("abs.f16x2", x.abs(), |l| both(l, |a, _| a.abs()));
    t.check("min.f16x2", x.min(y), |l| both(l, f32::min));
    t.check("max.f16x2", x.max(y), |l| both(l, f32::max));
    t.check("max.NaN.f16x2", x.max_nan(y), |l| both(l, f32::max));
    t.check("f16x2 of bits", x + t.asm.f16x2_bits([0x3C00, 0x4000]), |l| {
        bits([a(l)[0] + 1.0, a(l)[1] + 2.0])
    });
    let [low, high] = x.halves();
    t.check("mov.b32 in halves", high, |l| half(a(l)[1]));
    t.check("mov.b32 of halves", t.asm.pair([high, low]), |l| bits([a(l)[1], a(l)[0]]));
    let powers = y.exp2_approx().to_f32();
    t.near("ex2.approx.f16x2", powers[0], 2e-3, |l| b(l)[0].exp2());
    let tanh = y.tanh_approx().to_f32();
    t.near("tanh.approx.f16x2", tanh[1], 2e-3, |l| b(l)[1].tanh());
}

/// Exact functions: rounding, sign copies, maxima.
fn functions(t: &Guide) {
    t.asm.step("exact functions");
    let a = |l: u32| (l as f32 - 15.0) * 0.5;
    let x = t.give::<F32>(a);
    t.check("cvt.rni.f32.f32", x.round(), |l| a(l).round_ties_even());
    t.check("copysign", t.asm.copy_sign(t.asm.value::<F32>(2.5), x), |l| 2.5f32.copysign(a(l)));
    t.check("max.NaN.f32", x.max_nan(f32::NAN), |_| f32::NAN);
    let most = t.asm.var(x);
    most.max_nan(1.0);
    t.check("max.NaN.f32 in place", most.get(), |l| a(l).max(1.0));
}

/// The hardware's approximations, within PTX's stated error.
fn approximations(t: &Guide) {
    t.asm.step("approximations");
    let a = |l: u32| l as f32 * 0.043 + 0.07;
    let x = t.give::<F32>(a);
    let f = |l: u32, f: fn(f64) -> f64| f(a(l).into()) as f32;
    t.near("ex2.approx", x.exp2_approx(), 3e-7, |l| f(l, f64::exp2));
    t.near("ex2.approx.ftz", x.exp2_flushed(), 3e-7, |l| f(l, f64::exp2));
    t.check("ex2.approx.ftz of a subnormal result", t.asm.value::<F32>(-127.0).exp2_flushed(), |_| 0.0);
    t.near("lg2.approx", (x + 2.0).log2_approx(), 3e-7, |l| f64::from(a(l) + 2.0).log2() as f32);
    t.near("rcp.approx", x.reciprocal_approx(), 2e-7, |l| f(l, f64::recip));
    t.near("rsqrt.approx", x.rsqrt_approx(), 3e-7, |l| f(l, |x| x.sqrt().recip()));
    t.near("sqrt.approx", x.sqrt_approx(), 3e-7, |l| f(l, f64::sqrt));
    // Their absolute error is 2⁻²¹; the results are above 0.06.
    t.near("sin.approx", x.sin_approx(), 1e-5, |l| f(l, f64::sin));
    t.near("cos.approx", x.cos_approx(), 1e-5, |l| f(l, f64::cos));
    t.near("tanh.approx", x.tanh_approx(), 5e-4, |l| f(l, f64::tanh));
    t.near("div.approx", x.div_approx(3.0), 3e-7, |l| f(l, |x| x / 3.0));
}

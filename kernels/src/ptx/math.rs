//! Functions of f32. `exp2_flushed` and names ending in `approx` are the hardware's approximations; [`Asm::exp`] and the
//! functions built on it keep the error near a unit in the last place by argument reduction.

use super::{Asm, F16x2, F32, F64, Operand, Reg, S32};

macro_rules! unary {
    ($($(#[$doc:meta])* $tag:ident $name:ident $mnemonic:literal;)*) => {$(
        impl<'a> Reg<'a, $tag> {
            $(#[$doc])*
            pub fn $name(self) -> Self {
                self.asm.make($mnemonic, &[self.name()])
            }
        }
    )*};
}

unary! {
    /// √x, correctly rounded.
    F32 sqrt "sqrt.rn.f32";
    /// 1/x, correctly rounded.
    F32 reciprocal "rcp.rn.f32";
    /// 2ˣ within 2 ulp (`ex2.approx`).
    F32 exp2_approx "ex2.approx.f32";
    /// 2ˣ within 2 ulp, 0 below 2⁻¹²⁶ (`ex2.approx.ftz`): one instruction, where the one that keeps subnormals is four.
    F32 exp2_flushed "ex2.approx.ftz.f32";
    /// log₂ x within 2⁻²² (`lg2.approx`): an absolute bound in (½, 2), where the result can be below it; relative
    /// outside.
    F32 log2_approx "lg2.approx.f32";
    /// 1/x within 1 ulp (`rcp.approx`).
    F32 reciprocal_approx "rcp.approx.f32";
    /// 1/√x within 2⁻²²·⁹ relative (`rsqrt.approx`).
    F32 rsqrt_approx "rsqrt.approx.f32";
    /// √x within 2⁻²³ relative (`sqrt.approx`).
    F32 sqrt_approx "sqrt.approx.f32";
    /// sin x within 2⁻²⁰·⁵ for |x| ≤ 2π (`sin.approx`).
    F32 sin_approx "sin.approx.f32";
    /// cos x within 2⁻²⁰·⁵ for |x| ≤ 2π (`cos.approx`).
    F32 cos_approx "cos.approx.f32";
    /// tanh x within 2⁻¹¹ relative (`tanh.approx`).
    F32 tanh_approx "tanh.approx.f32";
    /// √x, correctly rounded.
    F64 sqrt "sqrt.rn.f64";
    /// 1/x, correctly rounded.
    F64 reciprocal "rcp.rn.f64";
    /// 2ˣ of each half (`ex2.approx`).
    F16x2 exp2_approx "ex2.approx.f16x2";
    /// tanh of each half (`tanh.approx`).
    F16x2 tanh_approx "tanh.approx.f16x2";
}

impl<'a> Reg<'a, F32> {
    /// self / y within 2 ulp for |y| in 2⁻¹²⁶ … 2¹²⁶ (`div.approx`).
    pub fn div_approx(self, y: impl Operand<'a, F32>) -> Self {
        self.asm.make("div.approx.f32", &[self.name(), y.text()])
    }
}

impl Asm {
    /// eˣ: n = round(x·log₂e), r = x − n·ln 2 in two parts (Cody & Waite 1980), 2ⁿ·2^(r·log₂e). Within 4 ulp while the
    /// result is a normal number; +∞ and 0 beyond, NaN stays.
    pub fn exp<'a>(&'a self, x: Reg<'a, F32>) -> Reg<'a, F32> {
        const LN_2_HIGH: f32 = 355.0 / 512.0;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        // Outside ±126, n would not fit an exponent; ex2 of the remainder saturates by itself.
        let n = (x * std::f32::consts::LOG2_E).max(-126.0).min(126.0).round();
        let r = (-n).mad(LN_2_LOW, (-n).mad(LN_2_HIGH, x));
        let fraction = (r * std::f32::consts::LOG2_E).exp2_approx();
        // Compute 2ⁿ by its exponent bits: ex2 may miss even a power of two by 2 ulp.
        let power = ((n.to::<S32>() << 23) + 0x3f80_0000).bits_as::<F32>();
        fraction * power
    }

    /// σ(x) = 1/(1 + e⁻ˣ).
    pub fn sigmoid<'a>(&'a self, x: Reg<'a, F32>) -> Reg<'a, F32> {
        (self.exp(-x) + 1.0).reciprocal_approx()
    }

    /// σ(−|x|) and σ(|x|), one of which is σ(x) and the other 1 − σ(x), each within 8 ulp: with e = e^−|x|, e/(1 + e) and
    /// 1/(1 + e).
    pub fn sigmoids<'a>(&'a self, x: Reg<'a, F32>) -> [Reg<'a, F32>; 2] {
        let e = self.exp(-x.abs());
        let larger = (e + 1.0).reciprocal_approx();
        [e * larger, larger]
    }

    /// ln(1 + y) for y in [0, 1], within 5 ulp: 2·artanh(t/2) = t·(1 + t²/12 + t⁴/80 + …) with t = y/(1 + y/2) ≤ ⅔. The
    /// first omitted term is (t/2)¹⁴/15 < 2⁻²⁶. `lg2.approx` cannot be used: its error is bounded absolutely near 1,
    /// and may exceed ln(1 + y) for small y.
    pub fn ln_1p<'a>(&'a self, y: Reg<'a, F32>) -> Reg<'a, F32> {
        let t = y * y.mad(0.5, 1.0).reciprocal_approx();
        let square = t * t;
        // The power of 4 of (t/2)^(2k) is in the coefficient, 1/(4^k·(2k + 1)); k = 0 is added last, with one rounding.
        let coefficient = |k: i32| 1.0 / (4f32.powi(k) * (2 * k + 1) as f32);
        let sum = (1..6).rev().fold(self.value(coefficient(6)), |sum, k| sum.mad(square, coefficient(k)));
        (t * square).mad(sum, t)
    }

    /// ln x: x = 2ⁿ·(1 + f) with 1 + f in [√½, √2), s = f/(2 + f), ln x = n·ln 2 + 2·artanh s. With R = s²·(⅔ + ⅖·s² +
    /// …), 2·artanh s = f − (f²/2 − s·(f²/2 + R)), in which f is exact and the rest is small (as in FreeBSD's `logf`).
    /// The first omitted term of R is 2/11·s¹⁰ < 2⁻²⁷. Within 2 ulp; −∞ of 0, NaN below 0. `lg2.approx` cannot be used:
    /// its error is bounded absolutely near 1, where the logarithm is near 0.
    pub fn log<'k>(&'k self, x: Reg<'k, F32>) -> Reg<'k, F32> {
        // Has so few bits that n·LN_2_HIGH is exact.
        const LN_2_HIGH: f32 = 355.0 / 512.0;
        const LN_2_LOW: f32 = -2.121_944_4e-4;
        const ROOT_HALF: i32 = 0x3f35_04f3;
        let subnormal = x.lt(f32::MIN_POSITIVE);
        let bits = self.select(subnormal, x * 8_388_608.0, x).bits_as::<S32>();
        let doublings = (bits - ROOT_HALF) >> 23;
        let f = (bits - (doublings << 23)).bits_as::<F32>() - 1.0;
        let n = doublings.to::<F32>() + self.select::<F32>(subnormal, -23.0, 0.0);
        let s = f * (f + 2.0).reciprocal_approx();
        let (square, half) = (s * s, f * f * 0.5);
        let terms = [2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0];
        let r = terms.into_iter().fold(self.value(2.0 / 9.0), |sum, term| sum.mad(square, term)) * square;
        let small = half - s.mad(half + r, n * LN_2_LOW);
        let regular = n.mad(LN_2_HIGH, f - small);
        // +∞ and NaN stay.
        let positive = self.select(x.lt(f32::INFINITY), regular, x);
        self.select(x.le(0.0), self.select::<F32>(x.eq(0.0), f32::NEG_INFINITY, f32::NAN), positive)
    }

    /// tanh x = sign(x)·(1 − e^(−2|x|))/(1 + e^(−2|x|)); below ¼, where that formula cancels,
    /// x − x³/3 + 2x⁵/15 − 17x⁷/315 + 62x⁹/2835. Within 12 ulp.
    pub fn tanh<'a>(&'a self, x: Reg<'a, F32>) -> Reg<'a, F32> {
        let e = self.exp(x.abs() * -2.0);
        let big = (-e + 1.0).div_approx(e + 1.0);
        let big = self.copy_sign(big, x);
        let s = x * x;
        let p = s.mad(s.mad(s.mad(s.mad(62.0 / 2835.0, -17.0 / 315.0), 2.0 / 15.0), -1.0 / 3.0), 1.0);
        self.select(x.abs().lt(0.25), x * p, big)
    }

    /// softplus(x) = max(x, 0) + ln(1 + e^−|x|); x itself past 20, as in PyTorch. Within 12 ulp, 2⁻²⁰ relative, down to
    /// x = −87, where e^x leaves the normal numbers.
    pub fn softplus<'a>(&'a self, x: Reg<'a, F32>) -> Reg<'a, F32> {
        let positive = x.max_nan(0.0);
        let curved = positive + self.ln_1p(self.exp(-x.abs()));
        self.select(x.gt(20.0), x, curved)
    }

    /// |x| with the sign of y.
    pub fn copy_sign<'a>(&'a self, x: Reg<'a, F32>, y: Reg<'a, F32>) -> Reg<'a, F32> {
        self.make("copysign.f32", &[y.name(), x.name()])
    }
}

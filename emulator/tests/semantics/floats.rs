use super::{Case, check, d, f};

const NAN: u64 = 0x7fff_ffff;
/// The smallest subnormal f32.
const TINY: u64 = 1;

#[test]
fn singles() {
    let third = 1.0f32 / 3.0;
    check(&[
        Case("add.f32 %r, %a, %b;", [f(1.5), f(-0.25), 0], f(1.25)),
        Case("add.rz.f32 %r, %a, %b;", [f(1.0), f(1e-10), 0], f(1.0)),
        Case("add.rp.f32 %r, %a, %b;", [f(1.0), f(1e-10), 0], f(1.0f32.next_up())),
        Case("add.rm.f32 %r, %a, %b;", [f(1.0), f(-1e-10), 0], f(1.0f32.next_down())),
        Case("add.f32 %r, %a, %b;", [f(f32::INFINITY), f(f32::NEG_INFINITY), 0], NAN),
        Case("add.f32 %r, %a, %b;", [0x7fc0_1234, f(1.0), 0], NAN),
        Case("add.ftz.f32 %r, %a, %b;", [TINY, TINY, 0], 0),
        Case("add.f32 %r, %a, %b;", [TINY, TINY, 0], 2),
        Case("add.sat.f32 %r, %a, %b;", [f(1.0), f(1.0), 0], f(1.0)),
        Case("sub.f32 %r, %a, %b;", [f(1.5), f(0.25), 0], f(1.25)),
        Case("mul.f32 %r, %a, %b;", [f(1.5), f(-2.0), 0], f(-3.0)),
        Case("mul.sat.f32 %r, %a, %b;", [f(1.5), f(-2.0), 0], f(0.0)),
        Case("fma.rn.f32 %r, %a, %b, %c;", [f(third), f(3.0), f(-1.0)], f(third.mul_add(3.0, -1.0))),
        Case("fma.rz.f32 %r, %a, %b, %c;", [f(1.0), f(1.0), f(-1e-10)], f(1.0f32.next_down())),
        Case("mad.rn.f32 %r, %a, %b, %c;", [f(2.0), f(3.0), f(1.0)], f(7.0)),
        Case("div.rn.f32 %r, %a, %b;", [f(1.0), f(3.0), 0], f(third)),
        Case("div.rn.f32 %r, %a, %b;", [f(1.0), f(0.0), 0], f(f32::INFINITY)),
        Case("div.approx.f32 %r, %a, %b;", [f(8.0), f(2.0), 0], f(4.0)),
        Case("div.full.f32 %r, %a, %b;", [f(9.0), f(3.0), 0], f(3.0)),
        Case("rcp.rn.f32 %r, %a;", [f(3.0), 0, 0], f(third)),
        Case("rcp.approx.ftz.f32 %r, %a;", [f(4.0), 0, 0], f(0.25)),
        Case("sqrt.rn.f32 %r, %a;", [f(2.0), 0, 0], f(2.0f32.sqrt())),
        Case("sqrt.rn.f32 %r, %a;", [f(-1.0), 0, 0], NAN),
        Case("sqrt.approx.f32 %r, %a;", [f(16.0), 0, 0], f(4.0)),
        Case("rsqrt.approx.f32 %r, %a;", [f(4.0), 0, 0], f(0.5)),
        Case("ex2.approx.f32 %r, %a;", [f(3.0), 0, 0], f(8.0)),
        Case("lg2.approx.f32 %r, %a;", [f(8.0), 0, 0], f(3.0)),
        Case("sin.approx.f32 %r, %a;", [f(0.0), 0, 0], f(0.0)),
        Case("cos.approx.f32 %r, %a;", [f(0.0), 0, 0], f(1.0)),
        Case("tanh.approx.f32 %r, %a;", [f(0.0), 0, 0], f(0.0)),
        Case("min.f32 %r, %a, %b;", [f(f32::NAN), f(2.0), 0], f(2.0)),
        Case("min.f32 %r, %a, %b;", [f(0.0), f(-0.0), 0], f(-0.0)),
        Case("max.f32 %r, %a, %b;", [f(0.0), f(-0.0), 0], f(0.0)),
        Case("max.NaN.f32 %r, %a, %b;", [f(f32::NAN), f(2.0), 0], NAN),
        Case("max.f32 %r, %a, %b;", [f(f32::NAN), f(f32::NAN), 0], NAN),
        Case("max.xorsign.abs.f32 %r, %a, %b;", [f(-3.0), f(2.0), 0], f(-3.0)),
        Case("abs.f32 %r, %a;", [f(-2.0), 0, 0], f(2.0)),
        Case("neg.f32 %r, %a;", [f(2.0), 0, 0], f(-2.0)),
        Case("neg.ftz.f32 %r, %a;", [TINY, 0, 0], 0x8000_0000),
        Case("copysign.f32 %r, %a, %b;", [f(-0.0), f(2.0), 0], f(-2.0)),
        Case("testp.infinite.f32 %p, %a;", [f(f32::INFINITY), 0, 0], 1),
        Case("testp.subnormal.f32 %p, %a;", [TINY, 0, 0], 1),
        Case("add.f32 %r, %a, 0f3F800000;", [f(2.0), 0, 0], f(3.0)),
        Case("add.f32 %r, %a, 1.5;", [f(2.0), 0, 0], f(3.5)),
    ]);
}

#[test]
fn doubles() {
    check(&[
        Case("add.f64 %l, %la, %lb;", [d(1.5), d(0.25), 0], d(1.75)),
        Case("add.rp.f64 %l, %la, %lb;", [d(1.0), d(1e-30), 0], d(1.0f64.next_up())),
        Case("mul.rn.f64 %l, %la, %lb;", [d(1.5), d(3.0), 0], d(4.5)),
        Case("fma.rn.f64 %l, %la, %lb, %lc;", [d(0.1), d(10.0), d(-1.0)], d(0.1f64.mul_add(10.0, -1.0))),
        Case("div.rn.f64 %l, %la, %lb;", [d(1.0), d(3.0), 0], d(1.0 / 3.0)),
        Case("sqrt.rn.f64 %l, %la;", [d(2.0), 0, 0], d(2.0f64.sqrt())),
        Case("rcp.rn.f64 %l, %la;", [d(3.0), 0, 0], d(1.0 / 3.0)),
        Case("min.f64 %l, %la, %lb;", [d(f64::NAN), d(1.0), 0], d(1.0)),
        Case("neg.f64 %l, %la;", [d(1.0), 0, 0], d(-1.0)),
        Case("abs.f64 %l, %la;", [d(-1.0), 0, 0], d(1.0)),
        Case("add.f64 %l, %la, 0d3FF0000000000000;", [d(2.0), 0, 0], d(3.0)),
    ]);
}

#[test]
fn halves() {
    check(&[
        // 1.5 = 0x3e00, 0.25 = 0x3400, 1.75 = 0x3f00, 2 = 0x4000, 3 = 0x4200
        Case("add.f16 %h, %ha, %hb;", [0x3e00, 0x3400, 0], 0x3f00),
        Case("mul.f16 %h, %ha, %hb;", [0x3e00, 0x4000, 0], 0x4200),
        Case("fma.rn.f16 %h, %ha, %hb, %hc;", [0x3e00, 0x4000, 0x3c00], 0x4400),
        Case("sub.f16x2 %r, %a, %b;", [0x4000_3e00, 0x3c00_3400, 0], 0x3c00_3d00),
        Case("fma.rn.relu.f16x2 %r, %a, %b, %c;", [0x3c00_3c00, 0xbc00_3c00, 0], 0x0000_3c00),
        Case("fma.rn.bf16x2 %r, %a, %b, %c;", [0x3f80_4000, 0x4000_4000, 0x3f80_3f80], 0x4040_40a0),
        Case("max.f16x2 %r, %a, %b;", [0x7e00_0001, 0x3c00_0000, 0], 0x3c00_0001),
        Case("min.bf16 %h, %ha, %hb;", [0x3f80, 0xbf80, 0], 0xbf80),
        Case("neg.f16 %h, %ha;", [0x3c00, 0, 0], 0xbc00),
        Case("abs.bf16x2 %r, %a;", [0xbf80_bf80, 0, 0], 0x3f80_3f80),
        Case("ex2.approx.f16 %h, %ha;", [0x4000, 0, 0], 0x4400),
        Case("tanh.approx.bf16 %h, %ha;", [0, 0, 0], 0),
    ]);
}

use super::{Case, check};

const NEG: fn(i64) -> u64 = |x| x as u64;

fn n32(x: i32) -> u64 {
    (x as u32).into()
}

fn n16(x: i16) -> u64 {
    (x as u16).into()
}

#[test]
fn integers() {
    check(&[
        Case("add.s32 %r, %a, %b;", [5, n32(-7), 0], n32(-2)),
        Case("add.u32 %r, %a, 1;", [0xffff_ffff, 0, 0], 0),
        Case("add.s32 %r, %a, -3;", [1, 0, 0], n32(-2)),
        Case("add.sat.s32 %r, %a, %b;", [0x7fff_ffff, 5, 0], 0x7fff_ffff),
        Case("sub.sat.s32 %r, %a, %b;", [0x8000_0000, 5, 0], 0x8000_0000),
        Case("add.u16 %h, %ha, %hb;", [0xffff, 2, 0], 1),
        Case("add.s64 %l, %la, %lb;", [NEG(-1), 3, 0], 2),
        Case("sub.u32 %r, %a, %b;", [3, 5, 0], n32(-2)),
        Case("sub.s64 %l, %la, %lb;", [3, 5, 0], NEG(-2)),
        Case("mul.lo.s32 %r, %a, %b;", [n32(-3), 7, 0], n32(-21)),
        Case("mul.hi.s32 %r, %a, %b;", [n32(-1), 2, 0], n32(-1)),
        Case("mul.hi.u32 %r, %a, %b;", [0xffff_ffff, 2, 0], 1),
        Case("mul.hi.u64 %l, %la, %lb;", [u64::MAX, 3, 0], 2),
        Case("mul.hi.s64 %l, %la, %lb;", [NEG(-1), 3, 0], NEG(-1)),
        Case("mul.hi.s16 %h, %ha, %hb;", [n16(-300), 300, 0], n16(-2)),
        Case("mul.wide.s32 %l, %a, %b;", [n32(-3), 7, 0], NEG(-21)),
        Case("mul.wide.u32 %l, %a, %b;", [0xffff_ffff, 2, 0], 0x1_ffff_fffe),
        Case("mul.wide.s16 %r, %ha, %hb;", [n16(-3), 7, 0], n32(-21)),
        Case("mul.wide.u16 %r, %ha, %hb;", [0xffff, 0xffff, 0], 0xfffe_0001),
        Case("mad.lo.s32 %r, %a, %b, %c;", [3, 4, 5], 17),
        Case("mad.lo.u64 %l, %la, %lb, %lc;", [3, 4, 5], 17),
        Case("mad.hi.u32 %r, %a, %b, %c;", [0x8000_0000, 4, 5], 7),
        Case("mad.wide.s32 %l, %a, %b, %lc;", [n32(-3), 4, 5], NEG(-7)),
        Case("mad.hi.sat.s32 %r, %a, %b, %c;", [0x7fff_ffff, 0x7fff_ffff, 0x7fff_ffff], 0x7fff_ffff),
        Case("mul24.lo.u32 %r, %a, %b;", [0xff00_0003, 5, 0], 15),
        Case("mul24.lo.s32 %r, %a, %b;", [0x00ff_ffff, 5, 0], n32(-5)),
        Case("mul24.hi.u32 %r, %a, %b;", [0x00ff_ffff, 0x00ff_ffff, 0], 0xffff_fe00),
        Case("mad24.lo.u32 %r, %a, %b, %c;", [3, 5, 1], 16),
        Case("div.s32 %r, %a, %b;", [n32(-7), 2, 0], n32(-3)),
        Case("div.u32 %r, %a, %b;", [7, 0, 0], 0xffff_ffff),
        Case("div.s32 %r, %a, %b;", [0x8000_0000, n32(-1), 0], 0x8000_0000),
        Case("div.s64 %l, %la, %lb;", [NEG(-7), 2, 0], NEG(-3)),
        Case("div.u16 %h, %ha, %hb;", [100, 7, 0], 14),
        Case("rem.s32 %r, %a, %b;", [n32(-7), 2, 0], n32(-1)),
        Case("rem.u32 %r, %a, %b;", [7, 0, 0], 7),
        Case("rem.u64 %l, %la, %lb;", [100, 7, 0], 2),
        Case("abs.s32 %r, %a;", [n32(-7), 0, 0], 7),
        Case("abs.s64 %l, %la;", [NEG(-7), 0, 0], 7),
        Case("abs.s16 %h, %ha;", [n16(-7), 0, 0], 7),
        Case("neg.s32 %r, %a;", [7, 0, 0], n32(-7)),
        Case("min.s32 %r, %a, %b;", [n32(-7), 2, 0], n32(-7)),
        Case("min.u32 %r, %a, %b;", [n32(-7), 2, 0], 2),
        Case("max.s16 %h, %ha, %hb;", [n16(-7), 2, 0], 2),
        Case("max.u64 %l, %la, %lb;", [NEG(-7), 2, 0], NEG(-7)),
        Case("sad.s32 %r, %a, %b, %c;", [n32(-7), 2, 10], 19),
        Case("sad.u32 %r, %a, %b, %c;", [2, 7, 10], 15),
        Case("dp4a.s32.s32 %r, %a, %b, %c;", [0x01ff_0203, 0x0102_0304, 5], 22),
        Case("dp4a.u32.u32 %r, %a, %b, %c;", [0x01ff_0203, 0x0102_0304, 5], 1 + 510 + 6 + 12 + 5),
        Case("dp2a.lo.s32.u32 %r, %a, %b, %c;", [0xffff_0002, 0x0000_0304, 5], 8 - 3 + 5),
        Case("dp2a.hi.u32.u32 %r, %a, %b, %c;", [0x0001_0002, 0x0304_0000, 5], 8 + 3 + 5),
        Case("add.u16x2 %r, %a, %b;", [0xffff_0001, 0x0001_0002, 0], 3),
        Case("max.s16x2 %r, %a, %b;", [0xffff_0001, 0x0001_0002, 0], 0x0001_0002),
    ]);
}

#[test]
fn carries() {
    check(&[
        Case("add.cc.u32 %r0, %a, %b; addc.u32 %r, %c, 0;", [0xffff_ffff, 1, 7], 8),
        Case(
            "add.cc.u32 %r0, %a, %b; addc.cc.u32 %r1, %c, 0; addc.u32 %r, 0, 0;",
            [0xffff_ffff, 1, 0xffff_ffff],
            1,
        ),
        Case("sub.cc.u32 %r0, %a, %b; subc.u32 %r, %c, 0;", [0, 1, 7], 6),
        Case("sub.cc.u64 %l0, %la, %lb; subc.u64 %l, %lc, 0;", [0, 1, 7], 6),
        Case("mad.lo.cc.u32 %r0, %a, %b, %c; madc.hi.u32 %r, %a, %b, 0;", [0xffff_ffff, 2, 2], 2),
        Case("mad.lo.cc.u64 %l0, %la, %lb, %lc; madc.hi.u64 %l, %la, %lb, 0;", [u64::MAX, 2, 2], 2),
        Case("mad.hi.cc.s32 %r0, %a, %b, %c; addc.u32 %r, 0, 0;", [n32(-1), 1, 1], 1),
        // 128 bits, three words wide, as compilers write it.
        Case("sub.cc.u32 %r0, %a, 1; subc.cc.u32 %r1, %b, 0; subc.u32 %r, %c, 0;", [0, 0, 9], 8),
    ]);
}

/// The flag after a subtraction is the adder's carry: 1 where no borrow is. These are the constants that ptxas 13.5 puts for
/// the same instructions.
#[test]
fn a_subtraction_leaves_the_carry_that_an_addition_takes() {
    check(&[
        Case("sub.cc.u32 %r0, %a, %b; addc.u32 %r, %c, 0;", [0, 1, 7], 7),
        Case("sub.cc.u32 %r0, %a, %b; addc.u32 %r, %c, 0;", [1, 0, 7], 8),
        Case("add.cc.u32 %r0, %a, %b; subc.u32 %r, %c, 0;", [1, 0xffff_ffff, 7], 7),
        Case("add.cc.u32 %r0, %a, %b; subc.u32 %r, %c, 0;", [1, 1, 7], 6),
        Case("sub.cc.u32 %r0, %a, %b; madc.lo.u32 %r, %c, 3, 1;", [5, 5, 7], 23),
        Case("sub.cc.u64 %l0, %la, %lb; addc.u64 %l, %lc, 0;", [0, 1, 7], 7),
        Case("sub.cc.u64 %l0, %la, %lb; subc.cc.u64 %l1, %lb, %la; addc.u64 %l, %lc, 0;", [1, 0, 7], 7),
    ]);
}

#[test]
fn clamped_integers() {
    check(&[
        Case("min.relu.s32 %r, %a, %b;", [n32(-7), 2, 0], 0),
        Case("min.relu.s32 %r, %a, %b;", [7, 2, 0], 2),
        Case("max.relu.s32 %r, %a, %b;", [n32(-7), n32(-2), 0], 0),
        Case("max.relu.s16x2 %r, %a, %b;", [0xffff_0001, 0xfffe_0002, 0], 2),
        Case("min.relu.s16x2 %r, %a, %b;", [0x0005_ffff, 0x0007_0002, 0], 0x0005_0000),
        Case("mad24.hi.sat.s32 %r, %a, %b, %c;", [0x7f_ffff, 0x7f_ffff, 0x7fff_ffff], 0x7fff_ffff),
        Case("mad24.hi.sat.s32 %r, %a, %b, %c;", [0x80_0000, 0x7f_ffff, 0x8000_0000], 0x8000_0000),
        Case("mad24.hi.s32 %r, %a, %b, %c;", [0x7f_ffff, 4, 1], 0x200),
    ]);
}

#[test]
fn comparisons() {
    let one = 1f32.to_bits().into();
    let nan = f32::NAN.to_bits().into();
    check(&[
        Case("setp.lt.s32 %p, %a, %b;", [n32(-1), 0, 0], 1),
        Case("setp.lt.u32 %p, %a, %b;", [n32(-1), 0, 0], 0),
        Case("setp.lo.u32 %p, %a, %b;", [1, 2, 0], 1),
        Case("setp.hs.u32 %p, %a, %b;", [2, 2, 0], 1),
        Case("setp.ge.s64 %p, %la, %lb;", [NEG(-1), 0, 0], 0),
        Case("setp.ne.b16 %p, %ha, %hb;", [1, 1, 0], 0),
        Case("setp.gt.s16 %p, %ha, %hb;", [1, 0xffff, 0], 1),
        Case("setp.eq.f32 %p, %a, %b;", [nan, nan, 0], 0),
        Case("setp.ne.f32 %p, %a, %b;", [nan, one, 0], 0),
        Case("setp.neu.f32 %p, %a, %b;", [nan, one, 0], 1),
        Case("setp.equ.f32 %p, %a, %b;", [nan, one, 0], 1),
        Case("setp.ltu.f32 %p, %a, %b;", [one, one, 0], 0),
        Case("setp.leu.f32 %p, %a, %b;", [one, one, 0], 1),
        Case("setp.gtu.f32 %p, %a, %b;", [one, nan, 0], 1),
        Case("setp.geu.f32 %p, %a, %b;", [0, one, 0], 0),
        Case("setp.num.f32 %p, %a, %b;", [one, nan, 0], 0),
        Case("setp.nan.f32 %p, %a, %b;", [one, nan, 0], 1),
        Case("setp.eq.ftz.f32 %p, %a, %b;", [1, 0x8000_0000, 0], 1),
        Case("setp.eq.f32 %p, %a, %b;", [0, 0x8000_0000, 0], 1),
        Case("setp.lt.f64 %p, %la, %lb;", [super::d(-1.0), super::d(1.0), 0], 1),
        Case("setp.lt.f16 %p, %ha, %hb;", [0xbc00, 0x3c00, 0], 1),
        Case("setp.lt.and.s32 %p, %a, %b, %q;", [1, 2, 0], 0),
        Case("setp.lt.or.s32 %p, %a, %b, %q;", [3, 2, 1], 1),
        Case("setp.lt.xor.s32 %p, %a, %b, %q;", [1, 2, 1], 0),
        Case("setp.lt.and.s32 %p, %a, %b, !%q;", [1, 2, 0], 1),
        Case("setp.lt.s32 %s|%p, %a, %b;", [1, 2, 0], 0),
        Case("setp.lt.and.s32 %s|%p, %a, %b, %q;", [3, 2, 1], 1),
        Case("set.lt.u32.s32 %r, %a, %b;", [1, 2, 0], 0xffff_ffff),
        Case("set.lt.f32.s32 %r, %a, %b;", [1, 2, 0], one),
        Case("set.lt.s32.f64 %r, %la, %lb;", [super::d(1.0), super::d(2.0), 0], 0xffff_ffff),
        Case("set.lt.and.f32.u64 %r, %la, %lb, %q;", [1, 2, 1], one),
        Case("set.lt.xor.f32.u64 %r, %la, %lb, %q;", [1, 2, 1], 0),
        Case("set.lt.or.u32.s32 %r, %a, %b, !%q;", [3, 2, 0], 0xffff_ffff),
        Case("set.eq.u32.b16 %r, %ha, %hb;", [0x10001, 0x20001, 0], 0xffff_ffff),
        Case("set.lt.f16.s32 %h, %a, %b;", [n32(-1), 2, 0], 0x3c00),
        Case("set.lt.bf16.f32 %h, %a, %b;", [0, one, 0], 0x3f80),
        Case("set.lt.u16.f16 %h, %ha, %hb;", [0, 0x3c00, 0], 0xffff),
        Case("set.lt.s32.bf16 %r, %ha, %hb;", [0, 0x3f80, 0], 0xffff_ffff),
        Case("set.eq.ftz.u32.f16 %r, %ha, %hb;", [1, 0, 0], 0xffff_ffff),
        Case("set.gt.f16x2.f16x2 %r, %a, %b;", [0x3c00_0000, 0x0000_3c00, 0], 0x3c00_0000),
        Case("set.gt.bf16x2.bf16x2 %r, %a, %b;", [0x3f80_0000, 0x0000_3f80, 0], 0x3f80_0000),
        Case("set.gt.u32.f16x2 %r, %a, %b;", [0x3c00_0000, 0x0000_3c00, 0], 0xffff_0000),
        Case("set.le.s32.f16x2 %r, %a, %b;", [0x3c00_0000, 0x0000_3c00, 0], 0x0000_ffff),
        Case("set.nan.u32.bf16x2 %r, %a, %b;", [0x7fff_0000, 0x0000_7fff, 0], 0xffff_ffff),
        Case("set.gt.and.s32.f16x2 %r, %a, %b, %q;", [0x3c00_3c00, 0, 0], 0),
        Case("set.gt.xor.f16x2.f16x2 %r, %a, %b, !%q;", [0x3c00_0000, 0x0000_3c00, 0], 0x0000_3c00),
        Case("selp.b32 %r, %a, %b, %q;", [1, 2, 1], 1),
        Case("selp.b64 %l, %la, %lb, !%q;", [1, 2, 1], 2),
        Case("selp.b16 %h, %ha, 7, %q;", [1, 2, 0], 7),
        Case("selp.b32 %r, %a, %b, 1;", [1, 2, 0], 1),
        Case("selp.b32 %r, %a, %b, 0;", [1, 2, 0], 2),
        Case("selp.f64 %l, %la, 1.5, %q;", [1, 2, 0], super::d(1.5)),
        Case("setp.lt.and.s32 %p, %a, %b, 0;", [1, 2, 0], 0),
        Case("setp.lt.or.s32 %p, %a, %b, 1;", [3, 2, 0], 1),
        Case("setp.lt.xor.ftz.f32 %p|_, %a, %b, !%q;", [0, one, 1], 1),
        Case("setp.geu.xor.bf16x2 %p|%s, %a, %b, !%q;", [0x3f80, 0x3f80_3f80, 1], 1),
        Case("setp.lt.f16x2 %s|%p, %a, %b;", [0, 0x3c00_0000, 0], 1),
        Case("slct.b16.s32 %h, %ha, %hb, %c;", [1, 2, 0], 1),
        Case("slct.ftz.f32.f32 %r, %a, %b, %c;", [1, 2, 0x8000_0001], 1),
        Case("slct.f32.f32 %r, %a, %b, %c;", [1, 2, 0x8000_0001], 2),
        Case("slct.f32.f32 %r, %a, %b, %c;", [1, 2, nan], 2),
        Case("slct.u32.s32 %r, %a, %b, %c;", [1, 2, n32(-1)], 2),
        Case("slct.u64.f32 %l, %la, %lb, %c;", [1, 2, 0x8000_0000], 1),
    ]);
}

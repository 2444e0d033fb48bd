use super::{Case, check, d, f};

#[test]
fn integers() {
    check(&[
        Case("cvt.u32.u16 %r, %ha;", [0xffff, 0, 0], 0xffff),
        Case("cvt.s32.s16 %r, %ha;", [0xffff, 0, 0], 0xffff_ffff),
        Case("cvt.s64.s32 %l, %a;", [0xffff_ffff, 0, 0], u64::MAX),
        Case("cvt.u64.u32 %l, %a;", [0xffff_ffff, 0, 0], 0xffff_ffff),
        Case("cvt.s32.s8 %r, %a;", [0x180, 0, 0], 0xffff_ff80),
        Case("cvt.u32.u8 %r, %a;", [0x180, 0, 0], 0x80),
        Case("cvt.s8.s32 %r, %a;", [0x180, 0, 0], 0xffff_ff80),
        Case("cvt.s16.s8 %h, %ha;", [0x80, 0, 0], 0xff80),
        Case("cvt.u16.u32 %h, %a;", [0x12345, 0, 0], 0x2345),
        Case("cvt.u32.u64 %r, %la;", [0x1_2345_6789, 0, 0], 0x2345_6789),
        Case("cvt.s64.s8 %l, %a;", [0x80, 0, 0], -128i64 as u64),
        Case("cvt.u32.s8 %r, %a;", [0x80, 0, 0], 0xffff_ff80),
        Case("cvt.sat.u8.s32 %r, %a;", [300, 0, 0], 255),
        Case("cvt.sat.u8.s32 %r, %a;", [0xffff_ffff, 0, 0], 0),
        Case("cvt.sat.s16.s32 %h, %a;", [0xffff_0000, 0, 0], 0x8000),
        Case("cvt.sat.s32.s64 %r, %la;", [1 << 40, 0, 0], 0x7fff_ffff),
        Case("cvt.sat.u32.s64 %r, %la;", [u64::MAX, 0, 0], 0),
    ]);
}

#[test]
fn floats() {
    check(&[
        Case("cvt.rn.f32.s32 %r, %a;", [0xffff_ffff, 0, 0], f(-1.0)),
        Case("cvt.rn.f32.u32 %r, %a;", [0xffff_ffff, 0, 0], f(4_294_967_296.0)),
        Case("cvt.rz.f32.u32 %r, %a;", [0xffff_ffff, 0, 0], f(4_294_967_040.0)),
        Case("cvt.rn.ftz.f32.s32 %r, %a;", [0xffff_ffff, 0, 0], f(-1.0)),
        Case("cvt.rn.f32.u16 %r, %ha;", [7, 0, 0], f(7.0)),
        Case("cvt.rn.f32.u8 %r, %a;", [0x107, 0, 0], f(7.0)),
        Case("cvt.rn.f32.s64 %r, %la;", [-5i64 as u64, 0, 0], f(-5.0)),
        Case("cvt.rn.f64.s32 %l, %a;", [0xffff_ffff, 0, 0], d(-1.0)),
        Case("cvt.rn.f64.u64 %l, %la;", [3, 0, 0], d(3.0)),
        Case("cvt.rzi.s32.f32 %r, %a;", [f(-2.7), 0, 0], -2i32 as u32 as u64),
        Case("cvt.rni.s32.f32 %r, %a;", [f(2.5), 0, 0], 2),
        Case("cvt.rpi.u32.f32 %r, %a;", [f(2.1), 0, 0], 3),
        Case("cvt.rmi.s64.f32 %l, %a;", [f(-2.1), 0, 0], -3i64 as u64),
        Case("cvt.rzi.u32.f32 %r, %a;", [f(-1.0), 0, 0], 0),
        Case("cvt.rzi.s32.f32 %r, %a;", [f(1e20), 0, 0], 0x7fff_ffff),
        Case("cvt.rzi.s32.f32 %r, %a;", [f(f32::NAN), 0, 0], 0),
        Case("cvt.rzi.s64.f64 %l, %la;", [d(-2.7), 0, 0], -2i64 as u64),
        Case("cvt.rzi.u16.f32 %h, %a;", [f(7.9), 0, 0], 7),
        Case("cvt.rni.f32.f32 %r, %a;", [f(2.5), 0, 0], f(2.0)),
        Case("cvt.rmi.f32.f32 %r, %a;", [f(-2.5), 0, 0], f(-3.0)),
        Case("cvt.sat.f32.f32 %r, %a;", [f(2.5), 0, 0], f(1.0)),
        Case("cvt.f64.f32 %l, %a;", [f(1.5), 0, 0], d(1.5)),
        Case("cvt.rn.f32.f64 %r, %la;", [d(0.1), 0, 0], f(0.1)),
        Case("cvt.rz.f32.f64 %r, %la;", [d(0.1), 0, 0], f(0.1f32.next_down())),
        Case("cvt.rn.f16.f32 %h, %a;", [f(1.5), 0, 0], 0x3e00),
        Case("cvt.f32.f16 %r, %ha;", [0x3e00, 0, 0], f(1.5)),
        Case("cvt.rn.bf16.f32 %h, %a;", [f(1.5), 0, 0], 0x3fc0),
        Case("cvt.rn.f16x2.f32 %r, %a, %b;", [f(1.5), f(2.0), 0], 0x3e00_4000),
        Case("cvt.rn.bf16x2.f32 %r, %a, %b;", [f(1.5), f(2.0), 0], 0x3fc0_4000),
        Case("cvt.rn.relu.f16x2.f32 %r, %a, %b;", [f(-1.5), f(2.0), 0], 0x4000),
        Case("cvt.rn.f16.s32 %h, %a;", [3, 0, 0], 0x4200),
        Case("cvt.rzi.s32.f16 %r, %ha;", [0xc200, 0, 0], -3i32 as u32 as u64),
        Case("cvt.rna.tf32.f32 %r, %a;", [0x3f80_1000, 0, 0], 0x3f80_2000),
        Case("cvt.rn.tf32.f32 %r, %a;", [0x3f80_1000, 0, 0], 0x3f80_0000),
        Case("cvt.rz.relu.tf32.f32 %r, %a;", [0xbf80_1000, 0, 0], 0),
        Case("cvt.rna.satfinite.tf32.f32 %r, %a;", [f(f32::INFINITY), 0, 0], 0x7f7f_e000),
        Case("cvt.rn.satfinite.f16.f32 %h, %a;", [f(-1e9), 0, 0], 0xfbff),
        Case("cvt.rn.relu.satfinite.f16x2.f32 %r, %a, %b;", [f(1e9), f(-1e9), 0], 0x7bff_0000),
        Case("cvt.rz.bf16x2.f32 %r, %a, %b;", [0x3f80_ffff, 0xbf80_ffff, 0], 0x3f80_bf80),
        Case("cvt.rn.satfinite.bf16x2.f32 %r, %a, %b;", [f(f32::INFINITY), f(f32::NAN), 0], 0x7f7f_7fff),
        Case("cvt.rn.bf16.f64 %h, %la;", [d(1.5), 0, 0], 0x3fc0),
        Case("cvt.f64.bf16 %l, %ha;", [0xbfc0, 0, 0], d(-1.5)),
        Case("cvt.f64.f16 %l, %ha;", [0xffff, 0, 0], 0x7fff_ffff_e000_0000),
        Case("cvt.rn.f64.bf16 %l, %ha;", [0x7fc0, 0, 0], 0x7fff_ffff_e000_0000),
        Case("cvt.rzi.s32.bf16 %r, %ha;", [0xc020, 0, 0], -2i32 as u32 as u64),
        Case("cvt.rn.f16.bf16 %h, %ha;", [0x3fc0, 0, 0], 0x3e00),
    ]);
}

/// `b` is the lower of two.
#[test]
fn eight_bit_floats() {
    check(&[
        Case("cvt.rn.satfinite.e4m3x2.f32 %h, %a, %b;", [f(1.0), f(-2.0), 0], 0x38c0),
        Case("cvt.rn.satfinite.e5m2x2.f32 %h, %a, %b;", [f(1e9), f(f32::NAN), 0], 0x7b7f),
        Case("cvt.rn.satfinite.relu.e4m3x2.f32 %h, %a, %b;", [f(-1.0), f(456.0), 0], 0x007e),
        Case("cvt.rn.satfinite.e4m3x2.f16x2 %h, %a;", [0x3c00_c000, 0, 0], 0x38c0),
        Case("cvt.rn.satfinite.relu.e5m2x2.f16x2 %h, %a;", [0xbc00_3c00, 0, 0], 0x003c),
        Case("cvt.rn.f16x2.e4m3x2 %r, %ha;", [0x38c0, 0, 0], 0x3c00_c000),
        Case("cvt.rn.f16x2.e5m2x2 %r, %ha;", [0x7c01, 0, 0], 0x7c00_0100),
        Case("cvt.rn.relu.f16x2.e4m3x2 %r, %ha;", [0xb8ff, 0, 0], 0x0000_7fff),
    ]);
}

#[test]
fn packs() {
    let minus = -5i32 as u32 as u64;
    check(&[
        Case("cvt.pack.sat.u16.s32 %r, %a, %b;", [70_000, minus, 0], 0xffff_0000),
        Case("cvt.pack.sat.s16.s32 %r, %a, %b;", [70_000, minus, 0], 0x7fff_fffb),
        Case("cvt.pack.sat.u8.s32.b32 %r, %a, %b, %c;", [300, 7, 0x1234_5678], 0x5678_ff07),
        Case("cvt.pack.sat.s8.s32.b32 %r, %a, %b, 0;", [300, minus, 0], 0x0000_7ffb),
        Case("cvt.pack.sat.u4.s32.b32 %r, %a, %b, %c;", [300, 7, 0x1234_5678], 0x3456_78f7),
        Case("cvt.pack.sat.s4.s32.b32 %r, %a, %b, %c;", [minus, 9, 0x1234_5678], 0x3456_78b7),
        Case("cvt.pack.sat.u2.s32.b32 %r, %a, %b, %c;", [300, 2, 0x1234_5678], 0x2345_678e),
        Case("cvt.pack.sat.s2.s32.b32 %r, %a, %b, %c;", [minus, 9, 0x1234_5678], 0x2345_6789),
    ]);
}

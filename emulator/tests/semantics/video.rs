//! Video instructions: selectors, saturation, second operations, merges; and the SIMD ones.

use super::{Case, check, run};

fn n(x: i32) -> u64 {
    (x as u32).into()
}

#[test]
fn scalars() {
    check(&[
        Case("vadd.s32.s32.s32 %r, %a, %b;", [n(-7), 5, 0], n(-2)),
        Case("vadd.s32.s32.s32.sat %r, %a, %b;", [0x7fff_ffff, 5, 0], 0x7fff_ffff),
        Case("vadd.u32.u32.s32.sat %r, %a.b0, %b.h1;", [0x0000_00ff, 0xfff0_0000, 0], 0xef),
        Case("vadd.u32.u32.s32.sat %r, %a.b0, %b.h1;", [0x0000_0003, 0xfff0_0000, 0], 0),
        Case("vadd.s32.u32.u32.add %r, %a.b3, %b.b2, %c;", [0xff00_0000, 0x0001_0000, 0xffff_ff00], 0),
        Case("vadd.s32.s32.s32.sat.min %r, %a, %b, %c;", [0x7fff_ffff, 5, n(-1)], n(-1)),
        Case("vadd.u32.u32.u32.max %r, %a, %b, %c;", [3, 4, 0x8000_0000], 0x8000_0000),
        Case("vadd.s32.u32.u32.max %r, %a, %b, %c;", [3, 4, 0x8000_0000], 7),
        Case(
            "vadd.u32.u32.u32 %r0.b1, %a.b0, %b.b1, %c; mov.u32 %r, %r0;",
            [0x03, 0x0400, 0x1234_5678],
            0x1234_0778,
        ),
        Case(
            "vadd.s32.s32.s32.sat %r0.h1, %a, %b, %c; mov.u32 %r, %r0;",
            [40_000, 5, 0x1234_5678],
            0x7fff_5678,
        ),
        Case("vsub.s32.s32.s32 %r, %a, %b;", [3, 5, 0], n(-2)),
        Case("vsub.u32.u32.u32.sat %r, %a, %b;", [3, 5, 0], 0),
        Case("vsub.s32.u32.u32.max %r, %a.h0, %b.h1, %c;", [0x0003, 0x0005_0000, n(-9)], n(-2)),
        Case("vabsdiff.u32.s32.s32 %r, %a, %b;", [0x8000_0000, 0x7fff_ffff, 0], 0xffff_ffff),
        Case("vabsdiff.s32.s32.s32.sat %r, %a, %b;", [0x8000_0000, 0x7fff_ffff, 0], 0x7fff_ffff),
        Case("vabsdiff.s32.u32.u32.add %r, %a.b0, %b.b0, %c;", [0x10, 0xff, 1], 0xf0),
        Case("vmin.s32.s32.u32 %r, %a, %b;", [n(-1), 5, 0], n(-1)),
        Case("vmax.u32.u32.u32 %r, %a.b1, %b.h0;", [0x8000, 0x0100, 0], 0x100),
        Case("vmax.s32.s32.s32 %r, %a.b1, %b.h0;", [0x8000, 0xff00, 0], n(-128)),
        Case("vmin.s32.s32.u32.sat.add %r, %a, %b, %c;", [n(-1), 5, 10], 9),
    ]);
}

#[test]
fn shifts() {
    check(&[
        Case("vshl.u32.u32.u32.wrap %r, %a, %b;", [3, 33, 0], 6),
        Case("vshl.u32.u32.u32.clamp %r, %a, %b;", [3, 33, 0], 0),
        Case("vshl.s32.s32.u32.clamp %r, %a.b1, %b.b0;", [0x8000, 4, 0], n(-2048)),
        Case("vshl.u32.u32.u32.sat.clamp %r, %a, %b;", [0xc000_0000, 1, 0], 0xffff_ffff),
        Case("vshl.s32.s32.u32.sat.wrap %r, %a, %b;", [0x4000_0000, 1, 0], 0x7fff_ffff),
        Case("vshr.u32.u32.u32.clamp %r, %a, %b;", [0x8000_0000, 31, 0], 1),
        Case("vshr.u32.u32.u32.clamp %r, %a, %b;", [0x8000_0000, 99, 0], 0),
        Case("vshr.s32.s32.u32.clamp %r, %a, %b;", [0x8000_0000, 99, 0], n(-1)),
        Case("vshr.s32.s32.u32.wrap %r, %a.h1, %b;", [0x8000_0000, 35, 0], n(-4096)),
        Case("vshr.u32.u32.u32.clamp.add %r, %a, %b, %c;", [0x100, 4, 5], 0x15),
        Case(
            "vshr.u32.u32.u32.wrap %r0.b2, %a, %b, %c; mov.u32 %r, %r0;",
            [0x1ff0, 4, 0x1111_1111],
            0x11ff_1111,
        ),
        Case("vshr.s32.s32.u32.sat.wrap.min %r, %a, %b, %c;", [n(-64), 3, 0], n(-8)),
    ]);
}

#[test]
fn products_and_comparisons() {
    check(&[
        Case("vmad.s32.s32.s32 %r, %a, %b, %c;", [n(-3), 7, 1], n(-20)),
        Case("vmad.s32.s32.s32 %r, %a.h0, -%b.h1, %c;", [3, 0x0007_0000, 1], n(-20)),
        Case("vmad.s32.s32.s32 %r, -%a, -%b, %c;", [3, 7, 1], 22),
        Case("vmad.s32.s32.s32 %r, %a, %b, -%c;", [3, 7, 1], 20),
        Case("vmad.u32.u32.u32.shr7 %r, %a.b0, %b.h1, %c;", [0x80, 0x0100_0000, 0x80], 0x101),
        Case("vmad.u32.u32.u32.shr15 %r, %a, %b, %c;", [0xffff_ffff, 0xffff_ffff, 0], 0xfffc_0000),
        Case("vmad.u32.u32.u32.sat %r, %a, %b, %c;", [0xffff_ffff, 2, 0], 0xffff_ffff),
        Case("vmad.s32.s32.u32.sat.shr15 %r, %a, %b, -%c;", [n(-1), 0xffff_ffff, 1], n(-131072)),
        Case("vmad.s32.s32.s32.sat %r, %a, %b, %c;", [0x7fff_ffff, n(-2), 0], 0x8000_0000),
        Case("vmad.u32.u32.u32.po %r, %a, %b, %c;", [3, 7, 1], 23),
        Case("vmad.u32.u32.u32.sat %r, %a, -%b, %c;", [3, 7, 1], n(-20)),
        Case("vset.u32.u32.lt %r, %a.b0, %b.b1;", [3, 0x0400, 0], 1),
        Case("vset.s32.s32.ge %r, %a, %b;", [n(-1), 0, 0], 0),
        Case("vset.s32.u32.lt %r, %a, %b;", [n(-1), n(-1), 0], 1),
        Case("vset.s32.u32.ne.add %r, %a.h0, %b.h1, %c;", [1, 0x0002_0000, 6], 7),
        Case("vset.u32.u32.eq.max %r, %a, %b, %c;", [1, 1, n(-1)], n(-1)),
        Case("vset.u32.u32.eq.min %r, %a, %b, %c;", [1, 1, n(-1)], 1),
        Case("vset.u32.u32.le %r0.b3, %a, %b, %c; mov.u32 %r, %r0;", [1, 1, 0x2222_2222], 0x0122_2222),
    ]);
}

#[test]
fn halves() {
    check(&[
        Case("vadd2.s32.s32.s32 %r, %a, %b, %c;", [0x7fff_0001, 0x0001_ffff, 0], 0x8000_0000),
        Case("vadd2.s32.s32.s32.sat %r, %a, %b, %c;", [0x7fff_0001, 0x0001_ffff, 0], 0x7fff_0000),
        Case(
            "vadd2.u32.u32.u32.sat %r0.h0, %a.h32, %b.h01, %c; mov.u32 %r, %r0;",
            [0x0007_0003, 0x0005_fffe, 0x1234_5678],
            0x1234_ffff,
        ),
        Case("vadd2.s32.u32.s32.add %r, %a, %b, %c;", [0xffff_0001, 0xffff_0002, 100], 0xfffe + 3 + 100),
        Case(
            "vsub2.s32.s32.s32.sat %r0.h1, %a, %b, %c; mov.u32 %r, %r0;",
            [0x8000_0001, 0x0001_ffff, 0x1234_5678],
            0x8000_5678,
        ),
        Case("vavrg2.s32.s32.s32 %r, %a, %b, %c;", [0xffff_0001, 0xfffe_0002, 0], 0xfffe_0002),
        Case("vavrg2.u32.u32.u32.add %r, %a, %b, %c;", [0xffff_0001, 0xfffe_0002, 1], 0xffff + 2 + 1),
        Case("vabsdiff2.u32.s32.s32 %r, %a, %b, %c;", [0x8000_0001, 0x7fff_0003, 0], 0xffff_0002),
        Case("vmin2.s32.s32.s32 %r, %a, %b, %c;", [0xffff_0001, 0x0001_0002, 0], 0xffff_0001),
        Case("vmax2.u32.u32.u32 %r, %a.h11, %b.h00, %c;", [0x0005_0009, 0x0001_0002, 0], 0x0009_0009),
        Case("vset2.s32.s32.lt %r, %a, %b, %c;", [0xffff_0003, 0x0001_0002, 0], 0x0001_0000),
        Case("vset2.u32.u32.ge.add %r, %a, %b, %c;", [0xffff_0003, 0x0001_0002, 5], 7),
    ]);
}

#[test]
fn bytes() {
    check(&[
        Case("vadd4.s32.s32.s32 %r, %a, %b, %c;", [0x7f80_ff01, 0x01ff_01ff, 0], 0x807f_0000),
        Case("vadd4.s32.s32.s32.sat %r, %a, %b, %c;", [0x7f80_ff01, 0x01ff_01ff, 0], 0x7f80_0000),
        Case(
            "vadd4.u32.u32.u32.sat %r0.b310, %a.b7610, %b.b0123, %c; mov.u32 %r, %r0;",
            [0x0403_0201, 0xff06_0508, 0x1111_1111],
            0xff11_0505,
        ),
        Case("vsub4.s32.u32.u32.add %r, %a, %b, %c;", [0x0102_0304, 0x0202_0202, 10], 12),
        Case("vavrg4.u32.u32.u32 %r, %a, %b, %c;", [0xff01_0004, 0xfe02_0106, 0], 0xff02_0105),
        Case("vavrg4.s32.s32.s32.add %r, %a, %b, %c;", [0xff01_0004, 0xfe02_0106, 0], 6),
        Case(
            "vabsdiff4.u32.u32.u32.add %r, %a, %b, %c;",
            [0xff01_0004, 0x0102_0106, 7],
            0xfe + 1 + 1 + 2 + 7,
        ),
        Case("vabsdiff4.s32.s32.s32.sat %r, %a, %b, %c;", [0x8001_0004, 0x7f02_0106, 0], 0x7f01_0102),
        Case("vmin4.u32.u32.u32 %r, %a, %b, %c;", [0xff01_0004, 0xfe02_0106, 0], 0xfe01_0004),
        Case(
            "vmax4.s32.s32.s32 %r0.b21, %a, %b, %c; mov.u32 %r, %r0;",
            [0xff01_8004, 0xfe02_0106, 0x3333_3333],
            0x3302_0133,
        ),
        Case("vset4.u32.u32.lt %r, %a, %b, %c;", [0xff01_0004, 0xfe02_0106, 0], 0x0001_0101),
        Case("vset4.s32.s32.ne.add %r, %a.b0000, %b.b4444, %c;", [3, 4, 1], 5),
    ]);
}

#[test]
fn misuse_is_refused() {
    for (snippet, message) in [
        ("vadd.s32.s32.s32 %r, %a.b4, %b;", ".b4 does not name a byte or a half"),
        ("vadd.s32.s32.s32 %r, -%a, %b;", "only vmad has negated operands"),
        ("vadd.s32.s32.s32.add %r, %a, %b;", "a video instruction with 3 operands"),
        ("vadd.s32.s32.s32 %r, %a, %b, %c;", "a third operand is for a second operation"),
        ("vadd.s32.s32.s32.add %r.b0, %a, %b, %c;", "a third operand is for a second operation"),
        ("vadd.s16.s32.s32 %r, %a, %b;", "unknown instruction `vadd.s16.s32.s32`"),
        ("vshl.u32.u32.u32 %r, %a, %b;", "unknown instruction `vshl.u32.u32.u32`"),
        ("vmad.u32.u32.u32.po %r, -%a, %b, %c;", "none with .po"),
        ("vmad.u32.u32.u32 %r, %a, %b, %c.b0;", "the addend of vmad has no selector"),
        ("vadd2.s32.s32.s32 %r.h01, %a, %b, %c;", "the mask or selector does not fit 2 elements of 16 bits"),
        ("vadd4.s32.s32.s32 %r, %a.b8888, %b, %c;", "the mask or selector does not fit 4 elements of 8 bits"),
        (
            "vadd4.s32.s32.s32 %r, %a.b00000, %b, %c;",
            "the mask or selector does not fit 4 elements of 8 bits",
        ),
        ("vadd4.s32.s32.s32.sat.add %r, %a, %b, %c;", "unknown instruction `vadd4.s32.s32.s32.sat.add`"),
        ("vavrg.s32.s32.s32 %r, %a, %b;", "unknown instruction `vavrg.s32.s32.s32`"),
        ("add.s32 %r, -%a, %b;", "expected a register or a constant of the instruction's type"),
    ] {
        let error = run(snippet, [0; 3]).expect_err(snippet).to_string();
        assert!(error.starts_with("test:3") && error.contains(message), "{snippet}: {error}");
    }
}

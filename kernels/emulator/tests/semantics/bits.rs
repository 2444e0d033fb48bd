use super::{Case, check};

#[test]
fn logic() {
    check(&[
        Case("and.b32 %r, %a, %b;", [0b1100, 0b1010, 0], 0b1000),
        Case("or.b16 %h, %ha, %hb;", [0b1100, 0b1010, 0], 0b1110),
        Case("xor.b64 %l, %la, %lb;", [0b1100, 0b1010, 0], 0b0110),
        Case("not.b32 %r, %a;", [1, 0, 0], 0xffff_fffe),
        Case("not.b16 %h, %ha;", [1, 0, 0], 0xfffe),
        Case("cnot.b32 %r, %a;", [0, 0, 0], 1),
        Case("cnot.b32 %r, %a;", [9, 0, 0], 0),
        Case("setp.eq.u32 %s, %a, 1; and.pred %p, %q, %s;", [1, 0, 1], 1),
        Case("setp.eq.u32 %s, %a, 1; xor.pred %p, %q, %s;", [1, 0, 1], 0),
        Case("setp.eq.u32 %s, %a, 1; or.pred %p, %q, !%s;", [1, 0, 0], 0),
        Case("not.pred %p, %q;", [0, 0, 0], 1),
        Case("mov.pred %p, %q;", [0, 0, 3], 1),
        Case("lop3.b32 %r, %a, %b, %c, 0x96;", [0b1100, 0b1010, 0b1111], 0b1001),
        Case("lop3.b32 %r, %a, %b, %c, 0xca;", [0b1100, 0b1010, 0b0101], 0b1001),
        Case("lop3.b32 %r, %a, %b, %c, 0x1b;", [0xf0, 0xcc, 0xaa], 0xffff_ff1b),
        Case("lop3.b32 %r, %a, %b, %c, 0;", [0xf0, 0xcc, 0xaa], 0),
    ]);
}

#[test]
fn shifts() {
    check(&[
        Case("shl.b32 %r, %a, 4;", [0xf000_0001, 0, 0], 0x10),
        Case("shl.b32 %r, %a, %b;", [1, 32, 0], 0),
        Case("shl.b16 %h, %ha, 15;", [3, 0, 0], 0x8000),
        Case("shl.b64 %l, %la, %b;", [1, 63, 0], 1 << 63),
        Case("shl.b64 %l, %la, %b;", [1, 64, 0], 0),
        Case("shr.u32 %r, %a, %b;", [0x8000_0000, 31, 0], 1),
        Case("shr.s32 %r, %a, %b;", [0x8000_0000, 99, 0], 0xffff_ffff),
        Case("shr.s16 %h, %ha, 1;", [0x8000, 0, 0], 0xc000),
        Case("shr.b32 %r, %a, 4;", [0xf000_0010, 0, 0], 0x0f00_0001),
        Case("shr.s64 %l, %la, 63;", [1 << 63, 0, 0], u64::MAX),
        Case("shr.u64 %l, %la, 70;", [1 << 63, 0, 0], 0),
        Case("shf.l.wrap.b32 %r, %a, %b, %c;", [0x8000_0000, 1, 1], 3),
        Case("shf.l.clamp.b32 %r, %a, %b, %c;", [0x1234_5678, 1, 40], 0x1234_5678),
        Case("shf.r.wrap.b32 %r, %a, %b, %c;", [0, 1, 1], 0x8000_0000),
        Case("shf.r.clamp.b32 %r, %a, %b, %c;", [0, 7, 32], 7),
        Case("shf.r.wrap.b32 %r, %a, %b, %c;", [5, 7, 32], 5),
    ]);
}

#[test]
fn fields_and_counts() {
    check(&[
        Case("bfe.u32 %r, %a, 4, 8;", [0x0001_2345, 0, 0], 0x34),
        Case("bfe.s32 %r, %a, 4, 4;", [0xf0, 0, 0], 0xffff_ffff),
        Case("bfe.s32 %r, %a, 28, 8;", [0x8000_0000, 0, 0], 0xffff_fff8),
        Case("bfe.u32 %r, %a, %b, 0;", [0xffff_ffff, 3, 0], 0),
        Case("bfe.u32 %r, %a, 32, 8;", [0xffff_ffff, 3, 0], 0),
        Case("bfe.s32 %r, %a, 40, 8;", [0x8000_0000, 3, 0], 0xffff_ffff),
        Case("bfe.u64 %l, %la, 32, 16;", [0x1234_5678_9abc_def0, 0, 0], 0x5678),
        Case("bfe.s64 %l, %la, 60, 4;", [0x8234_5678_9abc_def0, 0, 0], -8i64 as u64),
        Case("bfi.b32 %r, %a, %b, 8, 8;", [0xabcd, 0xffff_ffff, 0], 0xffff_cdff),
        Case("bfi.b32 %r, %a, %b, 28, 8;", [0xf, 0, 0], 0xf000_0000),
        Case("bfi.b32 %r, %a, %b, 32, 8;", [0xf, 5, 0], 5),
        Case("bfi.b64 %l, %la, %lb, 32, 8;", [0xff, 1, 0], 0xff_0000_0001),
        Case("bfind.u32 %r, %a;", [0x0100_0000, 0, 0], 24),
        Case("bfind.u32 %r, %a;", [0, 0, 0], 0xffff_ffff),
        Case("bfind.s32 %r, %a;", [0xffff_fff0, 0, 0], 3),
        Case("bfind.shiftamt.u32 %r, %a;", [1, 0, 0], 31),
        Case("bfind.u64 %r, %la;", [1 << 40, 0, 0], 40),
        Case("popc.b32 %r, %a;", [0xff00_00ff, 0, 0], 16),
        Case("popc.b64 %r, %la;", [u64::MAX, 0, 0], 64),
        Case("clz.b32 %r, %a;", [1, 0, 0], 31),
        Case("clz.b32 %r, %a;", [0, 0, 0], 32),
        Case("clz.b64 %r, %la;", [1, 0, 0], 63),
        Case("brev.b32 %r, %a;", [1, 0, 0], 0x8000_0000),
        Case("brev.b64 %l, %la;", [1, 0, 0], 1 << 63),
        Case("prmt.b32 %r, %a, %b, 0x7610;", [0x3322_1100, 0x7766_5544, 0], 0x7766_1100),
        Case("prmt.b32 %r, %a, %b, 0x8888;", [0x80, 0, 0], 0xffff_ffff),
        Case("prmt.b32.f4e %r, %a, %b, %c;", [0x3322_1100, 0x7766_5544, 1], 0x4433_2211),
        Case("prmt.b32.b4e %r, %a, %b, %c;", [0x3322_1100, 0x7766_5544, 2], 0x7700_1122),
        Case("prmt.b32.rc8 %r, %a, %b, %c;", [0x3322_1100, 0, 3], 0x3333_3333),
        Case("prmt.b32.rc16 %r, %a, %b, %c;", [0x3322_1100, 0, 1], 0x3322_3322),
        Case("bmsk.clamp.b32 %r, %a, %b;", [4, 8, 0], 0xff0),
        Case("bmsk.wrap.b32 %r, %a, %b;", [36, 8, 0], 0xff0),
    ]);
}

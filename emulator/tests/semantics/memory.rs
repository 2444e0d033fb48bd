use super::{Case, check, run};

#[test]
fn moves() {
    check(&[
        Case("mov.u32 %r, %a;", [5, 0, 0], 5),
        Case("mov.b64 %l, {%a, %b};", [1, 2, 0], 0x2_0000_0001),
        Case("mov.b64 {%r, %r1}, %la;", [0x2_0000_0001, 0, 0], 1),
        Case("mov.b64 {_, %r}, %la;", [0x2_0000_0001, 0, 0], 2),
        Case("mov.b32 %r, {%ha, %hb};", [1, 2, 0], 0x2_0001),
        Case("mov.b32 {%h0, %h}, %a;", [0x2_0001, 0, 0], 2),
        Case("mov.b64 %l, {%ha, %hb, %ha, %hb};", [1, 2, 0], 0x0002_0001_0002_0001),
        Case("mov.b64 {%h0, %h1, %h, %h3}, %la;", [0x0004_0003_0002_0001, 0, 0], 3),
        Case("mov.u32 %r, 0x10 + 2 * 3;", [0, 0, 0], 22),
        Case("mov.u32 %r, (1 << 4) | ~0xfffffff0;", [0, 0, 0], 31),
        Case("mov.f32 %r, 0f3F800000;", [0, 0, 0], 0x3f80_0000),
        Case("mov.f32 %r, -1.5;", [0, 0, 0], 0xbfc0_0000),
        Case("mov.u32 %r, 'A';", [0, 0, 0], 65),
        Case("mov.u32 %r, %ntid.x;", [0, 0, 0], 1),
        Case("mov.u32 %r, %lanemask_ge;", [0, 0, 0], 0xffff_ffff),
        Case("add.u32 %r, %nctaid.y, %laneid;", [0, 0, 0], 1),
        Case(
            "mov.u64 %l0, %clock64; mov.u64 %l1, %clock64; sub.u64 %l, %l1, %l0; min.u64 %l, %l, 1;",
            [0; 3],
            1,
        ),
    ]);
}

#[test]
fn loads_and_stores() {
    check(&[
        Case("ld.global.u8 %r, [%in+1];", [0x8180, 0, 0], 0x81),
        Case("ld.global.s8 %r, [%in+1];", [0x8180, 0, 0], 0xffff_ff81),
        Case("ld.global.s8 %h, [%in+1];", [0x8180, 0, 0], 0xff81),
        Case("ld.global.s16 %r, [%in];", [0x8180, 0, 0], 0xffff_8180),
        Case("ld.global.s32 %l, [%in];", [0x8000_0000, 0, 0], 0xffff_ffff_8000_0000),
        Case("ld.global.nc.L1::no_allocate.L2::128B.u32 %r, [%in+8];", [0, 9, 0], 9),
        Case("ld.volatile.global.u32 %r, [%in+8];", [0, 9, 0], 9),
        Case("ld.acquire.gpu.global.u32 %r, [%in+8];", [0, 9, 0], 9),
        Case("add.u64 %l0, %in, 16; ld.global.u32 %r, [%l0+-8];", [0, 9, 0], 9),
        Case("ld.global.v2.u32 {%r0, %r}, [%in];", [0x5_0000_0004, 9, 0], 5),
        Case("ld.global.v4.u32 {%r0, %r1, %r2, %r}, [%in];", [0, 0x5_0000_0004, 0], 5),
        Case("ld.global.v2.u64 {%l0, %l}, [%in];", [3, 4, 0], 4),
        Case("ld.global.v4.u8 {%r0, %r1, %r2, %r}, [%in];", [0x0403_0201, 0, 0], 4),
        Case("ld.global.v4.u16 {%h0, %h1, %h, %h3}, [%in];", [0x0004_0003_0002_0001, 0, 0], 3),
        Case("ld.global.u32 %r, [table+4];", [0; 3], 0x0807_0605),
        Case("mov.u64 %l0, table; ld.u8 %r, [%l0+2];", [0; 3], 3),
        Case("ld.global.u64 %l0, [pointers+8]; ld.global.u8 %r, [%l0];", [0; 3], 5),
        Case("ld.const.u32 %r, [constant];", [0; 3], 77),
        Case("ld.param.u64 %l0, [in]; ld.u32 %r, [%l0];", [8, 0, 0], 8),
        Case("st.shared.u32 [shared+4], %a; ld.shared.u16 %r, [shared+4];", [0x12345, 0, 0], 0x2345),
        Case("st.shared.v2.u16 [shared], {%ha, %hb}; ld.shared.u32 %r, [shared];", [1, 2, 0], 0x2_0001),
        Case("st.local.u64 [local+8], %la; ld.local.u64 %l, [local+8];", [7, 0, 0], 7),
        Case(
            "mov.u64 %l0, shared; cvta.shared.u64 %l1, %l0; st.u32 [%l1], %a; ld.shared.u32 %r, [shared];",
            [7, 0, 0],
            7,
        ),
        Case("cvta.local.u64 %l1, local; st.u32 [%l1+4], %a; ld.local.u32 %r, [local+4];", [7, 0, 0], 7),
        Case("cvta.shared.u64 %l0, shared; isspacep.shared %p, %l0;", [0; 3], 1),
        Case("cvta.shared.u64 %l0, shared; isspacep.global %p, %l0;", [0; 3], 0),
        Case("isspacep.global %p, %a;", [64, 0, 0], 1),
        Case("isspacep.shared::cta %p, %a;", [64, 0, 0], 0),
        Case("cvta.param.u64 %l0, in; isspacep.param %p, %l0;", [0; 3], 1),
        Case("istypep.texref %p, %la;", [64, 0, 0], 0),
        Case("ld.mmio.relaxed.sys.global.u32 %r, [%in];", [64, 0, 0], 64),
        Case("st.mmio.relaxed.sys.global.u32 [%in], %b; ld.global.u32 %r, [%in];", [64, 9, 0], 9),
        Case("ldu.global.v2.u32 {%r0, %r}, [%in];", [5 << 32, 0, 0], 5),
        Case(
            "cvta.local.u64 %l0, local; cvta.to.local.u64 %l1, %l0; mov.u64 %l2, local; sub.u64 %l, %l1, %l2;",
            [0; 3],
            0,
        ),
        Case("st.global.cs.v2.b32 [%in], {%a, %b}; ld.global.u64 %l, [%in];", [1, 2, 0], 0x2_0000_0001),
        Case(
            "mov.u32 %r0, shared; st.shared.u8 [%r0+3], %a; ld.shared.s8 %l, [%r0+3];",
            [0xff, 0, 0],
            u64::MAX,
        ),
    ]);
}

#[test]
fn atomics() {
    check(&[
        Case(
            "atom.global.add.u32 %r, [%in], %b; ld.global.u32 %r1, [%in]; add.u32 %r, %r, %r1;",
            [5, 7, 0],
            17,
        ),
        Case("red.global.add.u32 [%in], %b; ld.global.u32 %r, [%in];", [5, 7, 0], 12),
        Case(
            "atom.global.min.s32 %r0, [%in], %b; ld.global.u32 %r, [%in];",
            [5, 0xffff_ffff, 0],
            0xffff_ffff,
        ),
        Case("atom.global.max.u64 %l0, [%in], %lb; ld.global.u64 %l, [%in];", [5, u64::MAX, 0], u64::MAX),
        Case("atom.global.inc.u32 %r0, [%in], %b; ld.global.u32 %r, [%in];", [5, 5, 0], 0),
        Case("atom.global.dec.u32 %r0, [%in], %b; ld.global.u32 %r, [%in];", [0, 5, 0], 5),
        Case("atom.global.and.b32 %r0, [%in], %b; ld.global.u32 %r, [%in];", [0xf0, 0x3c, 0], 0x30),
        Case("atom.global.exch.b64 %l, [%in], %lb;", [5, 7, 0], 5),
        Case("atom.global.cas.b32 %r0, [%in], %b, %c; ld.global.u32 %r, [%in];", [5, 5, 9], 9),
        Case("atom.acq_rel.gpu.global.cas.b32 %r0, [%in], %b, %c; ld.global.u32 %r, [%in];", [5, 6, 9], 5),
        Case(
            "atom.global.add.f32 %r0, [%in], %b; ld.global.u32 %r, [%in];",
            [super::f(1.5), super::f(2.0), 0],
            super::f(3.5),
        ),
        Case(
            "atom.global.add.f64 %l0, [%in], %lb; ld.global.u64 %l, [%in];",
            [super::d(1.5), super::d(2.0), 0],
            super::d(3.5),
        ),
        Case(
            "atom.global.add.noftz.f16x2 %r0, [%in], %b; ld.global.u32 %r, [%in];",
            [0x3e00_3c00, 0x3400_3c00, 0],
            0x3f00_4000,
        ),
        Case("atom.global.add.noftz.bf16 %h, [%in], %hb;", [0x3f80, 0x3f80, 0], 0x3f80),
        Case("atom.global.cas.b16 %h0, [%in], %hb, %hc; ld.global.u16 %r, [%in];", [5, 5, 9], 9),
        Case("atom.global.exch.b64 _, [%in], %lb; ld.global.u64 %l, [%in];", [5, 7, 0], 7),
        Case(
            "atom.relaxed.gpu.global.add.L2::cache_hint.u32 %r0, [%in], %b, %lc; ld.global.u32 %r, [%in];",
            [5, 7, 0],
            12,
        ),
        Case("red.global.max.s64 [%in], %lb; ld.global.u64 %l, [%in];", [u64::MAX, 7, 0], 7),
        Case("red.global.dec.u32 [%in], %b; ld.global.u32 %r, [%in];", [9, 7, 0], 7),
        Case(
            "red.global.add.noftz.bf16x2 [%in], %b; ld.global.u32 %r, [%in];",
            [0x3f80_0000, 0x3f80_3f80, 0],
            0x4000_3f80,
        ),
        Case(
            "st.shared.u32 [shared], %a; atom.shared.or.b32 %r0, [shared], %b; ld.shared.u32 %r, [shared];",
            [1, 2, 0],
            3,
        ),
        Case(
            "st.shared.u32 [shared], %a; cvta.shared.u64 %l0, shared; red.xor.b32 [%l0], %b; ld.shared.u32 %r, [shared];",
            [1, 3, 0],
            2,
        ),
    ]);
}

#[test]
fn atomics_of_vectors() {
    let two = super::f(1.0) | super::f(2.0) << 32;
    let sums = super::f(2.0) | super::f(4.0) << 32;
    check(&[
        Case(
            "red.global.add.v2.f32 [%in], {%b, %c}; ld.global.u64 %l, [%in];",
            [two, super::f(1.0), super::f(2.0)],
            sums,
        ),
        Case("red.global.add.v4.f32 [%in], {%b, %c, %b, %c}; ld.global.u64 %l, [%in+8];", [0, 0, 0], 0),
        Case(
            "red.relaxed.gpu.global.add.L2::cache_hint.v2.f32 [%in], {%b, %c}, %la; ld.global.u64 %l, [%in];",
            [two, super::f(1.0), super::f(2.0)],
            sums,
        ),
        // The old values, which may take the operands' registers.
        Case(
            "atom.global.add.v2.f32 {%c, %b}, [%in], {%b, %c}; mov.b64 %l, {%c, %b};",
            [two, super::f(1.0), super::f(2.0)],
            two,
        ),
        Case(
            "atom.global.add.noftz.v2.f16 {%h0, %h}, [%in], {%hb, %hc};",
            [0x4000_3c00, 0x3c00, 0x3c00],
            0x4000,
        ),
        Case(
            "red.global.add.noftz.v4.bf16 [%in], {%hb, %hc, %hb, %hc}; ld.global.u64 %l, [%in];",
            [0, 0x3f80, 0x4000],
            0x4000_3f80_4000_3f80,
        ),
        Case(
            "red.global.max.noftz.v2.f16x2 [%in], {%b, %c}; ld.global.u64 %l, [%in];",
            [0x3c00_0000, 0x4000, 0x4000_4000],
            0x4000_4000_3c00_4000,
        ),
        Case(
            "red.global.min.noftz.v8.f16 [%in], {%hc, %hc, %hc, %hc, %hb, %hc, %hc, %hc}; ld.global.u64 %l, [%in+8];",
            [0, 0x3c00_3c00_3c00_3c00, 0x4000],
            0x3c00_3c00_3c00_3c00,
        ),
    ]);
    let error =
        run("red.global.add.v4.f32 [%in+8], {%b, %c, %b, %c};", [0; 3]).expect_err("misaligned").to_string();
    assert!(error.contains("misaligned") && error.contains("16 bytes"), "{error}");
}

#[test]
fn control() {
    check(&[
        Case(
            "{ .param .b64 f; .param .b64 v; .param .b32 q; st.param.b64 [f], %la; st.param.b64 [v], %la; call.uni (q), vprintf, (f, v); ld.param.b32 %r, [q]; }",
            [0; 3],
            0,
        ),
        Case("mov.u32 %r, 1; @%q bra L; mov.u32 %r, 2; L:", [0, 0, 1], 1),
        Case("mov.u32 %r, 1; @!%q mov.u32 %r, 2;", [0, 0, 0], 2),
        Case("mov.u32 %r, 0; L: add.u32 %r, %r, 2; setp.lt.u32 %p, %r, %a; @%p bra L;", [9, 0, 0], 10),
        Case("{ .reg .b32 %r9; mov.u32 %r9, 4; mov.u32 %r, %r9; }", [0; 3], 4),
        Case("{ bra L; L: } { mov.u32 %r, 3; bra L; mov.u32 %r, 4; L: }", [0; 3], 3),
        Case(
            "brx.idx %a, T; T: .branchtargets A, B, C; A: mov.u32 %r, 10; bra E; B: mov.u32 %r, 11; bra E; C: mov.u32 %r, 12; E:",
            [1, 0, 0],
            11,
        ),
        Case(
            "{ .param .b32 p; .param .b32 q; st.param.b32 [p], %a; call.uni (q), twice, (p); ld.param.b32 %r, [q]; }",
            [21, 0, 0],
            42,
        ),
        Case(
            "{ .param .b32 p; .param .b32 q; mov.u64 %l0, twice; st.param.b32 [p], %a; P: .callprototype (.param .b32 _) _ (.param .b32 _); call (q), %l0, (p), P; ld.param.b32 %r, [q]; }",
            [21, 0, 0],
            42,
        ),
        Case(
            "nanosleep.u32 100; nanosleep.u32 %a; membar.gl; fence.acq_rel.gpu; fence.sc.sys; fence.proxy.alias; membar.proxy.alias; fence.proxy.async.global; fence.mbarrier_init.release.cluster; fence.proxy.tensormap::generic.release.gpu; fence.proxy.tensormap::generic.acquire.gpu [%in], 128; pmevent 3; pmevent.mask 7; griddepcontrol.wait; griddepcontrol.launch_dependents; mov.u32 %r, 1;",
            [0; 3],
            1,
        ),
    ]);
}

#[test]
fn what_is_not_known_is_an_error_that_names_it() {
    let cases = [
        ("wgmma.fence.sync.aligned;", "unknown instruction `wgmma.fence.sync.aligned`"),
        ("add.f33 %r, %a, %b;", "unknown instruction `add.f33`"),
        ("add.rn.s32 %r, %a, %b;", "unknown instruction `add.rn.s32`"),
        ("add.s32 %r, %a;", "add takes 3 operands here, not 2"),
        ("add.s32 %r, %a, %nowhere;", "%nowhere is not declared"),
        ("add.s32 %r, %a, %la;", "%la has 64 bits; 32 are expected here"),
        ("bra NOWHERE;", "label NOWHERE is not defined"),
        ("mov.u32 %r, 1", "expected ;"),
        ("ld.global.u32 %r, [%a];", "%a has 32 bits; a global or generic address has 64"),
        ("prefetch.global.L3 [%in];", "unknown instruction `prefetch.global.L3`"),
        ("prefetch.local.L1 [shared];", "shared is not in the state space of this access"),
        ("discard.global.L2 [%in], 64;", "expected an address and the size 128"),
        ("fence.proxy.texture;", "unknown instruction `fence.proxy.texture`"),
        ("ld.global.L1::evict_some.u32 %r, [%in];", "unknown instruction `ld.global.L1::evict_some.u32`"),
        ("ld.global.L2::cache_hint.u32 %r, [%in];", "a cache policy is missing as the last operand"),
        ("ld.global.L2::cache_hint.u32 %r, [%in], %a;", "%a has 32 bits; 64 are expected here"),
        ("red.global.add.v2.u32 [%in], {%a, %b};", "unknown instruction `red.global.add.v2.u32`"),
        ("red.shared.add.v2.f32 [shared], {%a, %b};", "unknown instruction `red.shared.add.v2.f32`"),
        ("atom.global.cas.b32 %r, [%in], %a;", "an atomic operation with 3 operands"),
        ("createpolicy.fractional.b64 %l;", "unknown instruction `createpolicy.fractional.b64`"),
        ("lop3.or.b32 %r, %a, %b, %c, 1, %q;", "expected a register and a predicate"),
        ("set.gt.f16x2.f16 %r, %ha, %hb;", "unknown instruction `set.gt.f16x2.f16`"),
        ("cvt.pack.u8.s32.b32 %r, %a, %b, %c;", "unknown instruction `cvt.pack.u8.s32.b32`"),
        ("cvt.pack.sat.u16.s32 %r, %a, %b, %c;", "cvt takes 3 operands here, not 4"),
        ("cvt.rn.e4m3x2.f32 %h, %a, %b;", "unknown instruction `cvt.rn.e4m3x2.f32`"),
        ("cvt.rz.satfinite.e4m3x2.f32 %h, %a, %b;", "unknown instruction `cvt.rz.satfinite.e4m3x2.f32`"),
        ("cvt.rn.satfinite.s32.f32 %r, %a;", "unknown instruction `cvt.rn.satfinite.s32.f32`"),
        ("selp.f16 %h, %ha, %hb, %q;", "unknown instruction `selp.f16`"),
        ("setp.lt.f16 %p|%s, %ha, %hb;", "a comparison of one half has one result"),
        ("ex2.approx.ftz.f16x2 %r, %a;", "unknown instruction `ex2.approx.ftz.f16x2`"),
        ("ex2.approx.bf16 %h, %ha;", "unknown instruction `ex2.approx.bf16`"),
        (
            "atom.global.cas.L2::cache_hint.b32 %r, [%in], %a, %b, %la;",
            "unknown instruction `atom.global.cas.L2",
        ),
        ("ldmatrix.sync.aligned.m8n8.x1.shared.b16 %r, [shared];", "expected registers in braces"),
        ("szext.s32 %r, %a, %b;", "unknown instruction `szext.s32`"),
        ("setp.lt.s32 1, %a, %b;", "expected a predicate for the result"),
        ("ld.shared.u32 %r, [table];", "table is not in the state space of this access"),
    ];
    for (snippet, message) in cases {
        let error = run(snippet, [0; 3]).expect_err(snippet).to_string();
        assert!(error.contains(message), "{snippet}: {error}");
        assert!(error.starts_with("test:3"), "{snippet}: {error}");
    }
}

//! Cache policies, hints and discarded lines.

use super::{Case, check, f, run};

/// The numbers that ptxas 13.5 computes for sm_80.
#[test]
fn policies() {
    check(&[
        Case("createpolicy.fractional.L2::evict_last.b64 %l, 1.0;", [0; 3], 0x14f0_0000_0000_0000),
        Case("createpolicy.fractional.L2::evict_first.b64 %l;", [0; 3], 0x12f0_0000_0000_0000),
        Case("createpolicy.fractional.L2::evict_normal.b64 %l;", [0; 3], 0x16f0_0000_0000_0000),
        Case("createpolicy.fractional.L2::evict_unchanged.b64 %l, 0.5;", [0; 3], 0x1070_0000_0000_0000),
        Case(
            "createpolicy.fractional.L2::evict_first.L2::evict_unchanged.b64 %l, 0.5;",
            [0; 3],
            0x1270_0000_0000_0000,
        ),
        Case(
            "createpolicy.fractional.L2::evict_last.L2::evict_first.b64 %l, %a;",
            [f(0.25), 0, 0],
            0x1530_0000_0000_0000,
        ),
        Case("createpolicy.cvt.L2.b64 %l, %la;", [0x5f, 0, 0], 0x5f),
        // From 0x12345680 on 64 bytes, of 128: one unit of 4 KiB, number 0x12345.
        Case(
            "createpolicy.range.global.L2::evict_last.L2::evict_first.b64 %l, [%la], 64, 128;",
            [0x1234_5680, 0, 0],
            0x1d04_5020_0000_0000,
        ),
        // 16 MiB in units of 2^(24 − 7) bytes.
        Case(
            "createpolicy.range.L2::evict_first.b64 %l, [%la+64], %b, %c;",
            [0, 0x40_0000, 0x100_0000],
            0x1a50_0420_0000_0000,
        ),
    ]);
}

#[test]
fn hints_change_nothing() {
    check(&[
        Case("ld.global.L2::cache_hint.u32 %r, [%in+8], %lb;", [0, 9, 0], 9),
        Case(
            "ld.global.L1::evict_last.L2::cache_hint.L2::128B.v2.u32 {%r0, %r}, [%in], %lb;",
            [9 << 32, 0, 0],
            9,
        ),
        Case("ld.relaxed.gpu.global.L1::evict_first.L2::cache_hint.u32 %r, [%in], %lb;", [9, 0, 0], 9),
        Case(
            "st.global.L1::no_allocate.L2::cache_hint.u32 [%in], %b, %lc; ld.global.u32 %r, [%in];",
            [0, 9, 0],
            9,
        ),
        Case(
            "st.release.gpu.global.L2::cache_hint.u32 [%in], %b, %lc; ld.global.u32 %r, [%in];",
            [0, 9, 0],
            9,
        ),
        Case(
            "cp.async.cg.shared.global.L2::cache_hint.L2::256B [shared], [%in], 16, 8, %lb; cp.async.wait_all; ld.shared.v2.u64 {%l0, %l1}, [shared]; add.u64 %l, %l0, %l1;",
            [7, 9, 0],
            7,
        ),
        Case(
            "cp.async.ca.shared.global.L2::cache_hint [shared], [%in], 8, !%q, %lb; cp.async.wait_all; ld.shared.u64 %l, [shared];",
            [7, 9, 0],
            0,
        ),
        Case(
            "prefetch.global.L2::evict_last [%in]; prefetch.L1 [%la]; prefetch.local.L2 [local]; prefetchu.L1 [%in]; applypriority.global.L2::evict_normal [%in], 128; mov.u32 %r, 1;",
            [0; 3],
            1,
        ),
        Case("discard.global.L2 [%in], 128; st.global.u32 [%in+4], 5; ld.global.u32 %r, [%in+4];", [0; 3], 5),
    ]);
}

#[test]
fn what_is_discarded_is_undefined() {
    for (snippet, message) in [
        ("discard.global.L2 [%in], 128; ld.global.u32 %r, [%in];", "uninitialised memory: 4 bytes"),
        ("discard.L2 [%in+64], 128;", "misaligned"),
        ("discard.global.L2 [%in+256], 128;", "out of bounds"),
    ] {
        let error = run(snippet, [0; 3]).expect_err(snippet).to_string();
        assert!(error.starts_with("test:3") && error.contains(message), "{snippet}: {error}");
    }
}

//! Operands and the forms that they may take: elements of arrays, vectors, constant expressions, special registers, memory
//! from the stack's top. NVIDIA's assembler accepts each of the texts that run.

use super::{Case, check, d, f, run};

#[test]
fn elements_of_variables() {
    check(&[
        // An index counts elements of the scalar type, also where the variable has several dimensions or is of vectors.
        Case("mov.u64 %l0, table[2]; ld.global.u8 %r, [%l0];", [0; 3], 3),
        Case("{ .shared .u32 w[4]; mov.u32 %r0, w[3]; mov.u32 %r1, w; sub.u32 %r, %r0, %r1; }", [0; 3], 12),
        Case("{ .shared .u64 w[4][4]; mov.u32 %r0, w[1]; mov.u32 %r1, w; sub.u32 %r, %r0, %r1; }", [0; 3], 8),
        Case(
            "{ .shared .v4 .u32 w[4]; mov.u32 %r0, w[1]; mov.u32 %r1, w; sub.u32 %r, %r0, %r1; }",
            [0; 3],
            4,
        ),
        Case("{ .shared .u32 w[4]; st.shared.u32 [w+8], %a; ld.shared.u32 %r, w[2]; }", [7, 0, 0], 7),
        Case("{ .local .u16 w[4]; st.local.u16 w[3], %ha; ld.local.u16 %h, [w+6]; }", [7, 0, 0], 7),
        Case("ld.global.u32 %r, [table + 2*2];", [0; 3], 0x0807_0605),
        Case("{ .global .u32 w[3] = {5, 6, 7}; ld.global.u32 %r, w[2]; }", [0; 3], 7),
    ]);
}

#[test]
fn an_access_without_a_space_takes_the_variables() {
    check(&[
        Case("st.u32 [shared+4], %a; ld.shared.u32 %r, [shared+4];", [7, 0, 0], 7),
        Case("st.u32 [local+4], %a; ld.local.u32 %r, [local+4];", [7, 0, 0], 7),
        Case("ld.u32 %r, [table+4];", [0; 3], 0x0807_0605),
        Case(
            "st.shared.u32 [shared], %a; atom.add.u32 %r0, [shared], 5; ld.u32 %r, [shared];",
            [7, 0, 0],
            12,
        ),
        Case(
            "cvta.local.u64 %l0, local; add.u64 %l0, %l0, 8; st.u32 [%l0], %a; ld.local.u32 %r, [local+8];",
            [7, 0, 0],
            7,
        ),
        Case(
            "cvta.shared.u64 %l0, shared+12; st.u32 [%l0], %a; ld.shared.u32 %r, [shared+12];",
            [7, 0, 0],
            7,
        ),
        Case("cvta.to.global.u64 %l0, %in; ld.global.u64 %l, [%l0];", [7, 0, 0], 7),
    ]);
}

#[test]
fn spaces_of_generic_addresses() {
    for (address, space) in [
        ("cvta.global.u64 %l0, table;", "global"),
        ("cvta.const.u64 %l0, constant;", "const"),
        ("cvta.shared.u64 %l0, shared;", "shared"),
        ("cvta.local.u64 %l0, local;", "local"),
        ("mov.b64 %l0, in; cvta.param.u64 %l0, %l0;", "param"),
    ] {
        for asked in ["global", "const", "shared", "shared::cta", "shared::cluster", "local", "param"] {
            let snippet = format!("{address} isspacep.{asked} %p, %l0;");
            let inside = asked.split(':').next() == Some(space);
            assert_eq!(run(&snippet, [0; 3]), Ok(u64::from(inside)), "{snippet}");
        }
    }
}

#[test]
fn a_number_added_to_a_register() {
    check(&[
        Case("mov.u32 %r, %a+5;", [7, 0, 0], 12),
        Case("mov.b64 %l, %la+-1;", [7, 0, 0], 6),
        Case("add.u64 %l, %la+4, %lb;", [7, 1, 0], 12),
        Case("st.shared.u32 [shared], %a + 1; ld.shared.u32 %r, [shared];", [u64::MAX, 0, 0], 0),
    ]);
}

#[test]
fn constant_expressions() {
    for (expression, expected) in [
        ("-8/2", -4i64),
        ("5/2", 2),
        ("5 % 3 + 1", 3),
        ("-1>>1", -1),
        ("0xffffffffffffffffU>>63", 1),
        ("0xffffffffffffffff/2", i64::MAX),
        ("0x8000000000000000 >> 63", 1),
        ("1<<33>>33", 1),
        ("3<2", 0),
        ("1<2==1", 1),
        ("-1 > 0U", 1),
        ("0xffffffffffffffff > 1", 1),
        ("1?2:0?3:4", 2),
        ("2&&0", 0),
        ("2||0", 1),
        ("!3", 0),
        ("~0", -1),
        ("6^3&1|8", 15),
        ("-5/2U", 0x7fff_ffff_ffff_fffd),
        ("(.s64) 5 - 6", -1),
        ("WARP_SZ", 32),
        ("2*WARP_SZ-1", 63),
    ] {
        let snippet = format!("mov.s64 %l, {expression};");
        assert_eq!(run(&snippet, [0; 3]), Ok(expected as u64), "{expression}");
    }
    check(&[
        Case("mov.f32 %r, .5;", [0; 3], f(0.5)),
        Case("mov.f32 %r, 1.;", [0; 3], f(1.0)),
        Case("mov.f32 %r, 1.0+2.0*.25;", [0; 3], f(1.5)),
        Case("mov.f64 %l, -(1.5);", [0; 3], d(-1.5)),
        Case(
            "{ .shared .b8 x[WARP_SZ], y[4]; mov.u32 %r0, x; mov.u32 %r1, y; sub.u32 %r, %r1, %r0; }",
            [0; 3],
            32,
        ),
        Case("ld.global.u8 %r, [table+WARP_SZ-30];", [0; 3], 3),
        Case("st.shared.u8 [shared], WARP_SZ; ld.shared.u8 %r, [shared];", [0; 3], 32),
    ]);
}

#[test]
fn vector_registers() {
    check(&[
        Case("{ .reg .v2 .u32 v; mov.u32 v.x, %a; mov.u32 v.y, %b; sub.u32 %r, v.x, v.y; }", [9, 4, 0], 5),
        Case("{ .reg .v2 .u32 v; ld.global.v2.u32 v, [%in]; mov.u32 %r, v.y; }", [0x5_0000_0004, 0, 0], 5),
        Case(
            "{ .reg .v4 .u32 v; ld.global.v4.u32 v, [%in]; add.u32 %r, v.z, v.w; }",
            [0, 0x5_0000_0004, 0],
            9,
        ),
        Case("{ .reg .v4 .u32 v; ld.global.v4.u32 v, [%in]; shl.b32 %r, v.b, v.r; }", [2, 3, 0], 12),
        Case("{ .reg .v4 .u32 v; mov.u32 v.g, %a; mov.u32 v.a, v.g; mov.u32 %r, v.w; }", [7, 0, 0], 7),
        Case(
            "{ .reg .v2 .u32 v; mov.b64 v, %la; mov.b64 %l, {v.y, v.x}; }",
            [0x1_0000_0002, 0, 0],
            0x2_0000_0001,
        ),
        Case("{ .reg .v2 .u32 v; mov.v2.u32 v, {%a, %b}; mov.b64 %l, v; }", [1, 2, 0], 0x2_0000_0001),
        Case(
            "{ .reg .v4 .b16 v; mov.v4.b16 v, {%ha, %hb, %hb, %ha}; st.shared.v4.b16 [shared], v; ld.shared.u64 %l, [shared]; }",
            [1, 2, 0],
            0x0001_0002_0002_0001,
        ),
        Case(
            "{ .reg .v4 .u32 v, w; mov.v4.u32 v, {1, 2, 3, %a}; mov.v4.u32 w, v; st.shared.v4.u32 [shared], w; ld.shared.u64 %l, [shared+8]; }",
            [4, 0, 0],
            0x4_0000_0003,
        ),
        Case(
            "{ .reg .v2 .f64 v<3>; mov.f64 v2.x, 0d3ff8000000000000; mov.f64 v2.y, v2.x; mov.b64 %l, v2.y; }",
            [0; 3],
            d(1.5),
        ),
        // All at once: nothing is overwritten before it is read.
        Case(
            "mov.v2.u32 {%r0, %r1}, {%a, %b}; mov.v2.u32 {%r0, %r1}, {%r1, %r0}; sub.u32 %r, %r0, %r1;",
            [1, 9, 0],
            8,
        ),
        Case(
            "{ .reg .v2 .u32 v; mov.v2.u32 v, {%a, %b}; mov.v2.u32 v, {v.y, v.x}; mov.b64 %l, v; }",
            [1, 2, 0],
            0x1_0000_0002,
        ),
        Case("{ .reg .v2 .u32 v; mov.v2.u32 v, {%a, %b}; mov.v2.u32 {%r, _}, v; }", [1, 2, 0], 1),
        Case("{ .reg .v4 .u32 v; mov.v4.u32 v, %ntid; mad.lo.u32 %r, v.x, 10, v.w; }", [0; 3], 10),
        Case("{ .reg .v4 .u16 v; mov.v4.u16 v, %nctaid; mov.u16 %h, v.y; }", [0; 3], 1),
        // A name of the inner braces hides a vector.
        Case("{ .reg .v2 .u32 v; mov.u32 v.x, 1; { .reg .u32 v; mov.u32 v, 5; mov.u32 %r, v; } }", [0; 3], 5),
    ]);
}

#[test]
fn registers_of_128_bits() {
    check(&[
        Case("{ .reg .b128 v; mov.b128 v, {%la, %lb}; mov.b128 {%l0, %l}, v; }", [1, 2, 0], 2),
        Case(
            "{ .reg .b128 v, w; mov.b128 v, {%la, %lb}; mov.b128 w, v; mov.b128 {%l, _}, w; }",
            [1, 2, 0],
            1,
        ),
        Case(
            "{ .reg .b128 v; ld.global.v2.b64 {%l0, %l1}, [%in]; mov.b128 v, {%l1, %l0}; st.shared.b128 [shared], v; ld.shared.u64 %l, [shared+8]; }",
            [1, 2, 0],
            1,
        ),
        Case("{ .reg .b128 v; ld.global.b128 v, [%in]; mov.b128 {_, %l}, v; }", [1, 2, 0], 2),
    ]);
}

#[test]
fn special_registers() {
    let mut cases = vec![
        ("mov.u32 %r, %tid.x;", 0),
        ("mov.u32 %r, %ntid.z;", 1),
        ("mov.u32 %r, %tid.w;", 0),
        ("mov.u32 %r, %nctaid.w;", 0),
        ("mov.u16 %h, %ntid.x;", 1),
        ("cvt.u32.u16 %r, %nctaid.y;", 1),
        ("mov.u32 %r, %laneid;", 0),
        ("mov.u32 %r, %warpid;", 0),
        ("mov.u32 %r, %nwarpid;", 64),
        ("mov.u32 %r, %smid;", 0),
        ("mov.u32 %r, %nsmid;", 1),
        ("mov.u64 %l, %gridid;", 0),
        ("mov.u32 %r, %gridid;", 0),
        ("mov.u32 %r, %lanemask_eq;", 1),
        ("mov.u32 %r, %lanemask_le;", 1),
        ("mov.u32 %r, %lanemask_lt;", 0),
        ("mov.u32 %r, %lanemask_ge;", 0xffff_ffff),
        ("mov.u32 %r, %lanemask_gt;", 0xffff_fffe),
        ("mov.u32 %r, %clock_hi;", 0),
        ("mov.u32 %r, %globaltimer_hi;", 0),
        ("mov.u64 %l0, %globaltimer; mov.u64 %l1, %globaltimer; setp.gt.u64 %p, %l1, %l0;", 1),
        ("mov.u32 %r0, %clock; mov.u32 %r1, %globaltimer_lo; setp.gt.u32 %p, %r1, %r0;", 1),
        ("mov.u32 %r, %pm7;", 0),
        ("mov.u64 %l, %pm0_64;", 0),
        ("mov.u32 %r, %envreg31;", 0),
        ("mov.u32 %r, %dynamic_smem_size;", 0),
        ("mov.u32 %r, %total_smem_size;", 256),
        ("mov.u32 %r, %aggr_smem_size;", 256),
        ("mov.u32 %r, %reserved_smem_offset_begin;", 0),
        ("mov.u32 %r, %reserved_smem_offset_1;", 0),
        ("mov.u64 %l, %current_graph_exec;", 0),
        ("mov.u32 %r, %clusterid.x;", 0),
        ("mov.u32 %r, %nclusterid.y;", 1),
        ("mov.u32 %r, %cluster_ctaid.z;", 0),
        ("mov.u32 %r, %cluster_nctaid.x;", 1),
        ("mov.u32 %r, %cluster_nctaid.w;", 0),
        ("mov.u32 %r, %cluster_ctarank;", 0),
        ("mov.u32 %r, %cluster_nctarank;", 1),
        ("mov.pred %p, %is_explicit_cluster;", 0),
        ("mov.u32 %r, 1; @%is_explicit_cluster mov.u32 %r, 2;", 1),
    ];
    let cases: Vec<Case> =
        cases.drain(..).map(|(snippet, expected)| Case(snippet, [0; 3], expected)).collect();
    check(&cases);
}

#[test]
fn memory_from_the_stacks_top() {
    check(&[
        Case(
            "alloca.u64 %l0, 16; st.local.u32 [%l0+4], %a; cvta.local.u64 %l1, %l0; ld.u32 %r, [%l1+4];",
            [7, 0, 0],
            7,
        ),
        Case("alloca.u64 %l0, %la, 32; and.b64 %l, %l0, 31;", [5, 0, 0], 0),
        Case(
            "alloca.u64 %l0, 8; alloca.u64 %l1, 8; st.local.u64 [%l0], 1; st.local.u64 [%l1], 2; ld.local.u64 %l, [%l0];",
            [0; 3],
            1,
        ),
        Case(
            "st.local.u32 [local+60], %a; alloca.u64 %l0, 64; st.local.u64 [%l0], 1; ld.local.u32 %r, [local+60];",
            [7, 0, 0],
            7,
        ),
        // What is given back is taken again.
        Case(
            "stacksave.u64 %l0; alloca.u64 %l1, 64, 32; stackrestore.u64 %l0; alloca.u64 %l2, 64, 32; sub.u64 %l, %l1, %l2;",
            [0; 3],
            0,
        ),
        Case("alloca.u32 %r0, 8, 16; st.local.u32 [%r0], %a; ld.local.u32 %r, [%r0];", [7, 0, 0], 7),
    ]);
    for (snippet, message) in [
        ("alloca.u64 %l0, 8; ld.local.u32 %r, [%l0];", "uninitialised memory"),
        (
            "stacksave.u64 %l1; alloca.u64 %l0, 8; st.local.u32 [%l0], 1; stackrestore.u64 %l1; alloca.u64 %l0, 8; ld.local.u32 %r, [%l0];",
            "uninitialised memory",
        ),
        ("alloca.u64 %l0, 1000000;", "alloca of 1000000 bytes"),
        ("mov.u64 %l0, 0; alloca.u64 %l1, 8; stackrestore.u64 %l0;", "which stacksave did not return"),
        ("alloca.u64 %l0, 8, 3;", "alloca aligns to 8, 16, 32, 64 or 128 bytes"),
        ("alloca.s64 %l0, 8;", "unknown instruction `alloca.s64`"),
    ] {
        let error = run(snippet, [0; 3]).expect_err(snippet).to_string();
        assert!(error.contains(message), "{snippet}: {error}");
    }
}

#[test]
fn wrong_forms_are_errors_that_say_what_is_wrong() {
    for (snippet, message) in [
        ("mov.u32 %r, %a[1];", "%a is not an array whose element could be named"),
        ("mov.u64 %l, twice[1];", "twice is not an array whose element could be named"),
        ("mov.u64 %l, nowhere[1];", "nowhere is not declared"),
        ("ld.shared.u32 %r, table[1];", "table is not in the state space of this access"),
        ("{ .reg .v2 .u32 v; mov.u32 %r, v.w; }", "v has 2 elements and none of this name"),
        ("{ .reg .v2 .u32 v; mov.u32 %r, v; }", "v has 32 bits; 16 are expected here"),
        ("{ .reg .v4 .u32 v; ld.global.v2.u32 v, [%in]; }", "expected 2 values, not 4"),
        ("{ .reg .v2 .u32 v; mov.v4.u32 v, {%a, %a, %a, %a}; }", "expected 4 elements, not 2 and 4"),
        ("{ .reg .v2 .u32 v; mov.v2.u32 {v, v}, v; }", "a vector within a vector"),
        ("{ .reg .v2 .pred v; }", "a predicate has no vectors"),
        ("{ .reg .v3 .u32 v; }", "unknown type .v3"),
        ("{ .reg .v2 .u64 v; ld.global.u64 %l, [v.y+8]; }", "v.y is not declared"),
        ("mov.u64 %l, %tid.x;", "%tid.x has 16 or 32 bits and cannot be read with 64 bits"),
        ("mov.u16 %h, %laneid;", "%laneid has 32 bits and cannot be read with 16 bits"),
        ("mov.f32 %r, %laneid;", "as a float"),
        ("mov.u32 %r, %is_explicit_cluster;", "%is_explicit_cluster has 1 bits"),
        ("mov.u32 %r, %envreg32;", "%envreg32 is not declared"),
        ("mov.u32 %r, %tid.q;", "%tid.q is not declared"),
        ("mov.u32 %r, 1/0;", "division by zero"),
        ("mov.u32 %r, 1+1.0;", "integers and floats together"),
        ("mov.u32 %r, 1 ? 2;", "expected :"),
        ("tex.2d.v4.f32.f32 {%r0, %r1, %r2, %r}, [table, {%r0, %r1}];", "coordinates of a texture or tensor"),
    ] {
        let error = run(snippet, [0; 3]).expect_err(snippet).to_string();
        assert!(error.contains(message), "{snippet}: {error}");
    }
}

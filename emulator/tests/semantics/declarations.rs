//! Declarations and directives of a module, and calls: what they mean for what a kernel computes.

use super::{d, f, module, run_text};
use ssmv_emulator::{LaunchConfig, Memory, Module, Options, args, launch};

/// Declarations, a snippet after them, its operands, and what its result must be.
struct Text(&'static str, &'static str, [u64; 3], u64);

fn check(cases: &[Text]) {
    let mut wrong = Vec::new();
    for Text(items, snippet, operands, expected) in cases {
        match run_text(&module(items, snippet), *operands) {
            Ok(found) if found == *expected => {}
            Ok(found) => wrong.push(format!("{items} | {snippet}: {found:#x}, not {expected:#x}")),
            Err(error) => wrong.push(format!("{items} | {snippet}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Declarations and snippets that must be errors, with a part of the message.
fn refused(cases: &[(&str, &str, &str)]) {
    for (items, snippet, message) in cases {
        match run_text(&module(items, snippet), [0; 3]) {
            Ok(found) => panic!("{items} | {snippet}: {found:#x}, not an error"),
            Err(error) => assert!(error.to_string().contains(message), "{items} | {snippet}: {error}"),
        }
    }
}

#[test]
fn initial_values() {
    check(&[
        Text(".global .u32 m[2][3] = {{1, 2, 3}, {4, 5, 6}};", "ld.global.u32 %r, [m+16];", [0; 3], 5),
        // What a row leaves out is 0, in each dimension.
        Text(".global .u32 m[2][3] = {{1}, {4, 5}};", "ld.global.u32 %r, [m+16];", [0; 3], 5),
        Text(".global .u32 m[2][3] = {{1}, {4, 5}};", "ld.global.u32 %r, [m+8];", [0; 3], 0),
        Text(".global .u32 m[2][2][2] = {{{1}, {2}}, {{3}}};", "ld.global.u32 %r, [m+8];", [0; 3], 2),
        Text(".global .u32 m[2][2][2] = {{{1}, {2}}, {{3}}};", "ld.global.u32 %r, [m+16];", [0; 3], 3),
        Text(".global .u32 m[2] = {};", "ld.global.u32 %r, [m+4];", [0; 3], 0),
        Text(".global .u32 m[][2] = {{1, 2}, {3}}, after = 9;", "ld.global.u64 %l, [m+8];", [0; 3], 3),
        Text(".global .b8 s[] = {104, 0x69, 0};", "ld.global.u8 %r, [s+1];", [0; 3], 0x69),
        Text(".global .v4 .f32 v = {1.0, 2.0, 3.0, 4.0};", "ld.global.f32 %r, [v+8];", [0; 3], f(3.0)),
        Text(".global .v2 .u32 v[2] = {{1, 2}, {3, 4}};", "ld.global.v2.u32 {%r0, %r}, [v+8];", [0; 3], 4),
        Text(".const .f64 x[2] = {0f3fc00000, -1.5+3.0};", "ld.const.f64 %l, [x];", [0; 3], d(1.5)),
        Text(".const .f64 x[2] = {0f3fc00000, -1.5+3.0};", "ld.const.f64 %l, [x+8];", [0; 3], d(1.5)),
        Text(".global .b32 x[2] = {0f3f800000, 1.0};", "ld.global.u32 %r, [x+4];", [0; 3], f(1.0)),
        Text(".global .s16 x[3] = {-1, 70000, 5>3};", "ld.global.u16 %r, [x+2];", [0; 3], 4464),
        Text(".global .u32 a = 1, b[2] = {2, 3}, c;", "ld.global.u32 %r, [b+4];", [0; 3], 3),
        Text(".common .global .u32 zero;", "ld.global.u32 %r, [zero];", [0; 3], 0),
    ]);
    refused(&[
        (".global .u32 m[2] = {1, 2, 3};", "", "more initial values than the 2 of the array"),
        (".global .u32 m[2][3] = {1, 2, 3};", "", "expected {"),
        (".global .u32 m = {1};", "", "expected an operand"),
        (".global .u32 m[2] = 1;", "", "expected {"),
        (".global .u32 m[3] = {1, 2,};", "", "expected an operand"),
        (".global .f32 m = 1;", "", "an initial value of another type than the variable"),
        (".global .u32 m = 1.5;", "", "an initial value of another type than the variable"),
        (".extern .global .u32 m[];", "", "m is declared but not defined"),
    ]);
}

#[test]
fn addresses_in_initial_values() {
    check(&[
        Text(
            ".global .u32 x[4] = {1, 2, 3, 4}; .global .u64 p[2] = {x+4, generic(x)+4+4};",
            "ld.global.u64 %l0, [p+8]; ld.u32 %r, [%l0];",
            [0; 3],
            3,
        ),
        Text(
            ".const .u32 x[2] = {1, 2}; .const .u64 p = generic(x)+4;",
            "ld.const.u64 %l0, [p]; ld.u32 %r, [%l0];",
            [0; 3],
            2,
        ),
        // A byte of an address at a time.
        Text(
            ".global .u32 x[2] = {1, 2}; .global .align 8 .u8 p[8] = {0xff(x+4), 0xff00(x+4), 0xff0000(x+4), 0xff000000(x+4), 0xff00000000(x+4), 0xff0000000000(x+4), 0xff000000000000(x+4), 0xff00000000000000(generic(x)+4)};",
            "ld.global.u64 %l0, [p]; ld.global.u32 %r, [%l0];",
            [0; 3],
            2,
        ),
        Text(
            ".func (.reg .b32 r) two(.reg .b32 a) { add.u32 r, a, 2; ret; }
             .func (.reg .b32 r) three(.reg .b32 a) { add.u32 r, a, 3; ret; }
             .global .u64 f[2] = {two, three};",
            "ld.global.u64 %l0, [f+8]; P: .callprototype (.reg .b32 _) _ (.reg .b32 _); call (%r), %l0, (%a), P;",
            [4, 0, 0],
            7,
        ),
        // Declared before, defined after.
        Text(
            ".func (.reg .b32 r) two(.reg .b32 a)
             .global .align 8 .u8 f[8] = {0xff(two), 0xff00(two), 0xff0000(two), 0xff000000(two), 0xff00000000(two), 0xff0000000000(two), 0xff000000000000(two), 0xff00000000000000(two)};
             .func (.reg .b32 r) two(.reg .b32 a) { add.u32 r, a, 2; ret; }",
            "ld.global.u64 %l0, [f]; P: .callprototype (.reg .b32 _) _ (.reg .b32 _); call (%r), %l0, (%a), P;",
            [4, 0, 0],
            6,
        ),
    ]);
    refused(&[
        (".shared .u32 x; .global .u64 p = x;", "", "x is not a global variable or function"),
        (".global .u64 p = nowhere;", "", "nowhere is not a global variable or function"),
        (".extern .func g; .global .u64 p = g;", "", "g is declared but not defined"),
        (".global .u32 x; .global .u8 p = 0xfff(x);", "", "a mask of one byte"),
        (".global .u32 x; .global .u32 p = 0xff(x);", "", "a mask of one byte"),
    ]);
}

#[test]
fn variables_within_functions() {
    check(&[
        Text("", "{ .global .u32 x = 5; ld.global.u32 %r, [x]; }", [0; 3], 5),
        Text("", "{ .const .u32 x[2] = {5, 6}; ld.const.u32 %r, [x+4]; }", [0; 3], 6),
        // A name within braces hides that of the module.
        Text(".global .u32 x = 1;", "{ .global .u32 x = 5; } ld.global.u32 %r, [x];", [0; 3], 1),
        Text(".global .u32 x = 1;", "{ .global .u32 x = 5; ld.global.u32 %r, [x]; }", [0; 3], 5),
        Text(
            ".global .u32 x = 1;",
            "{ .global .u32 x = 5; .global .u64 p = x; ld.global.u64 %l0, [p]; ld.global.u32 %r, [%l0]; }",
            [0; 3],
            5,
        ),
        // It outlives the call.
        Text(
            ".func (.reg .b32 r) count() { .global .u32 n = 40; ld.global.u32 r, [n]; add.u32 r, r, 1; st.global.u32 [n], r; ret; }",
            "call (%r), count; call (%r), count;",
            [0; 3],
            42,
        ),
    ]);
}

#[test]
fn one_variable_of_a_function_for_all_kernels() {
    let text = ".version 8.0\n.target sm_90\n.address_size 64
        .func (.reg .b32 r) count() { .global .u32 n; ld.global.u32 r, [n]; add.u32 r, r, 1; st.global.u32 [n], r; ret; }
        .entry first() { .reg .b32 r; call (r), count; ret; }
        .entry second(.param .u64 out) { .reg .b32 r; .reg .b64 d; call (r), count; ld.param.u64 d, [out]; st.global.u32 [d], r; ret; }";
    let memory = Memory::new(1 << 16);
    let loaded = Module::parse("two", text).and_then(|m| m.load(&memory)).expect("a module");
    let out = memory.alloc(4).expect("memory");
    let one = LaunchConfig { grid: [1; 3], block: [1; 3], shared: 0 };
    launch(&memory, &loaded, "first", &one, &args![], &Options::default()).expect("a launch");
    launch(&memory, &loaded, "second", &one, &args![out], &Options::default()).expect("a launch");
    let mut found = [0; 4];
    memory.read(out, &mut found).expect("the result");
    assert_eq!(u32::from_le_bytes(found), 2);
    // Its name is the function's own, and unloading frees it.
    assert_eq!(loaded.variable("n"), None);
    loaded.unload(&memory).expect("unloaded");
    assert_eq!(memory.used(), 256);
}

#[test]
fn attributes_and_directives_in_any_order() {
    let linkage = [
        ".visible .global .attribute(.managed) .align 8 .u32 x = 7;",
        ".global .align 8 .attribute(.managed) .u32 x = 7;",
        ".weak .global .align 8 .u32 x = 7;",
        ".extern .global .u32 x; .visible .global .u32 x = 7;",
    ];
    for items in linkage {
        assert_eq!(run_text(&module(items, "ld.global.u32 %r, [x];"), [0; 3]), Ok(7), "{items}");
    }
    let directives = [
        ".maxntid 32 .minnctapersm 2 .pragma \"nounroll\";",
        ".minnctapersm 2 .maxnreg 32 .maxntid 8, 8, 1",
        ".pragma \"a\", \"b\"; .reqntid 1 .maxnreg 32",
        ".maxnreg 32 .reqntid 1, 1, 1",
        ".local_maxnreg 32",
        ".maxclusterrank 8 .maxntid WARP_SZ",
        ".explicitcluster .reqnctapercluster 1, 1, 1",
    ];
    for text in directives {
        let text = module("", "mov.u32 %r, 7;").replace("out)\n{", &format!("out) {text}\n{{"));
        let text = text.replace(".version 8.0", ".version 8.8");
        assert_eq!(run_text(&text, [0; 3]), Ok(7), "{text}");
    }
    check(&[
        Text(".weak .func (.reg .b32 r) g() .noreturn { mov.u32 r, 7; trap; }", "mov.u32 %r, 7;", [0; 3], 7),
        // A prototype that ends without a semicolon.
        Text(
            ".visible .func (.reg .b32 r) g(.reg .b32 a)
             .extern .func later(.param .b64 a)
             .func (.reg .b32 r) g(.reg .b32 a) { add.u32 r, a, 1; ret; }",
            "call (%r), g, (%a);",
            [6, 0, 0],
            7,
        ),
    ]);
    let cluster = module("", "").replace("out)\n{", "out) .reqnctapercluster 2\n{");
    let error = run_text(&cluster, [0; 3]).expect_err("no clusters").to_string();
    assert!(error.contains("clusters of [2, 1, 1] blocks"), "{error}");
}

#[test]
fn where_pointers_point_is_no_alignment_of_the_parameter() {
    let text = ".version 8.0\n.target sm_90\n.address_size 64
        .entry k(.param .u32 a, .param .u64 .ptr .global .align 64 p, .param .u64 .ptr q, .param .f32 .align 4 z) { ret; }";
    let module = Module::parse("pointers", text).expect("a module");
    let kernel = module.kernel("k").expect("the kernel");
    assert_eq!(kernel.parameters.iter().map(|p| p.align).collect::<Vec<_>>(), [4, 8, 8, 4]);
}

#[test]
fn debug_data_changes_nothing() {
    check(&[Text(
        ".file 1 \"a.cu\"
         .file 2 \"b.h\", 1234567, 8901
         .section .debug_str { name: .b8 95, 0 }
         .section .debug_info { .b32 100
            inside: .b8 2 .b32 .debug_str .b64 twice .b16 5
            .b32 .debug_str+4
            .b64 inside }
         .section .debug_loc { }",
        ".loc 1 5 0
         mov.u32 %r0, 3;
         .loc 2 7 1, function_name name, inlined_at 1 5 0
         .loc 2 8 1, function_name name+4, inlined_at 1 5 0 add.u32 %r, %r0, 4;
         .pragma \"nounroll\";",
        [0; 3],
        7,
    )]);
    let old = format!("@@DWARF .section .debug_pubnames, \"\"\n{}", module("", "mov.u32 %r, 7;"));
    assert_eq!(run_text(&old, [0; 3]), Ok(7));
    refused(&[
        (".file 1", "", "expected a string"),
        (".file 1 \"a\", 5", "", "expected ,"),
        ("", ".loc 1 5\nret;", "expected an operand"),
        ("", ".loc 1 5 0, elsewhere 4\nret;", "expected function_name or inlined_at, not elsewhere"),
        (".section .debug_info { .b8 1", "", "expected }"),
        (".pragma nounroll;", "", "expected a string"),
    ]);
}

#[test]
fn calls() {
    let pick = ".func (.reg .v2 .u32 r) swap(.reg .v2 .u32 a) { mov.v2.u32 r, {a.y, a.x}; ret; }
        .func (.param .b32 r) sum(.param .align 4 .b8 a[12]) { .reg .b32 x, y; ld.param.b32 x, [a+4]; ld.param.b32 y, a[8]; add.u32 x, x, y; st.param.b32 [r], x; ret; }
        .func (.param .align 16 .b8 r[16]) four(.param .b32 a) { .reg .b32 x; ld.param.b32 x, [a]; st.param.v4.b32 [r], {x, 2, 3, 4}; ret; }
        .func (.param .f32 r) half(.param .f32 a) { .reg .f32 x; ld.param.f32 x, [a]; mul.f32 x, x, 0.5; st.param.f32 [r], x; ret; }
        .func last(.param .align 8 .b8 a[]) { .reg .b32 x; .reg .b64 d; ld.param.b32 x, [a+8]; ld.param.b64 d, [a]; st.global.b32 [d], x; ret; }
        .func none () { ret; }";
    let pick: &'static str = pick;
    check(&[
        Text(
            pick,
            "{ .reg .v2 .u32 v; mov.b64 v, %la; call (v), swap, (v); mov.b64 %l, v; }",
            [0x1_0000_0002, 0, 0],
            0x2_0000_0001,
        ),
        Text(
            pick,
            "{ .param .align 4 .b8 x[12]; .param .b32 y; st.param.b32 [x], 1; st.param.b32 [x+4], %a; st.param.b32 [x+8], 3; call (y), sum, (x); ld.param.b32 %r, [y]; }",
            [4, 0, 0],
            7,
        ),
        Text(
            pick,
            "{ .param .align 16 .b8 x[16]; call (x), four, (%a); ld.param.v4.b32 {%r, %r0, %r1, %r2}, [x]; }",
            [7, 0, 0],
            7,
        ),
        Text(pick, "call (%r), half, (3.0);", [0; 3], f(1.5)),
        Text(
            pick,
            "call (_), half, (0f3f800000); call none; call none, (); call (), none, (); mov.u32 %r, 7;",
            [0; 3],
            7,
        ),
        Text(
            pick,
            "{ .param .align 8 .b8 x[16]; st.param.b64 [x], %in; st.param.b32 [x+8], 7; call last, (x); ld.global.u32 %r, [%in]; }",
            [0; 3],
            7,
        ),
        Text(pick, "call (%r), twice, (%a); call (%r), twice, (%r);", [2, 0, 0], 8),
        Text(
            pick,
            "mov.u64 %l0, half; T: .calltargets half; mov.f32 %r0, 4.0; call (%r), %l0, (%r0), T;",
            [0; 3],
            f(2.0),
        ),
        Text(pick, "mov.u64 %l0, none; P: .callprototype _; call %l0, P; mov.u32 %r, 7;", [0; 3], 7),
    ]);
    refused(&[
        (pick, "call (%r), half;", "half takes 1 arguments and gives 1 results, not 0 and 1"),
        (pick, "call half, (1.0);", "gives 1 results, not 1 and 0"),
        (pick, "{ .reg .v4 .u32 v; call (v), swap, (v); }", "r has 2 elements, not 4"),
        (pick, "call (%l), half, (1.0);", "the result has 32 bits, its register 64"),
        (pick, "call test, (%la, %lb);", "test is a kernel and cannot be called"),
        (pick, "mov.u64 %l0, half; call (%r), %l0, (1.0);", "needs a .callprototype that stands before it"),
        (
            pick,
            "mov.u64 %l0, half; T: .calltargets nowhere; call (%r), %l0, (1.0), T;",
            "nowhere is not a function",
        ),
        (
            pick,
            "mov.u64 %l0, half; P: .callprototype _; call %l0, P;",
            "the function called has other parameters",
        ),
        (
            pick,
            "mov.u64 %l0, half; add.u64 %l0, %l0, 1; P: .callprototype _; call %l0, P;",
            "is not a function's address",
        ),
        (".extern .func far(.param .b32 a);", "call far, (1);", "far is declared but not defined"),
        (".extern .func far(.param .b32 a);", "mov.u64 %l, far;", "far is declared but not defined"),
    ]);
}

#[test]
fn predicates_as_parameters() {
    // Accepted of old: with the ABI of today's devices, ptxas passes no predicates.
    let not = ".func (.reg .u32 n, .reg .pred r) both(.reg .pred a, .reg .u32 b) { add.u32 n, b, 1; not.pred r, a; ret; }";
    check(&[
        Text(not, "call (%r, %p), both, (%q, 6); @%p mov.u32 %r, 9;", [0, 0, 1], 7),
        Text(not, "call (%r, %p), both, (%q, 6); @%p mov.u32 %r, 9;", [0, 0, 0], 9),
        Text(not, "call (%r, _), both, (%q, 6);", [0, 0, 1], 7),
        Text(
            not,
            "mov.u64 %l0, both; P: .callprototype (.reg .u32 _, .reg .pred _) _ (.reg .pred _, .reg .u32 _); call (%r, %p), %l0, (%q, 6), P; @%p mov.u32 %r, 9;",
            [0, 0, 0],
            9,
        ),
    ]);
    refused(&[
        (not, "call (%r, %p), both, (%p, 6);", "a is read, but this thread has not written it"),
        (not, "call (%r, %p), both, (%a, 6);", "%a is not a predicate"),
        (not, "call (%r, %r0), both, (%q, 6);", "%r0 is not a predicate"),
        (
            not,
            "mov.u64 %l0, both; P: .callprototype (.reg .u32 _, .reg .u32 _) _ (.reg .u32 _, .reg .u32 _); call (%r, %r0), %l0, (1, 6), P;",
            "the function called has other parameters",
        ),
    ]);
}

#[test]
fn aliases() {
    check(&[
        Text(
            ".visible .func (.reg .b32 r) real(.reg .b32 a) { add.u32 r, a, 1; ret; }
             .weak .func (.reg .b32 r) other(.reg .b32 a);
             .alias other, real;",
            "call (%r), other, (%a);",
            [6, 0, 0],
            7,
        ),
        Text(
            ".visible .func (.reg .b32 r) real(.reg .b32 a) { add.u32 r, a, 1; ret; }
             .visible .func (.reg .b32 r) other(.reg .b32 a);
             .alias other, real;",
            "mov.u64 %l0, other; mov.u64 %l1, real; setp.eq.u64 %p, %l0, %l1;",
            [0; 3],
            1,
        ),
    ]);
    refused(&[
        (".func real { ret; } .alias other, real;", "", "other must be a function that is declared only"),
        (
            ".func real { ret; } .func other { ret; } .alias other, real;",
            "",
            "other must be a function that is declared",
        ),
        (".func other; .alias other, nowhere;", "", "nowhere is not defined"),
    ]);
}

#[test]
fn lists_of_jump_targets() {
    let jumps = "mov.u32 %r, 1; brx.idx %a, T; L0: add.u32 %r, %r, 1; L1: add.u32 %r, %r, 1; L2: add.u32 %r, %r, 1; E:";
    for (list, expected) in [("L<3>", 3), ("L0, L<3>", 4), ("E, L2, L1", 2)] {
        let text = module("", &format!("T: .branchtargets {list}; {jumps}"));
        assert_eq!(run_text(&text, [1, 0, 0]), Ok(expected), "{list}");
    }
    refused(&[
        ("", "T: .branchtargets L<3>; brx.idx %a, T; L0: L1:", "T is not a list of targets"),
        ("", "T: .branchtargets L<99999999999>; brx.idx %a, T; L0: L1:", "T is not a list of targets"),
    ]);
}

#[test]
fn memory_of_a_function_that_takes_it_from_the_stack() {
    check(&[Text(
        ".func (.reg .b32 r) squares(.reg .b32 n) {
            .reg .b64 %at, %size; .reg .b32 %i; .reg .pred %more;
            mul.wide.u32 %size, n, 4; alloca.u64 %at, %size; mov.u32 %i, 0; mov.u32 r, 0;
         FILL: st.local.u32 [%at], %i; ld.local.u32 r, [%at]; add.u64 %at, %at, 4; add.u32 %i, %i, 1;
            setp.lt.u32 %more, %i, n; @%more bra FILL; @!%more ret;
            trap; }",
        // Far more than the stack holds at once.
        "mov.u32 %r2, 0; AGAIN: call (%r), squares, (%a); add.u32 %r2, %r2, 1; setp.lt.u32 %p, %r2, 500; @%p bra AGAIN;",
        [100, 0, 0],
        99,
    )]);
    refused(&[(
        ".func deep() { .local .b8 x[4096]; .reg .b64 d; mov.u64 d, x; st.local.u8 [d], 1; ret; }",
        "alloca.u64 %l0, 20000; call deep;",
        "the call needs local memory up to",
    )]);
}

#[test]
fn texture_references_that_nothing_uses() {
    check(&[
        Text(".global .texref t; .visible .global .surfref s;", "mov.u32 %r, 7;", [0; 3], 7),
        Text(
            ".global .samplerref t[2] = {{addr_mode_0 = wrap}, {filter_mode = nearest}};",
            "mov.u32 %r, 7;",
            [0; 3],
            7,
        ),
        Text(".global .texref t;", "mov.u64 %l0, t; setp.ne.u64 %p, %l0, 0;", [0; 3], 1),
    ]);
    refused(&[
        (".global .texref t;", "txq.width.b32 %r, [t];", "unknown instruction `txq.width.b32`"),
        ("", "{ .reg .texref t; }", "has a type that no register has"),
    ]);
}

#[test]
fn old_text() {
    let old = "
        .version 1.4
        .target sm_13
        .tex .u64 picture;
        .const .u32 five = 5;
        .local .u32 kept;
        .func keep() { .reg .u32 %t; ld.const.u32 %t, [five]; st.local.u32 [kept], %t; ret; }
        .entry test(.param .u64 in, .param .u64 out) {
            .reg .u64 %d; .reg .u32 %r, %s; .reg .u16 %h;
            call keep;
            ld.local.u32 %r, [kept];
            mov.u16 %h, %ntid.x;
            cvt.u32.u16 %s, %h;
            add.u32 %r, %r, %s;
            ld.param.u64 %d, [out];
            st.global.u32 [%d], %r;
            st.global.u32 [%d+4], 0;
            exit;
        }";
    assert_eq!(run_text(old, [0; 3]), Ok(6));
    let banks = "
        .version 2.1
        .target sm_20
        .const[2] .u32 five = 5;
        .entry test(.param .u64 in, .param .u64 out) {
            .reg .u64 %d; .reg .u32 %r;
            ld.const[2].u32 %r, [five];
            ld.param.u64 %d, [out];
            st.global.v2.u32 [%d], {%r, 0};
            exit;
        }";
    assert_eq!(run_text(banks, [0; 3]), Ok(5));
    let vast = ".local .b8 x[400000]; .local .b8 y[400000];";
    refused(&[
        (vast, "", "bytes of local variables; at most 524288"),
        ("", "ld.const[x].u32 %r, [constant];", "expected an operand"),
    ]);
}

#[test]
fn memory_from_the_heap() {
    let heap = ".extern .func (.param .b64 r) malloc(.param .b64 n); .extern .func free(.param .b64 p);";
    check(&[
        Text(
            heap,
            "call (%l0), malloc, (16); st.u32 [%l0+12], %a; ld.global.u32 %r, [%l0+12];",
            [7, 0, 0],
            7,
        ),
        Text(
            heap,
            "{ .param .b64 n; .param .b64 p; st.param.b64 [n], 8; call (p), malloc, (n); ld.param.b64 %l0, [p]; st.u64 [%l0], %la; ld.u64 %l, [%l0]; }",
            [7, 0, 0],
            7,
        ),
        Text(
            heap,
            "call (%l0), malloc, (16); call free, (%l0); call (%l1), malloc, (16); sub.u64 %l, %l0, %l1;",
            [0; 3],
            0,
        ),
        Text(heap, "call (%l), malloc, (9000000);", [0; 3], 0),
        Text(heap, "mov.u64 %l0, 0; call free, (%l0); call (_), malloc, (8); mov.u32 %r, 7;", [0; 3], 7),
    ]);
    refused(&[
        (heap, "call (%l0), malloc, (16); ld.global.u32 %r, [%l0];", "uninitialised memory"),
        (
            heap,
            "call (%l0), malloc, (16); st.u32 [%l0], 1; call free, (%l0); ld.u32 %r, [%l0];",
            "uninitialised memory",
        ),
        (
            heap,
            "call (%l0), malloc, (16); call free, (%l0); call free, (%l0); mov.u32 %r, 1;",
            "which malloc did not return",
        ),
        (heap, "call free, (%in); mov.u32 %r, 1;", "which malloc did not return"),
        (
            heap,
            "call (%l0), malloc, (%l1); mov.u32 %r, 1;",
            "%l1 is read, but this thread has not written it",
        ),
        (heap, "call malloc, (16);", "malloc is declared but not defined"),
    ]);
    // A device without room for it.
    let text = module(heap, "call (%l), malloc, (16);");
    let small = Module::parse("small", &text).expect("a module").load(&Memory::new(1 << 20));
    assert!(small.expect_err("out of memory").to_string().contains("the heap of malloc: out of memory"));
}

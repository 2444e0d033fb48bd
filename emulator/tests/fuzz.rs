//! Broken text: whatever comes in, parsing and running end with a value or an error, soon.

use proptest::prelude::*;
use ssmv_emulator::{
    Arguments, Checks, Error, LaunchConfig, Memory, Module, Options, Parameter, args, launch,
};

/// Texts to break: what nvcc writes, and a kernel with what it does not.
const TEXTS: [&str; 10] = [
    include_str!("cuda/control.ptx"),
    include_str!("cuda/calls.ptx"),
    include_str!("cuda/spaces.ptx"),
    include_str!("cuda/warp.ptx"),
    include_str!("cuda/tensor.ptx"),
    include_str!("cuda/dispatch.ptx"),
    include_str!("cuda/stack.ptx"),
    r#"
.version 8.8
.target sm_90, debug
.address_size 64
.file 1 "a.cu", 1, 2
.section .debug_info { .b32 100 inside: .b8 2 .b64 pick }
.visible .global .attribute(.managed) .align 8 .u32 m[2][2][2] = {{{1}, {2}}, {{3}}};
.global .v4 .f32 v[] = {{1.0, -(.5), 1.+2.0}};
.const .u64 p[2] = {generic(m)+4, 1 ? 5 % 3 : 8 >> 1};
.global .u8 bytes[8] = {0xff(m+4), 0xff00(pick)};
.global .texref t = {addr_mode_0 = wrap};
.local .u32 own;
.visible .func (.reg .b32 r) pick(.reg .b32 a)
.func (.reg .v2 .u32 r, .reg .pred q) pair(.reg .v2 .u32 a, .reg .pred b) { not.pred q, b; mov.v2.u32 r, {a.y, a.x}; ret; }
.func (.reg .b32 r) pick(.reg .b32 a) { .reg .b64 %d; alloca.u64 %d, 64, 16; st.local.u32 [%d], a; .global .u32 n = 4; ld.global.u32 r, [n]; ret; }
.func sized(.param .align 8 .b8 a[]) { .reg .b32 %r; ld.param.b32 %r, [a+8]; ret; }
.weak .func (.reg .b32 r) other(.reg .b32 a);
.alias other, pick;
.global .u64 functions[2] = {pick, other};
.visible .entry all(.param .u64 .ptr .global .align 16 a, .param .u32 n) .maxntid 64, 1, 1 .minnctapersm 1 .pragma "nounroll";
{
    .reg .pred %p<4>; .reg .b32 %r<20>; .reg .b64 %d<8>; .reg .v4 .u32 w, x<2>; .reg .b128 %q;
    .shared .u32 tile[4*WARP_SZ];
    .loc 1 5 0, function_name inside+4, inlined_at 1 2 3
    ld.param.u64 %d0, a[0]; mov.v4.u32 w, %tid; mov.u64 %d1, %gridid; mov.pred %p0, %is_explicit_cluster;
    mov.u32 %r1, tile[2]; mad.lo.u32 %r1, w.x, 4, %r1; st.shared.u32 [%r1], w.x; st.u32 [own], w.x; mov.u32 %r7, %r1+1; mov.b128 %q, {%d0, %d1}; mov.b64 {w.x, _}, %d0;
    mov.v4.u32 x1, {w.w, w.z, w.y, 5}; mov.v4.u32 {w.x, w.y, w.z, w.w}, {w.y, w.x, w.a, w.r};
    call (%r2), pick, (%r1); mov.v2.u32 {%r3, %r4}, {%r1, %r2};
    ld.global.u64 %d2, functions[1]; P: .callprototype (.reg .b32 _) _ (.reg .b32 _); call (%r5), %d2, (%r1), P;
    C: .calltargets pick, other; call (_), %d2, (%r1), C;
    { .param .align 8 .b8 y[16]; st.param.b32 [y+8], 3; call sized, (y); }
    stacksave.u64 %d3; alloca.u64 %d4, %d1, 32; stackrestore.u64 %d3;
    cvta.local.u64 %d5, own; isspacep.const %p1, %d5; isspacep.local %p2, %d5; ld.u32 %r6, [%d5];
    T: .branchtargets L<2>; brx.idx 1, T; L0: trap; L1: st.global.u32 [%d0], %r6; ret;
}
"#,
    r#"
.version 8.0
.target sm_80
.address_size 64
.global .align 8 .u32 table[2][3] = {{1, 2, 3}, {4, 5, 6}};
.global .u64 pointers[2] = {table, generic(table)+8};
.extern .shared .align 16 .b8 dynamic[];
.func (.reg .u32 result) next(.reg .u32 x, .param .b32 y) { .reg .b32 %t; ld.param.u32 %t, [y]; add.u32 result, x, %t; ret; }
.visible .entry all(.param .u64 a, .param .u32 n) .maxntid 64, 1, 1
{
    .reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<20>; .reg .f32 %f<8>; .reg .b64 %d<8>;
    .local .align 8 .b8 own[16];
    .shared .align 16 .b8 tile[2048];
    ld.param.u64 %d0, [a]; ld.param.u32 %r0, [n]; mov.u32 %r1, %tid.x;
    mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %d1, %d0;
LOOP:
    mov.u32 %r2, tile; mad.lo.u32 %r2, %r1, 4, %r2; st.shared.u32 [%r2], %r1; bar.sync 0;
    cp.async.ca.shared.global [%r2], [%d1], 4; cp.async.commit_group; cp.async.wait_group 0;
    shfl.sync.bfly.b32 %r3|%p0, %r1, 1, 31, -1; vote.sync.ballot.b32 %r4, %p0, 0xffffffff;
    setp.lt.and.u32 %p1|%p2, %r1, 16, %p0; @%p1 bra.uni SKIP; atom.global.add.u32 %r5, [%d1], 1; SKIP:
    brx.idx 1, T; T: .branchtargets A, B; A: trap; B: st.local.v2.u32 [own+8], {%r1, %r4};
    { .param .b32 y; st.param.b32 [y], 3; call (%r6), next, (%r1, y); }
    cvt.rn.f32.s32 %f0, %r1; fma.rn.ftz.f32 %f1, %f0, 0f3F800000, 1.5e0; ex2.approx.f32 %f2, %f1;
    mov.b32 {%h0, %h1}, %r1; add.f16 %h2, %h0, %h1; lop3.b32 %r7, %r1, %r2, %r3, 0x1b; prmt.b32 %r8, %r1, %r2, 0x3210;
    bfe.s32 %r9, %r1, 3, 5; bfi.b32 %r9, %r1, %r9, 4, 8; shf.l.wrap.b32 %r9, %r1, %r2, %r3;
    red.shared.max.s32 [tile], %r1; bar.sync 0; sub.u32 %r0, %r0, 1; setp.ne.u32 %p3, %r0, 0; @%p3 bra LOOP;
    st.global.u32 [%d1], %r9; ret;
}
"#,
    r#"
.version 8.0
.target sm_90
.address_size 64
.visible .entry more(.param .u64 a, .param .u32 n)
{
    .reg .pred %p<4>; .reg .b16 %h<8>; .reg .b32 %r<20>; .reg .b64 %d<12>;
    .shared .align 128 .b8 tile[4096];
    ld.param.u64 %d0, [a]; ld.param.u32 %r0, [n]; mov.u32 %r1, %tid.x; mov.u32 %r2, 3; mov.u32 %r3, 5; mov.u32 %r4, tile;
    setp.lt.u32 %p0, %r1, 16; vote.sync.any.pred %p1, !%p0, -1; selp.b32 %r5, %r1, 7, 1; set.gt.and.s32.f16x2 %r6, %r1, %r2, %p0;
    vadd.s32.u32.s32.sat.add %r7, %r1.b0, %r2.h1, %r3; vmad.s32.s32.s32.shr7 %r7, %r1.h0, -%r2.b3, %r3;
    vshr.u32.u32.u32.wrap %r7.b2, %r1, %r2, %r3; vadd4.u32.u32.u32.sat %r8.b310, %r1.b7610, %r2.b0123, %r3;
    vabsdiff2.u32.s32.s32.add %r8, %r1, %r2.h01, %r3; cvt.pack.sat.s8.s32.b32 %r9, %r1, %r2, %r3;
    cvt.rn.satfinite.e4m3x2.f32 %h0, %r1, %r2; cvt.rn.relu.f16x2.e5m2x2 %r9, %h0; cvt.rz.tf32.f32 %r9, %r9;
    createpolicy.range.global.L2::evict_last.b64 %d1, [%d0], %r2, 4096; createpolicy.fractional.L2::evict_first.b64 %d2, 0.5;
    ld.global.L1::evict_last.L2::cache_hint.u32 %r10, [%d0], %d1; prefetch.global.L2 [%d0]; discard.global.L2 [%d0], 128;
    red.global.add.noftz.v4.f16x2 [%d0+256], {%r1, %r2, %r3, %r1}; atom.global.add.v2.f32 {%r11, %r12}, [%d0+512], {%r1, %r2};
    fns.b32 %r11, %r1, 2, -1; szext.clamp.s32 %r11, %r1, %r2; lop3.or.b32 %r12|%p2, %r1, %r2, %r3, 0x96, %p0;
    sub.cc.u32 %r12, %r1, %r2; addc.u32 %r12, %r1, 0; fence.proxy.async; griddepcontrol.wait;
    stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r4], {%r1}; movmatrix.sync.aligned.m8n8.trans.b16 %r13, %r1;
    wmma.load.a.sync.aligned.row.m16n16k16.global.s8 {%r13, %r14}, [%d0+1024], 32;
    wmma.load.c.sync.aligned.col.m8n32k16.global.f16 {%r15, %r16, %r17, %r18}, [%d0+2048];
    wmma.mma.sync.aligned.row.col.m8n8k32.s32.u4.u4.s32.satfinite {%r15, %r16}, {%r13}, {%r14}, {%r15, %r16};
    wmma.store.d.sync.aligned.row.m8n8k32.global.s32 [%d0+4096], {%r15, %r16};
    mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%r5, %r6, %r7, %r8}, {%r1, %r2, %r3, %r1}, {%r2, %r3}, {%r1, %r2, %r3, %r1};
    mma.sync.aligned.m16n8k32.row.col.f16.e5m2.e4m3.f16 {%r5, %r6}, {%r1, %r2, %r3, %r1}, {%r2, %r3}, {%r1, %r2};
    mov.u64 %d3, 1; mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%d4, %d5}, {%d3}, {%d3}, {%d3, %d3};
    ret;
}
"#,
];

/// Runs every kernel of a text that can be read.
fn survive(text: &str) {
    let Ok(module) = Module::parse("fuzz", text) else { return };
    let memory = Memory::new(1 << 22);
    let Ok(loaded) = module.load(&memory) else { return };
    let Ok(buffer) = memory.alloc(1 << 14) else { return };
    memory.fill(buffer, 0, 1 << 14).expect("memory");
    for kernel in module.kernels().take(4) {
        let argument = |parameter: &Parameter| {
            let value = if parameter.bytes == 8 { buffer } else { 2 };
            let mut bytes = value.to_le_bytes().to_vec();
            bytes.resize(parameter.bytes, 0);
            bytes
        };
        let arguments: Arguments = kernel.parameters.iter().map(argument).collect();
        let config = LaunchConfig { grid: [2, 1, 1], block: [64, 1, 1], shared: 1024 };
        for checks in [Checks::ALL, Checks::NONE] {
            let options = Options { checks, budget: 3000, threads: 1, ..Options::default() };
            // Errors are as good as results; panics and hangs are not.
            let _ = launch(&memory, &loaded, &kernel.name, &config, &arguments, &options);
        }
    }
}

/// One change of a text.
#[derive(Debug, Clone)]
enum Change {
    Byte(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Copy(prop::sample::Index, prop::sample::Index),
}

fn change() -> impl Strategy<Value = Change> {
    use any as draw;
    type Place = prop::sample::Index;
    prop_oneof![
        4 => (draw::<Place>(), prop::num::u8::ANY).prop_map(|(at, byte)| Change::Byte(at, byte & 0x7f)),
        1 => draw::<Place>().prop_map(Change::Cut),
        3 => draw::<Place>().prop_map(Change::Remove),
        4 => (draw::<Place>(), draw::<Place>()).prop_map(|(a, b)| Change::Swap(a, b)),
        4 => (draw::<Place>(), draw::<Place>()).prop_map(|(a, b)| Change::Copy(a, b)),
    ]
}

/// Words, blanks and single marks.
fn pieces(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for c in text.chars() {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '%' | '$');
        match out.last_mut() {
            Some(last) if word(c) && last.chars().all(word) => last.push(c),
            _ => out.push(c.to_string()),
        }
    }
    out
}

fn apply(text: &str, changes: &[Change]) -> String {
    let mut pieces = pieces(text);
    for change in changes {
        let count = pieces.len().max(1);
        if pieces.is_empty() {
            break;
        }
        match change {
            Change::Byte(at, byte) => pieces[at.index(count)] = char::from(*byte).to_string(),
            Change::Cut(at) => pieces.truncate(count - at.index(count) / 8),
            Change::Remove(at) => {
                pieces.remove(at.index(count));
            }
            Change::Swap(a, b) => pieces.swap(a.index(count), b.index(count)),
            Change::Copy(a, b) => pieces[a.index(count)] = pieces[b.index(count)].clone(),
        }
    }
    pieces.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_kernels_end(which in 0..TEXTS.len(), changes in prop::collection::vec(change(), 1..6)) {
        survive(&apply(TEXTS[which], &changes));
    }

    #[test]
    fn any_text_ends(text in "[ -~\\n]{0,200}") {
        survive(&text);
    }
}

#[test]
fn whole_texts_run() {
    for text in TEXTS {
        let module = Module::parse("all", text).expect("what is broken above is whole");
        assert!(module.kernels().count() > 0);
        survive(text);
    }
}

/// A kernel around statements.
fn kernel(body: &str) -> String {
    format!(".version 8.0\n.target sm_80\n.address_size 64\n.entry k()\n{{\n{body}\nret;\n}}\n")
}

#[test]
fn sizes_without_bound_are_errors_or_cost_nothing() {
    let deep = format!("mov.u32 %r0, {}1{};", "(".repeat(100_000), ")".repeat(100_000));
    let minus = format!("mov.u32 %r0, {}1;", "-".repeat(100_000));
    let braces = format!(".global .u32 x[1] = {}1{};", "{".repeat(100_000), "}".repeat(100_000));
    let long = format!("mov.u32 %r0, 1{};", " + 1".repeat(100_000));
    let scopes = kernel(&format!("{}{}", "{".repeat(100_000), "}".repeat(100_000)));
    assert!(
        Module::parse("many registers", &kernel(".reg .b32 %r<4000000000>; mov.u32 %r3999999999, 1;"))
            .is_ok()
    );
    assert!(Module::parse("a long sum", &kernel(&format!(".reg .b32 %r<2>; {long}"))).is_ok());
    assert!(Module::parse("many scopes", &scopes).is_ok());
    let errors = [
        ("nested parentheses", kernel(&format!(".reg .b32 %r<2>; {deep}"))),
        ("many signs", kernel(&format!(".reg .b32 %r<2>; {minus}"))),
        ("nested braces", braces),
        ("addresses of 32 bits", ".version 8.0\n.target sm_80\n.address_size 32\n".to_owned()),
        ("a vast shared array", kernel(".shared .b8 x[4000000000];")),
        ("a vast local array", kernel(".local .b8 x[4000000000];")),
        ("a vast global array", ".global .b64 x[0x7fffffffffffffff][0x7fffffffffffffff];".to_owned()),
        ("a negative length", ".global .b8 x[-1];".to_owned()),
        ("a register out of range", kernel(".reg .b32 %r<4>; mov.u32 %r4, 1;")),
        (
            "an offset taken off, which ptxas refuses",
            kernel(".reg .b64 %l; .reg .b32 %r; ld.u32 %r, [%l-4];"),
        ),
        ("a variable less an offset, likewise", kernel(".shared .b8 x[8]; .reg .b32 %r; mov.u32 %r, x-4;")),
        ("vast parameters", ".entry k(.param .b8 x[40000]) { ret; }".to_owned()),
    ];
    for (name, text) in errors {
        assert!(matches!(Module::parse(name, &text), Err(Error::Parse { .. })), "{name}");
    }
    let large = Module::parse("large", ".global .b8 x[1000000000];").expect("it can be read");
    assert!(matches!(large.load(&Memory::new(1 << 20)), Err(Error::Usage(_))));
}

#[test]
fn launches_that_make_no_sense_name_the_limit() {
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.shared .b8 x[1024];\n\
        .entry k(.param .u64 a, .param .u32 n) .reqntid 32 { .reg .b32 %r; ld.shared.u8 %r, [x]; ret; }\n\
        .entry open(.param .u64 a) .maxntid 128 { ret; }";
    let memory = Memory::new(1 << 20);
    let module = Module::parse("limits", text).and_then(|m| m.load(&memory)).expect("a module");
    let run = |kernel: &str, grid: [u32; 3], block: [u32; 3], shared: u32, arguments: Arguments| {
        let config = LaunchConfig { grid, block, shared };
        match launch(&memory, &module, kernel, &config, &arguments, &Options::default()) {
            Err(Error::Usage(message)) => message,
            other => panic!("{other:?}"),
        }
    };
    let (a, n) = (0u64, 0u32);
    let one = [1; 3];
    assert!(run("nobody", one, one, 0, args![]).contains("it has: k, open"));
    assert!(run("k", one, [32, 1, 1], 0, args![a]).contains("n is missing"));
    assert!(run("k", one, [32, 1, 1], 0, args![a, n, n]).contains("2 arguments, not 3"));
    assert!(run("k", one, [32, 1, 1], 0, args![a, a]).contains("parameter n has 4 bytes, not 8"));
    assert!(run("k", one, [64, 1, 1], 0, args![a, n]).contains(".reqntid"));
    assert!(
        run("k", one, [32, 1, 1], 227 << 10, args![a, n])
            .contains("233472 bytes of shared memory (1024 static")
    );
    assert!(run("open", one, [256, 1, 1], 0, args![a]).contains("allows 128"));
    assert!(run("open", [0, 1, 1], one, 0, args![a]).contains("a grid of 0 blocks along x"));
    assert!(run("open", [1, 65536, 1], one, 0, args![a]).contains("65535"));
    assert!(run("open", [u32::MAX, 1, 1], one, 0, args![a]).contains("2147483647"));
    assert!(run("open", one, [1025, 1, 1], 0, args![a]).contains("1024"));
    assert!(run("open", one, [1, 1, 65], 0, args![a]).contains("64"));
    assert!(run("open", one, [32, 32, 2], 0, args![a]).contains("2048 threads; at most 1024"));
    assert!(run("open", one, one, u32::MAX, args![a]).contains("at most 232448"));
}

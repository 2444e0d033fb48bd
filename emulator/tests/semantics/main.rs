//! What instructions compute: a table of snippets, their operands and the results that PTX defines.
//!
//! A snippet reads `%a %b %c` (32 bits), `%ha %hb` (16), `%la %lb %lc` (64), all loaded from the case's operands, and leaves
//! its result in `%r` (32 bits), `%h` (16), `%l` (64) or `%p`.

mod arithmetic;
mod bits;
mod caches;
mod convert;
mod declarations;
mod floats;
mod forms;
mod memory;
mod mma;
mod video;
mod warp;
mod wmma;

use ssmv_emulator::{Checks, Error, LaunchConfig, Memory, Module, Options, args, launch};

/// A snippet, its operands, and what its result must be.
pub struct Case(pub &'static str, pub [u64; 3], pub u64);

/// Bits of an f32.
pub fn f(x: f32) -> u64 {
    x.to_bits().into()
}

/// Bits of an f64.
pub fn d(x: f64) -> u64 {
    x.to_bits()
}

/// The result register that a snippet writes last, by how it is named in it.
fn store(snippet: &str) -> &'static str {
    let writes = |register: &str| {
        snippet.split(';').any(|part| {
            part.split_whitespace()
                .any(|word| word.trim_end_matches(',').trim_matches(['{', '}', '(', ')']) == register)
        })
    };
    if writes("%l") {
        "st.global.u64 [%out], %l;"
    } else if writes("%r") {
        "cvt.u64.u32 %l, %r; st.global.u64 [%out], %l;"
    } else if writes("%h") {
        "cvt.u64.u16 %l, %h; st.global.u64 [%out], %l;"
    } else {
        "selp.u64 %l, 1, 0, %p; st.global.u64 [%out], %l;"
    }
}

/// The text of a kernel around a snippet.
pub fn kernel(snippet: &str) -> String {
    module("", snippet)
}

/// [`kernel`], with more declarations before it.
pub fn module(items: &str, snippet: &str) -> String {
    format!(
        "
.version 8.0
.target sm_90
.address_size 64
.global .align 8 .b8 table[16] = {{1, 2, 3, 4, 5, 6, 7, 8}};
.const .u32 constant = 77;
.global .u64 pointers[2] = {{table, generic(table)+4}};
.extern .func (.param .b32 r) vprintf(.param .b64 format, .param .b64 values);
.func (.param .b32 result) twice(.param .b32 x) {{
    .reg .b32 %t;
    ld.param.u32 %t, [x];
    add.u32 %t, %t, %t;
    st.param.u32 [result], %t;
    ret;
}}
{items}
.visible .entry test(.param .u64 in, .param .u64 out)
{{
    .shared .align 16 .b8 shared[256];
    .local .align 16 .b8 local[64];
    .reg .pred %p, %q, %s;
    .reg .b16 %ha, %hb, %hc, %h<8>, %h;
    .reg .b32 %a, %b, %c, %r<8>, %r;
    .reg .b64 %la, %lb, %lc, %l<8>, %l, %in, %out;
    ld.param.u64 %in, [in];
    ld.param.u64 %out, [out];
    ld.global.u64 %la, [%in];
    ld.global.u64 %lb, [%in+8];
    ld.global.u64 %lc, [%in+16];
    cvt.u32.u64 %a, %la; cvt.u32.u64 %b, %lb; cvt.u32.u64 %c, %lc;
    cvt.u16.u64 %ha, %la; cvt.u16.u64 %hb, %lb; cvt.u16.u64 %hc, %lc;
    setp.ne.u32 %q, %c, 0;
    {snippet}
    {}
    ret;
}}
",
        store(snippet)
    )
}

/// Runs a snippet in one thread.
pub fn run(snippet: &str, operands: [u64; 3]) -> Result<u64, Error> {
    run_text(&kernel(snippet), operands)
}

/// Runs the kernel `test` of a text in one thread.
pub fn run_text(text: &str, operands: [u64; 3]) -> Result<u64, Error> {
    let memory = Memory::new(16 << 20);
    let module = Module::parse("test", text)?.load(&memory)?;
    let (input, output) = (memory.alloc(128)?, memory.alloc(8)?);
    let bytes: Vec<u8> = operands.iter().flat_map(|x| x.to_le_bytes()).collect();
    memory.write(input, &bytes)?;
    let config = LaunchConfig { grid: [1; 3], block: [1; 3], shared: 0 };
    let options = Options { checks: Checks::ALL, ..Options::default() };
    launch(&memory, &module, "test", &config, &args![input, output], &options)?;
    let mut out = [0; 8];
    memory.read(output, &mut out)?;
    Ok(u64::from_le_bytes(out))
}

/// Runs all cases and lists those that differ.
pub fn check(cases: &[Case]) {
    let mut wrong = Vec::new();
    for Case(snippet, operands, expected) in cases {
        match run(snippet, *operands) {
            Ok(found) if found == *expected => {}
            Ok(found) => wrong.push(format!("{snippet} of {operands:x?}: {found:#x}, not {expected:#x}")),
            Err(error) => wrong.push(format!("{snippet}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

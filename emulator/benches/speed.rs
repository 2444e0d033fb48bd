//! How fast the emulator is: lane-instructions a second of a pointwise kernel, multiply-accumulates a second of a matrix
//! product, on one core, without and with all checks. `cargo bench -p ssmv-emulator`

use std::time::Instant;

use ssmv_emulator::{Checks, LaunchConfig, Memory, Module, Options, Report, Result, args, launch};

/// y = max(x·a + b, 0) + 0.5·x, four elements a thread.
const POINTWISE: &str = include_str!("pointwise.ptx");

/// Rows, columns and depth of the product.
const SIZE: u64 = 256;

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    println!("one core; the median of {RUNS} runs");
    for (checked, checks) in [("checks off", Checks::NONE), ("checks on", Checks::ALL)] {
        let options = Options { checks, threads: 1, ..Options::default() };
        for (name, run) in
            [("pointwise", pointwise as fn(&Options) -> Result<(f64, Report)>), ("product", product)]
        {
            let label = format!("{name}, {checked}");
            if !wanted.is_empty() && !wanted.iter().any(|w| label.contains(w.as_str())) {
                continue;
            }
            let (seconds, report) = run(&options)?;
            println!(
                "{label:>21}: {:6.1} million lane-instructions/s, {:5.1} ns a warp instruction, {:6.1} million multiply-accumulates/s",
                report.lane_instructions as f64 / seconds / 1e6,
                seconds * 1e9 / report.warp_instructions as f64,
                report.tensor_macs as f64 / seconds / 1e6,
            );
        }
    }
    Ok(())
}

/// Runs of which the median counts.
const RUNS: usize = 7;

/// The median time of several runs, after one that warms up.
fn median(mut run: impl FnMut() -> Result<Report>) -> Result<(f64, Report)> {
    let report = run()?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok((times[RUNS / 2], report))
}

fn pointwise(options: &Options) -> Result<(f64, Report)> {
    let n = 1u32 << 20;
    let memory = Memory::new(64 << 20);
    let module = Module::parse("pointwise.ptx", POINTWISE)?.load(&memory)?;
    let (x, y) = (memory.alloc(n as usize * 4)?, memory.alloc(n as usize * 4)?);
    let values: Vec<u8> = (0..n).flat_map(|i| (i as f32 * 0.001 - 500.0).to_le_bytes()).collect();
    memory.write(x, &values)?;
    let config = LaunchConfig { grid: [n / 1024, 1, 1], block: [256, 1, 1], shared: 0 };
    let (a, b) = (1.5f32, -0.25f32);
    let arguments = args![x, y, n, a, b];
    median(|| launch(&memory, &module, "pointwise", &config, &arguments, options))
}

fn product(options: &Options) -> Result<(f64, Report)> {
    let memory = Memory::new(64 << 20);
    let module = Module::parse("product.ptx", &product_text())?.load(&memory)?;
    let bytes = (SIZE * SIZE * 2) as usize;
    let (a, b, c) = (memory.alloc(bytes)?, memory.alloc(bytes)?, memory.alloc(bytes * 2)?);
    // Halves between 1 and 2 with all bits of the fraction in use.
    let halves = |seed: u32| -> Vec<u8> {
        (0..SIZE as u32 * SIZE as u32)
            .flat_map(|i| (0x3c00 | ((i.wrapping_mul(2_654_435_761) ^ seed) >> 22) as u16).to_le_bytes())
            .collect()
    };
    memory.write(a, &halves(1))?;
    memory.write(b, &halves(2))?;
    let blocks = (SIZE / 64) as u32;
    let config = LaunchConfig { grid: [blocks, blocks, 1], block: [128, 1, 1], shared: 0 };
    let arguments = args![a, b, c];
    median(|| launch(&memory, &module, "product", &config, &arguments, options))
}

/// C = A·B in tiles of 64×64, depth 32 at a time through shared memory; four warps with 32×32 each.
///
/// A tile's rows are 64 bytes and B's 128, padded by 16 so that `ldmatrix` meets no bank twice.
fn product_text() -> String {
    let mut t = String::new();
    let mut line = |text: &str| {
        t.push_str(text);
        t.push('\n');
    };
    line(".version 7.0\n.target sm_80\n.address_size 64");
    line(".visible .entry product(.param .u64 a, .param .u64 b, .param .u64 c)\n{");
    line(".shared .align 16 .b8 left[5120];\n.shared .align 16 .b8 right[4608];");
    line(".reg .b32 %r<100>;\n.reg .b64 %d<40>;\n.reg .f32 %s<40>;\n.reg .pred %p;");
    line("ld.param.u64 %d0, [a]; ld.param.u64 %d1, [b]; ld.param.u64 %d2, [c];");
    line("mov.u32 %r0, %tid.x; and.b32 %r1, %r0, 31; shr.u32 %r2, %r0, 5;");
    line("and.b32 %r3, %r2, 1; shr.u32 %r4, %r2, 1;");
    line("mov.u32 %r5, %ctaid.y; shl.b32 %r5, %r5, 6; mov.u32 %r6, %ctaid.x; shl.b32 %r6, %r6, 6;");
    // Copies: A's tile is 256 pieces of 16 bytes, B's as many; two of each a thread.
    line("shr.u32 %r7, %r0, 2; and.b32 %r8, %r0, 3;");
    line("add.u32 %r9, %r5, %r7;");
    line(&format!(
        "mul.wide.u32 %d3, %r9, {}; mul.wide.u32 %d4, %r8, 16; add.u64 %d3, %d3, %d4; add.u64 %d3, %d3, %d0;",
        2 * SIZE
    ));
    line("mov.u32 %r10, left; mad.lo.u32 %r11, %r7, 80, %r10; mad.lo.u32 %r11, %r8, 16, %r11;");
    line("shr.u32 %r12, %r0, 3; and.b32 %r13, %r0, 7;");
    line(&format!(
        "mul.wide.u32 %d5, %r12, {}; mul.wide.u32 %d6, %r13, 16; add.u64 %d5, %d5, %d6;",
        2 * SIZE
    ));
    line("mul.wide.u32 %d6, %r6, 2; add.u64 %d5, %d5, %d6; add.u64 %d5, %d5, %d1;");
    line("mov.u32 %r14, right; mad.lo.u32 %r15, %r12, 144, %r14; mad.lo.u32 %r15, %r13, 16, %r15;");
    // Fragments: lane i names row i mod 16 of A's 16×16 tile, column half i / 16; rows of B's 16×16 tile likewise.
    line("and.b32 %r16, %r1, 15; shr.u32 %r17, %r1, 4;");
    line(
        "shl.b32 %r18, %r4, 5; add.u32 %r18, %r18, %r16; mad.lo.u32 %r18, %r18, 80, %r10; mad.lo.u32 %r18, %r17, 16, %r18;",
    );
    line(
        "shl.b32 %r19, %r3, 6; mad.lo.u32 %r20, %r16, 144, %r14; add.u32 %r20, %r20, %r19; mad.lo.u32 %r20, %r17, 16, %r20;",
    );
    for i in 0..32 {
        line(&format!("mov.f32 %s{i}, 0f00000000;"));
    }
    line("mov.u32 %r21, 0;");
    line("LOOP:");
    let rows = 32 * 2 * SIZE;
    line(&format!(
        "cp.async.cg.shared.global [%r11], [%d3], 16; add.u64 %d7, %d3, {rows}; cp.async.cg.shared.global [%r11+2560], [%d7], 16;"
    ));
    let rows = 16 * 2 * SIZE;
    line(&format!(
        "cp.async.cg.shared.global [%r15], [%d5], 16; add.u64 %d8, %d5, {rows}; cp.async.cg.shared.global [%r15+2304], [%d8], 16;"
    ));
    line("cp.async.commit_group; cp.async.wait_group 0; bar.sync 0;");
    for k in 0..2 {
        for m in 0..2 {
            let (first, at) = (30 + 4 * m, m * 16 * 80 + k * 32);
            line(&format!(
                "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r{}, %r{}, %r{}, %r{}}}, [%r18+{at}];",
                first,
                first + 1,
                first + 2,
                first + 3
            ));
        }
        for n in 0..2 {
            let (first, at) = (40 + 4 * n, k * 16 * 144 + n * 32);
            line(&format!(
                "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {{%r{}, %r{}, %r{}, %r{}}}, [%r20+{at}];",
                first,
                first + 1,
                first + 2,
                first + 3
            ));
        }
        for (m, n) in (0..2).flat_map(|m| (0..4).map(move |n| (m, n))) {
            let (a, b, c) = (30 + 4 * m, 40 + 2 * n, 16 * m + 4 * n);
            let sums = format!("{{%s{}, %s{}, %s{}, %s{}}}", c, c + 1, c + 2, c + 3);
            line(&format!(
                "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {sums}, {{%r{a}, %r{}, %r{}, %r{}}}, {{%r{b}, %r{}}}, {sums};",
                a + 1,
                a + 2,
                a + 3,
                b + 1
            ));
        }
    }
    line("bar.sync 0;");
    line(&format!("add.u64 %d3, %d3, 64; add.u64 %d5, %d5, {};", 32 * 2 * SIZE));
    line(&format!("add.u32 %r21, %r21, 32; setp.lt.u32 %p, %r21, {SIZE}; @%p bra LOOP;"));
    // Out: lane i has row i / 4 and columns 2·(i mod 4) and the next of each 8×8 tile.
    line(
        "shr.u32 %r22, %r1, 2; and.b32 %r23, %r1, 3; shl.b32 %r24, %r4, 5; add.u32 %r22, %r22, %r24; add.u32 %r22, %r22, %r5;",
    );
    line("shl.b32 %r25, %r3, 5; add.u32 %r25, %r25, %r6; mad.lo.u32 %r25, %r23, 2, %r25;");
    line(&format!(
        "mul.wide.u32 %d9, %r22, {}; mul.wide.u32 %d10, %r25, 4; add.u64 %d9, %d9, %d10; add.u64 %d9, %d9, %d2;",
        4 * SIZE
    ));
    for (m, n) in (0..2u64).flat_map(|m| (0..4u64).map(move |n| (m, n))) {
        let (c, at) = (16 * m + 4 * n, m * 16 * 4 * SIZE + n * 32);
        line(&format!("st.global.v2.f32 [%d9+{at}], {{%s{}, %s{}}};", c, c + 1));
        line(&format!("st.global.v2.f32 [%d9+{}], {{%s{}, %s{}}};", at + 8 * 4 * SIZE, c + 2, c + 3));
    }
    line("ret;\n}");
    t
}

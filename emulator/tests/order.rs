//! The same bits, reports and errors whatever the number of cores; blocks that wait for one another.

use ssmv_emulator::{Error, FaultKind, LaunchConfig, Memory, Module, Options, Report, args, launch};

fn run(body: &str, grid: u32, threads: u32, cores: usize, words: usize) -> (Result<Report, Error>, Vec<u32>) {
    run_with(body, grid, threads, cores, words, 1 << 24)
}

fn run_with(
    body: &str,
    grid: u32,
    threads: u32,
    cores: usize,
    words: usize,
    budget: u64,
) -> (Result<Report, Error>, Vec<u32>) {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 out)\n{{
.reg .pred %p<4>; .reg .b32 %r<12>; .reg .f32 %f<4>; .reg .b64 %d<8>;
ld.param.u64 %d0, [out]; mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mad.lo.u32 %r3, %r1, %r2, %r0;
mul.wide.u32 %d1, %r3, 4; add.u64 %d1, %d1, %d0;
{body}
ret;\n}}\n"
    );
    let memory = Memory::new(1 << 22);
    let module = Module::parse("k", &text).and_then(|m| m.load(&memory)).unwrap_or_else(|e| panic!("{e}"));
    let out = memory.alloc(words * 4).expect("memory");
    memory.fill(out, 0, words * 4).expect("memory");
    let config = LaunchConfig { grid: [grid, 1, 1], block: [threads, 1, 1], shared: 0 };
    let options = Options { threads: cores, budget, ..Options::default() };
    let result = launch(&memory, &module, "k", &config, &args![out], &options);
    let mut bytes = vec![0; words * 4];
    memory.read(out, &mut bytes).expect("memory");
    (result, bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[test]
fn the_number_of_cores_changes_nothing() {
    let bodies = [
        // Sums of floats in the order of blocks.
        "cvt.rn.f32.u32 %f0, %r3; rcp.approx.f32 %f0, %f0; add.f32 %f0, %f0, 0f3DCCCCCD; setp.eq.u32 %p0, %r3, 0; @%p0 mov.f32 %f0, 0f3F800000; red.global.add.f32 [%d0], %f0;",
        // Which thread comes when.
        "atom.global.add.u32 %r4, [%d0], 1; mul.wide.u32 %d2, %r4, 4; add.u64 %d2, %d2, %d0; st.global.u32 [%d2+4], %r3;",
        // Counts of integers, in parallel.
        "and.b32 %r4, %r3, 7; mul.wide.u32 %d2, %r4, 4; add.u64 %d2, %d2, %d0; red.global.add.u32 [%d2], %r3;",
        // Loops of other lengths.
        "mov.u32 %r4, 0; L: add.u32 %r4, %r4, 1; setp.lt.u32 %p0, %r4, %r3; @%p0 bra L; st.global.u32 [%d1], %r4;",
    ];
    for body in bodies {
        let (report, words) = run(body, 40, 48, 1, 2048);
        for cores in [2, 3, 8] {
            let again = run(body, 40, 48, cores, 2048);
            assert_eq!(again, (report.clone(), words.clone()), "{cores} cores: {body}");
        }
        report.unwrap_or_else(|e| panic!("{body}: {e}"));
    }
}

#[test]
fn the_first_block_that_fails_is_named() {
    // Later blocks fail sooner.
    let body = "setp.lt.u32 %p0, %r1, 5; @%p0 bra E; mul.lo.u32 %r4, %r1, 50; mov.u32 %r5, 3000; sub.u32 %r5, %r5, %r4; L: sub.u32 %r5, %r5, 1; setp.ne.u32 %p1, %r5, 0; @%p1 bra L; trap; E:";
    for cores in [1, 2, 8] {
        let (result, _) = run(body, 40, 32, cores, 2048);
        let Err(Error::Kernel { block, .. }) = result else { panic!("{result:?}") };
        assert_eq!(block, [5, 0, 0], "{cores} cores");
    }
}

#[test]
fn a_block_may_wait_for_a_later_one() {
    // Block b waits until block b + 1 has set its flag; the last sets its own at once.
    let body = "setp.eq.u32 %p0, %r1, 7; @%p0 bra S; L: ld.acquire.gpu.global.u32 %r4, [%d1+4]; setp.eq.u32 %p1, %r4, 0; @%p1 bra L; S: st.release.gpu.global.u32 [%d1], 1;";
    let (result, words) = run(body, 8, 1, 4, 16);
    result.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(words[..8], [1; 8]);
}

#[test]
fn warps_of_a_block_may_wait_for_each_other() {
    let body = "setp.ge.u32 %p0, %r0, 32; @%p0 bra S; L: ld.volatile.global.u32 %r4, [%d0+256]; setp.eq.u32 %p1, %r4, 0; @%p1 bra L; bra E; S: st.volatile.global.u32 [%d0+256], 1; E:";
    let (result, _) = run(body, 1, 64, 2, 128);
    result.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn the_budget_is_that_of_all_blocks() {
    let body = "mov.u32 %r4, 0; L: add.u32 %r4, %r4, 1; setp.lt.u32 %p0, %r4, 1000; @%p0 bra L;";
    for cores in [1, 4] {
        let (result, _) = run_with(body, 10_000, 32, cores, 16, 1 << 20);
        let Err(Error::Kernel { fault, line, block, .. }) = result else { panic!("{result:?}") };
        assert_eq!((fault.kind, line, block), (FaultKind::Budget, 7, [0, 0, 0]), "{cores} cores");
    }
}

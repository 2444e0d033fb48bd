//! Instructions in which lanes look at each other: 32 lanes, one value each.

use ssmv_emulator::{Error, LaunchConfig, Memory, Module, Options, args, launch};

/// Runs a snippet in `threads` threads; `%r` of each.
fn warp(snippet: &str, threads: u32) -> Vec<u32> {
    warp_for("sm_90", snippet, threads).unwrap_or_else(|e| panic!("{snippet}: {e}"))
}

/// Likewise, in a module for another target.
fn warp_for(target: &str, snippet: &str, threads: u32) -> Result<Vec<u32>, Error> {
    let text = format!(
        "
.version 8.0
.target {target}
.address_size 64
.extern .shared .align 16 .b8 dynamic[];
.visible .entry test(.param .u64 out)
{{
    .reg .pred %p, %q;
    .reg .b32 %r<16>, %r, %t;
    .reg .b64 %out, %l<8>;
    ld.param.u64 %out, [out];
    mov.u32 %t, %tid.x;
    mul.wide.u32 %l0, %t, 4;
    add.u64 %out, %out, %l0;
    {snippet}
    st.global.u32 [%out], %r;
    ret;
}}
"
    );
    let memory = Memory::new(1 << 16);
    let module = Module::parse("test", &text)?.load(&memory)?;
    let out = memory.alloc(threads as usize * 4)?;
    let config = LaunchConfig { grid: [1; 3], block: [threads, 1, 1], shared: 4096 };
    launch(&memory, &module, "test", &config, &args![out], &Options::default())?;
    let mut bytes = vec![0; threads as usize * 4];
    memory.read(out, &mut bytes)?;
    Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[track_caller]
fn lanes(snippet: &str, expected: impl Fn(u32) -> u32) {
    assert_eq!(warp(snippet, 32), (0..32).map(expected).collect::<Vec<_>>(), "{snippet}");
}

#[test]
fn shuffles() {
    lanes("shfl.sync.idx.b32 %r, %t, 5, 31, -1;", |_| 5);
    lanes("shfl.sync.idx.b32 %r, %t, 5, 0x181f, -1;", |lane| lane / 8 * 8 + 5);
    lanes("shfl.sync.up.b32 %r, %t, 3, 0, -1;", |lane| if lane < 3 { lane } else { lane - 3 });
    lanes("shfl.sync.down.b32 %r, %t, 3, 31, -1;", |lane| if lane > 28 { lane } else { lane + 3 });
    lanes("shfl.sync.bfly.b32 %r, %t, 16, 31, -1;", |lane| lane ^ 16);
    lanes("shfl.sync.bfly.b32 %r, %t, 2, 0x1c1f, -1;", |lane| lane ^ 2);
    lanes("shfl.sync.down.b32 %r0|%p, %t, 3, 31, -1; selp.u32 %r, 1, 0, %p;", |lane| u32::from(lane < 29));
}

#[test]
fn votes_matches_and_reductions() {
    lanes("setp.lt.u32 %p, %t, 5; vote.sync.ballot.b32 %r, %p, -1;", |_| 31);
    lanes("setp.lt.u32 %p, %t, 5; vote.sync.all.pred %q, %p, -1; selp.u32 %r, 1, 0, %q;", |_| 0);
    lanes("setp.lt.u32 %p, %t, 5; vote.sync.any.pred %q, !%p, -1; selp.u32 %r, 1, 0, %q;", |_| 1);
    lanes("setp.lt.u32 %p, %t, 99; vote.sync.uni.pred %q, %p, -1; selp.u32 %r, 1, 0, %q;", |_| 1);
    lanes("and.b32 %r0, %t, 3; match.any.sync.b32 %r, %r0, -1;", |lane| 0x1111_1111 << (lane & 3));
    lanes("and.b32 %r0, %t, 3; match.all.sync.b32 %r|%p, %r0, -1;", |_| 0);
    lanes("mov.u32 %r0, 9; match.all.sync.b32 %r|%p, %r0, -1;", |_| u32::MAX);
    lanes("redux.sync.add.u32 %r, %t, -1;", |_| 496);
    lanes("sub.s32 %r0, %t, 5; redux.sync.min.s32 %r, %r0, -1;", |_| -5i32 as u32);
    lanes("redux.sync.xor.b32 %r, %t, -1;", |_| 0);
    lanes("activemask.b32 %r;", |_| u32::MAX);
    lanes("elect.sync %r0|%p, -1; selp.u32 %r, 1, 0, %p;", |lane| u32::from(lane == 0));
    lanes(
        "setp.lt.u32 %p, %t, 8; mov.u32 %r, 0; @!%p bra E; shfl.sync.idx.b32 %r, %t, 7, 31, 0xff; activemask.b32 %r1; add.u32 %r, %r, %r1; E:",
        |lane| if lane < 8 { 7 + 0xff } else { 0 },
    );
}

#[test]
fn constant_predicates_are_predicates() {
    lanes("vote.sync.ballot.b32 %r, 1, -1;", |_| u32::MAX);
    lanes("vote.sync.any.pred %p, 0, -1; selp.u32 %r, 1, 0, %p;", |_| 0);
    lanes("bar.red.popc.u32 %r, 0, 1;", |_| 32);
}

#[test]
fn lanes_that_ended_are_not_waited_for() {
    // 20 threads, of which those from 12 on end: a full mask means the 12 that are left.
    let ended =
        "mov.u32 %r, 99; st.global.u32 [%out], %r; setp.ge.u32 %p, %t, 12; @%p exit; setp.lt.u32 %q, %t, 5;";
    let some = |snippet: &str| {
        let found = warp(&format!("{ended} {snippet}"), 20);
        assert_eq!(found[12..], [99; 8], "{snippet}");
        found[..12].to_vec()
    };
    assert_eq!(some("vote.sync.ballot.b32 %r, 1, -1;"), [0xfff; 12]);
    assert_eq!(some("vote.sync.all.pred %p, 1, -1; selp.u32 %r, 1, 0, %p;"), [1; 12]);
    assert_eq!(some("vote.sync.uni.pred %p, %q, -1; selp.u32 %r, 1, 0, %p;"), [0; 12]);
    assert_eq!(some("bar.warp.sync -1; mov.u32 %r, 7;"), [7; 12]);
    assert_eq!(some("shfl.sync.idx.b32 %r, %t, 11, 31, -1;"), [11; 12]);
    assert_eq!(some("mov.u32 %r0, 4; match.all.sync.b32 %r|%p, %r0, -1;"), [0xfff; 12]);
    assert_eq!(some("redux.sync.add.u32 %r, %t, -1;"), [66; 12]);
    assert_eq!(some("elect.sync %r|%p, -1;"), [0; 12]);
}

#[test]
fn without_sync_the_lanes_that_run_it_take_part() {
    let old = |snippet: &str| warp_for("sm_60", snippet, 32).unwrap_or_else(|e| panic!("{snippet}: {e}"));
    let some = "mov.u32 %r, 0; setp.lt.u32 %p, %t, 5; setp.lt.u32 %q, %t, 8; @!%q bra E;";
    assert_eq!(
        old(&format!("{some} vote.ballot.b32 %r, !%p; E:"))[..9],
        [0xe0, 0xe0, 0xe0, 0xe0, 0xe0, 0xe0, 0xe0, 0xe0, 0]
    );
    assert_eq!(
        old(&format!("{some} vote.any.pred %p, %p; selp.u32 %r, 1, 0, %p; E:"))[..9],
        [1, 1, 1, 1, 1, 1, 1, 1, 0]
    );
    assert_eq!(
        old(&format!("{some} vote.all.pred %p, %p; selp.u32 %r, 1, 2, %p; E:"))[..9],
        [2, 2, 2, 2, 2, 2, 2, 2, 0]
    );
    assert_eq!(
        old(&format!("{some} vote.uni.pred %p, %q; selp.u32 %r, 1, 2, %p; E:"))[..9],
        [1, 1, 1, 1, 1, 1, 1, 1, 0]
    );
    assert_eq!(old("shfl.down.b32 %r|%p, %t, 3, 31; @!%p mov.u32 %r, 77;")[27..], [30, 31, 77, 77, 77]);
    // Newer targets have the forms with a mask alone, as ptxas has it.
    for (snippet, message) in [
        ("vote.all.pred %p, %p;", "test:15: vote without .sync is for targets below sm_70"),
        ("shfl.idx.b32 %r, %t, 0, 31;", "test:15: shfl without .sync is for targets below sm_70"),
        ("shfl.sync.idx.b32 %r, %t, 0, 31;", "test:15: expected 5 operands, not 4"),
    ] {
        let error = warp_for("sm_80", snippet, 32).expect_err(snippet).to_string();
        assert!(error.starts_with(message), "{snippet}: {error}");
    }
}

#[test]
fn divergence_and_reconvergence() {
    // A loop with as many turns as the lane's number, then all meet again.
    lanes(
        "mov.u32 %r, 0; mov.u32 %r0, 0; L: setp.ge.u32 %p, %r0, %t; @%p bra E; add.u32 %r, %r, %r0; add.u32 %r0, %r0, 1; bra L; E: activemask.b32 %r1; setp.eq.u32 %q, %r1, -1; @!%q mov.u32 %r, 0xdead;",
        |lane| lane * lane.wrapping_sub(1) / 2,
    );
    // Nested branches.
    lanes(
        "and.b32 %r0, %t, 1; setp.eq.u32 %p, %r0, 0; @%p bra A; mov.u32 %r, 1; setp.lt.u32 %q, %t, 16; @%q bra B; mov.u32 %r, 2; B: add.u32 %r, %r, 10; bra E; A: mov.u32 %r, 5; E: shfl.sync.idx.b32 %r1, %t, 0, 31, -1; add.u32 %r, %r, %r1;",
        |lane| {
            if lane % 2 == 0 {
                5
            } else if lane < 16 {
                11
            } else {
                12
            }
        },
    );
    // A jump table with another target in each lane.
    lanes(
        "and.b32 %r0, %t, 3; brx.idx %r0, T; T: .branchtargets A, B, C, D; A: mov.u32 %r, 7; bra E; B: mov.u32 %r, 8; bra E; C: mov.u32 %r, 9; D: mov.u32 %r, 10; E: activemask.b32 %r1; setp.ne.u32 %p, %r1, -1; @%p mov.u32 %r, 0;",
        |lane| [7, 8, 10, 10][lane as usize & 3],
    );
    // Threads that return early do not keep the others from a barrier.
    let some = warp(
        "mov.u32 %r, %t; setp.gt.u32 %p, %t, 39; @%p st.global.u32 [%out], %r; @%p bra R; bar.sync 0; add.u32 %r, %r, 100; st.global.u32 [%out], %r; R: ret;",
        64,
    );
    assert_eq!(some, (0..64).map(|t| if t > 39 { t } else { t + 100 }).collect::<Vec<_>>());
    // A return within a branch: the lanes left meet at the barrier.
    let some = warp(
        "mov.u32 %r, %t; st.global.u32 [%out], %r; setp.gt.u32 %p, %t, 20; @!%p bra C; setp.gt.u32 %q, %t, 25; @!%q bra C; ret; C: bar.sync 0; add.u32 %r, %r, 100;",
        32,
    );
    assert_eq!(some, (0..32).map(|t| if t > 25 { t } else { t + 100 }).collect::<Vec<_>>());
}

#[test]
fn barriers() {
    // Each thread reads what its mirror wrote.
    let mirrored = warp(
        "mov.u32 %r0, dynamic; mad.lo.u32 %r1, %t, 4, %r0; st.shared.u32 [%r1], %t; bar.sync 0; sub.u32 %r2, 127, %t; mad.lo.u32 %r2, %r2, 4, %r0; ld.shared.u32 %r, [%r2];",
        128,
    );
    assert_eq!(mirrored, (0..128).rev().collect::<Vec<_>>());
    let counted = warp("setp.lt.u32 %p, %t, 40; bar.red.popc.u32 %r, 0, %p;", 64);
    assert_eq!(counted, vec![40; 64]);
    let all = warp("setp.lt.u32 %p, %t, 40; barrier.cta.red.and.pred %q, 0, !%p; selp.u32 %r, 1, 0, %q;", 64);
    assert_eq!(all, vec![0; 64]);
    // The first warp tells the second when its value is there; it does not wait itself.
    let told = warp(
        "setp.lt.u32 %p, %t, 32; @!%p bra W; st.shared.u32 [dynamic], 7; bar.arrive 1, 64; mov.u32 %r, 0; bra E; W: bar.sync 1, 64; ld.shared.u32 %r, [dynamic]; E:",
        64,
    );
    assert_eq!(told, (0..64).map(|t| if t < 32 { 0 } else { 7 }).collect::<Vec<_>>());
    lanes("st.shared.u32 [dynamic], 3; bar.warp.sync -1; ld.shared.u32 %r, [dynamic];", |_| 3);
}

#[test]
fn tiles() {
    // Bytes 16·t … of each thread, by way of an asynchronous copy of the first 4 of 8 and zeros.
    lanes(
        "mov.u32 %r, 9; st.global.u32 [%out], %t; bar.warp.sync -1; mov.u32 %r0, dynamic; mad.lo.u32 %r0, %t, 4, %r0; cp.async.ca.shared.global [%r0], [%out], 4; cp.async.commit_group; cp.async.wait_group 0; ld.shared.u32 %r, [%r0]; add.u32 %r, %r, 1;",
        |lane| lane + 1,
    );
    // An 8×8 matrix whose element in row r, column c is 8·r + c: lane l gets 2·l and 2·l + 1.
    let fill = "mov.u32 %r0, dynamic; mad.lo.u32 %r1, %t, 4, %r0; mul.lo.u32 %r2, %t, 2; add.u32 %r3, %r2, 1; shl.b32 %r3, %r3, 16; or.b32 %r2, %r2, %r3; st.shared.u32 [%r1], %r2; bar.warp.sync -1; and.b32 %r4, %t, 7; mad.lo.u32 %r4, %r4, 16, %r0;";
    lanes(&format!("{fill} ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r}}, [%r4];"), |lane| {
        2 * lane + ((2 * lane + 1) << 16)
    });
    lanes(&format!("{fill} ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {{%r}}, [%r4];"), |lane| {
        let (column, row) = (lane / 4, lane % 4 * 2);
        8 * row + column + ((8 * (row + 1) + column) << 16)
    });
    // The same matrix in registers, stored as rows or as columns, and turned in registers.
    let held = "mul.lo.u32 %r2, %t, 2; add.u32 %r3, %r2, 1; shl.b32 %r3, %r3, 16; or.b32 %r2, %r2, %r3; mov.u32 %r0, dynamic; mad.lo.u32 %r1, %t, 4, %r0; and.b32 %r4, %t, 7; mad.lo.u32 %r4, %r4, 16, %r0;";
    let turned = |lane: u32| {
        let (column, row) = (lane / 4, lane % 4 * 2);
        8 * row + column + ((8 * (row + 1) + column) << 16)
    };
    lanes(
        &format!(
            "{held} stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r4], {{%r2}}; bar.warp.sync -1; ld.shared.u32 %r, [%r1];"
        ),
        |lane| 2 * lane + ((2 * lane + 1) << 16),
    );
    lanes(
        &format!(
            "{held} stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%r4], {{%r2}}; bar.warp.sync -1; ld.shared.u32 %r, [%r1];"
        ),
        turned,
    );
    lanes(&format!("{held} movmatrix.sync.aligned.m8n8.trans.b16 %r, %r2;"), turned);
    // Four matrices, lane i's address that of row i: the third's words lie from 256 on.
    lanes(
        &format!(
            "{held} mad.lo.u32 %r4, %t, 16, %r0; mov.u32 %r5, 5; stmatrix.sync.aligned.m8n8.x4.shared.b16 [%r4], {{%r5, %r5, %r2, %r5}}; bar.warp.sync -1; ld.shared.u32 %r, [%r1+256];"
        ),
        |lane| 2 * lane + ((2 * lane + 1) << 16),
    );
    // Ones times ones: every sum is k.
    let ones = "mov.b32 %r1, 0x3c003c00; mov.b32 %r2, 0;";
    lanes(
        &format!(
            "{ones} mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {{%r, %r3, %r4, %r5}}, {{%r1, %r1, %r1, %r1}}, {{%r1, %r1}}, {{%r2, %r2, %r2, %r2}};"
        ),
        |_| 16f32.to_bits(),
    );
    lanes(
        &format!(
            "{ones} mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {{%r, %r3, %r4, %r5}}, {{%r1, %r1}}, {{%r1}}, {{%r2, %r2, %r2, %r2}};"
        ),
        |_| 8f32.to_bits(),
    );
    lanes(
        &format!(
            "{ones} mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {{%r, %r3}}, {{%r1, %r1, %r1, %r1}}, {{%r1, %r1}}, {{%r2, %r2}};"
        ),
        |_| 0x4c00_4c00,
    );
}

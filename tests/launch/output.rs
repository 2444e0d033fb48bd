//! What ranks print.

use super::shell::{job, ran};

#[test]
fn every_line_says_its_rank() {
    let ran = ran(&job(2, "echo one; echo two; echo; echo to stderr >&2; printf 'no line break'"));
    let lines = |rank| ["", "no line break", "one", "two"].map(|line| format!("[rank {rank}] {line}"));
    assert_eq!(ran.lines(), [lines(0), lines(1)].concat());
    let mut stderr: Vec<_> = ran.stderr.split_inclusive(|byte| *byte == b'\n').collect();
    stderr.sort();
    assert_eq!(stderr, [b"[rank 0] to stderr\n", b"[rank 1] to stderr\n"]);
}

#[test]
fn a_rank_alone_is_passed_on_byte_for_byte() {
    let ran = ran(&job(1, r"printf 'a\nb\377\000c\r\n\n  no line break'; printf err >&2"));
    assert_eq!(ran.stdout, b"a\nb\xff\0c\r\n\n  no line break");
    assert_eq!(ran.stderr, b"err");
}

#[test]
fn lines_of_any_bytes_stay_whole() {
    let ran =
        ran(&job(4, r"i=0; while [ $i -lt 200 ]; do printf 'x\377\300y'; printf 'z\n'; i=$((i+1)); done"));
    let lines: Vec<_> = ran.stdout.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 800);
    for rank in 0..4 {
        let expected = [format!("[rank {rank}] x").as_bytes(), b"\xff\xc0yz\n"].concat();
        assert_eq!(lines.iter().filter(|line| **line == expected).count(), 200);
    }
}

#[test]
fn an_overlong_line_is_cut() {
    let length = 300_000;
    let ran = ran(&job(2, &format!("head -c {length} /dev/zero | tr '\\0' x")));
    for rank in 0..2 {
        let prefix = format!("[rank {rank}] ");
        let pieces: Vec<_> = ran.lines().into_iter().filter(|line| line.starts_with(&prefix)).collect();
        assert!(pieces.iter().all(|piece| piece.len() <= (64 << 10) + prefix.len()));
        assert_eq!(pieces.iter().map(|piece| piece.len() - prefix.len()).sum::<usize>(), length);
    }
}

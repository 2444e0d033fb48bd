//! `ssmv-raw kernels`: the list, the PTX that it writes, and what it says of an assembler. A script stands in for ptxas
//! here; `.ci/run` has the real one.

mod program;

use std::collections::BTreeMap;
use std::path::Path;

use program::run;
use ssmv_kernels::isa_tests;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn kernels_are_listed_with_what_they_use_and_do() {
    let output = run(Path::new("."), "kernels --filter silu_f16");
    let table = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(table.lines().next().unwrap().contains("registers"), "{table}");
    assert!(table.contains("pointwise (sm_80)"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("  silu_f16_n")), "{table}");

    let output = run(Path::new("."), "kernels --target all --json");
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    for target in ["sm_80", "sm_90a"] {
        assert!(rows.iter().any(|row| row["target"] == target && row["family"] == "gemm"), "{target}");
    }
    for row in &rows {
        let (name, registers) = (&row["name"], row["registers"].as_u64());
        assert!(registers.is_some_and(|n| (1..=255).contains(&n)), "{name}: {registers:?}: renew the table");
    }
}

#[test]
fn one_kernel_of_each_family_and_all_isa_tests_are_kept() {
    let rows = |options: &str| {
        let output = run(Path::new("."), &format!("kernels --target all --json {options}"));
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let mut groups = BTreeMap::<_, usize>::new();
        for row in rows {
            *groups.entry((row["family"].to_string(), row["target"].to_string())).or_default() += 1;
        }
        groups
    };
    let (all, kept) = (rows(""), rows("--one-per-family"));
    assert!(all.keys().eq(kept.keys()), "{kept:?}");
    for (group, count) in kept {
        let wanted = if group.0.contains(isa_tests::FAMILY) { all[&group] } else { 1 };
        assert_eq!(count, wanted, "{group:?}");
    }
}

#[test]
fn the_text_is_written_a_file_a_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let dump = "kernels --filter reduce --target all --dump ptx";
    let output = run(folder.path(), dump);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let files: Vec<_> =
        std::fs::read_dir(folder.path().join("ptx")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(files.len() > 2);
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let (kernel, target) = name.strip_suffix(".ptx").unwrap().rsplit_once('.').unwrap();
        let ptx = std::fs::read_to_string(file).unwrap();
        assert!(
            ptx.contains(&format!(".target {target}\n")) && ptx.contains(&format!(".entry {kernel}(")),
            "{name}"
        );
    }

    // What is there is kept, unless it is said otherwise.
    std::fs::write(&files[0], "mine").unwrap();
    let output = run(folder.path(), dump);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("exists already") && text(&output.stderr).contains("--force"));
    assert_eq!(std::fs::read_to_string(&files[0]).unwrap(), "mine");
    assert!(run(folder.path(), &format!("{dump} --force")).status.success());
    assert_ne!(std::fs::read_to_string(&files[0]).unwrap(), "mine");
    let output = run(folder.path(), &format!("kernels --dump {}", files[0].display()));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_is_no_assembler_is_refused() {
    for (path, part) in [("none/ptxas", "cannot be run"), (".", "cannot be run")] {
        let output = run(Path::new("."), &format!("kernels --ptxas {path}"));
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).starts_with(&format!("error: {path}: ")), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(part), "{}", text(&output.stderr));
    }
    #[cfg(unix)]
    {
        let output = run(Path::new("."), "kernels --ptxas /bin/echo");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("is not ptxas"), "{}", text(&output.stderr));
    }
}

/// A program that says what ptxas would, with these spills and this exit code.
#[cfg(unix)]
fn stand_in(folder: &Path, spills: u32, code: i32) {
    use std::os::unix::fs::PermissionsExt;

    let script = format!(
        "#!/bin/sh\n\
         [ \"$1\" = --version ] && {{ echo 'ptxas: tools, release 1.2, V1.2.3'; exit; }}\n\
         cat >/dev/null\n\
         [ {code} = 0 ] || {{ echo 'ptxas x, line 7; error   : no such thing' >&2; exit {code}; }}\n\
         echo '    0 bytes stack frame, {spills} bytes spill stores, 0 bytes spill loads' >&2\n\
         echo 'ptxas info    : Used 24 registers, used 1 barriers, 512 bytes smem' >&2\n"
    );
    let path = folder.join("ptxas");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(unix)]
#[test]
fn spills_and_errors_fail_and_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let check =
        |arguments: &str| run(folder.path(), &format!("kernels --filter adamw_ --ptxas ./ptxas {arguments}"));

    stand_in(folder.path(), 0, 0);
    let output = check("");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).lines().any(|line| line.contains("adamw_") && line.contains(" 24 ")));
    assert!(text(&output.stderr).contains("ptxas 1.2.3"));

    // Another version's table says nothing about this one.
    let output = check("--check");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("1.2.3") && text(&output.stderr).contains("--update"));

    stand_in(folder.path(), 16, 0);
    let output = check("");
    assert_eq!(output.status.code(), Some(1));
    let last = text(&output.stderr).lines().last().unwrap();
    assert!(last.starts_with("error: adamw_") && last.contains("16 bytes of spill stores"), "{last}");

    stand_in(folder.path(), 0, 255);
    let output = check("");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("line 7; error: no such thing"), "{}", text(&output.stderr));

    // The table is in the repository, and is not made elsewhere.
    stand_in(folder.path(), 0, 0);
    let output = run(folder.path(), "kernels --ptxas ./ptxas --update");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("repository's root"), "{}", text(&output.stderr));
    std::fs::create_dir_all(folder.path().join("kernels/ptx")).unwrap();
    std::fs::write(folder.path().join("kernels/ptx/resources.tsv"), "").unwrap();
    assert!(run(folder.path(), "kernels --ptxas ./ptxas --update").status.success());
    let table = std::fs::read_to_string(folder.path().join("kernels/ptx/resources.tsv")).unwrap();
    assert!(table.starts_with("# ptxas 1.2.3\nkernel\ttarget\tregisters\tshared\n"), "{table}");
    assert!(table.lines().skip(2).all(|line| line.ends_with("\t24\t512")), "{table}");
}

//! Trainings of several ranks on emulated devices as processes: all transports give the same bits, and NCCL's failures end all
//! ranks. NCCL is the test double of `comm/standin-nccl`, over the `libcuda.so.1` of `emulator/libcuda`.

#[path = "../comm/standin-nccl/libraries.rs"]
mod libraries;

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A launcher of ranks that train nano for a few steps, captured after the second.
fn launch(ranks: &[&str], device: &str, out: &Path, options: &[&str], environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssmv-raw"));
    command.arg("launch").args(ranks).args(["--grace", "20", "--", "train", "--preset", "nano"]);
    command.args(["--device", device, "--steps", "5", "--batch-size", "1", "--frames-in", "3"]);
    command.args(["--eval-sequences", "2", "--bucket-mib", "1", "--check-ranks-every", "2", "--out"]);
    command.arg(out).args(options);
    for name in ["RANK", "WORLD_SIZE", "SSMV_NCCL", "STANDIN_FAIL", "STANDIN_HANG", "STANDIN_LOSE"] {
        command.env_remove(name);
    }
    // What the kernels do to memory is checked by their own tests.
    command.env("SSMV_EMULATOR_CHECKS", "none").env("SSMV_CUDA_CHECKS", "none");
    command.envs(environment.iter().copied());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

fn finished(launcher: Child) -> Output {
    launcher.wait_with_output().expect("the launcher's output is text")
}

/// Two ranks on devices of the emulator.
fn train(out: &Path, options: &[&str], environment: &[(&str, &str)]) -> Output {
    finished(launch(&["--nproc", "2"], "emulator", out, options, environment))
}

/// Two ranks with the test double for NCCL, on devices of the emulated driver. For the ring, each is on a machine of its own:
/// within a machine it would use peer memory.
fn train_with_nccl(out: &Path, comm: &str, options: &[&str], environment: &[(&str, &str)]) -> Output {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["libcuda.so", "libcuda.so.1"] {
            symlink(libraries::emulated_driver(), folder.path().join(name)).expect("a link");
        }
        folder
    });
    let library = libraries::standin();
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let (folder, library) = (path(folder.path()), path(&library));
    let mut variables = vec![("LD_LIBRARY_PATH", folder.as_str()), ("SSMV_NCCL", library.as_str())];
    variables.extend(environment);
    let options = [options, &["--comm", comm]].concat();
    if comm == "nccl" {
        return finished(launch(&["--nproc", "2"], "cuda", out, &options, &variables));
    }
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.expect("a free port").port().to_string();
    let token = "5".repeat(64);
    variables.push(("SSMV_TOKEN", &token));
    let machines = ["0", "1"].map(|machine| {
        let ranks = ["--nproc", "1", "--nnodes", "2", "--node-rank", machine];
        let ranks = [&ranks[..], &["--master-addr", "127.0.0.1", "--master-port", &port]].concat();
        launch(&ranks, "cuda", out, &options, &variables)
    });
    let [mut first, second] = machines.map(finished);
    first.stderr.extend(second.stderr);
    Output { status: if first.status.success() { second.status } else { first.status }, ..first }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn checkpoint(out: &Path) -> [Vec<u8>; 2] {
    ["model.safetensors", "optimizer.safetensors"].map(|name| {
        fs::read(out.join("checkpoints/step-00000005").join(name)).expect("a finished run has it")
    })
}

#[test]
fn all_transports_of_the_gradients_give_the_same_bits() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |name: &str, transport: &str, train: &dyn Fn(&Path) -> Output| {
        let out = folder.path().join(name);
        let output = train(&out);
        assert!(output.status.success(), "{name}: {}", said(&output));
        assert!(said(&output).contains(transport), "{name}: {}", said(&output));
        checkpoint(&out)
    };
    let host = |name: &str, options: &[&str]| {
        check(name, "by pinned memory and TCP", &|out| train(out, options, &[("SSMV_NCCL", "/none")]))
    };
    let nccl = |name: &str, comm: &str, transport: &str, options: &[&str]| {
        check(name, transport, &|out| train_with_nccl(out, comm, options, &[]))
    };
    let staged = host("staged", &[]);
    let ring = nccl("ring", "ring", "by NCCL's sends and receives", &[]);
    assert!(staged == ring, "the ring adds up in one order on every transport");
    // The sum of two does not depend on the order.
    let own = nccl("nccl", "nccl", "by NCCL's all-reduce", &[]);
    assert!(staged == own, "NCCL's all-reduce of two ranks");
    let shared = host("shared", &["--zero", "1"]);
    let own = nccl("nccl-shared", "nccl", "by NCCL's all-reduce", &["--zero", "1"]);
    assert!(shared == own, "shares of the update, by the ring and by NCCL");
    let launched = host("launched", &["--no-graph"]);
    assert!(staged == launched, "captured in parts or launched one by one");
}

#[test]
fn ranks_end_nccl_in_good_order_and_abort_it_after_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    // How the communicators ended, in the order of the ranks.
    let ends = |name: &str, comm: &str, options: &[&str], request: (&str, &str)| {
        let log = folder.path().join(format!("{name}.log"));
        let log_path = log.to_str().expect("a path in UTF-8");
        let environment = [("STANDIN_LOG", log_path), request];
        let output = train_with_nccl(&folder.path().join(name), comm, options, &environment);
        let log = fs::read_to_string(log).unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
        let mut lines: Vec<_> = log.lines().map(str::to_owned).collect();
        lines.sort();
        (output, lines)
    };
    for comm in ["ring", "nccl"] {
        let (output, ends) = ends(comm, comm, &[], ("STANDIN_FAIL", ""));
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(ends, ["destroy 0", "destroy 1", "finalize 0", "finalize 1"], "{comm}");
    }
    // The rank that does not fail itself would leave work behind that spins. A quarter of the timeout is NCCL's, which with the
    // test double includes the work before it in the stream.
    let (output, ends) = ends("failed", "nccl", &["--comm-timeout", "24"], ("STANDIN_FAIL", "allreduce:9@1"));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(ends, ["abort 0", "abort 1"], "{}", said(&output));
}

#[test]
fn failures_of_nccl_end_all_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        // The trial has two all-reduces, and a step has two: the gradients and the loss. The ring sends twice for each of its
        // own.
        ("fail", "nccl", ("STANDIN_FAIL", "allreduce:9@1"), "ncclSystemError"),
        ("hang", "nccl", ("STANDIN_HANG", "allreduce:9@1"), "all-reduce"),
        ("hang-trial", "nccl", ("STANDIN_HANG", "allreduce:2@1"), "all-reduce"),
        ("hang-ring", "ring", ("STANDIN_HANG", "send:8@0"), "send"),
        ("lose", "nccl", ("STANDIN_LOSE", "allreduce:5@1"), "all-reduce"),
    ];
    for (name, comm, request, words) in cases {
        let start = Instant::now();
        let output = train_with_nccl(&folder.path().join(name), comm, &["--comm-timeout", "24"], &[request]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
        assert!(start.elapsed() < Duration::from_secs(60), "{name} took {:?}: {text}", start.elapsed());
        for rank in 0..2 {
            assert!(text.contains(&format!("[rank {rank}] error: ")), "{name}: {text}");
        }
        let errors: String = text.lines().filter(|line| line.contains("] error: ")).collect();
        assert!(errors.contains(words), "{name}: {text}");
    }
    let missing =
        train(&folder.path().join("none"), &["--comm", "nccl"], &[("SSMV_NCCL", "/none/libnccl.so")]);
    assert!(said(&missing).contains("/none/libnccl.so"), "{}", said(&missing));
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn a_resumed_training_of_shares_has_the_bits_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = [("SSMV_NCCL", "/none")];
    let (whole, halted) = (folder.path().join("whole"), folder.path().join("halted"));
    let output = train(&whole, &["--zero", "1", "--save-every-steps", "3", "--keep-last", "0"], &none);
    assert!(output.status.success(), "{}", said(&output));
    let third = whole.join("checkpoints/step-00000003");
    let output =
        train(&halted, &["--zero", "1", "--resume", third.to_str().expect("a path in UTF-8")], &none);
    assert!(output.status.success(), "{}", said(&output));
    assert!(checkpoint(&whole) == checkpoint(&halted), "resumed after step 3 of 5");
}

//! Tables of environments.

use super::slurm::{first_host, tasks_of};
use super::*;

/// The place in an environment written as `NAME=VALUE NAME=VALUE`.
fn read(text: &str) -> Result<Option<Place>, String> {
    let variables: Vec<_> = text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).collect();
    let get = |name: &str| variables.iter().rev().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned());
    place_in(get).map_err(|e| e.to_string())
}

/// As `rank/size local_rank/local_size master:port`.
fn show(place: Option<Place>) -> String {
    place.map_or("alone".into(), |p| {
        format!("{}/{} {}/{} {}:{}", p.rank, p.size, p.local_rank, p.local_size, p.master, p.port)
    })
}

const OURS: &str = "RANK=1 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=10.0.0.1 SSMV_PORT=4000 \
                    SSMV_LAUNCHER_PID=7";
const TORCH: &str = "RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=host-a MASTER_PORT=29500 \
                     TORCHELASTIC_RUN_ID=none";
const OPEN: &str = "OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_RANK=2 \
                    OMPI_COMM_WORLD_LOCAL_SIZE=4";
const HYDRA: &str = "PMI_RANK=0 PMI_SIZE=2 MPI_LOCALRANKID=0 MPI_LOCALNRANKS=2";
const SLURM: &str = "SLURM_JOB_ID=1234567 SLURM_STEP_ID=0 SLURM_PROCID=5 SLURM_NTASKS=9 SLURM_STEP_NUM_TASKS=7 \
                     SLURM_LOCALID=1 SLURM_NODEID=1 SLURM_STEP_TASKS_PER_NODE=4,3 SLURM_TASKS_PER_NODE=9 \
                     SLURM_STEP_NODELIST=node[03-04] SLURM_JOB_NODELIST=node[01-04]";

#[test]
fn every_launcher_gives_a_place() {
    for (base, more, expected) in [
        ("", "", "alone"),
        ("HOME=/root MASTER_ADDR=x SLURM_JOB_ID=3 SLURM_NTASKS=8", "", "alone"),
        (OURS, "", "1/4 1/2 10.0.0.1:4000"),
        (OURS, "RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1", "0/1 0/1 10.0.0.1:4000"),
        (TORCH, "", "3/4 1/2 host-a:29501"),
        (TORCH, "SSMV_PORT=5", "3/4 1/2 host-a:5"),
        (TORCH, "RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1", "alone"),
        ("RANK=0 WORLD_SIZE=1", "", "alone"),
        ("WORLD_SIZE=1", "", "alone"),
        (OPEN, "", "2/4 2/4 127.0.0.1:29600"),
        (OPEN, "MASTER_ADDR=b MASTER_PORT=100", "2/4 2/4 b:101"),
        (OPEN, "MASTER_ADDR=b MASTER_PORT=100 SSMV_PORT=9", "2/4 2/4 b:9"),
        (
            OPEN,
            "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1 OMPI_COMM_WORLD_LOCAL_RANK=0 \
                OMPI_COMM_WORLD_LOCAL_SIZE=1",
            "alone",
        ),
        (HYDRA, "", "0/2 0/2 127.0.0.1:29600"),
        (HYDRA, "MASTER_ADDR=c", "0/2 0/2 c:29600"),
        (SLURM, "", "5/7 1/3 node03:24567"),
        (SLURM, "MASTER_ADDR=d SSMV_PORT=6", "5/7 1/3 d:6"),
        (SLURM, "MASTER_PORT=29500", "5/7 1/3 node03:29501"),
        (SLURM, "WORLD_SIZE=7", "5/7 1/3 node03:24567"),
        (
            SLURM,
            "SLURM_STEP_NUM_TASKS= SLURM_STEP_NODELIST= SLURM_STEP_TASKS_PER_NODE= \
                 SLURM_TASKS_PER_NODE=4(x2),1",
            "5/9 1/4 node01:24567",
        ),
        (SLURM, "SLURM_STEP_NUM_TASKS=1", "alone"),
        // A batch script and an interactive shell are one process of a job of many.
        (SLURM, "SLURM_STEP_ID=", "alone"),
        (SLURM, "SLURM_STEP_ID=4294967291", "alone"),
        (SLURM, "SLURM_STEP_ID=4294967290", "alone"),
    ] {
        assert_eq!(read(&format!("{base} {more}")).map(show), Ok(expected.into()), "{base} {more}");
    }
    // Under Slurm, mpirun's ranks inherit its helper's variables from srun; torchrun's likewise.
    assert_eq!(read(&format!("{SLURM} {OPEN}")).map(show).unwrap(), "2/4 2/4 127.0.0.1:29600");
    assert_eq!(read(&format!("{SLURM} {HYDRA}")).map(show).unwrap(), "0/2 0/2 127.0.0.1:29600");
    assert_eq!(read(&format!("{SLURM} {OPEN} {TORCH}")).map(show).unwrap(), "3/4 1/2 host-a:29501");
}

#[test]
fn what_is_missing_or_wrong_is_named_with_its_value() {
    for (base, more, parts) in [
        (OURS, "LOCAL_RANK=", &["no LOCAL_RANK"][..]),
        (OURS, "LOCAL_WORLD_SIZE=", &["no LOCAL_WORLD_SIZE"]),
        (OURS, "MASTER_ADDR=", &["no MASTER_ADDR"]),
        (OURS, "SSMV_PORT=", &["no MASTER_PORT", "SSMV_PORT"]),
        (OURS, "WORLD_SIZE=", &["no WORLD_SIZE"]),
        (OURS, "RANK= WORLD_SIZE=", &["no RANK"]),
        (TORCH, "WORLD_SIZE=", &["no WORLD_SIZE", "RANK is 3"]),
        (TORCH, "RANK=", &["no RANK", "WORLD_SIZE is 4"]),
        ("RANK=0", "", &["no WORLD_SIZE", "RANK is 0"]),
        (OURS, "RANK=-1", &["RANK=\"-1\""]),
        (OURS, "RANK=one", &["RANK=\"one\""]),
        (OURS, "RANK=4", &["RANK=4 and WORLD_SIZE=4"]),
        (OURS, "WORLD_SIZE=0", &["WORLD_SIZE=0", "one rank"]),
        (OURS, "LOCAL_WORLD_SIZE=0", &["LOCAL_WORLD_SIZE=0", "one rank"]),
        (OURS, "LOCAL_RANK=2", &["LOCAL_RANK=2 and LOCAL_WORLD_SIZE=2"]),
        (OURS, "LOCAL_WORLD_SIZE=5", &["LOCAL_WORLD_SIZE=5 and WORLD_SIZE=4"]),
        (OURS, "SSMV_PORT=0", &["SSMV_PORT=\"0\"", "1 to 65535"]),
        (OURS, "SSMV_PORT=65536", &["SSMV_PORT=\"65536\""]),
        (TORCH, "MASTER_PORT=65535", &["MASTER_PORT=\"65535\"", "65534"]),
        (OPEN, "OMPI_COMM_WORLD_LOCAL_SIZE=3", &["no MASTER_ADDR", "-x"]),
        (OPEN, "OMPI_COMM_WORLD_SIZE=", &["no OMPI_COMM_WORLD_SIZE"]),
        (OPEN, "RANK=1", &["RANK=1", "says 2"]),
        (SLURM, "WORLD_SIZE=8", &["WORLD_SIZE=8", "says 7"]),
        (SLURM, "SLURM_LOCALID=", &["no SLURM_LOCALID"]),
        (SLURM, "SLURM_NODEID=", &["no SLURM_NODEID"]),
        (SLURM, "SLURM_NODEID=2", &["SLURM_NODEID=2 and SLURM_STEP_TASKS_PER_NODE=4,3"]),
        (SLURM, "SLURM_LOCALID=3", &["SLURM_LOCALID=3 and SLURM_STEP_TASKS_PER_NODE=4,3"]),
        (SLURM, "SLURM_STEP_TASKS_PER_NODE=4(x", &["SLURM_STEP_TASKS_PER_NODE=\"4(x\""]),
        (SLURM, "SLURM_STEP_NODELIST=node[", &["SLURM_STEP_NODELIST=\"node[\""]),
        (SLURM, "SLURM_STEP_NODELIST= SLURM_JOB_NODELIST=", &["no SLURM_JOB_NODELIST", "MASTER_ADDR"]),
        (SLURM, "SLURM_JOB_ID=", &["no SLURM_JOB_ID"]),
    ] {
        let error = read(&format!("{base} {more}")).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{more}: {error}");
    }
}

#[test]
fn lists_of_nodes_have_a_first() {
    for (list, first) in [
        ("node7", Some("node7")),
        ("gpu-a,gpu-b", Some("gpu-a")),
        ("node[01-04,7]", Some("node01")),
        ("node[7,01-04],other", Some("node7")),
        ("rack[2-3]-node[010-012].cluster", Some("rack2-node010.cluster")),
        ("a1,node[1-2]", Some("a1")),
        ("", None),
        (",a", None),
        ("[", None),
        ("node[", None),
        ("node[]", None),
        ("node[-3]", None),
        ("node[x-y]", None),
        ("no de", None),
        ("é[1]", None),
    ] {
        assert_eq!(first_host(list).as_deref(), first, "{list}");
    }
}

#[test]
fn lists_of_tasks_have_one_for_each_node() {
    for (list, node, tasks) in [
        ("4", 0, Some(Some(4))),
        ("4", 1, Some(None)),
        ("4(x2),3", 1, Some(Some(4))),
        ("4(x2),3", 2, Some(Some(3))),
        ("2,1(x3)", 3, Some(Some(1))),
        ("2,1(x3)", 4, Some(None)),
        ("", 0, None),
        ("4(x2", 0, None),
        ("4(2)", 0, None),
        ("1(x18446744073709551615),1", 0, None),
    ] {
        assert_eq!(tasks_of(list, node), tasks, "{list} {node}");
    }
}

//! Memory and processor of the host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::simd;

/// The memory available to this process: the machine's, or less if a control group (Docker, Slurm, Kubernetes) limits
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// Total memory in bytes: the machine's, or the smallest limit if that is less.
    pub total: u64,
    /// Bytes that can be allocated without swapping and below every limit.
    pub available: u64,
}

/// The process's memory now; `None` on systems other than Linux, which have no file for it.
pub fn host_memory() -> Option<HostMemory> {
    memory_below(Path::new("/"))
}

/// [`host_memory`] with the system's files in the folder `root`.
fn memory_below(root: &Path) -> Option<HostMemory> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let machine = parse_memory(&read("proc/meminfo")?)?;
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let folders = group_folders(&groups.unwrap_or_default(), &mounts.unwrap_or_default());
    let limits = folders.iter().filter_map(|folder| group_memory(&root.join(folder)));
    Some(limits.fold(machine, |least, limit| HostMemory {
        total: least.total.min(limit.total),
        available: least.available.min(limit.available),
    }))
}

/// The folders of the control groups that limit this process's memory, without the first `/`: its own and those above it, by
/// `/proc/self/cgroup` and `/proc/self/mountinfo` (cgroups(7), proc(5)). Version 2 has one hierarchy, with the number 0;
/// version 1 one for memory.
fn group_folders(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for mount in mounts.lines() {
        // ID PARENT DEVICE ROOT FOLDER OPTIONS… - TYPE SOURCE OPTIONS
        let Some((left, right)) = mount.split_once(" - ") else { continue };
        let (left, right): (Vec<_>, Vec<_>) = (left.split(' ').collect(), right.split(' ').collect());
        let (Some(&top), Some(&folder), Some(&kind)) = (left.get(3), left.get(4), right.first()) else {
            continue;
        };
        let of_memory = right.get(2).is_some_and(|options| options.split(',').any(|o| o == "memory"));
        let group = groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let fits = match kind {
                "cgroup2" => number == "0",
                "cgroup" => of_memory && controllers.split(',').any(|controller| controller == "memory"),
                _ => false,
            };
            fits.then_some(path)
        });
        let Some(group) = group else { continue };
        let mounted = Path::new(folder.trim_start_matches('/'));
        // In a container, the hierarchy is often mounted from the container's own group on, or the path begins at
        // another group than the mount: then only the mounted group itself is known.
        let below = Path::new(group).strip_prefix(top).unwrap_or(Path::new(""));
        folders.extend(below.ancestors().map(|part| mounted.join(part)));
    }
    folders
}

/// The limit of one control group, from the files of version 2 or 1; `None` without a limit.
fn group_memory(folder: &Path) -> Option<HostMemory> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let (total, used, cache) = match number("memory.max") {
        Some(limit) => (limit, number("memory.current"), "inactive_file "),
        None => (number("memory.limit_in_bytes")?, number("memory.usage_in_bytes"), "total_inactive_file "),
    };
    // The system frees its file cache before it enforces a limit.
    let statistics = read("memory.stat").unwrap_or_default();
    let cached = statistics.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse().ok());
    let used = used.unwrap_or(0).saturating_sub(cached.unwrap_or(0));
    Some(HostMemory { total, available: total.saturating_sub(used) })
}

/// The processor's product name, if the system has a file with it.
pub fn processor() -> Option<String> {
    parse_processor(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

/// Width of the CPU kernels' vectors on this machine in bits; 32 without vector instructions.
pub fn vector_bits() -> usize {
    simd::native_lanes::<f32>() * 32
}

/// Parses Linux's `meminfo`.
fn parse_memory(meminfo: &str) -> Option<HostMemory> {
    let bytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(HostMemory { total: bytes("MemTotal:")?, available: bytes("MemAvailable:")? })
}

/// Parses Linux's `cpuinfo`.
fn parse_processor(cpuinfo: &str) -> Option<String> {
    let names = ["model name", "Hardware", "cpu model"];
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let name = fields.find(|(key, _)| names.contains(&key.trim()))?.1.trim();
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal: 1000 kB\nMemAvailable: 800 kB\n";
    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const OF_MEMORY: &str = "36 32 0:31 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";
    const OF_CPU: &str = "37 32 0:32 / /sys/fs/cgroup/cpu rw shared:10 - cgroup cgroup rw,cpu\n";

    /// The memory of a simulated system with these files.
    fn memory(files: &[(&str, &str)]) -> Option<HostMemory> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("ssmv-host-{}-{number}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let memory = memory_below(&root);
        let _ = fs::remove_dir_all(root);
        memory
    }

    #[test]
    fn the_smallest_limit_up_the_hierarchy_counts() {
        const K: u64 = 1024;
        for (case, files, total, available) in [
            ("none", vec![], 1000 * K, 800 * K),
            (
                "version 2: the group above has the limit",
                vec![
                    ("proc/self/cgroup", "0::/slurm/job/step\n"),
                    ("proc/self/mountinfo", UNIFIED),
                    ("sys/fs/cgroup/slurm/job/step/memory.max", "max\n"),
                    ("sys/fs/cgroup/slurm/job/memory.max", "307200\n"),
                    ("sys/fs/cgroup/slurm/job/memory.current", "204800\n"),
                    ("sys/fs/cgroup/slurm/job/memory.stat", "anon 5\ninactive_file 102400\n"),
                    ("sys/fs/cgroup/slurm/memory.max", "512000\n"),
                ],
                300 * K,
                200 * K,
            ),
            (
                "version 2: little is left of a large limit above",
                vec![
                    ("proc/self/cgroup", "0::/a/b"),
                    ("proc/self/mountinfo", UNIFIED),
                    ("sys/fs/cgroup/a/b/memory.max", "307200"),
                    ("sys/fs/cgroup/a/memory.max", "614400"),
                    ("sys/fs/cgroup/a/memory.current", "604160"),
                ],
                300 * K,
                10 * K,
            ),
            (
                "version 2 in a namespace of its own, as in Docker and Kubernetes",
                vec![
                    ("proc/self/cgroup", "0::/\n"),
                    ("proc/self/mountinfo", UNIFIED),
                    ("sys/fs/cgroup/memory.max", "102400\n"),
                    ("sys/fs/cgroup/memory.current", "204800\n"),
                ],
                100 * K,
                0,
            ),
            (
                "version 1 beside an empty version 2",
                vec![
                    ("proc/self/cgroup", "5:cpu:/other\n4:memory:/slurm/job\n0::/init\n"),
                    ("proc/self/mountinfo", &[OF_CPU, OF_MEMORY].concat()),
                    ("sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes", "204800\n"),
                    ("sys/fs/cgroup/memory/slurm/job/memory.usage_in_bytes", "102400\n"),
                    (
                        "sys/fs/cgroup/memory/slurm/job/memory.stat",
                        "inactive_file 1\ntotal_inactive_file 51200\n",
                    ),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                    ("sys/fs/cgroup/cpu/other/memory.limit_in_bytes", "1\n"),
                ],
                200 * K,
                150 * K,
            ),
            (
                "version 1, mounted from the container's group on",
                vec![
                    ("proc/self/cgroup", "4:memory:/docker/c0ffee\n"),
                    ("proc/self/mountinfo", &OF_MEMORY.replace(" / ", " /docker/c0ffee ")),
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "102400\n"),
                ],
                100 * K,
                100 * K,
            ),
            (
                "a path that is not below the mount",
                vec![
                    ("proc/self/cgroup", "0::/../elsewhere\n"),
                    ("proc/self/mountinfo", &UNIFIED.replace(" / ", " /mine ")),
                    ("sys/fs/cgroup/memory.max", "102400\n"),
                ],
                100 * K,
                100 * K,
            ),
            (
                "no limit, and files that are damaged",
                vec![
                    ("proc/self/cgroup", "0::/a\n:\n"),
                    ("proc/self/mountinfo", &[" - \n1 - cgroup2\n", UNIFIED].concat()),
                    ("sys/fs/cgroup/a/memory.max", "-1\n"),
                ],
                1000 * K,
                800 * K,
            ),
        ] {
            let files = [&[("proc/meminfo", MEMINFO)], &files[..]].concat();
            assert_eq!(memory(&files), Some(HostMemory { total, available }), "{case}");
        }
        assert_eq!(memory(&[("proc/self/cgroup", "0::/")]), None);
    }

    #[test]
    fn reads_what_linux_writes() {
        let text = "MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:    2 kB\n";
        assert_eq!(parse_memory(text), Some(HostMemory { total: 9 << 10, available: 2 << 10 }));
        assert_eq!(parse_memory("MemTotal: 9 kB\n"), None);
        assert_eq!(parse_memory("MemTotal: 9 kB\nMemAvailable: x kB"), None);
        assert_eq!(parse_processor("processor : 0\nmodel name\t: A: fast one\n").unwrap(), "A: fast one");
        assert_eq!(parse_processor("processor : 0\n"), None);
    }
}

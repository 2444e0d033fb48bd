//! What is known of the machine that the program runs on.

use crate::simd;

/// The host's memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// In all.
    pub total: u64,
    /// What a new program can have.
    pub available: u64,
}

/// The host's memory now; `None` from systems other than Linux, which do not say it in a file.
pub fn host_memory() -> Option<HostMemory> {
    parse_memory(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// The processor's name as its maker writes it, where the system says it in a file.
pub fn processor() -> Option<String> {
    parse_processor(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

/// Bits of the vectors that the CPU kernels compute in on this machine; 32 where they have none.
pub fn vector_bits() -> usize {
    simd::native_lanes::<f32>() * 32
}

/// From the text of Linux's `meminfo`.
fn parse_memory(meminfo: &str) -> Option<HostMemory> {
    let bytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(HostMemory { total: bytes("MemTotal:")?, available: bytes("MemAvailable:")? })
}

/// From the text of Linux's `cpuinfo`.
fn parse_processor(cpuinfo: &str) -> Option<String> {
    let names = ["model name", "Hardware", "cpu model"];
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let name = fields.find(|(key, _)| names.contains(&key.trim()))?.1.trim();
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! `doctor`: this machine's hardware and drivers, and which of them the program uses.

use clap::Args;
use serde::Serialize;
use ssmv_autograd::cuda::{self, Backend, Cuda, DeviceInfo};

use super::Ui;
use crate::Result;
use crate::config::Device;

/// Command-line arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw doctor
  ssmv-raw doctor --json";

/// Findings about this machine.
#[derive(Debug, Serialize)]
struct Findings {
    cpu: Cpu,
    /// `None` if the system does not report it.
    memory: Option<Memory>,
    driver: Driver,
    devices: Vec<Gpu>,
    nccl: Option<Nccl>,
    emulator: Emulator,
    /// Device that `--device auto` selects.
    auto: Device,
}

#[derive(Debug, Serialize)]
struct Cpu {
    model: Option<String>,
    threads: usize,
    /// Instruction sets of the CPU that the program can use.
    features: Vec<&'static str>,
    /// Vector width of the CPU kernels in bits.
    vector_bits: usize,
}

#[derive(Debug, Serialize)]
struct Memory {
    total_bytes: u64,
    available_bytes: u64,
}

/// One of the two is present.
#[derive(Debug, Default, Serialize)]
struct Driver {
    /// CUDA version of the driver.
    cuda_version: Option<String>,
    /// Reason why there are no devices.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Gpu {
    ordinal: u32,
    name: String,
    memory_bytes: u64,
    /// `None` if the device cannot be opened.
    free_bytes: Option<u64>,
    compute_capability: String,
    multiprocessors: u32,
    l2_bytes: u64,
    pci: String,
    /// True if the kernels run on it: compute capability 8.0 or later.
    usable: bool,
    /// Reason why a usable device could not be opened.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Nccl {
    library: &'static str,
    version: Option<String>,
}

#[derive(Debug, Serialize)]
struct Emulator {
    /// Device that it emulates.
    compute_capability: Option<String>,
    memory_bytes: Option<u64>,
    /// Error in its settings.
    error: Option<String>,
}

/// Prints the findings. A missing part is not an error.
pub fn run(args: &DoctorArgs, ui: &Ui) -> Result<()> {
    let findings = look();
    if args.json { ui.json(&findings) } else { ui.print(&text(&findings)) }
}

fn look() -> Findings {
    let mut auto = Device::Cpu;
    let (driver, devices) = match cuda::devices(Backend::Nvidia) {
        Ok(devices) => {
            if devices.iter().any(cuda::is_usable) {
                auto = Device::Cuda;
            }
            let cuda_version = devices.first().map(|device| pair(device.driver));
            let error = devices.is_empty().then(|| "the NVIDIA driver reports no device".to_owned());
            (Driver { cuda_version, error }, devices.iter().map(gpu).collect())
        }
        Err(error) => (Driver { cuda_version: None, error: Some(error.to_string()) }, Vec::new()),
    };
    let emulator = match cuda::devices(Backend::Emulated) {
        Ok(devices) => Emulator {
            compute_capability: devices.first().map(|device| pair(device.capability)),
            memory_bytes: devices.first().map(|device| device.memory),
            error: None,
        },
        Err(error) => {
            Emulator { compute_capability: None, memory_bytes: None, error: Some(error.to_string()) }
        }
    };
    Findings {
        cpu: Cpu {
            model: ssmv_autograd::processor(),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            features: features(),
            vector_bits: ssmv_autograd::vector_bits(),
        },
        memory: ssmv_autograd::host_memory()
            .map(|memory| Memory { total_bytes: memory.total, available_bytes: memory.available }),
        driver,
        devices,
        nccl: ssmv_comm::nccl::find().map(|found| Nccl {
            library: found.library,
            version: found.version.map(|(major, minor, patch)| format!("{major}.{minor}.{patch}")),
        }),
        emulator,
        auto,
    }
}

/// A GPU, opened to ask for its free memory.
fn gpu(device: &DeviceInfo) -> Gpu {
    let usable = cuda::is_usable(device);
    let opened =
        usable.then(|| Cuda::open(Backend::Nvidia, device.ordinal).and_then(|cuda| cuda.driver().memory()));
    let (free_bytes, error) = match opened {
        None => (None, None),
        Some(Ok(memory)) => (Some(memory.free), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    };
    Gpu {
        ordinal: device.ordinal,
        name: device.name.clone(),
        memory_bytes: device.memory,
        free_bytes,
        compute_capability: pair(device.capability),
        multiprocessors: device.multiprocessors,
        l2_bytes: device.l2_bytes,
        pci: device.pci.clone(),
        usable,
        error,
    }
}

/// Instruction sets that both the CPU and the CPU kernels have.
fn features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! found {
            ($($name:tt),*) => {
                [$(($name, std::arch::is_x86_feature_detected!($name))),*]
            };
        }
        let all = found!("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512bf16");
        all.into_iter().filter_map(|(name, found)| found.then_some(name)).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        if cfg!(target_feature = "neon") { vec!["neon"] } else { Vec::new() }
    }
}

fn pair((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// Bytes in GB: `79.1 GB`.
fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

/// One line for each finding: its name, its value, and how the program uses it.
fn text(findings: &Findings) -> String {
    let Findings { cpu, memory, driver, devices, nccl, emulator, auto } = findings;
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |what: &str, found: String| lines.push((what.to_owned(), found));
    let model = cpu.model.as_deref().unwrap_or("unknown");
    line("processor", format!("{model}, {} threads, all used unless --threads limits them", cpu.threads));
    let vectors = match cpu.vector_bits {
        32 => "no vector instructions are used".to_owned(),
        bits => format!("{bits}-bit vectors are used"),
    };
    let features = if cpu.features.is_empty() { "none".to_owned() } else { cpu.features.join(" ") };
    line("instructions", format!("{features}; {vectors}"));
    line(
        "memory",
        memory.as_ref().map_or("unknown".to_owned(), |memory| {
            format!("{}, {} available", gigabytes(memory.total_bytes), gigabytes(memory.available_bytes))
        }),
    );
    line(
        "driver",
        match (&driver.error, &driver.cuda_version) {
            (Some(error), _) => error.clone(),
            (None, Some(version)) => format!("NVIDIA, CUDA {version}"),
            (None, None) => "NVIDIA, version unknown".to_owned(),
        },
    );
    for gpu in devices {
        line(&format!("device {}", gpu.ordinal), gpu_line(gpu));
    }
    line(
        "nccl",
        match nccl {
            None => "not found; only --comm nccl on several GPUs needs it".to_owned(),
            Some(Nccl { library, version: None }) => format!("{library}, of unknown version"),
            Some(Nccl { library, version: Some(version) }) => format!("{version} ({library})"),
        },
    );
    line(
        "emulator",
        match emulator {
            Emulator { error: Some(error), .. } => error.clone(),
            Emulator { compute_capability, memory_bytes, .. } => format!(
                "emulates a GPU of compute capability {} with {}, for tests",
                compute_capability.as_deref().unwrap_or("-"),
                gigabytes(memory_bytes.unwrap_or(0))
            ),
        },
    );
    line("--device auto", format!("selects {auto}"));
    let width = lines.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
    lines.iter().map(|(what, found)| format!("{what:<width$}  {found}\n")).collect()
}

fn gpu_line(gpu: &Gpu) -> String {
    let free = gpu.free_bytes.map_or(String::new(), |free| format!(" ({} free)", gigabytes(free)));
    let verdict = match (&gpu.error, gpu.usable) {
        (Some(error), _) => error.clone(),
        (None, true) => "the kernels run on it".to_owned(),
        (None, false) => "too old: the kernels need compute capability 8.0".to_owned(),
    };
    format!(
        "{}, {}{free}, compute capability {}, {} multiprocessors, L2 {} MB, PCI {}; {verdict}",
        gpu.name,
        gigabytes(gpu.memory_bytes),
        gpu.compute_capability,
        gpu.multiprocessors,
        gpu.l2_bytes / 1_000_000,
        gpu.pci
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(usable: bool, error: Option<&str>) -> Gpu {
        Gpu {
            ordinal: 3,
            name: "A GPU".to_owned(),
            memory_bytes: 80_000_000_000,
            free_bytes: usable.then_some(79_000_000_000),
            compute_capability: "9.0".to_owned(),
            multiprocessors: 132,
            l2_bytes: 50_000_000,
            pci: "0000:01:00.0".to_owned(),
            usable,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn every_finding_has_a_line() {
        let mut findings = look();
        findings.devices = vec![gpu(true, None), gpu(false, None), gpu(true, Some("it is broken"))];
        findings.nccl = Some(Nccl { library: "libnccl.so.2", version: Some("2.27.3".to_owned()) });
        let text = text(&findings);
        for part in [
            "processor ",
            "instructions ",
            "memory ",
            "driver ",
            "A GPU, 80.0 GB (79.0 GB free), compute capability 9.0, 132 multiprocessors, L2 50 MB, PCI 0000:01:00.0; the \
             kernels run on it\n",
            "; too old",
            "; it is broken\n",
            "2.27.3 (libnccl.so.2)",
            "emulator ",
            "selects cpu",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        assert_eq!(text.lines().count(), 10, "{text}");
    }
}

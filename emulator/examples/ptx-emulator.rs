//! Runs a kernel of a PTX file and says what it did, or what it did wrong.
//!
//! `cargo run -p ssmv-emulator --example ptx-emulator -- run FILE.ptx --block 256 --arg random-f32:256:1 --arg buffer:1024`

use std::process::ExitCode;

use ssmv_emulator::{
    Approximation, Arguments, Checks, LaunchConfig, Memory, Module, Options, TensorCore, launch,
};

const USAGE: &str = "\
usage: ptx-emulator run FILE.ptx [options]
       ptx-emulator list FILE.ptx

  --kernel NAME          the kernel; needed where the file has several
  --grid X[,Y[,Z]]       blocks (default 1)
  --block X[,Y[,Z]]      threads of a block (default 32)
  --shared BYTES         dynamic shared memory
  --arg ARGUMENT         one for each parameter, in order:
      u32:7 s32:-7 u64:7 f32:0.5 f64:0.5     a value
      buffer:BYTES                           memory that nothing has written
      zeros:BYTES                            memory filled with 0
      random-f32:COUNT:SEED                  floats in [-1, 1)
      random-f16:COUNT:SEED                  halves in [-1, 1)
      iota-u32:COUNT                         0, 1, 2, …
      null                                   the null pointer
  --print ARG:TYPE:N     the first N values of buffer ARG (from 0) after the run; TYPE is u8, u32, s32, u64, f16, f32 or f64
  --memory BYTES         the device's memory (default 1 GiB)
  --budget N             instructions of a warp before the run is given up
  --threads N            cores (default all)
  --ampere               tensor cores as the A100's
  --worst                approximate instructions with all the error that the PTX ISA allows
  --no-checks            bounds and alignment only";

/// An argument as it will be passed, with its buffer if it has one.
struct Argument {
    bytes: Vec<u8>,
    /// Its address and size in bytes.
    buffer: Option<(u64, usize)>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match program(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn program(arguments: &[String]) -> Result<(), String> {
    match arguments {
        [command, file, rest @ ..] if command == "run" => run(file, rest),
        [command, file] if command == "list" => list(file),
        _ => Err(USAGE.to_owned()),
    }
}

fn read(file: &str) -> Result<Module, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    Module::parse(file, &text).map_err(|e| e.to_string())
}

fn list(file: &str) -> Result<(), String> {
    for kernel in read(file)?.kernels() {
        let parameters: Vec<String> =
            kernel.parameters.iter().map(|p| format!("{}: {} bytes", p.name, p.bytes)).collect();
        println!(
            "{}({}), {} bytes of shared memory",
            kernel.name,
            parameters.join(", "),
            kernel.static_shared
        );
    }
    Ok(())
}

fn run(file: &str, options: &[String]) -> Result<(), String> {
    let module = read(file)?;
    let mut kernel = None;
    let mut config = LaunchConfig { grid: [1; 3], block: [32, 1, 1], shared: 0 };
    let mut settings = Options::default();
    let (mut specifications, mut prints, mut limit) = (Vec::new(), Vec::new(), 1usize << 30);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let mut value = || options.next().ok_or_else(|| format!("{option} needs a value\n\n{USAGE}"));
        match option.as_str() {
            "--kernel" => kernel = Some(value()?.clone()),
            "--grid" => config.grid = shape(value()?)?,
            "--block" => config.block = shape(value()?)?,
            "--shared" => config.shared = number(value()?)?,
            "--arg" => specifications.push(value()?.clone()),
            "--print" => prints.push(value()?.clone()),
            "--memory" => limit = number(value()?)?,
            "--budget" => settings.budget = number(value()?)?,
            "--threads" => settings.threads = number(value()?)?,
            "--ampere" => settings.tensor_core = TensorCore::Ampere,
            "--worst" => settings.approximation = Approximation::Worst,
            "--no-checks" => settings.checks = Checks::NONE,
            _ => return Err(format!("unknown option {option}\n\n{USAGE}")),
        }
    }
    let names: Vec<&str> = module.kernels().map(|k| k.name.as_str()).collect();
    let kernel = match (kernel, names.as_slice()) {
        (Some(kernel), _) => kernel,
        (None, [only]) => (*only).to_owned(),
        (None, []) => return Err(format!("{file} has no kernel")),
        (None, several) => return Err(format!("--kernel: one of {}", several.join(", "))),
    };
    let memory = Memory::new(limit);
    let loaded = module.load(&memory).map_err(|e| e.to_string())?;
    let mut arguments = Vec::new();
    for specification in &specifications {
        arguments.push(argument(&memory, specification)?);
    }
    let bytes: Arguments = arguments.iter().map(|argument| &argument.bytes).collect();
    let report = launch(&memory, &loaded, &kernel, &config, &bytes, &settings).map_err(|e| e.to_string())?;
    println!(
        "{kernel}: {} warp instructions, {} lane instructions",
        report.warp_instructions, report.lane_instructions
    );
    println!("  barriers          {}", report.barriers);
    println!("  tensor MACs       {}", report.tensor_macs);
    if settings.checks.traffic {
        println!(
            "  global memory     {} requests, {} sectors (ideal {})",
            report.global_requests, report.global_sectors, report.global_sectors_ideal
        );
        println!(
            "  shared memory     {} requests, {} passes, {} bank conflicts",
            report.shared_requests, report.shared_passes, report.bank_conflicts
        );
    }
    for print in &prints {
        show(&memory, &arguments, print)?;
    }
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number that fits here"))
}

fn shape(text: &str) -> Result<[u32; 3], String> {
    let mut out = [1; 3];
    let parts: Vec<&str> = text.split(',').collect();
    if parts.len() > 3 {
        return Err(format!("{text} is not X,Y,Z"));
    }
    for (n, part) in out.iter_mut().zip(parts) {
        *n = number(part)?;
    }
    Ok(out)
}

fn argument(memory: &Memory, specification: &str) -> Result<Argument, String> {
    let value = |bytes: Vec<u8>| Ok(Argument { bytes, buffer: None });
    let filled = |bytes: usize, content: Option<Vec<u8>>| -> Result<Argument, String> {
        let address = memory.alloc(bytes).map_err(|e| format!("--arg {specification}: {e}"))?;
        if let Some(content) = content {
            memory.write(address, &content).map_err(|e| e.to_string())?;
        }
        Ok(Argument { bytes: address.to_le_bytes().to_vec(), buffer: Some((address, bytes)) })
    };
    let parts: Vec<&str> = specification.split(':').collect();
    match parts.as_slice() {
        ["u32", x] => value(number::<u32>(x)?.to_le_bytes().to_vec()),
        ["s32", x] => value(number::<i32>(x)?.to_le_bytes().to_vec()),
        ["u64", x] => value(number::<u64>(x)?.to_le_bytes().to_vec()),
        ["f32", x] => value(number::<f32>(x)?.to_le_bytes().to_vec()),
        ["f64", x] => value(number::<f64>(x)?.to_le_bytes().to_vec()),
        ["null"] => value(vec![0; 8]),
        ["buffer", bytes] => filled(number(bytes)?, None),
        ["zeros", bytes] => {
            let argument = filled(number(bytes)?, None)?;
            if let Some((address, bytes)) = argument.buffer {
                memory.fill(address, 0, bytes).map_err(|e| e.to_string())?;
            }
            Ok(argument)
        }
        ["iota-u32", count] => {
            let count: u32 = number(count)?;
            filled(count as usize * 4, Some((0..count).flat_map(u32::to_le_bytes).collect()))
        }
        ["random-f32", count, seed] => {
            let count: u32 = number(count)?;
            let mut state: u64 = number(seed)?;
            let floats = (0..count).flat_map(|_| random(&mut state).to_le_bytes()).collect();
            filled(count as usize * 4, Some(floats))
        }
        ["random-f16", count, seed] => {
            let count: u32 = number(count)?;
            let mut state: u64 = number(seed)?;
            let halves =
                (0..count).flat_map(|_| half::f16::from_f32(random(&mut state)).to_le_bytes()).collect();
            filled(count as usize * 2, Some(halves))
        }
        _ => Err(format!("--arg {specification}: unknown\n\n{USAGE}")),
    }
}

/// A float in [-1, 1) from the next number of SplitMix64 (Steele, Lea, Flood 2014).
fn random(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f32 / 8_388_608.0 - 1.0
}

fn show(memory: &Memory, arguments: &[Argument], print: &str) -> Result<(), String> {
    let parts: Vec<&str> = print.split(':').collect();
    let [index, ty, count] = parts.as_slice() else { return Err(format!("--print {print}: not ARG:TYPE:N")) };
    let (index, count): (usize, usize) = (number(index)?, number(count)?);
    let Some((address, bytes)) = arguments.get(index).and_then(|a| a.buffer) else {
        return Err(format!("--print {print}: argument {index} is not a buffer"));
    };
    let width = match *ty {
        "u8" => 1,
        "f16" => 2,
        "u32" | "s32" | "f32" => 4,
        "u64" | "f64" => 8,
        _ => return Err(format!("--print {print}: unknown type {ty}")),
    };
    let count = count.min(bytes / width);
    let mut data = vec![0; count * width];
    memory.read(address, &mut data).map_err(|e| e.to_string())?;
    let mut values = Vec::new();
    for chunk in data.chunks_exact(width) {
        let mut eight = [0; 8];
        eight[..chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_le_bytes(eight);
        values.push(match *ty {
            "s32" => (bits as u32 as i32).to_string(),
            "f16" => half::f16::from_bits(bits as u16).to_string(),
            "f32" => f32::from_bits(bits as u32).to_string(),
            "f64" => f64::from_bits(bits).to_string(),
            _ => bits.to_string(),
        });
    }
    println!("  argument {index}: {}", values.join(" "));
    Ok(())
}

//! Messages for the program's author: a line for each call that broke a rule, and reports at the end of a context.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::{Mutex, OnceLock, PoisonError},
};

enum Target {
    StandardError,
    File(Mutex<File>),
    Off,
}

struct Log {
    target: Target,
    trace: bool,
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let target = match std::env::var("SSMV_CUDA_LOG") {
            Err(_) => Target::StandardError,
            Ok(name) if name == "off" => Target::Off,
            Ok(path) => match OpenOptions::new().create(true).append(true).open(&path) {
                Ok(file) => Target::File(Mutex::new(file)),
                Err(error) => {
                    eprintln!(
                        "libcuda emulator: SSMV_CUDA_LOG={path}: {error}; messages go to standard error"
                    );
                    Target::StandardError
                }
            },
        };
        Log { target, trace: std::env::var("SSMV_CUDA_TRACE").is_ok_and(|value| value == "1") }
    })
}

/// Writes a line to the log.
pub fn write(message: &str) {
    let line = format!("libcuda emulator: {message}\n");
    match &log().target {
        // A closed standard error must not end the program.
        Target::StandardError => drop(std::io::stderr().write_all(line.as_bytes())),
        Target::File(file) => {
            drop(file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()));
        }
        Target::Off => {}
    }
}

/// Whether every call is logged.
pub fn traces() -> bool {
    log().trace
}

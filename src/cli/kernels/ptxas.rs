//! NVIDIA's assembler `ptxas`, which reports the resources of a kernel.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Serialize;
use ssmv_kernels::Kernel;

use crate::{Error, Result};

/// Output file: the machine code is not needed.
const NOWHERE: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };

/// Resources of a kernel, as `ptxas -v` prints them. Shared memory is that of a block, all else that of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Number of 32-bit registers.
    pub registers: u32,
    /// Bytes of static shared memory.
    pub shared: u32,
    /// Number of barriers of the block.
    pub barriers: u32,
    /// Bytes of the stack frame, which lies in local memory.
    pub stack: u32,
    /// Bytes of local memory beside the stack frame.
    pub local: u32,
    /// Bytes of registers that are written to local memory because there are too few.
    pub spill_stores: u32,
    /// Bytes of them that are read back.
    pub spill_loads: u32,
}

impl Usage {
    /// Reads the output of `ptxas -v` for a module with one entry point; `None` if the register count is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut usage = Self::default();
        let mut seen = false;
        for clause in text.lines().flat_map(|line| line.rsplit(" : ").next().unwrap_or(line).split(',')) {
            let words: Vec<_> =
                clause.split_whitespace().filter(|&word| word != "Used" && word != "used").collect();
            let Some((Ok(count), what)) = words.split_first().map(|(count, what)| (count.parse(), what))
            else {
                continue;
            };
            match what {
                ["registers"] => (usage.registers, seen) = (count, true),
                ["barriers"] => usage.barriers = count,
                ["bytes", "smem"] => usage.shared = count,
                ["bytes", "lmem"] => usage.local = count,
                ["bytes", "stack", "frame"] => usage.stack = count,
                ["bytes", "spill", "stores"] => usage.spill_stores = count,
                ["bytes", "spill", "loads"] => usage.spill_loads = count,
                _ => {}
            }
        }
        seen.then_some(usage)
    }

    /// Describes spills and local memory, which no kernel may have; `None` if there are none.
    pub fn fault(&self) -> Option<String> {
        let found = [
            (self.spill_stores, "of spill stores"),
            (self.spill_loads, "of spill loads"),
            (self.stack, "of stack frame"),
            (self.local, "of local memory"),
        ];
        let found: Vec<_> = found
            .iter()
            .filter(|(bytes, _)| *bytes > 0)
            .map(|(bytes, what)| format!("{bytes} bytes {what}"))
            .collect();
        (!found.is_empty()).then(|| found.join(", "))
    }
}

/// An executable `ptxas` and its version.
#[derive(Clone, Debug)]
pub struct Ptxas {
    path: PathBuf,
    version: String,
}

impl Ptxas {
    /// Reads the version of the program at `path`.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be run or is another program.
    pub fn open(path: &Path) -> Result<Self> {
        let output = run(Command::new(path).arg("--version"), "")
            .map_err(|e| Error::file(path, format!("cannot be run: {e}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // "Cuda compilation tools, release 13.0, V13.0.88"
        let version = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix('V'))
            .filter(|_| text.contains("ptxas"));
        let version =
            version.ok_or_else(|| Error::file(path, "is not ptxas: its --version does not name ptxas"))?;
        Ok(Self { path: path.to_owned(), version: version.to_owned() })
    }

    /// Version, such as `13.0.88`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Assembles a kernel.
    ///
    /// # Errors
    /// [`Error::Failure`] with the kernel's name and the message of `ptxas`; spills are not an error here.
    pub fn assemble(&self, kernel: &Kernel) -> Result<Usage> {
        let Kernel { name, target, ptx, .. } = kernel;
        let mut command = Command::new(&self.path);
        // The text goes through a pipe ("-"), so that no file stays behind.
        command.args(["-v", "-arch", target.name(), "-o", NOWHERE, "-"]);
        let failure = |text: String| Error::Failure(format!("{name} ({target}): ptxas: {text}"));
        let output = run(&mut command, ptx).map_err(|e| failure(format!("cannot be run: {e}")))?;
        let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(failure(first_error(&text)));
        }
        Usage::parse(&text).ok_or_else(|| failure("its output has no register count".to_owned()))
    }
}

/// Runs a command with `input` as its stdin.
fn run(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program may close the pipe early; only its output counts.
            stdin.map(|mut stdin| stdin.write_all(input.as_bytes()))
        });
        child.wait_with_output()
    })
}

/// The first error of an output, from its line number on, and the number of other errors.
fn first_error(text: &str) -> String {
    let errors: Vec<_> = text.lines().filter(|line| line.contains("error")).collect();
    let Some(first) = errors.first() else {
        return text.lines().next().unwrap_or("failed without a message").to_owned();
    };
    // "ptxas FILE, line 22; error   : what"
    let first = first.find("line ").map_or(*first, |at| &first[at..]);
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ").replace(" : ", ": ");
    match errors.len() - 1 {
        0 => first,
        more => format!("{first} (and {more} more)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'k' for 'sm_80'
ptxas info    : Function properties for k
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 4096 bytes smem, 360 bytes cmem[0]
ptxas info    : Compile time = 2.232 ms
";

    #[test]
    fn usage_is_read_from_the_verbose_output() {
        let usage = Usage::parse(CLEAN).unwrap();
        assert_eq!(usage, Usage { registers: 10, shared: 4096, barriers: 1, ..Usage::default() });
        assert_eq!(usage.fault(), None);
        let spilled = CLEAN
            .replace(
                "0 bytes stack frame, 0 bytes spill stores, 0 bytes",
                "64 bytes stack frame, 8 bytes spill stores, 12 bytes",
            )
            .replace("1 barriers,", "1 barriers, 64 bytes cumulative stack size, 16 bytes lmem,");
        let usage = Usage::parse(&spilled).unwrap();
        assert_eq!((usage.stack, usage.spill_stores, usage.spill_loads, usage.local), (64, 8, 12, 16));
        let fault = usage.fault().unwrap();
        for part in
            ["8 bytes of spill stores", "12 bytes of spill loads", "64 bytes of stack", "16 bytes of local"]
        {
            assert!(fault.contains(part), "{fault}");
        }
        for text in ["", "ptxas info    : 0 bytes gmem", "Used many registers", ",,, : ,"] {
            assert_eq!(Usage::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_first_error_is_reported_with_its_line() {
        let text = "ptxas /tmp/x_stdin, line 22; error   : Unknown modifier '.lcal'\n\
                    ptxas /tmp/x_stdin, line 22; error   : Unexpected types for 'st'\n\
                    ptxas fatal   : Ptx assembly aborted due to errors\n";
        assert_eq!(first_error(text), "line 22; error: Unknown modifier '.lcal' (and 2 more)");
        assert_eq!(
            first_error("ptxas fatal   : Value 'sm_1' is not defined\n"),
            "ptxas fatal   : Value 'sm_1' is not defined"
        );
        assert_eq!(first_error(""), "failed without a message");
    }
}

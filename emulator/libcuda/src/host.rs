//! The program's own memory, accessed through the operating system: a wrong pointer is an error, not a crash.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{Mutex, PoisonError},
};

use crate::code::{Outcome, fail};

/// Calls with this process's memory as a file; opened again in a forked child.
fn memory<R>(body: impl FnOnce(&File) -> io::Result<R>) -> io::Result<R> {
    static OPEN: Mutex<Option<(u32, File)>> = Mutex::new(None);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if open.as_ref().is_none_or(|(owner, _)| *owner != process) {
        let file = File::options().read(true).write(true).open("/proc/self/mem")?;
        *open = Some((process, file));
    }
    let Some((_, file)) = &*open else { return Err(io::Error::other("the process's memory is closed")) };
    let file = file.try_clone()?;
    drop(open);
    body(&file)
}

/// Copies from the program's memory.
pub fn read(what: &str, address: usize, out: &mut [u8]) -> Outcome {
    if memory(|file| file.read_exact_at(out, address as u64)).is_err() {
        return fail!(
            INVALID_VALUE,
            "{what}: the program has no {} readable bytes at {address:#x}",
            out.len()
        );
    }
    Ok(())
}

/// Copies to the program's memory.
pub fn write(what: &str, address: usize, data: &[u8]) -> Outcome {
    if memory(|file| file.write_all_at(data, address as u64)).is_err() {
        return fail!(
            INVALID_VALUE,
            "{what}: the program has no {} writable bytes at {address:#x}",
            data.len()
        );
    }
    Ok(())
}

/// A text that ends with a zero byte, without it; at most `most` bytes.
pub fn text(what: &str, address: usize, most: usize) -> Outcome<Vec<u8>> {
    if address == 0 {
        return fail!(INVALID_VALUE, "{what} is null");
    }
    let mut text = Vec::new();
    let mut chunk = [0u8; 4096];
    while text.len() < most {
        let at = address + text.len();
        // To the end of the page: the next one may not be there.
        let count = 4096 - at % 4096;
        if memory(|file| file.read_exact_at(&mut chunk[..count], at as u64)).is_err() {
            let length = text.len();
            return fail!(
                INVALID_VALUE,
                "{what} at {address:#x} has no zero byte at its end ({length} readable bytes)"
            );
        }
        match chunk[..count].iter().position(|&byte| byte == 0) {
            Some(end) => {
                text.extend_from_slice(&chunk[..end]);
                return Ok(text);
            }
            None => text.extend_from_slice(&chunk[..count]),
        }
    }
    fail!(INVALID_VALUE, "{what} at {address:#x} has no zero byte within {most} bytes")
}

/// A number that differs, but for astronomical luck, when the bytes do; `None` where they cannot be read.
pub fn digest(address: usize, length: usize) -> Option<u64> {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    let mut chunk = vec![0; length.min(1 << 16)];
    for done in (0..length).step_by(1 << 16) {
        let part = &mut chunk[..(length - done).min(1 << 16)];
        memory(|file| file.read_exact_at(part, (address + done) as u64)).ok()?;
        hasher.write(part);
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let bytes = *b"some text\0more";
        let address = bytes.as_ptr() as usize;
        assert_eq!(text("the name", address, 100).unwrap(), b"some text");
        let mut back = [0; 4];
        read("copy", address + 5, &mut back).unwrap();
        assert_eq!(&back, b"text");
        assert!(read("copy", 16, &mut back).unwrap_err().message.contains("no 4 readable bytes at 0x10"));
        assert!(write("copy", 16, &back).is_err());
        assert!(text("the name", 0, 100).is_err() && text("the name", 16, 100).is_err());
        assert!(text("the name", address, 4).is_err() || bytes.len() < 4096);
        assert_eq!((digest(16, 4), digest(address, 4)), (None, digest(address, 4)));
        assert!(digest(address, 4).is_some());
    }

    #[test]
    fn a_write_arrives() {
        let mut bytes = vec![0u8; 3];
        write("copy", bytes.as_mut_ptr() as usize, &[1, 2, 3]).unwrap();
        assert_eq!(std::hint::black_box(&bytes), &[1, 2, 3]);
    }
}

//! A number in memory that processes of a machine share: one process writes it, others read it, without a system call.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;
use rand::{TryRng, rngs::SysRng};

/// A file system in memory, on Linux.
const MEMORY: &str = "/dev/shm";

/// Identifies a word among the processes of a machine.
pub type Name = [u32; 4];

/// A word that its owner writes. Its file is removed when the owner hides or drops it.
#[derive(Debug)]
pub struct Word {
    map: MmapRaw,
    /// The owner's file, until it is removed.
    path: Option<PathBuf>,
}

impl Word {
    /// A new word with value 0.
    ///
    /// # Errors
    /// The system has no space or no random numbers.
    pub fn create() -> io::Result<(Self, Name)> {
        let mut name = [0; 16];
        SysRng.try_fill_bytes(&mut name).map_err(|e| io::Error::other(e.to_string()))?;
        let name: Name =
            std::array::from_fn(|i| u32::from_le_bytes(std::array::from_fn(|byte| name[4 * i + byte])));
        let path = path(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        let word = |file: &File| {
            file.set_len(size_of::<u64>() as u64)?;
            MmapRaw::map_raw(file)
        };
        match word(&file) {
            Ok(map) => Ok((Self { map, path: Some(path) }, name)),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Opens another process's word.
    ///
    /// # Errors
    /// No word of this name on this machine.
    pub fn open(name: Name) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path(name))?;
        if file.metadata()?.len() != size_of::<u64>() as u64 {
            return Err(io::Error::other("the file has another length than a word"));
        }
        Ok(Self { map: MmapRaw::map_raw(&file)?, path: None })
    }

    /// Removes the file: no other process can open the word; processes that have opened it keep it.
    pub fn hide(&mut self) {
        if let Some(path) = self.path.take() {
            // A file that is already gone is hidden too.
            let _ = fs::remove_file(path);
        }
    }

    /// Writes the number. A thread that reads it also sees all earlier writes of this thread.
    pub fn set(&self, number: u64) {
        self.number().store(number, Ordering::Release);
    }

    /// Reads the number; never blocks.
    pub fn get(&self) -> u64 {
        self.number().load(Ordering::Acquire)
    }

    fn number(&self) -> &AtomicU64 {
        // SAFETY: the map starts at a page, has eight bytes and lives as long as the reference; all processes use atomic
        // accesses only.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast()) }
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        self.hide();
    }
}

fn path(name: Name) -> PathBuf {
    let memory = Path::new(MEMORY);
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let name: String = name.iter().map(|part| format!("{part:08x}")).collect();
    folder.join(format!("ssmv-word-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_seen_by_those_who_opened_it_and_leaves_no_file() {
        let (mut own, name) = Word::create().unwrap();
        let (seen, again) = (Word::open(name).unwrap(), Word::open(name).unwrap());
        own.set(7);
        assert_eq!((seen.get(), again.get()), (7, 7));
        drop(again);
        own.hide();
        assert!(!path(name).exists() && Word::open(name).is_err());
        own.set(u64::MAX);
        drop(own);
        assert_eq!(seen.get(), u64::MAX);
        let (dropped, name) = Word::create().unwrap();
        drop(dropped);
        assert!(!path(name).exists());
    }

    #[test]
    fn a_file_that_is_not_a_word_is_refused() {
        let name = [1, 2, 3, std::process::id()];
        fs::write(path(name), b"four").unwrap();
        let opened = Word::open(name);
        fs::remove_file(path(name)).unwrap();
        assert!(opened.is_err());
    }
}

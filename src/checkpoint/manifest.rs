//! `manifest.json`: preset and step of a checkpoint, and the size and SHA-256 of each of its files.

use super::{MANIFEST_FILE, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const FORMAT: &str = "ssmv-raw checkpoint";
const VERSION: u32 = 1;
/// Maximum size in bytes; a manifest has less than a kilobyte.
const MAX_MANIFEST: u64 = 64 << 10;

/// Size and digest of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileDigest {
    pub bytes: u64,
    pub sha256: String,
}

/// The manifest; `digest` is its own SHA-256, taken with `digest` empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: String,
    version: u32,
    pub preset: String,
    pub step: u64,
    pub program: String,
    pub files: BTreeMap<String, FileDigest>,
    digest: String,
}

/// The two fields that every version has.
#[derive(Deserialize)]
struct Preamble {
    format: String,
    version: u64,
}

impl Manifest {
    pub fn new(preset: &str, step: u64, files: BTreeMap<String, FileDigest>) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            preset: preset.into(),
            step,
            program: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
            files,
            digest: String::new(),
        }
    }

    /// Bytes of the file. A manifest has only one encoding, so that every changed byte is detected.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let json = |manifest: &Self| {
            let mut bytes = serde_json::to_vec_pretty(manifest).map_err(|e| Error::Failure(e.to_string()))?;
            bytes.push(b'\n');
            Ok::<_, Error>(bytes)
        };
        let blank = Self { digest: String::new(), ..self.clone() };
        let digest = hex(&Sha256::digest(json(&blank)?));
        json(&Self { digest, ..blank })
    }

    /// Reads and checks the manifest of a checkpoint folder, but not the files that it lists.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST_FILE);
        let bytes = read_limited(&path, MAX_MANIFEST)?;
        let fail = |message: &str| Error::file(&path, message);
        let damaged = |e: serde_json::Error| Error::file(&path, format_args!("is not a manifest: {e}"));
        let preamble: Preamble = serde_json::from_slice(&bytes).map_err(damaged)?;
        if preamble.format != FORMAT {
            return Err(fail("is not of a checkpoint of this program"));
        }
        if preamble.version != u64::from(VERSION) {
            return Err(Error::file(
                &path,
                format_args!("has format version {}; this program reads {VERSION}", preamble.version),
            ));
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        if manifest.encode()? != bytes {
            return Err(fail("does not match its own digest: it is damaged or was edited"));
        }
        // Names from a file never become part of a path: only the three known names are accepted.
        if !manifest.files.keys().map(String::as_str).eq([MODEL_FILE, OPTIMIZER_FILE, STATE_FILE]) {
            return Err(fail("does not list the files of a checkpoint"));
        }
        Ok(manifest)
    }

    /// True if `folder` has a manifest of this program, even a damaged one.
    pub fn is_in(folder: &Path) -> bool {
        read_limited(&folder.join(MANIFEST_FILE), MAX_MANIFEST)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Preamble>(&bytes).ok())
            .is_some_and(|preamble| preamble.format == FORMAT)
    }

    /// Compares every file's size, then every file's digest, with the manifest's.
    pub fn verify(&self, folder: &Path) -> Result<()> {
        for (name, want) in &self.files {
            let path = folder.join(name);
            let (_, bytes) = open_regular(&path)?;
            if bytes != want.bytes {
                return Err(Error::file(
                    &path,
                    format_args!("has {bytes} bytes, but {} in the manifest: it is damaged", want.bytes),
                ));
            }
        }
        for (name, want) in &self.files {
            let path = folder.join(name);
            if digest_file(&path)? != want.sha256 {
                return Err(Error::file(path, "does not match the SHA-256 of the manifest: it is damaged"));
            }
        }
        Ok(())
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads a whole file of at most `limit` bytes.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let (file, size) = open_regular(path)?;
    if size > limit {
        return Err(Error::file(path, format_args!("has {size} bytes; the maximum is {limit}")));
    }
    let mut bytes = Vec::new();
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::file(path, format_args!("cannot read: {e}")))?;
    Ok(bytes)
}

fn digest_file(path: &Path) -> Result<String> {
    let (mut file, _) = open_regular(path)?;
    let mut buffer = vec![0; 1 << 20];
    let mut sha = Sha256::new();
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&sha.finalize())),
            Ok(n) => sha.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::file(path, format_args!("cannot read: {e}"))),
        }
    }
}

/// Opens a regular file (a folder, pipe or device is refused: it could block) and returns its size.
fn open_regular(path: &Path) -> Result<(File, u64)> {
    let unreadable = |e: std::io::Error| Error::file(path, format_args!("cannot read: {e}"));
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Error::file(path, "is not a file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    Ok((file, size))
}

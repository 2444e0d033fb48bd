//! One rank of several: how it joins the others, and the settings that must be equal on all.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ssmv_autograd::cuda::{self, Backend};

use crate::clips;
use crate::config::{Device, TrainConfig};
use crate::data::DataSource;
use crate::train::ranks::{Local, Member};
use crate::{Error, Result};
use ssmv_comm::environment;
use ssmv_comm::rendezvous::{Fingerprint, Place, Security, join};
use ssmv_comm::tcp;

/// Keys of the configuration that may differ between ranks.
const OWN: [&str; 5] = ["out", "threads", "data", "started-in", "init"];

/// Size of one read in bytes.
const CHUNK: usize = 1 << 20;

/// The place of this process among several ranks; `None` for a single process.
///
/// # Errors
/// [`Error::Usage`] for variables that contradict each other.
pub fn place() -> Result<Option<Place>> {
    let place = environment::place().map_err(|e| Error::Usage(e.to_string()))?;
    Ok(place.filter(|place| place.size > 1))
}

/// Joins the other ranks, which must run the same program with the same configuration on the same data.
///
/// # Errors
/// Ranks that are missing, not trusted, or different; the error names the field.
pub fn meet(place: &Place, config: &TrainConfig, insecure: bool) -> Result<Member> {
    let security = Security::from_environment(insecure).map_err(|e| Error::Usage(e.to_string()))?;
    let timeout = Duration::from_secs_f64(config.comm_timeout);
    let options = tcp::Options { timeout, ..tcp::Options::default() };
    let communicator = join(place, &fingerprint(config)?, &security, options);
    let communicator = communicator.map_err(|e| Error::Failure(e.to_string()))?;
    Ok(Member { communicator, local: Local { rank: place.local_rank, size: place.local_size } })
}

/// The settings that must be equal on all ranks.
fn fingerprint(config: &TrainConfig) -> Result<Fingerprint> {
    let mut fingerprint =
        Fingerprint::new().with("version", env!("CARGO_PKG_VERSION")).with("binary", binary());
    let keys =
        toml::Table::try_from(config).map_err(|e| Error::Failure(format!("the configuration: {e}")))?;
    for (key, value) in keys.iter().filter(|(key, _)| !OWN.contains(&key.as_str())) {
        fingerprint = fingerprint.with(key, value);
    }
    Ok(fingerprint.with("data", data(config)).with("computes on", computes_on(config.device)))
}

/// Device that `device` selects on this machine: it must be of the same kind on all ranks.
fn computes_on(device: Device) -> &'static str {
    let usable = || cuda::devices(Backend::Nvidia).is_ok_and(|devices| devices.iter().any(cuda::is_usable));
    match device {
        Device::Cpu => "the CPU",
        Device::Emulator => "the emulator",
        Device::Cuda => "a GPU",
        Device::Auto if usable() => "a GPU",
        Device::Auto => "the CPU",
    }
}

/// Digest of this program's file.
fn binary() -> String {
    let digest = std::env::current_exe().and_then(|path| digest(&path));
    digest.unwrap_or_else(|e| format!("unreadable: {e}"))
}

/// Digest of the data, independent of its path. An unreadable file is part of the digest, so that all ranks get the error
/// and none waits.
fn data(config: &TrainConfig) -> String {
    let files = match DataSource::from_name(&config.data_name(), config.clip_options()) {
        Ok(DataSource::Digits) => return "digits".into(),
        Ok(DataSource::Clips { path, .. }) => match clips::files(&path) {
            Ok(files) => files,
            Err(e) => return e.to_string(),
        },
        Ok(DataSource::Mnist(path)) if path.is_file() => vec![path],
        Ok(DataSource::Mnist(folder)) => match contents(&folder) {
            Ok(files) => files,
            Err(e) => return format!("{}: unreadable: {e}", folder.display()),
        },
        Err(e) => return e.to_string(),
    };
    let digests = files.iter().map(|path| {
        let found = digest(path).unwrap_or_else(|e| format!("unreadable: {e}"));
        format!("{} {found}", path.file_name().unwrap_or_default().display())
    });
    digests.collect::<Vec<_>>().join(", ")
}

/// The files of MNIST in a folder, by name.
fn contents(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && path.to_string_lossy().contains("ubyte") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Size in bytes and CRC-32C of a file, as text.
fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let (mut bytes, mut crc, mut chunk) = (0u64, 0, vec![0; CHUNK]);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(format!("{bytes} bytes {crc:08x}"));
        }
        bytes += read as u64;
        crc = crc32c::crc32c_append(crc, &chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Precision;

    #[test]
    fn the_fingerprint_has_only_settings_that_must_be_equal() {
        let config = TrainConfig::preset("nano").unwrap();
        let fingerprint = super::fingerprint(&config).unwrap();
        assert_eq!(fingerprint.get("data"), Some("digits"));
        assert_eq!(fingerprint.get("batch-size"), Some(config.batch_size.to_string().as_str()));
        assert!(fingerprint.get("binary").is_some_and(|binary| binary.contains(" bytes ")));
        let other = TrainConfig { out: Some("elsewhere".into()), threads: Some(3), ..config.clone() };
        assert_eq!(super::fingerprint(&other).unwrap(), fingerprint);
        assert_ne!(super::fingerprint(&TrainConfig { seed: 9, ..config.clone() }).unwrap(), fingerprint);
        let in_bf16 = TrainConfig { precision: Precision::Bf16, ..config.clone() };
        assert_ne!(super::fingerprint(&in_bf16).unwrap(), fingerprint);
        assert_ne!(
            super::fingerprint(&TrainConfig { device: Device::Emulator, ..config }).unwrap(),
            fingerprint
        );
    }

    #[test]
    fn data_is_known_by_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name).join("x.npy"));
        for (path, text) in [(&a, "123456789"), (&b, "123456789")] {
            std::fs::create_dir(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let of = |path: &Path| {
            data(&TrainConfig { data: path.display().to_string(), ..TrainConfig::preset("nano").unwrap() })
        };
        assert_eq!(of(&a), "x.npy 9 bytes e3069283");
        assert_eq!(of(&a), of(&b));
        assert!(of(&folder.path().join("none.npy")).contains("none.npy"));
    }
}

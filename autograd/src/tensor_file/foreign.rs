//! Recognises files of other formats that are often given instead of safetensors, by their content. They are never parsed:
//! a pickle can run any code.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Bytes at both ends of a zip archive that are searched for the name of its pickle.
const SEARCHED: u64 = 64 << 10;
/// The first bytes of a zip archive.
const ZIP: &[u8] = b"PK\x03\x04";
/// The pickle in an archive that `torch.save` writes.
const PICKLE: &[u8] = b"data.pkl";

/// An error message if the file is not safetensors but a format that is recognised. Leaves the file at its start.
pub(super) fn recognise(path: &Path, file: &mut File, size: u64) -> io::Result<Option<String>> {
    let mut start = Vec::new();
    file.take(SEARCHED).read_to_end(&mut start)?;
    let message = if start.starts_with(ZIP) {
        let mut end = Vec::new();
        file.seek(SeekFrom::Start(size.saturating_sub(SEARCHED)))?;
        file.take(SEARCHED).read_to_end(&mut end)?;
        let has_pickle = [&start, &end].iter().any(|part| part.windows(PICKLE.len()).any(|w| w == PICKLE));
        Some(if has_pickle { pickle(path) } else { "is a zip archive, not a safetensors file".to_owned() })
    } else if is_pickle(&start, size) {
        Some(pickle(path))
    } else {
        None
    };
    file.seek(SeekFrom::Start(0))?;
    Ok(message)
}

/// True for a pickle of protocol 2 to 5, as `pickle.dump` and `torch.save` before PyTorch 1.6 write it. A safetensors file
/// can begin with the same bytes: its header's length is followed by a brace.
fn is_pickle(start: &[u8], size: u64) -> bool {
    let Some(length) = start.first_chunk::<8>() else { return matches!(start, [0x80, 2..=5, ..]) };
    let is_safetensors = start.get(8) == Some(&b'{') && u64::from_le_bytes(*length) <= size - 8;
    matches!(length, [0x80, 2..=5, ..]) && !is_safetensors
}

/// The error for a pickle, with the way to convert it.
fn pickle(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let to = Path::new(&*name).with_extension("safetensors");
    let to = to.to_string_lossy();
    format!(
        "is a pickle of Python, which can run any code when it is read; these two lines of Python convert it\n\
         import torch, safetensors.torch\n\
         safetensors.torch.save_file({{k: v.contiguous() for k, v in torch.load({name:?}, weights_only=True).items()}}, {to:?})"
    )
}

#[cfg(test)]
mod tests {
    use crate::tensor_file::TensorFile;

    #[test]
    fn pickles_are_recognised_by_content_and_never_read() {
        let folder = tempfile::tempdir().unwrap();
        let magic = [0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
        let zip = |name: &str| {
            let mut bytes = b"PK\x03\x04".to_vec();
            bytes.extend([0; 26]);
            bytes.extend(name.bytes());
            bytes
        };
        let mut far = zip("model/version");
        far.resize(200_000, 0);
        far.extend(b"model/data.pkl");
        let mut files =
            vec![magic.to_vec(), zip("archive/data.pkl"), far, vec![0x80, 4], vec![0x80, 5, b'.', 0]];
        for protocol in 2..=5 {
            let mut bytes = vec![0x80, protocol, 0x95, 1, 0, 0, 0, 0, 0, 0, 0, b'N', b'.'];
            bytes.resize(5000, 7);
            files.push(bytes);
        }
        for (i, bytes) in files.iter().enumerate() {
            let path = folder.path().join(format!("weights{i}.pt"));
            std::fs::write(&path, bytes).unwrap();
            let error = TensorFile::open(&path).unwrap_err().to_string();
            let load = format!("torch.load(\"weights{i}.pt\", weights_only=True)");
            assert!(error.contains("is a pickle") && error.contains(&load), "{error}");
            assert!(error.ends_with(&format!("\"weights{i}.safetensors\")")), "{error}");
            assert_eq!(error.lines().count(), 3, "{error}");
        }
        let path = folder.path().join("other.zip");
        std::fs::write(&path, zip("pictures/a.png")).unwrap();
        let error = TensorFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("is a zip archive"), "{error}");
    }

    /// A header of 640 bytes begins with 0x80 0x02, as a pickle does.
    #[test]
    fn a_header_whose_length_looks_like_a_pickle_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        for length in [0x280usize, 0x380, 0x480, 0x580] {
            let mut header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_owned();
            header.extend(std::iter::repeat_n(' ', length - header.len()));
            let mut bytes = (length as u64).to_le_bytes().to_vec();
            bytes.extend(header.bytes());
            bytes.extend(1f32.to_le_bytes());
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(TensorFile::open(&path).unwrap().read_f32("w", &[1]).unwrap(), [1.0]);
        }
    }
}

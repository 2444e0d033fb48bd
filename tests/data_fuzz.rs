//! Whatever bytes a data file holds, reading it ends in a value or in an error that names the file, and never takes
//! more memory than the file's bytes justify.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use ssmv_raw::clips::{Cache, ClipOptions, Clips, Frame, Layout};
use ssmv_raw::data::idx;
use ssmv_raw::data::npy::{self, Dtype, Header};
use ssmv_raw::media::{Animation, Image, write_gif};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn idx_file(sizes: [u32; 3], body: &[u8]) -> Vec<u8> {
    let words = [0x803, sizes[0], sizes[1], sizes[2]];
    words.iter().flat_map(|w: &u32| w.to_be_bytes()).chain(body.iter().copied()).collect()
}

fn npy_file() -> Vec<u8> {
    let mut bytes = Header::bytes(Dtype::U8, &[2, 3, 4, 4]);
    bytes.extend((0..96).map(|i| i as u8));
    bytes
}

fn read_idx(bytes: &[u8]) {
    match idx::images_from(bytes, Path::new("a.idx")) {
        Ok(images) => assert_eq!(images.pixels.len(), images.count * images.height * images.width),
        Err(e) => assert!(e.to_string().starts_with("a.idx: "), "{e}"),
    }
}

fn read_npy(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    std::fs::write(&path, bytes).unwrap();
    if let Ok(array) = npy::read(&path) {
        assert_eq!(array.shape.iter().product::<usize>(), array.into_unit().len());
    }
    for layout in [Layout::Auto, Layout::Tnhw, Layout::Nthwc, Layout::Ntchw] {
        read_clips(&path, &ClipOptions { layout, ..ClipOptions::default() }, "a.npy");
    }
}

/// Reads all frames of the clips, or gets an error that names the file.
fn read_clips(path: &Path, options: &ClipOptions, name: &str) {
    let mut frame = Frame::default();
    let opened = Clips::open(path, options, Some(8), 0..usize::MAX, Cache::Unnamed, &mut |_, _| ());
    let read = opened.and_then(|clips| {
        assert!(!clips.summary().is_empty());
        (0..clips.len()).try_for_each(|clip| {
            (0..clips.frames(clip)).try_for_each(|t| {
                clips.frame(clip, t, &mut frame)?;
                assert_eq!(frame.pixels.len(), 64 * frame.channels);
                Ok(())
            })
        })
    });
    if let Err(e) = read {
        assert!(e.to_string().contains(&format!("{name}: ")), "{e}");
    }
}

/// Puts bytes over others, and cuts or prolongs.
fn mutate(mut bytes: Vec<u8>, changes: &[(usize, u8)], length: isize) -> Vec<u8> {
    let size = bytes.len();
    for &(at, with) in changes {
        bytes[at % size] = with;
    }
    bytes.resize(size.saturating_add_signed(length), 0);
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    // Most changes fall on the header.
    proptest::collection::vec((prop_oneof![3 => 0usize..80, 1 => 0usize..4000], any::<u8>()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_idx(&bytes);
        read_idx(&gzip(&bytes));
        read_npy(&bytes);
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend(&bytes);
        read_npy(&npy);
    }

    #[test]
    fn any_header(text in "[{}()',:a-z0-9TF| <>_-]{0,120}", version in 0u8..5) {
        let mut npy = b"\x93NUMPY".to_vec();
        npy.extend([version, 0]);
        npy.extend((text.len() as u16).to_le_bytes());
        if version > 1 {
            npy.extend([0, 0]);
        }
        npy.extend(text.as_bytes());
        read_npy(&npy);
    }

    #[test]
    fn changed_files(changes in changes(), length in -70isize..70, sizes: [u32; 3]) {
        let idx = idx_file([3, 5, 4], &[9; 60]);
        read_idx(&mutate(idx.clone(), &changes, length));
        read_idx(&gzip(&mutate(idx.clone(), &changes, length)));
        read_idx(&mutate(gzip(&idx), &changes, length));
        read_idx(&idx_file(sizes, &[1; 99]));
        read_npy(&mutate(npy_file(), &changes, length));
    }
}

/// A file of each kind that is decoded, small enough for changes to hit what matters.
fn encoded(kind: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("a.{kind}"));
    let picture = |t: u8| Image::grey(6, 5, &(0..30).map(|i| i * 8 + t).collect::<Vec<_>>());
    match kind {
        "gif" => {
            let frames = (0..3).map(picture).collect();
            write_gif(&path, &Animation { frames, delays_cs: vec![5, 0, 9] }).unwrap();
        }
        "png" => {
            let mut encoder = png::Encoder::new(std::fs::File::create(&path).unwrap(), 6, 5);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_animated(3, 0).unwrap();
            let mut writer = encoder.write_header().unwrap();
            (0..3).for_each(|t| writer.write_image_data(picture(t).pixels.as_flattened()).unwrap());
            writer.finish().unwrap();
        }
        "npz" => {
            let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
            archive.start_file("frames.npy", zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(&npy_file()).unwrap();
            archive.finish().unwrap();
        }
        _ => return include_bytes!("clips_data/two-colours.jpg").to_vec(),
    }
    std::fs::read(path).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changed_pictures_and_archives(changes in changes(), length in -200isize..70, fps in proptest::option::of(1.0..50.0)) {
        let root = tempfile::tempdir().unwrap();
        let options = ClipOptions { fps, ..ClipOptions::default() };
        for kind in ["gif", "png", "npz", "jpg"] {
            let bytes = mutate(encoded(kind), &changes, length);
            let name = format!("a.{kind}");
            let folder = root.path().join(kind);
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(folder.join(&name), bytes).unwrap();
            // A JPEG is a frame of its folder.
            let path = if kind == "jpg" { folder } else { folder.join(&name) };
            read_clips(&path, &options, &name);
        }
    }
}

#[test]
fn unchanged_files_are_read() {
    let root = tempfile::tempdir().unwrap();
    for (kind, frames) in [("gif", 3), ("png", 3), ("npz", 2)] {
        let path = root.path().join(format!("a.{kind}"));
        std::fs::write(&path, encoded(kind)).unwrap();
        let clips =
            Clips::open(&path, &ClipOptions::default(), Some(8), 0..9, Cache::Unnamed, &mut |_, _| ())
                .unwrap();
        assert_eq!(clips.frames(0), frames, "{kind}");
    }
    let idx = idx_file([3, 5, 4], &[9; 60]);
    for bytes in [&idx, &gzip(&idx)] {
        assert_eq!(idx::images_from(&bytes[..], Path::new("a")).unwrap().pixels, [9; 60]);
    }
    read_npy(&npy_file());
}

#[test]
fn a_gzip_bomb_ends_where_its_header_says() {
    // 64 MiB of zeros in some 64 KiB, after a header that promises 20 bytes, and after one that promises 4 GiB.
    let zeros = vec![0; 64 << 20];
    let bombs = [idx_file([1, 5, 4], &zeros), idx_file([u32::MAX, 1, 1], &zeros)].map(|bytes| gzip(&bytes));
    let mut damaged = gzip(&idx_file([1, 5, 4], &[9; 20]));
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    for bytes in bombs.iter().chain([&damaged]) {
        assert!(idx::images_from(&bytes[..], Path::new("a")).is_err());
    }
}

/// The most memory, in KiB, that the process has ever asked for, used or not; `None` where the system does not say.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
fn no_memory_is_taken_on_a_promise() {
    let before = peak();
    // Just below the reader's own limit, so that only the missing bytes can stop it.
    let idx = idx_file([1_000_000, 32, 32], &[1; 99]);
    for bytes in [&idx, &gzip(&idx)] {
        let message = idx::images_from(&bytes[..], Path::new("a")).unwrap_err().to_string();
        assert!(message.contains("cut short"), "{message}");
    }
    let mut npy = Header::bytes(Dtype::F32, &[1 << 10, 1 << 10, 1 << 9]);
    npy.extend([0; 999]);
    read_npy(&npy);
    if let (Some(before), Some(after)) = (before, peak()) {
        // The other tests of this file run meanwhile and take their part.
        assert!(after - before < 700 << 10, "{} KiB were taken", after - before);
    }
}

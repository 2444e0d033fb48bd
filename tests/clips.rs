//! Clips of every kind give the same frames, in colour, and a wrong one is refused with what to do. The commands read them
//! alike.

mod program;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use program::{done, program, refused, run};
use serde_json::Value;
use ssmv_raw::clips::{Cache, ClipOptions, Clips, Frame, Layout, Resize, ValueRange};
use ssmv_raw::data::npy::{Dtype, Header, write_u8};
use ssmv_raw::media::{Animation, Clip, Image, write_gif, write_png_folder};

const CLIPS: usize = 5;
const FRAMES: usize = 7;
const SIDE: usize = 32;

/// A coloured square that moves over a dark ground.
fn picture(clip: usize, t: usize) -> Image {
    let mut image = Image::new(SIDE, SIDE, [10, 20, 30]);
    let colour = [200, 255 - 40 * clip as u8, 60];
    image.paste(&Image::new(8, 8, colour), (3 * t + 5 * clip) % 24, (2 * t + 7 * clip) % 24);
    image
}

fn pixels(clip: usize, t: usize) -> Vec<u8> {
    picture(clip, t).pixels.as_flattened().to_vec()
}

/// The array [N, T, H, W, C] of all clips.
fn array() -> Vec<u8> {
    (0..CLIPS).flat_map(|clip| (0..FRAMES).flat_map(move |t| pixels(clip, t))).collect()
}

fn open(path: &Path, options: &ClipOptions) -> ssmv_raw::Result<Clips> {
    Clips::open(path, options, Some(SIDE), 0..usize::MAX, Cache::Unnamed, &mut |_, _| ())
}

/// Checks that a path has these clips, up to `error` at each pixel.
fn check(path: &Path, options: &ClipOptions, count: usize, error: u8) {
    let clips = open(path, options).unwrap();
    assert_eq!((clips.len(), clips.channels()), (count, 3), "{}", clips.summary());
    let mut frame = Frame::default();
    for clip in 0..count {
        assert_eq!(clips.frames(clip), FRAMES, "{}", clips.summary());
        for t in 0..FRAMES {
            clips.frame(clip, t, &mut frame).unwrap();
            let most = frame.pixels.iter().zip(pixels(clip, t)).map(|(a, b)| a.abs_diff(b)).max().unwrap();
            assert!(most <= error, "{}: frame {t} of clip {clip} is off by {most}", path.display());
        }
        assert!(clips.frame(clip, FRAMES, &mut frame).is_err());
    }
}

fn write_npy(path: &Path, dtype: Dtype, shape: &[usize], bytes: &[u8]) {
    fs::write(path, [&Header::bytes(dtype, shape), bytes].concat()).unwrap();
}

#[test]
fn arrays_of_every_type_and_order_are_the_same_clips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let (auto, bytes) = (ClipOptions::default(), array());
    let shape = [CLIPS, FRAMES, SIDE, SIDE, 3];
    let cast = |of: &dyn Fn(u8) -> Vec<u8>| bytes.iter().flat_map(|&byte| of(byte)).collect::<Vec<_>>();
    let unit = |byte: u8| f32::from(byte) / 255.0;
    for (dtype, bytes) in [
        (Dtype::U8, bytes.clone()),
        (Dtype::U16, cast(&|b| (u16::from(b) * 257).to_le_bytes().to_vec())),
        (Dtype::I64, cast(&|b| i64::from(b).to_le_bytes().to_vec())),
        (Dtype::F16, cast(&|b| half::f16::from_f32(unit(b)).to_le_bytes().to_vec())),
        (Dtype::F32, cast(&|b| unit(b).to_le_bytes().to_vec())),
        (Dtype::F64, cast(&|b| f64::from(b).to_le_bytes().to_vec())),
    ] {
        write_npy(&path, dtype, &shape, &bytes);
        check(&path, &auto, CLIPS, 0);
    }
    // From -1 to 1: only if it is said.
    write_npy(&path, Dtype::F32, &shape, &cast(&|b| (unit(b) * 2.0 - 1.0).to_le_bytes().to_vec()));
    let error = open(&path, &auto).unwrap_err().to_string();
    assert!(error.contains("a.npy") && error.contains("--range=-1,1"), "{error}");
    check(&path, &ClipOptions { range: ValueRange::Between(-1.0, 1.0), ..auto }, CLIPS, 0);

    // Frames first: found, or given.
    let frame = |clip: usize, t: usize| &bytes[(clip * FRAMES + t) * SIDE * SIDE * 3..][..SIDE * SIDE * 3];
    let turned: Vec<u8> =
        (0..FRAMES).flat_map(|t| (0..CLIPS).flat_map(move |clip| frame(clip, t).to_vec())).collect();
    write_u8(&path, &[FRAMES, CLIPS, SIDE, SIDE, 3], &turned).unwrap();
    check(&path, &auto, CLIPS, 0);
    check(&path, &ClipOptions { layout: Layout::Tnhwc, ..auto }, CLIPS, 0);
    let wrong = open(&path, &ClipOptions { layout: Layout::Nthwc, ..auto }).unwrap();
    assert!(wrong.warnings()[0].contains("--layout tnhwc"), "{:?}", wrong.warnings());
    assert_eq!(open(&path, &auto).unwrap().options().layout, Layout::Tnhwc);
    // Planes of colours.
    let plane = |pixels: &[u8]| {
        (0..3).flat_map(|c| pixels.iter().skip(c).step_by(3).copied().collect::<Vec<_>>()).collect()
    };
    let planes: Vec<u8> =
        bytes.chunks_exact(SIDE * SIDE * 3).flat_map(|pixels| -> Vec<u8> { plane(pixels) }).collect();
    write_u8(&path, &[CLIPS, FRAMES, 3, SIDE, SIDE], &planes).unwrap();
    check(&path, &auto, CLIPS, 0);
    // One clip.
    write_u8(&path, &[FRAMES, SIDE, SIDE, 3], &bytes[..FRAMES * SIDE * SIDE * 3]).unwrap();
    check(&path, &auto, 1, 0);
}

#[test]
fn masks_and_large_values_are_scaled_and_outliers_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npy");
    let mut frame = Frame::default();
    write_u8(&path, &[4, 8, 8], &[[0, 1]; 128].concat()).unwrap();
    let mask = open(&path, &ClipOptions { resize: Resize::Stretch, ..ClipOptions::default() }).unwrap();
    assert!(
        mask.summary().contains("8×8 to 32×32 (--resize stretch), grey, values 0–1 of 0–1"),
        "{}",
        mask.summary()
    );
    mask.frame(0, 0, &mut frame).unwrap();
    assert_eq!(frame.pixels.iter().max(), Some(&255));
    let values: Vec<u8> = (0..256).flat_map(|i| (i as f32 / 200.0).to_le_bytes()).collect();
    write_npy(&path, Dtype::F32, &[4, 8, 8], &values);
    let bright = open(&path, &ClipOptions::default()).unwrap();
    assert!(bright.warnings()[0].contains("are clamped"), "{:?}", bright.warnings());
    write_npy(&path, Dtype::F32, &[4, 8, 8], &[f32::NAN.to_le_bytes(); 256].concat());
    assert!(open(&path, &ClipOptions::default()).unwrap_err().to_string().contains("NaN"));
}

#[test]
fn archives_with_one_array_and_moving_mnists() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let write = |members: &[(&str, Vec<u8>)]| {
        let mut archive = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        for (name, bytes) in members {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
    };
    let npy = |dtype, shape: &[usize], bytes: &[u8]| [&Header::bytes(dtype, shape), bytes].concat();
    let frames = npy(Dtype::U8, &[CLIPS, FRAMES, SIDE, SIDE, 3], &array());
    let auto = ClipOptions::default();
    write(&[("labels.npy", npy(Dtype::U8, &[2], &[1, 2])), ("frames.npy", frames.clone())]);
    check(&path, &auto, CLIPS, 0);
    let error = || open(&path, &auto).unwrap_err().to_string();
    write(&[("a.npy", frames.clone()), ("b.npy", frames)]);
    assert!(error().contains("several arrays: a.npy"), "{}", error());
    write(&[("labels.npy", npy(Dtype::U8, &[2], &[1, 2]))]);
    assert!(error().contains("no array of 3 to 5 axes among labels.npy"), "{}", error());
    // Frames one after the other, and where the inputs and targets of each sequence begin.
    let raw = npy(Dtype::U8, &[CLIPS * FRAMES, SIDE, SIDE, 3], &array());
    let list = |inputs: [i32; 2], targets: [i32; 2]| {
        let one =
            |first: i32, count: i32| (0..CLIPS as i32).flat_map(move |i| [i * FRAMES as i32 + first, count]);
        let numbers = one(inputs[0], inputs[1]).chain(one(targets[0], targets[1]));
        npy(Dtype::I32, &[2, CLIPS, 2], &numbers.flat_map(i32::to_le_bytes).collect::<Vec<_>>())
    };
    write(&[("clips.npy", list([0, 4], [4, 3])), ("input_raw_data.npy", raw.clone())]);
    check(&path, &auto, CLIPS, 0);
    write(&[("clips.npy", list([0, 4], [5, 3])), ("input_raw_data.npy", raw.clone())]);
    assert!(error().contains("`clips`"), "{}", error());
    write(&[("clips.npy", list([0, 4], [4, 9])), ("input_raw_data.npy", raw)]);
    assert!(error().contains("35 frames"), "{}", error());
    fs::write(&path, b"PK\x03\x04").unwrap();
    assert!(error().contains("a.npz"));
}

/// Folders of frames, clip by clip.
fn write_folders(folder: &Path) {
    for clip in 0..CLIPS {
        let images: Vec<Image> = (0..FRAMES).map(|t| picture(clip, t)).collect();
        write_png_folder(&folder.join(format!("clip-{clip}")), &images, false).unwrap();
    }
}

fn write_apng(path: &Path) {
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_animated(FRAMES as u32, 0).unwrap();
    encoder.set_frame_delay(1, 10).unwrap();
    let mut writer = encoder.write_header().unwrap();
    (0..FRAMES).for_each(|t| writer.write_image_data(&pixels(0, t)).unwrap());
    writer.finish().unwrap();
}

#[test]
fn folders_and_animations_are_the_same_clips() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let auto = ClipOptions::default();
    write_folders(&at("clips"));
    check(&at("clips"), &auto, CLIPS, 0);
    check(&at("clips/clip-0"), &auto, 1, 0);
    write_apng(&at("a.png"));
    check(&at("a.png"), &auto, 1, 0);
    let animation =
        Animation { frames: (0..FRAMES).map(|t| picture(0, t)).collect(), delays_cs: vec![10; FRAMES] };
    write_gif(&at("a.gif"), &animation).unwrap();
    check(&at("a.gif"), &auto, 1, 0);
    // Seen for 0.7 s in all: half as many frames at half the rate, twice as many at twice.
    for (fps, count) in [(5.0, 4), (20.0, 14), (10.0, 7)] {
        for name in ["a.gif", "a.png"] {
            let clips = open(&at(name), &ClipOptions { fps: Some(fps), ..auto }).unwrap();
            assert_eq!(clips.frames(0), count, "{name} at {fps}");
        }
    }
    let jpeg = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clips_data");
    fs::create_dir(at("jpeg")).unwrap();
    fs::copy(jpeg.join("two-colours.jpg"), at("jpeg/0.jpg")).unwrap();
    fs::copy(jpeg.join("two-colours.jpg"), at("jpeg/1.JPEG")).unwrap();
    let clips = Clips::open(&at("jpeg"), &auto, None, 0..1, Cache::Memory, &mut |_, _| ()).unwrap();
    let mut frame = Frame::default();
    clips.frame(0, 1, &mut frame).unwrap();
    assert_eq!((frame.height, frame.width, frame.channels), (8, 16, 3));
    let near = |pixel: &[u8], colour: [u8; 3]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 6);
    assert!(near(&frame.pixels[..3], [200, 40, 40]) && near(&frame.pixels[45..48], [20, 30, 220]));
    fs::copy(jpeg.join("grey.jpg"), at("jpeg/2.jpg")).unwrap();
    let error = open(&at("jpeg"), &auto).unwrap_err().to_string();
    assert!(error.contains("2.jpg") && error.contains("8×8"), "{error}");
    fs::remove_file(at("jpeg/0.jpg")).unwrap();
    fs::remove_file(at("jpeg/1.JPEG")).unwrap();
    assert!(open(&at("jpeg"), &auto).unwrap().summary().contains("grey"));
    fs::write(at("jpeg/3.jpg"), b"\xff\xd8\xff").unwrap();
    assert!(open(&at("jpeg"), &auto).unwrap_err().to_string().contains("3.jpg"));
}

/// A stand-in for ffmpeg: it checks that it gets the file and writes the frames.
fn stand_in(folder: &Path, frames: &str, after: &str) -> PathBuf {
    let path = folder.join("ffmpeg-stand-in");
    let script =
        format!("#!/bin/sh\ncase \"$*\" in *file:*a.mp4*ppm*) ;; *) exit 9 ;; esac\ncat {frames}\n{after}\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn videos_are_decoded_by_ffmpeg_and_without_it_the_message_says_so() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    fs::write(folder.join("a.mp4"), b"video").unwrap();
    let mut frames = Vec::new();
    for t in 0..FRAMES {
        frames.extend(format!("P6\n{SIDE} {SIDE}\n255\n").bytes().chain(pixels(0, t)));
    }
    fs::write(folder.join("frames"), &frames).unwrap();
    let show = |decoder: &Path, out: &str| {
        let mut command = program(folder, &format!("data show a.mp4 --out {out}"));
        command.env("SSMV_FFMPEG", decoder).output().unwrap()
    };
    let output = show(&stand_in(folder, "frames", ""), "a.gif");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let clips = Clips::open(
        &folder.join("a.gif"),
        &ClipOptions::default(),
        None,
        0..1,
        Cache::Memory,
        &mut |_, _| (),
    );
    assert_eq!(Clip::read(&clips.unwrap(), 0).unwrap().frames, FRAMES);
    refused(&show(Path::new("/nonexistent/ffmpeg"), "b.gif"), 1, &["a.mp4", "install ffmpeg"]);
    let failing = stand_in(folder, "frames", "echo 'moov atom not found' >&2; exit 1");
    refused(&show(&failing, "b.gif"), 1, &["a.mp4", "moov atom not found"]);
    fs::write(folder.join("frames"), &frames[..frames.len() - 1]).unwrap();
    refused(&show(&stand_in(folder, "frames", ""), "b.gif"), 1, &["a.mp4", "cut short"]);
    fs::write(folder.join("frames"), b"").unwrap();
    refused(&show(&stand_in(folder, "frames", ""), "b.gif"), 1, &["a.mp4", "no frames"]);
    assert!(!folder.join("b.gif").exists());
}

fn json(folder: &Path, arguments: &str) -> Value {
    serde_json::from_str(&done(folder, arguments)).unwrap()
}

#[test]
fn training_evaluation_and_prediction_read_alike() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write_folders(&folder.join("clips"));
    write_u8(&folder.join("a.npy"), &[CLIPS, FRAMES, SIDE, SIDE, 3], &array()).unwrap();
    let train = "train --preset nano --steps 3 --batch-size 2 --frames-in 3 --eval-sequences 2 --data clips --out runs/r";
    let output = run(folder, train);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("5 sequences of 7 frames, 32×32, colour"), "{stderr}");
    assert!(!stderr.contains("digits"), "{stderr}");
    assert!(folder.join("runs/r/clips.cache").is_file());

    // The same sequence: one window of one clip.
    write_u8(&folder.join("one.npy"), &[5, SIDE, SIDE, 3], &array()[..5 * SIDE * SIDE * 3]).unwrap();
    let evaluated = json(folder, "eval --checkpoint runs/r --data one.npy --roll-out 2 --json");
    let mse = evaluated["next"]["model"]["mean"]["mse"].as_f64().unwrap();
    let output = run(folder, "predict --checkpoint runs/r --input one.npy --output p.npy");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(&format!("MSE {mse:.2} ")), "{mse}: {stderr}");
    let predicted = ssmv_raw::data::npy::read(&folder.join("p.npy")).unwrap();
    assert_eq!(predicted.shape, [2, SIDE, SIDE, 3]);

    // All clips of a folder and of an array, and a drawing in colour.
    done(folder, "predict --checkpoint runs/r --input a.npy --output all.npy");
    done(folder, "predict --checkpoint runs/r --input clips --output clips.npy");
    let [all, clips] =
        ["all.npy", "clips.npy"].map(|name| ssmv_raw::data::npy::read(&folder.join(name)).unwrap());
    assert_eq!(all.shape, [CLIPS, 2, SIDE, SIDE, 3]);
    assert_eq!(all, clips);
    done(folder, "predict --checkpoint runs/r --input clips --output pictures --frames 3");
    assert_eq!(fs::read_dir(folder.join("pictures")).unwrap().count(), CLIPS);
    assert_eq!(fs::read_dir(folder.join("pictures/sequence-0004")).unwrap().count(), 3);
    let output = run(folder, "predict --checkpoint runs/r --input clips --output p.gif");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("the first 4 of 5 sequences are drawn"), "{stderr}");
    done(folder, "predict --checkpoint runs/r --input clips --output end.npy --frames-in 7");

    // The run remembers its data, also seen from elsewhere; and says so where it is gone.
    fs::create_dir(folder.join("elsewhere")).unwrap();
    let here = json(folder, "eval --checkpoint runs/r --json");
    let there = json(&folder.join("elsewhere"), "eval --checkpoint ../runs/r --json");
    assert_eq!(here["next"], there["next"]);
    fs::rename(folder.join("clips"), folder.join("moved")).unwrap();
    refused(
        &run(folder, "--quiet eval --checkpoint runs/r"),
        1,
        &["runs/r", "--data clips", "does not exist"],
    );
    let moved = json(folder, "eval --checkpoint runs/r --data moved --json");
    assert_eq!(moved["sequences"], Value::from(5));
}

#[test]
fn a_run_keeps_the_layout_that_was_found_and_uses_its_decoded_clips_again() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write_u8(&folder.join("a.npy"), &[CLIPS, FRAMES, SIDE, SIDE, 3], &array()).unwrap();
    let train = "train --preset nano --steps 2 --batch-size 2 --frames-in 3 --eval-sequences 2";
    done(folder, &format!("{train} --data a.npy --stride 2 --out array"));
    let config = fs::read_to_string(folder.join("array/config.toml")).unwrap();
    assert!(config.contains("layout = \"nthwc\"") && config.contains("stride = 2"), "{config}");
    assert!(!folder.join("array/clips.cache").exists());
    write_folders(&folder.join("clips"));
    // An epoch is as long as the data: 4 clips of 3 windows by 2.
    let epoch = train.replace("--steps 2", "--epochs 1");
    let output = run(folder, &format!("{epoch} --data clips --out epoch"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("that is an epoch") && stderr.contains("step 1/6 "), "{stderr}");
    done(folder, &format!("{train} --data clips --out run"));
    let cache = folder.join("run/clips.cache");
    let written = || fs::metadata(&cache).unwrap().modified().unwrap();
    let first = written();
    done(folder, "train --resume run --steps 3");
    assert_eq!(written(), first);
    fs::write(
        folder.join("clips/clip-0/frame-000.png"),
        fs::read(folder.join("clips/clip-1/frame-003.png")).unwrap(),
    )
    .unwrap();
    done(folder, "train --resume run --steps 4");
    assert_ne!(written(), first);
}

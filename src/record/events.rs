//! TensorBoard event files, written without TensorFlow.
//!
//! A file is a sequence of TFRecords: length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data,
//! all little-endian, with mask(c) = (c ⋙ 15) + 0xa282ead8 (tensorflow/core/lib/io/record_writer.cc). The data is a
//! protobuf `Event` (tensorflow/core/util/event.proto) with `Summary` values (summary.proto); the few fields in use
//! are encoded by hand.

use crate::{Error, Result};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// One event file, flushed after each event.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates `folder/events.out.tfevents.TIME.HOST.PID`, a new file; `folder` is created if missing. TensorBoard reads the
    /// files of a folder by their names' order: TIME is after the newest file's there, even if the clock is behind.
    ///
    /// # Errors
    /// The folder or file cannot be written.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::file(folder, format_args!("cannot write: {e}")))?;
        let mut seconds = newest(folder).map_or(0, |newest| newest + 1).max(now() as u64);
        let (path, file) = loop {
            let name = format!("{PREFIX}{seconds:010}.{}.{}", host_name(), std::process::id());
            let path = folder.join(name);
            match File::create_new(&path) {
                Ok(file) => break (path, file),
                // Created since the folder was read.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => seconds += 1,
                Err(e) => return Err(Error::file(path, format_args!("cannot write: {e}"))),
            }
        };
        let mut events = Self { path, file };
        let version = Message::default().text(EVENT_FILE_VERSION, b"brain.Event:2");
        events.event(None, version)?;
        Ok(events)
    }

    /// Path of the event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Marks a restart of the run: TensorBoard then drops the records of older files from `step` on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn restart(&mut self, step: u64) -> Result<()> {
        let start = Message::default().varint(SESSION_LOG_STATUS, SESSION_LOG_START);
        self.event(Some(step), Message::default().message(EVENT_SESSION_LOG, &start))
    }

    /// Scalars of one step, under tags such as "train/loss". Values are stored as f32, NaN and infinity as such.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        let summary = scalars.iter().fold(Message::default(), |summary, (tag, value)| {
            let entry = Message::default().text(VALUE_TAG, tag.as_bytes()).float(VALUE_SIMPLE, *value as f32);
            summary.message(SUMMARY_VALUE, &entry)
        });
        self.event(Some(step), Message::default().message(EVENT_SUMMARY, &summary))
    }

    /// An image of one step: the bytes of a PNG or GIF file (a GIF moves in TensorBoard).
    ///
    /// # Errors
    /// The bytes are neither, or the file cannot be written.
    pub fn image(&mut self, step: u64, tag: &str, encoded: &[u8]) -> Result<()> {
        let ImageSize { width, height, channels } = image_size(encoded)
            .ok_or_else(|| Error::Failure(format!("the image for {tag:?} is neither a PNG nor a GIF")))?;
        let image = Message::default()
            .varint(IMAGE_HEIGHT, height.into())
            .varint(IMAGE_WIDTH, width.into())
            .varint(IMAGE_COLORSPACE, channels.into())
            .text(IMAGE_ENCODED, encoded);
        let entry = Message::default().text(VALUE_TAG, tag.as_bytes()).message(VALUE_IMAGE, &image);
        let summary = Message::default().message(SUMMARY_VALUE, &entry);
        self.event(Some(step), Message::default().message(EVENT_SUMMARY, &summary))
    }

    fn event(&mut self, step: Option<u64>, body: Message) -> Result<()> {
        let event = Message::default().double(EVENT_WALL_TIME, now());
        let event = if let Some(step) = step { event.varint(EVENT_STEP, step) } else { event };
        let bytes = frame(&[event.0, body.0].concat());
        // One call a record: a kill leaves at most one torn record, at the end, which TensorBoard ignores.
        self.file.write_all(&bytes).map_err(|e| Error::file(&self.path, format_args!("cannot write: {e}")))
    }
}

/// How the names of event files begin.
const PREFIX: &str = "events.out.tfevents.";

/// The time in the name of the newest event file in a folder, in seconds since 1970. Names with more than ten digits, which
/// do not sort, are left out.
fn newest(folder: &Path) -> Option<u64> {
    let names =
        std::fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let time = |name: String| {
        let time = name.strip_prefix(PREFIX)?.split('.').next()?;
        time.parse().ok().filter(|&time| time < 9_999_999_999)
    };
    names.filter_map(time).max()
}

/// `data` as a TFRecord.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), data, &masked_crc(data).to_le_bytes()].concat()
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

const EVENT_WALL_TIME: u32 = 1;
const EVENT_STEP: u32 = 2;
const EVENT_FILE_VERSION: u32 = 3;
const EVENT_SUMMARY: u32 = 5;
const EVENT_SESSION_LOG: u32 = 7;
const SESSION_LOG_STATUS: u32 = 1;
const SESSION_LOG_START: u64 = 1;
const SUMMARY_VALUE: u32 = 1;
const VALUE_TAG: u32 = 1;
const VALUE_SIMPLE: u32 = 2;
const VALUE_IMAGE: u32 = 4;
const IMAGE_HEIGHT: u32 = 1;
const IMAGE_WIDTH: u32 = 2;
const IMAGE_COLORSPACE: u32 = 3;
const IMAGE_ENCODED: u32 = 4;

/// Encoder of a protobuf message; each method appends one field.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, field: u32, value: u64) -> Self {
        self.key(field, 0);
        self.raw_varint(value);
        self
    }

    fn double(mut self, field: u32, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(mut self, field: u32, value: &[u8]) -> Self {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn message(self, field: u32, value: &Self) -> Self {
        self.text(field, &value.0)
    }

    fn float(mut self, field: u32, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.raw_varint(u64::from(field << 3 | wire_type));
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Size in pixels; `channels` as Summary.Image counts colour spaces: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
struct ImageSize {
    width: u32,
    height: u32,
    channels: u32,
}

/// Reads the size from the head of a PNG (its IHDR chunk) or a GIF.
fn image_size(bytes: &[u8]) -> Option<ImageSize> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16)? == b"IHDR" {
        let number = |at| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let channels = match bytes.get(25)? {
            0 => 1,
            4 => 2,
            6 => 4,
            _ => 3,
        };
        return Some(ImageSize { width: number(16)?, height: number(20)?, channels });
    }
    if bytes.starts_with(b"GIF8") {
        let number = |at| Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
        return Some(ImageSize { width: number(6)?, height: number(8)?, channels: 3 });
    }
    None
}

/// Time as seconds since 1970 (UTC).
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The machine's name from a system file or the environment, else "localhost".
pub(crate) fn host_name() -> String {
    let read = |path| std::fs::read_to_string(path).ok();
    let name = read("/proc/sys/kernel/hostname").or_else(|| read("/etc/hostname"));
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name: String = name.trim().chars().filter(kept).take(64).collect();
    if name.is_empty() { "localhost".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_the_known_ones() {
        // RFC 3720, B.4; the last is how every TensorFlow event file begins: a record of 24 bytes.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(frame(&[0; 24])[..12], *b"\x18\0\0\0\0\0\0\0\xa3\x7fK\"");
    }

    #[test]
    fn varints_are_protobufs() {
        let bytes = Message::default().varint(1, 150).text(2, b"testing").varint(3, 0).0;
        assert_eq!(bytes, b"\x08\x96\x01\x12\x07testing\x18\x00");
        assert_eq!(Message::default().varint(16, u64::MAX).0.len(), 12);
    }

    #[test]
    fn image_sizes_come_from_the_head() {
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, 7, 3);
        encoder.set_color(png::ColorType::Rgba);
        encoder.write_header().unwrap().write_image_data(&[0; 7 * 3 * 4]).unwrap();
        let size = image_size(&png).unwrap();
        assert_eq!((size.width, size.height, size.channels), (7, 3, 4));
        let size = image_size(b"GIF89a\x40\x01\x02\x00").unwrap();
        assert_eq!((size.width, size.height), (320, 2));
        assert!((0..26).all(|n| image_size(&png[..n]).is_none()));
        assert!(image_size(b"JFIF").is_none());
    }
}

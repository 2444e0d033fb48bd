//! Videos through the program `ffmpeg`, which writes their frames as PPM pictures to a pipe.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use super::Frame;
use crate::{Error, Result};

/// Variable that names the program.
const PROGRAM: &str = "SSMV_FFMPEG";
/// Maximum width and height of a video in pixels.
const MAX_SIDE: usize = 8192;
/// Most of its messages that is kept, in bytes.
const MAX_MESSAGES: u64 = 64 << 10;

/// Calls `each` with the frames of a video; `fps`: so many of them a second, else all.
///
/// # Errors
/// [`Error::File`] when `ffmpeg` is not installed, cannot read the file, or writes something else; the error of `each`.
pub(super) fn decode(path: &Path, fps: Option<f64>, each: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
    let program = std::env::var_os(PROGRAM).unwrap_or_else(|| "ffmpeg".into());
    // A file, whatever its name looks like; and nothing that a playlist in it names elsewhere.
    let mut input = OsString::from("file:");
    input.push(path);
    let mut command = Command::new(&program);
    command.args(["-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-i"]).arg(input);
    if let Some(fps) = fps {
        command.args(["-vf", &format!("fps={fps}")]);
    }
    command.args(["-an", "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| {
        let program = program.display();
        Error::file(
            path,
            format!(
                "is a video, and {program} cannot be started to decode it: {e}; install ffmpeg, or save the frames as \
                 pictures or as an .npy file"
            ),
        )
    })?;
    let messages = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = (&mut stderr).take(MAX_MESSAGES).read_to_end(&mut text);
            // The rest is read so that the program does not wait.
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            String::from_utf8_lossy(&text).into_owned()
        })
    });
    let (mut frames, mut result) = (0_u64, Ok(()));
    if let Some(stdout) = child.stdout.take() {
        let mut pictures = BufReader::new(stdout);
        result = loop {
            match picture(&mut pictures, path) {
                Ok(Some(frame)) => {
                    frames += 1;
                    if let Err(e) = each(frame) {
                        break Err(e);
                    }
                }
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            }
        };
    }
    if result.is_err() {
        // It may have ended already.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| Error::file(path, format!("ffmpeg's end is unknown: {e}")))?;
    let messages = messages.and_then(|thread| thread.join().ok()).unwrap_or_default();
    result?;
    if !status.success() || frames == 0 {
        let last = messages.lines().last().unwrap_or("it wrote no frames").trim();
        return Err(Error::file(path, format!("cannot be decoded by ffmpeg: {last}")));
    }
    Ok(())
}

/// The next PPM picture (`P6`); `None` at the end.
fn picture(source: &mut impl BufRead, path: &Path) -> Result<Option<Frame>> {
    let bad = |what: &str| Error::file(path, format!("ffmpeg writes no PPM pictures: {what}"));
    let unreadable = |e: std::io::Error| bad(&e.to_string());
    if source.fill_buf().map_err(unreadable)?.is_empty() {
        return Ok(None);
    }
    let mut words = Vec::new();
    while words.len() < 4 {
        let mut line = Vec::new();
        source.take(64).read_until(b'\n', &mut line).map_err(unreadable)?;
        let text = std::str::from_utf8(&line).map_err(|_| bad("a header that is not text"))?;
        if line.last() != Some(&b'\n') {
            return Err(bad("a header that is cut short"));
        }
        words.extend(text.split_whitespace().map(str::to_owned));
    }
    let size = |word: &str| word.parse().ok().filter(|size| (1..=MAX_SIDE).contains(size));
    let (Some(width), Some(height)) = (size(&words[1]), size(&words[2])) else {
        return Err(bad(&format!("sizes {} and {}; 1 to {MAX_SIDE} can be", words[1], words[2])));
    };
    if (words[0].as_str(), words[3].as_str()) != ("P6", "255") {
        return Err(bad(&format!("a header {words:?}")));
    }
    let mut pixels = vec![0; height * width * 3];
    source.read_exact(&mut pixels).map_err(|_| bad("a picture that is cut short"))?;
    Ok(Some(Frame { height, width, channels: 3, pixels }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_follow_each_other() {
        let bytes = b"P6\n2 1\n255\nabcdefP6\n1 1\n255\nxyz".to_vec();
        let mut source = &bytes[..];
        let path = Path::new("a.mp4");
        let first = picture(&mut source, path).unwrap().unwrap();
        assert_eq!((first.height, first.width, &first.pixels[..]), (1, 2, &b"abcdef"[..]));
        assert_eq!(picture(&mut source, path).unwrap().unwrap().pixels, b"xyz");
        assert!(picture(&mut source, path).unwrap().is_none());
        for bad in
            [&b"P5\n2 1\n255\nab"[..], b"P6\n2 1\n255\nab", b"P6\n0 1\n255\n", b"P6\n99999 1\n255\n", b"P6"]
        {
            assert!(picture(&mut &bad[..], path).unwrap_err().to_string().contains("a.mp4"), "{bad:?}");
        }
    }
}

//! A TOML file with any of the training options.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::TrainOptions;
use crate::{Error, Result};

/// Maximum size of a configuration file in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A configuration file: its options, and the line of each for messages.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Options that it sets.
    pub options: TrainOptions,
    lines: Vec<(String, usize)>,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read; [`Error::Usage`] with file, line and key when its content is wrong.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let text = read_text(&path)?;
        Self::parse(path, &text)
    }

    /// Reads `text` as the content of the file `path`, which only the errors use.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub fn parse(path: impl Into<PathBuf>, text: &str) -> Result<Self> {
        let path = path.into();
        let wrong = |at: Range<usize>, message: String| {
            Error::Usage(format!("{}, line {}: {message}", path.display(), line(text, at.start)))
        };
        let syntax = |e: toml::de::Error| wrong(e.span().unwrap_or(0..0), one_line(e.message()));

        let table = DeTable::parse(text).map_err(syntax)?;
        let names: Vec<String> = TrainOptions::names().collect();
        let mut lines = Vec::new();
        for key in table.get_ref().keys() {
            let given: &str = key.get_ref();
            let renamed = TrainOptions::renamed(given);
            let name = renamed.as_deref().unwrap_or(given);
            if !names.iter().any(|known| known == name) {
                let hint = match nearest(name, names.iter().map(String::as_str)) {
                    Some(known) => format!("did you mean `{known}`?"),
                    None => "the keys are the long options of `ssmv-raw train --help`".to_owned(),
                };
                let shown: String = name.escape_default().take(64).collect();
                return Err(wrong(key.span(), format!("unknown key `{shown}`; {hint}")));
            }
            if renamed.is_some() && table.get_ref().contains_key(name) {
                return Err(wrong(
                    key.span(),
                    format!("`{given}` is the former name of `{name}`; remove it"),
                ));
            }
            lines.push((name.to_owned(), line(text, key.span().start)));
        }

        let options: TrainOptions = toml::from_str(text).map_err(|e| {
            let at = e.span().unwrap_or(0..0);
            let inside = |value: Range<usize>| value.start <= at.start && at.start < value.end;
            match table.get_ref().iter().find(|(_, value)| inside(value.span())) {
                Some((key, _)) => wrong(at, format!("{}: {}", key.get_ref(), one_line(e.message()))),
                None => wrong(at, one_line(e.message())),
            }
        })?;
        Ok(Self { path, options, lines })
    }

    /// Line of a key, counted from 1.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.lines.iter().find(|(name, _)| name == key).map(|(_, line)| *line)
    }
}

/// The file as text. At most [`MAX_BYTES`] + 1 bytes are read.
fn read_text(path: &Path) -> Result<String> {
    let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
    if path.is_dir() {
        return Err(Error::file(path, "is a folder; --config takes a TOML file"));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::file(path, "is larger than 1 MiB, so it is not a configuration"));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::file(path, "is not text in UTF-8, so it is not a configuration"))
}

/// Line of a byte offset, counted from 1.
fn line(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

/// Joins the lines of a message with `; `.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The candidate nearest to `word` by edit distance, where the distance is at most a third of the word's letters, or 1. Case
/// is ignored, and `_` equals `-`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| -> Vec<char> { text.to_lowercase().replace('_', "-").chars().collect() };
    // All names are shorter; the bound keeps the quadratic cost of a very long word away.
    if word.len() > 64 {
        return None;
    }
    let word = plain(word);
    let allowed = (word.len() / 3).max(1);
    let near = candidates.into_iter().map(|candidate| (distance(&word, &plain(candidate)), candidate));
    near.filter(|(d, _)| *d <= allowed).min_by_key(|(d, _)| *d).map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_file_line_and_key() {
        for (text, expected) in [
            (
                "lr = 1e-3\nbatch_size = 8\n",
                "c.toml, line 2: unknown key `batch_size`; did you mean `batch-size`?",
            ),
            ("[train]\nlr = 1", "c.toml, line 1: unknown key `train`; the keys are"),
            ("\n\nlr = 'fast'", "c.toml, line 3: lr: invalid type: string \"fast\", expected f64"),
            (
                "rule = 'other'",
                "c.toml, line 1: rule: unknown variant `other`, expected `standard` or `ssm-video`",
            ),
            ("seed = 99999999999999999999", "c.toml, line 1: "),
            ("lr = 1\nlr = 2", "c.toml, line 2: duplicate key"),
            ("lr = ", "c.toml, line 1: "),
        ] {
            let error = ConfigFile::parse("c.toml", text).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{text:?}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn whole_numbers_serve_as_fractions() {
        let file = ConfigFile::parse("c.toml", "# a comment\nclip-norm = 1\n").unwrap();
        assert_eq!(file.options.clip_norm, Some(1.0));
        assert_eq!(file.line_of("clip-norm"), Some(2));
        assert_eq!(file.line_of("lr"), None);
    }

    #[test]
    fn a_key_of_an_older_version_is_read_as_its_new_name() {
        let file = ConfigFile::parse("c.toml", "lr = 1\ncanvas = 64\n").unwrap();
        assert_eq!((file.options.size, file.line_of("size")), (Some(64), Some(2)));
        let both = ConfigFile::parse("c.toml", "canvas = 64\nsize = 64\n").unwrap_err().to_string();
        assert!(both.starts_with("c.toml, line 1: `canvas` is the former name of `size`"), "{both}");
    }

    #[test]
    fn misspelt_names_are_found_and_others_are_not() {
        let names = ["batch-size", "lr", "epochs", "steps"];
        for (word, expected) in [
            ("batch_size", Some("batch-size")),
            ("Batch-Sise", Some("batch-size")),
            ("lrr", Some("lr")),
            ("epoch", Some("epochs")),
            ("momentum", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|[\\n=\"'\\[\\]{}.#-]|lr|seed){0,60}") {
            let _ = ConfigFile::parse("c.toml", &text);
        }
    }
}

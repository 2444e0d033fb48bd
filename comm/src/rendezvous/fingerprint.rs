//! What all ranks must agree on.

use super::error::{Reason, ranks_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Display;

const MOST_FIELDS: usize = 64;
const MOST_NAME: usize = 64;
const MOST_VALUE: usize = 512;

/// How much of a value a message shows.
const SHOWN: usize = 80;

/// Named texts that must be the same on all ranks: the program, the configuration, the data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    fields: Vec<(String, String)>,
}

impl Fingerprint {
    /// A fingerprint with nothing on it.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this field, in place of one of the same name. At most 64 fields, names up to 64 bytes and values up to 512
    /// join; of what is longer, put a digest here.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        let value = value.to_string();
        match self.fields.iter_mut().find(|field| field.0 == name) {
            Some(field) => field.1 = value,
            None => self.fields.push((name.into(), value)),
        }
        self
    }

    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }

    /// Whether it keeps the limits.
    pub(super) fn check(&self) -> Result<(), Reason> {
        if self.fields.len() > MOST_FIELDS {
            return Err(Reason::Fingerprint(format!(
                "a fingerprint has {} fields, more than {MOST_FIELDS}",
                self.fields.len()
            )));
        }
        match self.fields.iter().find(|(name, value)| name.len() > MOST_NAME || value.len() > MOST_VALUE) {
            None => Ok(()),
            Some((name, value)) => Err(Reason::Fingerprint(format!(
                "the fingerprint's field {} is too long: {} bytes, where {MOST_VALUE} fit",
                quote(name),
                value.len()
            ))),
        }
    }

    /// What the ranks' fingerprints do not have in common, with values and ranks; none if they agree.
    pub(super) fn differences(fingerprints: &[(usize, &Fingerprint)]) -> Option<String> {
        let (_, first) = fingerprints.first()?;
        if fingerprints.iter().all(|(_, fingerprint)| fingerprint == first) {
            return None;
        }
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in fingerprints.iter().flat_map(|(_, fingerprint)| &fingerprint.fields) {
            // No more names than one fingerprint may have; the rest is cut off anyway.
            if names.len() < MOST_FIELDS && !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let fields: Vec<_> = names.into_iter().filter_map(|name| difference(name, fingerprints)).collect();
        (!fields.is_empty()).then(|| format!("the ranks do not agree: {}", fields.join("; ")))
    }
}

fn difference(name: &str, fingerprints: &[(usize, &Fingerprint)]) -> Option<String> {
    const MOST: usize = 4;
    let mut values: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (rank, fingerprint) in fingerprints {
        values.entry(fingerprint.get(name)).or_default().push(*rank);
    }
    if values.len() < 2 {
        return None;
    }
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by_key(|(_, ranks)| ranks.first().copied());
    let more = values.len().saturating_sub(MOST);
    let mut shown: Vec<_> = values
        .iter()
        .take(MOST)
        .map(|(value, ranks)| {
            format!("{} on {}", value.map_or_else(|| "nothing".into(), quote), ranks_text(ranks))
        })
        .collect();
    if more > 0 {
        shown.push(format!("{more} more values"));
    }
    Some(format!("{name} is {}", shown.join(", ")))
}

/// In quotation marks, without control characters, the end cut off.
fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

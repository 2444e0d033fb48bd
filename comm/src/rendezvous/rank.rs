//! A rank's identity: its number, the master's address, and a fingerprint of its work.

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use serde::{Deserialize, Serialize};

use super::{Reason, ranks_text};

/// A rank's number among all ranks, and the address where rank 0 listens for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// This rank, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// This rank's number among the ranks of its machine, from 0.
    pub local_rank: usize,
    /// The number of ranks on its machine.
    pub local_size: usize,
    /// The name or address of rank 0's machine.
    pub master: String,
    /// The port where rank 0 listens.
    pub port: u16,
}

impl Place {
    /// Checks that the numbers are consistent.
    pub(super) fn check(&self) -> Result<(), Reason> {
        let Self { rank, size, local_rank, local_size, .. } = *self;
        let fail = |text: String| Err(Reason::Place(text));
        if size > usize::from(u16::MAX) {
            return fail(format!("{size} ranks are more than 65,535"));
        }
        if rank >= size {
            return fail(format!("rank {rank} is not one of {size} ranks, which count from 0"));
        }
        if local_rank >= local_size || local_size > size {
            return fail(format!("local rank {local_rank} of {local_size} is invalid among {size} ranks"));
        }
        if size > 1 && (self.master.is_empty() || self.port == 0) {
            return fail(format!("{:?} port {} is not the address of a master", self.master, self.port));
        }
        Ok(())
    }

    /// The master as `host:port`, for messages.
    pub(super) fn name(&self) -> String {
        match self.master.contains(':') && !self.master.starts_with('[') {
            true => format!("[{}]:{}", self.master, self.port),
            false => format!("{}:{}", self.master, self.port),
        }
    }

    /// The master's addresses, with those that other machines can reach first.
    pub(super) fn resolve(&self) -> Result<Vec<SocketAddr>, Reason> {
        let fail = |why: String| Reason::Resolve { name: self.name(), why };
        let host = self.master.trim_start_matches('[').trim_end_matches(']');
        let mut found: Vec<_> =
            (host, self.port).to_socket_addrs().map_err(|e| fail(e.to_string()))?.collect();
        // The system may return an address once for each kind of socket.
        found.sort_by_key(|address| is_loopback(address.ip()));
        found.dedup();
        if found.iter().any(|address| address.ip().to_canonical().is_unspecified()) {
            return Err(fail("it means every interface: give the address of one".into()));
        }
        match found.first() {
            None => Err(self.unresolved()),
            Some(first) if is_loopback(first.ip()) && self.spans_machines() && !is_explicitly_local(host) => {
                let text =
                    format!("here it is {}, which other machines cannot reach: give an address", first.ip());
                Err(fail(text))
            }
            Some(_) => Ok(found),
        }
    }

    /// The error for a name without an address.
    pub(super) fn unresolved(&self) -> Reason {
        Reason::Resolve { name: self.name(), why: "the name has no address".into() }
    }

    pub(super) fn spans_machines(&self) -> bool {
        self.local_size < self.size
    }
}

/// Whether only this machine can reach the address.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether the name means this machine on purpose.
fn is_explicitly_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok()
}

const MOST_FIELDS: usize = 64;
const MOST_NAME: usize = 64;
const MOST_VALUE: usize = 512;

/// Number of characters of a value that a message shows.
const SHOWN: usize = 80;

/// Named texts that must be the same on all ranks: the program, the configuration, the data.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    fields: Vec<(String, String)>,
}

impl Fingerprint {
    /// A fingerprint without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a field. The limits are 64 fields, names of 64 bytes and values of 512 bytes; use a digest for longer
    /// values.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        let value = value.to_string();
        match self.fields.iter_mut().find(|field| field.0 == name) {
            Some(field) => field.1 = value,
            None => self.fields.push((name.into(), value)),
        }
        self
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }

    /// Checks that all limits are kept.
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
                "the fingerprint's field {} is too long: {} bytes, more than {MOST_VALUE}",
                quote(name),
                value.len()
            ))),
        }
    }

    /// The fields that differ between ranks, with their values; `None` if the fingerprints agree.
    pub(super) fn differences(fingerprints: &[(usize, &Fingerprint)]) -> Option<String> {
        let (_, first) = fingerprints.first()?;
        if fingerprints.iter().all(|(_, fingerprint)| fingerprint == first) {
            return None;
        }
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in fingerprints.iter().flat_map(|(_, fingerprint)| &fingerprint.fields) {
            // A fingerprint has no more names, and the message would be cut off.
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

/// The start of a text in quotation marks, with control characters escaped.
fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

//! Where a rank stands and whom it asks for the others.

use super::error::Reason;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// A rank's place among all ranks, and the address where rank 0 listens for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// This rank, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// This rank among those of its machine, from 0.
    pub local_rank: usize,
    /// The number of ranks of its machine.
    pub local_size: usize,
    /// The name or address of rank 0's machine.
    pub master: String,
    /// The port where rank 0 listens.
    pub port: u16,
}

impl Place {
    /// Numbers that fit each other.
    pub(super) fn check(&self) -> Result<(), Reason> {
        let Self { rank, size, local_rank, local_size, .. } = *self;
        let fail = |text: String| Err(Reason::Place(text));
        if size > usize::from(u16::MAX) {
            return fail(format!("{size} ranks are more than 65,535"));
        }
        if rank >= size {
            return fail(format!("rank {rank} is none of {size} ranks, which count from 0"));
        }
        if local_rank >= local_size || local_size > size {
            return fail(format!("local rank {local_rank} of {local_size} is impossible among {size} ranks"));
        }
        if size > 1 && (self.master.is_empty() || self.port == 0) {
            return fail(format!("{:?} port {} is not the address of a master", self.master, self.port));
        }
        Ok(())
    }

    /// `master:port` for messages.
    pub(super) fn name(&self) -> String {
        match self.master.contains(':') && !self.master.starts_with('[') {
            true => format!("[{}]:{}", self.master, self.port),
            false => format!("{}:{}", self.master, self.port),
        }
    }

    /// The master's addresses, those that other machines reach first.
    pub(super) fn resolve(&self) -> Result<Vec<SocketAddr>, Reason> {
        let fail = |why: String| Reason::Resolve { name: self.name(), why };
        let host = self.master.trim_start_matches('[').trim_end_matches(']');
        let mut found: Vec<_> =
            (host, self.port).to_socket_addrs().map_err(|e| fail(e.to_string()))?.collect();
        // The system gives an address once for every kind of socket at times.
        found.sort_by_key(|address| is_loopback(address.ip()));
        found.dedup();
        if found.iter().any(|address| address.ip().to_canonical().is_unspecified()) {
            return Err(fail("it stands for every interface: give the address of one".into()));
        }
        match found.first() {
            None => Err(self.nowhere()),
            Some(first) if is_loopback(first.ip()) && self.spans_machines() && !is_plainly_local(host) => {
                let text =
                    format!("here it is {}, which other machines do not reach: give an address", first.ip());
                Err(fail(text))
            }
            Some(_) => Ok(found),
        }
    }

    /// The error that the master's name has no address.
    pub(super) fn nowhere(&self) -> Reason {
        Reason::Resolve { name: self.name(), why: "the name has no address".into() }
    }

    fn spans_machines(&self) -> bool {
        self.local_size < self.size
    }
}

/// Whether only this machine reaches the address.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether the name is an explicit name of this machine.
fn is_plainly_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok()
}

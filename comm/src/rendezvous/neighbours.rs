//! Connecting a rank with its neighbours in the ring, once the master knows all addresses.

use super::Settings;
use super::acceptor::Acceptor;
use super::dialer::{Dialer, Request};
use super::error::Reason;
use super::handshake::Purpose;
use super::security::Security;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

/// Both connections of a rank, as far as they stand.
pub struct Ring<'a> {
    rank: usize,
    size: usize,
    acceptor: Acceptor,
    call: Dialer<'a>,
    address: SocketAddr,
    since: Instant,
    settings: &'a Settings,
    left: Option<TcpStream>,
    right: Option<TcpStream>,
}

impl<'a> Ring<'a> {
    /// Begins: the left neighbour comes through `acceptor`, the right one listens at its place in `addresses`.
    ///
    /// # Errors
    /// Addresses that are not those of all ranks.
    pub fn new(
        rank: usize,
        acceptor: Acceptor,
        addresses: &[SocketAddr],
        security: &'a Security,
        settings: &'a Settings,
    ) -> Result<Self, Reason> {
        let size = addresses.len();
        let to = (rank + 1) % size.max(1);
        let Some(&address) = addresses.get(to) else {
            return Err(Reason::Lost("the master sent no addresses".into()));
        };
        let request = Request { purpose: Purpose::Ring, from: rank, to, size };
        let call = Dialer::new(request, security, settings.handshake_timeout, move || Ok(vec![address]));
        let since = Instant::now();
        Ok(Self { rank, size, acceptor, call, address, since, settings, left: None, right: None })
    }

    /// Whether both neighbours are connected.
    ///
    /// # Errors
    /// One of them is not within the time for it.
    pub fn poll(&mut self) -> Result<bool, Reason> {
        let left = (self.rank + self.size - 1) % self.size;
        if self.left.is_none() {
            let accepted = self.acceptor.poll();
            self.left = accepted
                .into_iter()
                .find(|accepted| accepted.rank == left && accepted.size == self.size)
                .map(|accepted| accepted.stream);
        }
        if self.right.is_none() {
            self.right = self.call.poll()?;
        }
        let waited = self.since.elapsed();
        match (&self.left, &self.right) {
            (Some(_), Some(_)) => Ok(true),
            _ if waited < self.settings.ring => Ok(false),
            (_, None) => {
                let who = format!("rank {} at {}", (self.rank + 1) % self.size, self.address);
                Err(Reason::Unreachable { who, waited, why: self.call.last.clone() })
            }
            (None, _) => Err(Reason::Lost(format!(
                "rank {left} has not connected to rank {} for {:.1} s",
                self.rank,
                waited.as_secs_f64()
            ))),
        }
    }

    /// The streams from the left and to the right neighbour; the listener closes.
    ///
    /// # Errors
    /// They are not both there.
    pub fn into_streams(self) -> Result<(TcpStream, TcpStream), Reason> {
        self.left.zip(self.right).ok_or_else(|| Reason::Lost("the ring is not connected".into()))
    }
}

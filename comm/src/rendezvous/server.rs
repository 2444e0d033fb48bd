//! Rank 0, the master: waits for the other ranks, compares their fingerprints, and sends them the addresses of all.

use super::acceptor::Acceptor;
use super::client::{Channel, Message, Ring, TO_MASTER};
use super::handshake::Purpose;
use super::rank::{Fingerprint, Place};
use super::security::Security;
use super::{FAREWELL, POLL, Reason, Settings, Streams, listener, ranks_text};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// Gathers the other ranks and returns the streams to rank 0's neighbours.
///
/// # Errors
/// A rank cannot join; the ranks that have connected get the same error.
pub fn gather(
    place: &Place,
    fingerprint: &Fingerprint,
    security: &Security,
    settings: &Settings,
) -> Result<Streams, Reason> {
    let (joins, address) = bind(place)?;
    let system = |e: std::io::Error| Reason::System(format!("the listener on {address} fails: {e}"));
    let mut joins = Acceptor::new(joins, Purpose::Join, 0, security, settings).map_err(system)?;
    let (listener, address) = listener(address.ip())?;
    let acceptor = Acceptor::new(listener, Purpose::Ring, 0, security, settings).map_err(system)?;
    let mut server = Server {
        place,
        fingerprint,
        settings,
        since: Instant::now(),
        peers: Vec::new(),
        conflict_since: None,
    };
    let result = server.run(&mut joins, acceptor, address, security);
    if let Err(reason) = &result {
        server.refuse(&reason.to_string());
    }
    result
}

/// Listens at the master's address, on that interface only.
fn bind(place: &Place) -> Result<(TcpListener, SocketAddr), Reason> {
    let mut failed = None;
    for address in place.resolve()? {
        let why = match TcpListener::bind(address) {
            Ok(listener) => return Ok((listener, address)),
            Err(e) if e.kind() == ErrorKind::AddrInUse => {
                let why =
                    "the port is in use, by another program or by a job that has not ended; choose another";
                return Err(Reason::Bind { address, why: why.into() });
            }
            Err(e) if e.kind() == ErrorKind::AddrNotAvailable => {
                "it is not this machine's, but rank 0 must run at the master's address".into()
            }
            Err(e) => e.to_string(),
        };
        // A name may have addresses of a kind that this machine does not have.
        failed = failed.or(Some(Reason::Bind { address, why }));
    }
    Err(failed.unwrap_or_else(|| place.unresolved()))
}

/// A rank after its handshake.
struct Peer {
    rank: usize,
    size: usize,
    channel: Channel,
    fingerprint: Option<(Fingerprint, SocketAddr)>,
    connected: bool,
}

struct Server<'a> {
    place: &'a Place,
    fingerprint: &'a Fingerprint,
    settings: &'a Settings,
    since: Instant,
    peers: Vec<Peer>,
    /// Time at which a conflict between the ranks was found.
    conflict_since: Option<Instant>,
}

impl Server<'_> {
    fn run(
        &mut self,
        joins: &mut Acceptor,
        acceptor: Acceptor,
        address: SocketAddr,
        security: &Security,
    ) -> Result<Streams, Reason> {
        self.assemble(joins)?;
        let table = self.table(address);
        self.send_to_all(&Message::Table(table.clone()))?;
        let mut ring = Ring::new(0, acceptor, &table, security, self.settings)?;
        // The other ranks report their own errors first.
        let deadline = Instant::now() + self.settings.ring + Duration::from_secs(1);
        loop {
            self.receive()?;
            let connected = ring.poll()?;
            let late: Vec<_> = self.peers.iter().filter(|g| !g.connected).map(|g| g.rank).collect();
            if connected && late.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                return Err(Reason::Lost(format!("{} did not connect the ring in time", ranks_text(&late))));
            }
            thread::sleep(POLL);
        }
        self.send_to_all(&Message::Go)?;
        ring.into_streams()
    }

    /// Waits until all ranks have connected and agree.
    fn assemble(&mut self, joins: &mut Acceptor) -> Result<(), Reason> {
        let mut logged = false;
        loop {
            for accepted in joins.poll() {
                let channel = Channel::new(accepted.connection, TO_MASTER);
                let (rank, size) = (accepted.rank, accepted.size);
                self.peers.push(Peer { rank, size, channel, fingerprint: None, connected: false });
            }
            self.peers.sort_by_key(|peer| peer.rank);
            let news = self.receive()?;
            let here = 1 + self.peers.iter().filter(|peer| peer.fingerprint.is_some()).count();
            let size = self.peers.iter().map(|peer| peer.size).max().unwrap_or(0).max(self.place.size);
            let in_grace = self.conflict_since.is_none_or(|since| since.elapsed() < self.settings.grace);
            if news || !in_grace {
                match self.conflict() {
                    // Ranks that are still connecting must get the refusal too.
                    Some(why) if here >= size || !in_grace => return Err(Reason::Refused(why)),
                    Some(_) => self.conflict_since = self.conflict_since.or(Some(Instant::now())),
                    None if here == size => return Ok(()),
                    None => {}
                }
            }
            let waited = self.since.elapsed();
            if waited >= self.settings.quiet && !logged {
                (self.settings.log)(&format!("rank 0 waits for {}", ranks_text(&self.missing())));
                logged = true;
            }
            if waited >= self.settings.timeout {
                let missing = Reason::Missing { ranks: self.missing(), waited };
                return Err(self.conflict().map_or(missing, Reason::Refused));
            }
            thread::sleep(POLL);
        }
    }

    /// The ranks that have not sent their fingerprint.
    fn missing(&self) -> Vec<usize> {
        let here: BTreeSet<_> =
            self.peers.iter().filter(|g| g.fingerprint.is_some()).map(|g| g.rank).collect();
        (1..self.place.size).filter(|rank| !here.contains(rank)).collect()
    }

    /// Receives the peers' messages. Returns whether there were any.
    fn receive(&mut self) -> Result<bool, Reason> {
        let mut news = false;
        for peer in &mut self.peers {
            let rank = peer.rank;
            let message = peer.channel.poll();
            match message.map_err(|e| Reason::Lost(format!("rank {rank} left while the ranks met: {e}")))? {
                None => continue,
                Some(Message::Here { fingerprint, address }) if peer.fingerprint.is_none() => {
                    fingerprint
                        .check()
                        .map_err(|reason| Reason::Refused(format!("rank {rank}: {reason}")))?;
                    peer.fingerprint = Some((fingerprint, address));
                }
                Some(Message::Connected) if peer.fingerprint.is_some() => peer.connected = true,
                Some(Message::Refused(why)) => return Err(Reason::Refused(format!("rank {rank}: {why}"))),
                Some(_) => return Err(Reason::Lost(format!("rank {rank} sent an unexpected message"))),
            }
            news = true;
        }
        Ok(news)
    }

    /// A conflict between the connected ranks, if there is one.
    fn conflict(&self) -> Option<String> {
        let size = self.place.size;
        let mut others: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for peer in self.peers.iter().filter(|peer| peer.size != size) {
            others.entry(peer.size).or_default().push(peer.rank);
        }
        if !others.is_empty() {
            let others: Vec<_> =
                others.iter().map(|(size, ranks)| format!("{size} on {}", ranks_text(ranks))).collect();
            return Some(format!("the number of ranks is {size} on rank 0, {}", others.join(", ")));
        }
        let mut seen = BTreeSet::from([0]);
        if let Some(twice) = self.peers.iter().find(|peer| peer.rank >= size || !seen.insert(peer.rank)) {
            return Some(match twice.rank {
                rank if rank >= size => format!("rank {rank} is not one of {size} ranks"),
                rank => format!("there is more than one rank {rank}: each process needs a rank of its own"),
            });
        }
        let mut fingerprints = vec![(0, self.fingerprint)];
        fingerprints
            .extend(self.peers.iter().filter_map(|peer| Some((peer.rank, &peer.fingerprint.as_ref()?.0))));
        Fingerprint::differences(&fingerprints)
    }

    /// The addresses where the ranks listen, in the order of the ranks.
    fn table(&self, own: SocketAddr) -> Vec<SocketAddr> {
        let others = self.peers.iter().filter_map(|peer| Some((peer.rank, peer.fingerprint.as_ref()?.1)));
        let all: BTreeMap<_, _> = others.chain([(0, own)]).collect();
        all.into_values().collect()
    }

    fn send_to_all(&mut self, message: &Message) -> Result<(), Reason> {
        for peer in &mut self.peers {
            let lost = |e| Reason::Lost(format!("rank {} left while the ranks met: {e}", peer.rank));
            peer.channel.send(message).map_err(lost)?;
        }
        Ok(())
    }

    /// Sends all ranks the reason for a failure.
    fn refuse(&mut self, why: &str) {
        self.peers.iter_mut().for_each(|peer| peer.channel.refuse(why));
        let deadline = Instant::now() + FAREWELL;
        self.peers.iter_mut().for_each(|peer| peer.channel.drain(deadline));
    }
}

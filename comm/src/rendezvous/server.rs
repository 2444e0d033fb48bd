//! Rank 0: waits for all others, compares their fingerprints, tells everybody where everybody is.

use super::acceptor::Acceptor;
use super::channel::{Channel, Message, TO_MASTER};
use super::error::{Reason, ranks_text};
use super::fingerprint::Fingerprint;
use super::handshake::Purpose;
use super::neighbours::Ring;
use super::security::Security;
use super::{FAREWELL, LOOK, Place, Settings, Streams, listener};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// The streams to rank 0's neighbours.
///
/// # Errors
/// Whatever keeps any rank from joining; those who came are told.
pub fn gather(
    place: &Place,
    fingerprint: &Fingerprint,
    security: &Security,
    settings: &Settings,
) -> Result<Streams, Reason> {
    let (door, address) = bind(place, security)?;
    let system = |e: std::io::Error| Reason::System(format!("the listener on {address} fails: {e}"));
    let mut door = Acceptor::new(door, Purpose::Join, 0, security.key(), settings).map_err(system)?;
    let (listener, address) = listener(address.ip(), security)?;
    let acceptor = Acceptor::new(listener, Purpose::Ring, 0, security.key(), settings).map_err(system)?;
    let mut server = Server {
        place,
        fingerprint,
        settings,
        since: Instant::now(),
        peers: Vec::new(),
        conflict_since: None,
    };
    let result = server.run(&mut door, acceptor, address, security);
    if let Err(reason) = &result {
        server.refuse(&reason.to_string());
    }
    result
}

/// Listens at the master's address, on that interface alone.
fn bind(place: &Place, security: &Security) -> Result<(TcpListener, SocketAddr), Reason> {
    let mut failed = None;
    for address in place.resolve()? {
        security.allows(address)?;
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
    Err(failed.unwrap_or_else(|| place.nowhere()))
}

/// A rank that has proved who it is.
struct Peer {
    rank: usize,
    size: usize,
    channel: Channel,
    fingerprint: Option<(Fingerprint, SocketAddr)>,
    connected: bool,
}

/// Those who have come.
struct Server<'a> {
    place: &'a Place,
    fingerprint: &'a Fingerprint,
    settings: &'a Settings,
    since: Instant,
    peers: Vec<Peer>,
    /// Since when it is known that they do not belong together.
    conflict_since: Option<Instant>,
}

impl Server<'_> {
    fn run(
        &mut self,
        door: &mut Acceptor,
        acceptor: Acceptor,
        address: SocketAddr,
        security: &Security,
    ) -> Result<Streams, Reason> {
        self.assemble(door)?;
        let table = self.table(address);
        self.tell(&Message::Table(table.clone()))?;
        let mut ring = Ring::new(0, acceptor, &table, security, self.settings)?;
        // The others notice first what is wrong between them.
        let deadline = Instant::now() + self.settings.ring + Duration::from_secs(1);
        loop {
            self.listen()?;
            let connected = ring.poll()?;
            let late: Vec<_> = self.peers.iter().filter(|g| !g.connected).map(|g| g.rank).collect();
            if connected && late.is_empty() {
                break;
            }
            if Instant::now() >= deadline {
                return Err(Reason::Lost(format!("{} did not connect the ring in time", ranks_text(&late))));
            }
            thread::sleep(LOOK);
        }
        self.tell(&Message::Go)?;
        ring.into_streams()
    }

    /// Waits until all ranks are here and agree.
    fn assemble(&mut self, door: &mut Acceptor) -> Result<(), Reason> {
        let mut said = false;
        loop {
            for accepted in door.poll() {
                let channel = Channel::new(accepted.stream, TO_MASTER);
                let (rank, size) = (accepted.rank, accepted.size);
                self.peers.push(Peer { rank, size, channel, fingerprint: None, connected: false });
            }
            self.peers.sort_by_key(|peer| peer.rank);
            let news = self.listen()?;
            let here = 1 + self.peers.iter().filter(|peer| peer.fingerprint.is_some()).count();
            let size = self.peers.iter().map(|peer| peer.size).max().unwrap_or(0).max(self.place.size);
            let patient = self.conflict_since.is_none_or(|since| since.elapsed() < self.settings.grace);
            if news || !patient {
                match self.conflict() {
                    // Ranks that are still connecting must get the refusal too.
                    Some(why) if here >= size || !patient => return Err(Reason::Refused(why)),
                    Some(_) => self.conflict_since = self.conflict_since.or(Some(Instant::now())),
                    None if here == size => return Ok(()),
                    None => {}
                }
            }
            let waited = self.since.elapsed();
            if waited >= self.settings.quiet && !said {
                (self.settings.log)(&format!("rank 0 waits for {}", ranks_text(&self.missing())));
                said = true;
            }
            if waited >= self.settings.timeout {
                let missing = Reason::Missing { ranks: self.missing(), waited };
                return Err(self.conflict().map_or(missing, Reason::Refused));
            }
            thread::sleep(LOOK);
        }
    }

    /// The ranks that have not shown their fingerprint.
    fn missing(&self) -> Vec<usize> {
        let here: BTreeSet<_> =
            self.peers.iter().filter(|g| g.fingerprint.is_some()).map(|g| g.rank).collect();
        (1..self.place.size).filter(|rank| !here.contains(rank)).collect()
    }

    /// Takes what the peers say; whether there was anything.
    fn listen(&mut self) -> Result<bool, Reason> {
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
                Some(_) => return Err(Reason::Lost(format!("rank {rank} speaks out of turn"))),
            }
            news = true;
        }
        Ok(news)
    }

    /// Why those who are here do not belong together.
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
                rank if rank >= size => format!("rank {rank} is none of {size} ranks"),
                rank => format!("there is more than one rank {rank}: each process needs a rank of its own"),
            });
        }
        let mut fingerprints = vec![(0, self.fingerprint)];
        fingerprints
            .extend(self.peers.iter().filter_map(|peer| Some((peer.rank, &peer.fingerprint.as_ref()?.0))));
        Fingerprint::differences(&fingerprints)
    }

    /// Where all ranks listen, in order.
    fn table(&self, own: SocketAddr) -> Vec<SocketAddr> {
        let others = self.peers.iter().filter_map(|peer| Some((peer.rank, peer.fingerprint.as_ref()?.1)));
        let all: BTreeMap<_, _> = others.chain([(0, own)]).collect();
        all.into_values().collect()
    }

    fn tell(&mut self, message: &Message) -> Result<(), Reason> {
        for peer in &mut self.peers {
            let lost = |e| Reason::Lost(format!("rank {} left while the ranks met: {e}", peer.rank));
            peer.channel.send(message).map_err(lost)?;
        }
        Ok(())
    }

    /// Tells all why it ends here.
    fn refuse(&mut self, why: &str) {
        self.peers.iter_mut().for_each(|peer| peer.channel.refuse(why));
        let deadline = Instant::now() + FAREWELL;
        self.peers.iter_mut().for_each(|peer| peer.channel.drain(deadline));
    }
}

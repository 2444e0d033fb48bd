//! Rank 0: waits for all others, compares their cards, tells everybody where everybody is.

use super::card::Card;
use super::challenge::Purpose;
use super::channel::{Channel, Message, TO_MASTER};
use super::error::{Reason, ranks_text};
use super::gate::Gate;
use super::ring::Ring;
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
    card: &Card,
    security: &Security,
    settings: &Settings,
) -> Result<Streams, Reason> {
    let (door, address) = bind(place, security)?;
    let system = |e: std::io::Error| Reason::System(format!("the listener on {address} fails: {e}"));
    let mut door = Gate::new(door, Purpose::Join, 0, security.key(), settings).map_err(system)?;
    let (listener, address) = listener(address.ip(), security)?;
    let gate = Gate::new(listener, Purpose::Ring, 0, security.key(), settings).map_err(system)?;
    let mut hall = Hall { place, card, settings, since: Instant::now(), guests: Vec::new(), trouble: None };
    let result = hall.run(&mut door, gate, address, security);
    if let Err(reason) = &result {
        hall.refuse(&reason.to_string());
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
struct Guest {
    rank: usize,
    size: usize,
    channel: Channel,
    card: Option<(Card, SocketAddr)>,
    connected: bool,
}

/// Those who have come.
struct Hall<'a> {
    place: &'a Place,
    card: &'a Card,
    settings: &'a Settings,
    since: Instant,
    guests: Vec<Guest>,
    /// Since when it is known that they do not belong together.
    trouble: Option<Instant>,
}

impl Hall<'_> {
    fn run(
        &mut self,
        door: &mut Gate,
        gate: Gate,
        address: SocketAddr,
        security: &Security,
    ) -> Result<Streams, Reason> {
        self.assemble(door)?;
        let table = self.table(address);
        self.tell(&Message::Table(table.clone()))?;
        let mut ring = Ring::new(0, gate, &table, security, self.settings)?;
        // The others notice first what is wrong between them.
        let deadline = Instant::now() + self.settings.ring + Duration::from_secs(1);
        loop {
            self.listen()?;
            let connected = ring.poll()?;
            let late: Vec<_> = self.guests.iter().filter(|g| !g.connected).map(|g| g.rank).collect();
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
    fn assemble(&mut self, door: &mut Gate) -> Result<(), Reason> {
        let mut said = false;
        loop {
            for entrant in door.poll() {
                let channel = Channel::new(entrant.stream, TO_MASTER);
                let (rank, size) = (entrant.rank, entrant.size);
                self.guests.push(Guest { rank, size, channel, card: None, connected: false });
            }
            self.guests.sort_by_key(|guest| guest.rank);
            let news = self.listen()?;
            let here = 1 + self.guests.iter().filter(|guest| guest.card.is_some()).count();
            let size = self.guests.iter().map(|guest| guest.size).max().unwrap_or(0).max(self.place.size);
            let patient = self.trouble.is_none_or(|since| since.elapsed() < self.settings.grace);
            if news || !patient {
                match self.complaint() {
                    // Those who are still on their way shall hear it as well.
                    Some(why) if here >= size || !patient => return Err(Reason::Refused(why)),
                    Some(_) => self.trouble = self.trouble.or(Some(Instant::now())),
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
                return Err(self.complaint().map_or(missing, Reason::Refused));
            }
            thread::sleep(LOOK);
        }
    }

    /// The ranks that have not shown their card.
    fn missing(&self) -> Vec<usize> {
        let here: BTreeSet<_> = self.guests.iter().filter(|g| g.card.is_some()).map(|g| g.rank).collect();
        (1..self.place.size).filter(|rank| !here.contains(rank)).collect()
    }

    /// Takes what the guests say; whether there was anything.
    fn listen(&mut self) -> Result<bool, Reason> {
        let mut news = false;
        for guest in &mut self.guests {
            let rank = guest.rank;
            let message = guest.channel.poll();
            match message.map_err(|e| Reason::Lost(format!("rank {rank} left while the ranks met: {e}")))? {
                None => continue,
                Some(Message::Here { card, address }) if guest.card.is_none() => {
                    card.check().map_err(|reason| Reason::Refused(format!("rank {rank}: {reason}")))?;
                    guest.card = Some((card, address));
                }
                Some(Message::Connected) if guest.card.is_some() => guest.connected = true,
                Some(Message::Refused(why)) => return Err(Reason::Refused(format!("rank {rank}: {why}"))),
                Some(_) => return Err(Reason::Lost(format!("rank {rank} speaks out of turn"))),
            }
            news = true;
        }
        Ok(news)
    }

    /// Why those who are here do not belong together.
    fn complaint(&self) -> Option<String> {
        let size = self.place.size;
        let mut others: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for guest in self.guests.iter().filter(|guest| guest.size != size) {
            others.entry(guest.size).or_default().push(guest.rank);
        }
        if !others.is_empty() {
            let others: Vec<_> =
                others.iter().map(|(size, ranks)| format!("{size} on {}", ranks_text(ranks))).collect();
            return Some(format!("the number of ranks is {size} on rank 0, {}", others.join(", ")));
        }
        let mut seen = BTreeSet::from([0]);
        if let Some(twice) = self.guests.iter().find(|guest| guest.rank >= size || !seen.insert(guest.rank)) {
            return Some(match twice.rank {
                rank if rank >= size => format!("rank {rank} is none of {size} ranks"),
                rank => format!("there is more than one rank {rank}: each process needs a rank of its own"),
            });
        }
        let mut cards = vec![(0, self.card)];
        cards.extend(self.guests.iter().filter_map(|guest| Some((guest.rank, &guest.card.as_ref()?.0))));
        Card::differences(&cards)
    }

    /// Where all ranks listen, in order.
    fn table(&self, own: SocketAddr) -> Vec<SocketAddr> {
        let others = self.guests.iter().filter_map(|guest| Some((guest.rank, guest.card.as_ref()?.1)));
        let all: BTreeMap<_, _> = others.chain([(0, own)]).collect();
        all.into_values().collect()
    }

    fn tell(&mut self, message: &Message) -> Result<(), Reason> {
        for guest in &mut self.guests {
            let lost = |e| Reason::Lost(format!("rank {} left while the ranks met: {e}", guest.rank));
            guest.channel.send(message).map_err(lost)?;
        }
        Ok(())
    }

    /// Tells all why it ends here.
    fn refuse(&mut self, why: &str) {
        self.guests.iter_mut().for_each(|guest| guest.channel.refuse(why));
        let deadline = Instant::now() + FAREWELL;
        self.guests.iter_mut().for_each(|guest| guest.channel.drain(deadline));
    }
}

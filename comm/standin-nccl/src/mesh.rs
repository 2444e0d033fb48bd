//! Connects every pair of ranks: each rank sends the port that it listens on to rank 0's address, receives the ports of all
//! ranks, and connects to the ranks below it.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use crate::shared::Shared;

/// Between two checks for a new connection.
const PAUSE: Duration = Duration::from_millis(1);

/// Listens, in a thread, for the ranks of one communicator.
pub fn listen() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    // If a rank fails here, the others wait for it until they are aborted.
    thread::Builder::new().name("standin-meet".into()).spawn(move || meet(&listener))?;
    Ok(address)
}

/// Receives the port of every rank and sends all ports to each.
fn meet(listener: &TcpListener) -> io::Result<()> {
    let mut ranks: Vec<Option<(TcpStream, u16)>> = Vec::new();
    while ranks.is_empty() || ranks.iter().any(Option::is_none) {
        let (mut stream, _) = listener.accept()?;
        let [rank, size, port] = numbers(&mut stream)?;
        ranks.resize_with(ranks.len().max(size as usize), || None);
        if let Some(slot) = ranks.get_mut(rank as usize) {
            *slot = Some((stream, port as u16));
        }
    }
    let ports: Vec<u8> =
        ranks.iter().flatten().flat_map(|(_, port)| u32::from(*port).to_le_bytes()).collect();
    ranks.iter_mut().flatten().try_for_each(|(stream, _)| stream.write_all(&ports))
}

fn numbers<const N: usize>(stream: &mut TcpStream) -> io::Result<[u32; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes)?;
        *number = u32::from_le_bytes(bytes);
    }
    Ok(numbers)
}

/// Connects a rank with all others. An abort of the communicator closes the connections.
pub fn connect(shared: &Shared, address: SocketAddr) -> io::Result<Vec<Option<TcpStream>>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let mut meeting = shared.watch(TcpStream::connect(address)?)?;
    let card = [shared.rank as u32, shared.size as u32, listener.local_addr()?.port().into()];
    meeting.write_all(&card.map(u32::to_le_bytes).concat())?;
    let mut streams: Vec<Option<TcpStream>> = (0..shared.size).map(|_| None).collect();
    for (rank, slot) in streams.iter_mut().enumerate() {
        let [port] = numbers(&mut meeting)?;
        if rank < shared.rank {
            let mut stream = shared.watch(TcpStream::connect((Ipv4Addr::LOCALHOST, port as u16))?)?;
            stream.write_all(&(shared.rank as u32).to_le_bytes())?;
            *slot = Some(stream);
        }
    }
    while streams.iter().skip(shared.rank + 1).any(Option::is_none) {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                let mut stream = shared.watch(stream)?;
                let [rank] = numbers(&mut stream)?;
                if let Some(slot) = streams.get_mut(rank as usize) {
                    *slot = Some(stream);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !shared.is_aborted() => {
                thread::sleep(PAUSE)
            }
            Err(error) => return Err(error),
        }
    }
    streams.iter().flatten().try_for_each(|stream| stream.set_nodelay(true))?;
    Ok(streams)
}

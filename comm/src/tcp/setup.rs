//! For tests: connecting ranks whose addresses are known, threads of one process.
//!
//! Nothing here authenticates a rank. A caller that does makes the two streams itself and passes them to
//! [`TcpLink::new`].

use super::{Options, Place, TcpLink};
use crate::communicator::Communicator;
use crate::error::SetupError;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at what has no deadline of its own.
const LOOK: Duration = Duration::from_millis(2);

/// How long a connection may take to say who it is.
const HELLO: Duration = Duration::from_secs(1);

const MAGIC: [u8; 8] = *b"SSMRHELO";

/// Rank `rank` of all `addresses`, which are the ranks' listeners in order; `listener` is this rank's.
///
/// # Errors
/// No connection to the right neighbour, or none from the left, within `options.timeout`.
pub fn join(
    rank: usize,
    listener: &TcpListener,
    addresses: &[SocketAddr],
    options: Options,
) -> Result<Communicator, SetupError> {
    let size = addresses.len();
    if size == 1 && rank == 0 {
        return Ok(Communicator::alone());
    }
    let (left, right) = pair(rank, listener, addresses, options.timeout)?;
    let fail = |message: String| SetupError { rank, size, message };
    let link = TcpLink::new(rank, size, left, right, options).map_err(|e| fail(e.to_string()))?;
    Communicator::new(rank, size, Box::new(link)).map_err(|e| fail(e.to_string()))
}

/// The streams from the left and to the right neighbour.
///
/// # Errors
/// As [`join`].
pub fn pair(
    rank: usize,
    listener: &TcpListener,
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<(TcpStream, TcpStream), SetupError> {
    let place = Place { rank, size: addresses.len() };
    let fail = |message: String| SetupError { rank, size: addresses.len(), message };
    if rank >= addresses.len() {
        return Err(fail("it is none of the ranks".into()));
    }
    let deadline = Instant::now() + timeout;
    let address = addresses[place.right()];
    let right = connect(address, place, deadline)
        .map_err(|e| fail(format!("rank {} at {address} does not answer: {e}", place.right())))?;
    let left = accept(listener, place, deadline)
        .map_err(|e| fail(format!("rank {} does not connect: {e}", place.left())))?;
    Ok((left, right))
}

/// Connects as soon as the neighbour listens, and says who this is.
fn connect(address: SocketAddr, place: Place, deadline: Instant) -> std::io::Result<TcpStream> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(LOOK);
        match TcpStream::connect_timeout(&address, left) {
            Ok(mut stream) => {
                stream.write_all(&hello(place.rank, place.size))?;
                return Ok(stream);
            }
            Err(e) if e.kind() == ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                thread::sleep(LOOK);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Accepts until the left neighbour comes; others are dropped.
fn accept(listener: &TcpListener, place: Place, deadline: Instant) -> std::io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(HELLO))?;
                let mut said = [0; 24];
                let heard = stream.read_exact(&mut said);
                if heard.is_ok() && said == hello(place.left(), place.size) {
                    return Ok(stream);
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
                thread::sleep(LOOK);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

/// What a rank says first: magic, its number, the number of ranks.
fn hello(rank: usize, size: usize) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&(rank as u64).to_le_bytes());
    bytes[16..].copy_from_slice(&(size as u64).to_le_bytes());
    bytes
}

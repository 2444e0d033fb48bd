//! For tests: connects ranks with known addresses, which are threads of one process.
//!
//! It does not authenticate ranks. The frames have MACs with keys that every test knows.

use super::{Options, Position, TcpLink, Wire};
use crate::communicator::Communicator;
use crate::error::SetupError;
use crate::seal::Seal;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two polls.
const POLL: Duration = Duration::from_millis(2);

/// Timeout for the greeting of a connection.
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
    let (left, right) = (sealed((rank + size - 1) % size, left), sealed(rank, right));
    let fail = |message: String| SetupError { rank, size, message };
    let link = TcpLink::new(rank, size, left, right, options).map_err(|e| fail(e.to_string()))?;
    Communicator::new(rank, size, Box::new(link)).map_err(|e| fail(e.to_string()))
}

/// A connection on which `sender` sends.
fn sealed(sender: usize, stream: TcpStream) -> Wire {
    Wire::new(stream, Some(Seal::new(&[sender as u8; 32])))
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
    let position = Position { rank, size: addresses.len() };
    let fail = |message: String| SetupError { rank, size: addresses.len(), message };
    if rank >= addresses.len() {
        return Err(fail("it is not one of the ranks".into()));
    }
    let deadline = Instant::now() + timeout;
    let address = addresses[position.right()];
    let right = connect(address, position, deadline)
        .map_err(|e| fail(format!("rank {} at {address} does not answer: {e}", position.right())))?;
    let left = accept(listener, position, deadline)
        .map_err(|e| fail(format!("rank {} does not connect: {e}", position.left())))?;
    Ok((left, right))
}

/// Connects as soon as the neighbour listens, and sends the greeting.
fn connect(address: SocketAddr, position: Position, deadline: Instant) -> std::io::Result<TcpStream> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(POLL);
        match TcpStream::connect_timeout(&address, left) {
            Ok(mut stream) => {
                stream.write_all(&hello(position.rank, position.size))?;
                return Ok(stream);
            }
            Err(e) if e.kind() == ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                thread::sleep(POLL);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Accepts connections until the left neighbour's; drops others.
fn accept(listener: &TcpListener, position: Position, deadline: Instant) -> std::io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(HELLO))?;
                let mut greeting = [0; 24];
                let received = stream.read_exact(&mut greeting);
                if received.is_ok() && greeting == hello(position.left(), position.size) {
                    return Ok(stream);
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
                thread::sleep(POLL);
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

/// The greeting of a rank: magic, its number, the number of ranks.
fn hello(rank: usize, size: usize) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&(rank as u64).to_le_bytes());
    bytes[16..].copy_from_slice(&(size as u64).to_le_bytes());
    bytes
}

//! Ranks as threads of one process, on loopback, with strangers among them.

mod joining;
mod local;
mod parts;
mod refusals;
mod strangers;

use super::super::tcp::Options;
use super::super::{Communicator, ReduceOp};
use super::*;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::thread;

const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A job whose ranks are threads.
struct Job {
    size: usize,
    master: String,
    port: u16,
    settings: Settings,
    lines: Arc<Mutex<Vec<String>>>,
    /// A job with the token that ranks without one share.
    folder: tempfile::TempDir,
}

impl Job {
    /// A job of `size` ranks, which wait for each other for ten seconds.
    fn new(size: usize) -> Self {
        Self::at("127.0.0.1", size)
    }

    fn at(master: &str, size: usize) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&lines);
        let folder = private_folder();
        let settings = Settings {
            token_folder: Some(folder.path().into()),
            timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_millis(500),
            grace: Duration::from_millis(500),
            log: Arc::new(move |line| list.lock().unwrap().push(line.into())),
            ..Settings::default()
        };
        let port = TcpListener::bind((master, 0)).unwrap().local_addr().unwrap().port();
        Self { size, master: master.into(), port, settings, lines, folder }
    }

    fn place(&self, rank: usize) -> Place {
        let (size, master, port) = (self.size, self.master.clone(), self.port);
        Place { rank, size, local_rank: rank, local_size: size, master, port }
    }

    fn address(&self) -> SocketAddr {
        self.place(0).resolve().unwrap()[0]
    }

    fn join(
        &self,
        place: &Place,
        fingerprint: &Fingerprint,
        security: &Security,
    ) -> Result<Communicator, JoinError> {
        let options = Options { timeout: Duration::from_secs(10), on_stall: Arc::new(|_| {}) };
        join_with(place, fingerprint, security, options, &self.settings)
    }

    /// Results of the ranks of `places`, each with its fingerprint.
    fn run(&self, ranks: Vec<(Place, Fingerprint, Security)>) -> Vec<Result<Communicator, JoinError>> {
        thread::scope(|scope| {
            let threads: Vec<_> = ranks
                .into_iter()
                .map(|(place, fingerprint, security)| {
                    scope.spawn(move || self.join(&place, &fingerprint, &security))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    /// All ranks with the same fingerprint and the token.
    fn ranks(&self) -> Vec<(Place, Fingerprint, Security)> {
        (0..self.size).map(|rank| (self.place(rank), fingerprint("a"), trusted())).collect()
    }

    fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

/// A folder that only this user can open.
fn private_folder() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir().unwrap()
}

fn fingerprint(data: &str) -> Fingerprint {
    Fingerprint::new().with("program", "0.1.0").with("data", data)
}

fn trusted() -> Security {
    Security { token: Some(Token::from_hex(TOKEN).unwrap()), insecure: false, macs: true }
}

/// The errors' texts, which all ranks must have.
#[track_caller]
fn errors(results: Vec<Result<Communicator, JoinError>>) -> Vec<String> {
    results.into_iter().map(|result| result.unwrap_err().to_string()).collect()
}

/// Checks that the ranks are in one ring.
fn assert_works(ranks: Vec<Result<Communicator, JoinError>>) {
    let ranks: Vec<_> = ranks.into_iter().map(Result::unwrap).collect();
    let size = ranks.len();
    thread::scope(|scope| {
        for mut comm in ranks {
            scope.spawn(move || {
                let mut data = [comm.rank() as f32 + 1.0; 5];
                comm.all_reduce(&mut data, ReduceOp::Sum).unwrap();
                assert_eq!(data, [(size * (size + 1) / 2) as f32; 5]);
            });
        }
    });
}

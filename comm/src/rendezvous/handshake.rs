//! How both ends of a connection prove that they know the token.
//!
//! | from | bytes |
//! | --- | --- |
//! | caller | magic, purpose, its rank, the host's rank, number of ranks, a nonce |
//! | host | a nonce, HMAC-SHA256 as host |
//! | caller | HMAC-SHA256 as caller |
//! | host | one byte: come in |
//!
//! Each code covers a label, the side that made it, all of the caller's greeting and both nonces: one side's code is
//! worth nothing as the other's, nor on another connection. It proves who is there; what follows is
//! neither encrypted nor authenticated.

use super::security::Token;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a greeting.
pub const HELLO: usize = 47;
/// Bytes of a code.
pub const PROOF: usize = 32;
/// Bytes of the host's answer.
pub const ANSWER: usize = 32 + PROOF;
/// The host's last word.
pub const WELCOME: u8 = b'+';

/// The most bytes read from an unauthenticated connection.
pub const MOST_UNKNOWN: usize = 256;
const _: () = assert!(HELLO + PROOF <= MOST_UNKNOWN && ANSWER < MOST_UNKNOWN);

const MAGIC: [u8; 8] = *b"SSMRDV01";
const LABEL: &[u8] = b"ssmv-raw rendezvous 1\0";

/// A number used once.
pub type Nonce = [u8; 32];

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A rank comes to the master.
    Join = 1,
    /// A rank comes to its right neighbour.
    Ring = 2,
}

/// Whose code it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end that connected.
    Caller = 1,
    /// The end that listened.
    Host = 2,
}

/// What a caller says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What the connection is for.
    pub purpose: Purpose,
    /// The caller's rank.
    pub from: u16,
    /// The rank that it means to reach.
    pub to: u16,
    /// The number of ranks, as the caller knows it.
    pub size: u16,
    /// The caller's nonce.
    pub nonce: Nonce,
}

impl Hello {
    /// As it goes over the wire.
    pub fn encode(&self) -> [u8; HELLO] {
        let mut bytes = [0; HELLO];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = self.purpose as u8;
        bytes[9..11].copy_from_slice(&self.from.to_le_bytes());
        bytes[11..13].copy_from_slice(&self.to.to_le_bytes());
        bytes[13..15].copy_from_slice(&self.size.to_le_bytes());
        bytes[15..].copy_from_slice(&self.nonce);
        bytes
    }

    /// The greeting in the bytes; `None` if they are not one.
    pub fn decode(bytes: &[u8; HELLO]) -> Option<Self> {
        let purpose = match bytes[8] {
            1 => Purpose::Join,
            2 => Purpose::Ring,
            _ => return None,
        };
        let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let mut nonce = [0; 32];
        nonce.copy_from_slice(&bytes[15..]);
        let hello = Self { purpose, from: number(9), to: number(11), size: number(13), nonce };
        (bytes[..8] == MAGIC).then_some(hello)
    }

    /// The code of one side.
    pub fn prove(&self, token: &Token, side: Side, host: &Nonce) -> [u8; PROOF] {
        self.code(token, side, host).finalize().into_bytes().into()
    }

    /// Whether `proof` is the code of that side, in a time that says nothing about it.
    pub fn verify(&self, token: &Token, side: Side, host: &Nonce, proof: &[u8; PROOF]) -> bool {
        self.code(token, side, host).verify(proof.into()).is_ok()
    }

    fn code(&self, token: &Token, side: Side, host: &Nonce) -> Hmac<Sha256> {
        // HMAC fills a short key up with zeros.
        let mut key = [0; 64];
        key[..32].copy_from_slice(token.bytes());
        let mut code = Hmac::<Sha256>::new(&key.into());
        code.update(LABEL);
        code.update(&[side as u8]);
        code.update(&self.encode());
        code.update(host);
        code
    }
}

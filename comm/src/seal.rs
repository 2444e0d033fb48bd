//! Message authentication codes (MACs) of one direction of a connection.

use blake3::{Hash, keyed_hash};
use std::fmt;

/// Size of a [`Seal`]'s codes of one message in bytes.
pub const SEAL: usize = 64;

/// The MACs of one message.
pub type Codes = [u8; SEAL];

/// Makes or checks the MACs of one direction of a connection: keyed BLAKE3 (O'Connor et al. 2020).
///
/// A message is a header and a payload. Its codes are MAC(payload), then MAC(number ‖ MAC(payload) ‖ header). The number counts
/// the messages of this direction from 0, so a message that is repeated, removed or reordered has a wrong code. The header is
/// checked before the payload arrives.
pub struct Seal {
    header_key: [u8; 32],
    payload_key: [u8; 32],
    number: u64,
}

impl Seal {
    /// Starts at message 0. The key must be used for one direction of one connection only.
    pub fn new(key: &[u8; 32]) -> Self {
        let of = |label: &[u8]| *keyed_hash(key, label).as_bytes();
        Self { header_key: of(b"header"), payload_key: of(b"payload"), number: 0 }
    }

    /// The number of the next message.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The codes of the next message.
    pub fn seal(&mut self, header: &[u8], payload: &[u8]) -> Codes {
        let payload = keyed_hash(&self.payload_key, payload);
        let mut codes = [0; SEAL];
        codes[..32].copy_from_slice(payload.as_bytes());
        let header = self.header_code(header, &codes);
        codes[32..].copy_from_slice(header.as_bytes());
        self.number += 1;
        codes
    }

    /// Whether the header is that of the next message, in constant time.
    pub fn accepts_header(&self, header: &[u8], codes: &Codes) -> bool {
        self.header_code(header, codes) == *second(codes)
    }

    /// Whether the payload is that of the next message, in constant time. Goes on to the message after it. The header must have
    /// been accepted.
    pub fn accepts_payload(&mut self, payload: &[u8], codes: &Codes) -> bool {
        self.number += 1;
        keyed_hash(&self.payload_key, payload) == *first(codes)
    }

    /// MAC(number ‖ MAC(payload) ‖ header).
    fn header_code(&self, header: &[u8], codes: &Codes) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.header_key);
        hasher.update(&self.number.to_le_bytes()).update(first(codes)).update(header).finalize()
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Seal {{ number: {} }}", self.number)
    }
}

fn first(codes: &Codes) -> &[u8; 32] {
    let [first, _] = halves(codes);
    first
}

fn second(codes: &Codes) -> &[u8; 32] {
    let [_, second] = halves(codes);
    second
}

fn halves(codes: &Codes) -> &[[u8; 32]; 2] {
    bytemuck::cast_ref(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [5; 32];

    #[test]
    fn a_message_is_accepted_once_in_its_place_and_by_its_key() {
        let mut sender = Seal::new(&KEY);
        let messages = [(&b"header 0"[..], &b"payload"[..]), (b"header 1", b""), (b"header 2", &[7; 5000])];
        let codes = messages.map(|(header, payload)| sender.seal(header, payload));
        let mut receiver = Seal::new(&KEY);
        for (i, (header, payload)) in messages.iter().enumerate() {
            for (j, codes) in codes.iter().enumerate() {
                assert_eq!(receiver.accepts_header(header, codes), i == j, "message {i}, codes {j}");
            }
            assert!(!Seal::new(&[6; 32]).accepts_header(header, &codes[i]));
            assert!(receiver.accepts_payload(payload, &codes[i]));
        }
        assert!(!receiver.accepts_header(messages[2].0, &codes[2]), "a repeated message");
        assert!(!Seal::new(&KEY).accepts_header(messages[1].0, &codes[1]), "a message after a removed one");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (header, payload) = ([1; 40], [2; 24]);
        let codes = Seal::new(&KEY).seal(&header, &payload);
        let accepts = |header: &[u8], payload: &[u8], codes: &Codes| {
            let mut receiver = Seal::new(&KEY);
            receiver.accepts_header(header, codes) && receiver.accepts_payload(payload, codes)
        };
        assert!(accepts(&header, &payload, &codes));
        let message = [&header[..], &payload, &codes].concat();
        for bit in 0..8 * message.len() {
            let mut message = message.clone();
            message[bit / 8] ^= 1 << (bit % 8);
            let (header, rest) = message.split_at(40);
            let (payload, codes) = rest.split_at(24);
            assert!(!accepts(header, payload, codes.try_into().unwrap()), "bit {bit}");
        }
    }
}

//! The connections that a rank accepts, and the secret that the ranks of a job share.

use super::rank::{Place, is_loopback};
use super::{Reason, Settings, local};
use rand::TryRng;
use rand::rngs::SysRng;
use std::fmt::{self, Write};
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

/// Whether a rank accepts only processes that have the token, or all.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// The secret of the job. `None`: the ranks of one machine share a file that only this user can read; ranks on several
    /// machines are refused.
    pub token: Option<Token>,
    /// Accepts every process if there is no token.
    pub insecure: bool,
    /// Whether frames of the ring have MACs on loopback too, if there is a token. On other addresses they always have.
    pub macs: bool,
}

impl Security {
    /// Reads the token from SSMV_TOKEN, else from the file of SSMV_TOKEN_FILE. With a token, MACs are on, unless SSMV_MAC is
    /// "off". `get` returns the value of a variable.
    ///
    /// # Errors
    /// The variable or the file does not contain a token, or SSMV_MAC is neither "on" nor "off".
    pub fn from_variables(
        get: impl Fn(&str) -> Option<String>,
        insecure: bool,
    ) -> Result<Self, SecurityError> {
        let macs = match get("SSMV_MAC").as_deref() {
            None => None,
            Some("on") => Some(true),
            Some("off") => Some(false),
            Some(_) => return Err(SecurityError { variable: "SSMV_MAC", error: TokenError::Switch }),
        };
        for (variable, is_file) in [("SSMV_TOKEN", false), ("SSMV_TOKEN_FILE", true)] {
            let Some(value) = get(variable) else { continue };
            let token = if is_file { Token::from_file(Path::new(&value)) } else { Token::from_hex(&value) };
            let token = token.map_err(|error| SecurityError { variable, error })?;
            return Ok(Self { token: Some(token), insecure, macs: macs.unwrap_or(true) });
        }
        Ok(Self { token: None, insecure, macs: macs.unwrap_or(false) })
    }

    /// [`from_variables`](Self::from_variables) with the environment of this process.
    ///
    /// # Errors
    /// As [`from_variables`](Self::from_variables).
    pub fn from_environment(insecure: bool) -> Result<Self, SecurityError> {
        let get = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::from_variables(get, insecure)
    }

    /// Adds the token that the ranks of one machine share, if there is none and one is needed.
    pub(super) fn complete(&self, place: &Place, settings: &Settings) -> Result<Self, Reason> {
        if self.token.is_some() || self.insecure {
            return Ok(self.clone());
        }
        if place.spans_machines() {
            return Err(Reason::NoToken);
        }
        let token = local::token(settings.token_folder.as_deref(), place.port).map_err(Reason::TokenFile)?;
        Ok(Self { token: Some(token), ..self.clone() })
    }

    /// Whether this rank requests MACs in the frames of a connection with `peer`.
    pub(super) fn wants_macs(&self, peer: SocketAddr) -> bool {
        self.token.is_some() && (self.macs || !is_loopback(peer.ip()))
    }

    /// The key of the handshake's codes.
    pub(super) fn key(&self) -> Token {
        self.token.clone().unwrap_or_else(Token::none)
    }
}

/// A variable that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{variable}: {error}")]
pub struct SecurityError {
    /// Name of the variable.
    pub variable: &'static str,
    /// The error of the variable's value.
    pub error: TokenError,
}

/// 256 secret bits of a job. Messages never contain them.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// A token that cannot be read or made. The message does not contain it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// The text is not a token.
    #[error("a token is 64 hexadecimal digits, but {0}")]
    Digits(String),
    /// The file cannot be used.
    #[error("the token file {path}: {why}")]
    File {
        /// Path of the token file.
        path: String,
        /// The reason, with advice.
        why: String,
    },
    /// A switch has another value.
    #[error("takes on or off")]
    Switch,
    /// The operating system has no random numbers.
    #[error("the operating system gives no random numbers for a token: {0}")]
    Random(String),
}

impl Token {
    /// A new token from the operating system's random numbers.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self, TokenError> {
        random_bytes().map(Self)
    }

    /// Reads 64 hexadecimal digits; white space around them is ignored.
    ///
    /// # Errors
    /// Any other text.
    pub fn from_hex(text: &str) -> Result<Self, TokenError> {
        let digits = text.trim().as_bytes();
        if digits.len() != 64 {
            return Err(TokenError::Digits(format!("these are {} characters", digits.len())));
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).ok_or_else(|| {
                    TokenError::Digits("one of these characters is not a hexadecimal digit".into())
                })?;
                *byte = *byte << 4 | value as u8;
            }
        }
        Ok(Self(bytes))
    }

    /// Reads a file of 64 hexadecimal digits that only its owner can read or write.
    ///
    /// # Errors
    /// The file cannot be read, other users have access, or it has other contents.
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let fail = |why: String| TokenError::File { path: path.display().to_string(), why };
        let system = |e: std::io::Error| fail(e.to_string());
        // A pipe would block when it is opened.
        if !fs::metadata(path).map_err(system)?.is_file() {
            return Err(fail("it is not a regular file".into()));
        }
        Self::from_open(File::open(path).map_err(system)?).map_err(fail)
    }

    /// As [`from_file`](Self::from_file), from an open file; the error is the reason alone.
    pub(super) fn from_open(file: File) -> Result<Self, String> {
        let metadata = file.metadata().map_err(|e| e.to_string())?;
        if !metadata.is_file() {
            return Err("it is not a regular file".into());
        }
        check_mode(&metadata)?;
        let mut text = String::new();
        file.take(256).read_to_string(&mut text).map_err(|e| e.to_string())?;
        Self::from_hex(&text).map_err(|e| e.to_string())
    }

    /// The 64 hexadecimal digits, for the environment of another rank.
    pub fn to_hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The key of ranks without a token.
    pub(super) fn none() -> Self {
        Self([0; 32])
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// 32 bytes of the operating system's random numbers.
pub fn random_bytes() -> Result<[u8; 32], TokenError> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(|e| TokenError::Random(e.to_string()))?;
    Ok(bytes)
}

#[cfg(unix)]
fn check_mode(metadata: &fs::Metadata) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    match metadata.permissions().mode() & 0o777 {
        0o400 | 0o600 => Ok(()),
        mode => Err(format!("its mode is {mode:04o}, but only its owner may read it: chmod 600")),
    }
}

#[cfg(not(unix))]
fn check_mode(_: &fs::Metadata) -> Result<(), String> {
    Ok(())
}

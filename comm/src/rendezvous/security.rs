//! Which connections a rank accepts, and the secret that the ranks of a job share.

use super::Reason;
use super::rank::is_loopback;
use rand::TryRng;
use rand::rngs::SysRng;
use std::fmt::{self, Write};
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

/// Which connections a rank accepts: with a token, those of processes that have it; else those of this machine, or all.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// The secret of the job, if it has one.
    pub token: Option<Token>,
    /// Whether addresses other than loopback are used without a token.
    pub insecure: bool,
}

impl Security {
    /// Reads the token from SSMV_TOKEN, else from the file of SSMV_TOKEN_FILE. `get` returns the value of a variable.
    ///
    /// # Errors
    /// The variable or the file does not contain a token.
    pub fn from_variables(
        get: impl Fn(&str) -> Option<String>,
        insecure: bool,
    ) -> Result<Self, SecurityError> {
        for (variable, is_file) in [("SSMV_TOKEN", false), ("SSMV_TOKEN_FILE", true)] {
            let Some(value) = get(variable) else { continue };
            let token = if is_file { Token::from_file(Path::new(&value)) } else { Token::from_hex(&value) };
            let token = token.map_err(|error| SecurityError { variable, error })?;
            return Ok(Self { token: Some(token), insecure });
        }
        Ok(Self { token: None, insecure })
    }

    /// [`from_variables`](Self::from_variables) with the environment of this process.
    ///
    /// # Errors
    /// As [`from_variables`](Self::from_variables).
    pub fn from_environment(insecure: bool) -> Result<Self, SecurityError> {
        let get = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::from_variables(get, insecure)
    }

    /// Checks that this rank may listen at or connect to the address.
    pub(super) fn allows(&self, address: SocketAddr) -> Result<(), Reason> {
        match self.token.is_some() || self.insecure || is_loopback(address.ip()) {
            true => Ok(()),
            false => Err(Reason::NoToken { address }),
        }
    }

    /// The key of the handshake's codes.
    pub(super) fn key(&self) -> Token {
        self.token.clone().unwrap_or_else(Token::none)
    }
}

/// A variable without a token.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{variable}: {error}")]
pub struct SecurityError {
    /// The name of the variable.
    pub variable: &'static str,
    /// The error of its token.
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
        /// The path of the file.
        path: String,
        /// The reason, with advice.
        why: String,
    },
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
        let file = File::open(path).map_err(system)?;
        check_mode(&file.metadata().map_err(system)?).map_err(&fail)?;
        let mut text = String::new();
        file.take(256).read_to_string(&mut text).map_err(system)?;
        Self::from_hex(&text).map_err(|e| fail(e.to_string()))
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

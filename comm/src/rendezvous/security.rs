//! Whom a rank trusts.

use super::error::Reason;
use super::place::is_loopback;
use super::token::{Token, TokenError};
use std::net::SocketAddr;
use std::path::Path;

/// Whom a rank trusts: those who know the token; without one, this machine, or everybody.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// The secret of the job.
    pub token: Option<Token>,
    /// Whether addresses other than loopback are used without a token.
    pub insecure: bool,
}

impl Security {
    /// The token of SSMV_TOKEN, else of the file that SSMV_TOKEN_FILE names, where `get` looks variables up.
    ///
    /// # Errors
    /// A variable or a file that holds no token.
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

    /// As [`from_variables`](Self::from_variables), of this process.
    ///
    /// # Errors
    /// A variable or a file that holds no token.
    pub fn from_environment(insecure: bool) -> Result<Self, SecurityError> {
        let get = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::from_variables(get, insecure)
    }

    /// Whether this rank may listen at or connect to the address.
    pub(super) fn allows(&self, address: SocketAddr) -> Result<(), Reason> {
        match self.token.is_some() || self.insecure || is_loopback(address.ip()) {
            true => Ok(()),
            false => Err(Reason::NoToken { address }),
        }
    }

    /// The key of the challenges.
    pub(super) fn key(&self) -> Token {
        self.token.clone().unwrap_or_else(Token::none)
    }
}

/// A variable that leads to no token.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{variable}: {error}")]
pub struct SecurityError {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with it.
    pub error: TokenError,
}

//! Variables by name.

use super::error::EnvironmentError;

/// Looks variables up. An empty one is as good as none.
pub struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Variables<'a> {
    /// Of this source.
    pub fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get }
    }

    /// A variable's text.
    pub fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Whether the variable is set.
    pub fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// The text of a variable that must be there.
    pub fn need(&self, variable: &'static str, why: &str) -> Result<String, EnvironmentError> {
        self.text(variable).ok_or_else(|| self.missing(variable, why))
    }

    /// The number of a variable that must be there.
    pub fn number(&self, variable: &'static str) -> Result<usize, EnvironmentError> {
        let value = self.need(variable, "a number that whoever starts the ranks knows")?;
        value.parse().map_err(|_| EnvironmentError::Value {
            variable,
            value,
            wanted: "number of ranks or rank",
        })
    }

    /// The port: SSMV_PORT, else the one after MASTER_PORT, at which a launcher may listen itself.
    pub fn port(&self) -> Result<Option<u16>, EnvironmentError> {
        let wrong = |variable, value, wanted| EnvironmentError::Value { variable, value, wanted };
        if let Some(value) = self.text("SSMV_PORT") {
            return match value.parse() {
                Ok(port @ 1..) => Ok(Some(port)),
                _ => Err(wrong("SSMV_PORT", value, "port from 1 to 65535")),
            };
        }
        let Some(value) = self.text("MASTER_PORT") else { return Ok(None) };
        match value.parse::<u16>() {
            Ok(port @ 1..=65534) => Ok(Some(port + 1)),
            _ => Err(wrong("MASTER_PORT", value, "port from 1 to 65534, of which the next is used")),
        }
    }

    /// The error that a variable is not there.
    pub fn missing(&self, variable: &'static str, why: &str) -> EnvironmentError {
        EnvironmentError::Missing { variable, why: why.into() }
    }

    /// The error that these variables' values cannot be, or not both.
    pub fn contradict(&self, first: &str, second: Option<&str>, why: &str) -> EnvironmentError {
        let show = |name: &str| format!("{name}={}", self.text(name).unwrap_or_default());
        let values = [Some(first), second].into_iter().flatten().map(show).collect::<Vec<_>>().join(" and ");
        EnvironmentError::Contradiction { values, why: why.into() }
    }
}

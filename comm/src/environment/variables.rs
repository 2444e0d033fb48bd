//! Environment variables by name, and the errors about them.

/// Looks variables up by name. An empty variable counts as unset.
pub struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Variables<'a> {
    pub fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get }
    }

    /// The value of a variable, without white space around it.
    pub fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Whether the variable has a value.
    pub fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// The value of a variable that must be set.
    pub fn need(&self, variable: &'static str, why: &str) -> Result<String, EnvironmentError> {
        self.text(variable).ok_or_else(|| self.missing(variable, why))
    }

    /// The number in a variable that must be set.
    pub fn number(&self, variable: &'static str) -> Result<usize, EnvironmentError> {
        let value = self.need(variable, "a number that the launcher of the ranks knows")?;
        value.parse().map_err(|_| EnvironmentError::Value {
            variable,
            value,
            wanted: "number of ranks or rank",
        })
    }

    /// The port: SSMV_PORT, else MASTER_PORT + 1, as a launcher may listen at MASTER_PORT itself.
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

    /// The error for a variable that is not set.
    pub fn missing(&self, variable: &'static str, why: &str) -> EnvironmentError {
        EnvironmentError::Missing { variable, why: why.into() }
    }

    /// The error for an invalid value, or for two values that contradict each other.
    pub fn contradict(&self, first: &str, second: Option<&str>, why: &str) -> EnvironmentError {
        let show = |name: &str| format!("{name}={}", self.text(name).unwrap_or_default());
        let values = [Some(first), second].into_iter().flatten().map(show).collect::<Vec<_>>().join(" and ");
        EnvironmentError::Contradiction { values, why: why.into() }
    }
}

/// An error in the environment variables of a rank.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnvironmentError {
    /// A required variable is not set.
    #[error("the environment has no {variable}: it must be set, {why}")]
    Missing {
        /// Name of the variable.
        variable: &'static str,
        /// The purpose of the variable.
        why: String,
    },
    /// The value of a variable is invalid.
    #[error("the environment has {variable}={value:?}, which is not a {wanted}")]
    Value {
        /// Name of the variable.
        variable: &'static str,
        /// Value of the variable.
        value: String,
        /// Description of valid values.
        wanted: &'static str,
    },
    /// The values of variables contradict each other.
    #[error("the environment has {values}: {why}")]
    Contradiction {
        /// Names of the variables with their values.
        values: String,
        /// The reason of the contradiction.
        why: String,
    },
}

//! A case of an operator: its inputs and attributes.

use serde_json::{Map, Value};
use ssmv_autograd::{DType, Tensor};

use crate::{Error, Result};

/// Maximum of a whole number in an attribute: a larger kernel, stride or padding is a mistake.
const LARGEST_ATTRIBUTE: u64 = 4096;

/// Values in row-major order under a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// Values of the elements.
    pub values: Vec<f64>,
}

impl Array {
    /// An array with one axis.
    pub fn vector(values: Vec<f64>) -> Self {
        Self { shape: vec![values.len()], values }
    }

    /// A copy of a tensor's values.
    ///
    /// # Errors
    /// The device cannot be read.
    pub fn of(tensor: &Tensor) -> Result<Self> {
        Ok(Self { shape: tensor.shape().to_vec(), values: tensor.to_f64()? })
    }

    /// A tensor of these values on the CPU.
    ///
    /// # Errors
    /// The number of values does not fit the shape.
    pub fn tensor(&self, dtype: DType) -> Result<Tensor> {
        Ok(Tensor::new(&self.shape, &self.values)?.to_dtype(dtype)?)
    }
}

/// The inputs and attributes of an operator.
#[derive(Clone, Debug)]
pub struct Case {
    /// The values of its inputs, in their order.
    pub inputs: Vec<Array>,
    /// Attributes of the operator.
    pub attributes: Attributes,
}

impl Case {
    /// A case without attributes.
    pub fn new(inputs: impl Into<Vec<Array>>) -> Self {
        Self { inputs: inputs.into(), attributes: Attributes::default() }
    }

    /// Sets the attributes from a JSON object.
    pub fn with(self, attributes: Value) -> Self {
        let attributes = match attributes {
            Value::Object(map) => Attributes(map),
            _ => Attributes::default(),
        };
        Self { attributes, ..self }
    }
}

/// An operator's attributes by name, as golden cases have them.
#[derive(Clone, Debug, Default)]
pub struct Attributes(pub Map<String, Value>);

impl Attributes {
    /// True if an attribute is given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// An attribute's value as `read` converts it; `expected` names it in the error.
    fn get<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.0.get(name);
        let value = value.ok_or_else(|| Error::Failure(format!("the case has no attribute {name}")))?;
        read(value)
            .ok_or_else(|| Error::Failure(format!("attribute {name} is {value}, but must be {expected}")))
    }

    /// An attribute that is a finite number.
    pub fn number(&self, name: &str) -> Result<f64> {
        self.get(name, "a number", |value| value.as_f64().filter(|v| v.is_finite()))
    }

    /// An attribute that is true or false.
    pub fn flag(&self, name: &str) -> Result<bool> {
        self.get(name, "true or false", Value::as_bool)
    }

    /// An attribute that is true or false; false if it is missing.
    pub fn optional_flag(&self, name: &str) -> Result<bool> {
        if self.has(name) { self.flag(name) } else { Ok(false) }
    }

    /// An attribute that is a string.
    pub fn word(&self, name: &str) -> Result<&str> {
        self.get(name, "a word", Value::as_str)
    }

    /// An attribute that is a whole number of at most 4096.
    pub fn count(&self, name: &str) -> Result<usize> {
        self.get(name, "a whole number of at most 4096", count)
    }

    /// An attribute that is a list of whole numbers of at most 4096.
    pub fn counts(&self, name: &str) -> Result<Vec<usize>> {
        self.get(name, "a list of whole numbers of at most 4096", |value| {
            value.as_array()?.iter().map(count).collect()
        })
    }

    /// An attribute with a whole number for both directions, or one for rows and one for columns.
    pub fn pair(&self, name: &str) -> Result<[usize; 2]> {
        self.get(name, "one or two whole numbers of at most 4096", |value| {
            match value.as_array().map(Vec::as_slice) {
                Some([both]) => count(both).map(|n| [n; 2]),
                Some([rows, columns]) => count(rows).zip(count(columns)).map(|(r, c)| [r, c]),
                Some(_) => None,
                None => count(value).map(|n| [n; 2]),
            }
        })
    }

    /// The same whole number in both directions.
    pub fn square(&self, name: &str) -> Result<usize> {
        match self.pair(name)? {
            [a, b] if a == b => Ok(a),
            pair => Err(Error::Failure(format!("{name} {pair:?}: the two directions must be equal"))),
        }
    }

    /// Checks attributes of which the engine supports only one value.
    pub fn only_usual(&self, usual: &[(&str, Value)]) -> Result<()> {
        for (name, value) in usual {
            if let Some(given) = self.0.get(*name)
                && given != value
            {
                return Err(Error::Failure(format!("{name} {given} is not supported; only {value} is")));
            }
        }
        Ok(())
    }
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().filter(|&n| n <= LARGEST_ATTRIBUTE).map(|n| n as usize)
}

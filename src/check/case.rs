//! A case of an operator: the values that go in, and its attributes.

use serde_json::{Map, Value};
use ssmv_autograd::{DType, Tensor};

use crate::{Error, Result};

/// The largest whole number that an attribute may be: a kernel, stride or padding beyond it is a mistake.
const LARGEST_ATTRIBUTE: u64 = 4096;

/// Values in row-major order under a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// One value an element.
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
    /// A device that cannot be read.
    pub fn of(tensor: &Tensor) -> Result<Self> {
        Ok(Self { shape: tensor.shape().to_vec(), values: tensor.to_f64()? })
    }

    /// A tensor of these values on the CPU.
    ///
    /// # Errors
    /// Values that the shape does not hold.
    pub fn tensor(&self, dtype: DType) -> Result<Tensor> {
        Ok(Tensor::new(&self.shape, &self.values)?.to_dtype(dtype)?)
    }
}

/// The inputs and attributes of an operator.
#[derive(Clone, Debug)]
pub struct Case {
    /// The values of its inputs, in their order.
    pub inputs: Vec<Array>,
    /// Its attributes.
    pub attributes: Attributes,
}

impl Case {
    /// A case without attributes.
    pub fn new(inputs: impl Into<Vec<Array>>) -> Self {
        Self { inputs: inputs.into(), attributes: Attributes::default() }
    }

    /// The same with the attributes of a JSON object.
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
    /// Whether an attribute is given.
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
            .ok_or_else(|| Error::Failure(format!("attribute {name} is {value}; {expected} is expected")))
    }

    /// A finite number.
    pub fn number(&self, name: &str) -> Result<f64> {
        self.get(name, "a number", |value| value.as_f64().filter(|v| v.is_finite()))
    }

    /// A truth value.
    pub fn flag(&self, name: &str) -> Result<bool> {
        self.get(name, "true or false", Value::as_bool)
    }

    /// A truth value that is false where it is not given.
    pub fn optional_flag(&self, name: &str) -> Result<bool> {
        if self.has(name) { self.flag(name) } else { Ok(false) }
    }

    /// A word.
    pub fn word(&self, name: &str) -> Result<&str> {
        self.get(name, "a word", Value::as_str)
    }

    /// A whole number.
    pub fn count(&self, name: &str) -> Result<usize> {
        self.get(name, "a whole number of at most 4096", count)
    }

    /// Whole numbers.
    pub fn counts(&self, name: &str) -> Result<Vec<usize>> {
        self.get(name, "a list of whole numbers of at most 4096", |value| {
            value.as_array()?.iter().map(count).collect()
        })
    }

    /// A whole number a direction: one for both, or rows and columns.
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
            pair => Err(Error::Failure(format!("{name} {pair:?}: the two directions must agree"))),
        }
    }

    /// Refuses any other value of attributes of which the engine has only the usual one.
    pub fn only_usual(&self, usual: &[(&str, Value)]) -> Result<()> {
        for (name, value) in usual {
            if let Some(given) = self.0.get(*name)
                && given != value
            {
                return Err(Error::Failure(format!("{name} {given} is not supported; {value} is")));
            }
        }
        Ok(())
    }
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().filter(|&n| n <= LARGEST_ATTRIBUTE).map(|n| n as usize)
}

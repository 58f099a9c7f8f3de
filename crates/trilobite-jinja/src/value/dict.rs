//! Python's dict: pairs in insertion order, with keys that compare equal across types.

use std::hash::{Hash, Hasher};

use indexmap::IndexMap;

use super::{Value, nested};
use crate::budget::Budget;
use crate::error::{Result, fail};

/// The cost of a pair besides its key.
const PAIR: usize = 3;

#[derive(Clone, Default)]
pub(crate) struct Dict {
    pairs: IndexMap<Key, Value>,
    depth: u16,
}

/// A dict key. `1`, `1.0` and `True` are the same key.
#[derive(Clone)]
pub(crate) struct Key {
    value: Value,
    weight: usize,
}

impl Key {
    pub(crate) fn new(value: Value, budget: &Budget) -> Result<Self> {
        let weight = weigh(&value, budget)?;
        Ok(Self { value, weight })
    }

    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// The cost of looking up this key.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }
}

/// The cost of hashing or comparing a value, or an error if it cannot be a key.
fn weigh(value: &Value, budget: &Budget) -> Result<usize> {
    let own = 1 + value.as_str().map_or(0, str::len) / 32;
    budget.spend(own)?;
    match value {
        Value::List(_) | Value::Dict(_) | Value::View(..) => {
            fail(format!("unhashable type: '{}'", value.type_name()))
        }
        Value::Tuple(items) => {
            items.values.iter().try_fold(own, |sum, item| Ok(sum + weigh(item, budget)?))
        }
        _ => Ok(own),
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self { value: Value::str(text), weight: 1 + text.len() / 32 }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        same(&self.value, &other.value)
    }
}

impl Eq for Key {}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Tuple(a), Value::Tuple(b)) => {
            a.values.len() == b.values.len()
                && a.values.iter().zip(&b.values).all(|(a, b)| same(a, b))
        }
        (Value::None, Value::None) | (Value::Undefined(_), Value::Undefined(_)) => true,
        (Value::Namespace(a), Value::Namespace(b)) => a == b,
        _ => match (a.as_str(), b.as_str()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => a.as_float().is_some() && a.as_float() == b.as_float(),
            },
            _ => false,
        },
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(&self.value, state);
    }
}

fn hash(value: &Value, state: &mut impl Hasher) {
    if let Some(text) = value.as_str() {
        text.hash(state);
    } else if let Some(number) = value.as_float() {
        // Equal numbers of different types convert to the same float.
        (number + 0.0).to_bits().hash(state);
    } else if let Value::Tuple(items) = value {
        items.values.iter().for_each(|item| hash(item, state));
    }
}

impl Dict {
    pub(crate) fn new(
        pairs: impl IntoIterator<Item = Result<(Key, Value)>>,
        budget: &Budget,
    ) -> Result<Self> {
        let mut dict = Self::default();
        for pair in pairs {
            let (key, value) = pair?;
            budget.spend(PAIR + key.weight)?;
            dict.pairs.insert(key, value);
        }
        dict.depth = nested(dict.pairs.keys().map(Key::value).chain(dict.pairs.values()))?;
        Ok(dict)
    }

    pub(super) fn depth(&self) -> u16 {
        self.depth
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.pairs.get(key)
    }

    /// Sets a name of a namespace. Its depth does not count, since no value contains a namespace.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.pairs.insert(name.into(), value);
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Key, &Value)> {
        self.pairs.iter()
    }

    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = Value> {
        self.pairs.keys().map(|key| key.value().clone())
    }

    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.pairs.values()
    }
}

//! Sizes of JSON values, and budgets that whatever builds values draws from before it builds them.
//!
//! A size has two measures: the bytes of the value's JSON text, which is what is stored and sent, and an estimate of its
//! memory, because a value of two characters takes about a hundred bytes while a process works with it. One limit in bytes
//! bounds both: memory may be at most [`MEMORY_PER_BYTE`] times it.

use std::{
    fmt::{self, Write as _},
    ops::{Add, Deref, Sub},
    sync::Arc,
};

use serde_json::Value;

/// Most levels of nesting in a value. JSON texts of over 128 levels can't be read (serde_json's limit); what the service puts
/// around a value before it stores or answers it takes fewer than the difference.
pub const MAX_DEPTH: usize = 100;
/// Memory that a value may take, as a multiple of the limit of its text.
pub const MEMORY_PER_BYTE: usize = 8;
/// Estimate of the memory that a value takes besides its text: the value itself, and its share of its parent's tables.
const NODE_MEMORY: usize = 96;

/// Size of one or several JSON values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueSize {
    /// Bytes of the compact JSON text.
    pub bytes: usize,
    /// Estimate of the memory, in bytes.
    pub memory: usize,
}

impl ValueSize {
    /// A size that nothing exceeds.
    pub const MAX: Self = Self { bytes: usize::MAX, memory: usize::MAX };

    /// Create the bound that belongs to a limit in bytes of text.
    pub const fn limit(bytes: usize) -> Self {
        Self { bytes, memory: bytes.saturating_mul(MEMORY_PER_BYTE) }
    }

    /// Return whether neither measure exceeds that of `bound`.
    pub const fn fits(self, bound: Self) -> bool {
        self.bytes <= bound.bytes && self.memory <= bound.memory
    }
}

impl Add for ValueSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), memory: self.memory.saturating_add(other.memory) }
    }
}

impl Sub for ValueSize {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(other.bytes), memory: self.memory.saturating_sub(other.memory) }
    }
}

impl std::iter::Sum for ValueSize {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), Add::add)
    }
}

/// A limit, with the name of the setting that a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteLimit {
    /// Name of the setting.
    pub name: &'static str,
    /// Bytes of JSON text.
    pub bytes: usize,
}

/// Reason why a value can't be accepted or built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetExceeded {
    /// Its text would have more bytes.
    Bytes(ByteLimit),
    /// It would have so many members and elements that it takes [`MEMORY_PER_BYTE`] times the limit in memory.
    Memory(ByteLimit),
    /// It is nested deeper than [`MAX_DEPTH`].
    Depth,
}

impl fmt::Display for BudgetExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(ByteLimit { name, bytes }) => write!(f, "more than {bytes} bytes of JSON ({name})"),
            Self::Memory(ByteLimit { name, bytes }) => {
                write!(
                    f,
                    "so many members and elements that they take {MEMORY_PER_BYTE} times {bytes} bytes of memory ({name})"
                )
            }
            Self::Depth => write!(f, "more than {MAX_DEPTH} levels of nesting"),
        }
    }
}

impl std::error::Error for BudgetExceeded {}

/// What may still be built. Each value is drawn before it is copied, so that no more than the budget is ever in memory.
#[derive(Clone, Copy, Debug)]
pub struct ValueBudget {
    limit: ByteLimit,
    left: ValueSize,
}

impl ValueBudget {
    /// Create a full budget.
    pub const fn new(limit: ByteLimit) -> Self {
        Self { limit, left: ValueSize::limit(limit.bytes) }
    }

    /// Create a full budget of the same limit.
    pub const fn full(&self) -> Self {
        Self::new(self.limit)
    }

    /// Draw the size of `value`. What can't be drawn is measured only as far as the budget goes.
    ///
    /// # Errors
    /// The measure that the budget lacks.
    pub fn draw(&mut self, value: &Value) -> Result<(), BudgetExceeded> {
        self.draw_at(value, MAX_DEPTH)
    }

    fn draw_at(&mut self, value: &Value, levels: usize) -> Result<(), BudgetExceeded> {
        let levels = levels.checked_sub(1).ok_or(BudgetExceeded::Depth)?;
        match value {
            Value::Null => self.draw_node(4),
            Value::Bool(true) => self.draw_node(4),
            Value::Bool(false) => self.draw_node(5),
            Value::Number(number) => self.draw_node(number_bytes(number)),
            Value::String(text) => self.draw_node(string_bytes(text)),
            Value::Array(items) => {
                self.draw_node(2 + items.len().saturating_sub(1))?;
                items.iter().try_for_each(|item| self.draw_at(item, levels))
            }
            Value::Object(members) => {
                self.draw_node(2 + members.len().saturating_sub(1))?;
                members.iter().try_for_each(|(name, member)| {
                    self.draw_bytes(string_bytes(name) + 1)?;
                    self.draw_at(member, levels)
                })
            }
        }
    }

    fn draw_node(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        self.draw_size(ValueSize { bytes, memory: bytes.saturating_add(NODE_MEMORY) })
    }

    /// Draw text of this many bytes.
    ///
    /// # Errors
    /// The measure that the budget lacks.
    pub fn draw_bytes(&mut self, bytes: usize) -> Result<(), BudgetExceeded> {
        self.draw_size(ValueSize { bytes, memory: bytes })
    }

    fn draw_size(&mut self, size: ValueSize) -> Result<(), BudgetExceeded> {
        if size.bytes > self.left.bytes {
            Err(BudgetExceeded::Bytes(self.limit))
        } else if size.memory > self.left.memory {
            Err(BudgetExceeded::Memory(self.limit))
        } else {
            self.left = self.left - size;
            Ok(())
        }
    }

    /// Return what has been drawn.
    pub fn drawn(&self) -> ValueSize {
        ValueSize::limit(self.limit.bytes) - self.left
    }
}

/// A JSON value that was measured and fits its limit. Copies share it.
#[derive(Clone, Default, PartialEq)]
pub struct SizedValue {
    value: Arc<Value>,
    size: ValueSize,
}

impl SizedValue {
    /// Measure `value`.
    ///
    /// # Errors
    /// How it exceeds the limit.
    pub fn measure(value: Value, limit: ByteLimit) -> Result<Self, BudgetExceeded> {
        let mut budget = ValueBudget::new(limit);
        budget.draw(&value)?;
        Ok(Self { value: Arc::new(value), size: budget.drawn() })
    }

    /// Measure a value that was accepted before, perhaps under another limit.
    pub fn accepted(value: Value) -> Self {
        let mut budget = ValueBudget { limit: ByteLimit { name: "", bytes: usize::MAX }, left: ValueSize::MAX };
        // Only the depth can be exceeded; what is above it is measured.
        let _ = budget.draw(&value);
        Self { size: ValueSize::MAX - budget.left, value: Arc::new(value) }
    }

    /// Return a copy that shares this value, so that it takes no memory of its own.
    pub fn share(&self) -> Self {
        Self { value: self.value.clone(), size: ValueSize { memory: 0, ..self.size } }
    }

    /// The value, to be kept by others.
    pub fn arc(&self) -> Arc<Value> {
        self.value.clone()
    }

    /// Size of the value.
    pub fn size(&self) -> ValueSize {
        self.size
    }

    /// Return the value itself; copied only if others share it.
    pub fn into_value(self) -> Value {
        Arc::unwrap_or_clone(self.value)
    }
}

impl fmt::Debug for SizedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl Deref for SizedValue {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

/// Bytes of a number's text.
fn number_bytes(number: &serde_json::Number) -> usize {
    let mut counter = ByteCounter(0);
    // Counting never fails.
    let _ = write!(counter, "{number}");
    counter.0
}

/// Bytes of a string's JSON text, with its quotes and escapes.
fn string_bytes(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | 0x08 | 0x09 | 0x0A | 0x0C | 0x0D => 1,
        0x00..0x20 => 5,
        _ => 0,
    });
    text.len() + escapes.sum::<usize>() + 2
}

struct ByteCounter(usize);

impl fmt::Write for ByteCounter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const fn limit(bytes: usize) -> ByteLimit {
        ByteLimit { name: "TEST_BYTES", bytes }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_measured_bytes_are_those_of_the_text(value in values()) {
            let text = value.to_string();
            let sized = SizedValue::measure(value.clone(), limit(1 << 20)).unwrap();
            prop_assert_eq!(sized.size().bytes, text.len());
            prop_assert_eq!(SizedValue::accepted(value.clone()).size(), sized.size());
            // Exactly its own size is enough, one byte less is not.
            let memory_fits = sized.size().memory <= text.len() * MEMORY_PER_BYTE;
            prop_assert_eq!(SizedValue::measure(value.clone(), limit(text.len())).is_ok(), memory_fits);
            prop_assert!(SizedValue::measure(value, limit(text.len() - 1)).is_err());
        }
    }

    #[test]
    fn what_exceeds_a_limit_is_named() {
        let measured = |value: Value, bytes| SizedValue::measure(value, limit(bytes)).unwrap_err().to_string();
        assert_eq!(measured(json!("x".repeat(99)), 100), "more than 100 bytes of JSON (TEST_BYTES)");
        assert!(measured(json!(vec![0; 1000]), 4000).contains("8 times 4000 bytes of memory"));
        let deep = |levels| (1..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(SizedValue::measure(deep(MAX_DEPTH), limit(1 << 20)).is_ok());
        assert_eq!(SizedValue::measure(deep(MAX_DEPTH + 1), limit(1 << 20)), Err(BudgetExceeded::Depth));
    }

    #[test]
    fn several_draws_share_one_budget() {
        let mut budget = ValueBudget::new(limit(1000));
        let value = json!("x".repeat(398));
        assert!(budget.draw(&value).is_ok() && budget.draw(&value).is_ok());
        assert_eq!(budget.drawn().bytes, 800);
        assert!(budget.draw(&value).is_err());
        assert!(budget.draw_bytes(200).is_ok() && budget.draw_bytes(1).is_err());
    }

    #[test]
    fn a_shared_value_takes_its_memory_once() {
        let first = SizedValue::measure(json!(["a"]), limit(1000)).unwrap();
        let second = first.share();
        assert_eq!((second.size().bytes, second.size().memory), (5, 0));
        assert!(Arc::ptr_eq(&first.arc(), &second.arc()));
        assert_eq!(second.into_value(), json!(["a"]));
    }
}

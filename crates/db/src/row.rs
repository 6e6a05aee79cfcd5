//! Rows as types: which columns a type is read from stands once, beside its fields.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, de};
use sqlx::{Decode, Row as _, Type, TypeInfo as _, ValueRef as _};

use super::{DatabaseError, Db, Result, Row, sql_value::SqlValue};

/// Floats below this are read as whole numbers where they are: those beyond may have lost digits.
const MAX_WHOLE: f64 = 9e15;

/// A type that a row is read as.
pub trait FromRow: Sized {
    /// What a statement must select for it, commas between; empty for tuples.
    const COLUMNS: &'static str = "";

    /// Read it.
    ///
    /// # Errors
    /// [`DatabaseError::InvalidValue`] when a value is not what its column should hold.
    fn from_row(columns: &mut Columns<'_>) -> Result<Self>;
}

/// A row's values, in order.
pub struct Columns<'r> {
    row: &'r Row,
    at: usize,
}

impl<'r> Columns<'r> {
    pub(super) fn of(row: &'r Row) -> Self {
        Self { row, at: 0 }
    }

    /// The next value. A number is read from whatever SQLite stores it as: how the coordinator declares a column decides whether
    /// an amount is an integer, a float or a text.
    ///
    /// # Errors
    /// [`DatabaseError::InvalidValue`] when it is not what its column should hold.
    pub fn next_value<T: Decode<'r, Db> + Type<Db>>(&mut self) -> Result<T> {
        let at = self.at;
        self.at += 1;
        if self.is_converted(at, T::type_info().name())? {
            Ok(self.row.try_get_unchecked(at)?)
        } else {
            Ok(self.row.try_get(at)?)
        }
    }

    /// Whether value `at` is a number of the kind `wanted` in another form, which SQLite converts without loss.
    fn is_converted(&self, at: usize, wanted: &str) -> Result<bool> {
        if !matches!(wanted, "REAL" | "INTEGER" | "BOOLEAN") {
            return Ok(false);
        }
        let value = self.row.try_get_raw(at)?;
        let stored = value.type_info();
        if value.is_null() || stored.name() == wanted {
            return Ok(false);
        }
        let number = match stored.name() {
            "INTEGER" | "BOOLEAN" => return Ok(true),
            "REAL" => f64::decode(value).map_err(sqlx::Error::Decode)?,
            "TEXT" => match String::decode(value).map_err(sqlx::Error::Decode)?.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => number,
                _ => return Ok(false),
            },
            _ => return Ok(false),
        };
        Ok(wanted == "REAL" || (number.fract() == 0.0 && number.abs() < MAX_WHOLE))
    }

    /// The next value, exactly as it is stored.
    ///
    /// # Errors
    /// When there is none.
    pub fn next_raw(&mut self) -> Result<SqlValue> {
        let at = self.at;
        self.at += 1;
        SqlValue::from_row(self.row, at)
    }

    /// The next JSON text as `T`; `name` tells its column in the error.
    ///
    /// # Errors
    /// [`DatabaseError::InvalidValue`] when it is no JSON, or of another shape.
    pub fn next_json<T: serde::de::DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        serde_json::from_str(self.next_value()?)
            .map_err(|error| DatabaseError::InvalidValue(format!("{name}: {error}")))
    }
}

macro_rules! tuples {
    ($($($name:ident)+;)+) => {$(
        impl<$($name),+> FromRow for ($($name,)+)
        where
            $($name: for<'r> Decode<'r, Db> + Type<Db>),+
        {
            fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
                Ok(($(columns.next_value::<$name>()?,)+))
            }
        }
    )+};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}

/// Say which columns a type is read from.
///
/// ```ignore
/// row! {
///     Execution from "e." {
///         id,                                     // column e.id
///         paused = "coalesce(r.paused, FALSE)",   // an expression
///         step_states => Doc::or_object,          // changed after it is read
///     }
/// }
/// row! {
///     /// A type made here, from a table without an alias.
///     struct Held { id: String, fence: i64 }
/// }
/// ```
#[macro_export]
macro_rules! row {
    (@column $prefix:literal $field:ident) => { concat!($prefix, stringify!($field)) };
    (@column $prefix:literal $field:ident $column:literal) => { $column };
    (@change $value:expr) => { $value };
    (@change $value:expr, $change:expr) => { $change($value) };
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty $(= $column:literal)? $(=> $change:expr)?),+ $(,)?
    }) => {
        $crate::row! {
            $(#[$meta])* $vis struct $name from "" {
                $($(#[$field_meta])* $field_vis $field : $type $(= $column)? $(=> $change)?),+
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident from $prefix:literal {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident : $type:ty $(= $column:literal)? $(=> $change:expr)?),+ $(,)?
    }) => {
        $(#[$meta])* $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type),+ }
        $crate::row! { $name from $prefix { $($field $(= $column)? $(=> $change)?),+ } }
    };
    ($name:ident { $($fields:tt)+ }) => { $crate::row! { $name from "" { $($fields)+ } } };
    ($name:ident from $prefix:literal {
        $first:ident $(= $first_column:literal)? $(=> $first_change:expr)?
        $(, $field:ident $(= $column:literal)? $(=> $change:expr)?)* $(,)?
    }) => {
        impl $crate::row::FromRow for $name {
            const COLUMNS: &'static str = concat!(
                $crate::row!(@column $prefix $first $($first_column)?)
                $(, ", ", $crate::row!(@column $prefix $field $($column)?))*
            );

            fn from_row(columns: &mut $crate::row::Columns<'_>) -> $crate::Result<Self> {
                Ok(Self {
                    $first: $crate::row!(@change columns.next_value()? $(, $first_change)?),
                    $($field: $crate::row!(@change columns.next_value()? $(, $change)?),)*
                })
            }
        }
    };
}

/// A truth value in a packed row, which SQLite writes as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth(pub bool);

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Truth;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a truth value or a number")
            }
            fn visit_bool<E>(self, value: bool) -> std::result::Result<Truth, E> {
                Ok(Truth(value))
            }
            fn visit_i64<E>(self, value: i64) -> std::result::Result<Truth, E> {
                Ok(Truth(value != 0))
            }
            fn visit_u64<E>(self, value: u64) -> std::result::Result<Truth, E> {
                Ok(Truth(value != 0))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A whole number in a packed row, which SQLite writes as the column stores it: as an integer, a float or a text. For
/// `serde(deserialize_with)`.
///
/// # Errors
/// When it is no whole number.
pub fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<i64, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = i64;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a whole number")
        }
        fn visit_i64<E>(self, value: i64) -> std::result::Result<i64, E> {
            Ok(value)
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<i64, E> {
            i64::try_from(value).map_err(E::custom)
        }
        fn visit_f64<E: de::Error>(self, value: f64) -> std::result::Result<i64, E> {
            let whole = value.fract() == 0.0 && value.abs() < MAX_WHOLE;
            if whole { Ok(value as i64) } else { Err(E::custom("not a whole number")) }
        }
        fn visit_str<E: de::Error>(self, value: &str) -> std::result::Result<i64, E> {
            self.visit_f64(value.trim().parse().map_err(E::custom)?)
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// A long text or document of a packed row, as the fragment `{brief column}` gives it: lists leave it out above some KB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BriefText<'a> {
    /// The text itself.
    Text(Cow<'a, str>),
    /// It is left out, and has this many bytes.
    Omitted(u64),
}

impl<'a> BriefText<'a> {
    /// The text; where it is left out, `name` is added to `omitted`.
    pub fn or_omit(self, name: &'static str, omitted: &mut OmittedMembers) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Omitted(_) => {
                omitted.0.push(name.into());
                None
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for BriefText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = BriefText<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, or its number of bytes")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Self::Value, E> {
                Ok(BriefText::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> std::result::Result<Self::Value, E> {
                Ok(BriefText::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_u64<E>(self, bytes: u64) -> std::result::Result<Self::Value, E> {
                Ok(BriefText::Omitted(bytes))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Names of the members that a list leaves out of one of its rows, because they are long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OmittedMembers(pub Vec<Cow<'static, str>>);

impl OmittedMembers {
    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What statements select for a type of packed rows.
pub trait PackedColumns {
    /// Names of the columns, separated by commas.
    const COLUMNS: &'static str;
    /// SQL for the row as one JSON array, in the order of the columns.
    const PACKED: &'static str;
    /// The same for a list.
    const LISTED: &'static str;
}

/// A type whose rows come packed, many of them in one value.
pub trait PackedRow: Sized {
    /// Its form in JSON.
    type Packed<'a>: Deserialize<'a>;

    /// Read it.
    ///
    /// # Errors
    /// [`DatabaseError::InvalidValue`] when a value is not what its column should hold.
    fn unpack(packed: Self::Packed<'_>) -> Result<ListedRow<Self>>;
}

/// A row of a list.
#[derive(Clone, Debug)]
pub struct ListedRow<R> {
    /// The row; its members that are left out are empty.
    pub row: R,
    /// Which these are.
    pub omitted: OmittedMembers,
}

/// Make a type that is read from a row packed into one JSON array: `PACKED` is what a statement selects for it, `COLUMNS` are
/// the columns that this needs. `LISTED` is what a list selects, where a field may have another expression, after `|`.
#[macro_export]
macro_rules! packed_row {
    (@packed $field:ident) => { stringify!($field) };
    (@packed $field:ident $column:literal) => { $column };
    (@listed $field:ident) => { stringify!($field) };
    (@listed $field:ident = $column:literal) => { $column };
    (@listed $field:ident $(= $column:literal)? | $listed:literal) => { $listed };
    ($(#[$meta:meta])* $vis:vis struct $name:ident<$life:lifetime> {
        $(#[$first_meta:meta])* $first:ident : $first_type:ty $(= $first_column:literal)?
        $(, $(#[$field_meta:meta])* $field:ident : $type:ty $(= $column:literal)? $(| $listed:literal)?)* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(serde::Deserialize)]
        $vis struct $name<$life> { $(#[$first_meta])* $first: $first_type, $($(#[$field_meta])* $field: $type),* }

        impl $crate::row::PackedColumns for $name<'_> {
            const COLUMNS: &'static str = concat!(stringify!($first) $(, ", ", stringify!($field))*);
            const PACKED: &'static str = concat!(
                "{array ",
                $crate::packed_row!(@packed $first $($first_column)?)
                $(, ", ", $crate::packed_row!(@packed $field $($column)?))*,
                "}"
            );
            const LISTED: &'static str = concat!(
                "{array ",
                $crate::packed_row!(@packed $first $($first_column)?)
                $(, ", ", $crate::packed_row!(@listed $field $(= $column)? $(| $listed)?))*,
                "}"
            );
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing {
        id: i64,
        name: String,
        size: u64,
    }

    crate::row! {
        Thing from "t." { id, name = "upper(t.name)", size => i64::cast_unsigned }
    }

    #[test]
    fn a_types_columns_are_named_with_its_fields() {
        assert_eq!(Thing::COLUMNS, "t.id, upper(t.name), t.size");
    }

    #[tokio::test]
    async fn numbers_are_read_in_whatever_form_they_are_stored() {
        use sqlx::ConnectOptions as _;
        let mut conn = sqlx::sqlite::SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        let reals = crate::sql!("SELECT 3, 2.5, '0.03', '0E-8', ' 12.50000000 ', NULL");
        let reals: (f64, f64, f64, f64, f64, Option<f64>) = reals.fetch_one(&mut conn).await.unwrap();
        assert_eq!(reals, (3.0, 2.5, 0.03, 0.0, 12.5, None));
        let wholes = crate::sql!("SELECT 3, 3600.0, '42', 1, 0.0, '1'");
        let wholes: (i64, i64, i64, bool, bool, bool) = wholes.fetch_one(&mut conn).await.unwrap();
        assert_eq!(wholes, (3, 3600, 42, true, false, true));
        for text in [crate::sql!("SELECT 'much'"), crate::sql!("SELECT x'00'"), crate::sql!("SELECT 'inf'")] {
            let read = text.fetch_value::<f64>(&mut conn).await;
            assert!(matches!(read, Err(DatabaseError::InvalidValue(_))), "{read:?}");
        }
        for number in [crate::sql!("SELECT 2.5"), crate::sql!("SELECT '1e300'")] {
            let read = number.fetch_value::<i64>(&mut conn).await;
            assert!(matches!(read, Err(DatabaseError::InvalidValue(_))), "{read:?}");
        }
    }

    #[tokio::test]
    async fn a_row_is_read_by_the_same_list() {
        use sqlx::ConnectOptions as _;
        let mut conn = sqlx::sqlite::SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
        let query = crate::sql!("SELECT ", Thing::COLUMNS, " FROM (SELECT $1 AS id, 'x' AS name, 3 AS size) AS t");
        let thing: Thing = query.bind(7i64).fetch_one(&mut conn).await.unwrap();
        assert_eq!((thing.id, thing.name.as_str(), thing.size), (7, "X", 3));
    }
}

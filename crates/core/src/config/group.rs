//! Definition of a group of settings: one line a setting with its type, default and reader.

/// Define a struct of settings with its `Default`, the names of its settings (`KEYS`) and `read`.
///
/// A setting is written `"NAME" field: type = default, reader;`. The reader gets the [`Reader`](super::read::Reader), the
/// name and the default, and answers the value. Members after `groups:` are groups themselves.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $group:ident {
            $($(#[$doc:meta])* $key:literal $field:ident: $type:ty = $default:expr, $reader:expr;)*
            $(groups: $($(#[$inner_doc:meta])* $inner:ident: $inner_type:ident;)*)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $group {
            $(#[doc = concat!("`", $key, "`.")] $(#[$doc])* pub $field: $type,)*
            $($($(#[$inner_doc])* pub $inner: $inner_type,)*)?
        }

        impl Default for $group {
            fn default() -> Self {
                Self { $($field: $default,)* $($($inner: $inner_type::default(),)*)? }
            }
        }

        impl $group {
            /// The names of all settings of this group.
            pub(in crate::config) fn keys() -> Vec<&'static str> {
                [vec![$($key),*], $($($inner_type::keys(),)*)?].concat()
            }

            /// The names of all settings of this group, each with its type as it is written here.
            pub(in crate::config) fn types() -> Vec<(&'static str, &'static str)> {
                [vec![$(($key, stringify!($type))),*], $($($inner_type::types(),)*)?].concat()
            }

            pub(in crate::config) fn read(from: &mut $crate::config::setting_reader::SettingReader) -> Self {
                let default = Self::default();
                Self {
                    $($field: $reader(from, $key, default.$field),)*
                    $($($inner: $inner_type::read(from),)*)?
                }
            }
        }
    };
}
pub(super) use settings;

//! Declaration and validation of market parameters.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::super::EnvironmentParameter;

/// Numeric parameters of a market, declared by [`parameters!`].
pub(in super::super) trait MarketParameters: Default + Serialize + DeserializeOwned + Send {
    /// Describe each parameter, in order.
    fn describe(&self) -> Vec<EnvironmentParameter>;

    /// Read parameters from a JSON object; those not named keep their default.
    fn read(value: Option<&Value>) -> Result<Self, String> {
        let Some(value) = value else { return Ok(Self::default()) };
        let Some(object) = value.as_object() else { return Err("they are an object of numbers by name".into()) };
        if let Some((name, value)) = object.iter().find(|(_, value)| !value.is_number()) {
            return Err(format!("{name} is {value}: a number is needed"));
        }
        let parameters = Self::deserialize(value).map_err(|error| error.to_string())?;
        parameters.validate()?;
        Ok(parameters)
    }

    /// Check that each parameter lies in its range.
    fn validate(&self) -> Result<(), String> {
        match self.describe().iter().find(|one| !(one.low..=one.high).contains(&one.value)) {
            Some(EnvironmentParameter { name, value, low, high, .. }) => {
                Err(format!("{name} is {value}: {low} to {high} is needed"))
            }
            None => Ok(()),
        }
    }
}

/// Declare the parameters of a market: meaning, name, default and range of each. Documentation, `Default` and
/// validation are generated from the same declaration.
macro_rules! market_parameters {
    (
        $(#[$about:meta])*
        $type:ident {
            $($(#[doc = $meaning:literal])+ $name:ident: $default:literal, $low:literal to $high:literal;)+
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $type {
            $(
                $(#[doc = $meaning])+
                #[doc = concat!(
                    " From ", stringify!($low), " to ", stringify!($high), "; ", stringify!($default), " by default."
                )]
                pub $name: f64,
            )+
        }

        impl Default for $type {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl super::MarketParameters for $type {
            fn describe(&self) -> Vec<super::super::EnvironmentParameter> {
                vec![$(super::super::EnvironmentParameter {
                    name: stringify!($name),
                    meaning: concat!($($meaning),+).trim_start(),
                    low: $low,
                    high: $high,
                    default: $default,
                    value: self.$name,
                },)+]
            }
        }
    };
}

pub(super) use market_parameters;

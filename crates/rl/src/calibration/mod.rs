//! Estimation of environment parameters from the coordinator's records.
//!
//! Only `price_optimization` can be calibrated; the other environments keep their documented defaults.

mod store;

use am_core::boxed;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    environments::{self, PriceRecord},
    error::{Result, RlError},
};
use am_db::Database;

/// Name of the environment that can be calibrated.
pub const CALIBRATED_ENVIRONMENT: &str = "price_optimization";

/// Parameters of an environment, with those that the coordinator's records determine.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = EnvironmentCalibration)]
pub struct EnvironmentCalibration {
    /// Name of the environment.
    pub environment: String,
    /// Table that the records come from. Null when no table had enough records; every parameter is then its default.
    pub source: Option<&'static str>,
    /// Number of usable records.
    pub records: usize,
    /// All parameters by name, in the form that a training run takes.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    pub parameters: Map<String, Value>,
    /// Parameters estimated from records, with their standard errors.
    pub estimated: Vec<ParameterEstimate>,
    /// Parameters and tables that were tried without result, with the reason.
    pub kept: Vec<UncalibratedParameter>,
}

/// A parameter estimated from records.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = EstimatedParameter)]
pub struct ParameterEstimate {
    /// Name of the parameter.
    pub name: &'static str,
    /// Estimated value, in the parameter's own unit.
    pub value: f64,
    /// Standard error of the estimate.
    pub standard_error: f64,
    /// Number of records used for the estimate.
    pub records: usize,
}

/// A parameter that kept its default, or a table that was not used.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = DefaultParameter)]
pub struct UncalibratedParameter {
    /// Name of the parameter or table.
    pub name: String,
    /// Reason, as a sentence.
    pub reason: String,
}

/// Estimate the parameters of the environment `name` from the coordinator's records.
///
/// The first table with enough records is used: `pricing_history`, then `agent_marketplace`, then `job` grouped by
/// hour. Each table measures demand in another unit, so they are never mixed.
///
/// # Errors
/// [`RlError::NotFound`] when no environment has that name.
#[boxed]
pub async fn calibrate_environment(db: &Database, name: &str) -> Result<EnvironmentCalibration> {
    let one = environments::make_environment(name, None).map_err(|error| RlError::NotFound(error.to_string()))?;
    let values = one.parameters().into_iter().map(|parameter| (parameter.name.to_owned(), parameter.value.into()));
    let mut answer = EnvironmentCalibration {
        environment: name.to_owned(),
        source: None,
        records: 0,
        parameters: values.collect(),
        estimated: Vec::new(),
        kept: Vec::new(),
    };
    if name != CALIBRATED_ENVIRONMENT {
        let reason = "no table of the coordinator has data about its parameters".to_owned();
        answer.kept.push(UncalibratedParameter { name: name.to_owned(), reason });
        return Ok(answer);
    }
    let mut conn = db.read_list().await?;
    let sources: [(&'static str, Vec<PriceRecord>); 3] = [
        ("pricing_history", store::read_pricing_history(&mut conn).await?),
        ("agent_marketplace", store::read_listings(&mut conn).await?),
        ("job", store::read_hourly_jobs(&mut conn).await?),
    ];
    for (source, records) in sources {
        match environments::calibrate_prices(&records) {
            Ok(found) => {
                answer.take(source, found);
                return Ok(answer);
            }
            Err(too_few) => {
                answer.kept.push(UncalibratedParameter { name: source.to_owned(), reason: too_few.to_string() })
            }
        }
    }
    Ok(answer)
}

impl EnvironmentCalibration {
    fn take(&mut self, source: &'static str, found: environments::PriceCalibration) {
        self.source = Some(source);
        self.records = found.records;
        if let Ok(Value::Object(parameters)) = serde_json::to_value(&found.parameters) {
            self.parameters = parameters;
        }
        let estimated = |one: environments::FittedParameter| ParameterEstimate {
            name: one.name,
            value: one.value,
            standard_error: one.standard_error,
            records: one.records,
        };
        self.estimated = found.estimated.into_iter().map(estimated).collect();
        self.kept = found
            .kept
            .into_iter()
            .map(|(name, reason)| UncalibratedParameter { name: name.to_owned(), reason })
            .collect();
    }

    /// Return these parameters with the values in `chosen` in place of the estimates.
    #[must_use]
    pub fn under(mut self, chosen: Option<Value>) -> Value {
        if let Some(Value::Object(chosen)) = chosen {
            self.parameters.extend(chosen);
        }
        Value::Object(self.parameters)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use am_core::ambient::Clock;
    use am_db::{DatabaseSettings, Tx};

    async fn database(dir: &tempfile::TempDir) -> Database {
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        am_db::migrate(&db, &Clock::system()).await.unwrap();
        db
    }

    #[tokio::test]
    async fn too_few_records_leave_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let db = database(&dir).await;
        let answer = calibrate_environment(&db, CALIBRATED_ENVIRONMENT).await.unwrap();
        assert_eq!((answer.source, answer.estimated.len(), answer.kept.len()), (None, 0, 3));
        assert_eq!(answer.kept[0].reason, "0 records of price and demand can be used, 30 are needed");
        let default = environments::make_environment(CALIBRATED_ENVIRONMENT, None).unwrap().parameters();
        assert!(default.iter().all(|parameter| answer.parameters[parameter.name] == parameter.default));
        let other = calibrate_environment(&db, "CartPole-v1").await.unwrap();
        assert!(other.parameters.is_empty() && other.kept.len() == 1);
        assert!(matches!(calibrate_environment(&db, "Tetris").await, Err(RlError::NotFound(_))));
    }

    #[tokio::test]
    async fn a_demand_curve_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let db = database(&dir).await;
        // ln demand = 3 - 1.6 ln price + 0.5 ln rival, over prices about 2.
        db.write(async |tx: &mut Tx| {
            // As the coordinator makes it, with the columns that count.
            let table = "CREATE TABLE pricing_history (id VARCHAR NOT NULL PRIMARY KEY, price FLOAT NOT NULL,
                demand_level FLOAT NOT NULL, created_at DATETIME NOT NULL, competitor_prices JSON)";
            sqlx::query(table).execute(tx.conn().await?).await?;
            for at in 0..200u32 {
                let price = 2.0 * (0.3 * (f64::from(at) * 0.7).sin()).exp();
                let rival = 2.0 * (0.3 * (f64::from(at) * 1.3).cos()).exp();
                let demand = (3.0 - 1.6 * price.ln() + 0.5 * rival.ln()).exp();
                sqlx::query(
                    "INSERT INTO pricing_history (id, price, demand_level, created_at, competitor_prices)
                     VALUES (?1, ?2, ?3, '2026-05-12 14:29:30.123456', ?4)",
                )
                .bind(format!("p{at}"))
                .bind(price)
                .bind(demand)
                .bind(format!("[{}, {}]", rival * 0.9, rival * 1.1))
                .execute(tx.conn().await?)
                .await?;
            }
            Ok::<_, am_db::DatabaseError>(())
        })
        .await
        .unwrap();
        let answer = calibrate_environment(&db, CALIBRATED_ENVIRONMENT).await.unwrap();
        assert_eq!((answer.source, answer.records), (Some("pricing_history"), 200), "{:?}", answer.kept);
        let value = |name: &str| answer.parameters[name].as_f64().unwrap();
        assert!((value("elasticity") - 1.6).abs() < 0.01, "{:?}", answer.estimated);
        assert!((value("cross_elasticity") - 0.5).abs() < 0.01);
        assert!((value("reference_price") - 2.0).abs() < 0.05);
        // They are what the environment takes, with what somebody has chosen in their place.
        let chosen = answer.under(Some(serde_json::json!({"elasticity": 2.0})));
        let made = environments::make_environment(CALIBRATED_ENVIRONMENT, Some(&chosen)).unwrap().parameters();
        assert!(made.iter().any(|one| one.name == "elasticity" && (one.value - 2.0).abs() < f64::EPSILON));
    }
}

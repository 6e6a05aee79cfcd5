//! Where the settings of a process come from, for people.

use std::{collections::BTreeSet, path::PathBuf};

use config::Source as _;

use super::{
    Config, ConfigSources,
    sources::{FILE_VARIABLE, read_dotenv, read_file},
};
use crate::validation::Violations;

/// Types whose values may be shown: no secret is in any of them.
const SHOWN_TYPES: [&str; 25] = [
    "(u16, u16)",
    "Option<(u32, u32)>",
    "u16",
    "u32",
    "u64",
    "usize",
    "i64",
    "f64",
    "bool",
    "Duration",
    "Option<Duration>",
    "PathBuf",
    "Option<PathBuf>",
    "String",
    "IpAddr",
    "Money",
    "AppEnvironment",
    "LogFormat",
    "ConstraintRule",
    "JobClockSetting",
    "SettlementMode",
    "SupervisorKind",
    "Vec<String>",
    "Vec<AddressBlock>",
    "Option<u64>",
];

/// Source of a setting's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// The environment of the process.
    Environment,
    /// The file `.env`.
    Dotenv(PathBuf),
    /// The configuration file.
    File(PathBuf),
}

/// A setting that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingOrigin {
    /// Name of the setting in the environment.
    pub name: &'static str,
    /// Value as it is written; `None`: it is a secret, or may contain one.
    pub value: Option<String>,
    /// Source that won over the others.
    pub source: SettingSource,
}

/// All settings that are set, and the files that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigOrigins {
    /// The file `.env`; `None`: there is none.
    pub dotenv: Option<PathBuf>,
    /// The configuration file; `None`: none is named.
    pub file: Option<PathBuf>,
    /// Settings in the order of their names. All others have their defaults.
    pub settings: Vec<SettingOrigin>,
}

impl ConfigSources {
    /// Read where each setting comes from. What is wrong in the sources is told by [`Config::load`].
    pub fn origins(&self) -> ConfigOrigins {
        let mut unused = Violations::default();
        let dotenv = self.dotenv.as_deref().map(|path| read_dotenv(path, &mut unused)).unwrap_or_default();
        let is_set = |value: &&String| !value.trim().is_empty();
        let variable = |name: &str| {
            // An empty variable hides what .env says, as it does when the settings are loaded.
            let own = self.env.get(name).map(|value| (value, SettingSource::Environment));
            let path = self.dotenv.clone().unwrap_or_default();
            own.or_else(|| dotenv.get(name).map(|value| (value, SettingSource::Dotenv(path))))
                .filter(|(value, _)| is_set(value))
        };
        let file = self.file.clone().or_else(|| variable(FILE_VARIABLE).map(|(path, _)| PathBuf::from(path)));
        let table = file.as_deref().and_then(|path| read_file(path, &mut unused)?.collect().ok()).unwrap_or_default();
        let mut settings = Vec::new();
        for (name, kind) in Config::types() {
            let in_file = || {
                let value = table.get(&name.to_lowercase())?;
                Some((value.to_string(), SettingSource::File(file.clone().unwrap_or_default())))
            };
            let found = variable(name).map(|(value, source)| (value.trim().to_owned(), source)).or_else(in_file);
            if let Some((value, source)) = found {
                let value = SHOWN_TYPES.contains(&kind).then_some(value);
                settings.push(SettingOrigin { name, value, source });
            }
        }
        settings.sort_by_key(|setting| setting.name);
        ConfigOrigins { dotenv: self.dotenv.clone().filter(|path| path.exists()), file, settings }
    }
}

impl ConfigOrigins {
    /// What was read, in one line.
    pub fn summary(&self) -> String {
        let count = |is_it: fn(&SettingSource) -> bool| self.settings.iter().filter(|one| is_it(&one.source)).count();
        let mut parts = vec![format!("{} from the environment", count(|source| *source == SettingSource::Environment))];
        match &self.dotenv {
            Some(path) => {
                let count = count(|source| matches!(source, SettingSource::Dotenv(_)));
                parts.push(format!("{count} from {}", path.display()));
            }
            None => parts.push("none from .env, which is not there".to_owned()),
        }
        if let Some(path) = &self.file {
            let count = count(|source| matches!(source, SettingSource::File(_)));
            parts.push(format!("{count} from {}", path.display()));
        }
        format!("{} settings: {}", self.settings.len(), parts.join(", "))
    }
}

/// Settings whose values are never shown.
pub fn hidden_settings() -> BTreeSet<&'static str> {
    Config::types().into_iter().filter(|(_, kind)| !SHOWN_TYPES.contains(kind)).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn origin(sources: &ConfigSources, name: &str) -> Option<(Option<String>, SettingSource)> {
        let found = sources.origins().settings.into_iter().find(|setting| setting.name == name)?;
        Some((found.value, found.source))
    }

    #[test]
    fn each_setting_is_told_with_the_source_that_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (dotenv, file) = (dir.path().join(".env"), dir.path().join("settings.toml"));
        fs::write(&dotenv, "APP_PORT=2\nDB_READERS=7\nADMIN_API_KEYS=not-to-be-shown\nLOG_LEVEL=debug\n").unwrap();
        fs::write(&file, "app_port = 3\njq_workers = 4\njwt_secret = \"not-to-be-shown\"\n").unwrap();
        let env = [("APP_PORT", "1"), ("LOG_LEVEL", " "), ("NOBODYS", "1")];
        let mut sources = ConfigSources::from_variables(env);
        sources.dotenv = Some(dotenv.clone());
        sources.file = Some(file.clone());
        let in_file = SettingSource::File(file);
        let in_dotenv = SettingSource::Dotenv(dotenv);
        for (name, expected) in [
            ("APP_PORT", Some((Some("1".to_owned()), SettingSource::Environment))),
            ("DB_READERS", Some((Some("7".to_owned()), in_dotenv.clone()))),
            ("JQ_WORKERS", Some((Some("4".to_owned()), in_file.clone()))),
            ("ADMIN_API_KEYS", Some((None, in_dotenv))),
            ("JWT_SECRET", Some((None, in_file))),
            ("LOG_LEVEL", None),
            ("APP_HOST", None),
            ("NOBODYS", None),
        ] {
            assert_eq!(origin(&sources, name), expected, "{name}");
        }
        let told = format!("{:?} {}", sources.origins(), sources.origins().summary());
        assert!(!told.contains("not-to-be-shown"), "{told}");
        assert!(told.contains("5 settings: 1 from the environment, 2 from "), "{told}");
    }

    /// Whatever may hold a secret is hidden, and no more than that.
    #[test]
    fn values_with_secrets_are_hidden() {
        let expected = [
            "ADMIN_API_KEYS",
            "AUDIT_PREVIOUS_SIGNING_KEY_HEX",
            "AUDIT_SIGNING_KEY_HEX",
            "AUDIT_WITNESSES",
            "CLIENT_API_KEYS",
            "COORDINATOR_CLIENT_ID",
            "CREATIVITY_LLM_KEY",
            "CREATIVITY_LLM_URL",
            "DEPLOYMENT_SERVICE_URL",
            "HTTP_ENDPOINTS",
            "JWT_SECRET",
            "MESSAGE_KEYS",
            "MINER_API_KEYS",
            "PORTFOLIO_PRICE_URL",
            "PORTFOLIO_SETTLEMENT_RPC_URL",
            "RECEIPT_SIGNING_KEY_HEX",
            "WEBHOOKS",
        ];
        assert_eq!(hidden_settings().into_iter().collect::<Vec<_>>(), expected);
    }
}

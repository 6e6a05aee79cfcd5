//! Sources of settings: a TOML file, `.env` and the environment, in ascending precedence.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use config::{FileFormat, Source as _};

use super::{SETTING_NAMES, setting_reader::SettingReader};
use crate::validation::Violations;

/// Environment variable that names the configuration file when the command line does not.
pub(super) const FILE_VARIABLE: &str = "AGENT_MANAGEMENT_CONFIG";

/// Sources that the configuration is read from. Nothing else is read, so a test has no environment but its own.
#[derive(Clone, Default)]
pub struct ConfigSources {
    /// Path given by `--config FILE`; without it the file named by `AGENT_MANAGEMENT_CONFIG`, if set.
    pub file: Option<PathBuf>,
    /// Path of a `.env` file, read if it exists; the environment takes precedence.
    pub dotenv: Option<PathBuf>,
    /// Environment variables by name.
    pub env: HashMap<String, String>,
}

impl ConfigSources {
    /// The environment of the process and `./.env`. Variables that are not Unicode are skipped.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { file, dotenv: Some(PathBuf::from(".env")), env }
    }

    /// The given variables and nothing else.
    pub fn from_variables<K: Into<String>, V: Into<String>>(env: impl IntoIterator<Item = (K, V)>) -> Self {
        let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { file: None, dotenv: None, env }
    }

    /// All layers in one, ready to be read. Text of the environment is a JSON string; the file's values keep their types.
    pub(super) fn gather(self) -> SettingReader {
        let mut violations = Violations::default();
        let mut variables = self.dotenv.as_deref().map(|path| read_dotenv(path, &mut violations)).unwrap_or_default();
        variables.extend(self.env);
        // Compose files and systemd units express "not set" by an empty variable.
        variables.retain(|_, value| !value.trim().is_empty());

        let mut layers = config::Config::builder();
        let file = self.file.or_else(|| variables.get(FILE_VARIABLE).map(PathBuf::from));
        if let Some(file) = file.and_then(|path| read_file(&path, &mut violations)) {
            layers = layers.add_source(file);
        }
        let settings =
            SETTING_NAMES.iter().filter_map(|key| Some(((*key).to_owned(), variables.get(*key)?.clone()))).collect();
        let layers = layers.add_source(config::Environment::default().source(Some(settings))).build();
        let values = layers.and_then(config::Config::try_deserialize).unwrap_or_else(|_| {
            // The error is not shown, since it may hold a value.
            violations.add("settings", "can't be merged");
            BTreeMap::new()
        });
        SettingReader { values, variables, violations: violations.into() }
    }
}

pub(super) type TomlFile = config::File<config::FileSourceString, FileFormat>;

pub(super) fn read_file(path: &Path, violations: &mut Violations) -> Option<TomlFile> {
    let name = path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            violations.add([name], format!("the configuration file cannot be read: {error}"));
            return None;
        }
    };
    let file = config::File::from_str(&text, FileFormat::Toml);
    match file.collect() {
        Ok(table) => {
            let is_known = |name: &String| SETTING_NAMES.iter().any(|key| key.to_lowercase() == *name);
            for unknown in table.keys().filter(|name| !is_known(name)) {
                violations.add([&name], describe_unknown(unknown));
            }
            Some(file)
        }
        Err(error) => {
            // The parser's message quotes the line, which may hold a secret, so only its first part, the position, is
            // shown.
            let said = error.to_string();
            let place = said.lines().next().unwrap_or_default();
            violations.add([name], format!("the configuration file is not valid TOML: {place}"));
            None
        }
    }
}

fn describe_unknown(name: &str) -> String {
    let near =
        SETTING_NAMES.iter().map(|key| key.to_lowercase()).find(|key| *key == name.to_lowercase().replace('-', "_"));
    match near {
        Some(key) => format!("unknown key `{name}`; in the file it is written `{key}`"),
        None => format!("unknown key `{name}`; .env.example lists those there are (in the file they are lower-case)"),
    }
}

pub(super) fn read_dotenv(path: &Path, violations: &mut Violations) -> HashMap<String, String> {
    let name = path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return HashMap::new(),
        Err(error) => {
            violations.add([name], format!("cannot be read: {error}"));
            return HashMap::new();
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut variables = HashMap::new();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        match item {
            Ok((name, value)) => drop(variables.insert(name, value)),
            // The error quotes the line, which may hold a secret, so only the line number is shown.
            Err(dotenvy::Error::LineParse(part, _)) => {
                let part = part.lines().next().unwrap_or_default().trim_end();
                let is_it = |line: &str| line.trim_end().ends_with(part) && !line.trim_start().starts_with('#');
                let number = text.lines().position(is_it).map_or(0, |index| index + 1);
                let good = "KEY=value, in single quotes where it has spaces, quotes or $";
                violations.add([&name], format!("line {number} cannot be read; a line is {good}"));
            }
            Err(error) => violations.add([&name], format!("cannot be read: {error}")),
        }
    }
    variables
}

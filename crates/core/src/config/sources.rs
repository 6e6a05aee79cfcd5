//! Where settings come from: a TOML file, `.env`, the environment; the later wins.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use config::{FileFormat, Source as _};
use serde_json::Value;

use super::{Fault, KEYS};

/// Names the configuration file where the command line does not.
const FILE_VARIABLE: &str = "AGENT_MANAGEMENT_CONFIG";

/// What there is to read. Nothing else is looked at, so a test has no other environment than its own.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config FILE`; without it the file that `AGENT_MANAGEMENT_CONFIG` names, if any.
    pub file: Option<PathBuf>,
    /// Read where it exists; the environment wins over it.
    pub dotenv: Option<PathBuf>,
    /// The environment's variables.
    pub env: HashMap<String, String>,
}

impl Sources {
    /// The process's environment and `./.env`. A variable that is not Unicode is none of ours.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { file, dotenv: Some(PathBuf::from(".env")), env }
    }

    /// These variables and nothing else.
    pub fn of_variables<K: Into<String>, V: Into<String>>(env: impl IntoIterator<Item = (K, V)>) -> Self {
        let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { file: None, dotenv: None, env }
    }

    /// All layers in one. Text of the environment is a JSON string; the file's values keep their types.
    pub(super) fn gather(self, faults: &mut Vec<Fault>) -> Settings {
        let mut variables = self.dotenv.as_deref().map(|path| read_dotenv(path, faults)).unwrap_or_default();
        variables.extend(self.env);
        // Set but empty is how compose files and units say "not set".
        variables.retain(|_, value| !value.trim().is_empty());

        let file = self.file.or_else(|| variables.get(FILE_VARIABLE).map(PathBuf::from));
        let mut values = file.map(|path| read_file(&path, faults)).unwrap_or_default();
        for &key in KEYS {
            if let Some(text) = variables.get(key) {
                values.insert(key, Value::String(text.clone()));
            }
        }
        Settings { values, variables }
    }
}

/// The layers put together.
pub(super) struct Settings {
    /// By environment name, known keys only.
    pub values: BTreeMap<&'static str, Value>,
    /// Every variable, for `bearer_env`.
    pub variables: HashMap<String, String>,
}

fn fault(path: &Path, message: String) -> Fault {
    Fault { key: path.display().to_string(), message }
}

fn read_file(path: &Path, faults: &mut Vec<Fault>) -> BTreeMap<&'static str, Value> {
    let table = match fs::read_to_string(path) {
        Ok(text) => config::File::from_str(&text, FileFormat::Toml).collect(),
        Err(error) => {
            faults.push(fault(path, format!("the configuration file cannot be read: {error}")));
            return BTreeMap::new();
        }
    };
    let table = match table {
        Ok(table) => table,
        Err(error) => {
            // The parser's message quotes the line, which may hold a secret: only its first line, the place, is shown.
            let said = error.to_string();
            let place = said.lines().next().unwrap_or_default().to_owned();
            faults.push(fault(path, format!("the configuration file is not good TOML: {place}")));
            return BTreeMap::new();
        }
    };
    let mut values = BTreeMap::new();
    for (name, value) in table {
        let known = KEYS.iter().find(|key| key.to_lowercase() == name);
        match (known, value.try_deserialize::<Value>()) {
            (Some(key), Ok(value)) => drop(values.insert(*key, value)),
            (Some(key), Err(_)) => faults.push(fault(path, format!("the value of {key} is of no known type"))),
            (None, _) => faults.push(fault(path, unknown(&name))),
        }
    }
    values
}

fn unknown(name: &str) -> String {
    let near = KEYS.iter().map(|key| key.to_lowercase()).find(|key| *key == name.to_lowercase().replace('-', "_"));
    match near {
        Some(key) => format!("unknown key `{name}`; in the file it is written `{key}`"),
        None => format!("unknown key `{name}`; .env.example lists those there are (in the file they are lower-case)"),
    }
}

fn read_dotenv(path: &Path, faults: &mut Vec<Fault>) -> HashMap<String, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return HashMap::new(),
        Err(error) => {
            faults.push(fault(path, format!("cannot be read: {error}")));
            return HashMap::new();
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut variables = HashMap::new();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        match item {
            Ok((name, value)) => drop(variables.insert(name, value)),
            // The error holds the line or its end, which may hold a secret: only the line's number is shown.
            Err(dotenvy::Error::LineParse(part, _)) => {
                let part = part.lines().next().unwrap_or_default().trim_end();
                let is_it = |line: &str| line.trim_end().ends_with(part) && !line.trim_start().starts_with('#');
                let number = text.lines().position(is_it).map_or(0, |index| index + 1);
                let good = "KEY=value, in single quotes where it has spaces, quotes or $";
                faults.push(fault(path, format!("line {number} cannot be read; a line is {good}")));
            }
            Err(error) => faults.push(fault(path, format!("cannot be read: {error}"))),
        }
    }
    variables
}

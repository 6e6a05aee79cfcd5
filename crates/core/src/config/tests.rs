use std::{collections::BTreeSet, fs};

use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::*;

const ADMIN: &str = "a-real-admin-key-7f3";
const CLIENT: &str = "a-real-client-key-52";
const MINER: &str = "a-real-miner-key-9b1";
const PRODUCTION: [(&str, &str); 4] =
    [("APP_ENV", "production"), ("ADMIN_API_KEYS", ADMIN), ("CLIENT_API_KEYS", CLIENT), ("MINER_API_KEYS", MINER)];

fn load(env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(ConfigSources::from_variables(env.iter().copied()))
}

fn good(env: &[(&str, &str)]) -> Config {
    load(env).unwrap_or_else(|error| panic!("{env:?}: {error}"))
}

/// The message about `key`, of a start that stops.
fn refused(env: &[(&str, &str)], key: &str) -> String {
    let error = load(env).err().unwrap_or_else(|| panic!("{env:?} was taken"));
    let fault = error.violations.iter().find(|violation| violation.path.to_string() == key);
    fault.unwrap_or_else(|| panic!("no fault of {key}: {error}")).message.clone()
}

fn production_with<'a>(key: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    PRODUCTION.into_iter().filter(|(name, _)| *name != key).chain([(key, value)]).collect()
}

fn shown(keys: &[SecretString]) -> Vec<&str> {
    keys.iter().map(|key| key.expose_secret()).collect()
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(name);
    fs::write(&path, text).unwrap();
    (home, path)
}

#[test]
fn nothing_said_gives_the_documented_defaults() {
    let config = good(&[]);
    assert_eq!(config.environment, AppEnvironment::Dev);
    assert_eq!((config.host.to_string().as_str(), config.port), ("127.0.0.1", 8012));
    assert_eq!(config.database, Path::new("./data/coordinator.db"));
    assert_eq!(config.body_limit, 10 * 1024 * 1024);
    assert_eq!(config.engine.lease, Duration::from_secs(15));
    let empty: Vec<_> = SETTING_NAMES.iter().map(|key| (*key, " ")).collect();
    assert_eq!(format!("{:?}", good(&empty)), format!("{config:?}"), "an empty value is not set");
}

#[test]
fn the_example_documents_every_key_and_is_the_defaults() {
    let text = include_str!("../../../../.env.example");
    let documented: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(key, _)| key)
        .filter(|key| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .collect();
    let mut known: BTreeSet<&str> = SETTING_NAMES.iter().copied().collect();
    assert_eq!(known.len(), SETTING_NAMES.len(), "a key is listed twice");
    known.insert("AGENT_MANAGEMENT_CONFIG");
    assert_eq!(documented, known);

    let (_home, path) = file(".env", text);
    let config = Config::load(ConfigSources { dotenv: Some(path), ..ConfigSources::default() }).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", good(&[])));

    let uncommented =
        text.replace("\n#DATABASE_URL", "\nDATABASE_URL").replace("\n#HTTP_ENDPOINTS", "\nHTTP_ENDPOINTS");
    let (_home, path) = file(".env", &uncommented);
    let config = Config::load(ConfigSources { dotenv: Some(path), ..ConfigSources::default() }).unwrap();
    assert_eq!(config.database, Path::new("/var/lib/aitbc/coordinator.db"));
    assert_eq!(config.http_endpoints["llm"].kind, EndpointKind::OpenAi);
}

#[test]
fn the_later_source_wins() {
    let (_file_home, toml) = file("config.toml", "app_port = 1\ndb_readers = 11\njq_workers = 21\nstep_price = 0.5");
    let (_env_home, dotenv) = file(".env", "APP_PORT=2\nDB_READERS=12\nUNKNOWN_IS_FINE=1");
    let mut sources = ConfigSources::from_variables([("APP_PORT", "3"), ("PATH", "/bin")]);
    sources.dotenv = Some(dotenv);
    sources.file = Some(toml.clone());
    let config = Config::load(sources.clone()).unwrap();
    assert_eq!((config.port, config.db_readers, config.engine.jq_workers), (3, 12, 21));
    assert_eq!((config.engine.step_price, config.engine.max_active), (Money::from_f64(0.5), 512));

    // The file may be named by the environment, and the command line wins over it.
    sources.env.insert("AGENT_MANAGEMENT_CONFIG".into(), "/nowhere.toml".into());
    assert!(Config::load(sources.clone()).is_ok());
    sources.file = None;
    assert!(Config::load(sources.clone()).unwrap_err().to_string().contains("/nowhere.toml"));
    sources.env.insert("AGENT_MANAGEMENT_CONFIG".into(), toml.to_str().unwrap().into());
    assert_eq!(Config::load(sources).unwrap().engine.jq_workers, 21);
}

#[test]
fn a_file_has_types_lists_and_tables() {
    let (_home, path) = file(
        "config.toml",
        r#"
        app_env = "production"
        admin_api_keys = ["a-real-admin-key-7f3", "another-admin-key-11"]
        client_api_keys = "a-real-client-key-52"
        miner_api_keys = ["a-real-miner-key-9b1"]
        migrate_on_start = false
        cors_origins = ["https://app.example"]
        [http_endpoints.Local-llm]
        url = "http://127.0.0.1:9/v1"
        kind = "json"
        price = 2
        "#,
    );
    let config = Config::load(ConfigSources { file: Some(path), ..ConfigSources::default() }).unwrap();
    assert_eq!(shown(&config.admin_keys), [ADMIN, "another-admin-key-11"]);
    assert_eq!(shown(&config.client_keys), [CLIENT]);
    assert!(!config.migrate_on_start);
    assert_eq!(config.cors_origins, ["https://app.example"]);
    assert_eq!(config.http_endpoints["Local-llm"].price, Money::from_f64(2.0));
}

#[test]
fn unknown_keys_of_the_file_are_named_and_all_faults_are_told_at_once() {
    let (_home, path) = file("config.toml", "app_prot = 1\nAPP_HOST = \"::1\"\ndb-readers = 2\napp_port = [1]");
    let mut sources = ConfigSources::from_variables([("DB_READERS", "0"), ("LOG_FORMAT", "xml")]);
    sources.file = Some(path.clone());
    let error = Config::load(sources).unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with("the configuration has 6 faults:"), "{said}");
    for part in ["`app_prot`", "`app_host`", "`db_readers`", "APP_PORT: ", "DB_READERS: `0`", "LOG_FORMAT: `xml`"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(said.contains(path.to_str().unwrap()));
}

#[test]
fn a_bad_file_tells_its_place_and_no_secret() {
    let (_home, toml) = file("config.toml", "app_port = 1\nadmin_api_keys = [\"s3cret-of-the-file\n");
    let (_other, dotenv) = file(".env", "APP_PORT=1\n\nADMIN_API_KEYS=[\"s3cret\", \"of-the-env\"]\n");
    let error =
        Config::load(ConfigSources { file: Some(toml), dotenv: Some(dotenv), ..ConfigSources::default() }).unwrap_err();
    let said = format!("{error} {error:?}");
    assert!(said.contains("line 2") && said.contains("line 3"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    let missing = ConfigSources { file: Some("/nowhere/config.toml".into()), ..ConfigSources::default() };
    assert!(Config::load(missing).unwrap_err().to_string().contains("/nowhere/config.toml"));
    let missing = ConfigSources { dotenv: Some("/nowhere/.env".into()), ..ConfigSources::default() };
    assert!(Config::load(missing).is_ok(), "a .env that is not there is fine");
}

#[test]
fn values_out_of_bounds_name_key_value_and_bounds() {
    for (key, value, bound) in [
        ("APP_PORT", "65536", "65535"),
        ("APP_PORT", "banana", "65535"),
        ("APP_PORT", "-1", "65535"),
        ("APP_ENV", "prod", "production"),
        ("APP_HOST", "example.org", "IP address"),
        ("APP_ALLOW_REMOTE_DEV", "perhaps", "true"),
        ("BODY_LIMIT_BYTES", "10MB", "1073741824"),
        ("BODY_LIMIT_BYTES", "1073741825", "1073741824"),
        ("RATE_LIMIT_WINDOW_SECONDS", "0", "from 1"),
        ("REQUEST_TIMEOUT_SECONDS", "3601", "3600"),
        ("DB_BUSY_TIMEOUT_MS", "99", "100"),
        ("ENGINE_LEASE_SECONDS", "0", "from 1"),
        ("JQ_MEMORY_MB", "1", "64"),
        ("STEP_PRICE", "-0.1", "from 0"),
        ("STEP_PRICE", "NaN", "from 0"),
        ("COMPUTE_PRICE_PER_SECOND", "inf", "from 0"),
        ("LOG_LEVEL", "verbose", "debug"),
        ("LOG_LEVEL", "info,sqlx=loud", "debug"),
        ("LOG_FORMAT", "xml", "json"),
        ("CORS_ORIGINS", "https://a.example/", "origin"),
        ("CORS_ORIGINS", "*,https://a.example", "origin"),
        ("CORS_ORIGINS", "a.example", "origin"),
    ] {
        let message = refused(&[(key, value)], key);
        let said = value.split(',').any(|part| message.contains(&format!("`{part}`"))) || message.contains(value);
        assert!(said && message.contains(bound), "{key}={value}: {message}");
    }
    for (key, value) in [
        ("APP_PORT", "0"),
        ("APP_HOST", "::1"),
        ("APP_HOST", "localhost"),
        ("BODY_LIMIT_BYTES", "1073741824"),
        ("SHUTDOWN_GRACE_SECONDS", "0"),
        ("LOG_LEVEL", "WARN,sqlx=debug"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", r#"["https://a.example", "http://localhost:3000"]"#),
        ("STEP_PRICE", "1e-6"),
    ] {
        good(&[(key, value)]);
    }
}

#[test]
fn the_coordinators_database_urls_are_understood() {
    for (url, path, directory) in [
        ("sqlite:///x.db", "x.db", "."),
        ("sqlite:///./data/x.db", "./data/x.db", "./data"),
        ("sqlite:////var/lib/x.db", "/var/lib/x.db", "/var/lib"),
        ("sqlite+aiosqlite:///a/x.db", "a/x.db", "a"),
        ("sqlite+pysqlite:////a/x.db?check_same_thread=false", "/a/x.db", "/a"),
    ] {
        let config = good(&[("DATABASE_URL", url)]);
        assert_eq!(config.database, Path::new(path), "{url}");
        assert_eq!(config.data_dir, Path::new(directory), "{url}");
        let config = good(&[("DATABASE_URL", url), ("DATA_DIR", "/elsewhere")]);
        assert_eq!((config.database.as_path(), config.data_dir.as_path()), (Path::new(path), Path::new("/elsewhere")));
    }
    assert_eq!(good(&[("DATA_DIR", "/srv/a")]).database, Path::new("/srv/a/coordinator.db"));
    for (url, why) in [
        ("sqlite://", "memory"),
        ("sqlite:///", "memory"),
        ("sqlite:///:memory:", "memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "file:"),
        ("sqlite://relative.db", "host"),
        ("sqlite:///data/", "directory"),
        ("sqlite:////", "directory"),
        ("sqlite:///a/..", "directory"),
        ("/var/lib/x.db", "sqlite:///"),
        ("mysql+pymysql://h/db", "`mysql+pymysql`"),
    ] {
        let message = refused(&[("DATABASE_URL", url)], "DATABASE_URL");
        assert!(message.contains(why), "{url}: {message}");
    }
    let message = refused(&[("DATABASE_URL", "postgresql://user:hunter2@db/x")], "DATABASE_URL");
    assert!(message.contains("`postgresql`") && !message.contains("hunter2"), "{message}");
}

#[test]
fn lists_are_json_or_comma_separated() {
    let of = |text| shown(&good(&[("ADMIN_API_KEYS", text)]).admin_keys).join(" ");
    assert_eq!(of("a, b,,c "), "a b c");
    assert_eq!(of(r#" ["a", "b"]"#), "a b");
    assert_eq!(of("[]"), "");
    for bad in ["[a,b]", r#"["x""#, "[1]"] {
        let message = refused(&[("ADMIN_API_KEYS", bad)], "ADMIN_API_KEYS");
        assert!(message.contains("JSON list") && !message.contains(bad), "{message}");
    }
}

#[test]
fn production_wants_real_keys_in_every_list() {
    assert_eq!(good(&PRODUCTION).environment, AppEnvironment::Production);
    for key in ["ADMIN_API_KEYS", "CLIENT_API_KEYS", "MINER_API_KEYS"] {
        for empty in ["", "[]", " , "] {
            assert!(refused(&production_with(key, empty), key).contains("empty"));
        }
        for (bad, why) in [
            ("fifteen-chars-x", "16"),
            ("$ADMIN_API_KEY_FROM_VAULT", "placeholder"),
            ("${ADMIN_API_KEY_FROM_VAULT}", "placeholder"),
            ("your_api_key_here", "placeholder"),
            ("YOUR_ADMIN_KEY_HERE", "placeholder"),
            ("changeme-changeme-changeme", "placeholder"),
            ("<put-the-key-right-here>", "placeholder"),
            ("key_0123456789abcdef0123", "identity"),
            ("a key with some spaces", "spaces"),
            ("ключ-от-всех-дверей", "non-ASCII"),
        ] {
            let env = production_with(key, bad);
            let message = refused(&env, key);
            assert!(message.contains(why) && message.contains("key 1"), "{bad}: {message}");
            assert!(!load(&env).unwrap_err().to_string().contains(bad), "{bad} is shown");
        }
    }
    // One character more or less than the principal's form is a key like any other.
    good(&production_with("ADMIN_API_KEYS", "key_0123456789abcdef01234"));
    assert_eq!(shown(&good(&[("ADMIN_API_KEYS", "short")]).admin_keys), ["short"], "dev takes any");
}

#[test]
fn a_key_has_one_role() {
    for env in [
        [("ADMIN_API_KEYS", "x1,same"), ("CLIENT_API_KEYS", "same")],
        [("ADMIN_API_KEYS", "same"), ("CLIENT_API_KEYS", "x1,same")],
    ] {
        let message = refused(&env, "CLIENT_API_KEYS");
        assert!(message.contains("ADMIN_API_KEYS") && !message.contains("same"), "{message}");
    }
    let message = refused(&production_with("MINER_API_KEYS", ADMIN), "MINER_API_KEYS");
    assert!(message.contains("ADMIN_API_KEYS") && !message.contains(ADMIN), "{message}");
}

#[test]
fn a_dev_server_beyond_loopback_is_said_twice() {
    for host in ["0.0.0.0", "192.168.1.5", "::", "::ffff:10.0.0.1"] {
        let message = refused(&[("APP_HOST", host)], "APP_HOST");
        assert!(message.contains(host) && message.contains("APP_ALLOW_REMOTE_DEV"), "{message}");
        good(&[("APP_HOST", host), ("APP_ALLOW_REMOTE_DEV", "true")]);
    }
    for host in ["127.0.0.2", "::1", "::ffff:127.0.0.1"] {
        good(&[("APP_HOST", host)]);
    }
    good(&production_with("APP_HOST", "0.0.0.0"));
}

#[test]
fn the_signing_key_is_checked_and_not_shown() {
    let key = "d81c29c42592cc5e9c25717e5f7fd8bc864069351df5fd3471dc7a62c62052fc";
    let config = good(&[("RECEIPT_SIGNING_KEY_HEX", key)]);
    assert_eq!(config.receipt_signing_key.unwrap().expose_secret(), key);
    for bad in [&key[1..], &format!("{key}0"), &format!("g{}", &key[1..]), "$KEY", &"00".repeat(32)] {
        let message = refused(&[("RECEIPT_SIGNING_KEY_HEX", bad)], "RECEIPT_SIGNING_KEY_HEX");
        assert!(message.contains("64 hex") && !message.contains(bad), "{message}");
    }
}

#[test]
fn endpoints_are_named_addresses() {
    let text = r#"{"a": {"url": "https://x.example/v1", "kind": "openai", "bearer_env": "TOKEN", "price": 0.5},
                   "b": {"url": "http://127.0.0.1:1", "kind": "json", "bearer": "t0ken"}}"#;
    let config = good(&[("HTTP_ENDPOINTS", text), ("TOKEN", "from-the-environment")]);
    let a = &config.http_endpoints["a"];
    assert_eq!((a.url.as_str(), a.kind, a.price), ("https://x.example/v1", EndpointKind::OpenAi, Money::from_f64(0.5)));
    assert_eq!(a.bearer.as_ref().unwrap().expose_secret(), "from-the-environment");
    assert_eq!(config.http_endpoints["b"].bearer.as_ref().unwrap().expose_secret(), "t0ken");

    let ok = json!({"url": "https://x.example", "kind": "json"});
    for (field, value, why) in [
        ("url", json!("ftp://x.example"), "ftp"),
        ("url", json!("https://u:hunter2@x.example"), "password"),
        ("url", json!("not a url"), "url"),
        ("url", json!(null), "url"),
        ("kind", json!("soap"), "openai"),
        ("price", json!(-1), "price"),
        ("price", json!("1"), "price"),
        ("bearer", json!("two words"), "header"),
        ("bearer", json!(1), "string"),
        ("bearer_env", json!("NOT_THERE"), "NOT_THERE"),
        ("headers", json!({}), "headers"),
        ("headers", json!(["a b"]), "no name"),
        ("headers", json!(["Host"]), "host is set by the service"),
        ("headers", json!(["idempotency-key"]), "set by the service"),
        ("methods", json!(["TRACE"]), "PATCH"),
        ("methods", json!([]), "leave it out"),
    ] {
        let mut endpoint = ok.clone();
        endpoint[field] = value;
        let text = json!({"x": endpoint}).to_string();
        let message = refused(&[("HTTP_ENDPOINTS", &text)], "HTTP_ENDPOINTS.x");
        assert!(message.contains(why) && !message.contains("hunter2"), "{field}: {message}");
    }
    let with_bearer =
        json!({"x": {"url": "https://x.example", "kind": "json", "bearer": "t", "headers": ["Authorization"]}});
    refused(&[("HTTP_ENDPOINTS", &with_bearer.to_string())], "HTTP_ENDPOINTS.x");
    let allowed = json!({"x": {"url": "https://x.example", "kind": "json", "headers": ["Authorization", "X-Tenant"], "methods": ["GET"]}});
    let config = good(&[("HTTP_ENDPOINTS", &allowed.to_string())]);
    assert_eq!(config.http_endpoints["x"].headers, ["authorization".to_owned(), "x-tenant".to_owned()].into());
    assert_eq!(config.http_endpoints["x"].methods, Some([HttpMethod::Get].into()));
    for bad in ["[]", "{", "nonsense", r#"{bearer: "t0ken"}"#] {
        let message = refused(&[("HTTP_ENDPOINTS", bad)], "HTTP_ENDPOINTS");
        assert!(message.contains("JSON object") && !message.contains("t0ken"), "{message}");
    }
    refused(&[("HTTP_ENDPOINTS", r#"{"a/b": {"url": "https://x.example", "kind": "json"}}"#)], "HTTP_ENDPOINTS.a/b");
}

#[test]
fn debug_output_shows_no_secret() {
    let mut env = PRODUCTION.to_vec();
    let key = "d81c29c42592cc5e9c25717e5f7fd8bc864069351df5fd3471dc7a62c62052fc";
    env.push(("RECEIPT_SIGNING_KEY_HEX", key));
    env.push(("HTTP_ENDPOINTS", r#"{"a": {"url": "https://x.example", "kind": "json", "bearer": "t0ken"}}"#));
    let config = good(&env);
    for shown in [format!("{config:?}"), format!("{config:#?}")] {
        for secret in [ADMIN, CLIENT, MINER, key, "t0ken"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("x.example"));
    }
}

#[test]
fn tests_have_their_own_corner() {
    let config = Config::for_tests(Path::new("/somewhere"));
    assert_eq!((config.port, config.db_readers, config.rate_limit_requests), (0, 2, 0));
    assert!(config.database.starts_with("/somewhere") && config.host.is_loopback());
}

proptest! {
    #[test]
    fn no_text_in_any_key_panics_and_no_key_is_shown(
        key in prop::sample::select(SETTING_NAMES.as_slice()),
        text in "[ -~]{0,40}|\\PC{0,20}",
    ) {
        let mut env = ConfigSources::from_variables(PRODUCTION);
        env.env.insert(key.to_owned(), text);
        if let Err(error) = Config::load(env) {
            let said = format!("{error} {error:?}");
            prop_assert!(!said.contains(ADMIN) && !said.contains(CLIENT) && !said.contains(MINER));
            prop_assert!(error.violations.iter().all(|violation| !violation.message.is_empty()));
        }
    }
}

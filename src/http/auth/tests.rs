use super::*;

const ADMIN: &str = "admin-key-0123456789abcdef";
const CLIENT: &str = "client-key-0123456789abcdef";

/// A development server's settings.
fn config() -> Config {
    Config::for_tests(std::path::Path::new(""))
}

fn production() -> Keyring {
    let mut config = config();
    config.environment = AppEnvironment::Production;
    config.admin_keys = vec![ADMIN.into()];
    config.client_keys = vec![CLIENT.into(), ADMIN.into()];
    config.miner_keys = vec!["miner-key-0123456789abcdef".into()];
    Keyring::new(&config).unwrap()
}

#[test]
fn production_knows_its_keys_and_no_other() {
    let keyring = production();
    let role = |key| keyring.identify(Some(key)).caller().map(|caller| caller.role);
    assert_eq!(role(ADMIN), Some(KeyRole::Admin));
    assert_eq!(role(CLIENT), Some(KeyRole::Client));
    assert_eq!(role("miner-key-0123456789abcdef"), Some(KeyRole::Miner));
    assert_eq!(role("admin-key-0123456789abcdeg"), None);
    assert!(matches!(keyring.identify(Some("x")), CallerIdentity::Unknown));
    assert!(matches!(keyring.identify(None), CallerIdentity::Missing));
    assert!(matches!(keyring.identify(Some("")), CallerIdentity::Missing));
}

/// A token of alice's with this role, until the year 2100, under 32 times the letter `s`.
fn token(role: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use hmac::{Hmac, KeyInit as _, Mac as _};

    let claims = serde_json::json!({"sub": "alice", "role": role, "exp": 4_102_444_800_u64}).to_string();
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let mac = Hmac::<Sha256>::new_from_slice("s".repeat(32).as_bytes()).unwrap().chain_update(&text);
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

#[test]
fn token_is_a_caller_only_where_its_secret_is_configured() {
    let bare = production();
    assert!(matches!(bare.identify(Some(&token("admin"))), CallerIdentity::Unknown));
    let secret = Some("s".repeat(32).into());
    let keyring = production().with_tokens(secret.as_ref(), Clock::system());
    let identity = keyring.identify(Some(&token("client")));
    let caller = identity.caller().unwrap();
    assert_eq!(caller.role, KeyRole::Client);
    let name = &*caller.principal.name;
    assert!(name.starts_with("jwt_") && owner::is_principal(name), "{name}");
    assert!(caller.principal.owns("alice") && caller.principal.owns(name) && !caller.principal.owns("bob"));
    assert!(keyring.time_left(&token("client")).is_some());
    for refused in [token("root"), token("client") + "x", "eyJhbGciOiJub25lIn0.e30.".to_owned()] {
        assert!(matches!(keyring.identify(Some(&refused)), CallerIdentity::Refused(_)), "{refused}");
    }
    assert_eq!(keyring.identify(Some(CLIENT)).caller().unwrap().role, KeyRole::Client, "keys stay keys");
    assert!(matches!(keyring.identify(Some("a.b.c")), CallerIdentity::Unknown));
    let dev = Keyring::new(&config()).unwrap().with_tokens(secret.as_ref(), Clock::system());
    assert_eq!(dev.identify(Some(&token("client"))).caller().unwrap().role, KeyRole::Client);
    assert!(matches!(dev.identify(Some(&token("root"))), CallerIdentity::Refused(_)), "no key of that text");
}

#[test]
fn token_in_the_place_of_a_name_is_refused() {
    let keyring = production();
    assert_eq!(keyring.name(&token("client")), Err(KeyLikeName));
    assert_eq!(keyring.shown_path(&format!("/a/{}/b", token("client"))), Err(KeyLikeName));
}

#[test]
fn roles_open_their_doors_only() {
    let client = production().identify(Some(CLIENT));
    assert!(client.admit(|role| role != KeyRole::Miner, "a client").is_ok());
    let refused = client.admit(|role| role == KeyRole::Admin, "an admin").unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.code), (403, "insufficient_role"));
    assert_eq!(CallerIdentity::Missing.admit(|_| true, "a").unwrap_err().status, 401);
    assert_eq!(CallerIdentity::Unknown.admit(|_| true, "a").unwrap_err().status, 401);
}

#[test]
fn development_takes_any_key() {
    let keyring = Keyring::new(&config()).unwrap();
    let nobody = keyring.identify(None);
    assert_eq!(&*nobody.caller().unwrap().principal.name, "dev_key");
    assert_eq!(&*keyring.identify(Some("dev_key")).caller().unwrap().principal.name, "dev_key");
    let someone = keyring.identify(Some("anything"));
    let someone = someone.caller().unwrap();
    assert_eq!(someone.role, KeyRole::Admin);
    let someone = &someone.principal;
    assert_eq!(&*someone.name, PrincipalName::from_api_key("anything").as_str());
    assert!(someone.owns("anything") && someone.owns(&someone.name) && !someone.owns("dev_key"));
}

#[test]
fn a_key_that_looks_like_anothers_principal_is_never_an_alias() {
    let victim: String = PrincipalName::from_api_key(ADMIN).into();
    let keyring = Keyring::new(&config()).unwrap();
    let identity = keyring.identify(Some(&victim));
    assert!(!identity.caller().unwrap().principal.owns(&victim));
    let mut production = config();
    production.environment = AppEnvironment::Production;
    production.client_keys = vec![victim.as_str().into()];
    let error = Keyring::new(&production).unwrap_err().to_string();
    assert!(error.contains("CLIENT_API_KEYS") && !error.contains(&victim));
}

#[test]
fn keys_in_paths_become_principals_or_are_refused() {
    let keyring = production();
    let principal: String = PrincipalName::from_api_key(ADMIN).into();
    assert_eq!(keyring.shown_path("/a/workflows/agent_0123abcd/execute"), Ok(None));
    assert_eq!(keyring.shown_path(&format!("/a/{ADMIN}/b")), Ok(Some(format!("/a/{principal}/b"))));
    let encoded = ADMIN.replace('-', "%2D");
    assert_eq!(keyring.shown_path(&format!("/a/{encoded}")), Ok(Some(format!("/a/{principal}"))));
    let managed = format!("am_{}_{}", "0".repeat(8), "a".repeat(48));
    for alike in [format!("{ADMIN}x"), ADMIN[..ADMIN.len() - 1].to_owned(), managed] {
        assert_eq!(keyring.shown_path(&format!("/a/{alike}/b")), Err(KeyLikeName), "{alike}");
        assert!(keyring.name(&alike).is_err());
    }
    for other in ["admin-key-0", "admin-key-of-mine", "agent_0123456789abcdef", "am_x", "", "key_8211bbf633a893df9505"]
    {
        assert_eq!(keyring.name(other).as_deref(), Ok(other));
    }
}

#[test]
fn no_key_is_ever_shown() {
    let keyring = production();
    let identity = keyring.identify(Some(ADMIN));
    for shown in [format!("{keyring:?}"), format!("{identity:?}"), format!("{:?}", identity.caller())] {
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
    }
}

#[test]
fn rows_of_both_forms_are_found_by_the_principal() {
    let keyring = production();
    let principal: String = PrincipalName::from_api_key(CLIENT).into();
    assert_eq!(keyring.stored_forms(&principal), [principal.clone(), CLIENT.to_owned()]);
    assert_eq!(keyring.stored_forms("dev_key"), ["dev_key"]);
}

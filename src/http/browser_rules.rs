//! What keeps web pages from using a server that needs no key: the names by which it is called, the pages that may call it,
//! and requests that were forwarded.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::ConnectInfo,
    http::{HeaderMap, StatusCode, Uri, header},
};

use super::error::ApiError;
use am_core::config::{AppEnvironment, Config};

/// Headers that proxies add.
const FORWARDING_HEADERS: [&str; 4] = ["x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded"];

/// Rules for the headers that browsers and proxies set.
#[derive(Clone, Debug)]
pub struct BrowserRules {
    config: Arc<Config>,
    /// Whether requests need no key, so that any page's request would be obeyed.
    keyless: bool,
    /// Whether `Host` must be one of the known names.
    names: bool,
}

impl BrowserRules {
    /// Read the rules from the settings.
    pub fn new(config: &Arc<Config>) -> Self {
        let keyless = config.environment == AppEnvironment::Dev;
        let names = keyless && config.host.to_canonical().is_loopback() || !config.connections.allowed_hosts.is_empty();
        Self { config: config.clone(), keyless, names }
    }

    /// Check a request's headers; 403 when a page or a proxy may not call.
    pub fn check(
        &self,
        peer: Option<&ConnectInfo<SocketAddr>>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        if self.names {
            self.check_host(uri, headers)?;
        }
        if !self.keyless {
            return Ok(());
        }
        let proxied = peer.is_some_and(|ConnectInfo(peer)| self.config.connections.is_trusted_proxy(peer.ip()));
        if let Some(name) = FORWARDING_HEADERS.iter().find(|name| headers.contains_key(**name)).filter(|_| !proxied) {
            let detail =
                format!("A development server takes no forwarded requests ({name}), except from TRUSTED_PROXIES");
            return Err(refused("forwarded_not_allowed", detail));
        }
        self.check_origin(headers)
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let named = |text: &str| self.is_known_name(host_name(text));
        let mut hosts = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
        if hosts.all(named) && uri.authority().is_none_or(|authority| named(authority.as_str())) {
            return Ok(());
        }
        Err(refused("host_not_allowed", "This Host is not localhost, a loopback address or one of ALLOWED_HOSTS"))
    }

    fn is_known_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
        name == "localhost"
            || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
            || self.config.connections.allowed_hosts.contains(&name)
    }

    /// A page's request names its origin, unless it is a plain GET, which then says how far away the page is.
    fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let foreign = match text(header::ORIGIN) {
            Some(origin) => {
                let listed = self.config.cors_origins.iter().any(|allowed| allowed == "*" || allowed == origin);
                let place = origin.split_once("://").map(|(_, place)| place);
                let own = place.is_some() && place == text(header::HOST);
                !listed && !own
            }
            None => text(header::HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "cross-site"),
        };
        if foreign {
            return Err(refused("cross_origin", "Pages of other origins may not call, except those of CORS_ORIGINS"));
        }
        Ok(())
    }
}

/// Return the name in `name:port` or `[address]:port`.
fn host_name(text: &str) -> &str {
    if text.starts_with('[') {
        return text.find(']').map_or(text, |end| &text[..=end]);
    }
    text.split_once(':').map_or(text, |(name, _)| name)
}

fn refused(code: &'static str, detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, code, detail.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_core::config::AddressBlock;

    fn code(change: impl FnOnce(&mut Config), headers: &[(&'static str, &str)]) -> &'static str {
        let mut config = Config::for_tests(std::path::Path::new(""));
        change(&mut config);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let peer = ConnectInfo("127.0.0.1:5".parse().unwrap());
        let checked = BrowserRules::new(&Arc::new(config)).check(Some(&peer), &Uri::from_static("/x"), &map);
        checked.err().map_or("", |error| error.code)
    }

    #[test]
    fn a_development_server_is_called_by_its_own_names_alone() {
        for good in ["localhost", "LOCALHOST:8012", "127.0.0.1:8012", "[::1]:8012", "[::1]", "127.9.9.9", "localhost."]
        {
            assert_eq!(code(|_| {}, &[("host", good)]), "", "{good}");
        }
        for bad in ["evil.example", "evil.example:8012", "localhost.evil.example", "10.0.0.1", "[2001:db8::1]:1", ""] {
            assert_eq!(code(|_| {}, &[("host", bad)]), "host_not_allowed", "{bad}");
        }
        assert_eq!(code(|_| {}, &[("host", "localhost"), ("host", "evil.example")]), "host_not_allowed");
        let named = |config: &mut Config| config.connections.allowed_hosts = vec!["dev.example".into()];
        assert_eq!(code(named, &[("host", "dev.example:80")]), "");
        let production = |config: &mut Config| config.environment = AppEnvironment::Production;
        assert_eq!(code(production, &[("host", "any.example"), ("origin", "https://app.example")]), "");
        let strict = |config: &mut Config| {
            production(config);
            named(config);
        };
        assert_eq!(code(strict, &[("host", "any.example")]), "host_not_allowed");
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let at = |name, value| [("host", "localhost:8012"), (name, value)];
        for bad in ["https://evil.example", "http://localhost:3000", "null", "http://localhost", ""] {
            assert_eq!(code(|_| {}, &at("origin", bad)), "cross_origin", "{bad}");
        }
        assert_eq!(code(|_| {}, &at("origin", "http://localhost:8012")), "");
        assert_eq!(code(|_| {}, &at("sec-fetch-site", "cross-site")), "cross_origin");
        assert_eq!(code(|_| {}, &at("sec-fetch-site", "none")), "");
        let listed = |config: &mut Config| config.cors_origins = vec!["https://app.example".into()];
        let of_page = [("host", "localhost"), ("origin", "https://app.example"), ("sec-fetch-site", "cross-site")];
        assert_eq!(code(listed, &of_page), "");
    }

    #[test]
    fn forwarded_requests_need_a_configured_proxy() {
        for name in FORWARDING_HEADERS {
            assert_eq!(code(|_| {}, &[("host", "localhost"), (name, "8.8.8.8")]), "forwarded_not_allowed", "{name}");
        }
        let proxied = |config: &mut Config| {
            config.connections.trusted_proxies = vec![AddressBlock::parse("127.0.0.0/8").unwrap()];
        };
        assert_eq!(code(proxied, &[("host", "localhost"), ("x-forwarded-for", "8.8.8.8")]), "");
    }
}

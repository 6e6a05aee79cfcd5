//! The way out of a sandbox with a network: an HTTP proxy that leads to listed hosts and ports, and nowhere else. It
//! accepts on a socket that belongs to the sandbox's own network, in which there is nothing but it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream, lookup_host},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::{judge::below, model::Rules};
use am_core::net;

/// Where a sandbox may go.
#[derive(Clone, Debug)]
pub struct Ways {
    allowed: Vec<String>,
    blocked: Vec<String>,
    ports: Vec<u16>,
    /// Whether a listed name may lead to an address that is not public.
    private: bool,
}

const LONGEST_HEAD: usize = 16 * 1024;
const CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(15);

impl Ways {
    /// Of a sandbox under `rules`.
    pub fn new(rules: &Rules, private: bool) -> Self {
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self {
            allowed: lower(&rules.allowed_domains),
            blocked: lower(&rules.blocked_domains),
            ports: rules.allowed_ports.clone(),
            private,
        }
    }

    /// Whether a connection to this host and port is allowed.
    pub fn lead_to(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let under = |name: &str| host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        let listed = |pattern: &String| match pattern.strip_prefix("*.") {
            Some(name) => under(name) && host != name,
            None => pattern == "*" || host == *pattern,
        };
        let blocked = |pattern: &String| pattern == "*" || under(pattern.strip_prefix("*.").unwrap_or(pattern));
        self.ports.contains(&port) && self.allowed.iter().any(listed) && !self.blocked.iter().any(blocked)
    }

    fn reach(&self, ip: IpAddr) -> bool {
        self.private || net::is_public(ip)
    }
}

/// Serve `listener` until the task is dropped; what is refused is told by its name.
pub async fn serve(listener: std::net::TcpListener, ways: Ways, refused: mpsc::Sender<String>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (ways, places) = (Arc::new(ways), Arc::new(Semaphore::new(CONNECTIONS)));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let (ways, refused) = (ways.clone(), refused.clone());
        connections.spawn(async move {
            let _place = place;
            // A connection that breaks is its two ends' business.
            let _ = pass(stream, &ways, &refused).await;
        });
    }
}

/// What a client of the proxy asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    host: String,
    port: u16,
    /// What goes to the other side first; none: a tunnel.
    head: Option<String>,
}

async fn pass(mut client: TcpStream, ways: &Ways, refused: &mpsc::Sender<String>) -> io::Result<()> {
    let Ok(Some((head, rest))) = timeout(PATIENCE, read_head(&mut client)).await.map_err(io::Error::from)? else {
        return say(&mut client, "400 Bad Request", "this is no request of HTTP").await;
    };
    let Some(asked) = asked(&head) else {
        return say(&mut client, "400 Bad Request", "this proxy takes CONNECT, and http addresses").await;
    };
    let name = format!("{}:{}", asked.host, asked.port);
    if !ways.lead_to(&asked.host, asked.port) {
        let _ = refused.send(name.clone());
        return say(&mut client, "403 Forbidden", &format!("{name} is not among those this sandbox may reach")).await;
    }
    let found: Vec<SocketAddr> = match lookup_host((asked.host.as_str(), asked.port)).await {
        Ok(found) => found.collect(),
        Err(error) => return say(&mut client, "502 Bad Gateway", &format!("{name}: {error}")).await,
    };
    let Some(address) = found.iter().find(|address| ways.reach(address.ip())) else {
        let _ = refused.send(name.clone());
        return say(&mut client, "403 Forbidden", &format!("{name} leads to no public address")).await;
    };
    let mut server = match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => return say(&mut client, "502 Bad Gateway", &format!("{name}: {error}")).await,
        Err(_) => return say(&mut client, "504 Gateway Timeout", &name).await,
    };
    match asked.head {
        Some(head) => server.write_all(head.as_bytes()).await?,
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
    }
    server.write_all(&rest).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn say(client: &mut TcpStream, status: &str, why: &str) -> io::Result<()> {
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{why}\n"
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

/// A request's head, and what came after it; none when there is no end to it.
async fn read_head(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    while bytes.len() < LONGEST_HEAD {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok(String::from_utf8(bytes).ok().map(|head| (head, rest)));
        }
    }
    Ok(None)
}

fn asked(head: &str) -> Option<Asked> {
    let (line, fields) = head.split_once("\r\n")?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if method == "CONNECT" {
        let (host, port) = target.rsplit_once(':')?;
        return Some(Asked { host: bare(host)?, port: port.parse().ok()?, head: None });
    }
    let rest = target.strip_prefix("http://")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, 80),
    };
    // One request a connection: a second one might be meant for another host.
    let fields = fields.split("\r\n").filter(|field| {
        let name = field.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !field.is_empty() && name != "connection" && !name.starts_with("proxy-")
    });
    let fields: String = fields.map(|field| format!("{field}\r\n")).collect();
    let head = format!("{method} {path} {version}\r\n{fields}connection: close\r\n\r\n");
    Some(Asked { host: bare(host)?, port, head: Some(head) })
}

/// A host without the brackets of an address of IPv6, if it is one.
fn bare(host: &str) -> Option<String> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    (!host.is_empty() && host.bytes().all(good) && !below(host, "/")).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{levels, model::Requirements};
    use am_audit::SecurityLevel;

    fn ways(allowed: &[&str], blocked: &[&str]) -> Ways {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let asked =
            Requirements { allowed_domains: names(allowed), blocked_domains: names(blocked), ..Default::default() };
        Ways::new(&levels::rules(SecurityLevel::Internal).with(&asked), false)
    }

    #[test]
    fn only_listed_hosts_and_ports_are_reached() {
        let listed = ways(&["Example.org", "*.example.net"], &["bad.example.net"]);
        for (host, port, expected) in [
            ("example.org", 443, true),
            ("EXAMPLE.ORG.", 80, true),
            ("example.org", 22, false),
            ("www.example.org", 443, false),
            ("notexample.org", 443, false),
            ("a.b.example.net", 443, true),
            ("example.net", 443, false),
            ("bad.example.net", 443, false),
            ("very.bad.example.net", 443, false),
            ("127.0.0.1", 80, false),
        ] {
            assert_eq!(listed.lead_to(host, port), expected, "{host}:{port}");
        }
        assert!(!ways(&[], &[]).lead_to("example.org", 443), "nothing is listed");
        assert!(ways(&["*"], &["example.org"]).lead_to("example.com", 443));
        assert!(!ways(&["*"], &["example.org"]).lead_to("www.example.org", 443), "blocked wins");
        assert!(!listed.reach("169.254.169.254".parse().unwrap()) && listed.reach("1.1.1.1".parse().unwrap()));
    }

    #[test]
    fn requests_are_read_and_rewritten() {
        let tunnel = asked("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n").unwrap();
        assert_eq!(tunnel, Asked { host: "example.org".into(), port: 443, head: None });
        let plain = "GET http://example.org:8000/a?b=c HTTP/1.1\r\nHost: example.org:8000\r\nConnection: keep-alive\r\nProxy-Connection: x\r\n\r\n";
        let plain = asked(plain).unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("example.org", 8000));
        assert_eq!(plain.head.unwrap(), "GET /a?b=c HTTP/1.1\r\nHost: example.org:8000\r\nconnection: close\r\n\r\n");
        assert_eq!(asked("GET http://example.org HTTP/1.1\r\n\r\n").unwrap().port, 80);
        for bad in [
            "GET /a HTTP/1.1\r\n\r\n",
            "CONNECT example.org HTTP/1.1\r\n\r\n",
            "GET https://example.org/ HTTP/1.1\r\n\r\n",
            "CONNECT user@example.org:1 HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(asked(bad), None, "{bad}");
        }
    }
}

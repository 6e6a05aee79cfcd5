//! Network access of a sandbox: an HTTP proxy that connects to allowed hosts and ports only. It listens on a socket in
//! the sandbox's own network, which contains nothing else.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
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

use super::model::SandboxRules;
use am_core::public_address;

/// Hosts and ports that a sandbox may reach.
#[derive(Clone, Debug)]
pub struct EgressPolicy {
    allowed: Vec<String>,
    blocked: Vec<String>,
    ports: Vec<u16>,
    /// Whether an allowed name may resolve to an address that is not public.
    private: bool,
}

/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Fields of a request's head.
const MAX_FIELDS: usize = 100;
/// Connections that are served at once; others wait.
const MAX_CONNECTIONS: usize = 64;
/// For a whole head to arrive, and for a connection to the other side.
const IO_TIMEOUT: Duration = Duration::from_secs(15);

impl EgressPolicy {
    /// Create the policy of a sandbox under `rules`.
    pub fn new(rules: &SandboxRules, private: bool) -> Self {
        let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self {
            allowed: lower(&rules.allowed_domains),
            blocked: lower(&rules.blocked_domains),
            ports: rules.allowed_ports.clone(),
            private,
        }
    }

    /// Whether a connection to this host and port is allowed.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let under = |name: &str| host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        let listed = |pattern: &String| match pattern.strip_prefix("*.") {
            Some(name) => under(name) && host != name,
            None => pattern == "*" || host == *pattern,
        };
        let blocked = |pattern: &String| pattern == "*" || under(pattern.strip_prefix("*.").unwrap_or(pattern));
        self.ports.contains(&port) && self.allowed.iter().any(listed) && !self.blocked.iter().any(blocked)
    }

    fn allows_address(&self, ip: IpAddr) -> bool {
        self.private || public_address::is_public(ip)
    }
}

/// Serve `listener` until the task is dropped; names of refused hosts are sent to `refused`.
pub async fn serve_proxy(
    listener: std::net::TcpListener,
    ways: EgressPolicy,
    refused: mpsc::Sender<String>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (ways, places) = (Arc::new(ways), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let (ways, refused) = (ways.clone(), refused.clone());
        connections.spawn(async move {
            let _place = place;
            // A broken connection concerns its two ends only.
            let _ = handle_connection(stream, &ways, &refused).await;
        });
    }
}

/// Request of a client of the proxy.
#[derive(Debug, PartialEq, Eq)]
struct ProxyRequest {
    host: String,
    port: u16,
    /// The head that goes to the other side first; none: a tunnel.
    head: Option<Vec<u8>>,
}

/// Why a request is refused before its host is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadRequest {
    /// The head is malformed, too long, has too many fields, or does not end.
    Malformed,
    /// It is well-formed and asks for something that this proxy does not do.
    Unsupported,
}

impl BadRequest {
    fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "not an HTTP request",
            Self::Unsupported => "this proxy accepts CONNECT and http URLs",
        }
    }
}

async fn handle_connection(
    mut client: TcpStream,
    ways: &EgressPolicy,
    refused: &mpsc::Sender<String>,
) -> io::Result<()> {
    let (request, rest) = match timeout(IO_TIMEOUT, read_request(&mut client)).await.map_err(io::Error::from)?? {
        Ok(read) => read,
        Err(error) => return send_error(&mut client, "400 Bad Request", error.reason()).await,
    };
    let name = format!("{}:{}", request.host, request.port);
    if !ways.allows(&request.host, request.port) {
        let _ = refused.send(name.clone());
        return send_error(&mut client, "403 Forbidden", &format!("{name} is not allowed for this sandbox")).await;
    }
    let found: Vec<SocketAddr> = match lookup_host((request.host.as_str(), request.port)).await {
        Ok(found) => found.collect(),
        Err(error) => return send_error(&mut client, "502 Bad Gateway", &format!("{name}: {error}")).await,
    };
    let Some(address) = found.iter().find(|address| ways.allows_address(address.ip())) else {
        let _ = refused.send(name.clone());
        return send_error(&mut client, "403 Forbidden", &format!("{name} does not resolve to a public address")).await;
    };
    let mut server = match timeout(IO_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => return send_error(&mut client, "502 Bad Gateway", &format!("{name}: {error}")).await,
        Err(_) => return send_error(&mut client, "504 Gateway Timeout", &name).await,
    };
    match request.head {
        Some(head) => server.write_all(&head).await?,
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
    }
    server.write_all(&rest).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

async fn send_error(client: &mut TcpStream, status: &str, why: &str) -> io::Result<()> {
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{why}\n"
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}

/// A request, and what the client sent after its head.
async fn read_request(client: &mut TcpStream) -> io::Result<Result<(ProxyRequest, Vec<u8>), BadRequest>> {
    let mut bytes = Vec::new();
    loop {
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(Err(BadRequest::Malformed));
        }
        match parse_request(&bytes) {
            Ok(Some((request, length))) => return Ok(Ok((request, bytes.split_off(length)))),
            Ok(None) if bytes.len() < MAX_HEAD_BYTES => {}
            Ok(None) => return Ok(Err(BadRequest::Malformed)),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// The request at the start of `bytes`, and the length of its head; none while that has no end.
fn parse_request(bytes: &[u8]) -> Result<Option<(ProxyRequest, usize)>, BadRequest> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut read = httparse::Request::new(&mut fields);
    let length = match read.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD_BYTES => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(_)) | Err(_) => return Err(BadRequest::Malformed),
    };
    let (Some(method), Some(target), Some(version)) = (read.method, read.path, read.version) else {
        return Err(BadRequest::Malformed);
    };
    if read.headers.iter().any(|field| str::from_utf8(field.value).is_err()) {
        return Err(BadRequest::Malformed);
    }
    let request = if method == "CONNECT" {
        let (host, port) = target.rsplit_once(':').ok_or(BadRequest::Unsupported)?;
        ProxyRequest { host: host_name(host)?, port: port_number(port)?, head: None }
    } else {
        let rest = target.strip_prefix("http://").ok_or(BadRequest::Unsupported)?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port_number(port)?),
            _ => (authority, 80),
        };
        let host = host_name(host)?;
        let head = forwarded_head(method, path, version, authority, read.headers);
        ProxyRequest { host, port, head: Some(head) }
    };
    Ok(Some((request, length)))
}

/// The head that the other side gets. It names the host that was checked, whatever `Host` said (RFC 9112, 3.2.2), and asks
/// for one request a connection: a second one might be meant for another host.
fn forwarded_head(method: &str, path: &str, version: u8, authority: &str, fields: &[httparse::Header<'_>]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.{version}\r\nhost: {authority}\r\n").into_bytes();
    for field in fields {
        let name = field.name.to_ascii_lowercase();
        if !matches!(name.as_str(), "host" | "connection" | "keep-alive") && !name.starts_with("proxy-") {
            head.extend_from_slice(field.name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(field.value);
            head.extend_from_slice(b"\r\n");
        }
    }
    head.extend_from_slice(b"connection: close\r\n\r\n");
    head
}

/// A port in decimal digits alone.
fn port_number(text: &str) -> Result<u16, BadRequest> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(BadRequest::Unsupported)
}

/// A host's name or address, an address of IPv6 without its brackets.
fn host_name(text: &str) -> Result<String, BadRequest> {
    let host = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            Some(text).filter(|name| !name.is_empty() && name.bytes().all(is_plain))
        }
    };
    host.map(str::to_owned).ok_or(BadRequest::Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{model::SandboxRequirements, presets};
    use am_audit::SecurityLevel;

    fn ways(allowed: &[&str], blocked: &[&str]) -> EgressPolicy {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let asked = SandboxRequirements {
            allowed_domains: names(allowed),
            blocked_domains: names(blocked),
            ..Default::default()
        };
        EgressPolicy::new(&presets::rules_for_level(SecurityLevel::Internal).with(&asked), false)
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
            assert_eq!(listed.allows(host, port), expected, "{host}:{port}");
        }
        assert!(!ways(&[], &[]).allows("example.org", 443), "nothing is listed");
        assert!(ways(&["*"], &["example.org"]).allows("example.com", 443));
        assert!(!ways(&["*"], &["example.org"]).allows("www.example.org", 443), "blocked wins");
        assert!(
            !listed.allows_address("169.254.169.254".parse().unwrap())
                && listed.allows_address("1.1.1.1".parse().unwrap())
        );
    }

    fn parsed(text: &str) -> Result<ProxyRequest, BadRequest> {
        parse_request(text.as_bytes()).map(|found| found.unwrap_or_else(|| panic!("{text:?} has no end")).0)
    }

    fn head(request: ProxyRequest) -> String {
        String::from_utf8(request.head.unwrap()).unwrap()
    }

    #[test]
    fn requests_are_read_and_rewritten() {
        let tunnel = parsed("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n").unwrap();
        assert_eq!(tunnel, ProxyRequest { host: "example.org".into(), port: 443, head: None });
        let tunnel = parsed("CONNECT [2606:4700::1111]:443 HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((tunnel.host.as_str(), tunnel.port), ("2606:4700::1111", 443));
        let plain = "GET http://example.org:8000/a?b=c HTTP/1.1\r\nHost: example.org:8000\r\nAccept: */*\r\nConnection: keep-alive\r\nProxy-Connection: x\r\n\r\n";
        let plain = parsed(plain).unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("example.org", 8000));
        assert_eq!(
            head(plain),
            "GET /a?b=c HTTP/1.1\r\nhost: example.org:8000\r\nAccept: */*\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(parsed("GET http://example.org HTTP/1.1\r\n\r\n").unwrap().port, 80);
        let old = parsed("GET http://example.org/ HTTP/1.0\r\n\r\n").unwrap();
        assert!(head(old).starts_with("GET / HTTP/1.0\r\nhost: example.org\r\n"));
    }

    #[test]
    fn unsupported_targets_are_refused() {
        for bad in [
            "GET /a HTTP/1.1\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
            "CONNECT example.org HTTP/1.1\r\n\r\n",
            "CONNECT example.org: HTTP/1.1\r\n\r\n",
            "CONNECT example.org:+443 HTTP/1.1\r\n\r\n",
            "CONNECT example.org:65536 HTTP/1.1\r\n\r\n",
            "CONNECT :443 HTTP/1.1\r\n\r\n",
            "CONNECT user@example.org:1 HTTP/1.1\r\n\r\n",
            "CONNECT a:b:443 HTTP/1.1\r\n\r\n",
            "CONNECT [example.org]:443 HTTP/1.1\r\n\r\n",
            "CONNECT [::1:443 HTTP/1.1\r\n\r\n",
            "CONNECT exa%6dple.org:443 HTTP/1.1\r\n\r\n",
            "GET https://example.org/ HTTP/1.1\r\n\r\n",
            "GET http:///a HTTP/1.1\r\n\r\n",
            "GET http://example.org:/ HTTP/1.1\r\n\r\n",
            "GET http://example.org:80@other.example/ HTTP/1.1\r\n\r\n",
            "GET http://user:secret@example.org/ HTTP/1.1\r\n\r\n",
            "GET http://example.org?a HTTP/1.1\r\n\r\n",
            "GET http://example.org\\@other.example/ HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(parsed(bad), Err(BadRequest::Unsupported), "{bad:?}");
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        let long = format!("GET http://example.org/ HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
        let many = format!("GET http://example.org/ HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        for bad in [
            long.as_bytes(),
            many.as_bytes(),
            b"GET http://example.org/\r\n\r\n",
            b"GET http://example.org/ HTTP/2.0\r\n\r\n",
            b"GET http://example.org/ FTP/1.1\r\n\r\n",
            b"G ET http://example.org/ HTTP/1.1\r\n\r\n",
            b"GET http://example.org/ x HTTP/1.1\r\n\r\n",
            b"GET http://exam\0ple.org/ HTTP/1.1\r\n\r\n",
            b"GET http://example.org/ HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET http://example.org/ HTTP/1.1\r\na : b\r\n\r\n",
            b"GET http://example.org/ HTTP/1.1\r\n: b\r\n\r\n",
            b"GET http://example.org/ HTTP/1.1\r\na: b\r\n folded\r\n\r\n",
            b"GET http://example.org/ HTTP/1.1\r\na: b\0c\r\n\r\n",
            b"GET http://example.org/ HTTP/1.1\r\na: b\rc: d\r\n\r\n",
            b"GET http://example.org/ HTTP/1.1\r\na: \xff\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ] {
            assert_eq!(parse_request(bad), Err(BadRequest::Malformed), "{:?}", String::from_utf8_lossy(bad));
        }
        for unfinished in ["", "\r\n\r\n", "GET http://example.org/ HTTP/1.1\r\n", "CONNECT a:1 HTTP/1.1\r\n\r"] {
            assert_eq!(parse_request(unfinished.as_bytes()), Ok(None), "{unfinished:?}");
        }
    }

    #[test]
    fn a_forwarded_head_names_the_host_that_was_checked() {
        let sent =
            "POST http://example.org/ HTTP/1.1\nHost: internal.example\nHOST: other\nKeep-Alive: 5\nX-A:1\n\nrest";
        let (request, length) = parse_request(sent.as_bytes()).unwrap().unwrap();
        assert_eq!(&sent[length..], "rest");
        assert_eq!(head(request), "POST / HTTP/1.1\r\nhost: example.org\r\nX-A: 1\r\nconnection: close\r\n\r\n");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_parsed_without_harm(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            start in "(CONNECT |GET http://|)[ -~]{0,30}( HTTP/1\\.1)?(\r\n|\n)?",
        ) {
            for bytes in [bytes.clone(), [start.as_bytes(), &bytes, b"\r\n\r\n"].concat()] {
                let Ok(Some((request, length))) = parse_request(&bytes) else { continue };
                proptest::prop_assert!(length <= bytes.len());
                proptest::prop_assert!(request.host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
                if let Some(head) = request.head {
                    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS + 2];
                    let mut read = httparse::Request::new(&mut fields);
                    proptest::prop_assert_eq!(read.parse(&head), Ok(httparse::Status::Complete(head.len())));
                }
            }
        }
    }

    /// What the proxy answers to `pieces`, and what came to the other side.
    async fn exchange(pieces: &[&[u8]], listed: bool) -> (String, String) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let mut ways = ways(if listed { &["127.0.0.1"] } else { &[] }, &[]);
        (ways.ports, ways.private) = (vec![port], true);
        let answering = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut came = String::new();
            stream.read_to_string(&mut came).await.unwrap();
            came
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve_proxy(listener, ways, mpsc::channel().0));
        let mut client = TcpStream::connect(address).await.unwrap();
        for piece in pieces {
            let piece = String::from_utf8_lossy(piece).replace("PORT", &port.to_string());
            // The proxy may have refused and closed already.
            let _ = client.write_all(piece.as_bytes()).await;
        }
        let _ = client.shutdown().await;
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        serving.abort();
        let came = if answer.starts_with(b"HTTP/1.1 2") { answering.await.unwrap() } else { String::new() };
        (String::from_utf8(answer).unwrap(), came)
    }

    #[tokio::test]
    async fn a_listed_host_gets_the_request_and_what_follows_it() {
        let pieces: [&[u8]; 4] =
            [b"POST http://127.0.0.1:PO", b"", b"RT/a HTTP/1.1\r\nContent-Le", b"ngth: 2\r\n\r\nhi"];
        let pieces = [&[pieces[0], &pieces[2][..2]].concat()[..], &pieces[2][2..], pieces[3]];
        let (answer, came) = exchange(&pieces, true).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        assert!(came.starts_with("POST /a HTTP/1.1\r\nhost: 127.0.0.1:") && came.ends_with("\r\n\r\nhi"), "{came}");
    }

    #[tokio::test]
    async fn refusals_are_answered() {
        let start = b"GET http://127.0.0.1:PORT/ HTTP/1.1\r\na: ".as_slice();
        // All of it is read, ports having five digits: what is not would reset the connection before the answer is read.
        let endless = [start, &vec![b'x'; MAX_HEAD_BYTES - start.len() - 1]].concat();
        for (sent, listed, status) in [
            (endless.as_slice(), true, "400"),
            (b"CONNECT 127.0.0.1:PORT HTTP/1.1\r\n", true, "400"),
            (b"GET / HTTP/1.1\r\n\r\n", true, "400"),
            (b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n", true, "403"),
            (b"CONNECT 127.0.0.1:PORT HTTP/1.1\r\n\r\n", false, "403"),
        ] {
            let (answer, _) = exchange(&[sent], listed).await;
            let sent = String::from_utf8_lossy(&sent[..sent.len().min(40)]);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{sent}: {answer:?}");
        }
    }
}

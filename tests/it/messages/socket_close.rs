//! How sockets end, seen from a TCP connection: a Close is answered, and what can't be read is said by its code.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::server;
use crate::harness::{ApiClient, PATIENCE};

/// A WebSocket whose frames the test writes byte by byte.
struct RawSocket(TcpStream);

impl RawSocket {
    fn open(server: &ApiClient) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "GET /api/v1/agent/messages/stream?agent_id=raw&token={} HTTP/1.1\r\nHost: 127.0.0.1\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            server.key()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        let mut socket = Self(stream);
        let (first, text) = socket.frame();
        assert!(first == 0x81 && text.starts_with(b"{"), "{first:x}");
        socket
    }

    /// The next frame: its first byte and its payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0], payload)
    }

    /// The payload of the Close that comes next.
    fn close(&mut self) -> Vec<u8> {
        let (first, payload) = self.frame();
        assert_eq!(first, 0x88, "{payload:?}");
        payload
    }
}

/// A frame as a client sends it, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => bytes.extend([&[0xfe], &(length as u16).to_be_bytes()[..]].concat()),
        _ => bytes.extend([&[0xff], &(length as u64).to_be_bytes()[..]].concat()),
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn close_is_answered_by_close() {
    let server = server().start().await;
    for payload in [&b""[..], b"\x03\xe8", b"\x03\xe8bye", b"\x0f\xa0\xc3\xbc"] {
        let mut socket = RawSocket::open(&server);
        socket.0.write_all(&frame(0x88, payload)).unwrap();
        assert_eq!(socket.close(), payload);
        assert_eq!(socket.0.read(&mut [0]).unwrap(), 0, "and then the connection ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_code_says_what_could_not_be_read() {
    let server = server().start().await;
    let long = vec![b'x'; 700_000];
    let cases: [(&str, u16, Vec<u8>); 14] = [
        ("a length of 4 GB", 1009, [&[0x81, 0xff], &(1u64 << 32).to_be_bytes()[..], &[0; 4]].concat()),
        ("a long text", 1009, frame(0x81, &vec![b'x'; 2_000_000])),
        ("long fragments", 1009, [frame(0x01, &long), frame(0x00, &long), frame(0x80, &long)].concat()),
        ("no UTF-8", 1007, frame(0x81, b"\"\xff\"")),
        ("no UTF-8 in fragments", 1007, [frame(0x01, b"\"\xc3"), frame(0x80, b"\"")].concat()),
        ("no UTF-8 in a reason", 1007, frame(0x88, b"\x03\xe8\xff")),
        ("no mask", 1002, b"\x81\x02{}".to_vec()),
        ("a reserved bit", 1002, frame(0xc1, b"{}")),
        ("a reserved opcode", 1002, frame(0x83, b"{}")),
        ("a reserved control opcode", 1002, frame(0x8b, b"")),
        ("a continuation of nothing", 1002, frame(0x80, b"{}")),
        ("a text within a text", 1002, [frame(0x01, b"{"), frame(0x81, b"}")].concat()),
        ("a ping in fragments", 1002, frame(0x09, b"x")),
        ("a Close of one byte", 1002, frame(0x88, b"\x03")),
    ];
    for (what, code, bytes) in cases {
        let mut socket = RawSocket::open(&server);
        // It may be closed before all of it is written.
        let _ = socket.0.write_all(&bytes);
        let closed = socket.close();
        assert_eq!(closed.get(..2), Some(&code.to_be_bytes()[..]), "{what}: {}", String::from_utf8_lossy(&closed));
        assert!(closed.len() > 2, "{what} has a reason");
    }
    // What is no JSON is answered, and the socket stays.
    let mut socket = RawSocket::open(&server);
    socket.0.write_all(&frame(0x81, b"nonsense")).unwrap();
    let (first, text) = socket.frame();
    assert!(first == 0x81 && String::from_utf8(text).unwrap().contains("bad_frame"));
}

//! Notifications to the service manager (`sd_notify(3)`), over a socket with a path or with an abstract name.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::atomic::{AtomicBool, Ordering},
};

use sd_notify::NotifyState;

/// Variable with the socket of the service manager.
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Tell the service manager of `states`, where there is one. A failure is logged, the first time.
pub fn notify(states: &[NotifyState<'_>]) {
    static IS_LOGGED: AtomicBool = AtomicBool::new(false);
    let Some(socket) = env::var_os(NOTIFY_SOCKET).filter(|socket| !socket.is_empty()) else { return };
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    if let Err(error) = send(&socket, &message)
        && !IS_LOGGED.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%error, socket = %socket.display(), "the service manager can't be told of the service's state");
    }
}

fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = socket_address(socket)?;
    let sent = UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// A path, or after `@` an abstract name.
fn socket_address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is neither a path nor an abstract name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_socket_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("@agent-management-test-{}", std::process::id());
        for socket in [path.as_os_str(), OsStr::new(&name)] {
            let receiver = UnixDatagram::bind_addr(&socket_address(socket).unwrap()).unwrap();
            send(socket, "READY=1\n").unwrap();
            let mut heard = [0; 64];
            let count = receiver.recv(&mut heard).unwrap();
            assert_eq!(&heard[..count], b"READY=1\n", "{socket:?}");
        }
        for bad in ["vsock:2:1234", "relative", "@nobody-listens-there", "/nobody/listens/there"] {
            assert!(send(OsStr::new(bad), "READY=1\n").is_err(), "{bad}");
        }
    }
}

//! How the last statement on a pooled connection ended: one that was given up may still run on the connection's thread. Who executes a
//! statement has the connection alone; what is watched of it is found by its address, which stays.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU8, Ordering},
    },
};

use parking_lot::RwLock;

use super::Connection;

/// It has ended.
const ENDED: u8 = 0;
/// It runs, or its caller waits no more.
const RUNNING: u8 = 1;
/// Nobody told of it.
const UNKNOWN: u8 = 2;

/// The watched connections by address.
static WATCHED: LazyLock<RwLock<HashMap<usize, Arc<AtomicU8>>>> = LazyLock::new(RwLock::default);

fn address(conn: &Connection) -> usize {
    std::ptr::from_ref(conn).addr()
}

/// How the last statement on a connection ended, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementEnding {
    /// It has ended.
    Ended,
    /// Its caller waits no more; it may still run.
    GivenUp,
    /// Nobody told how it ended.
    Unknown,
}

/// A connection whose statements are watched.
pub struct WatchedConnection {
    conn: Box<Connection>,
    state: Arc<AtomicU8>,
}

impl WatchedConnection {
    /// Watch a connection on which nothing runs.
    pub fn new(conn: Connection) -> Self {
        let watched = Self { conn: Box::new(conn), state: Arc::new(AtomicU8::new(ENDED)) };
        WATCHED.write().insert(address(&watched.conn), watched.state.clone());
        watched
    }

    /// How the last statement ended. Asked when nobody executes one.
    pub fn ending(&self) -> StatementEnding {
        match self.state.load(Ordering::Relaxed) {
            ENDED => StatementEnding::Ended,
            RUNNING => StatementEnding::GivenUp,
            _ => StatementEnding::Unknown,
        }
    }

    /// Forget it: what is executed next may be told or not.
    pub fn forget(&self) {
        self.state.store(UNKNOWN, Ordering::Relaxed);
    }

    /// The connection, no longer watched.
    pub fn into_inner(self) -> Connection {
        WATCHED.write().remove(&address(&self.conn));
        *self.conn
    }
}

impl Deref for WatchedConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.conn
    }
}

impl DerefMut for WatchedConnection {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.conn
    }
}

/// A statement that is executed. Dropped before its end, it is given up.
pub struct StatementWatch(Option<Arc<AtomicU8>>);

impl StatementWatch {
    /// A statement begins.
    pub fn begin(conn: &Connection) -> Self {
        let state = WATCHED.read().get(&address(conn)).cloned();
        state.iter().for_each(|state| state.store(RUNNING, Ordering::Relaxed));
        Self(state)
    }

    /// It has ended, well or not.
    pub fn end(self) {
        self.0.iter().for_each(|state| state.store(ENDED, Ordering::Relaxed));
    }
}

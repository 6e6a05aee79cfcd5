//! What can go wrong in this room.

/// A part of the way to what is wrong in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A member of an object.
    Member(String),
    /// A place in a list.
    Item(usize),
}

impl From<&str> for Place {
    fn from(name: &str) -> Self {
        Self::Member(name.to_owned())
    }
}

impl From<usize> for Place {
    fn from(index: usize) -> Self {
        Self::Item(index)
    }
}

/// One thing that is wrong in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From the request's root.
    pub path: Vec<Place>,
    /// In words.
    pub message: String,
    /// The monolith's word for it.
    pub kind: &'static str,
}

impl Fault {
    /// A value that is not good, though it has the right type.
    pub fn value(path: impl IntoIterator<Item = Place>, message: impl Into<String>) -> Self {
        Self { path: path.into_iter().collect(), message: message.into(), kind: "value_error" }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for place in &self.path {
            match place {
                Place::Member(name) => write!(f, "{name} ")?,
                Place::Item(index) => write!(f, "{index} ")?,
            }
        }
        f.write_str(&self.message)
    }
}

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
    /// There is no such job.
    #[error("Job not found")]
    NotFound,
    /// Another's.
    #[error("Not authorized to access this job")]
    Forbidden,
    /// Its state forbids it.
    #[error("{0}")]
    State(String),
    /// A request that no miner should get.
    #[error("the request has {} faults", .0.len())]
    Invalid(Vec<Fault>),
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;

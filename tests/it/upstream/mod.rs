//! The coordinator's present miners and clients, played by programs and tables of our own making.

mod client_ids;
mod clients;
mod directory;
mod frames;
mod miners;
mod tokens;
mod workflows;

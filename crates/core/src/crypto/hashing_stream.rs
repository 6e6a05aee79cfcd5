//! SHA-256 of what is written or read, as it passes.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

/// A reader or writer that hashes what passes through it.
pub struct HashingStream<S> {
    inner: S,
    hash: Sha256,
}

impl<S> HashingStream<S> {
    /// Hash what passes to or from `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// Return the SHA-256 in hexadecimal digits of everything that has passed.
    pub fn finish(self) -> String {
        hex::encode(self.hash.finalize())
    }
}

impl<S: Write> Write for HashingStream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<S: Read> Read for HashingStream<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(&bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256_hex;

    #[test]
    fn what_passes_is_hashed_both_ways() {
        let (text, mut written) = (b"some bytes", Vec::new());
        let mut out = HashingStream::new(&mut written);
        out.write_all(&text[..4]).unwrap();
        out.write_all(&text[4..]).unwrap();
        assert_eq!(out.finish(), sha256_hex(text));
        assert_eq!(written, text);
        let mut from = HashingStream::new(&text[..]);
        io::copy(&mut from, &mut io::sink()).unwrap();
        assert_eq!(from.finish(), sha256_hex(text));
    }
}

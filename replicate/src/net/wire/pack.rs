//! Messages to a stream of octets and back, compressed where that pays.

use super::*;
use std::io;

const HEADER: usize = 1 + 1 + 4 + 4;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
/// Bodies below this are not worth the call, octets.
const WORTH: usize = 256;
/// From this on a sample decides whether the whole is compressed, octets.
const SAMPLED: usize = 32 * 1024;
/// Length of the sample, octets.
const SAMPLE: usize = 4 * 1024;
/// The lowest level: the link is faster than the others.
const LEVEL: i32 = 1;

/// Messages to octets.
pub struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
}

/// Octets to messages.
pub struct Assembler {
    zstd: zstd::bulk::Decompressor<'static>,
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Packer {
    /// A new one for each link.
    ///
    /// # Errors
    /// No memory for the compressor.
    pub fn new() -> io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(LEVEL)?, packed: Vec::new() })
    }

    /// Header, and body as it goes over the link.
    pub fn pack<'a>(&'a mut self, kind: u8, body: &'a [u8]) -> ([u8; HEADER], &'a [u8]) {
        debug_assert!(body.len() <= MAX_BODY, "whoever batches has to keep to the limit");
        let smaller = self.compress(body);
        let (method, octets) = if smaller { (ZSTD, self.packed.as_slice()) } else { (RAW, body) };
        let mut header = [0; HEADER];
        header[0] = kind;
        header[1] = method;
        header[2..6].copy_from_slice(&(octets.len() as u32).to_be_bytes());
        header[6..].copy_from_slice(&(body.len() as u32).to_be_bytes());
        (header, octets)
    }

    /// Is `packed` the body, and markedly smaller?
    fn compress(&mut self, body: &[u8]) -> bool {
        if body.len() < WORTH {
            return false;
        }
        if body.len() >= SAMPLED {
            let middle = body.len() / 2;
            let samples = [&body[..SAMPLE], &body[middle..middle + SAMPLE]];
            if !samples.iter().any(|sample| self.shrinks(sample)) {
                return false;
            }
        }
        self.shrinks(body)
    }

    fn shrinks(&mut self, octets: &[u8]) -> bool {
        self.packed.resize(zstd::zstd_safe::compress_bound(octets.len()), 0);
        // What cannot be compressed, for whatever reason, goes as it is.
        let Ok(len) = self.zstd.compress_to_buffer(octets, self.packed.as_mut_slice()) else {
            return false;
        };
        self.packed.truncate(len);
        len < octets.len() - octets.len() / 16
    }
}

impl Assembler {
    /// A new one for each link.
    ///
    /// # Errors
    /// No memory for the decompressor.
    pub fn new() -> io::Result<Self> {
        let (header, body) = (Vec::with_capacity(HEADER), Vec::new());
        Ok(Self { zstd: zstd::bulk::Decompressor::new()?, header, body })
    }

    /// Takes octets off the front of `input`: a message, or `None` when more are needed.
    ///
    /// # Errors
    /// A header beyond the limits, a body that does not decompress to what its header says, or
    /// what [`Message::decode`] finds.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, NetError> {
        take(input, &mut self.header, HEADER);
        let Ok(header) = <[u8; HEADER]>::try_from(self.header.as_slice()) else { return Ok(None) };
        let [kind, method, a, b, c, d, e, f, g, h] = header;
        let on_link = u32::from_be_bytes([a, b, c, d]) as usize;
        let full = u32::from_be_bytes([e, f, g, h]) as usize;
        let wrong = |what| NetError::protocol("header", what);
        if on_link > MAX_BODY || full > MAX_BODY {
            return Err(wrong("a body over the limit"));
        }
        match method {
            RAW if on_link == full => {}
            ZSTD if on_link < full => {}
            RAW | ZSTD => return Err(wrong("lengths that do not fit the method")),
            _ => return Err(wrong("an unknown method of compression")),
        }
        self.body.reserve_exact(on_link - self.body.len());
        take(input, &mut self.body, on_link);
        if self.body.len() < on_link {
            return Ok(None);
        }
        self.header.clear();
        let body = std::mem::take(&mut self.body);
        let body = if method == ZSTD { self.decompress(&body, full)? } else { body };
        Message::decode(kind, body).map(Some)
    }

    /// Is the next octet the first one of a message?
    pub fn between(&self) -> bool {
        self.header.is_empty()
    }

    fn decompress(&mut self, packed: &[u8], full: usize) -> Result<Vec<u8>, NetError> {
        // Not more than `full` octets are ever written, whatever the frame claims.
        let mut body = vec![0; full];
        match self.zstd.decompress_to_buffer(packed, body.as_mut_slice()) {
            Ok(len) if len == full => Ok(body),
            _ => Err(NetError::protocol("header", "a body that does not decompress to its length")),
        }
    }
}

/// Moves octets from `input` to `to` until that has `len`.
fn take(input: &mut &[u8], to: &mut Vec<u8>, len: usize) {
    let (now, rest) = input.split_at(input.len().min(len.saturating_sub(to.len())));
    to.extend_from_slice(now);
    *input = rest;
}

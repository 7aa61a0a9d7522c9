//! Sinks that compress and count what is written to them.

use std::io::{self, Write};

use bzip2::write::BzEncoder;
use flate2::write::GzEncoder;
use millstream_core::Result;

use crate::Compression;

/// A sink that compresses what is written to it.
pub(crate) enum Compressor<W: Write> {
    Plain(W),
    Gzip(GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
    Bzip2(BzEncoder<W>),
}

impl<W: Write> Compressor<W> {
    pub(crate) fn new(sink: W, compression: Option<Compression>) -> Result<Self> {
        Ok(match compression {
            None => Self::Plain(sink),
            Some(Compression::Gzip) => Self::Gzip(GzEncoder::new(sink, flate2::Compression::default())),
            Some(Compression::Zstd) => Self::Zstd(zstd::Encoder::new(sink, zstd::DEFAULT_COMPRESSION_LEVEL)?),
            Some(Compression::Bzip2) => Self::Bzip2(BzEncoder::new(sink, bzip2::Compression::default())),
        })
    }

    pub(crate) fn get_ref(&self) -> &W {
        match self {
            Self::Plain(sink) => sink,
            Self::Gzip(sink) => sink.get_ref(),
            Self::Zstd(sink) => sink.get_ref(),
            Self::Bzip2(sink) => sink.get_ref(),
        }
    }

    /// The sink, if nothing is compressed.
    pub(crate) fn plain(&mut self) -> Option<&mut W> {
        match self {
            Self::Plain(sink) => Some(sink),
            Self::Gzip(_) | Self::Zstd(_) | Self::Bzip2(_) => None,
        }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(sink) => sink.write_all(bytes),
            Self::Gzip(sink) => sink.write_all(bytes),
            Self::Zstd(sink) => sink.write_all(bytes),
            Self::Bzip2(sink) => sink.write_all(bytes),
        }
    }

    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(sink) => sink.finish(),
            Self::Zstd(sink) => sink.finish(),
            Self::Bzip2(sink) => sink.finish(),
        }
    }
}

/// A sink that counts its bytes.
pub(crate) struct Counted<W> {
    pub sink: W,
    pub bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

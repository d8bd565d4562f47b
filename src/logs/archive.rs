//! Compressed files of the log, as logrotate leaves them.
//!
//! An archive can only be decompressed from its beginning. A reader that goes forward keeps its
//! decoder. To be searched backwards, an archive is decompressed into a file without a name, which
//! exists as long as the search. A damaged archive ends where the damage is, and a search reports
//! that.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::sys::{DiskSpace, unnamed_file};

/// The largest content that is searched. An archive of a few megabytes can have any size.
const MAX_CONTENT: u64 = 1024 * 1024 * 1024;
/// The part of a file system that stays free when an archive is decompressed, as a divisor.
const FREE_FRACTION: u64 = 20;
/// After how many bytes to check for free space, and whether the content is still wanted.
const CHECK_BYTES: u64 = 16 * 1024 * 1024;
/// Where archives are decompressed if this user cannot write to the directory of the log.
const OTHER_DIRECTORY: &str = "/var/tmp";
/// The largest window of a Zstandard frame: what each decoder must support (RFC 8878). Only
/// `--ultra` and `--long` of zstd need more.
const MAX_WINDOW: u64 = 8 * 1024 * 1024;
/// How many archives may be read forward at once. Each takes memory for its window.
const MAX_READERS: usize = 16;
const BUFFER_BYTES: usize = 64 * 1024;

/// The format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Gzip,
    Zstd,
}

impl Codec {
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// The end of the file's name.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

/// A compressed file.
#[derive(Debug)]
pub(crate) struct Archive {
    file: Arc<File>,
    codec: Codec,
    path: PathBuf,
    /// The decoder of the last read, and the offset that it has reached.
    reader: Mutex<Option<ArchiveReader>>,
    /// The length of the content, once a reader has reached it.
    len: OnceLock<u64>,
}

impl Archive {
    pub fn new(file: File, codec: Codec, path: PathBuf) -> Self {
        Self {
            file: Arc::new(file),
            codec,
            path,
            reader: Mutex::new(None),
            len: OnceLock::new(),
        }
    }

    /// Fills the buffer with the content from this offset on, as far as there is any. An offset
    /// after that of the last read costs what is in between, an earlier one costs all before it.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = || {
            if self.len.get().is_some_and(|len| *len <= offset) {
                return Ok(0);
            }
            let mut last = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            let mut reader = match last.take() {
                Some(reader) if reader.offset <= offset => reader,
                _ => ArchiveReader::new(self.decoder())?,
            };
            if offset - reader.offset > MAX_CONTENT {
                // No search can have found anything there.
                return Ok(0);
            }
            let is_there = reader.skip_to(offset)?;
            let read = reader.fill(buffer)?;
            if !is_there || read < buffer.len() {
                // The decoder is not needed any more.
                let _ = self.len.set(reader.offset);
            } else {
                *last = Some(reader);
            }
            Ok(read)
        };
        read().map_err(|error| self.named(&error))
    }

    /// Fills the buffer with the beginning of the content, as far as there is any.
    pub fn prefix(&self, buffer: &mut [u8]) -> io::Result<usize> {
        fill(&mut self.decoder(), buffer)
    }

    /// Decompresses the archive into a file without a name. Fails once `is_wanted` returns false.
    pub fn extract(&self, is_wanted: &dyn Fn() -> bool) -> io::Result<Extracted> {
        self.extract_at_most(MAX_CONTENT, is_wanted)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn extract_at_most(&self, max_len: u64, is_wanted: &dyn Fn() -> bool) -> io::Result<Extracted> {
        let parent = self.path.parent().unwrap_or(&self.path);
        let is_empty = parent.as_os_str().is_empty();
        let mut directory = if is_empty { Path::new(".") } else { parent };
        let mut file = unnamed_file(directory).or_else(|_| {
            directory = Path::new(OTHER_DIRECTORY);
            unnamed_file(directory)
        })?;
        let mut decoder = self.decoder();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut len = 0;
        let mut next_check = CHECK_BYTES;
        loop {
            let read = decoder.read(&mut buffer)?;
            if read == 0 {
                let is_damaged = decoder.is_damaged;
                return Ok(Extracted {
                    file,
                    len,
                    is_damaged,
                });
            }
            len += read as u64;
            if len > max_len {
                return Err(too_large());
            }
            file.write_all(&buffer[..read])?;
            if len >= next_check {
                next_check += CHECK_BYTES;
                if !is_wanted() {
                    return Err(io::Error::other("the client has disconnected"));
                }
                if DiskSpace::at(directory)
                    .is_some_and(|disk| disk.available < disk.total / FREE_FRACTION)
                {
                    return Err(io::Error::other(format!(
                        "too little space is free in {} to decompress it",
                        directory.display()
                    )));
                }
            }
        }
    }

    fn decoder(&self) -> Decoder {
        let source = Source {
            file: Arc::clone(&self.file),
            offset: 0,
            error: None,
        };
        Decoder {
            format: match self.codec {
                Codec::Gzip => FormatDecoder::Gzip(Box::new(MultiGzDecoder::new(source))),
                Codec::Zstd => FormatDecoder::Zstd(Box::new(ZstdDecoder::new(source))),
            },
            is_damaged: false,
        }
    }

    pub fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
    }
}

/// The content of an archive.
pub(crate) struct Extracted {
    pub file: File,
    pub len: u64,
    /// The content ends at a damage.
    pub is_damaged: bool,
}

fn too_large() -> io::Error {
    let gibibytes = MAX_CONTENT >> 30;
    io::Error::other(format!(
        "it has more than {gibibytes} GiB of content; read it with zcat or zstdcat, or move it to another directory"
    ))
}

/// Reads the content forward.
#[derive(Debug)]
struct ArchiveReader {
    decoder: Decoder,
    offset: u64,
    _permit: ReaderPermit,
}

impl ArchiveReader {
    fn new(decoder: Decoder) -> io::Result<Self> {
        Ok(Self {
            decoder,
            offset: 0,
            _permit: ReaderPermit::acquire()?,
        })
    }

    /// Returns whether the content reaches this offset.
    fn skip_to(&mut self, offset: u64) -> io::Result<bool> {
        let mut skipped = vec![0; BUFFER_BYTES];
        while self.offset < offset {
            let left = usize::try_from(offset - self.offset).unwrap_or(usize::MAX);
            if self.fill(&mut skipped[..left.min(BUFFER_BYTES)])? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let filled = fill(&mut self.decoder, buffer)?;
        self.offset += filled as u64;
        Ok(filled)
    }
}

fn fill(decoder: &mut Decoder, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match decoder.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

static READERS: AtomicUsize = AtomicUsize::new(0);

/// The right to read an archive forward.
#[derive(Debug)]
struct ReaderPermit;

impl ReaderPermit {
    fn acquire() -> io::Result<Self> {
        let permit = Self;
        if READERS.fetch_add(1, Ordering::Relaxed) >= MAX_READERS {
            drop(permit);
            let text = "too many compressed log files are being read: try again";
            return Err(io::Error::other(text));
        }
        Ok(permit)
    }
}

impl Drop for ReaderPermit {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bytes of the archive.
#[derive(Debug)]
struct Source {
    file: Arc<File>,
    offset: u64,
    /// The error of the system. All other errors of a decoder are damages.
    error: Option<i32>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self
            .file
            .read_at(buffer, self.offset)
            .inspect_err(|error| {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.error = error.raw_os_error();
                }
            })?;
        self.offset += read as u64;
        Ok(read)
    }
}

struct Decoder {
    format: FormatDecoder,
    is_damaged: bool,
}

enum FormatDecoder {
    Gzip(Box<MultiGzDecoder<Source>>),
    Zstd(Box<ZstdDecoder>),
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

/// Ends at a damage.
impl Read for Decoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_damaged {
            return Ok(0);
        }
        let (read, source) = match &mut self.format {
            FormatDecoder::Gzip(gzip) => (gzip.read(buffer), gzip.get_ref()),
            FormatDecoder::Zstd(zstd) => (zstd.read(buffer), zstd.source.get_ref()),
        };
        match (read, source.error) {
            (Err(_), Some(error)) => Err(io::Error::from_raw_os_error(error)),
            (Err(error), None) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            (Err(error), None) if error.kind() == io::ErrorKind::Unsupported => Err(error),
            (Err(_), None) => {
                self.is_damaged = true;
                Ok(0)
            }
            (read, _) => read,
        }
    }
}

/// Reads the frames of a Zstandard file.
struct ZstdDecoder {
    frame: FrameDecoder,
    is_in_frame: bool,
    source: BufReader<Source>,
}

impl ZstdDecoder {
    fn new(source: Source) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(MAX_WINDOW);
        Self {
            frame,
            is_in_frame: false,
            source: BufReader::with_capacity(BUFFER_BYTES, source),
        }
    }

    /// Returns whether there is another frame.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.frame.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.source).take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error @ FrameDecoderError::WindowSizeTooBig { .. }) => {
                    return Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        format!("{error} (compress it without --ultra and --long of zstd)"),
                    ));
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl Read for ZstdDecoder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_in_frame {
                self.is_in_frame = self.next_frame()?;
                if !self.is_in_frame {
                    return Ok(0);
                }
            }
            let read = self.frame.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if self.frame.is_finished() {
                self.is_in_frame = false;
            } else {
                self.frame
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    pub(crate) fn compress(codec: Codec, content: &[u8]) -> Vec<u8> {
        match codec {
            Codec::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
                gzip.write_all(content).unwrap();
                gzip.finish().unwrap()
            }
            Codec::Zstd => compress_to_vec(content, CompressionLevel::Fastest),
        }
    }

    fn archive(codec: Codec, bytes: &[u8]) -> (tempfile::TempDir, Archive) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.1");
        std::fs::write(&path, bytes).unwrap();
        let archive = Archive::new(File::open(&path).unwrap(), codec, path);
        (directory, archive)
    }

    fn extracted(archive: &Archive) -> Vec<u8> {
        let Extracted { mut file, len, .. } = archive.extract(&|| true).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content.len() as u64, len);
        content
    }

    /// More than one window, and as varied as a log.
    fn lines() -> Vec<u8> {
        let lines = (0..200_000_u64).map(|number| {
            let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            format!("line {number} {hash:x}\n")
        });
        lines.collect::<String>().into_bytes()
    }

    #[test]
    fn content_is_read_from_any_offset() {
        let content = lines();
        for codec in Codec::ALL {
            let (_directory, archive) = archive(codec, &compress(codec, &content));
            assert!(extracted(&archive) == content, "{codec:?}");
            let end = content.len();
            for offset in [0, 10, 10, 100_000, 99_999, end - 5, end, end + 7, 3] {
                let mut buffer = [0; 20];
                let read = archive.read_at(&mut buffer, offset as u64).unwrap();
                let rest = &content[offset.min(end)..];
                assert_eq!(&buffer[..read], &rest[..rest.len().min(20)], "{offset}");
            }
            let mut prefix = [0; 6];
            assert_eq!(archive.prefix(&mut prefix).unwrap(), 6);
            assert_eq!(&prefix, b"line 0");
        }
    }

    /// As a rotation makes that appends to an archive.
    #[test]
    fn all_parts_of_an_archive_are_read() {
        let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &[3, 0, 0, 0], b"abc"].concat();
        for codec in Codec::ALL {
            let mut bytes = compress(codec, b"one\n");
            if codec == Codec::Zstd {
                bytes.extend(&skippable);
            }
            bytes.extend(compress(codec, b"two\n"));
            let (_directory, archive) = archive(codec, &bytes);
            assert_eq!(extracted(&archive), b"one\ntwo\n");
        }
    }

    #[test]
    fn damaged_archive_ends_at_the_damage() {
        let content = lines();
        for codec in Codec::ALL {
            let bytes = compress(codec, &content);
            let (_directory, whole) = archive(codec, &bytes);
            assert!(!whole.extract(&|| true).unwrap().is_damaged, "{codec:?}");
            let (_directory, half) = archive(codec, &bytes[..bytes.len() / 2]);
            assert!(half.extract(&|| true).unwrap().is_damaged, "{codec:?}");
            let found = extracted(&half);
            assert!(
                !found.is_empty() && content.starts_with(&found),
                "{codec:?}"
            );
            for garbage in [&b""[..], b"neither of them", &bytes[..3]] {
                let (_directory, garbage) = archive(codec, garbage);
                assert_eq!(extracted(&garbage), b"");
                assert_eq!(garbage.read_at(&mut [0; 9], 0).unwrap(), 0);
            }
        }
    }

    #[test]
    fn content_of_any_size_costs_little() {
        let zeros = vec![0; 40 * 1024 * 1024];
        for codec in Codec::ALL {
            let (_directory, bomb) = archive(codec, &compress(codec, &zeros));
            let error = bomb.extract_at_most(1_000_000, &|| true).err().unwrap();
            assert!(error.to_string().contains("more than"), "{error}");
            let checks = AtomicUsize::new(0);
            let is_wanted = || checks.fetch_add(1, Ordering::Relaxed) > 0;
            assert!(bomb.extract(&is_wanted).is_err());
            assert_eq!(checks.into_inner(), 1);
        }
        // A window of 128 MiB.
        let (_directory, archive) = archive(Codec::Zstd, b"\x28\xb5\x2f\xfd\x00\x88");
        let error = archive.extract(&|| true).err().unwrap().to_string();
        assert!(error.contains("--long"), "{error}");
    }

    #[test]
    fn few_archives_are_read_forward_at_once() {
        let (_directory, one) = archive(Codec::Gzip, &compress(Codec::Gzip, b"one\ntwo\n"));
        let permits: Vec<_> = (0..MAX_READERS)
            .map_while(|_| ReaderPermit::acquire().ok())
            .collect();
        assert!(one.read_at(&mut [0; 3], 0).is_err());
        drop(permits);
        assert_eq!(one.read_at(&mut [0; 3], 4).unwrap(), 3);
    }
}

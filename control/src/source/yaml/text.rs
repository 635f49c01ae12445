//! The files of one load: which they are, their characters while they are read, their lines when something is wrong.
//!
//! A file is read through one 64 KiB buffer and never held as a whole: a mesh of 150,000 workloads is 60 MB of text.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use granit_parser::ErrorKind;

use crate::source::diagnostics::{FileId, Place, Sources};
use crate::source::{FILE_BYTES_MAX, Source, VALUE_BYTES_MAX};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes of a line that are kept for showing it.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// One file of the load.
struct Text {
    name: Arc<str>,
    /// Relative paths inside the file are relative to this.
    directory: PathBuf,
    content: Content,
}

enum Content {
    /// Read from the disk whenever it is needed.
    File(PathBuf),
    /// What can be read only once, such as standard input.
    Held(Arc<[u8]>),
    /// Why there is nothing to read.
    Failed(String),
}

/// All files of one load; [`FileId`]s are indexes into it.
#[derive(Default)]
pub(crate) struct Files {
    texts: Vec<Text>,
}

impl Files {
    /// Finds everything `sources` name. What cannot be found is there too, with its error.
    pub(crate) fn find(sources: &[Source]) -> Files {
        let mut files = Files::default();
        for source in sources {
            match source {
                Source::Path(path) => files.path(path),
                Source::Stdin => files.push("<stdin>", Path::new("."), hold(io::stdin().lock())),
                Source::Text { name, text } => {
                    let held = Content::Held(text.as_bytes().into());
                    files.push(name, Path::new("."), held);
                }
            }
        }
        files
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = FileId> + use<> {
        (0..self.texts.len() as u32).map(FileId)
    }

    pub(crate) fn directory(&self, file: FileId) -> &Path {
        &self.text(file).directory
    }

    /// The characters of a file from its beginning, or why it has none.
    pub(crate) fn characters(&self, file: FileId) -> Result<Characters<'_>, String> {
        let (text, bytes) = self.text(file).content.open()?;
        match bytes > FILE_BYTES_MAX {
            true => Err(format!("a file may have {} MiB, this is larger", FILE_BYTES_MAX >> 20)),
            false => Ok(Characters::new(text)),
        }
    }

    fn text(&self, file: FileId) -> &Text {
        &self.texts[file.0 as usize]
    }

    fn path(&mut self, path: &Path) {
        match files_of(path) {
            Ok(paths) if paths.is_empty() => {
                let message = "there is no *.yaml, *.yml or *.json file in this directory";
                self.push(&path.to_string_lossy(), path, Content::Failed(message.to_owned()));
            }
            Ok(paths) => paths.iter().for_each(|path| self.file(path)),
            Err(error) => self.push(&path.to_string_lossy(), Path::new("."), failed(&error)),
        }
    }

    fn file(&mut self, path: &Path) {
        let content = match path.metadata() {
            Ok(metadata) if metadata.is_file() => Content::File(path.into()),
            // A pipe, such as `<(generate)` of a shell, is read once, like standard input.
            Ok(_) => File::open(path).map_or_else(|error| failed(&error), hold),
            Err(error) => failed(&error),
        };
        self.push(&path.to_string_lossy(), path.parent().unwrap_or(Path::new(".")), content);
    }

    fn push(&mut self, name: &str, directory: &Path, content: Content) {
        self.texts.push(Text { name: name.into(), directory: directory.into(), content });
    }
}

impl Content {
    /// The bytes, and how many they are.
    fn open(&self) -> Result<(Box<dyn Read + '_>, u64), String> {
        match self {
            Content::File(path) => {
                let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
                let (bytes, file) = opened.map_err(|error| unreadable(&error))?;
                Ok((Box::new(file), bytes))
            }
            Content::Held(bytes) => Ok((Box::new(&bytes[..]), bytes.len() as u64)),
            Content::Failed(message) => Err(message.clone()),
        }
    }
}

fn hold(text: impl Read) -> Content {
    let mut bytes = Vec::new();
    match text.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        Ok(_) => Content::Held(bytes.into()),
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Content {
    Content::Failed(unreadable(error))
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

impl Sources for Files {
    fn name(&self, file: FileId) -> Arc<str> {
        self.text(file).name.clone()
    }

    fn lines(&self, places: &[Place]) -> Vec<String> {
        let mut lines = Vec::with_capacity(places.len());
        for places in places.chunk_by(|a, b| a.file == b.file) {
            match self.text(places[0].file).content.open() {
                Ok((text, _)) => lines.extend(lines_of(text, places)),
                Err(_) => lines.extend(places.iter().map(|_| String::new())),
            }
        }
        lines
    }
}

/// A directory stands for its YAML and JSON files, sorted by name; hidden ones, such as the `..data` of a mounted
/// ConfigMap, are not meant.
pub(crate) fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.metadata()?.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut paths = Vec::new();
    for entry in path.read_dir()? {
        let path = entry?.path();
        if is_configuration(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_configuration(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let known = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    !hidden && known && !path.is_dir()
}

fn lines_of(text: impl Read, places: &[Place]) -> Vec<String> {
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, text);
    let mut current = (0, String::new());
    let mut lines = Vec::with_capacity(places.len());
    for place in places {
        while current.0 < place.line && next_line(&mut reader, &mut current.1) {
            current.0 += 1;
        }
        lines.push(if current.0 == place.line { current.1.clone() } else { String::new() });
    }
    lines
}

fn next_line(reader: &mut impl BufRead, line: &mut String) -> bool {
    let mut bytes = Vec::new();
    let read = reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut bytes);
    if bytes.len() == LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
        let _ = reader.skip_until(b'\n');
    }
    line.clear();
    line.push_str(String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').trim_end());
    matches!(read, Ok(1..))
}

/// What one value may still read before it is refused; shared between the characters and the reader above the parser.
#[derive(Clone, Default)]
pub(crate) struct Allowance(Rc<Cell<usize>>);

impl Allowance {
    /// A new value begins.
    pub(crate) fn renew(&self) {
        self.0.set(0);
    }

    fn take(&self, bytes: usize) -> bool {
        self.0.set(self.0.get() + bytes);
        self.0.get() <= VALUE_BYTES_MAX
    }
}

/// The characters of one file, decoded from UTF-8 as they are read.
pub(crate) struct Characters<'t> {
    text: Box<dyn Read + 't>,
    chunk: Box<[u8]>,
    position: usize,
    filled: usize,
    allowance: Allowance,
}

impl<'t> Characters<'t> {
    fn new(text: Box<dyn Read + 't>) -> Characters<'t> {
        let chunk = vec![0; CHUNK_BYTES].into_boxed_slice();
        Characters { text, chunk, position: 0, filled: 0, allowance: Allowance::default() }
    }

    pub(crate) fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    fn byte(&mut self) -> Result<Option<u8>, ErrorKind> {
        if self.position == self.filled && !self.fill()? {
            return Ok(None);
        }
        self.position += 1;
        Ok(Some(self.chunk[self.position - 1]))
    }

    fn fill(&mut self) -> Result<bool, ErrorKind> {
        self.position = 0;
        self.filled = loop {
            match self.text.read(&mut self.chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ErrorKind::Custom(unreadable(&error))),
                Ok(bytes) => break bytes,
            }
        };
        if !self.allowance.take(self.filled) {
            return Err(ErrorKind::InputByteLimitExceeded { limit: VALUE_BYTES_MAX });
        }
        Ok(self.filled > 0)
    }

    fn multibyte(&mut self, first: u8) -> Result<char, ErrorKind> {
        let (length, mut bytes) = (sequence_bytes(first), [first, 0, 0, 0]);
        for byte in &mut bytes[1..length] {
            *byte = self.byte()?.unwrap_or(0);
        }
        let text = std::str::from_utf8(&bytes[..length]).ok();
        text.and_then(|text| text.chars().next()).ok_or_else(|| ErrorKind::InputDecoding {
            message: "what follows is not UTF-8 text".into(),
        })
    }
}

fn sequence_bytes(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

impl Iterator for Characters<'_> {
    type Item = Result<char, ErrorKind>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.byte() {
            Ok(None) => None,
            Ok(Some(byte)) if byte.is_ascii() => Some(Ok(char::from(byte))),
            Ok(Some(byte)) => Some(self.multibyte(byte)),
            Err(error) => Some(Err(error)),
        }
    }
}

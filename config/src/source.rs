//! A configuration text with its name and format, and the way from byte offsets to lines and columns.
//!
//! Does not read files: whoever has the text makes the [`Source`].

use std::path::Path;

/// How a text is written. The same keys in all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// TOML 1.0 without dates.
    Toml,
    /// YAML 1.2 core schema, one document, without anchors, aliases and tags.
    Yaml,
    /// JSON (RFC 8259), strict.
    Json,
}

impl Format {
    /// The format of a file by its extension: `toml`, `yaml`, `yml` or `json`; `None` for any other.
    pub fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Format::Toml),
            "yaml" | "yml" => Some(Format::Yaml),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// A text to be built. Made by control, `ekiden check` and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name for errors, usually the path as the user gave it.
    pub file: String,
    /// The whole text. At most [`TEXT_MAX`] bytes are accepted.
    pub text: String,
    /// How it is written.
    pub format: Format,
}

/// Largest accepted text, in bytes. Chosen so that 100,000 endpoints written as tables fit several times.
pub const TEXT_MAX: usize = 64 << 20;

/// A half-open range of byte offsets into a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// A span from its ends; an end before the start is moved to it.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Its place without its length: for a finding about a whole file.
    pub(crate) fn first(self) -> Self {
        Self { start: self.start, end: self.start }
    }
}

/// Where a byte offset lies, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place<'t> {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// The line without its end.
    pub(crate) text: &'t str,
    /// Byte offset of the line's first byte.
    pub(crate) line_start: usize,
}

/// Line starts of one text, so that each diagnostic costs a search and not a scan.
#[derive(Debug)]
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let mut starts = vec![0];
        starts.extend(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        Self { text, starts }
    }

    /// The place of an offset; offsets past the end or inside a character are moved to the left.
    pub(crate) fn place(&self, offset: usize) -> Place<'t> {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let index = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let line_start = self.starts.get(index).copied().unwrap_or(0);
        let line_end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
        let text = self.text.get(line_start..line_end).unwrap_or("").trim_end_matches(['\n', '\r']);
        let column = self.text.get(line_start..offset).unwrap_or("").chars().count() + 1;
        Place { line: index + 1, column, text, line_start }
    }
}

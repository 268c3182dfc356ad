//! What a value may look like, as data: the source of the schema and of the reference page.

/// The form of a value with its bounds.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// A text of so many bytes.
    Text { min: u64, max: u64 },
    /// `true` or `false`.
    Flag,
    /// An integer.
    Count { min: u64, max: u64 },
    /// A text such as `"500ms"`; bounds in milliseconds.
    Duration { min: u64, max: u64 },
    /// Bytes: an integer or a text such as `"64KiB"`; bounds in bytes.
    Size { min: u64, max: u64 },
    /// A text such as `"100/s"`; bounds of its number.
    Rate { min: u64, max: u64 },
    /// A number with up to two decimals; bounds in hundredths.
    Factor { min: u64, max: u64 },
    /// One of these words.
    Words(Vec<&'static str>),
    /// A range of statuses.
    Status,
    /// A list of so many.
    List { of: Box<Shape>, min: u64, max: u64 },
    /// A table whose keys are names.
    Map(Box<Shape>),
    /// A table of known keys.
    Table(TableShape),
    /// Any one of these.
    Either(Vec<Shape>),
}

/// A table of known keys.
#[derive(Debug, Clone)]
pub(crate) struct TableShape {
    /// How it is named in errors and in the reference.
    pub(crate) title: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
    /// Its keys in the order of documentation.
    pub(crate) keys: Vec<KeyShape>,
}

/// One key.
#[derive(Debug, Clone)]
pub(crate) struct KeyShape {
    /// As written in the file.
    pub(crate) key: &'static str,
    /// What it does.
    pub(crate) doc: &'static str,
    /// Default in words or as written; `required` when there is none.
    pub(crate) default: &'static str,
    /// What may be written.
    pub(crate) shape: Shape,
}

impl KeyShape {
    /// Whether the key must be written.
    pub(crate) fn required(&self) -> bool {
        super::table::is_required(self.default)
    }
}

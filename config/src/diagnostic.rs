//! What is wrong with a configuration, for people and for machines: place, source line with a caret, stable code,
//! message and advice. Decides nothing; `Report` collects what the other modules find in one file.

use std::fmt;

use serde_json::{Value, json};

use crate::source::{Lines, Source, Span};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file (or the app) is not taken.
    Error,
    /// Taken, but probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// One finding. `Display` renders it with the source line and a caret; several lines, no final line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable snake_case code, such as `unknown_key`. A promise: never reused for another meaning.
    pub code: &'static str,
    /// The file as named in its [`Source`].
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// The bytes concerned.
    pub span: Span,
    /// What is wrong, one sentence without final dot.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line concerned, cut to at most [`LINE_MAX`] characters around the caret.
    pub source_line: String,
    /// First marked character of `source_line`, from 0.
    pub caret: usize,
    /// Number of marked characters, at least 1.
    pub width: usize,
}

/// Longest excerpt of a source line, in characters.
pub const LINE_MAX: usize = 160;

/// Most findings kept of one file; the rest is counted only. A file of a million errors must not need the memory
/// of a million diagnostics.
pub const FINDINGS_MAX: usize = 1000;

impl Diagnostic {
    /// A finding about something that a text names, such as a file, made by who looked at that thing. Points at the first
    /// place where the text has `named`.
    pub fn about(
        source: &Source,
        named: &str,
        severity: Severity,
        code: &'static str,
        message: String,
        help: &str,
    ) -> Option<Self> {
        let start = source.text.find(named).unwrap_or(0);
        let mut report = Report::new(source);
        let span = Span::new(start, start + named.len());
        report.note(severity, span, code, message, Some(help.to_owned()));
        report.into_findings().pop()
    }

    /// Machine form, the shape that `ekiden check --format json` prints.
    pub fn to_json(&self) -> Value {
        json!({
            "severity": self.severity.to_string(),
            "code": self.code,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "span": [self.span.start, self.span.end],
            "message": self.message,
            "help": self.help,
            "source_line": self.source_line,
        })
    }

    /// Whether it keeps the file or app from being taken.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs in the padding, so that the caret stands under its character at any tab width.
        let pad: String =
            self.source_line.chars().take(self.caret).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{}[{}]: {}", self.severity, self.code, self.message)?;
        writeln!(f, "{margin}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", self.source_line)?;
        write!(f, "{margin} | {pad}{}", "^".repeat(self.width))?;
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// Collects the findings of one file. Everything that reads a file writes here and goes on.
#[derive(Debug)]
pub(crate) struct Report<'s> {
    source: &'s Source,
    lines: Lines<'s>,
    findings: Vec<Diagnostic>,
    errors: usize,
    dropped: usize,
    /// The code of a finding that is none here.
    forgiven: Option<&'static str>,
}

impl<'s> Report<'s> {
    pub(crate) fn new(source: &'s Source) -> Self {
        Self {
            source,
            lines: Lines::new(&source.text),
            findings: Vec::new(),
            errors: 0,
            dropped: 0,
            forgiven: None,
        }
    }

    /// From here on findings of this code are none.
    pub(crate) fn forgive(&mut self, code: &'static str) {
        self.forgiven = Some(code);
    }

    /// Notes an error without advice.
    pub(crate) fn error(&mut self, span: Span, code: &'static str, message: impl Into<String>) {
        self.note(Severity::Error, span, code, message.into(), None);
    }

    /// Notes an error with advice.
    pub(crate) fn error_help(
        &mut self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.note(Severity::Error, span, code, message.into(), Some(help.into()));
    }

    /// Notes an error whose advice may be absent, such as "did you mean".
    pub(crate) fn error_maybe(
        &mut self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.note(Severity::Error, span, code, message.into(), help);
    }

    /// Notes a warning with advice.
    pub(crate) fn warning(
        &mut self,
        span: Span,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.note(Severity::Warning, span, code, message.into(), Some(help.into()));
    }

    /// Whether any error was noted.
    pub(crate) fn failed(&self) -> bool {
        self.errors > 0
    }

    /// The line, from 1, in which a span begins; for "first in line N".
    pub(crate) fn line(&self, span: Span) -> usize {
        self.lines.place(span.start).line
    }

    /// Number of errors noted so far, to tell whether a part was read cleanly.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// The findings in the order of the text.
    pub(crate) fn into_findings(mut self) -> Vec<Diagnostic> {
        self.findings.sort_by_key(|d| (d.span.start, d.severity));
        if self.dropped > 0
            && let Some(last) = self.findings.last_mut()
        {
            let more = format!("{} more findings in this file are not shown", self.dropped);
            last.help = Some(last.help.take().map_or(more.clone(), |help| format!("{help}; {more}")));
        }
        self.findings
    }

    fn note(
        &mut self,
        severity: Severity,
        span: Span,
        code: &'static str,
        message: String,
        help: Option<String>,
    ) {
        if self.forgiven == Some(code) {
            return;
        }
        if severity == Severity::Error {
            self.errors += 1;
        }
        if self.findings.len() >= FINDINGS_MAX {
            self.dropped += 1;
            return;
        }
        let place = self.lines.place(span.start);
        let marked = self.source.text.get(span.start..span.end).unwrap_or("");
        let marked = marked.lines().next().unwrap_or("").chars().count();
        let (source_line, caret) = excerpt(place.text, place.column - 1);
        let width = marked.min(source_line.chars().count().saturating_sub(caret)).max(1);
        self.findings.push(Diagnostic {
            severity,
            code,
            file: self.source.file.clone(),
            line: place.line,
            column: place.column,
            span,
            message,
            help,
            source_line,
            caret,
            width,
        });
    }
}

/// The part of a line around a character, and where that character stands in it.
fn excerpt(line: &str, caret: usize) -> (String, usize) {
    // Control characters (a stray escape or NUL) must not reach a terminal.
    let clean = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    if line.chars().count() <= LINE_MAX {
        return (line.chars().map(clean).collect(), caret);
    }
    let from = caret.saturating_sub(LINE_MAX / 4);
    (line.chars().skip(from).take(LINE_MAX).map(clean).collect(), caret - from)
}

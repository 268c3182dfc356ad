//! Tests of diff and apply.

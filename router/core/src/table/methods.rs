//! Methods of rules as bit sets, so that a rule that lists methods costs one test of a word.

use std::fmt;
use std::sync::Arc;

use ekiden_config::model::Route;

/// Registered methods, by bit.
const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
/// Methods of the rules of one host beside [`KNOWN`] that have a bit of their own; more share one bit.
const CUSTOM_MAX: usize = 48;
/// The bit of methods that have none of their own: decided by comparing texts.
const OTHER: u64 = 1 << 63;
/// The methods of a rule that lists none.
const ALL: u64 = u64::MAX;

/// The methods that the rules of one host list beside the registered ones.
#[derive(Debug, Default)]
pub(super) struct CustomMethods(Vec<Arc<str>>);

impl CustomMethods {
    /// The set of a rule; gives new methods their bits. A rule that lists GET takes HEAD as well, as RFC 9110 section
    /// 9.1 asks every server to support both.
    pub(super) fn add(&mut self, route: &Route) -> MethodSet {
        if route.methods.is_empty() {
            return MethodSet(ALL);
        }
        let mut set = 0;
        for method in &route.methods {
            if known(method).is_none() && self.position(method).is_none() && self.0.len() < CUSTOM_MAX {
                self.0.push(method.clone());
            }
            set |= self.bit(method);
        }
        let get = self.bit("GET");
        if set & get != 0 {
            set |= self.bit("HEAD");
        }
        MethodSet(set)
    }

    fn position(&self, method: &str) -> Option<usize> {
        self.0.iter().position(|custom| **custom == *method)
    }

    /// The bit of a method.
    pub(super) fn bit(&self, method: &str) -> u64 {
        match known(method) {
            Some(index) => 1 << index,
            None => self.position(method).map_or(OTHER, |index| 1 << (KNOWN.len() + index)),
        }
    }
}

fn known(method: &str) -> Option<usize> {
    KNOWN.iter().position(|name| *name == method)
}

/// The methods that a rule takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct MethodSet(u64);

impl MethodSet {
    pub(super) const NONE: Self = Self(0);

    /// Whether the rule takes the method, whose bit is given.
    pub(super) fn takes(self, bit: u64, method: &str, route: &Route) -> bool {
        if self.0 == ALL {
            return true;
        }
        self.0 & bit != 0 && (bit != OTHER || route.methods.iter().any(|listed| **listed == *method))
    }

    /// Both sets together.
    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The value of `Allow`: the methods of all rules that failed by method only. Shown by `Display`, joined by `, `.
#[derive(Debug, Clone, Copy)]
pub struct Allow<'t> {
    pub(super) set: MethodSet,
    pub(super) custom: &'t CustomMethods,
}

impl<'t> Allow<'t> {
    /// The methods, registered ones first. Of more than 48 unregistered methods on one host the later ones are left
    /// out.
    pub fn methods(self) -> impl Iterator<Item = &'t str> {
        let names = KNOWN.into_iter().chain(self.custom.0.iter().map(|method| &**method));
        names.enumerate().filter(move |(index, _)| self.set.0 & 1 << index != 0).map(|(_, name)| name)
    }
}

impl fmt::Display for Allow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, method) in self.methods().enumerate() {
            let joint = if index == 0 { "" } else { ", " };
            write!(f, "{joint}{method}")?;
        }
        Ok(())
    }
}

impl PartialEq for Allow<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.methods().eq(other.methods())
    }
}

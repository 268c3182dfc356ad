//! The rules of one host: a tree of path segments that holds exact paths and prefixes, and a list of expressions.
//!
//! One walk down the tree finds the exact path and every prefix of it; its length is bounded by the longest path that
//! a rule names, whatever the request holds. Rules come in sorted ([`super::order`]) and keep their order.

use std::sync::Arc;

use ekiden_config::model::PathMatch;
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher as _;

use super::methods::{Allow, CustomMethods, MethodSet};
use super::{Facts, RouteEntry, conditions};
use crate::edit::prefix_base;

/// The rules of one host on one listener.
#[derive(Debug, Clone)]
pub(super) enum HostPaths {
    /// One rule that takes every path and has no conditions: what most hosts of a platform have.
    One(Arc<RouteEntry>),
    /// Anything else.
    Many(Arc<PathIndex>),
}

/// What the rules of a host say about one path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Selection<'t> {
    Rule(&'t Arc<RouteEntry>),
    NotFound,
    MethodNotAllowed(Allow<'t>),
}

impl HostPaths {
    /// Makes the rules of a host from its entries, sorted. `None` when there are none.
    pub(super) fn new(entries: &[Arc<RouteEntry>]) -> Option<Self> {
        match entries {
            [] => None,
            [only] if takes_all(only) => Some(Self::One(only.clone())),
            _ => Some(Self::Many(Arc::new(PathIndex::new(entries)))),
        }
    }

    /// Every rule, those first whose path fits. Not for workers.
    pub(super) fn list<'t>(&'t self, path: &str, facts: &Facts<'_>) -> Vec<Met<'t>> {
        match self {
            Self::One(entry) => vec![Met { entry, path: true, method: true }],
            Self::Many(index) => index.list(path, facts),
        }
    }

    /// The first rule that takes the request with this path.
    pub(super) fn select<'t>(&'t self, path: &str, facts: &Facts<'_>) -> Selection<'t> {
        match self {
            Self::One(entry) => Selection::Rule(entry),
            Self::Many(index) => index.select(path, facts),
        }
    }
}

fn takes_all(entry: &RouteEntry) -> bool {
    let route = &entry.route;
    let root = matches!(&route.path, PathMatch::Prefix(prefix) if prefix_base(prefix).is_empty());
    root && route.methods.is_empty() && !conditions::any(route)
}

#[derive(Debug)]
struct Rule {
    entry: Arc<RouteEntry>,
    methods: MethodSet,
    conditional: bool,
}

/// Index of a node that is not there.
const NONE: u32 = u32::MAX;
/// Children a node keeps in a list before it hashes them.
const LIST_MAX: usize = 8;

#[derive(Debug)]
struct Node {
    exact: Vec<Rule>,
    prefix: Vec<Rule>,
    /// The nearest node above that has prefix rules.
    up: u32,
    children: Children,
}

#[derive(Debug)]
enum Children {
    List(Vec<(Box<str>, u32)>),
    Table(HashTable<(Box<str>, u32)>),
}

fn segment_hash(segment: &str) -> u64 {
    FxBuildHasher.hash_one(segment)
}

impl Children {
    fn find(&self, segment: &str) -> Option<u32> {
        let is = |child: &&(Box<str>, u32)| *child.0 == *segment;
        match self {
            Self::List(list) => list.iter().find(is),
            Self::Table(table) => table.find(segment_hash(segment), |child| is(&child)),
        }
        .map(|child| child.1)
    }

    fn insert(&mut self, segment: &str, node: u32) {
        let child = (Box::from(segment), node);
        match self {
            Self::List(list) if list.len() < LIST_MAX => list.push(child),
            Self::List(list) => {
                let mut table = HashTable::with_capacity(2 * LIST_MAX);
                for child in list.drain(..).chain([child]) {
                    table.insert_unique(segment_hash(&child.0), child, |child| segment_hash(&child.0));
                }
                *self = Self::Table(table);
            }
            Self::Table(table) => {
                table.insert_unique(segment_hash(segment), child, |child| segment_hash(&child.0));
            }
        }
    }
}

/// The rules of a host that has more than one, or conditions.
#[derive(Debug)]
pub(super) struct PathIndex {
    /// The first is the root: the empty prefix.
    nodes: Vec<Node>,
    /// Expressions in order.
    regexes: Vec<Rule>,
    custom: CustomMethods,
}

/// Who is shown the rules whose path fits, in the order in which they are tried.
trait Judge<'t> {
    /// Whether the rule takes the request, so that no other is asked.
    fn takes(&mut self, rule: &'t Rule) -> bool;
}

/// What one selection carries from rule to rule.
struct Search<'a> {
    facts: &'a Facts<'a>,
    method_bit: u64,
    allow: MethodSet,
}

impl<'t> Judge<'t> for Search<'_> {
    /// Notes the methods of those that fail by method only.
    #[inline]
    fn takes(&mut self, rule: &'t Rule) -> bool {
        let method = rule.methods.takes(self.method_bit, self.facts.method, &rule.entry.route);
        let holds = !rule.conditional || conditions::hold(&rule.entry, self.facts);
        if holds && !method {
            self.allow = self.allow.with(rule.methods);
        }
        holds && method
    }
}

/// The first rule of the list that takes the request.
#[inline]
fn first<'t>(rules: &'t [Rule], judge: &mut impl Judge<'t>) -> Option<&'t Arc<RouteEntry>> {
    rules.iter().find(|rule| judge.takes(rule)).map(|rule| &rule.entry)
}

/// One rule of a host, as somebody sees it who wants to know of all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met<'t> {
    pub(super) entry: &'t Arc<RouteEntry>,
    /// Its path fits; the rules of which this is so come first, in the order in which they are tried.
    pub(super) path: bool,
    /// Its methods hold.
    pub(super) method: bool,
}

/// Takes note of every rule, and lets none take the request.
struct Listing<'a, 't> {
    facts: &'a Facts<'a>,
    method_bit: u64,
    path: bool,
    met: Vec<Met<'t>>,
}

impl<'t> Judge<'t> for Listing<'_, 't> {
    fn takes(&mut self, rule: &'t Rule) -> bool {
        if !self.met.iter().any(|met| Arc::ptr_eq(met.entry, &rule.entry)) {
            let method = rule.methods.takes(self.method_bit, self.facts.method, &rule.entry.route);
            self.met.push(Met { entry: &rule.entry, path: self.path, method });
        }
        false
    }
}

impl PathIndex {
    fn new(entries: &[Arc<RouteEntry>]) -> Self {
        let root =
            Node { exact: Vec::new(), prefix: Vec::new(), up: NONE, children: Children::List(Vec::new()) };
        let mut index = Self { nodes: vec![root], regexes: Vec::new(), custom: CustomMethods::default() };
        for entry in entries {
            let rule = Rule {
                entry: entry.clone(),
                methods: index.custom.add(&entry.route),
                conditional: conditions::any(&entry.route),
            };
            match &entry.route.path {
                PathMatch::Regex(_) => index.regexes.push(rule),
                PathMatch::Exact(path) => {
                    if let Some(node) = index.node_at(path) {
                        node.exact.push(rule);
                    }
                }
                PathMatch::Prefix(prefix) => {
                    if let Some(node) = index.node_at(prefix_base(prefix)) {
                        node.prefix.push(rule);
                    }
                }
            }
        }
        index.link_prefixes();
        index
    }

    /// The node of a path, made with all above it when it is not there; the empty path is the root.
    fn node_at(&mut self, path: &str) -> Option<&mut Node> {
        let mut at = 0;
        for segment in segments(path).into_iter().flatten() {
            let next = u32::try_from(self.nodes.len()).ok()?;
            let node = self.nodes.get_mut(at as usize)?;
            at = match node.children.find(segment) {
                Some(child) => child,
                None => {
                    node.children.insert(segment, next);
                    let children = Children::List(Vec::new());
                    self.nodes.push(Node { exact: Vec::new(), prefix: Vec::new(), up: at, children });
                    next
                }
            };
        }
        self.nodes.get_mut(at as usize)
    }

    /// Turns `up` from the parent into the nearest node above with prefix rules. Parents stand before children.
    fn link_prefixes(&mut self) {
        for at in 1..self.nodes.len() {
            let parent = self.nodes.get(at).map_or(NONE, |node| node.up);
            let up = self
                .nodes
                .get(parent as usize)
                .map_or(NONE, |node| if node.prefix.is_empty() { node.up } else { parent });
            if let Some(node) = self.nodes.get_mut(at) {
                node.up = up;
            }
        }
    }

    /// The deepest node on the way of the path, and whether it is the path's end.
    fn walk(&self, path: &str) -> Option<(&Node, bool)> {
        let mut node = self.nodes.first()?;
        let Some(segments) = segments(path) else {
            return Some((node, path.is_empty()));
        };
        for segment in segments {
            match node.children.find(segment).and_then(|child| self.nodes.get(child as usize)) {
                Some(child) => node = child,
                None => return Some((node, false)),
            }
        }
        Some((node, true))
    }

    fn select<'t>(&'t self, path: &str, facts: &Facts<'_>) -> Selection<'t> {
        let mut search = Search { facts, method_bit: self.custom.bit(facts.method), allow: MethodSet::NONE };
        match self.search(path, &mut search) {
            Some(entry) => Selection::Rule(entry),
            None if search.allow.is_empty() => Selection::NotFound,
            None => Selection::MethodNotAllowed(Allow { set: search.allow, custom: &self.custom }),
        }
    }

    fn list<'t>(&'t self, path: &str, facts: &Facts<'_>) -> Vec<Met<'t>> {
        let mut listing =
            Listing { facts, method_bit: self.custom.bit(facts.method), path: true, met: Vec::new() };
        let _none_takes_it = self.search(path, &mut listing);
        listing.path = false;
        let nodes = self.nodes.iter().flat_map(|node| node.exact.iter().chain(&node.prefix));
        for rule in nodes.chain(&self.regexes) {
            listing.takes(rule);
        }
        listing.met
    }

    #[inline]
    fn search<'t>(&'t self, path: &str, judge: &mut impl Judge<'t>) -> Option<&'t Arc<RouteEntry>> {
        let (deepest, whole) = self.walk(path)?;
        if whole && let Some(entry) = first(&deepest.exact, judge) {
            return Some(entry);
        }
        for rule in &self.regexes {
            let matches = match &rule.entry.route.path {
                PathMatch::Regex(expression) => expression.regex.is_match(path),
                PathMatch::Exact(_) | PathMatch::Prefix(_) => false,
            };
            if matches && judge.takes(rule) {
                return Some(&rule.entry);
            }
        }
        let mut node = deepest;
        loop {
            if let Some(entry) = first(&node.prefix, judge) {
                return Some(entry);
            }
            node = self.nodes.get(node.up as usize)?;
        }
    }
}

/// The segments of a path; `None` when it does not begin with `/` (the empty path, and `*`).
fn segments(path: &str) -> Option<std::str::Split<'_, char>> {
    path.strip_prefix('/').map(|below| below.split('/'))
}

//! What differs between two tables, by pointer: the clusters that a swap really touched.
//!
//! Costs one pointer comparison for each app slot and, in a changed app, one for each cluster. Compares no contents.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{AppTable, Table};
use crate::cluster::ClusterTable;

impl Table {
    /// Tells `visit` of each cluster that is not the same object in `before` and in this table: as it was, as it is.
    /// One of the two is always there. Called by the swapper, for each new table, and by the prober, whose tables may be
    /// some generations apart.
    pub fn changed_clusters(
        &self,
        before: &Table,
        mut visit: impl FnMut(Option<&Arc<ClusterTable>>, Option<&Arc<ClusterTable>>),
    ) {
        for slot in 0..before.apps.len().max(self.apps.len()) {
            let was = before.apps.get(slot).and_then(Option::as_ref);
            let is = self.apps.get(slot).and_then(Option::as_ref);
            match (was, is) {
                (Some(was), Some(is)) if Arc::ptr_eq(was, is) => {}
                (Some(was), Some(is)) if was.app.name == is.app.name => changed(was, is, &mut visit),
                // A slot that another app has taken over: all of the one leave, all of the other are new.
                (was, is) => {
                    was.iter().flat_map(|app| &app.clusters).for_each(|old| visit(Some(old), None));
                    is.iter().flat_map(|app| &app.clusters).for_each(|new| visit(None, Some(new)));
                }
            }
        }
    }
}

/// Walks the clusters of both, which are sorted by name, once.
fn changed(
    before: &AppTable,
    after: &AppTable,
    visit: &mut impl FnMut(Option<&Arc<ClusterTable>>, Option<&Arc<ClusterTable>>),
) {
    let mut old = before.clusters.iter().peekable();
    let mut new = after.clusters.iter().peekable();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) if Arc::ptr_eq(was, is) => Ordering::Equal,
            (Some(was), Some(is)) => was.cluster.name.cmp(&is.cluster.name),
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { new.next() } else { None };
        match (was, is) {
            (Some(was), Some(is)) if Arc::ptr_eq(was, is) => {}
            (was, is) => visit(was, is),
        }
    }
}

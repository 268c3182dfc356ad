//! Makes tables from Models, off the workers. What is pointer-equal in two Models is shared by their tables.
//!
//! Owns the registry of cells, so that counters and endpoint states go on from table to table. Publishes nothing and
//! marks nothing gone; the router does, in that order.

use std::collections::BTreeMap;
use std::sync::Arc;

use ekiden_config::diff::changed_apps;
use ekiden_config::doors::{Generation, Refusal};
use ekiden_config::model::{App, HostMatch, Model, Place};
use ekiden_config::names::AppName;
use rustc_hash::FxHashSet;

use super::listeners::{Claims, listener_tables};
use super::routes::{AppPart, AppRoutes};
use super::{AppTable, Table};
use crate::cell::{CellRegistry, EndpointCell};
use crate::overload::hold::HoldGate;
use crate::shard::hot::HotBoard;

/// What a compile made.
#[derive(Debug)]
pub struct Compiled {
    /// The new table.
    pub table: Arc<Table>,
    /// Endpoints of the table before that are not in this one: to be marked gone before it is published.
    pub removed: Vec<Arc<EndpointCell>>,
    /// Lines of apps that are held no more: to go on when it is published.
    pub released: Vec<Arc<HoldGate>>,
    /// Apps that kept their last good version (or stay out, if they never had one).
    pub refused: Vec<Refusal>,
}

/// Makes one table after another, each from the one before. One per process, on the thread that publishes.
#[derive(Debug)]
pub struct Compiler {
    registry: CellRegistry,
    /// The Model offered last: what the next one is compared with.
    offered: Arc<Model>,
    apps: BTreeMap<AppName, AppPart>,
    refused: BTreeMap<AppName, Refusal>,
    claims: Claims,
    free_slots: Vec<u32>,
    table: Arc<Table>,
}

impl Compiler {
    /// A compiler for a process with this number of workers, before any Model.
    pub fn new(workers: usize) -> Self {
        Self {
            registry: CellRegistry::new(workers),
            offered: Arc::new(Model::empty()),
            apps: BTreeMap::new(),
            refused: BTreeMap::new(),
            claims: Claims::default(),
            free_slots: Vec::new(),
            table: Arc::new(Table::empty()),
        }
    }

    /// Sets the time that new cells carry, in milliseconds since the Unix epoch. Called before each compile.
    pub fn set_now(&mut self, unix_ms: u64) {
        self.registry.set_now(unix_ms);
    }

    /// Sets the secret of the hashes of limits' keys, from a source of randomness. Called once, before the first compile.
    pub fn set_seed(&mut self, seed: [u64; 2]) {
        self.registry.set_seed(seed);
    }

    /// Sets where this router stands among others. Called once, before the first compile.
    pub fn set_place(&mut self, place: &Place) {
        self.registry.set_place(place);
    }

    /// The clusters that are watched for hot keys.
    pub fn hot_board(&self) -> &Arc<HotBoard> {
        self.registry.hot_board()
    }

    /// The table made last.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Makes the table of a Model.
    ///
    /// Cost: a copy of the list of apps, by pointer; per changed app a comparison of pointers per cluster; the endpoints of changed
    /// clusters; and when routes changed, the app's routes, the rules of the hosts they touch and a copy of the shards these fall
    /// into (1/256 of a listener's hosts each). A change of endpoints touches no host index.
    pub fn compile(&mut self, model: &Arc<Model>, generation: Generation) -> Compiled {
        let offered = std::mem::replace(&mut self.offered, model.clone());
        let changes = changed_apps(&offered, model);
        let mut slots = self.table.apps.clone();
        let mut touched = FxHashSet::default();
        let mut is_other = false;
        for (was, is) in &changes {
            if let (Some(was), None) = (was, is) {
                self.remove(&was.name, &mut slots, &mut touched);
                is_other = true;
            }
        }
        if is_other {
            let apps = &self.apps;
            self.registry.retain_apps(|name| apps.contains_key(name));
        }
        let mut other_routes = is_other;
        for (was, is) in changes {
            let Some(app) = is else { continue };
            is_other |= was.is_none();
            self.refused.remove(&app.name);
            match self.update(app, &mut slots, &mut touched) {
                Ok(changed) => other_routes |= changed,
                Err(refusal) => drop(self.refused.insert(app.name.clone(), refusal)),
            }
        }
        let maker = self.registry.limit_maker();
        let listeners =
            listener_tables(model, &self.table.listeners, &self.claims, &touched, &self.apps, maker);
        let names = if is_other || self.apps.len() != self.table.slots.len() {
            Arc::new(self.apps.iter().map(|(name, part)| (name.clone(), part.slot)).collect())
        } else {
            self.table.slots.clone()
        };
        let routes: Arc<[Arc<AppRoutes>]> = if other_routes {
            self.apps.values().map(|part| part.routes.clone()).collect()
        } else {
            self.table.routes.clone()
        };
        let asks_claims = match other_routes {
            true => routes.iter().any(|routes| routes.asks_claims),
            false => self.table.asks_claims,
        };
        self.table =
            Arc::new(Table { generation, listeners, apps: slots, slots: names, routes, asks_claims });
        Compiled {
            table: self.table.clone(),
            removed: self.registry.take_removed(),
            released: self.registry.take_released(),
            refused: self.refused.values().cloned().collect(),
        }
    }

    fn remove(
        &mut self,
        name: &AppName,
        slots: &mut [Option<Arc<AppTable>>],
        touched: &mut FxHashSet<HostMatch>,
    ) {
        self.refused.remove(name);
        let Some(part) = self.apps.remove(name) else { return };
        self.claims.update(name, &part.routes, &AppRoutes::default(), true, touched);
        if let Some(slot) = slots.get_mut(part.slot as usize) {
            *slot = None;
            self.free_slots.push(part.slot);
        }
    }

    /// Takes an app in; whether its routes are others.
    fn update(
        &mut self,
        app: &Arc<App>,
        slots: &mut Vec<Option<Arc<AppTable>>>,
        touched: &mut FxHashSet<HostMatch>,
    ) -> Result<bool, Refusal> {
        let before = self.apps.get(&app.name);
        let slot = match before {
            Some(part) => part.slot,
            None => self.free_slots.last().copied().unwrap_or(u32::try_from(slots.len()).unwrap_or(u32::MAX)),
        };
        let part = AppPart::new(slot, app, before, &mut self.registry)?;
        let other_routes = before.is_none_or(|before| !Arc::ptr_eq(&before.routes, &part.routes));
        match before {
            Some(before) => {
                let all = before.table.app.share_hosts_with != app.share_hosts_with;
                if all || other_routes {
                    self.claims.update(&app.name, &before.routes, &part.routes, all, touched);
                }
            }
            None => {
                self.claims.update(&app.name, &AppRoutes::default(), &part.routes, true, touched);
                self.free_slots.pop();
            }
        }
        match slots.get_mut(slot as usize) {
            Some(place) => *place = Some(part.table.clone()),
            None => slots.push(Some(part.table.clone())),
        }
        self.apps.insert(app.name.clone(), part);
        Ok(other_routes)
    }
}

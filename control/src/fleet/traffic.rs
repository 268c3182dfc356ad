//! What ends of apps over all routers that are elsewhere: routers tell it of the apps that are watched, and of no others.
//!
//! Pure; times are arguments. What a router had counted before its link says nothing of what ends now: the first that it tells is
//! where its count begins, so that routers may come, go and begin anew. Bounded: apps, and what is known of each router; of more
//! routers than that some are enough to judge by.

use std::collections::BTreeMap;
use std::time::Instant;

use ekiden_config::doors::AppTraffic;
use ekiden_config::names::AppName;

use super::wire::{AppCounts, Counts, Traffic};

/// Apps watched at a time, at most.
pub(crate) const WATCHED_MAX: usize = 200;
/// Buckets of a router's counts; more are not taken.
const BUCKETS_MAX: usize = 64;
/// Counts of one app by one router, over all apps and routers.
const TOLD_MAX: usize = 50_000;
/// A router that has counted more has counted wrong, and is taken for one that has counted this.
const COUNT_MAX: u64 = 1 << 40;
/// As much over all routers: sums of sums are numbers still.
const TOTAL_MAX: u64 = 1 << 50;

/// An app that is watched.
#[derive(Debug)]
struct Watched {
    until: Instant,
    /// What has ended since, over all routers.
    total: AppTraffic,
    /// What each link told last.
    told: BTreeMap<u64, Told>,
}

#[derive(Debug)]
struct Told {
    last: AppTraffic,
    /// What had ended lately, as the router remembers it.
    before: AppTraffic,
}

/// Apps that are watched, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Watches {
    apps: BTreeMap<AppName, Watched>,
    /// Over all apps.
    count: usize,
}

impl Watches {
    /// Has an app watched until then, or longer; whether that is new. The error: too many are.
    pub(super) fn watch(&mut self, app: &AppName, until: Instant) -> Result<bool, ()> {
        if let Some(watched) = self.apps.get_mut(app) {
            watched.until = watched.until.max(until);
            return Ok(false);
        }
        if self.apps.len() >= WATCHED_MAX {
            return Err(());
        }
        let watched = Watched { until, total: AppTraffic::default(), told: BTreeMap::new() };
        self.apps.insert(app.clone(), watched);
        Ok(true)
    }

    /// Ends what is watched no longer, and names it.
    pub(super) fn prune(&mut self, now: Instant) -> Vec<AppName> {
        let over = self.apps.iter().filter(|(_, watched)| watched.until <= now);
        let over: Vec<AppName> = over.map(|(app, _)| app.clone()).collect();
        for app in &over {
            self.count -= self.apps.remove(app).map_or(0, |watched| watched.told.len());
        }
        over
    }

    /// Nothing is watched.
    pub(super) fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }

    /// Takes what a router tells over a link.
    pub(super) fn told(&mut self, link: u64, traffic: Traffic) {
        let Traffic { mut bounds_us, apps } = traffic;
        bounds_us.truncate(BUCKETS_MAX);
        let whole = |Counts { requests, errors, mut buckets }: Counts| {
            buckets.truncate(bounds_us.len() + 1);
            buckets.iter_mut().for_each(|count| *count = (*count).min(COUNT_MAX));
            let (requests, errors) = (requests.min(COUNT_MAX), errors.min(COUNT_MAX));
            AppTraffic { requests, errors, buckets, bounds_us: bounds_us.clone() }
        };
        for AppCounts { app, now, before } in apps {
            let Some(watched) = AppName::new(&app).ok().and_then(|app| self.apps.get_mut(&app)) else {
                continue;
            };
            let (now, before) = (whole(now), whole(before));
            match watched.told.get_mut(&link) {
                Some(told) => {
                    add(&mut watched.total, &now.since(&told.last));
                    *told = Told { last: now, before };
                }
                None if self.count < TOLD_MAX => {
                    self.count += 1;
                    watched.told.insert(link, Told { last: now, before });
                }
                None => {}
            }
        }
    }

    /// A link has ended: what its router had before the app was changed is remembered nowhere else.
    pub(super) fn left(&mut self, link: u64) {
        for watched in self.apps.values_mut() {
            self.count -= usize::from(watched.told.remove(&link).is_some());
        }
    }

    /// Whether a router has told of an app over this link, or is one too many.
    pub(super) fn has_told(&self, link: u64, app: &AppName) -> bool {
        self.count >= TOLD_MAX || self.apps.get(app).is_some_and(|watched| watched.told.contains_key(&link))
    }

    /// What has ended of each app since it is watched.
    pub(super) fn totals(&self) -> BTreeMap<AppName, AppTraffic> {
        self.apps.iter().map(|(app, watched)| (app.clone(), watched.total.clone())).collect()
    }

    /// What had ended of an app lately, by what routers remember.
    pub(super) fn before(&self, app: &AppName) -> AppTraffic {
        let mut sum = AppTraffic::default();
        let told = self.apps.get(app).into_iter().flat_map(|watched| watched.told.values());
        told.for_each(|told| add(&mut sum, &told.before));
        sum
    }
}

/// Adds counts. Times that were sorted into other buckets, by a router of another version, are left out.
fn add(sum: &mut AppTraffic, more: &AppTraffic) {
    let plus = |sum: u64, more: u64| sum.saturating_add(more).min(TOTAL_MAX);
    sum.requests = plus(sum.requests, more.requests);
    sum.errors = plus(sum.errors, more.errors);
    if sum.bounds_us.is_empty() {
        sum.bounds_us.clone_from(&more.bounds_us);
        sum.buckets = vec![0; more.bounds_us.len() + 1];
    }
    if sum.bounds_us == more.bounds_us {
        let pairs = sum.buckets.iter_mut().zip(&more.buckets);
        pairs.for_each(|(sum, more)| *sum = plus(*sum, *more));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(text: &str) -> AppName {
        AppName::new(text).unwrap()
    }

    fn counts(requests: u64, errors: u64) -> Counts {
        Counts { requests, errors, buckets: vec![requests, 0, 0] }
    }

    fn tell(watches: &mut Watches, link: u64, app: &str, requests: u64, errors: u64) {
        let (now, before) = (counts(requests, errors), counts(10, 1));
        let apps = vec![AppCounts { app: app.to_owned(), now, before }];
        watches.told(link, Traffic { bounds_us: vec![1_000, 2_000], apps });
    }

    #[test]
    fn what_ends_is_summed_over_routers_that_come_go_and_begin_anew() {
        let (mut watches, now) = (Watches::default(), Instant::now());
        let shop = name("shop");
        let later = now + Duration::from_secs(1);
        assert_eq!((watches.watch(&shop, now), watches.watch(&shop, later)), (Ok(true), Ok(false)));
        tell(&mut watches, 1, "shop", 1_000, 500);
        tell(&mut watches, 2, "shop", 70, 0);
        tell(&mut watches, 2, "blog", 70, 0);
        assert_eq!(
            watches.totals()[&shop].requests,
            0,
            "what was counted before it was watched says nothing"
        );
        assert!(watches.has_told(1, &shop) && !watches.has_told(3, &shop));
        let before = watches.before(&shop);
        assert_eq!((before.requests, before.errors, before.buckets), (20, 2, vec![20, 0, 0]));
        tell(&mut watches, 1, "shop", 1_010, 501);
        tell(&mut watches, 2, "shop", 75, 0);
        let total = watches.totals()[&shop].clone();
        assert_eq!((total.requests, total.errors, total.buckets), (15, 1, vec![15, 0, 0]));
        // It was killed: it counts from nothing, and its new link begins there.
        watches.left(1);
        tell(&mut watches, 3, "shop", 4, 4);
        tell(&mut watches, 3, "shop", 6, 5);
        assert_eq!((watches.totals()[&shop].requests, watches.totals()[&shop].errors), (17, 2));
        assert_eq!(watches.totals().len(), 1);
        assert_eq!(watches.prune(now), []);
        assert_eq!(watches.prune(later), [shop]);
        assert_eq!((watches.is_empty(), watches.count), (true, 0));
    }

    #[test]
    fn what_is_told_is_bounded() {
        let (mut watches, now) = (Watches::default(), Instant::now());
        for at in 0..WATCHED_MAX {
            assert_eq!(watches.watch(&name(&format!("a{at}")), now), Ok(true));
        }
        assert_eq!(watches.watch(&name("shop"), now), Err(()));
        for link in 0..(TOLD_MAX / WATCHED_MAX + 3) as u64 {
            for at in 0..WATCHED_MAX {
                tell(&mut watches, link, &format!("a{at}"), 1, 1);
            }
        }
        assert_eq!(watches.count, TOLD_MAX);
        assert!(watches.has_told(u64::MAX, &name("a0")), "nobody waits for one that is too many");
        // Other bounds are no reason to stop counting.
        let wide = Counts { requests: 7, errors: 1, buckets: vec![1; 1_000] };
        let apps = || vec![AppCounts { app: "a1".to_owned(), now: wide.clone(), before: counts(0, 0) }];
        watches.told(1, Traffic { bounds_us: vec![1; 1_000], apps: apps() });
        let total = watches.totals()[&name("a1")].clone();
        assert_eq!((total.requests, total.errors), (6, 0));
        // Nor are numbers that nobody can have counted.
        let wrong = Counts { requests: u64::MAX, errors: u64::MAX, buckets: vec![u64::MAX; 3] };
        let apps = || vec![AppCounts { app: "a1".to_owned(), now: wrong.clone(), before: wrong.clone() }];
        (0..9).for_each(|link| watches.told(link, Traffic { bounds_us: vec![1_000, 2_000], apps: apps() }));
        let (total, before) = (watches.totals()[&name("a1")].clone(), watches.before(&name("a1")));
        assert!(total.requests < 16 * COUNT_MAX && before.buckets.iter().sum::<u64>() < 64 * COUNT_MAX);
        watches.left(1);
        assert_eq!(watches.count, TOLD_MAX - WATCHED_MAX);
    }
}

//! What a router tells control of the traffic of apps that control watches: what has ended since it has them, and what had ended
//! lately, which is remembered here, since control asks only when a change is about to be made.
//!
//! Asked every second; tells what is new and a bounded number of apps at once, the others next. Where nothing is watched it looks at its
//! counts twice a minute and says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use ekiden_config::doors::{AppTraffic, Inspect};
use ekiden_config::names::AppName;
use tokio::time::Instant;

use super::wire::{AppCounts, Counts, Traffic};
use crate::guarded::{PERIOD, Samples};

/// Apps told of in one line.
const APPS_AT_ONCE: usize = 50;

/// The counts of this router, and what control knows of them.
pub(super) struct Counting {
    inspect: Arc<dyn Inspect>,
    samples: Samples,
    sample_at: Instant,
    /// What control was told over this link: now, and lately.
    told: BTreeMap<AppName, (AppTraffic, AppTraffic)>,
    /// The app that ended the last line.
    last: Option<AppName>,
}

impl Counting {
    /// Of this router. Nothing is told yet.
    pub(super) fn new(inspect: Arc<dyn Inspect>, now: Instant) -> Self {
        Self {
            inspect,
            samples: Samples::default(),
            sample_at: now + PERIOD,
            told: BTreeMap::new(),
            last: None,
        }
    }

    /// A link begins: control knows nothing.
    pub(super) fn begin(&mut self) {
        self.told.clear();
    }

    /// Remembers what has ended so far, when it is time for that.
    pub(super) fn sample(&mut self, now: Instant) {
        if now >= self.sample_at {
            self.sample_at = now + PERIOD;
            self.samples.note(self.inspect.traffic().unwrap_or_default());
        }
    }

    /// What control does not know of these apps; none when it knows all, or there is nothing that it wants to know.
    pub(super) fn news(&mut self, watched: &BTreeSet<AppName>) -> Option<Traffic> {
        self.told.retain(|app, _| watched.contains(app));
        if watched.is_empty() {
            return None;
        }
        let all = self.inspect.traffic()?;
        let mut traffic = Traffic::default();
        // Behind the last one, and round: none waits for ever.
        let behind = self.last.as_ref().map_or((Unbounded, Unbounded), |last| (Excluded(last), Unbounded));
        let up_to = self.last.iter().flat_map(|last| watched.range(..=last.clone()));
        let order: Vec<&AppName> = watched.range::<AppName, _>(behind).chain(up_to).collect();
        for app in order {
            let now = all.get(app).cloned().unwrap_or_default();
            let before = self.samples.lately(app, &now);
            let known = (now, before);
            if self.told.get(app) == Some(&known) {
                continue;
            }
            if traffic.bounds_us.is_empty() {
                traffic.bounds_us.clone_from(&known.0.bounds_us);
            }
            let (now, before) = (counts(&known.0), counts(&known.1));
            traffic.apps.push(AppCounts { app: app.to_string(), now, before });
            self.told.insert(app.clone(), known);
            if traffic.apps.len() == APPS_AT_ONCE {
                self.last = Some(app.clone());
                break;
            }
        }
        (!traffic.apps.is_empty()).then_some(traffic)
    }
}

fn counts(traffic: &AppTraffic) -> Counts {
    Counts { requests: traffic.requests, errors: traffic.errors, buckets: traffic.buckets.clone() }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use ekiden_config::doors::{EndpointStatus, Generation};
    use ekiden_config::names::ClusterName;

    use super::*;

    /// Counts that a test sets.
    #[derive(Default)]
    pub(in crate::fleet) struct Counted(pub(in crate::fleet) Mutex<BTreeMap<AppName, AppTraffic>>);

    impl Inspect for Counted {
        fn generation(&self) -> Generation {
            Generation(0)
        }

        fn endpoints(&self, _: &AppName, _: &ClusterName) -> Option<Vec<EndpointStatus>> {
            None
        }

        fn traffic(&self) -> Option<BTreeMap<AppName, AppTraffic>> {
            Some(self.0.lock().unwrap().clone())
        }
    }

    fn name(text: &str) -> AppName {
        AppName::new(text).unwrap()
    }

    impl Counted {
        fn set(&self, app: &str, requests: u64, errors: u64) {
            let traffic = AppTraffic { requests, errors, buckets: vec![requests, 0], bounds_us: vec![1_000] };
            self.0.lock().unwrap().insert(name(app), traffic);
        }
    }

    /// What is told: app, requests now, requests lately.
    fn told(traffic: Option<Traffic>) -> Vec<(String, u64, u64)> {
        let all = traffic.into_iter().flat_map(|traffic| traffic.apps);
        all.map(|one| (one.app, one.now.requests, one.before.requests)).collect()
    }

    #[test]
    fn what_is_new_of_watched_apps_is_told_with_what_ended_lately() {
        let counted = Arc::new(Counted::default());
        let begun = Instant::now();
        let mut counting = Counting::new(Arc::clone(&counted) as Arc<dyn Inspect>, begun);
        counted.set("shop", 10, 1);
        counted.set("blog", 5, 0);
        assert_eq!(told(counting.news(&BTreeSet::new())), []);
        let watched = BTreeSet::from([name("shop"), name("none")]);
        let row = |app: &str, now, before| (app.to_owned(), now, before);
        assert_eq!(told(counting.news(&watched)), [row("none", 0, 0), row("shop", 10, 10)]);
        assert_eq!(told(counting.news(&watched)), [], "nothing is new");
        // Of two samples the older one is where "lately" begins.
        for (turn, requests) in [(1, 100), (2, 200), (3, 300)] {
            counted.set("shop", requests, 1);
            counting.sample(begun + PERIOD * turn - Duration::from_millis(1));
            counting.sample(begun + PERIOD * turn);
        }
        counted.set("shop", 310, 1);
        assert_eq!(told(counting.news(&watched)), [row("shop", 310, 110)]);
        // Another link, which knows nothing.
        counting.begin();
        assert_eq!(told(counting.news(&watched)).len(), 2);
    }

    #[test]
    fn of_many_apps_some_are_told_at_a_time_and_none_waits_for_ever() {
        let counted = Arc::new(Counted::default());
        let mut counting = Counting::new(Arc::clone(&counted) as Arc<dyn Inspect>, Instant::now());
        let watched: BTreeSet<AppName> = (0..2 * APPS_AT_ONCE).map(|at| name(&format!("a{at}"))).collect();
        let mut all = BTreeSet::new();
        for turn in 1..=2 {
            // All of them are busy.
            watched.iter().for_each(|app| counted.set(app.as_str(), turn, 0));
            let some = told(counting.news(&watched));
            assert_eq!(some.len(), APPS_AT_ONCE);
            all.extend(some.into_iter().map(|(app, _, _)| app));
        }
        assert_eq!(all.len(), watched.len());
    }
}

//! Families of metrics that are told from outside: those of control, which this crate does not know.

use super::family::Family;
use super::{Meter, Reading};

/// The families, in the order in which their names come first.
pub(super) fn families(max: usize, meters: &[Meter]) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for meter in meters {
        let at = families.iter().position(|family| family.name == meter.name);
        let at = at.unwrap_or_else(|| {
            families.push(match meter.value {
                Reading::Count(_) => Family::counters(max, meter.name, meter.help),
                Reading::Level(_) => Family::gauges(max, meter.name, meter.help),
                Reading::Durations(..) => Family::histograms(max, meter.name, meter.help),
            });
            families.len() - 1
        });
        let Some(family) = families.get_mut(at) else { continue };
        let labels: Vec<(&str, &str)> =
            meter.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match &meter.value {
            Reading::Count(value) => family.count(&labels, *value),
            Reading::Level(value) => family.gauge(&labels, *value),
            Reading::Durations(bounds, buckets, sum) => {
                family.durations(&labels, (bounds, buckets), (buckets.iter().sum(), *sum));
            }
        }
    }
    families
}

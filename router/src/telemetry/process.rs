//! The `process_*` families that Prometheus dashboards expect, from `/proc/self`. What cannot be read is left out.

use std::fs;

use super::family::Family;

/// Clock ticks a second in `/proc`: `USER_HZ`, which is 100 on every Linux this runs on.
const TICKS: f64 = 100.0;

/// The families.
pub(super) fn families() -> Vec<Family> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut families = Vec::new();
    let ticks = |field| stat_field(&stat, field).map(|ticks| ticks / TICKS);
    if let (Some(user), Some(system)) = (ticks(14), ticks(15)) {
        let mut cpu = Family::counters(1, "process_cpu_seconds_total", "CPU time of the process.");
        cpu.count_float(&[], user + system);
        families.push(cpu);
    }
    let start = boot_time().zip(ticks(22)).map(|(boot, after)| boot + after);
    for (name, help, value) in [
        ("process_start_time_seconds", "Start of the process since the Unix epoch.", start),
        ("process_threads", "Threads of the process.", stat_field(&stat, 20)),
        ("process_resident_memory_bytes", "Memory held in RAM.", status_bytes(&status, "VmRSS:")),
        ("process_virtual_memory_bytes", "Memory mapped.", status_bytes(&status, "VmSize:")),
        ("process_open_fds", "Open file descriptors.", open_files()),
        ("process_max_fds", "Most file descriptors that may be open.", max_files()),
    ] {
        if let Some(value) = value {
            let mut family = Family::gauges(1, name, help);
            family.gauge(&[], value);
            families.push(family);
        }
    }
    families
}

/// A field of `/proc/self/stat` by its number in proc(5), from 3 up. The second field is a name in parentheses that
/// may hold spaces, so counting begins behind it.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn status_bytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse::<f64>().ok().map(|kibibytes| kibibytes * 1024.0)
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn open_files() -> Option<f64> {
    // The directory itself is open while it is read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn max_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_fields() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0";
        assert_eq!(stat_field(stat, 14), Some(250.0));
        assert_eq!(stat_field(stat, 15), Some(50.0));
        assert_eq!(stat_field(stat, 99), None);
        assert_eq!(stat_field("", 14), None);
        assert_eq!(status_bytes("VmSize:\t  10 kB\nVmRSS:\t 3 kB\n", "VmRSS:"), Some(3072.0));
    }

    #[test]
    fn this_process_has_them_all() {
        assert_eq!(families().len(), 7);
    }
}

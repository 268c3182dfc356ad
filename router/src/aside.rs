//! Who runs first where workers and the threads beside them share a core: the worker that has something to do.
//!
//! On a machine with as many workers as cores, compiling a table would otherwise take slices of milliseconds from a
//! worker. Does not start threads.

/// Niceness added to threads beside the workers (nice(2)): a third of a worker's weight. More would delay the
/// acknowledgement of a change on a machine under full load.
const NICENESS: libc::c_int = 5;

/// Makes the calling thread, and the threads it starts from now on, give way to the workers. On Linux niceness belongs to
/// the thread. Anyone may lower a priority, so it does not fail; where it does, nothing is lost but latency.
#[expect(unsafe_code, reason = "nice has no safe form in std")]
pub fn give_way() {
    // SAFETY: takes one number, touches no memory of ours.
    unsafe {
        libc::nice(NICENESS);
    }
}

/// Slice of a worker, nanoseconds: the shortest that Linux grants.
const SLICE_NS: u64 = 100_000;

/// `struct sched_attr` of sched_setattr(2), its first version.
#[repr(C)]
#[derive(Debug, Default)]
struct SchedulerAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Gives the calling thread a short slice. Linux 6.12 and later let a thread with a short slice run at once when it is
/// woken while one with a longer slice is running, where it would otherwise wait for the end of that slice (1 to 3 ms).
/// Earlier kernels ignore it; so do we when it is refused.
#[expect(unsafe_code, reason = "sched_setattr has no safe form in std")]
pub fn take_short_slices() {
    let size = size_of::<SchedulerAttributes>() as u32;
    let mut attributes = SchedulerAttributes::default();
    // SAFETY: both calls get a pointer to a live structure of the size they are told, write or read no more than that,
    // and keep none of it; 0 names the calling thread.
    unsafe {
        if libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) == 0 {
            attributes.size = size;
            attributes.runtime = SLICE_NS;
            libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
        }
    }
}

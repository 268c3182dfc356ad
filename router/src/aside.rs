//! Who runs first where workers and the threads beside them share a core: the worker that has something to do.
//!
//! On a machine with as many workers as cores, compiling a table would otherwise take slices of milliseconds from a
//! worker: threads beside the workers have a lower weight, and workers ask for short slices, so that one which wakes runs
//! before the other's slice has ended. Does not start threads.

/// Niceness added to threads beside the workers (nice(2)): a tenth of a worker's weight. More would delay the
/// acknowledgement of a change on a machine under full load.
const NICENESS: libc::c_int = 10;

/// Makes the calling thread, and the threads it starts from now on, give way to the workers. On Linux niceness belongs to
/// the thread. Anyone may lower a priority, so it does not fail; where it does, nothing is lost but latency.
#[expect(unsafe_code, reason = "nice has no safe form in std")]
pub fn give_way() {
    // SAFETY: takes one number, touches no memory of ours.
    unsafe {
        libc::nice(NICENESS);
    }
}

/// The slice a worker asks for, in nanoseconds; 0.1 ms is the shortest that Linux grants.
const SLICE_NS: u64 = 100_000;

/// What sched_setattr(2) reads and sched_getattr(2) writes, in its first version.
#[repr(C)]
#[derive(Debug, Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for short slices for the calling worker's thread: with EEVDF a thread that wakes with a shorter slice than the
/// running one's need not wait for that one's end. Kernels before 6.12 ignore the length, and a refusal costs latency
/// during swaps and nothing else. The weight stays what it was.
#[expect(unsafe_code, reason = "neither std nor rustix sets scheduler attributes")]
pub fn take_short_slices() {
    let size = size_of::<SchedAttr>();
    let mut attr = SchedAttr::default();
    // SAFETY: 0 is the calling thread; the kernel writes at most `size` bytes to `attr`, which lives through the call.
    let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attr, size, 0) };
    // A policy that someone chose for the process, real-time for example, is left alone.
    if known != 0 || attr.policy != libc::SCHED_OTHER.unsigned_abs() {
        return;
    }
    attr.runtime = SLICE_NS;
    attr.flags = 0;
    // SAFETY: 0 is the calling thread; the kernel reads `attr.size` bytes of `attr`, which it wrote itself above.
    unsafe {
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0);
    }
}

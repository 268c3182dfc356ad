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

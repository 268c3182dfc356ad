//! Threads beside the workers: they give way when a worker has something to do.
//!
//! On a machine with as many workers as cores, compiling a table would otherwise take slices of milliseconds from a
//! worker. Does not start threads.

/// Niceness of threads beside the workers (setpriority(2)): about a tenth of a worker's weight, so that they still go
/// on under full load.
const NICENESS: libc::c_int = 10;

/// Makes the calling thread, and the threads it starts from now on, give way to the workers. On Linux niceness belongs to
/// the thread. Anyone may lower a priority, so it does not fail; where it does, nothing is lost but latency.
#[expect(unsafe_code, reason = "setpriority has no safe form in std")]
pub fn give_way() {
    // SAFETY: takes three numbers, touches no memory of ours; 0 names the calling thread.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
    }
}

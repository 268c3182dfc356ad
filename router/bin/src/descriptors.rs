//! Raises the soft limit of open descriptors to the hard one: each busy connection costs two.

/// Raises it and answers what it was. Failing is no error: the connection bound follows whatever the limit is.
#[expect(unsafe_code, reason = "getrlimit and setrlimit have no safe form in std")]
pub(crate) fn raise_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a live rlimit and keep none of it.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return None;
        }
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        Some(before)
    }
}

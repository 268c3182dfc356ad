//! Which of a route's requests are to fail: drawn for each, each kind by itself. Pure: randomness is an argument.

use std::time::Duration;

use ekiden_config::model::FaultPolicy;

/// What shares are counted in.
const WHOLE: u64 = 10_000;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fault {
    /// It is held back for this long first.
    pub delay: Option<Duration>,
    /// It is answered with this status.
    pub abort: Option<u16>,
}

/// Draws for one request. `random` gives 64 fresh random bits.
pub fn draw(policy: &FaultPolicy, random: &mut dyn FnMut() -> u64) -> Fault {
    let mut hit = |share: u32| is_hit(share, random());
    Fault {
        delay: policy.delay.filter(|delay| hit(delay.share)).map(|delay| delay.time),
        abort: policy.abort.filter(|abort| hit(abort.share)).map(|abort| abort.status),
    }
}

/// Whether 64 random bits fall into a share of 10,000.
pub(super) fn is_hit(share: u32, random: u64) -> bool {
    // The upper half of a product is even over the whole, as a remainder would not be.
    let drawn = (u128::from(random) * u128::from(WHOLE)) >> 64;
    drawn < u128::from(share)
}

#[cfg(test)]
mod tests {
    use ekiden_config::model::{FaultAbort, FaultDelay};

    use super::*;

    fn policy(delay: u32, abort: u32) -> FaultPolicy {
        FaultPolicy {
            delay: Some(FaultDelay { share: delay, time: Duration::from_millis(5) }),
            abort: Some(FaultAbort { share: abort, status: 500 }),
        }
    }

    #[test]
    fn shares_are_kept_and_drawn_apart() {
        let (mut delays, mut aborts, mut both) = (0, 0, 0);
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            crate::stable::mix(state)
        };
        for _ in 0..100_000 {
            let fault = draw(&policy(2_500, 1_000), &mut random);
            delays += u32::from(fault.delay.is_some());
            aborts += u32::from(fault.abort == Some(500));
            both += u32::from(fault.delay.is_some() && fault.abort.is_some());
        }
        assert!((24_000..26_000).contains(&delays), "{delays}");
        assert!((9_500..10_500).contains(&aborts), "{aborts}");
        assert!((2_200..2_800).contains(&both), "{both}");
    }

    #[test]
    fn all_and_nothing() {
        for bits in [0, u64::MAX / 2, u64::MAX] {
            let all = draw(&policy(10_000, 10_000), &mut || bits);
            assert_eq!(all, Fault { delay: Some(Duration::from_millis(5)), abort: Some(500) });
            assert_eq!(draw(&FaultPolicy::default(), &mut || bits), Fault::default());
        }
        assert_eq!(draw(&policy(1, 1), &mut || u64::MAX), Fault::default());
    }
}

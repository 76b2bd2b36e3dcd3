//! How often an address may ask for what costs much: new connections of peers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Offers at once: an audience may come through one proxy.
const BURST: f64 = 100.0;

/// Offers per second after that.
const PER_SECOND: f64 = 40.0;

/// Addresses that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// What every address has left.
#[derive(Debug, Default)]
pub struct Rates(Mutex<HashMap<IpAddr, (f64, Instant)>>);

impl Rates {
    /// Takes one of what `address` has left at `now`; else the seconds until there is one.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), u32> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |(left, at): (f64, Instant)| (left + (now - at).as_secs_f64() * PER_SECOND).min(BURST);
        if table.len() >= MAX_REMEMBERED {
            table.retain(|_, entry| left(*entry) < BURST);
        }
        let has = table.get(&address).map_or(BURST, |entry| left(*entry));
        if has < 1.0 {
            return Err(1);
        }
        // With so many at it, who is new is not told apart any more.
        if table.len() < MAX_REMEMBERED || table.contains_key(&address) {
            table.insert(address, (has - 1.0, now));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_address_has_its_own() {
        let (rates, now) = (Rates::default(), Instant::now());
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
        let taken = (0..1000).filter(|_| rates.take(address(1), now).is_ok()).count();
        assert_eq!(taken, 100);
        assert!(rates.take(address(2), now).is_ok());
        let later = now + Duration::from_millis(500);
        let taken = (0..1000).filter(|_| rates.take(address(1), later).is_ok()).count();
        assert_eq!(taken, 20);
        for n in 0..100_000 {
            let _ = rates.take(address(n), later);
        }
        assert!(rates.0.lock().is_ok_and(|table| table.len() <= MAX_REMEMBERED));
    }
}

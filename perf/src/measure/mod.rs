//! Measurements that are taken through a path, whatever carries it: throughput of one TCP stream
//! and latency. Used by the benchmarks, the soak test and the end-to-end tests.

pub mod echo;
pub mod file;
pub mod flow;
pub mod iperf;
pub mod ping;
pub mod stages;

/// The middle one of the values (the mean of the middle two); zero when there is none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}

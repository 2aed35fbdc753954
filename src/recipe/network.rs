//! Estimates the bytes and the time that hosts need to sum the gradients of one update.

/// Assumed latency of one message between two hosts, in seconds.
pub(super) const LATENCY_S: f64 = 20e-6;
/// Size of a gradient bucket, in bytes.
const BUCKET: f64 = (1 << 26) as f64;
/// One extra round per update: after the last all-reduce, the hosts agree to continue.
const EXTRA_ROUNDS: f64 = 1.0;

/// The hosts that train together, and the network between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    pub hosts: usize,
    /// Bandwidth of each host in Gbit/s, in each direction.
    pub gbit: f64,
    /// Latency of one message, in seconds.
    pub latency_s: f64,
}

impl Network {
    /// Returns how many bytes each host sends in a ring all-reduce of `bytes` bytes.
    pub fn wire_bytes(&self, bytes: f64) -> f64 {
        let hosts = self.hosts as f64;
        2.0 * (hosts - 1.0) / hosts * bytes
    }

    /// Estimates how many seconds one update needs to sum `bytes` bytes of gradients over all hosts.
    ///
    /// Adds the transfer time and the latency of all messages. Assumes no overlap with the backward pass.
    pub fn update_s(&self, bytes: f64) -> f64 {
        if self.hosts == 1 {
            return 0.0;
        }
        let sums = (bytes / BUCKET).ceil() + 1.0; // the loss is a sum of its own
        let rounds = 2.0 * sums + EXTRA_ROUNDS;
        let messages = 2.0 * (self.hosts as f64).log2() * rounds;
        self.wire_bytes(bytes) * 8.0 / (self.gbit * 1e9) + messages * self.latency_s
    }
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn two_hosts_send_each_gradient_once() {
        let network = |hosts| Network { hosts, gbit: 8.0, latency_s: 0.0 };
        assert!((network(2).wire_bytes(1e9) - 1e9).abs() < 1.0);
        assert!((network(2).update_s(1e9) - 1.0).abs() < 1e-9);
        assert!(network(1).update_s(1e9).abs() < 1e-9);
        assert!((network(512).wire_bytes(1e9) - 2e9).abs() < 1e7, "at most twice the gradients");
    }
}

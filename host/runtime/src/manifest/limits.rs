//! `[limits]`: a plugin may ask for less than the host gives, never for more.

use std::time::Duration;

use serde::Deserialize;

use crate::HostLimits;
use crate::refusal::Refusal;

/// The `[limits]` that a plugin asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    memory_bytes: Option<usize>,
    cpu: Option<Duration>,
    wall: Option<Duration>,
    calls: Option<usize>,
}

impl Wishes {
    /// The host's limits with the wishes that stay below them.
    pub(crate) fn within(&self, host: &HostLimits) -> HostLimits {
        HostLimits {
            memory_bytes: self.memory_bytes.map_or(host.memory_bytes, |wish| wish.min(host.memory_bytes)),
            cpu: self.cpu.map_or(host.cpu, |wish| wish.min(host.cpu)),
            wall: self.wall.map_or(host.wall, |wish| wish.min(host.wall)),
            calls_per_plugin: self.calls.map_or(host.calls_per_plugin, |wish| wish.min(host.calls_per_plugin)),
            ..host.clone()
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    memory_mib: Option<u32>,
    cpu_ms: Option<u32>,
    wall_s: Option<u32>,
    concurrency: Option<u32>,
}

/// Checks that no wish is for nothing.
pub(super) fn check(raw: &RawLimits) -> Result<Wishes, Refusal> {
    let positive = |name: &str, value: Option<u32>| match value {
        Some(0) => Err(Refusal::new(format!("limits.{name} must be at least 1, not 0"))),
        value => Ok(value),
    };
    Ok(Wishes {
        memory_bytes: positive("memory_mib", raw.memory_mib)?.map(|mib| (mib as usize).saturating_mul(1 << 20)),
        cpu: positive("cpu_ms", raw.cpu_ms)?.map(|ms| Duration::from_millis(ms.into())),
        wall: positive("wall_s", raw.wall_s)?.map(|s| Duration::from_secs(s.into())),
        calls: positive("concurrency", raw.concurrency)?.map(|calls| calls as usize),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::HostLimits;
    use crate::manifest::Manifest;
    use crate::manifest::tests::HEAD;

    #[test]
    fn wishes_never_exceed_the_hosts_limits() {
        let host = HostLimits::default();
        let within = |wishes: &str| Manifest::parse(&format!("{HEAD}[limits]\n{wishes}")).unwrap().limits.within(&host);
        let most = 1_000_000;
        let greedy = format!("memory_mib = {most}\ncpu_ms = {most}\nwall_s = {most}\nconcurrency = {most}");
        assert_eq!(within(&greedy), host);
        let modest = HostLimits {
            memory_bytes: 8 << 20,
            cpu: Duration::from_millis(20),
            wall: Duration::from_secs(3),
            calls_per_plugin: 1,
            ..host.clone()
        };
        assert_eq!(within("memory_mib = 8\ncpu_ms = 20\nwall_s = 3\nconcurrency = 1"), modest);
    }
}

//! Which addresses a name may lead to. An origin that is granted as public must not end inside the operator's network:
//! names are resolved here, every address is looked at, and the connection goes to just those that passed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use ipnet::{Ipv4Net, Ipv6Net};

use super::Reach;

/// An address that must not be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} leads to {address}, {what} address")]
pub(crate) struct Refused {
    host: String,
    address: IpAddr,
    what: &'static str,
}

/// What an address is, when it is not an ordinary public one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    /// Inside the operator's network: for origins that the operator named himself.
    Inside(&'static str),
    /// For nobody.
    Never(&'static str),
}

/// Tells whether an address may be connected to.
pub(crate) fn check(host: &str, address: IpAddr, reach: Reach) -> Result<(), Refused> {
    let what = match (special(address), reach) {
        (None, _) | (Some(Special::Inside(_)), Reach::Inside) => return Ok(()),
        (Some(Special::Inside(what)), Reach::Public) | (Some(Special::Never(what)), _) => what,
    };
    Err(Refused { host: host.to_owned(), address, what })
}

/// Keeps the addresses that may be connected to; with none left, tells why of the first.
pub(super) fn keep(host: &str, addresses: Vec<SocketAddr>, reach: Reach) -> Result<Vec<SocketAddr>, Refused> {
    let mut refused = None;
    let mut kept = Vec::new();
    for address in addresses {
        match check(host, address.ip(), reach) {
            Ok(()) => kept.push(address),
            Err(error) => drop(refused.get_or_insert(error)),
        }
    }
    match refused {
        Some(error) if kept.is_empty() => Err(error),
        Some(_) | None => Ok(kept),
    }
}

/// Addresses at which clouds hand out credentials to whoever asks, by the makers' documents.
const METADATA: [IpAddr; 10] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 253)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// The special ranges of IPv4 by the IANA registry, the narrower first.
static IPV4: LazyLock<Vec<(Ipv4Net, Special)>> = LazyLock::new(|| {
    use Special::{Inside, Never};
    let net = |a, b, c, d, bits| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits);
    vec![
        (net(0, 0, 0, 0, 8), Never("an unspecified")),
        (net(10, 0, 0, 0, 8), Inside("a private")),
        (net(100, 64, 0, 0, 10), Inside("a shared")),
        (net(127, 0, 0, 0, 8), Inside("a loopback")),
        (net(169, 254, 0, 0, 16), Inside("a link-local")),
        (net(172, 16, 0, 0, 12), Inside("a private")),
        (net(192, 0, 0, 0, 24), Never("a reserved")),
        (net(192, 0, 2, 0, 24), Never("a documentation")),
        (net(192, 88, 99, 0, 24), Never("a relay")),
        (net(192, 168, 0, 0, 16), Inside("a private")),
        (net(198, 18, 0, 0, 15), Inside("a benchmarking")),
        (net(198, 51, 100, 0, 24), Never("a documentation")),
        (net(203, 0, 113, 0, 24), Never("a documentation")),
        (net(224, 0, 0, 0, 4), Never("a multicast")),
        (net(240, 0, 0, 0, 4), Never("a reserved")),
    ]
});

/// The special ranges of IPv6 that do not carry an IPv4 address.
static IPV6: LazyLock<Vec<(Ipv6Net, Special)>> = LazyLock::new(|| {
    use Special::{Inside, Never};
    let net = |a, b, bits| Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), bits);
    vec![
        (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), Inside("a loopback")),
        (net(0x2001, 0, 23), Never("a reserved")),
        (net(0x2001, 0xdb8, 32), Never("a documentation")),
        (net(0x3fff, 0, 20), Never("a documentation")),
        (net(0xfc00, 0, 7), Inside("a private")),
        (net(0xfe80, 0, 10), Inside("a link-local")),
        (net(0xfec0, 0, 10), Inside("a private")),
        (net(0xff00, 0, 8), Never("a multicast")),
    ]
});

fn special(address: IpAddr) -> Option<Special> {
    if METADATA.contains(&address) {
        return Some(Special::Never("a cloud's metadata"));
    }
    match address {
        IpAddr::V4(address) => find(&IPV4, |net| net.contains(&address)),
        IpAddr::V6(address) => special_v6(address),
    }
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    if let Some(inner) = carried_v4(address) {
        return special(inner.into());
    }
    // What is not global unicast (2000::/3) and not named above is unassigned.
    let is_global = address.segments()[0] & 0xe000 == 0x2000;
    find(&IPV6, |net| net.contains(&address)).or((!is_global).then_some(Special::Never("a reserved")))
}

/// The IPv4 address that a mapped, NAT64 or 6to4 address leads to.
fn carried_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        (0, 0) if [c, d, e, f] == [0, 0, 0, 0xffff] => Some(join(g, h)),
        (0x64, 0xff9b) if [c, d, e, f] == [0, 0, 0, 0] => Some(join(g, h)),
        (0x2002, _) => Some(join(b, c)),
        _ => None,
    }
}

fn find<N>(table: &[(N, Special)], contains: impl Fn(&N) -> bool) -> Option<Special> {
    table.iter().find(|(net, _)| contains(net)).map(|(_, special)| *special)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(address: &str) -> (bool, bool) {
        let address = address.parse().unwrap();
        (check("h", address, Reach::Public).is_ok(), check("h", address, Reach::Inside).is_ok())
    }

    #[test]
    fn public_addresses_pass() {
        for address in
            ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
        {
            assert_eq!(verdicts(address), (true, true), "{address}");
        }
    }

    #[test]
    fn addresses_inside_pass_only_for_origins_the_operator_named() {
        let inside = [
            "127.0.0.1",
            "127.8.9.10",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "::1",
            "fec0::1",
            "fd12:3456::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::c0a8:101",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
        ];
        for address in inside {
            assert_eq!(verdicts(address), (false, true), "{address}");
        }
    }

    #[test]
    fn addresses_for_nobody_never_pass() {
        let never = [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.253",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "192.0.0.8",
            "192.0.0.192",
            "192.88.99.1",
            "198.51.100.7",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.2.1",
            "203.0.113.9",
            "::",
            "ff02::1",
            "fd00:ec2::23",
            "fd00:ec2::254",
            "fd20:ce::254",
            "3fff::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::",
            "2001:db8::1",
            "2001::1",
            "::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "4000::1",
            "5f00::1",
        ];
        for address in never {
            assert_eq!(verdicts(address), (false, false), "{address}");
        }
    }

    #[test]
    fn refusal_says_what_kind_of_address_it_is() {
        let rows = [
            ("192.0.0.192", "a cloud's metadata"),
            ("192.0.0.8", "a reserved"),
            ("ff02::1", "a multicast"),
            ("fec0::1", "a private"),
            ("4000::1", "a reserved"),
        ];
        for (address, what) in rows {
            let refused = check("h", address.parse().unwrap(), Reach::Public).unwrap_err();
            assert_eq!(refused.to_string(), format!("h leads to {address}, {what} address"));
        }
    }

    #[test]
    fn mixed_answers_lead_only_to_what_passed() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let kept = keep("h", vec![at("127.0.0.1"), at("8.8.8.8")], Reach::Public).unwrap();
        assert_eq!(kept, [at("8.8.8.8")]);
        let error = keep("evil.example", vec![at("192.168.0.7"), at("127.0.0.1")], Reach::Public).unwrap_err();
        assert_eq!(error.to_string(), "evil.example leads to 192.168.0.7, a private address");
    }
}

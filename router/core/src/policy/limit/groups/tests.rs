//! The ranges equal the plain definition: the longest network that holds the address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ekiden_config::model::Group;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use super::GroupNets;

fn groups(nets: &[&str]) -> Vec<Group> {
    let group = |text: &&str| Group { name: "g".into(), nets: vec![text.parse().unwrap()] };
    nets.iter().map(group).collect()
}

#[test]
fn the_most_specific_network_decides() {
    let nets = GroupNets::new(&groups(&[
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "10.255.0.0/16",
        "0.0.0.0/0",
        "255.255.255.255/32",
        "::/0",
        "ffff::/16",
        "2001:db8::/32",
    ]));
    for (address, want) in [
        ("10.0.0.0", Some(0)),
        ("10.1.0.0", Some(1)),
        ("10.1.2.3", Some(2)),
        ("10.1.3.0", Some(1)),
        ("10.2.0.0", Some(0)),
        ("10.255.255.255", Some(3)),
        ("11.0.0.0", Some(4)),
        ("0.0.0.0", Some(4)),
        ("255.255.255.254", Some(4)),
        ("255.255.255.255", Some(5)),
        ("::ffff:10.1.2.3", Some(2)),
        ("::1", Some(6)),
        ("ffff::1", Some(7)),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some(7)),
        ("2001:db8::1", Some(8)),
        ("2001:db9::1", Some(6)),
    ] {
        assert_eq!(nets.find(address.parse().unwrap()), want, "{address}");
    }
    assert_eq!(GroupNets::new(&groups(&["10.0.0.0/8"])).find("9.255.255.255".parse().unwrap()), None);
    assert_eq!(GroupNets::new(&[]).find("::1".parse().unwrap()), None);
}

proptest! {
    #[test]
    fn ranges_equal_the_definition(
        v4 in prop::collection::btree_set((any::<u8>(), 0_u8..=8), 0..12),
        v6 in prop::collection::btree_set((any::<u8>(), 0_u8..=8), 0..12),
        looked in prop::collection::vec((any::<bool>(), any::<u8>(), any::<u32>()), 1..40),
    ) {
        let v4 = v4.into_iter().map(|(byte, length)| {
            IpNet::V4(Ipv4Net::new(Ipv4Addr::new(byte, 0, 0, 0), length).unwrap().trunc())
        });
        let v6 = v6.into_iter().map(|(byte, length)| {
            let address = Ipv6Addr::from(u128::from(byte) << 120);
            IpNet::V6(Ipv6Net::new(address, length).unwrap().trunc())
        });
        let mut nets: Vec<IpNet> = v4.chain(v6).collect();
        nets.sort();
        nets.dedup();
        let groups: Vec<Group> =
            nets.iter().map(|net| Group { name: "g".into(), nets: vec![*net] }).collect();
        let compiled = GroupNets::new(&groups);
        for (is_v4, byte, rest) in looked {
            let address = if is_v4 {
                IpAddr::V4(Ipv4Addr::from(u32::from(byte) << 24 | rest >> 8))
            } else {
                IpAddr::V6(Ipv6Addr::from(u128::from(byte) << 120 | u128::from(rest)))
            };
            let want = nets.iter().enumerate().filter(|(_, net)| net.contains(&address));
            let want = want.max_by_key(|(_, net)| net.prefix_len()).and_then(|(at, _)| u16::try_from(at).ok());
            // A mapped address would be looked up in its IPv4 form.
            if address.to_canonical() == address {
                prop_assert_eq!(compiled.find(address), want, "{}", address);
            }
        }
    }
}

//! Filters on frames made by hand, and on noise. tests/netns compares them with tcpdump's.

use super::*;

fn ethernet(kind: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(kind.to_be_bytes());
    frame.extend(rest);
    frame
}

/// 10.0.2.100 to 192.0.2.9, from port 40000 to port 80.
fn ipv4(protocol: u8, fragment: u16) -> Vec<u8> {
    let mut packet = vec![0x46, 0, 0, 32, 0, 7];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 2, 100, 192, 0, 2, 9]);
    // An option, so that the ports are not where they usually are.
    packet.extend([1, 1, 1, 1, 0x9c, 0x40, 0, 80, 0, 8, 0, 0]);
    ethernet(IPV4, &packet)
}

/// fd00::100 to 2001:db8::9, from port 40000 to port 80.
fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, next, 64];
    for address in ["fd00::100", "2001:db8::9"] {
        packet.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    packet.extend(rest);
    ethernet(IPV6, &packet)
}

fn arp() -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 2, 100];
    packet.extend([0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
    ethernet(ARP, &packet)
}

const PORTS: [u8; 8] = [0x9c, 0x40, 0, 80, 0, 8, 0, 0];

/// A name and a frame for each kind that filters tell apart.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("tcp4", ipv4(TCP, 0x4000)),
        ("udp4", ipv4(UDP, 0)),
        ("first", ipv4(UDP, 0x2000)),
        ("later", ipv4(UDP, 0x2001)),
        ("icmp4", ipv4(ICMP, 0)),
        ("tcp6", ipv6(TCP, &PORTS)),
        ("udp6", ipv6(UDP, &PORTS)),
        ("later6", ipv6(IPV6_FRAGMENT, &[UDP, 0, 0, 9, 0, 0, 0, 1])),
        ("icmp6", ipv6(ICMPV6, &PORTS)),
        ("arp", arp()),
    ]
}

/// The names of the frames that an expression keeps.
fn kept(expression: &str) -> String {
    let filter = Filter::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    let kept = frames().into_iter().filter(|(_, frame)| filter.matches(frame));
    kept.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_word_keeps_what_it_says() {
    for (expression, names) in [
        ("ip", "tcp4 udp4 first later icmp4"),
        ("ip6", "tcp6 udp6 later6 icmp6"),
        ("arp", "arp"),
        ("tcp", "tcp4 tcp6"),
        ("udp", "udp4 first later udp6 later6"),
        ("icmp", "icmp4"),
        ("icmp6", "icmp6"),
        ("tcp port 80", "tcp4 tcp6"),
        // Of a fragmented datagram the first part has the ports.
        ("udp port 80", "udp4 first udp6"),
        ("udp dst port 80", "udp4 first udp6"),
        ("src port 80", ""),
        ("src or dst port 80", "tcp4 udp4 first tcp6 udp6"),
        ("src and dst port 80", ""),
        ("dst portrange 79-81", "tcp4 udp4 first tcp6 udp6"),
        ("portrange 81-39999", ""),
        ("host 10.0.2.100", "tcp4 udp4 first later icmp4 arp"),
        ("ip host 10.0.2.100", "tcp4 udp4 first later icmp4"),
        ("arp host 10.0.2.2", "arp"),
        ("dst host 10.0.2.100", ""),
        ("dst 192.0.2.9", "tcp4 udp4 first later icmp4"),
        ("10.0.2.2", "arp"),
        ("net 10.0.2.0/24 and not arp", "tcp4 udp4 first later icmp4"),
        ("src net 2001:db8::/32", ""),
        ("dst net 2001:db8::/32", "tcp6 udp6 later6 icmp6"),
        ("net 0.0.0.0/0", "tcp4 udp4 first later icmp4 arp"),
        ("ether src 02:00:00:00:00:01", ""),
        ("ether dst 02:00:00:00:00:01 and arp", "arp"),
        ("ether host 02:00:00:00:00:02 and arp", "arp"),
        ("less 42", "arp"),
        ("greater 43 and ip", "tcp4 udp4 first later icmp4"),
    ] {
        assert_eq!(kept(expression), names, "{expression}");
    }
}

#[test]
fn conditions_join_from_left_to_right() {
    for (expression, names) in [
        // `and` does not bind stronger than `or`.
        ("arp or icmp and ip", "icmp4"),
        ("arp or (icmp and ip)", "icmp4 arp"),
        ("not ip and not ip6", "arp"),
        ("!(ip||ip6)", "arp"),
        ("! ( ip && tcp ) && ip", "udp4 first later icmp4"),
        ("not not arp", "arp"),
        ("not (not arp)", "arp"),
        ("tcp port 443 or 80", "tcp4 tcp6"),
        ("tcp and port (443 or 80)", "tcp4 tcp6"),
        ("not host (10.0.2.100 or 2001:db8::9)", ""),
        ("ip and not dst port 80 and not icmp", "later"),
        ("(((arp)))", "arp"),
    ] {
        assert_eq!(kept(expression), names, "{expression}");
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for (expression, said) in [
        ("", "it is empty"),
        ("vlan 7", "\"vlan\" is not known"),
        ("tcp and web", "\"web\" is not known"),
        ("host web", "host needs an address, not \"web\""),
        ("host 192.0.2.0/24", "host needs an address, not \"192.0.2.0/24\""),
        ("net 192.0.2", "net needs a prefix, as in 192.0.2.0/24, not \"192.0.2\""),
        ("net 192.0.2.1/24", "it has host bits set: the prefix is 192.0.2.0/24"),
        ("port http", "port needs a number up to 65535, not \"http\""),
        ("port 65536", "port needs a number up to 65535, not \"65536\""),
        ("port +80", "port needs a number up to 65535, not \"+80\""),
        ("tcp portrange 90-80", "portrange needs a range, as in 8000-8010, not \"90-80\""),
        ("port", "port needs a number up to 65535, not \"\""),
        ("tcp 80", "\"80\" stands where and, or or the end should"),
        ("tcp)", "\")\" stands where"),
        ("(tcp", "a ( has no )"),
        ("tcp and", "the end needs a condition"),
        ("tcp or or udp", "\"or\" is not known"),
        ("tcp[13] & 2 != 0", "\"tcp[13]\" is not known"),
        ("tcp host 192.0.2.9", "tcp does not go with host"),
        ("ip port 80", "ip does not go with port"),
        ("ip6 host 192.0.2.9", "ip6 does not go with 192.0.2.9"),
        ("ether", "ether needs host, src or dst"),
        ("ether host 192.0.2.9", "ether host needs a hardware address"),
        ("less tcp", "less needs a number of bytes, not \"tcp\""),
    ] {
        let error = Filter::parse(expression).unwrap_err().to_string();
        assert!(error.contains(said), "{expression}: {error}");
    }
    let many = vec!["tcp"; MAX_TESTS].join(" or ");
    assert!(Filter::parse(&many).is_ok());
    assert_eq!(Filter::parse(&format!("{many} or udp")), Err(FilterError::TooLong));
    // What nests costs no stack.
    let deep = format!("{}tcp{}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(Filter::parse(&deep).unwrap().matches(&ipv4(TCP, 0)));
}

#[test]
fn a_frame_that_ends_too_early_is_not_kept() {
    let tcp = ipv4(TCP, 0);
    for (expression, needed) in [("tcp", 24), ("not udp", 24), ("tcp port 80", 42), ("not arp", 14)]
    {
        let filter = Filter::parse(expression).unwrap();
        for length in 0..tcp.len() {
            assert_eq!(filter.matches(&tcp[..length]), length >= needed, "{expression} {length}");
        }
    }
    // What decides before the missing bytes are looked at decides.
    assert!(Filter::parse("less 13 or tcp").unwrap().matches(&tcp[..13]));
}

/// A generator whose numbers are the same with every run (xorshift64, Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

#[test]
fn no_expression_and_no_frame_makes_it_panic() {
    const VOCABULARY: &str = "ip ip6 arp tcp udp icmp icmp6 ether host net port portrange src dst \
                              less greater and or not ! ( ) && || 80 0 65535 1-2 10.0.2.100 \
                              fd00::100 10.0.0.0/8 ::/0 02:00:00:00:00:01 vlan - / é tcp( )or";
    let vocabulary: Vec<&str> = VOCABULARY.split(' ').collect();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let (mut understood, mut kept) = (0, 0);
    for _ in 0..20_000 {
        let words: Vec<&str> =
            (0..noise.below(9)).map(|_| vocabulary[noise.below(vocabulary.len())]).collect();
        let Ok(filter) = Filter::parse(&words.join(" ")) else { continue };
        understood += 1;
        for (_, mut frame) in frames() {
            frame.truncate(noise.below(frame.len() + 1));
            for _ in 0..noise.below(4) {
                if let Some(at) = frame.len().checked_sub(1).map(|last| noise.below(last + 1)) {
                    frame[at] = u8::try_from(noise.below(256)).unwrap();
                }
            }
            kept += usize::from(filter.matches(&frame));
        }
    }
    // Neither was all of it refused.
    assert!(understood > 300 && kept > 300, "{understood} {kept}");
}

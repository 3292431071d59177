//! The mesh's members and what was made of this host, as people read them.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use hypermesh_api::{Member, Members};
use stoq_identity::Span;
use time::OffsetDateTime;

/// The members as a table, one line each, and their networks below.
pub fn members(members: &Members) -> String {
    let widest = members.members.iter().map(|member| member.node.len()).max().unwrap_or(0);
    let mut text = format!("mesh {}  height {}\n", members.mesh, members.height);
    for member in &members.members {
        text += &line(member, widest);
    }
    text
}

fn line(member: &Member, widest: usize) -> String {
    let state = if member.issuer { "issuer" } else { "node" };
    let addresses = list(member.addresses.iter().map(ipnet::IpNet::addr));
    let mut line = format!("  {:widest$}  {state:6}  {addresses}", member.node);
    if !member.routes.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(line, "  behind it: {}", list(&member.routes));
    }
    if !member.endpoints.is_empty() {
        let _ = write!(line, "  at {}", list(&member.endpoints));
    }
    line.trim_end().to_owned() + "\n"
}

/// The items with commas between them.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// A time and how far away it is: `2026-11-22 17:09:03 UTC (in 59 minutes)`.
pub fn date(at_s: u64) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at_s);
    let now = SystemTime::now();
    let span = match at.duration_since(now) {
        Ok(left) => format!("in {}", Span(left)),
        Err(passed) => format!("{} ago", Span(passed.duration())),
    };
    let second = i64::try_from(at_s).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    // The calendar of `time` ends with the year 9999, and certificates do too (RFC 5280 §4.1.2.5).
    second.map_or_else(
        || format!("after the year 9999 ({span})"),
        |at| {
            let (hour, minute, second) = at.to_hms();
            format!("{} {hour:02}:{minute:02}:{second:02} UTC ({span})", at.date())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_says_how_far_away_it_is() {
        let past = date(1_795_363_743);
        assert!(past.starts_with("2026-11-22 16:09:03 UTC ("), "{past}");
        assert!(date(0).ends_with(" ago)"), "{}", date(0));
        assert!(date(u64::MAX / 4).starts_with("after the year 9999 (in "));
    }

    #[test]
    fn members_are_a_line_each_in_columns() {
        let member = |node: &str, issuer, routes: &[&str]| Member {
            node: node.into(),
            id: format!("stoq://lab-0123456789abcdef/{node}"),
            issuer,
            addresses: vec!["fd12::1/128".parse().unwrap(), "10.92.0.1/32".parse().unwrap()],
            routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
            endpoints: vec!["10.99.0.1:9292".parse().unwrap()],
            keys: String::new(),
        };
        let shown = members(&Members {
            mesh: "lab-0123456789abcdef".into(),
            height: 9,
            members: vec![member("a", true, &["10.1.0.0/16"]), member("edge-b", false, &[])],
        });
        let expected = "mesh lab-0123456789abcdef  height 9\n  \
             a       issuer  fd12::1, 10.92.0.1  behind it: 10.1.0.0/16  at 10.99.0.1:9292\n  \
             edge-b  node    fd12::1, 10.92.0.1  at 10.99.0.1:9292\n";
        assert_eq!(shown, expected);
    }
}

//! The known name that an unknown one was probably meant to be.

/// Longer input is not a typing error, and the work stays small.
const MAX_NAME: usize = 64;
/// Most letters that differ.
const MAX_DISTANCE: usize = 2;
/// What a missing or superfluous word costs, in letters.
const WORD: usize = 3;
/// The largest difference: a missing word and an abbreviated one.
const MAX_COST: usize = 4;

/// The one of these names that is closest to `name`, if it is close and no other is as close. Words
/// are what `_` and `-` separate: one may be missing or too many, be an abbreviation of the known
/// one or the other way round, or have a typing error.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    let mut is_one = false;
    for candidate in known {
        let cost = cost(name, candidate);
        match best {
            Some((least, _)) if cost > least => {}
            Some((least, _)) if cost == least => is_one = false,
            _ if cost > MAX_COST => {}
            _ => (best, is_one) = (Some((cost, candidate)), true),
        }
    }
    best.filter(|_| is_one).map(|(_, candidate)| candidate)
}

fn cost(name: &str, known: &str) -> usize {
    let words = |text: &str| text.split(['_', '-']).map(str::to_owned).collect::<Vec<_>>();
    let by_words = edits(&words(name), &words(known), WORD, |a, b| word_cost(a, b));
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    match edits(&chars(name), &chars(known), 1, |a, b| usize::from(a != b)) {
        distance @ ..=MAX_DISTANCE => distance.min(by_words),
        _ => by_words,
    }
}

fn word_cost(a: &str, b: &str) -> usize {
    if a == b {
        return 0;
    }
    let shorter = a.len().min(b.len());
    if shorter > 0 && (a.starts_with(b) || b.starts_with(a)) {
        return if shorter > 2 { 1 } else { 2 };
    }
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    match edits(&chars(a), &chars(b), 1, |a, b| usize::from(a != b)) {
        distance @ ..=MAX_DISTANCE if distance < shorter => distance,
        _ => 2 * WORD,
    }
}

/// The Levenshtein distance, where a missing or superfluous part costs `part`, and another one what
/// `replaced` says.
fn edits<T>(a: &[T], b: &[T], part: usize, replaced: impl Fn(&T, &T) -> usize) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).map(|count| count * part).collect();
    for (at, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = (at + 1) * part;
        for (at, right) in b.iter().enumerate() {
            let instead = diagonal + replaced(left, right);
            diagonal = row[at + 1];
            row[at + 1] = instead.min(row[at] + part).min(diagonal + part);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::VARIABLES;
    use super::*;

    #[test]
    fn only_an_obvious_slip_gets_a_suggestion() {
        let cases = [
            ("RP_CLIENT_TARGET_HOSTNAM", Some("RP_CLIENT_TARGET_HOSTNAME")),
            ("RP_CLIENT_TARGET_HOST", Some("RP_CLIENT_TARGET_HOSTNAME")),
            ("RP_TARGET_HOSTNAME", Some("RP_CLIENT_TARGET_HOSTNAME")),
            ("RP_TARGET_HOST", Some("RP_CLIENT_TARGET_HOSTNAME")),
            ("RP_CLEINT_TARGET_PORT", Some("RP_CLIENT_TARGET_PORT")),
            ("RP_DRAIN_SECONDS", Some("RP_DRAIN_S")),
            ("RP_DRAIN", Some("RP_DRAIN_S")),
            ("RP_REPLY_TIMEOUT", Some("RP_REPLY_TIMEOUT_S")),
            ("RP_CONNECTION_WAIT", Some("RP_CONNECTION_WAIT_S")),
            ("RP_HANDLER", Some("RP_EVENT_HANDLER")),
            ("RP_EVENTHANDLER", Some("RP_EVENT_HANDLER")),
            ("RP_SERVER_CERTIFICATE_PATH", Some("RP_SERVER_CERT_PATH")),
            ("RP_SERVER_CRT_PATH", Some("RP_SERVER_CERT_PATH")),
            ("BIND_PROT", Some("BIND_PORT")),
            // Either role's.
            ("RP_HTTP_BIND", None),
            ("RP_COLOUR", None),
            ("RP_", None),
            ("RP_SERVER", None),
        ];
        let names = || VARIABLES.iter().flat_map(|variable| variable.names).copied();
        for (name, expected) in cases {
            assert_eq!(nearest(name, names()), expected, "{name}");
        }
        assert_eq!(nearest(&"R".repeat(100_000), names()), None);
        let options = ["--server", "--client", "--san", "--days", "--dir"];
        for (option, expected) in
            [("--clint", Some("--client")), ("--sever", Some("--server")), ("--x", None)]
        {
            assert_eq!(nearest(option, options), expected, "{option}");
        }
    }

    #[test]
    fn the_distance_counts_single_changes() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("abc", "abc", 0), ("abc", "axc", 1), ("abcd", "bcde", 2)]
        {
            for (a, b) in [(a, b), (b, a)] {
                let distance = edits(a.as_bytes(), b.as_bytes(), 1, |a, b| usize::from(a != b));
                assert_eq!(distance, expected, "{a} {b}");
            }
        }
    }
}

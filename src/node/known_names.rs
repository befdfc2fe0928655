//! The names that were ever a client's.
//!
//! Such a name means that client and nothing else, also while it is away: it is never taken for the
//! name of a host.

use std::collections::HashSet;

/// Maximum names remembered; the names of live links are known besides.
const MAX_NAMES: usize = 65_536;

/// The names, as keys of the peer table.
#[derive(Default)]
pub(super) struct KnownNames(HashSet<String>);

impl KnownNames {
    /// Adds a name, while there is room.
    pub fn add(&mut self, key: &str) {
        if self.0.len() < MAX_NAMES && !self.0.contains(key) {
            self.0.insert(key.to_owned());
        }
    }

    /// Whether this was ever a client's name.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_has_a_bound() {
        let mut names = KnownNames::default();
        for number in 0..=MAX_NAMES {
            names.add(&number.to_string());
        }
        assert_eq!(names.0.len(), MAX_NAMES);
        assert!(names.contains("0") && !names.contains(&MAX_NAMES.to_string()));
    }
}

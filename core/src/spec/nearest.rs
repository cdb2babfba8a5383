//! The nearest right name, for errors about wrong ones.

/// The remedy for a name that is not among `candidates`: the nearest of them, or `otherwise`.
pub(crate) fn nearest_or<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    nearest(name, candidates)
        .map_or_else(otherwise, |candidate| format!("Did you mean {candidate:?}?"))
}

/// The candidate that the fewest slips of the hand (a letter missing, added, wrong or swapped with
/// its neighbour) turn into `name`, if that is at most a third of its letters.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    /// Longer than any name of the field: not worth the quadratic comparison.
    const LONGEST: usize = 64;
    let name: Vec<char> = name.chars().flat_map(char::to_lowercase).take(LONGEST + 1).collect();
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let most = (name.len() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= most)
        .map(|candidate| (slips(&name, candidate), candidate))
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The optimal string alignment distance, without regard to case.
fn slips(name: &[char], candidate: &str) -> usize {
    let other: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
    let mut two_back: Vec<usize> = Vec::new();
    let mut back: Vec<usize> = (0..=other.len()).collect();
    for (i, &letter) in name.iter().enumerate() {
        let mut row = Vec::with_capacity(other.len() + 1);
        row.push(i + 1);
        for (j, &its) in other.iter().enumerate() {
            let mut best =
                (back[j] + usize::from(letter != its)).min(back[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && letter == other[j - 1] && name[i - 1] == its {
                best = best.min(two_back[j - 1] + 1);
            }
            row.push(best);
        }
        two_back = std::mem::replace(&mut back, row);
    }
    back[other.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let names = ["openat", "openat2", "open", "ptrace", "process_vm_readv"];
        assert_eq!(nearest("opneat", names), Some("openat"));
        assert_eq!(nearest("OPENAT", names), Some("openat"));
        assert_eq!(nearest("ptraec", names), Some("ptrace"));
        assert_eq!(nearest("proces_vm_read", names), Some("process_vm_readv"));
        assert_eq!(nearest("frobnicate", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest(&"o".repeat(100_000), names), None);
    }
}

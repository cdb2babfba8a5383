//! The nearest known name, for errors about unknown names.

use strsim::osa_distance;

/// Return the remedy for an unknown name: the nearest candidate, or `otherwise`.
pub(crate) fn nearest_or<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    nearest(name, candidates)
        .map_or_else(otherwise, |candidate| format!("Did you mean {candidate:?}?"))
}

/// Return the candidate that is the fewest typing errors away from `name`.
///
/// A missing, extra, wrong or transposed letter is one error; case does not matter. The result is `None` if
/// there are more errors than a third of the letters of `name`, or than one in a short name.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = name.to_lowercase();
    let length = name.chars().count();
    if length == 0 {
        return None;
    }
    let most = (length / 3).max(1);
    candidates
        .into_iter()
        // Skip the quadratic comparison with a text that is much longer than any name.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= most)
        .map(|candidate| (osa_distance(&name, &candidate.to_lowercase()), candidate))
        .filter(|&(distance, _)| distance <= most)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_misspelled_name_finds_the_intended_one() {
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

//! Resource limits by docker's names.

use crate::error::{Reason, ReasonKind, SpecError};
use crate::spec::nearest::nearest_or;

/// `RLIM_INFINITY`: no limit.
pub const UNLIMITED: u64 = libc::RLIM_INFINITY;

/// docker's names, which `ulimit` and limits.conf(5) use too, and their numbers on x86-64 and 64-bit ARM.
///
/// The constants of libc are not used, because the C libraries disagree on the type of `RLIMIT_NOFILE`.
const NAMES: &[(&str, u32)] = &[
    ("as", 9),
    ("core", 4),
    ("cpu", 0),
    ("data", 2),
    ("fsize", 1),
    ("locks", 10),
    ("memlock", 8),
    ("msgqueue", 12),
    ("nice", 13),
    ("nofile", 7),
    ("nproc", 6),
    ("rss", 5),
    ("rtprio", 14),
    ("rttime", 15),
    ("sigpending", 11),
    ("stack", 3),
];

/// One resource limit, in the terms of prlimit64(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ulimit {
    /// The number of the resource, `RLIMIT_NOFILE` for example.
    pub resource: u32,
    /// The limit in effect, in the resource's unit; [`UNLIMITED`] for none.
    pub soft: u64,
    /// The maximum of the soft limit; [`UNLIMITED`] for none.
    pub hard: u64,
}

impl Ulimit {
    /// Return the limit called `name`, which must be in the table, with `value` as soft and hard limit.
    pub(crate) const fn of(name: &str, value: u64) -> Self {
        let mut i = 0;
        while i < NAMES.len() {
            if equal(NAMES[i].0, name) {
                return Self { resource: NAMES[i].1, soft: value, hard: value };
            }
            i += 1;
        }
        panic!("no resource limit has this name")
    }

    /// Return the limit called `name`.
    ///
    /// A value of -1 means no limit. A missing value is the same as the other.
    ///
    /// # Errors
    ///
    /// An unknown name, two missing values, a negative value other than -1, a soft limit above the hard one.
    pub fn new(name: &str, soft: Option<i64>, hard: Option<i64>) -> Result<Self, SpecError> {
        let resource = resource(name)?;
        let (Some(soft), Some(hard)) = (soft.or(hard), hard.or(soft)) else {
            return Err(SpecError::of_text(
                "ulimits",
                name,
                "it has neither a soft nor a hard limit",
                "Give one of them; -1 means no limit",
            ));
        };
        let (soft, hard) = (amount(name, soft)?, amount(name, hard)?);
        if soft > hard {
            return Err(SpecError::of_text(
                "ulimits",
                format!("{name}={}:{}", shown(soft), shown(hard)),
                "its soft limit is above the hard one",
                format!("Give a hard limit of at least {}", shown(soft)),
            ));
        }
        Ok(Self { resource, soft, hard })
    }

    /// Parse a limit in the form of docker's `--ulimit`: `NAME=SOFT[:HARD]`.
    ///
    /// # Errors
    ///
    /// Text in another form, and the errors of [`Ulimit::new`].
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let malformed = || {
            SpecError::of_text(
                "ulimits",
                text,
                "it is not of the form NAME=SOFT[:HARD]",
                "Write \"nofile=1024:4096\", for example; -1 means no limit",
            )
        };
        let (name, values) = text.split_once('=').ok_or_else(malformed)?;
        let number = |text: &str| match text {
            "unlimited" => Ok(-1),
            _ => text.parse::<i64>().map_err(|_| malformed()),
        };
        match values.split_once(':') {
            None => Self::new(name, Some(number(values)?), None),
            Some((soft, hard)) => Self::new(name, Some(number(soft)?), Some(number(hard)?)),
        }
    }

    /// Return this process's limit.
    ///
    /// # Errors
    ///
    /// Those of prlimit64(2): EINVAL for a resource that the kernel does not have, or the answer of a seccomp filter.
    pub fn current(resource: u32) -> std::io::Result<Self> {
        let (soft, hard) = crate::sys::resource_limit(resource)?;
        Ok(Self { resource, soft, hard })
    }

    /// Return the lower soft limit and the lower hard limit of this and another limit of the same resource.
    #[must_use]
    pub fn lowest(self, other: Self) -> Self {
        Self { soft: self.soft.min(other.soft), hard: self.hard.min(other.hard), ..self }
    }

    /// Return docker's name of the resource.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAMES.iter().find(|(_, number)| *number == self.resource).map_or("?", |(name, _)| name)
    }
}

/// Compare two strings in a constant, where `==` is not available yet.
const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

fn resource(name: &str) -> Result<u32, SpecError> {
    NAMES.iter().find(|(known, _)| *known == name).map(|&(_, number)| number).ok_or_else(|| {
        let names = || NAMES.iter().map(|&(name, _)| name);
        let remedy = nearest_or(name, names(), || {
            format!("It is one of {}", names().collect::<Vec<_>>().join(", "))
        });
        SpecError::of_text(
            "ulimits",
            name,
            Reason::new(ReasonKind::UnknownName, "no resource limit has this name"),
            remedy,
        )
    })
}

fn amount(name: &str, value: i64) -> Result<u64, SpecError> {
    match value {
        -1 => Ok(UNLIMITED),
        _ => u64::try_from(value).map_err(|_| {
            SpecError::of_text(
                "ulimits",
                format!("{name}={value}"),
                "it is negative",
                "Give 0 or more, or -1 for no limit",
            )
        }),
    }
}

fn shown(limit: u64) -> String {
    if limit == UNLIMITED { "-1".into() } else { limit.to_string() }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, UNLIMITED, Ulimit};

    #[test]
    fn the_numbers_are_those_of_this_kernel() {
        // /proc/self/limits has one line for each resource, ordered by number.
        let titles = [
            ("cpu", "cpu time"),
            ("fsize", "file size"),
            ("data", "data size"),
            ("stack", "stack size"),
            ("core", "core file size"),
            ("rss", "resident set"),
            ("nproc", "processes"),
            ("nofile", "open files"),
            ("memlock", "locked memory"),
            ("as", "address space"),
            ("locks", "file locks"),
            ("sigpending", "pending signals"),
            ("msgqueue", "msgqueue size"),
            ("nice", "nice priority"),
            ("rtprio", "realtime priority"),
            ("rttime", "realtime timeout"),
        ];
        assert_eq!(titles.len(), NAMES.len());
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        for (name, title) in titles {
            let number = limits.lines().skip(1).position(|line| line.contains(title)).unwrap();
            let ulimit = Ulimit::new(name, Some(1), None).unwrap();
            assert_eq!((ulimit.resource as usize, ulimit.name()), (number, name));
        }
    }

    #[test]
    fn minus_one_means_no_limit_and_one_value_stands_for_both() {
        let both = |ulimit: Ulimit| (ulimit.soft, ulimit.hard);
        assert_eq!(both(Ulimit::new("nofile", Some(5), None).unwrap()), (5, 5));
        assert_eq!(both(Ulimit::new("nofile", None, Some(5)).unwrap()), (5, 5));
        assert_eq!(both(Ulimit::new("core", Some(0), Some(-1)).unwrap()), (0, UNLIMITED));
        assert_eq!(both(Ulimit::parse("nofile=1024:2048").unwrap()), (1024, 2048));
        assert_eq!(both(Ulimit::parse("stack=unlimited").unwrap()), (UNLIMITED, UNLIMITED));
    }

    #[test]
    fn an_impossible_limit_is_refused_with_its_name() {
        let refused = |name, soft, hard| Ulimit::new(name, soft, hard).unwrap_err().to_string();
        assert_eq!(
            refused("nofiles", Some(1), None),
            "ulimits=\"nofiles\": no resource limit has this name. Did you mean \"nofile\"?"
        );
        assert!(refused("", Some(1), None).ends_with("rttime, sigpending, stack"));
        assert!(refused("nofile", None, None).contains("neither"));
        assert!(refused("nofile", Some(-2), None).contains("\"nofile=-2\": it is negative"));
        assert!(refused("nofile", Some(-1), Some(9)).contains("\"nofile=-1:9\""));
        assert!(refused("nofile", Some(10), Some(9)).contains("at least 10"));
        for text in ["nofile", "nofile=", "nofile=x", "nofile=1:", "nofile=1:2:3", "=1", ""] {
            assert!(Ulimit::parse(text).is_err(), "{text}");
        }
    }
}

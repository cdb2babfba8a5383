//! Environment variables with which programs find their files.
//!
//! A program whose variable names a missing file goes on without it: with no certificates, in UTC, without a library
//! or a module. `PATH` and the variables of directories to write to (`HOME`, `TMPDIR`) are left out, since a missing
//! one shows at once.

/// How a variable names paths.
#[derive(Clone, Copy)]
enum Form {
    /// One path.
    Path,
    /// Paths with colons between them.
    Colons,
    /// Paths with colons, semicolons or white space between them, as ld.so(8) splits them.
    Loader,
    /// `:` and a path, or a path: tzset(3).
    TimeZone,
}

const VARIABLES: [(&str, Form); 36] = [
    ("AWS_CA_BUNDLE", Form::Path),
    ("BASH_ENV", Form::Path),
    ("CARGO_HTTP_CAINFO", Form::Path),
    ("CURL_CA_BUNDLE", Form::Path),
    ("FONTCONFIG_FILE", Form::Path),
    ("FONTCONFIG_PATH", Form::Path),
    ("GCONV_PATH", Form::Colons),
    ("GEM_PATH", Form::Colons),
    ("GIT_SSL_CAINFO", Form::Path),
    ("GIT_SSL_CAPATH", Form::Path),
    ("ICU_DATA", Form::Colons),
    ("LD_AUDIT", Form::Loader),
    ("LD_LIBRARY_PATH", Form::Loader),
    ("LD_PRELOAD", Form::Loader),
    ("LOCALE_ARCHIVE", Form::Path),
    ("LOCPATH", Form::Colons),
    ("MAGIC", Form::Colons),
    ("MATPLOTLIBRC", Form::Path),
    ("NODE_EXTRA_CA_CERTS", Form::Path),
    ("NODE_PATH", Form::Colons),
    ("OPENSSL_CONF", Form::Path),
    ("OPENSSL_MODULES", Form::Path),
    ("PERL5LIB", Form::Colons),
    ("PIP_CERT", Form::Path),
    ("PYTHONHOME", Form::Colons),
    ("PYTHONPATH", Form::Colons),
    ("PYTHONTZPATH", Form::Colons),
    ("QT_PLUGIN_PATH", Form::Colons),
    ("REQUESTS_CA_BUNDLE", Form::Path),
    ("RUBYLIB", Form::Colons),
    ("SSL_CERT_DIR", Form::Colons),
    ("SSL_CERT_FILE", Form::Path),
    ("TERMINFO", Form::Path),
    ("TERMINFO_DIRS", Form::Colons),
    ("TZ", Form::TimeZone),
    ("TZDIR", Form::Path),
];

/// Returns the absolute paths that a line `NAME=value` of an environment names, with the name.
pub(crate) fn paths(line: &[u8]) -> Option<(&'static str, impl Iterator<Item = &[u8]>)> {
    let equals = line.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (&line[..equals], &line[equals + 1..]);
    let row = VARIABLES.binary_search_by(|(known, _)| known.as_bytes().cmp(name)).ok()?;
    let (name, form) = VARIABLES[row];
    let value = match form {
        Form::TimeZone => value.strip_prefix(b":").unwrap_or(value),
        _ => value,
    };
    let separates = move |byte: &u8| match form {
        Form::Path | Form::TimeZone => false,
        Form::Colons => *byte == b':',
        Form::Loader => matches!(byte, b':' | b';') || byte.is_ascii_whitespace(),
    };
    Some((name, value.split(separates).filter(|path| path.starts_with(b"/"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<&str> {
        let paths = paths(line.as_bytes()).into_iter().flat_map(|(_, paths)| paths);
        paths.filter_map(|path| std::str::from_utf8(path).ok()).collect()
    }

    #[test]
    fn the_variables_are_in_order() {
        assert!(VARIABLES.is_sorted_by(|(one, _), (next, _)| one < next));
    }

    #[test]
    fn each_form_is_split_as_its_programs_split_it() {
        assert_eq!(found("SSL_CERT_FILE=/a:b/c d"), ["/a:b/c d"]);
        assert_eq!(found("PYTHONPATH=/a::b:/c d"), ["/a", "/c d"]);
        assert_eq!(found("LD_PRELOAD=/a.so libb.so:/c.so;/d.so"), ["/a.so", "/c.so", "/d.so"]);
        assert_eq!(found("TZ=:/etc/zone"), ["/etc/zone"]);
        assert_eq!(found("TZ=Europe/Berlin"), [""; 0]);
        assert_eq!(found("SSL_CERT_FILE="), [""; 0]);
    }

    #[test]
    fn other_lines_name_no_paths() {
        for line in ["PATH=/bin", "SSL_CERT_FILES=/a", "ssl_cert_file=/a", "/a", "=/a", ""] {
            assert!(paths(line.as_bytes()).is_none(), "{line}");
        }
    }
}

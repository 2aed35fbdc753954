//! Environment variables in paths: `${VAR}`.

/// Replaces each `${VAR}` by the variable's value, and each `$${` by `${`.
///
/// If a variable is not set, the error is the variable's name.
pub(super) fn expand(text: &str, env: &[(String, String)]) -> Result<String, String> {
    let mut done = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            done.push_str(&rest[..start - 1]);
            done.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        let Some(length) = rest[start..].find('}') else { break };
        let name = &rest[start + 2..start + length];
        let (_, value) = env.iter().rfind(|(var, _)| var == name).ok_or_else(|| name.to_owned())?;
        done.push_str(&rest[..start]);
        done.push_str(value);
        rest = &rest[start + length + 1..];
    }
    Ok(done + rest)
}

/// Escapes `${` in a path, so that [`expand`] returns the path unchanged.
pub(super) fn escape(path: &str) -> String {
    path.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_escapes_survive() {
        let env = [("A".to_owned(), "/a".to_owned()), ("B".to_owned(), "${A}".to_owned())];
        assert_eq!(expand("${A}/x/${A}", &env).unwrap(), "/a/x//a");
        assert_eq!(expand("$${A}", &env).unwrap(), "${A}");
        assert_eq!(expand("${A", &env).unwrap(), "${A");
        assert_eq!(expand("x/${C}", &env).unwrap_err(), "C");
        for text in ["plain", "${A}", "$${A}", "a$$", "${"] {
            assert_eq!(expand(&escape(text), &env).unwrap(), text);
        }
        assert_eq!(expand("${B}", &env).unwrap(), "${A}", "a value is not expanded again");
    }
}

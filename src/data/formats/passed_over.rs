//! Files that all formats ignore: hidden files, and files that operating systems add.

use std::collections::BTreeMap;

/// Number of ignored files, by description such as `hidden files`.
pub(in crate::data) type PassedOver = BTreeMap<String, u64>;

/// Maximum number of different descriptions. After that, [`count`] uses a general description for new files.
const DESCRIPTIONS: usize = 20;

/// Adds `count` ignored files with the description `what`.
///
/// Uses the description `others` instead if `what` is new and [`DESCRIPTIONS`] is reached.
pub(super) fn count(passed_over: &mut PassedOver, what: &str, others: &str, count: u64) {
    let is_known = passed_over.contains_key(what) || passed_over.len() < DESCRIPTIONS;
    let what = if is_known { what } else { others };
    *passed_over.entry(what.to_owned()).or_default() += count;
}

/// Adds the counts in `more` to `all`.
pub(in crate::data) fn merge(all: &mut PassedOver, more: &PassedOver) {
    for (what, count) in more {
        *all.entry(what.clone()).or_default() += count;
    }
}

/// Returns the description of an ignored file or folder, such as `hidden files`.
///
/// Returns `None` if the file or folder is not ignored. `name` is a file name without parent folders.
pub(in crate::data) fn of_no_use(name: &str) -> Option<&'static str> {
    match name {
        "." | ".." => None,
        "__MACOSX" => Some("`__MACOSX`"),
        "Thumbs.db" | "ehthumbs.db" => Some("`Thumbs.db`"),
        "desktop.ini" => Some("`desktop.ini`"),
        name if name.starts_with("._") => Some("AppleDouble files (`._*`)"),
        name if name.starts_with('.') => Some("hidden files"),
        _ => None,
    }
}

/// Returns the description of an ignored archive member; `None` if the member is not ignored.
///
/// Checks the file name and all parent folders with [`of_no_use`]. Also ignores metadata of the Python package
/// `webdataset`, such as `__meta__/info.txt`.
pub(super) fn of_no_use_in(path: &str) -> Option<&'static str> {
    let mut parts = path.split('/');
    let first = parts.clone().find(|part| !matches!(*part, "" | "."));
    let is_metadata = |part: &str| part.len() > 4 && part.starts_with("__") && part.ends_with("__");
    if first.is_some_and(is_metadata) {
        return Some("metadata of webdataset (`__*__`)");
    }
    parts.find_map(of_no_use)
}

#[cfg(test)]
mod tests {
    use super::of_no_use_in;

    #[test]
    fn hidden_files_are_of_no_use_wherever_they_are() {
        for path in ["._a.jpg", "./._a.jpg", "x/.cache/a.jpg", "__MACOSX/x/a.jpg", ".DS_Store"] {
            assert!(of_no_use_in(path).is_some(), "{path}");
        }
        assert!(of_no_use_in("a/Thumbs.db").is_some() && of_no_use_in("__meta__/a.txt").is_some());
        for path in
            ["./a.jpg", "../a.jpg", "a/b.c/d.jpg", "__a.jpg", "/x/__y__.jpg", "a/__b__/c.jpg"]
        {
            assert_eq!(of_no_use_in(path), None, "{path}");
        }
    }
}

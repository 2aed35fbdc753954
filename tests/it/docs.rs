//! Every relative link of the Markdown pages leads to a file of the repository, and every `#anchor` to a heading.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// Folders whose pages are not part of the repository.
const NOT_OURS: [&str; 4] = ["target", "runs", "gpu_check_out", "node_modules"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the Markdown pages below `folder`, without hidden folders and build output.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the repository");
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("readable").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()) {
                found.extend(pages(&path));
            }
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the lines outside code blocks, each with its number from 1.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fence = None;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(_)) => fence = mark,
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => lines.push((number, line)),
            (Some(_), _) => {}
        }
    }
    lines
}

static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new("``[^`].*?``|`[^`]*`").expect("valid"));
/// `](target)`, `](target "title")`, `[name]: target`, `src="target"`, `href="target"`.
static LINK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\]\(<?([^)>" ]+)>?[^)]*\)|^ *\[[^\]]+\]: *<?([^> ]+)|(?:src|href)="([^"]+)""#)
        .expect("valid")
});

/// Returns the targets of all links of a page, each with the number of its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = CODE.replace_all(line, "``");
        for link in LINK.captures_iter(&line) {
            let target = link.iter().skip(1).flatten().next().expect("one of the forms");
            found.push((number, target.as_str().to_owned()));
        }
    }
    found
}

/// Returns the anchors of a page's headings: lower case, `-` for a space, no punctuation, `-1` for a second one.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut anchors = Vec::new();
    for (_, line) in prose(text) {
        let Some(heading) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#')) else {
            continue;
        };
        let Some(heading) = heading.strip_prefix(' ') else { continue };
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let slug: String = heading.trim().to_lowercase().chars().filter(kept).collect();
        let slug = slug.replace(' ', "-");
        let count = seen.entry(slug.clone()).or_default();
        anchors.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

/// Returns what is wrong with a link of `page`, or `None`. Links to other sites are not followed.
fn problem(page: &Path, target: &str) -> Option<String> {
    if ["http://", "https://", "mailto:", "data:"].iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(f, a)| (f, Some(a)));
    let path =
        if file.is_empty() { page.to_owned() } else { page.parent().unwrap_or(page).join(file) };
    let Ok(path) = path.canonicalize() else { return Some("there is no such file".to_owned()) };
    if !path.starts_with(root().canonicalize().expect("the repository")) {
        return Some("it is outside the repository".to_owned());
    }
    let anchor = anchor.filter(|_| path.extension().is_some_and(|ending| ending == "md"))?;
    let headings = anchors(&fs::read_to_string(&path).expect("a page"));
    (!headings.iter().any(|heading| heading == anchor))
        .then(|| format!("there is no such heading: the page has {headings:?}"))
}

#[test]
fn every_relative_link_resolves() {
    let mut pages = pages(root());
    pages.push(root().join("runs/README.md"));
    let names: Vec<_> = pages.iter().map(|page| page.strip_prefix(root()).unwrap()).collect();
    for expected in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiments/README.md"] {
        assert!(names.contains(&Path::new(expected)), "{names:?}");
    }
    let mut problems = Vec::new();
    let mut checked = 0;
    for (page, name) in pages.iter().zip(names) {
        for (line, target) in links(&fs::read_to_string(page).expect("a page")) {
            checked += 1;
            if let Some(problem) = problem(page, &target) {
                problems.push(format!("{}:{line}: {target}: {problem}", name.display()));
            }
        }
    }
    assert!(problems.is_empty(), "broken links:\n{}", problems.join("\n"));
    assert!(checked >= 10, "only {checked} links found: the search may be broken");
}

#[test]
fn a_broken_link_is_found() {
    let page = root().join("README.md");
    for broken in ["nowhere.md", "experiments/README.md#nothing", "#nothing", "../elsewhere.md"] {
        assert!(problem(&page, broken).is_some(), "{broken}");
    }
    for whole in ["experiments/README.md", "https://burn.dev", "src", "src/lib.rs#L3"] {
        assert_eq!(problem(&page, whole), None, "{whole}");
    }
}

#[test]
fn links_and_anchors_are_read_as_forges_read_them() {
    let text = "# A page's *first* heading: `mae run`\n\
                See [one](a.md#b) and ![two](b.png \"title\"), not `[code](c.md)`.\n\
                ```sh\n[no](d.md)\n# no heading\n```\n\
                [ref]: e.md\n<img src=\"f.png\" alt=\"\">\n## Twice\n## Twice\n";
    let targets: Vec<_> = links(text).into_iter().map(|(_, target)| target).collect();
    assert_eq!(targets, ["a.md#b", "b.png", "e.md", "f.png"]);
    assert_eq!(anchors(text), ["a-pages-first-heading-mae-run", "twice", "twice-1"]);
}

/// Comments before the examples tell `scripts/docs_outputs.sh` which commands it runs.
#[test]
fn every_example_can_be_run_by_the_script() {
    let mut pages = pages(&root().join("docs"));
    pages.push(root().join("README.md"));
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page");
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        for pair in lines.windows(2) {
            let place = format!("{}: {}", page.display(), pair[0]);
            if pair[0].starts_with("<!-- not run") {
                assert!(pair[0].starts_with("<!-- not run: "), "{place}: the reason is missing");
                assert_eq!(pair[1], "```text", "{place}");
            } else if pair[0] == "<!-- set-up -->" {
                assert_eq!(pair[1], "```sh", "{place}");
            } else if pair[0].starts_with("```") && pair[1].starts_with("$ ") {
                assert_eq!(pair[0], "```text", "{place}: an example is a `text` block");
            }
        }
    }
}

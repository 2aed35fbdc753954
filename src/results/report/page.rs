//! The HTML report as a whole, with its parts in order.

use super::input::Report;
use super::text::{escape, shell_word};
use super::{about, accuracy, confusion, curves, pictures, plot, provenance, top1};
use crate::recipe;
use crate::results::RunError;
use std::fmt::Write as _;

const STYLE: &str = include_str!("style.css");

/// Returns the whole page as HTML.
pub(super) fn page(report: &Report<'_>) -> Result<String, RunError> {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} · mae</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<main>\n",
        escape(&report.name),
        plot::style_rules()
    );
    html.push_str(&about::head(report));
    section(&mut html, "Accuracy", &accuracy::accuracy(report));
    section(&mut html, "Top-1", &top1::plots(report));
    html.push_str(&confusion::confusions(report)?);
    section(&mut html, "Epoch by epoch", &curves::curves(report));
    html.push_str(&pictures::reconstructions(report)?);
    section(&mut html, "Recipe", &recipe(report));
    section(&mut html, "Provenance", &provenance::provenance(report));
    html.push_str("</main>\n</body>\n</html>\n");
    Ok(html)
}

fn section(html: &mut String, title: &str, content: &str) {
    if !content.is_empty() {
        let id = title.to_lowercase().replace(' ', "-");
        let _ = writeln!(html, "<section id=\"{id}\"><h2>{title}</h2>\n{content}</section>");
    }
}

/// Returns the resolved recipe and the command that repeats the run.
fn recipe(report: &Report<'_>) -> String {
    let mut html = String::from("<p>To repeat the run in another folder:</p>\n<pre>");
    for run in report.points {
        let file = run.path.join("recipe.toml").display().to_string();
        let _ = writeln!(html, "mae run {} --runs again", escape(&shell_word(&file)));
    }
    html.push_str("</pre>\n<p class=\"note\">Without <code>--runs again</code>, the command continues this run and skips the jobs that are done.</p>\n");
    let first = &report.points[0];
    let which = if report.is_sweep {
        format!(
            " of {}. The other runs of the sweep have different values of the swept keys",
            about::point_name(first)
        )
    } else {
        String::new()
    };
    let _ = writeln!(
        html,
        "<details><summary>The resolved recipe{}</summary><pre>{}</pre></details>",
        escape(&which),
        escape(&recipe::recipe_toml(&first.recipe))
    );
    html
}

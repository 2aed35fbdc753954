//! Finds readable names of the classes.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::data::error::DataError;

/// The ImageNet-1k classes: a CSV file with the columns index, `WordNet` id and names.
const IMAGENET1K: &str = include_str!("imagenet1k_classes.csv");
/// Accepted CSV headers for the column with the names of the class folders.
const FOLDER_HEADERS: [&str; 5] = ["wnid", "folder", "class", "id", "label"];
/// Accepted CSV headers for the column with the readable class names.
const NAME_HEADERS: [&str; 2] = ["names", "name"];

enum ClassMap {
    ByFolder(HashMap<String, String>),
    /// One name per class, in label order.
    InOrder(Vec<String>),
}

/// Returns the names of the ImageNet-1k classes in label order. A name includes synonyms: `tench, Tinca tinca`.
pub fn imagenet1k_names() -> Vec<String> {
    imagenet1k().map(|[_, names]| names).collect()
}

/// Returns `[WordNet ID, readable names]` of each ImageNet-1k class, in label order.
pub(in crate::data) fn imagenet1k() -> impl Iterator<Item = [String; 2]> {
    let rows = csv::Reader::from_reader(IMAGENET1K.as_bytes()).into_records();
    rows.map(|row| {
        let row = row.expect("the ImageNet classes are part of the program");
        [row[1].to_owned(), row[2].to_owned()]
    })
}

/// Returns a readable name for each class folder.
///
/// With `class_map`, reads the names from this file. Without `class_map`:
///
/// - If all folders are `WordNet` ids of ImageNet-1k, returns the ImageNet-1k names.
/// - Otherwise, returns the folder names.
pub(in crate::data) fn readable_names(
    folders: &[String],
    class_map: Option<&Path>,
) -> Result<Vec<String>, DataError> {
    if let Some(path) = class_map {
        return read_map(path, folders)?.apply(path, folders);
    }
    let imagenet: HashMap<_, _> = imagenet1k().map(|[wnid, names]| (wnid, names)).collect();
    let names: Option<Vec<_>> = folders.iter().map(|f| imagenet.get(f).cloned()).collect();
    Ok(names.unwrap_or_else(|| folders.to_vec()))
}

impl ClassMap {
    fn apply(self, path: &Path, folders: &[String]) -> Result<Vec<String>, DataError> {
        match self {
            Self::InOrder(names) if names.len() == folders.len() => Ok(names),
            Self::InOrder(names) => {
                let problem = format!(
                    "the number of names in `data.class_map` is {}, but the data has {} classes",
                    names.len(),
                    folders.len()
                );
                Err(DataError::layout(path, problem, FORMS))
            }
            Self::ByFolder(names) => folders
                .iter()
                .map(|folder| names.get(folder).cloned().ok_or_else(|| missing(path, folder)))
                .collect(),
        }
    }
}

const FORMS: &str = "write one name per line in the order of the classes, or write `folder name` lines. A CSV file \
                     needs the columns `folder` (or `wnid`) and `name` (or `names`)";

fn missing(path: &Path, folder: &str) -> DataError {
    DataError::layout(path, format!("`data.class_map` has no name for class `{folder}`"), FORMS)
}

fn read_map(path: &Path, folders: &[String]) -> Result<ClassMap, DataError> {
    let text = fs::read_to_string(path).map_err(|e| DataError::unreadable(path, e))?;
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        parse_csv(&text).map_err(|error| {
            DataError::layout(path, format!("`data.class_map` is not valid CSV: {error}"), FORMS)
        })
    } else {
        Ok(parse_text(&text, folders))
    }
}

/// Parses a CSV class map. Without a header line, the last two columns are folder name and class name.
fn parse_csv(text: &str) -> Result<ClassMap, csv::Error> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
    let Some(header) = rows.first() else { return Ok(ClassMap::InOrder(Vec::new())) };
    let column = |names: &[&str]| header.iter().position(|cell| names.contains(&cell.trim()));
    let (folder, name, skip) = match (column(&FOLDER_HEADERS), column(&NAME_HEADERS)) {
        (folder, Some(name)) => (folder, name, 1),
        (_, None) => (header.len().checked_sub(2), header.len() - 1, 0),
    };
    let rows = rows.iter().skip(skip);
    Ok(match folder {
        Some(folder) => {
            ClassMap::ByFolder(rows.map(|r| (r[folder].to_owned(), r[name].to_owned())).collect())
        }
        None => ClassMap::InOrder(rows.map(|r| r[name].to_owned()).collect()),
    })
}

/// Parses a text class map. Each line is a class name, optionally with the folder name before the class name.
fn parse_text(text: &str, folders: &[String]) -> ClassMap {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let pairs = lines.iter().filter_map(|line| line.split_once(char::is_whitespace));
    let by_folder: HashMap<_, _> =
        pairs.map(|(folder, name)| (folder.to_owned(), name.trim().to_owned())).collect();
    if folders.iter().all(|folder| by_folder.contains_key(folder)) {
        ClassMap::ByFolder(by_folder)
    } else {
        ClassMap::InOrder(lines.into_iter().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(file: &str, text: &str, folders: &[&str]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        std::io::Write::write_all(&mut fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
        let folders: Vec<String> = folders.iter().map(ToString::to_string).collect();
        readable_names(&folders, Some(&path)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_map_may_be_csv_or_text_by_folder_or_in_order() {
        let expected = Ok(vec!["tench, Tinca".to_owned(), "owl".to_owned()]);
        let folders = ["n01", "n02"];
        let csv = "index,wnid,names\n7,n02,owl\n3,n01,\"tench, Tinca\"\n";
        assert_eq!(names("map.csv", csv, &folders), expected);
        assert_eq!(names("map.csv", "n01,\"tench, Tinca\"\nn02,owl\n", &folders), expected);
        assert_eq!(names("map.csv", "\"tench, Tinca\"\nowl\n", &folders), expected);
        assert_eq!(names("map.txt", "n02 owl\nn01 tench, Tinca\n", &folders), expected);
        assert_eq!(names("map.txt", "tench, Tinca\nowl\n\n", &folders), expected);
    }

    #[test]
    fn a_map_that_does_not_fit_says_why() {
        let error = names("map.csv", "folder,name\nn01,tench\n", &["n01", "n02"]).unwrap_err();
        assert!(error.contains("`data.class_map` has no name for class `n02`"), "{error}");
        let error = names("map.txt", "tench\n", &["n01", "n02"]).unwrap_err();
        assert!(
            error.contains("names in `data.class_map` is 1, but the data has 2 classes"),
            "{error}"
        );
    }

    #[test]
    fn imagenet_folders_have_names_without_a_map() {
        let folders = ["n01443537".to_owned(), "n01440764".to_owned()];
        let names = readable_names(&folders, None).unwrap();
        assert_eq!(names, ["goldfish, Carassius auratus", "tench, Tinca tinca"]);
        assert_eq!(imagenet1k_names().len(), 1000);
    }
}

//! Chooses the image and the class of a sample, as `webdataset` and timm do.

use std::path::Path;

use crate::data::error::DataError;
use crate::data::formats::listing_cache::{ListedClass, ListedImage};
use crate::data::formats::passed_over::{self, PassedOver};

use super::index::Rules;
use super::label::{self, extension};

/// Image extensions with the highest priority, in the order that timm uses.
const FIRST: [&str; 4] = ["jpg", "png", "webp", "jpeg"];
const ONE_PICTURE: &str = "rename one of the images, because files with the same name before the first dot belong to one \
                           sample. Or set `data.image_key` to the ending after the first dot of the image to read";

/// The tar members of one sample that have been read so far.
#[derive(Default)]
pub(super) struct SampleGroup {
    /// The start of the members' names, up to the first dot: `a` for `a.jpg` and `a.cls`.
    pub(super) key: String,
    /// The images, as (suffix, image). For the tar member `a.Left.JPG`, the suffix is `left.jpg`.
    images: Vec<(String, ListedImage)>,
    /// The classes, as (suffix, class). For the tar member `a.cls`, the suffix is `cls`.
    classes: Vec<(String, ListedClass)>,
}

/// Splits the path of a tar member at the first dot of the file name. Converts the part after the dot to lower case.
///
/// Returns `None` if the file name has no dot, or starts with a dot.
pub(super) fn split_name(name: &str) -> Option<(&str, String)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name[start..].find('.').filter(|dot| *dot > 0)?;
    Some((&name[..start + dot], name[start + dot + 1..].to_lowercase()))
}

impl SampleGroup {
    pub(super) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), ..Self::default() }
    }

    /// Returns whether a tar member is an image. For the member `a.Left.JPG`, `suffix` is `left.jpg`.
    pub(super) fn is_image(suffix: &str, rules: Rules<'_>) -> bool {
        rules.keys.iter().any(|key| key == suffix)
            || rules.images.contain(Path::new(&format!("x.{suffix}")))
    }

    pub(super) fn add_image(&mut self, suffix: String, image: ListedImage) {
        self.images.push((suffix, image));
    }

    /// Adds the class in `bytes`, if any. `bytes` is the content of the tar member with the name `member`.
    pub(super) fn add_class(&mut self, suffix: String, member: &str, bytes: &[u8]) {
        let class = match label::parse(&suffix, bytes) {
            Some(ListedClass::Invalid(problem)) => {
                ListedClass::Invalid(format!("{member}\n{problem}"))
            }
            Some(class) => class,
            None => return,
        };
        self.classes.push((suffix, class));
    }

    /// Returns the sample's image with its class; `None` if the sample has no image.
    ///
    /// Counts the ignored members in `passed_over`. Fails if two images have the same priority and extension.
    pub(super) fn finish(
        mut self,
        shard: &Path,
        keys: &[String],
        passed_over: &mut PassedOver,
    ) -> Result<Option<ListedImage>, DataError> {
        let mut count = |what: &str, others| passed_over::count(passed_over, what, others, 1);
        let Some(place) = self.place_of_image(shard, keys)? else {
            if !self.images.is_empty() {
                count("samples without data.image_key", "");
            } else if !self.classes.is_empty() {
                count("samples without an image", "");
            }
            return Ok(None);
        };
        let (suffix, image) = self.images.swap_remove(place);
        for (other, _) in &self.images {
            count(&format!("extra images of samples (`{other}`)"), "extra images of samples");
        }
        let rank = |ending: &str| class_rank(&suffix, ending);
        let ranks = self.classes.iter().map(|(ending, _)| rank(ending)).enumerate();
        let best = ranks.min_by_key(|(place, rank)| (*rank, *place));
        let class = best.map(|(place, _)| self.classes.swap_remove(place).1);
        let dotted = best.is_some_and(|(_, rank)| rank >= FIRST_DOTTED);
        Ok(Some(ListedImage { class, dotted, ..image }))
    }

    /// Returns the index in `images` of the image to use.
    ///
    /// With `data.image_key`, uses the first key for which the sample has an image. Otherwise, the order is:
    ///
    /// - images without a second dot in the name, such as `a.jpg`,
    /// - images like `a.input.jpg`,
    /// - all others, such as `a.depth.jpg`.
    ///
    /// In each group, `jpg`, `png`, `webp` and `jpeg` come before other extensions.
    fn place_of_image(&self, shard: &Path, keys: &[String]) -> Result<Option<usize>, DataError> {
        let rank = |suffix: &str| match keys {
            [] => Some(image_rank(suffix)),
            keys => Some((false, false, keys.iter().position(|key| key == suffix)?)),
        };
        let ranked =
            || self.images.iter().enumerate().filter_map(|(i, (s, _))| Some((rank(s)?, i)));
        let Some((best, place)) = ranked().min() else { return Ok(None) };
        let (suffix, image) = &self.images[place];
        let same = |other: usize| extension(&self.images[other].0) == extension(suffix);
        let other = ranked().find(|(rank, other)| *rank == best && *other != place && same(*other));
        let Some((_, other)) = other else { return Ok(Some(place)) };
        let names = [&image.name, &self.images[other].1.name];
        let problem =
            format!("sample `{}` has two images: `{}` and `{}`", self.key, names[0], names[1]);
        Err(DataError::layout(shard, problem, ONE_PICTURE))
    }
}

/// Returns the sort key of an image. The sample uses the image with the lowest key.
///
/// `jpg` comes first, then `input.jpg`, then other suffixes with a dot, such as `depth.jpg`. The last number of the key
/// is the index of the extension in [`FIRST`].
fn image_rank(suffix: &str) -> (bool, bool, usize) {
    let place = FIRST.iter().position(|first| *first == extension(suffix)).unwrap_or(FIRST.len());
    match suffix.rsplit_once('.') {
        None => (false, false, place),
        Some((part, _)) => (true, part != "input", place),
    }
}

/// The lowest [`class_rank`] of members such as `a.x.cls`. Older versions of this program ignored such members.
const FIRST_DOTTED: usize = 2;

/// Returns the priority of a member that contains a class; 0 is the highest.
///
/// For the image `a.x.jpg`, the order is `a.cls`, `a.json`, `a.x.cls`, `a.output.cls`, then all others.
fn class_rank(image: &str, suffix: &str) -> usize {
    let own = image.rsplit_once('.').map(|(part, _)| part);
    match suffix.rsplit_once('.') {
        None if suffix == "cls" => 0,
        None => 1,
        Some((part, _)) if Some(part) == own => FIRST_DOTTED,
        Some(("output", _)) => 3,
        Some(_) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::formats::image_names::ImageNames;

    #[test]
    fn a_sample_is_what_comes_before_the_first_dot_of_the_file_name() {
        assert_eq!(split_name("a.b/c.d.JPG"), Some(("a.b/c", "d.jpg".to_owned())));
        assert_eq!(split_name("./0001.cls"), Some(("./0001", "cls".to_owned())));
        assert_eq!((split_name("README"), split_name("a/.hidden.jpg")), (None, None));
    }

    fn chosen(members: &[&str], keys: &str) -> Result<(String, Option<ListedClass>), String> {
        let keys: Vec<String> =
            keys.split(';').filter(|k| !k.is_empty()).map(str::to_owned).collect();
        let mut group = SampleGroup::new("a");
        for (number, member) in members.iter().enumerate() {
            let suffix = split_name(member).unwrap().1;
            let rules = Rules { keys: &keys, images: ImageNames::Images, checksummed: false };
            if SampleGroup::is_image(&suffix, rules) {
                let image = ListedImage { name: (*member).to_owned(), ..ListedImage::default() };
                group.add_image(suffix, image);
            } else {
                group.add_class(suffix, member, number.to_string().as_bytes());
            }
        }
        let image = group.finish(Path::new("x.tar"), &keys, &mut PassedOver::new());
        let image = image.map_err(|error| error.to_string())?.ok_or("no image")?;
        Ok((image.name, image.class))
    }

    #[test]
    fn the_image_is_the_one_that_timm_takes() {
        let image = |members: &[&str], keys| chosen(members, keys).map(|(name, _)| name);
        let is = |name: &str| Ok(name.to_owned());
        assert_eq!(image(&["a.depth.png", "a.jpg", "a.mask.png"], ""), is("a.jpg"));
        assert_eq!(image(&["a.png", "a.JPG"], ""), is("a.JPG"));
        assert_eq!(image(&["a.jpeg", "a.webp"], ""), is("a.webp"));
        assert_eq!(image(&["a.bmp", "a.tif"], ""), is("a.bmp"));
        assert_eq!(image(&["a.depth.jpg", "a.input.png"], ""), is("a.input.png"));
        assert_eq!(image(&["a.depth.png", "a.rgb.jpg"], ""), is("a.rgb.jpg"));
        assert_eq!(image(&["a.1.png", "a.2.png", "a.jpg"], ""), is("a.jpg"));
        assert_eq!(image(&["a.jpg", "a.depth.png"], "depth.png"), is("a.depth.png"));
        assert_eq!(image(&["a.jpg", "a.img"], "x;img;jpg"), is("a.img"));
        assert_eq!(image(&["a.jpg"], "png"), Err("no image".to_owned()));
        for members in [["a.jpg", "a.JPG"], ["a.left.jpg", "a.right.jpg"]] {
            assert!(image(&members, "").unwrap_err().contains("sample `a` has two images"));
        }
    }

    #[test]
    fn the_class_belongs_to_the_image() {
        // The class of a member is its place in the sample.
        let class = |members: &[&str]| chosen(members, "").unwrap().1;
        let is = |place| Some(ListedClass::TextNumber(place));
        assert_eq!(class(&["a.input.jpg", "a.output.cls"]), is(1));
        assert_eq!(class(&["a.x.cls", "a.jpg", "a.cls"]), is(2));
        assert_eq!(class(&["a.output.cls", "a.rgb.cls", "a.rgb.jpg"]), is(1));
        assert_eq!(class(&["a.x.cls", "a.jpg"]), is(0));
        assert_eq!(class(&["a.jpg"]), None);
    }
}

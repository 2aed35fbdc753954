//! timm's notation for a RandAugment policy, `rand-m9-mstd0.5-inc1`.

/// Operations that timm's weights can choose, without replacement.
const MAX_WEIGHTED: usize = 13;
/// More operations than this on one picture are a slip.
const MAX_LAYERS: usize = 100;

/// A policy: what is drawn for a picture (arXiv 1909.13719, as timm 0.3.2 does it).
#[derive(Debug, Clone, PartialEq)]
pub struct RandAugmentPlan {
    /// Mean of the magnitudes; above 10 it is drawn around and cut to 10.
    pub magnitude: f64,
    /// Deviation of the magnitudes.
    pub std: f64,
    /// Operations chosen for a picture; each is applied with probability 0.5.
    pub layers: usize,
    /// Takes the forms that get stronger with the magnitude.
    pub increasing: bool,
    /// Chooses by timm's weights, without replacement.
    pub weighted: bool,
}

impl RandAugmentPlan {
    /// Reads timm's notation: `rand`, then sections in any order, joined by `-`: `m` magnitude (10), `n` operations a
    /// picture (2), `mstd` deviation of the magnitude (0), `inc1` for operations that get stronger with the magnitude (0),
    /// `w0` for timm's only set of weights.
    ///
    /// Where timm 0.3.2 guesses or is silent, this refuses: unknown sections, sections without a number, sections given
    /// twice. One thing differs: `inc0` switches `inc` off, as timm documents and does since; 0.3.2 takes any number after
    /// `inc` for yes. The error says which section is wrong and what is expected.
    pub fn parse(policy: &str) -> Result<Self, String> {
        let mut sections = policy.split('-');
        if sections.next() != Some("rand") {
            return Err("it does not start with `rand`, the only kind of policy".to_owned());
        }
        let mut parsed =
            Self { magnitude: 10.0, std: 0.0, layers: 2, increasing: false, weighted: false };
        let mut seen = Vec::new();
        for section in sections {
            let digits = section.find(|c: char| c.is_ascii_digit()).unwrap_or(section.len());
            let (key, value) = section.split_at(digits);
            if seen.contains(&key) {
                return Err(format!("section `{section}`: `{key}` is given twice, expected once"));
            }
            seen.push(key);
            parsed.set(key, value).map_err(|expected| {
                format!("section `{section}` is not understood, expected {expected}")
            })?;
        }
        let most = if parsed.weighted { MAX_WEIGHTED } else { MAX_LAYERS };
        if parsed.layers > most {
            let by = if parsed.weighted { " with `w0`" } else { "" };
            let n = parsed.layers;
            return Err(format!("section `n{n}` is too many, expected at most n{most}{by}"));
        }
        Ok(parsed)
    }

    /// Reads one section; the error is what was expected.
    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "m" => {
                let whole: u32 = value.parse().map_err(|_| "`m` and a whole number, as `m9`")?;
                self.magnitude = f64::from(whole);
            }
            "n" => self.layers = value.parse().map_err(|_| "`n` and a whole number, as `n2`")?,
            "mstd" => {
                let std = value.parse().ok().filter(|std: &f64| std.is_finite());
                self.std = std.ok_or("`mstd` and a number, as `mstd0.5`")?;
            }
            "inc" => {
                self.increasing = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err("`inc0` or `inc1`"),
                };
            }
            "w" if value == "0" => self.weighted = true,
            "w" => return Err("`w0`, the only set of weights"),
            _ => return Err("`m`, `n`, `mstd`, `inc` or `w` and a number"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(policy: &str) -> String {
        RandAugmentPlan::parse(policy).unwrap_err()
    }

    #[test]
    fn sections_are_read_in_any_order() {
        let official = RandAugmentPlan::parse("rand-m9-mstd0.5-inc1").unwrap();
        let expected = RandAugmentPlan {
            magnitude: 9.0,
            std: 0.5,
            layers: 2,
            increasing: true,
            weighted: false,
        };
        assert_eq!(official, expected);
        assert_eq!(RandAugmentPlan::parse("rand-inc1-mstd0.5-n2-m9"), Ok(official));
        let weighted = RandAugmentPlan::parse("rand-w0-n13-inc0-mstd101").unwrap();
        assert!(weighted.weighted && !weighted.increasing);
        assert_eq!((weighted.layers, weighted.std, weighted.magnitude), (13, 101.0, 10.0));
    }

    #[test]
    fn an_error_names_the_section_and_what_is_expected() {
        let not_rand = "does not start with `rand`, the only kind of policy";
        for policy in ["", "original-mstd0.5", "v0", "randaugment", "augmix-m5"] {
            assert_eq!(error(policy), format!("it {not_rand}"));
        }
        for (section, expected) in [
            ("m9.5", "`m` and a whole number, as `m9`"),
            ("m", "`m` and a whole number, as `m9`"),
            ("n2x", "`n` and a whole number, as `n2`"),
            ("mstd1e999", "`mstd` and a number, as `mstd0.5`"),
            ("mstdinf", "`m`, `n`, `mstd`, `inc` or `w` and a number"),
            ("inc2", "`inc0` or `inc1`"),
            ("w1", "`w0`, the only set of weights"),
            ("nine", "`m`, `n`, `mstd`, `inc` or `w` and a number"),
            ("", "`m`, `n`, `mstd`, `inc` or `w` and a number"),
        ] {
            let expected = format!("section `{section}` is not understood, expected {expected}");
            assert_eq!(error(&format!("rand-{section}")), expected);
        }
        assert_eq!(error("rand-m9-m8"), "section `m8`: `m` is given twice, expected once");
        let too_many = "section `n14` is too many, expected at most n13 with `w0`";
        assert_eq!(error("rand-n14-w0"), too_many);
    }
}

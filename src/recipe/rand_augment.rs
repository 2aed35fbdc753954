//! timm's notation for a RandAugment policy, `rand-m9-mstd0.5-inc1`.

/// Number of operations with a nonzero probability in timm's option `w0`.
const MAX_WEIGHTED: usize = 13;
/// Maximum number of operations per image.
const MAX_LAYERS: usize = 100;

/// A RandAugment policy (arXiv 1909.13719), as in timm 0.3.2.
#[derive(Debug, Clone, PartialEq)]
pub struct RandAugmentPlan {
    /// Mean magnitude. Random magnitudes are limited to the range 0 to 10.
    pub magnitude: f64,
    /// Standard deviation of the magnitude.
    pub std: f64,
    /// Number of operations drawn per image. Each operation is applied with probability 0.5.
    pub layers: usize,
    /// Whether a higher magnitude always has a stronger effect, as with timm's option `inc1`.
    pub increasing: bool,
    /// Whether operations have the probabilities of timm's option `w0`.
    ///
    /// If false, all operations are equally likely.
    pub weighted: bool,
}

impl RandAugmentPlan {
    /// Parses timm's notation, such as `rand-m9-mstd0.5-inc1`.
    ///
    /// | part | meaning | default |
    /// | --- | --- | --- |
    /// | `m9` | magnitude | 10 |
    /// | `n2` | operations per image | 2 |
    /// | `mstd0.5` | standard deviation of the magnitude | 0 |
    /// | `inc1` | stronger effect at a higher magnitude | `inc0` |
    /// | `w0` | timm's probabilities of operations | equal probabilities |
    ///
    /// Unlike timm 0.3.2, rejects unknown and repeated parts. Here `inc0` disables `inc1`. In timm 0.3.2, `inc0` means
    /// the same as `inc1`.
    pub fn parse(policy: &str) -> Result<Self, String> {
        let mut sections = policy.split('-');
        if sections.next() != Some("rand") {
            return Err("the policy must start with `rand`".to_owned());
        }
        let mut parsed =
            Self { magnitude: 10.0, std: 0.0, layers: 2, increasing: false, weighted: false };
        let mut seen = Vec::new();
        for section in sections {
            let digits = section.find(|c: char| c.is_ascii_digit()).unwrap_or(section.len());
            let (key, value) = section.split_at(digits);
            if seen.contains(&key) {
                return Err(format!("`{section}` sets `{key}` a second time"));
            }
            seen.push(key);
            parsed
                .set(key, value)
                .map_err(|expected| format!("`{section}` is invalid, expected {expected}"))?;
        }
        let most = if parsed.weighted { MAX_WEIGHTED } else { MAX_LAYERS };
        if parsed.layers > most {
            let by = if parsed.weighted { " with `w0`" } else { "" };
            let n = parsed.layers;
            return Err(format!("`n{n}` is too large, expected at most `n{most}`{by}"));
        }
        Ok(parsed)
    }

    /// Sets one value, such as `m` to `9`. The error describes a valid value.
    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "m" => {
                let whole: u32 =
                    value.parse().map_err(|_| "`m` and a whole number, such as `m9`")?;
                self.magnitude = f64::from(whole);
            }
            "n" => {
                self.layers = value.parse().map_err(|_| "`n` and a whole number, such as `n2`")?;
            }
            "mstd" => {
                let std = value.parse().ok().filter(|std: &f64| std.is_finite());
                self.std = std.ok_or("`mstd` and a number, such as `mstd0.5`")?;
            }
            "inc" => {
                self.increasing = match value {
                    "0" => false,
                    "1" => true,
                    _ => return Err("`inc0` or `inc1`"),
                };
            }
            "w" if value == "0" => self.weighted = true,
            "w" => return Err("`w0`, the only supported set of weights"),
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
        let not_rand = "the policy must start with `rand`";
        for policy in ["", "original-mstd0.5", "v0", "randaugment", "augmix-m5"] {
            assert_eq!(error(policy), not_rand);
        }
        for (section, expected) in [
            ("m9.5", "`m` and a whole number, such as `m9`"),
            ("m", "`m` and a whole number, such as `m9`"),
            ("n2x", "`n` and a whole number, such as `n2`"),
            ("mstd1e999", "`mstd` and a number, such as `mstd0.5`"),
            ("mstdinf", "`m`, `n`, `mstd`, `inc` or `w` and a number"),
            ("inc2", "`inc0` or `inc1`"),
            ("w1", "`w0`, the only supported set of weights"),
            ("nine", "`m`, `n`, `mstd`, `inc` or `w` and a number"),
            ("", "`m`, `n`, `mstd`, `inc` or `w` and a number"),
        ] {
            let expected = format!("`{section}` is invalid, expected {expected}");
            assert_eq!(error(&format!("rand-{section}")), expected);
        }
        assert_eq!(error("rand-m9-m8"), "`m8` sets `m` a second time");
        let too_many = "`n14` is too large, expected at most `n13` with `w0`";
        assert_eq!(error("rand-n14-w0"), too_many);
    }
}

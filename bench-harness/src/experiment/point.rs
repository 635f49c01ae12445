//! A point of an experiment: the values of what it varies.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};

/// Names and values, in the order in which the experiment varies them: `connections=16 rate=1000`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Point(Vec<(&'static str, String)>);

impl Point {
    /// The point of an experiment that varies nothing.
    pub fn new() -> Point {
        Point::default()
    }

    /// The point with one more value.
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Point {
        self.0.push((name, value.to_string()));
        self
    }

    /// The value called `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    /// The value called `name`, parsed.
    pub fn get<T: FromStr>(&self, name: &str) -> Result<T> {
        let value = self.text(name).with_context(|| format!("the point {self} has no {name}"))?;
        value.parse().map_err(|_| anyhow!("{name}={value} is not of the kind it should be"))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_again() {
        let point = Point::new().with("connections", 16).with("direction", "upload");
        assert_eq!(point.to_string(), "connections=16 direction=upload");
        assert_eq!(point.get::<u32>("connections").unwrap(), 16);
        let error = point.get::<u32>("direction").unwrap_err().to_string();
        assert!(error.contains("direction=upload"), "{error}");
        assert!(point.get::<u32>("rate").unwrap_err().to_string().contains("no rate"));
    }
}

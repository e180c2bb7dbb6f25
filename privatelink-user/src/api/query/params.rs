//! The parameters of a request: a flat form whose keys are paths, `Filter.1.Value.2` or `Targets.member.1.Id`.
//!
//! Every parameter that is read is noted, so that one which nobody reads is refused instead of ignored.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use super::refusal::Refusal;
use crate::model::InvalidValue;

/// The most parameters of a request: a thousand targets with three members each.
const MOST: usize = 10_000;

/// The parameters of one request.
#[derive(Debug, Default)]
pub struct Params {
    values: BTreeMap<String, String>,
    read: RefCell<BTreeSet<String>>,
}

/// Parameters that belong to the protocol and not to an action.
const PROTOCOL: &[&str] = &["Action", "Version"];

impl Params {
    /// Decodes `application/x-www-form-urlencoded` texts, the query string and the body; what comes later counts.
    pub fn decode(query: &[u8], body: &[u8]) -> Result<Self, Refusal> {
        let mut values = BTreeMap::new();
        for (key, value) in form_urlencoded::parse(query).chain(form_urlencoded::parse(body)) {
            if values.len() >= MOST {
                return Err(Refusal::malformed(format!("The request has more than {MOST} parameters.")));
            }
            values.insert(key.into_owned(), value.into_owned());
        }
        Ok(Self { values, read: RefCell::default() })
    }

    /// The parameters as one text, for comparing requests.
    pub fn canonical(&self, without: &str) -> String {
        let others = self.values.iter().filter(|(key, _)| key.as_str() != without);
        others.map(|(key, value)| format!("{key}={value}\n")).collect()
    }

    /// All of them.
    pub fn root(&self) -> Scope<'_> {
        Scope { params: self, prefix: String::new() }
    }

    /// The first parameter that nobody has read.
    pub fn unread(&self) -> Option<&str> {
        let read = self.read.borrow();
        self.values.keys().map(String::as_str).find(|key| !read.contains(*key) && !PROTOCOL.contains(key))
    }
}

/// A structure within the parameters.
#[derive(Debug, Clone)]
pub struct Scope<'a> {
    params: &'a Params,
    prefix: String,
}

impl<'a> Scope<'a> {
    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    fn take(&self, path: &str) -> Option<&'a str> {
        let value = self.params.values.get(path)?;
        self.params.read.borrow_mut().insert(path.to_owned());
        Some(value)
    }

    /// The text of a parameter. An empty one counts as not given.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.take(&self.path(name)).filter(|value| !value.is_empty())
    }

    /// The text of a parameter that must be given.
    pub fn required(&self, name: &str) -> Result<&'a str, Refusal> {
        self.text(name).ok_or_else(|| Refusal::missing(&self.path(name)))
    }

    /// A value that is parsed by its type.
    pub fn parsed<T: FromStr<Err = InvalidValue>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        self.text(name).map(|text| text.parse().map_err(|error: InvalidValue| Refusal::from(error))).transpose()
    }

    /// An address of a family.
    pub fn parsed_address<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let refused = |text: &str| Refusal::value(&self.path(name), text, "must be an address of that family");
        self.text(name).map(|text| text.parse().map_err(|_| refused(text))).transpose()
    }

    /// A whole number.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let parse = |text: &str| text.parse().map_err(|_| Refusal::value(&self.path(name), text, "must be a number"));
        self.text(name).map(parse).transpose()
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Refusal> {
        let parse = |text: &str| match text {
            "true" | "True" => Ok(true),
            "false" | "False" => Ok(false),
            _ => Err(Refusal::value(&self.path(name), text, "must be true or false")),
        };
        self.text(name).map(parse).transpose()
    }

    /// The prefixes of a list's elements, in order: `Name.1` or `Name.member.1`; gaps and a first index of 0 do no
    /// harm. An empty list is the name alone.
    fn elements(&self, name: &str) -> Vec<String> {
        let path = self.path(name);
        if self.params.values.get(&path).is_some_and(String::is_empty) {
            self.take(&path);
        }
        let mut found: BTreeMap<u64, String> = BTreeMap::new();
        for marker in ["", "member."] {
            let start = format!("{}.{marker}", self.path(name));
            let keys = self.params.values.range(start.clone()..).map(|(key, _)| key);
            for key in keys.take_while(|key| key.starts_with(&start)) {
                let rest = key.get(start.len()..).unwrap_or_default();
                let index = rest.split('.').next().unwrap_or_default();
                if let Ok(number) = index.parse() {
                    found.entry(number).or_insert_with(|| format!("{start}{index}"));
                }
            }
        }
        found.into_values().collect()
    }

    /// Whether a list is given, be it empty.
    pub fn has_list(&self, name: &str) -> bool {
        let path = self.path(name);
        let start = format!("{path}.");
        let first = self.params.values.range(start.clone()..).next();
        self.params.values.contains_key(&path) || first.is_some_and(|(key, _)| key.starts_with(&start))
    }

    /// A list of texts.
    pub fn list(&self, name: &str) -> Vec<&'a str> {
        self.elements(name).iter().filter_map(|path| self.take(path)).collect()
    }

    /// A list of structures.
    pub fn structures(&self, name: &str) -> Vec<Scope<'a>> {
        self.elements(name).into_iter().map(|prefix| Scope { params: self.params, prefix }).collect()
    }

    /// A structure.
    pub fn structure(&self, name: &str) -> Scope<'a> {
        Scope { params: self.params, prefix: self.path(name) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> Params {
        Params::decode(b"", text.as_bytes()).unwrap()
    }

    #[test]
    fn both_dialects_lists_and_structures_are_read_in_order() {
        let params = decode(
            "Id.2=b&Id.10=c&Id.1=a&Targets.member.0.Id=x&Targets.member.3.Port=80&Targets.member.3.Id=y&\
             Filter.1.Name=n&Filter.1.Value.1=v&EnableDnsSupport.Value=true&Empty=",
        );
        let root = params.root();
        assert_eq!(root.list("Id"), ["a", "b", "c"]);
        let targets: Vec<_> =
            root.structures("Targets").iter().map(|t| (t.text("Id"), t.number::<u16>("Port").unwrap())).collect();
        assert_eq!(targets, [(Some("x"), None), (Some("y"), Some(80))]);
        let filters = root.structures("Filter");
        assert_eq!((filters[0].text("Name"), filters[0].list("Value")), (Some("n"), vec!["v"]));
        assert_eq!(params.unread(), Some("Empty"));
        assert_eq!(root.text("Empty"), None);
        assert_eq!(root.structure("EnableDnsSupport").boolean("Value").unwrap(), Some(true));
        assert_eq!(params.unread(), None);
    }

    #[test]
    fn what_nobody_reads_is_found() {
        let params = decode("Action=X&Version=1&Name=a&Nmae=b");
        assert_eq!(params.root().text("Name"), Some("a"));
        assert_eq!(params.unread(), Some("Nmae"));
    }

    #[test]
    fn an_empty_list_is_given_and_has_no_elements() {
        let params = decode("Subnets=&Groups.member.1=a");
        let root = params.root();
        assert_eq!(root.list("Subnets"), [""; 0]);
        assert_eq!(root.list("Groups"), ["a"]);
        assert_eq!(params.unread(), None);
        assert!(root.has_list("Subnets") && root.has_list("Groups") && !root.has_list("Group"));
    }

    proptest! {
        /// No form makes the decoder panic or lose a plain parameter.
        #[test]
        fn any_bytes_decode(query in prop::collection::vec(any::<u8>(), 0..200), body in "[A-Za-z0-9.&=%+]{0,200}") {
            let params = Params::decode(&query, body.as_bytes()).unwrap();
            let root = params.root();
            for name in ["", "Filter", "a", "A.1", "Targets.member"] {
                root.text(name);
                root.list(name);
                root.structures(name).iter().for_each(|one| drop(one.list("Value")));
            }
        }
    }
}

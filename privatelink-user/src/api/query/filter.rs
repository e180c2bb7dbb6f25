//! Filters and pages of describing actions.

use super::{params::Scope, refusal::Refusal};
use crate::model::{State, pattern::matches};

/// One filter: any of the values, which may hold `*` and `?`.
#[derive(Debug)]
struct Filter {
    name: String,
    values: Vec<String>,
}

/// The filters of a request; all must match.
#[derive(Debug)]
pub struct Filters(Vec<Filter>);

impl Filters {
    /// Reads `Filter.N`.
    pub fn read(scope: &Scope<'_>) -> Result<Self, Refusal> {
        let filter = |one: Scope<'_>| {
            let name = one.required("Name")?.to_owned();
            Ok(Filter { name, values: one.list("Value").into_iter().map(str::to_owned).collect() })
        };
        scope.structures("Filter").into_iter().map(filter).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a resource passes. `values` answers what it has under a filter's name, none for a name that is not its
    /// own; the tags of `id` are known here.
    pub fn admit(
        &self,
        state: &State,
        id: &str,
        values: impl Fn(&str) -> Option<Vec<String>>,
    ) -> Result<bool, Refusal> {
        for Filter { name, values: wanted } in &self.0 {
            let tags = || state.tags_of(id);
            let found = match name.strip_prefix("tag:") {
                Some(key) => {
                    tags().into_iter().filter(|(k, _)| k.as_str() == key).map(|(_, v)| v.to_string()).collect()
                }
                None if name == "tag-key" => tags().into_keys().map(|key| key.to_string()).collect(),
                None => values(name).ok_or_else(|| {
                    Refusal::coded("InvalidParameterValue", format!("The filter '{name}' is invalid"))
                })?,
            };
            if !found.iter().any(|value| wanted.iter().any(|pattern| matches(pattern, value))) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How much of a list is wanted, and from where.
#[derive(Debug, Clone)]
pub struct Page {
    most: usize,
    after: Option<String>,
}

impl Page {
    /// Reads EC2's `MaxResults` (5 to 1,000) and `NextToken`.
    pub fn ec2(scope: &Scope<'_>) -> Result<Self, Refusal> {
        Self::read(scope, "MaxResults", 5, 1_000, "NextToken")
    }

    /// Reads load balancing's `PageSize` (1 to 400) and `Marker`.
    pub fn elb(scope: &Scope<'_>) -> Result<Self, Refusal> {
        Self::read(scope, "PageSize", 1, 400, "Marker")
    }

    fn read(scope: &Scope<'_>, size: &str, least: usize, most: usize, token: &str) -> Result<Self, Refusal> {
        let wanted = match scope.number::<usize>(size)? {
            Some(number) if !(least..=most).contains(&number) => {
                let rule = format!("must be between {least} and {most}");
                return Err(Refusal::value(size, &number.to_string(), &rule));
            }
            wanted => wanted.unwrap_or(most),
        };
        let after =
            scope.text(token).map(|text| decode(text).ok_or_else(|| Refusal::value(token, text, "is no token")));
        Ok(Self { most: wanted, after: after.transpose()? })
    }

    /// The items of the page, in order of their keys, and the token of the next one.
    pub fn cut<T>(self, mut items: Vec<(String, T)>) -> (Vec<T>, Option<String>) {
        items.sort_by(|(a, _), (b, _)| a.cmp(b));
        let Self { most, after } = self;
        let mut rest = items.into_iter().filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
        let mut last = String::new();
        let page = rest
            .by_ref()
            .take(most)
            .map(|(key, item)| {
                last = key;
                item
            })
            .collect();
        let token = rest.next().map(|_| encode(&last));
        (page, token)
    }
}

/// A key as an opaque token.
fn encode(key: &str) -> String {
    key.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(token: &str) -> Option<String> {
    if !token.len().is_multiple_of(2) {
        return None;
    }
    let byte = |at: usize| token.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes: Option<Vec<u8>> = (0..token.len()).step_by(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::query::params::Params;

    #[test]
    fn pages_follow_each_other_without_gap_or_repetition() {
        let items: Vec<(String, usize)> = (0..23).map(|number| (format!("id-{number:03}"), number)).collect();
        let mut seen = Vec::new();
        let mut query = "MaxResults=5".to_owned();
        for _ in 0..10 {
            let params = Params::decode(query.as_bytes(), b"").unwrap();
            let (page, token) = Page::ec2(&params.root()).unwrap().cut(items.clone());
            seen.extend(page);
            match token {
                Some(token) => query = format!("MaxResults=5&NextToken={token}"),
                None => break,
            }
        }
        assert_eq!(seen, (0..23).collect::<Vec<_>>());
        for query in ["MaxResults=4", "MaxResults=1001", "NextToken=zz", "NextToken=a", "MaxResults=x"] {
            let params = Params::decode(query.as_bytes(), b"").unwrap();
            assert!(Page::ec2(&params.root()).is_err(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_whatever_it_is_cut_into(text in "[a-z]{0,8}", cut in 0usize..9) {
            prop_assert!(matches(&text, &text));
            let cut = cut.min(text.len());
            let pattern = format!("{}*{}", &text[..cut], &text[cut..]);
            prop_assert!(matches(&pattern, &text));
        }
    }
}

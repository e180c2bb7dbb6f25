//! Answers as XML, in the two dialects.

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event},
};

/// A value of an answer. What is absent is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Structure(Vec<(&'static str, Self)>),
    /// Its elements' tag is the dialect's.
    List(Vec<Self>),
}

/// Builds a structure, member by member, by the wire names.
#[derive(Debug, Default)]
pub struct Structure(Vec<(&'static str, Value)>);

impl Structure {
    /// Without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// A member that is text, a number or a boolean.
    pub fn text(mut self, name: &'static str, value: impl ToString) -> Self {
        self.0.push((name, Value::Text(value.to_string())));
        self
    }

    /// The same, if there is a value.
    pub fn maybe(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// A point in time, ISO 8601 with milliseconds.
    pub fn time(self, name: &'static str, value: jiff::Timestamp) -> Self {
        self.text(name, format!("{value:.3}"))
    }

    /// A member that is a structure or a list.
    pub fn value(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    /// A list.
    pub fn list<V: Into<Value>>(self, name: &'static str, values: impl IntoIterator<Item = V>) -> Self {
        self.value(name, Value::List(values.into_iter().map(Into::into).collect()))
    }

    /// A list of texts.
    pub fn texts<T: ToString>(self, name: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        self.list(name, values.into_iter().map(|value| Value::Text(value.to_string())))
    }
}

impl From<Structure> for Value {
    fn from(structure: Structure) -> Self {
        Self::Structure(structure.0)
    }
}

/// How a service writes its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// EC2: members directly below the answer, `<item>` in lists, `<requestId>`.
    Ec2,
    /// Query (load balancing, security tokens): a `…Result` around the members, `<member>` in lists,
    /// `<ResponseMetadata>`.
    Query,
}

impl Dialect {
    fn element(self) -> &'static str {
        match self {
            Self::Ec2 => "item",
            Self::Query => "member",
        }
    }
}

/// Text that XML 1.0 can hold: other characters become U+FFFD.
fn plain(text: &str) -> String {
    let allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if allowed(c) { c } else { '\u{fffd}' }).collect()
}

struct Document {
    writer: Writer<Vec<u8>>,
    dialect: Dialect,
}

impl Document {
    fn write(&mut self, name: &str, value: &Value, namespace: Option<&str>) -> std::io::Result<()> {
        let mut start = BytesStart::new(name);
        if let Some(namespace) = namespace {
            start.push_attribute(("xmlns", namespace));
        }
        self.writer.write_event(Event::Start(start))?;
        match value {
            Value::Text(text) => self.writer.write_event(Event::Text(BytesText::new(&plain(text))))?,
            Value::Structure(members) => {
                members.iter().try_for_each(|(name, value)| self.write(name, value, None))?;
            }
            Value::List(values) => {
                let element = self.dialect.element();
                values.iter().try_for_each(|value| self.write(element, value, None))?;
            }
        }
        self.writer.write_event(Event::End(BytesEnd::new(name)))
    }
}

fn document(dialect: Dialect, name: &str, namespace: Option<&str>, value: &Value) -> Vec<u8> {
    let mut document = Document { writer: Writer::new(Vec::new()), dialect };
    let declaration = Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None));
    // Writing into memory does not fail.
    let written = document.writer.write_event(declaration).and_then(|()| document.write(name, value, namespace));
    if let Err(error) = written {
        tracing::error!(%error, "an answer could not be written");
    }
    document.writer.into_inner()
}

/// An answer's document.
pub fn answer(dialect: Dialect, namespace: &str, action: &str, request_id: &str, value: Structure) -> Vec<u8> {
    let root = format!("{action}Response");
    match dialect {
        Dialect::Ec2 => {
            let Structure(mut members) = value;
            members.insert(0, ("requestId", Value::Text(request_id.to_owned())));
            document(dialect, &root, Some(namespace), &Value::Structure(members))
        }
        Dialect::Query => {
            let result = format!("{action}Result");
            let metadata = Structure::new().text("RequestId", request_id);
            let mut document = Document { writer: Writer::new(Vec::new()), dialect };
            let mut start = BytesStart::new(root.as_str());
            start.push_attribute(("xmlns", namespace));
            let write = || {
                document.writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
                document.writer.write_event(Event::Start(start.borrow()))?;
                document.write(&result, &value.into(), None)?;
                document.write("ResponseMetadata", &metadata.into(), None)?;
                document.writer.write_event(Event::End(BytesEnd::new(root.as_str())))
            };
            if let Err(error) = write() {
                tracing::error!(%error, "an answer could not be written");
            }
            document.writer.into_inner()
        }
    }
}

/// A refusal's document.
pub fn refusal(
    dialect: Dialect,
    namespace: &str,
    request_id: &str,
    server: bool,
    code: &str,
    message: &str,
) -> Vec<u8> {
    let error = Structure::new();
    match dialect {
        Dialect::Ec2 => {
            let error = Value::from(error.text("Code", code).text("Message", message));
            let body = Structure::new()
                .value("Errors", Value::Structure(vec![("Error", error)]))
                .text("RequestID", request_id);
            document(dialect, "Response", None, &body.into())
        }
        Dialect::Query => {
            let error = error
                .text("Type", if server { "Receiver" } else { "Sender" })
                .text("Code", code)
                .text("Message", message);
            let body = Structure::new().value("Error", error).text("RequestId", request_id);
            document(dialect, "ErrorResponse", Some(namespace), &body.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn answers_have_each_dialects_form() {
        let value = || Structure::new().text("a", 1).texts("list", ["<&>", "\u{1}"]).texts("empty", [""; 0]);
        assert_eq!(
            text(answer(Dialect::Ec2, "urn:x", "Do", "id", value())),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><DoResponse xmlns=\"urn:x\"><requestId>id</requestId><a>1</a><list>\
             <item>&lt;&amp;&gt;</item><item>\u{fffd}</item></list><empty></empty></DoResponse>"
        );
        assert_eq!(
            text(answer(Dialect::Query, "urn:x", "Do", "id", value())),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><DoResponse xmlns=\"urn:x\"><DoResult><a>1</a><list>\
             <member>&lt;&amp;&gt;</member><member>\u{fffd}</member></list><empty></empty></DoResult>\
             <ResponseMetadata><RequestId>id</RequestId></ResponseMetadata></DoResponse>"
        );
    }

    #[test]
    fn refusals_have_each_dialects_form() {
        assert_eq!(
            text(refusal(Dialect::Ec2, "urn:x", "id", false, "C", "m")),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>C</Code><Message>m</Message></Error>\
             </Errors><RequestID>id</RequestID></Response>"
        );
        assert_eq!(
            text(refusal(Dialect::Query, "urn:x", "id", false, "C", "m")),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ErrorResponse xmlns=\"urn:x\"><Error><Type>Sender</Type>\
             <Code>C</Code><Message>m</Message></Error><RequestId>id</RequestId></ErrorResponse>"
        );
    }
}

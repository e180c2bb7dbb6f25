//! Signature version 4: whether a request was signed with a secret that is known here.
//!
//! Source: "Create a signed AWS API request" in the IAM user guide. Pure: the request's parts, the secret and the time
//! come in.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// How far a request's time may be from ours, in seconds.
pub const WINDOW: i64 = 15 * 60;

/// A request's parts that are signed.
#[derive(Debug)]
pub struct Signed<'a> {
    pub method: &'a str,
    /// The path as it came, percent-encoded.
    pub path: &'a str,
    /// The query string as it came.
    pub query: &'a str,
    /// By lower-case name; several of one name are joined by commas.
    pub headers: BTreeMap<String, String>,
    pub body: &'a [u8],
}

/// What the `Authorization` header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    pub access_key: String,
    /// `YYYYMMDD`.
    pub date: String,
    pub region: String,
    pub service: String,
    pub signed_headers: Vec<String>,
    pub signature: Vec<u8>,
}

/// Why a signature does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error(
        "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters of AWS4-HMAC-SHA256."
    )]
    Incomplete,
    #[error("Signature expired or not yet current: the request's time is more than 15 minutes from the server's.")]
    Expired,
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
         and signing method."
    )]
    Mismatch,
}

impl Authorization {
    /// Parses the header's value.
    pub fn parse(header: &str) -> Result<Self, SignatureError> {
        let rest = header.trim().strip_prefix("AWS4-HMAC-SHA256").ok_or(SignatureError::Incomplete)?;
        let fields: BTreeMap<&str, &str> = rest.split(',').filter_map(|field| field.trim().split_once('=')).collect();
        let field = |name: &str| fields.get(name).copied().ok_or(SignatureError::Incomplete);
        let scope: Vec<&str> = field("Credential")?.split('/').collect();
        let [access_key, date, region, service, "aws4_request"] = scope.as_slice() else {
            return Err(SignatureError::Incomplete);
        };
        let signature = bytes(field("Signature")?).ok_or(SignatureError::Incomplete)?;
        let signed_headers: Vec<String> = field("SignedHeaders")?.split(';').map(str::to_owned).collect();
        Ok(Self {
            access_key: (*access_key).to_owned(),
            date: (*date).to_owned(),
            region: (*region).to_owned(),
            service: (*service).to_owned(),
            signed_headers,
            signature,
        })
    }

    /// Whether `request` carries the signature of `secret`, at a time near `now`. The host, the time and with it the
    /// body must be signed.
    pub fn verify(&self, request: &Signed<'_>, secret: &str, now: Timestamp) -> Result<(), SignatureError> {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        let signs = |name: &str| self.signed_headers.iter().any(|signed| signed == name);
        let stamp = header("x-amz-date").filter(|_| signs("x-amz-date")).ok_or(SignatureError::Incomplete)?;
        if !signs("host") || !stamp.starts_with(&self.date) {
            return Err(SignatureError::Incomplete);
        }
        let time = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", stamp)
            .and_then(|parsed| parsed.to_datetime())
            .and_then(|datetime| datetime.to_zoned(jiff::tz::TimeZone::UTC))
            .map_err(|_| SignatureError::Incomplete)?
            .timestamp();
        if now.duration_since(time).as_secs().abs() > WINDOW {
            return Err(SignatureError::Expired);
        }
        let body = hex(&Sha256::digest(request.body));
        // A payload hash that is named must be the payload's.
        if header("x-amz-content-sha256").is_some_and(|named| named != body) {
            return Err(SignatureError::Mismatch);
        }
        // Compares in constant time.
        self.mac(request, secret, stamp, &body)?.verify_slice(&self.signature).map_err(|_| SignatureError::Mismatch)
    }

    /// What the signature of `secret` is made of; `body` is the payload's hash.
    fn mac(&self, request: &Signed<'_>, secret: &str, stamp: &str, body: &str) -> Result<Hmac<Sha256>, SignatureError> {
        let canonical = self.canonical(request, body)?;
        let Self { date, region, service, .. } = self;
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{stamp}\n{date}/{region}/{service}/aws4_request\n{}",
            hex(&Sha256::digest(canonical.as_bytes()))
        );
        let key = [date.as_str(), region, service, "aws4_request"]
            .into_iter()
            .fold(format!("AWS4{secret}").into_bytes(), |key, part| sign(&key, part.as_bytes()));
        Ok(mac(&key, to_sign.as_bytes()))
    }

    /// The header of a request that is signed with `secret`: its host and its time.
    #[cfg(test)]
    pub fn header(request: &Signed<'_>, key: &str, secret: &str, service: &str) -> String {
        let stamp = request.headers["x-amz-date"].clone();
        let date = stamp.chars().take(8).collect::<String>();
        let scope = format!("{key}/{date}/us-east-1/{service}/aws4_request");
        let head = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature=");
        let unsigned = Self::parse(&format!("{head}{}", "0".repeat(64))).expect("a header");
        let body = hex(&Sha256::digest(request.body));
        let mac = unsigned.mac(request, secret, &stamp, &body).expect("the signed headers");
        format!("{head}{}", hex(&mac.finalize().into_bytes()))
    }

    fn canonical(&self, request: &Signed<'_>, body: &str) -> Result<String, SignatureError> {
        let mut headers = String::new();
        for name in &self.signed_headers {
            let value = request.headers.get(name).ok_or(SignatureError::Incomplete)?;
            let value: Vec<&str> = value.split_whitespace().collect();
            headers.push_str(&format!("{name}:{}\n", value.join(" ")));
        }
        let mut query: Vec<(String, String)> = form_urlencoded::parse(request.query.as_bytes())
            .map(|(key, value)| (encoded(&key), encoded(&value)))
            .collect();
        query.sort();
        let query: Vec<String> = query.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let path = if request.path.is_empty() { "/" } else { request.path };
        Ok(format!(
            "{}\n{path}\n{}\n{headers}\n{}\n{body}",
            request.method,
            query.join("&"),
            self.signed_headers.join(";"),
        ))
    }
}

fn mac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(message);
    mac
}

fn sign(key: &[u8], message: &[u8]) -> Vec<u8> {
    mac(key, message).finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 {
        return None;
    }
    (0..64).step_by(2).map(|at| hex.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok())).collect()
}

/// Percent-encoded but for unreserved characters (RFC 3986).
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of AWS's documentation: `GET` of `ListUsers` with the documented secret.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const HEADER: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                          SignedHeaders=content-type;host;x-amz-date, \
                          Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

    fn request() -> Signed<'static> {
        Signed {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: [
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("host", "iam.amazonaws.com"),
                ("x-amz-date", "20150830T123600Z"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            body: b"",
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_documented_example_is_accepted_and_nothing_near_it() {
        let now = at("2015-08-30T12:40:00Z");
        let authorization = Authorization::parse(HEADER).unwrap();
        assert_eq!(authorization.verify(&request(), SECRET, now), Ok(()));
        assert_eq!(authorization.verify(&request(), "other", now), Err(SignatureError::Mismatch));
        let changed: &[fn(&mut Signed<'static>)] = &[
            |request| request.method = "POST",
            |request| request.path = "/x",
            |request| request.query = "Action=DeleteUsers&Version=2010-05-08",
            |request| request.body = b"x",
            |request| drop(request.headers.insert("host".to_owned(), "other".to_owned())),
        ];
        for change in changed {
            let mut request = request();
            change(&mut request);
            assert_eq!(authorization.verify(&request, SECRET, now), Err(SignatureError::Mismatch));
        }
    }

    #[test]
    fn an_old_request_is_refused() {
        let authorization = Authorization::parse(HEADER).unwrap();
        for time in ["2015-08-30T12:51:01Z", "2015-08-30T12:20:59Z", "2026-01-01T00:00:00Z"] {
            assert_eq!(authorization.verify(&request(), SECRET, at(time)), Err(SignatureError::Expired), "{time}");
        }
    }

    #[test]
    fn host_and_time_must_be_signed() {
        let now = at("2015-08-30T12:40:00Z");
        for headers in ["content-type;host", "content-type;x-amz-date", "content-type;host;x-amz-date;x-other"] {
            let header = HEADER.replace("content-type;host;x-amz-date", headers);
            let authorization = Authorization::parse(&header).unwrap();
            assert_eq!(authorization.verify(&request(), SECRET, now), Err(SignatureError::Incomplete), "{headers}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_parsed_or_refused(text in ".{0,200}") {
            drop(Authorization::parse(&text));
            drop(Authorization::parse(&format!("AWS4-HMAC-SHA256 {text}")));
            drop(Authorization::parse(&HEADER.replace("AKIDEXAMPLE", &text)));
        }
    }
}

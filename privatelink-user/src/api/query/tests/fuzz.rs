//! Whatever comes in by HTTP: an answer in XML, nothing done for strangers, and no signature but the owner's.

use super::{security::strict, *};
use crate::testing::fuzz;

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..most),
        "[A-Za-z0-9.&=%+;/-]{0,200}".prop_map(String::into_bytes),
        "(Action|Version|Filter\\.[0-9]{1,20}\\.Name|[A-Z][a-z]{1,8}\\.member\\.[0-9]{0,22})=[^&]{0,20}(&[^=]{0,20}=.{0,20}){0,6}"
            .prop_map(String::into_bytes),
    ]
}

#[test]
fn any_request_is_answered_and_does_nothing_for_strangers() {
    let rig = strict();
    let before = rig.query.api.store.state();
    let header = prop_oneof![
        Just(None),
        ".{0,120}".prop_map(Some),
        "AWS4-HMAC-SHA256 Credential=AKIA(ONE|X)/[0-9]{8}/[a-z0-9-]{0,40}/(ec2|elasticloadbalancing|sts|x)/aws4_request, \
         SignedHeaders=[a-z;-]{0,30}, Signature=[0-9a-f]{60,64}"
            .prop_map(Some),
    ];
    let stamp = prop_oneof![Just("20260101T000000Z".to_owned()), "[0-9TZ-]{0,20}", ".{0,10}"];
    let path = prop_oneof![Just("/".to_owned()), "/[ -~]{0,20}", Just("/_/reset".to_owned())];
    let method = prop::sample::select(vec![Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS]);
    let peer = prop::sample::select(vec![[127, 0, 0, 1], [192, 0, 2, 1]]);
    // The reset of a test rig is no stranger's either way.
    let requests = (method, path, bytes(300), bytes(300), header, stamp, peer)
        .prop_filter("a reset", |(method, path, ..)| path != "/_/reset" || method != Method::POST);
    fuzz(requests, |(method, path, query, body, header, stamp, peer)| {
        let mut headers: BTreeMap<String, String> =
            [("host", "x"), ("x-amz-date", &stamp)].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        headers.extend(header.map(|header| ("authorization".to_owned(), header)));
        let incoming = Incoming {
            method,
            path,
            query: String::from_utf8_lossy(&query).into_owned(),
            headers,
            peer: SocketAddr::from((peer, 4_000)),
            body: Ok(Bytes::from(body)),
        };
        let (status, body) = rig.send(incoming);
        prop_assert!((400..500).contains(&status), "{}", body);
        well_formed(&body);
        prop_assert_eq!(&rig.query.api.store.state(), &before);
        Ok(())
    });
}

/// Forms out of the words that actions know, with ids that are there, others that are not, and nonsense.
#[test]
fn forms_of_known_words_keep_the_invariants() {
    let rig = Rig::new();
    let belongings = security::belongings(&rig, A);
    let mut words: Vec<(String, String)> =
        security::REST.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (names, id) in belongings {
        words.extend(names.iter().map(|name| ((*name).to_owned(), id.clone())));
    }
    let value = prop_oneof![
        3 => Just(None),
        1 => "[0-9]{1,22}".prop_map(Some),
        1 => "(-|)[a-z0-9./:*?%-]{0,24}".prop_map(Some),
        1 => prop::sample::select(words.clone()).prop_map(|(_, value)| Some(value)),
    ];
    let parameter = (prop::sample::select(words), value)
        .prop_map(|((name, usual), other)| format!("&{name}={}", other.unwrap_or(usual)));
    let action = prop::sample::select(actions::ACTIONS.iter().map(|row| (row.service, row.name)).collect::<Vec<_>>());
    fuzz((action, prop::collection::vec(parameter, 0..6)), |((service, name), parameters)| {
        let form = format!("Action={name}{}", parameters.concat());
        let (status, body) = rig.ask(A, service, &form);
        prop_assert!(status < 500, "{}: {}", form, body);
        prop_assert!(rig.query.api.store.state().check_invariants().is_ok(), "{}", form);
        Ok(())
    });
}

#[test]
fn a_signature_is_for_one_request() {
    let text = |pattern: &'static str| prop::string::string_regex(pattern).expect("a pattern");
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let pairs = prop::collection::vec((text("[A-Za-z0-9.~ é*/+-]{1,8}"), text("[ -~é]{0,8}")), 0..4);
    let requests = (
        prop::sample::select(vec!["GET", "POST"]),
        text("/[A-Za-z0-9._~/-]{0,12}"),
        pairs,
        prop::collection::vec(any::<u8>(), 0..60),
        text("[!-~]{1,40}"),
        (0usize..6, any::<prop::sample::Index>(), 1u8..=255),
    );
    fuzz(requests, |(method, path, pairs, body, secret, (part, at, flip))| {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let headers: BTreeMap<String, String> = [("host", "example.org"), ("x-amz-date", &stamp)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let mut request = Signed { method, path: &path, query: &query, headers, body: &body };
        let header = Authorization::header(&request, "AKIAONE", &secret, "ec2");
        let authorization = Authorization::parse(&header).expect("a header");
        prop_assert_eq!(authorization.verify(&request, &secret, now), Ok(()));

        let other_path = format!("{path}x");
        let other_query = format!("{query}&x=1");
        let mut other_body = body.clone();
        let mut other = authorization.clone();
        let mut other_secret = secret.clone();
        match part {
            0 => request.method = if method == "GET" { "POST" } else { "GET" },
            1 => request.path = &other_path,
            2 => request.query = &other_query,
            3 => {
                match other_body.is_empty() {
                    true => other_body.push(flip),
                    false => {
                        let at = at.index(other_body.len());
                        other_body[at] ^= flip;
                    }
                }
                request.body = &other_body;
            }
            4 => {
                let at = at.index(other.signature.len());
                other.signature[at] ^= flip;
            }
            _ => other_secret.push('x'),
        }
        prop_assert_eq!(other.verify(&request, &other_secret, now), Err(SignatureError::Mismatch));
        Ok(())
    });
}

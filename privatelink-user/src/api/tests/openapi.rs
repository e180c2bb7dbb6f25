//! The OpenAPI document is whole, and answers are what it says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

fn document() -> Value {
    serde_json::to_value(openapi()).expect("a document")
}

/// The schema that a reference names, or the schema itself.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a reference into this document");
            document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
        }
        None => schema,
    }
}

/// Whether `value` is what `schema` describes; the error says where it is not.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = resolved(document, schema);
    let each = |list: &Value, value: &Value| -> Vec<Result<(), String>> {
        list.as_array().into_iter().flatten().map(|one| conforms(document, one, value, at)).collect()
    };
    for combination in ["oneOf", "anyOf"] {
        if schema[combination].is_array() && each(&schema[combination], value).iter().all(Result::is_err) {
            return Err(format!("{at}: {value} is none of {}", schema[combination]));
        }
    }
    // What is put together refuses unknown members only as a whole.
    if schema["allOf"].is_array() {
        return each(&schema["allOf"], value).into_iter().collect();
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is = |kind: &&str| match *kind {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{at}: the type '{other}' is none of JSON's"),
    };
    if !kinds.is_empty() && !kinds.iter().any(is) {
        return Err(format!("{at}: {value} is no {kinds:?}"));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        return Err(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    if let Some(items) = value.as_array().filter(|_| !schema["items"].is_null()) {
        for (number, item) in items.iter().enumerate() {
            conforms(document, &schema["items"], item, &format!("{at}[{number}]"))?;
        }
    }
    let Some(members) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            return Err(format!("{at}: {name} is missing"));
        }
    }
    for (name, member) in members {
        let at = format!("{at}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return Err(format!("{at} is not known")),
            (Value::Null, Value::Null | Value::Bool(_)) => {}
            (Value::Null, other) => conforms(document, other, member, &at)?,
            (property, _) => conforms(document, property, member, &at)?,
        }
    }
    Ok(())
}

/// Every reference of the document, wherever it is.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            if members.contains_key("$ref") {
                found.push(value);
            }
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_route_is_described_and_served() {
    let served = Served::new();
    let document = document();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 40, "{} operations", paths.len());
    let mut ids = BTreeSet::new();
    for (path, item) in paths {
        let operation = &item["post"];
        let id = operation["operationId"].as_str().expect("an id");
        assert_eq!(*path, format!("{PREFIX}{id}"));
        assert!(ids.insert(id), "{id} comes twice");
        assert!(operation["description"].as_str().is_some_and(|text| !text.is_empty()), "{id} says nothing of itself");
        let request = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(resolved(&document, request)["type"], "object", "{id} takes {request}");
        for status in ["200", "default"] {
            let answer = &operation["responses"][status]["content"]["application/json"]["schema"];
            assert!(answer.is_object(), "{id} {status}");
        }
        // The route is there: what it says to an object without members is its own.
        let (status, body) = served.raw(path, "content-type: application/json\r\n", "{}").await;
        assert!(!body.contains("InvalidAction"), "{path}: {status} {body}");
    }
    assert!(surface().clashes().is_empty(), "two types have one name: {:?}", surface().clashes());
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > paths.len());
    for reference in found {
        assert!(resolved(&document, reference).is_object(), "{reference}");
    }
    served.stop().await;
}

#[tokio::test]
async fn the_document_is_served() {
    let served = Served::new();
    let mut stream = UnixStream::connect(socket_in(&served.dir)).await.expect("a connection");
    let request = format!("GET {OPENAPI_PATH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-type: application/json"), "{answer}");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    assert_eq!(serde_json::from_str::<Value>(body).expect("JSON"), document());
    served.stop().await;
}

#[tokio::test]
async fn requests_and_answers_are_as_described() {
    let served = Served::new();
    let document = document();
    let tour = [
        ("CreateVpc", json!({"name": "a", "cidr": "10.0.0.0/16", "gateway": "10.0.0.1"})),
        ("CreateVpc", json!({"name": "b", "cidr": "10.0.0.0/16"})),
        ("CreateTargetGroup", json!({"name": "web", "vpc": "a", "protocol": "TCP", "port": 80})),
        ("RegisterTargets", json!({"target_group": "web", "targets": ["10.0.1.1"]})),
        ("CreateSecurityGroup", json!({"name": "g", "vpc": "b", "description": "d"})),
        ("CreateLoadBalancer", json!({"name": "web", "vpc": "a", "addresses": ["10.0.0.5"]})),
        ("CreateListener", json!({"load_balancer": "web", "protocol": "TCP", "port": 80, "target_group": "web"})),
        (
            "CreateEndpointService",
            json!({"load_balancers": ["web"], "name": "web", "private_dns_name": "x.example.com"}),
        ),
        ("ModifyPermissions", json!({"endpoint_service": "web", "add": ["*"]})),
        ("CreateEndpoint", json!({"service_name": "web", "vpc": "b", "address": "10.0.0.9", "security_groups": ["g"]})),
        ("DescribeVpcs", json!({})),
        ("DescribePorts", json!({})),
        ("DescribeTargetGroups", json!({})),
        ("DescribeTargetHealth", json!({"target_group": "web", "targets": ["10.0.1.2"]})),
        ("DescribeLoadBalancers", json!({})),
        ("DescribeListeners", json!({})),
        ("DescribeEndpointServices", json!({})),
        ("DescribePermissions", json!({"endpoint_service": "web"})),
        ("DescribeConnections", json!({"endpoint_service": "web"})),
        ("DescribeEndpoints", json!({})),
        ("DescribeSecurityGroups", json!({})),
        ("VerifyDomain", json!({"endpoint_service": "web"})),
        ("ApplyDeclaration", json!({"declaration": {"vpc": [{"name": "c", "cidr": "10.1.0.0/16"}]}, "dry_run": true})),
        (
            "LimitConnections",
            json!({"endpoint_service": "web", "endpoints": ["b/10.0.0.9"], "limits": {"connections": "5"}}),
        ),
        ("RejectConnections", json!({"endpoint_service": "web", "endpoints": ["b/10.0.0.9"]})),
        ("DeleteEndpoint", json!({"endpoint": "b/10.0.0.9"})),
        ("DeleteVpc", json!({"vpc": "nobody"})),
    ];
    for (name, request) in tour {
        let path = format!("{PREFIX}{name}");
        let operation = &document["paths"][&path]["post"];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        conforms(&document, schema, &request, name).unwrap_or_else(|wrong| panic!("the request {wrong}"));
        let (status, body) = served.raw(&path, "content-type: application/json\r\n", &request.to_string()).await;
        let (wanted, described) = if name == "DeleteVpc" { (404, "default") } else { (200, "200") };
        assert_eq!(status, wanted, "{name}: {body}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let schema = &operation["responses"][described]["content"]["application/json"]["schema"];
        conforms(&document, schema, &body, name).unwrap_or_else(|wrong| panic!("the answer {wrong}"));
    }
    // The checker refuses what is wrong.
    let schema = json!({"$ref": "#/components/schemas/CreateVpc"});
    for wrong in [json!({}), json!({"name": "a", "cidr": 1}), json!({"name": "a", "cidr": "x", "other": 1}), json!([])]
    {
        assert!(conforms(&document, &schema, &wrong, "").is_err(), "{wrong}");
    }
    served.stop().await;
}

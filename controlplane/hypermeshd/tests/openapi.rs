//! The served description is checked against the running server: every path and method that it
//! names is there, and every answer has the form that it says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hosts;

use hosts::{Host, refusal};
use hypermesh_api::{ErrorCode, TokenRole, path};
use serde_json::Value;

/// Checks a value against a schema of the description: references, types, required fields, items.
fn check(description: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = description.pointer(reference.trim_start_matches('#')).unwrap();
        return check(description, target, value, place);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        Value::String(one) => vec![one],
        _ => return check_any(description, schema, value, place),
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(types.contains(&is), "{place}: expected {types:?}, got {value}");
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(name.as_str().unwrap()).is_some(), "{place}: no {name} in {value}");
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let known = &schema["properties"][name];
        assert!(!known.is_null(), "{place}: {name} is not described");
        check(description, known, field, &format!("{place}.{name}"));
    }
    for item in value.as_array().into_iter().flatten() {
        check(description, &schema["items"], item, &format!("{place}[]"));
    }
}

fn check_any(description: &Value, schema: &Value, value: &Value, place: &str) {
    let choices = schema["oneOf"].as_array().unwrap_or_else(|| panic!("{place}: {schema}"));
    let fits = choices.iter().any(|choice| {
        choice["type"] == "null" && value.is_null()
            || !value.is_null() && choice["type"] != "null" && {
                if choice.get("enum").is_none() {
                    check(description, choice, value, place);
                }
                true
            }
    });
    assert!(fits, "{place}: {value} is none of {schema}");
}

#[test]
fn every_described_route_is_there_and_every_answer_has_its_form() {
    let (host, joiner) = (Host::start(), Host::start());
    host.found("lab", "edge-a");
    joiner.join(&host.token("edge-b", TokenRole::Node, 600)).unwrap();
    host.token("edge-c", TokenRole::Node, 600);
    let mut client = host.client();
    let description: Value = client.get(path::OPENAPI).unwrap();
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 20, "{}", paths.len());
    for (route, methods) in paths {
        if let Some(get) = methods.get("get") {
            let query = match route.as_str() {
                path::LOG_PROOF => "?index=0&size=2",
                path::LOG_CONSISTENCY => "?from=1&to=2",
                _ => "",
            };
            let answer: Value = client.get(&format!("{route}{query}")).unwrap();
            let schema = &get["responses"]["200"]["content"]["application/json"]["schema"];
            check(&description, schema, &answer, route);
        }
        // A backup is no JSON, and is refused here for another reason.
        if !methods["post"]["requestBody"]["content"]["application/json"].is_null() {
            let refused = refusal(client.post::<_, Value>(route, &[0])).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Invalid, "{route}: {refused:?}");
        }
    }
}

#[test]
fn every_path_that_clients_name_is_described() {
    let description = serde_json::to_value(hypermeshd::routes::description()).unwrap();
    let described = description["paths"].as_object().unwrap();
    for named in [
        path::STATUS,
        path::ISSUER_REQUEST,
        path::FOUND,
        path::JOIN,
        path::LEAVE,
        path::PROMOTE_REQUEST,
        path::PROMOTE,
        path::TOKENS,
        path::ENROL,
        path::RENEW,
        path::MEMBERS,
        path::REVOKE,
        path::ROUTE_ADD,
        path::ROUTE_REMOVE,
        path::ENDPOINTS,
        path::OPERATORS,
        path::OPERATOR_REMOVE,
        path::COMMANDS,
        path::SNAPSHOT,
        path::BUNDLE,
        path::LEDGER_HEAD,
        path::LOG_HEADS,
        path::LOG_ENTRIES,
        path::LOG_PROOF,
        path::LOG_CONSISTENCY,
        path::AUDIT,
        path::BACKUP,
        path::RESTORE,
    ] {
        assert!(described.contains_key(named), "{named}");
    }
}

#[test]
fn what_is_no_route_is_a_refusal_too() {
    let host = Host::start();
    let refused = refusal(host.client().get::<Value>("/v1/nothing")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
}

//! TLS listeners and their certificates.

use serde_json::{Value, json};

use super::*;
use crate::{
    control::{certificates::*, listener_tls::*},
    tls::certificate::tests::self_signed,
};

/// Imports a certificate for `name`; its ARN.
fn import(world: &mut World, name: &str) -> String {
    let (certificate, key) = self_signed(&[name]);
    let imported = world.json::<ImportCertificate>(json!({"certificate": certificate, "private_key": key})).unwrap();
    assert_eq!((imported.domain_name.as_str(), imported.in_use_by.len()), (name, 0));
    imported.id.to_string()
}

fn listener(world: &mut World, protocol: &str, more: Value) -> Result<view::ListenerView, ControlError> {
    let mut request = json!({"load_balancer": "lb", "protocol": protocol, "port": 443, "target_group": "web"});
    for (key, value) in more.as_object().unwrap() {
        request[key] = value.clone();
    }
    world.json::<CreateListener>(request)
}

#[test]
fn a_tls_listener_has_a_certificate_and_no_other_has() {
    let mut world = World::published();
    let first = import(&mut world, "www.one.example");
    let (code, text) = refusal(listener(&mut world, "TLS", json!({})));
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("ValidationError", "A certificate must be specified for TLS listeners")
    );
    assert_eq!(refusal(listener(&mut world, "TCP", json!({"certificate": first}))).0, "ValidationError");
    assert_eq!(
        refusal(listener(&mut world, "TLS", json!({"certificate": "www.two.example"}))).0,
        "CertificateNotFound"
    );
    assert_eq!(
        refusal(listener(&mut world, "TLS", json!({"certificate": first, "stickiness": true}))).0,
        "InvalidConfigurationRequest"
    );
    let made = listener(&mut world, "TLS", json!({"certificate": "WWW.one.example"})).unwrap();
    let tls = made.tls.unwrap();
    assert_eq!((tls.certificate.as_str(), tls.ssl_policy.to_string().as_str()), (&*first, crate::tls::policy::DEFAULT));
    assert!(!made.attributes.contains_key("tcp.idle_timeout.seconds"), "the relay's idle timeout is fixed");

    // It stays as long as a listener shows it, and the default one stays in any case.
    let name = |certificate: &str| json!({"listener": "lb:443", "certificates": [certificate]});
    let second = import(&mut world, "www.two.example");
    for _ in 0..2 {
        let added = world.json::<AddListenerCertificates>(name(&second)).unwrap();
        assert_eq!(added.tls.unwrap().more_certificates.len(), 1);
    }
    for certificate in [&first, &second] {
        let (code, text) = refusal(world.json::<DeleteCertificate>(json!({"certificate": certificate})));
        assert_eq!(
            (code.as_str(), text.as_str()),
            ("ResourceInUse", &*format!("Certificate '{certificate}' is currently in use"))
        );
    }
    assert_eq!(refusal(world.json::<RemoveListenerCertificates>(name(&first))).0, "OperationNotPermitted");
    world.json::<RemoveListenerCertificates>(name(&second)).unwrap();
    world
        .json::<ModifyListener>(json!({"listener": "lb:443", "certificate": second, "alpn_policy": "HTTP2Only"}))
        .unwrap();
    world.json::<DeleteCertificate>(json!({"certificate": first})).unwrap();
    assert_eq!(
        refusal(world.json::<AddListenerCertificates>(json!({"listener": "lb:80", "certificates": []}))).0,
        "ValidationError"
    );
    let sticky = json!({"target_group": "web", "attributes": {"stickiness.enabled": "true"}});
    assert_eq!(refusal(world.json::<ModifyTargetGroup>(sticky)).0, "InvalidConfigurationRequest");
}

#[test]
fn a_certificate_is_replaced_under_its_arn_and_is_its_owner_s_alone() {
    let mut world = World::published();
    let arn = import(&mut world, "www.one.example");
    let (certificate, key) = self_signed(&["www.new.example"]);
    let (_, other) = self_signed(&["www.new.example"]);
    let request = |key: &str| json!({"certificate": certificate, "private_key": key, "replaces": arn});
    let (code, text) = refusal(world.json::<ImportCertificate>(request(&other)));
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("ValidationError", "the private key does not belong to the certificate")
    );
    let replaced = world.json::<ImportCertificate>(request(&key)).unwrap();
    assert_eq!((replaced.id.as_str(), replaced.domain_name.as_str()), (&*arn, "www.new.example"));
    let shown = serde_json::to_string(&replaced).unwrap();
    assert!(!shown.contains("PRIVATE KEY"), "{shown}");

    let by_arn = DescribeCertificates { certificates: Some(vec![arn.as_str().into()]) };
    world.ask(by_arn.clone()).unwrap();
    let world = world.by("111111111111");
    assert_eq!(refusal(world.ask(by_arn)).0, "CertificateNotFound");
    assert!(world.ask(DescribeCertificates::default()).unwrap().is_empty());
}

#[test]
fn groups_behind_tls_are_of_one_protocol() {
    let mut world = World::published();
    let certificate = import(&mut world, "www.one.example");
    let group = json!({"name": "again", "vpc": "provider", "protocol": "TLS", "port": 443});
    world.json::<CreateTargetGroup>(group).unwrap();
    let both = json!({"certificate": certificate, "target_group": null, "target_groups": ["web=1", "again=1"]});
    assert_eq!(refusal(listener(&mut world, "TLS", both)).0, "InvalidConfigurationRequest");
    let by_tcp = json!({"target_group": "again"});
    assert_eq!(refusal(listener(&mut world, "TCP", by_tcp)).0, "IncompatibleProtocols");
    listener(&mut world, "TLS", json!({"certificate": certificate, "target_group": "again"})).unwrap();
}

#[test]
fn a_load_balancer_shows_25_certificates_besides_the_default_ones() {
    let mut world = World::published();
    let certificates: Vec<String> = (0..27).map(|n| import(&mut world, &format!("www{n}.example"))).collect();
    let [default, last, more @ ..] = certificates.as_slice() else { unreachable!() };
    assert_eq!(more.len(), 25);
    listener(&mut world, "TLS", json!({"certificate": default, "more_certificates": more[..20]})).unwrap();
    let second = json!({"port": 444, "certificate": last, "more_certificates": more[15..25]});
    listener(&mut world, "TLS", second).unwrap();
    // What both show counts once, and what is default there does not count.
    let add = |certificate: &str| json!({"listener": "lb:443", "certificates": [certificate]});
    world.json::<AddListenerCertificates>(add(&more[20])).unwrap();
    world.json::<AddListenerCertificates>(add(default)).unwrap();
    let (code, text) = refusal(world.json::<AddListenerCertificates>(add(last)));
    assert_eq!(
        (code.as_str(), text.as_str()),
        ("TooManyCertificates", "You've reached the limit on the number of certificates per load balancer: 25")
    );
    let third = json!({"port": 445, "certificate": default, "more_certificates": [last]});
    assert_eq!(refusal(listener(&mut world, "TLS", third)).0, "TooManyCertificates");
    let all = json!({"listener": "lb:444", "more_certificates": certificates});
    assert_eq!(refusal(world.json::<ModifyListener>(all)).0, "TooManyCertificates");
    let fewer = json!({"listener": "lb:444", "certificates": more[21..]});
    world.json::<RemoveListenerCertificates>(fewer).unwrap();
    world.json::<AddListenerCertificates>(add(last)).unwrap();
}

#[test]
fn a_tls_group_knows_its_targets_by_a_certificate_that_stays() {
    let mut world = World::published();
    let arn = import(&mut world, "www.one.example");
    let trust = |group: &str, trust: &str| json!({"target_group": group, "attributes": {"privatelink.target_certificates.trust": trust}});
    let made = json!({"name": "again", "vpc": "provider", "protocol": "TLS", "port": 443});
    world.json::<CreateTargetGroup>(made).unwrap();
    let (code, text) = refusal(world.json::<ModifyTargetGroup>(trust("web", "system")));
    assert_eq!(code, "ValidationError");
    assert!(text.contains("is not supported for target groups with the TCP protocol"), "{text}");
    let unknown = arn.replace('0', "1");
    assert_eq!(refusal(world.json::<ModifyTargetGroup>(trust("again", &unknown))).0, "CertificateNotFound");
    let name = json!({"target_group": "again", "attributes": {"privatelink.target_certificates.name": "a.example"}});
    assert_eq!(refusal(world.json::<ModifyTargetGroup>(name.clone())).0, "ValidationError");
    world.json::<ModifyTargetGroup>(trust("again", &arn)).unwrap();
    world.json::<ModifyTargetGroup>(name).unwrap();
    let (code, _) = refusal(world.json::<DeleteCertificate>(json!({"certificate": arn})));
    assert_eq!(code, "ResourceInUse");
    let off = json!({"target_group": "again", "attributes": {"privatelink.target_certificates.trust": "off",
        "privatelink.target_certificates.name": "sni"}});
    world.json::<ModifyTargetGroup>(off).unwrap();
    world.json::<DeleteCertificate>(json!({"certificate": arn})).unwrap();
}

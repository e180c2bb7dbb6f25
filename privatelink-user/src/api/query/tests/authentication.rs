//! Actions by which whoever sends a request shows who it is: records of HTTPS listeners and their rules.

use jiff::Timestamp;

use super::{application::made, *};
use crate::{
    model::{ApplicationListener, Authentication, Certificate, ListenerRule, SecretText, State},
    tls::certificate::tests::self_signed,
};

const SECRET: &str = "correct-horse-battery";
const POOL: &str = "arn:aws:cognito-idp:us-east-1:111111111111:userpool/us-east-1_abcdefghi";

fn refused(rig: &Rig, form: &str) -> (String, String) {
    let (_, code, message) = rig.refused(A, Service::LoadBalancing, form);
    (code, message)
}

/// Members of the action `number` of a list.
fn action(list: &str, number: u8, members: &[(&str, &str)]) -> String {
    members.iter().map(|(name, value)| format!("&{list}.member.{number}.{name}={value}")).collect()
}

/// An OIDC action with these members besides those that every one has.
fn oidc<'a>(order: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let members = [
        ("Type", "authenticate-oidc"),
        ("Order", order),
        ("AuthenticateOidcConfig.Issuer", "https://idp.example.com"),
        ("AuthenticateOidcConfig.AuthorizationEndpoint", "https://idp.example.com/authorize"),
        ("AuthenticateOidcConfig.TokenEndpoint", "https://idp.example.com/token"),
        ("AuthenticateOidcConfig.UserInfoEndpoint", "https://idp.example.com/userinfo"),
        ("AuthenticateOidcConfig.ClientId", "shop"),
    ];
    [&members[..], more].concat()
}

const GIVEN: (&str, &str) = ("AuthenticateOidcConfig.ClientSecret", SECRET);
const EXISTING: (&str, &str) = ("AuthenticateOidcConfig.UseExistingClientSecret", "true");

fn cognito<'a>(order: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let members = [
        ("Type", "authenticate-cognito"),
        ("Order", order),
        ("AuthenticateCognitoConfig.UserPoolArn", POOL),
        ("AuthenticateCognitoConfig.UserPoolClientId", "abc123"),
        ("AuthenticateCognitoConfig.UserPoolDomain", "shop"),
    ];
    [&members[..], more].concat()
}

fn jwt<'a>(order: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let members = [
        ("Type", "jwt-validation"),
        ("Order", order),
        ("JwtValidationConfig.JwksEndpoint", "https://idp.example.com/keys"),
        ("JwtValidationConfig.Issuer", "https://idp.example.com"),
    ];
    [&members[..], more].concat()
}

fn answer(order: &str) -> Vec<(&str, &str)> {
    vec![("Type", "fixed-response"), ("Order", order), ("FixedResponseConfig.StatusCode", "200")]
}

/// A load balancer of type application with an HTTP and an HTTPS listener.
struct Https {
    rig: Rig,
    http: String,
    https: String,
}

impl Https {
    fn new() -> Self {
        let rig = Rig::new();
        let made = made(&rig, A);
        let (text_of, key) = self_signed(&["shop.example.com"]);
        let id = "arn:aws:acm:us-east-1:111111111111:certificate/00000000-0000-0000-0000-000000000001";
        let certificate = Certificate {
            id: id.parse().expect("an ARN"),
            certificate: text_of,
            chain: String::new(),
            private_key: SecretText::from(key),
            created_at: Timestamp::UNIX_EPOCH,
            imported_at: Timestamp::UNIX_EPOCH,
        };
        let put = |_: &State| Ok::<_, std::convert::Infallible>((Change::default().put(certificate), ()));
        rig.query.api.store.update(put).expect("a commit");
        let create = format!(
            "Action=CreateListener&LoadBalancerArn={}&Protocol=HTTPS&Port=443&Certificates.member.1.CertificateArn={id}{}",
            made.lb,
            action("DefaultActions", 1, &oidc("10", &[GIVEN])) + &action("DefaultActions", 2, &answer("20"))
        );
        let created = rig.elb(A, &create);
        assert!(!created.contains(SECRET), "{created}");
        assert_eq!(text(&rig.elb(A, &create), "ListenerArn"), text(&created, "ListenerArn"), "the same again");
        Self { https: text(&created, "ListenerArn"), http: made.listener, rig }
    }

    fn listener(&self) -> ApplicationListener {
        let id = self.https.parse().expect("an ARN");
        self.rig.query.api.store.state().application_listeners[&id].clone()
    }

    /// The secret that the HTTPS listener has.
    fn secret(&self) -> String {
        match self.listener().authentication.expect("an authentication").authentication {
            Authentication::AuthenticateOidc(oidc) => oidc.client_secret.reveal().to_owned(),
            other @ (Authentication::AuthenticateCognito(_) | Authentication::JwtValidation(_)) => panic!("{other:?}"),
        }
    }

    fn modify(&self, first: &[(&str, &str)]) -> String {
        let list = "DefaultActions";
        format!(
            "Action=ModifyListener&ListenerArn={}{}{}",
            self.https,
            action(list, 1, first),
            action(list, 2, &answer("2"))
        )
    }

    fn rule(&self, listener: &str, actions: &[Vec<(&str, &str)>]) -> String {
        let actions = (1..).zip(actions).map(|(number, members)| action("Actions", number, members));
        format!(
            "Action=CreateRule&ListenerArn={listener}&Priority=7&Conditions.member.1.Field=path-pattern&\
             Conditions.member.1.Values.member.1=/x{}",
            actions.collect::<String>()
        )
    }
}

#[test]
fn an_https_listener_authenticates_before_it_routes_and_never_tells_the_secret() {
    let at = Https::new();
    let shown = [
        at.rig.elb(A, &format!("Action=DescribeListeners&ListenerArns.member.1={}", at.https)),
        at.rig.elb(A, &format!("Action=DescribeRules&ListenerArn={}", at.https)),
    ];
    for body in shown {
        assert_eq!(texts(&body, "Type"), ["authenticate-oidc", "fixed-response"]);
        assert_eq!(texts(&body, "Order"), ["10", "20"]);
        for (member, value) in [
            ("Issuer", "https://idp.example.com"),
            ("AuthorizationEndpoint", "https://idp.example.com/authorize"),
            ("TokenEndpoint", "https://idp.example.com/token"),
            ("UserInfoEndpoint", "https://idp.example.com/userinfo"),
            ("ClientId", "shop"),
            ("SessionCookieName", "AWSELBAuthSessionCookie"),
            ("Scope", "openid"),
            ("SessionTimeout", "604800"),
            ("OnUnauthenticatedRequest", "authenticate"),
        ] {
            assert_eq!(text(&body, member), value, "{member}");
        }
        assert!(!body.contains("Secret") && !body.contains(SECRET), "{body}");
    }
    let found = format!("{:?}", at.listener());
    assert!(!found.contains(SECRET), "{found}");

    // The secret stays if that is asked for, and is another if one is given.
    let more = [
        EXISTING,
        ("AuthenticateOidcConfig.SessionCookieName", "shop"),
        ("AuthenticateOidcConfig.Scope", "openid email"),
        ("AuthenticateOidcConfig.SessionTimeout", "60"),
        ("AuthenticateOidcConfig.OnUnauthenticatedRequest", "deny"),
        ("AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.1.key", "display"),
        ("AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.1.value", "page"),
        ("AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.2.key", "prompt"),
        ("AuthenticateOidcConfig.AuthenticationRequestExtraParams.entry.2.value", "login"),
    ];
    let changed = at.rig.elb(A, &at.modify(&oidc("1", &more)));
    for (member, value) in [
        ("SessionCookieName", "shop"),
        ("Scope", "openid email"),
        ("SessionTimeout", "60"),
        ("OnUnauthenticatedRequest", "deny"),
    ] {
        assert_eq!(text(&changed, member), value, "{member}");
    }
    assert_eq!(
        (texts(&changed, "key"), texts(&changed, "value")),
        (vec!["display".to_owned(), "prompt".to_owned()], vec!["page".to_owned(), "login".to_owned()])
    );
    assert_eq!((at.secret().as_str(), texts(&changed, "Order")), (SECRET, vec!["1".to_owned(), "2".to_owned()]));
    at.rig.elb(A, &at.modify(&oidc("1", &[("AuthenticateOidcConfig.ClientSecret", "another")])));
    assert_eq!(at.secret(), "another");

    // What is not given stays, and another kind of action takes the secret away.
    at.rig.elb(A, &format!("Action=ModifyListener&ListenerArn={}&Port=8443", at.https));
    assert_eq!(at.secret(), "another");
    let pool = at.rig.elb(A, &at.modify(&cognito("1", &[])));
    assert_eq!((text(&pool, "UserPoolArn"), text(&pool, "UserPoolDomain")), (POOL.to_owned(), "shop".to_owned()));
    assert_eq!(text(&pool, "UserPoolClientId"), "abc123");
    let nothing = ("ValidationError".to_owned(), "A client secret must be specified".to_owned());
    assert_eq!(refused(&at.rig, &at.modify(&oidc("1", &[EXISTING]))), nothing);
    assert_eq!(refused(&at.rig, &at.modify(&oidc("1", &[]))), nothing);
    assert_eq!(refused(&at.rig, &at.modify(&oidc("1", &[GIVEN, EXISTING]))).0, "ValidationError");
    assert_eq!(refused(&at.rig, &at.rule(&at.https, &[oidc("1", &[EXISTING]), answer("2")])), nothing);
}

#[test]
fn only_https_listeners_authenticate() {
    let at = Https::new();
    for (kind, first) in [
        ("authenticate-oidc", oidc("1", &[GIVEN])),
        ("authenticate-cognito", cognito("1", &[])),
        ("jwt-validation", jwt("1", &[])),
    ] {
        let message = format!("Action type '{kind}' must be one of 'redirect,fixed-response,forward'");
        let form = at.rule(&at.http, &[first.clone(), answer("2")]);
        assert_eq!(refused(&at.rig, &form), ("ValidationError".to_owned(), message));
        let made = at.rig.elb(A, &at.rule(&at.https, &[first, answer("2")]));
        assert_eq!(texts(&made, "Type"), [kind, "fixed-response"]);
        at.rig.elb(A, &format!("Action=DeleteRule&RuleArn={}", text(&made, "RuleArn")));
    }
    // Nor does one stop speaking HTTPS while it or a rule of it authenticates.
    let plain = format!("Action=ModifyListener&ListenerArn={}&Protocol=HTTP", at.https);
    assert_eq!(refused(&at.rig, &plain).0, "ValidationError");
    let rule = text(&at.rig.elb(A, &at.rule(&at.https, &[jwt("1", &[]), answer("2")])), "RuleArn");
    let routed = plain.clone() + &action("DefaultActions", 1, &answer("1"));
    assert_eq!(refused(&at.rig, &routed).0, "ValidationError");
    at.rig.elb(A, &format!("Action=ModifyRule&RuleArn={rule}{}", action("Actions", 1, &answer("1"))));
    at.rig.elb(A, &routed);
    assert_eq!(at.listener().authentication, None);
}

#[test]
fn the_last_of_the_actions_routes_and_one_before_it_may_authenticate() {
    let at = Https::new();
    let unordered = |members: Vec<(&'static str, &'static str)>| {
        members.into_iter().filter(|(name, _)| *name != "Order").collect::<Vec<_>>()
    };
    for (actions, code) in [
        (vec![oidc("1", &[GIVEN])], "InvalidLoadBalancerAction"),
        (vec![oidc("2", &[GIVEN]), answer("1")], "InvalidLoadBalancerAction"),
        (vec![answer("1"), answer("2")], "InvalidLoadBalancerAction"),
        (vec![cognito("1", &[]), jwt("2", &[]), answer("3")], "InvalidLoadBalancerAction"),
        (vec![vec![("Type", "weather")]], "InvalidLoadBalancerAction"),
        (vec![jwt("1", &[]), answer("1")], "ValidationError"),
        (vec![unordered(jwt("1", &[])), unordered(answer("2"))], "ValidationError"),
        (vec![jwt("0", &[]), answer("1")], "ValidationError"),
        (vec![jwt("1", &[]), answer("50001")], "ValidationError"),
    ] {
        let form = at.rule(&at.https, &actions);
        assert_eq!(refused(&at.rig, &form).0, code, "{form}");
    }
    // The order decides, not the place in the list; one action needs none.
    let made = at.rig.elb(A, &at.rule(&at.https, &[answer("50000"), jwt("7", &[])]));
    assert_eq!(
        (texts(&made, "Type"), texts(&made, "Order")),
        (vec!["jwt-validation".to_owned(), "fixed-response".to_owned()], vec!["7".to_owned(), "50000".to_owned()])
    );
    let rule = text(&made, "RuleArn");
    let alone = unordered(answer("1"));
    let changed = at.rig.elb(A, &format!("Action=ModifyRule&RuleArn={rule}{}", action("Actions", 1, &alone)));
    assert_eq!(
        (texts(&changed, "Type"), texts(&changed, "Order")),
        (vec!["fixed-response".to_owned()], vec!["1".to_owned()])
    );

    // A store of before has records without authentication and order.
    let id = rule.parse().expect("an ARN");
    let present = at.rig.query.api.store.state().listener_rules[&id].clone();
    let mut old = serde_json::to_value(&present).expect("JSON");
    let fields = old.as_object_mut().expect("fields");
    assert!(fields.remove("authentication").is_some() && fields.remove("order").is_some());
    assert_eq!(serde_json::from_value::<ListenerRule>(old).expect("a rule"), present);
}

#[test]
fn what_no_action_can_have_is_refused() {
    let at = Https::new();
    let claim = |name: &'static str, format: &'static str, value: &'static str| {
        [
            ("JwtValidationConfig.AdditionalClaims.member.1.Name", name),
            ("JwtValidationConfig.AdditionalClaims.member.1.Format", format),
            ("JwtValidationConfig.AdditionalClaims.member.1.Values.member.1", value),
        ]
    };
    let scopes = claim("scope", "string-array", "read");
    let second = ("JwtValidationConfig.AdditionalClaims.member.1.Values.member.2", "write");
    let made = at.rig.elb(A, &at.rule(&at.https, &[jwt("1", &[&scopes[..], &[second]].concat()), answer("2")]));
    assert_eq!(
        (text(&made, "JwksEndpoint"), text(&made, "Name"), text(&made, "Format")),
        ("https://idp.example.com/keys".to_owned(), "scope".to_owned(), "string-array".to_owned())
    );
    assert_eq!(texts(&text(&text(&made, "AdditionalClaims"), "Values"), "member"), ["read", "write"]);
    at.rig.elb(A, &format!("Action=DeleteRule&RuleArn={}", text(&made, "RuleArn")));

    let long = format!("https://idp.example.com/{}", "x".repeat(256));
    let extra: Vec<(String, String)> = (1..=11)
        .flat_map(|n| {
            let entry = format!("AuthenticateCognitoConfig.AuthenticationRequestExtraParams.entry.{n}");
            [(format!("{entry}.key"), format!("k{n}")), (format!("{entry}.value"), "v".to_owned())]
        })
        .collect();
    let extra: Vec<(&str, &str)> = extra.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let without = |members: Vec<(&'static str, &'static str)>, name: &str| {
        members.into_iter().filter(|(member, _)| !member.ends_with(name)).collect::<Vec<_>>()
    };
    for first in [
        oidc("1", &[GIVEN, ("AuthenticateOidcConfig.Issuer", "http://idp.example.com")]),
        oidc("1", &[GIVEN, ("AuthenticateOidcConfig.TokenEndpoint", "idp.example.com/token")]),
        oidc("1", &[GIVEN, ("AuthenticateOidcConfig.SessionTimeout", "0")]),
        oidc("1", &[GIVEN, ("AuthenticateOidcConfig.SessionTimeout", "604801")]),
        oidc("1", &[GIVEN, ("AuthenticateOidcConfig.SessionCookieName", "a b")]),
        oidc("1", &[GIVEN, ("AuthenticateOidcConfig.OnUnauthenticatedRequest", "ignore")]),
        without(oidc("1", &[GIVEN]), "ClientId"),
        without(oidc("1", &[GIVEN]), "UserInfoEndpoint"),
        cognito("1", &extra),
        cognito("1", &[("AuthenticateCognitoConfig.UserPoolArn", "us-east-1_abcdefghi")]),
        cognito("1", &[("AuthenticateCognitoConfig.UserPoolDomain", "a/b")]),
        without(cognito("1", &[]), "UserPoolClientId"),
        without(jwt("1", &[]), "Issuer"),
        jwt("1", &[("JwtValidationConfig.JwksEndpoint", &long)]),
        jwt("1", &[("JwtValidationConfig.Issuer", &long)]),
        jwt("1", &claim("iss", "single-string", "x")),
        jwt("1", &claim("scope", "list", "x")),
        jwt("1", &claim("scope", "space-separated-values", "read write")),
        jwt("1", &[&claim("scope", "single-string", "read")[..], &[second]].concat()),
        jwt("1", &claim("scope", "string-array", "x")[..2]),
    ] {
        // Of a member that comes twice, the later counts.
        let form = at.rule(&at.https, &[first, answer("2")]);
        let (code, message) = refused(&at.rig, &form);
        assert!(["ValidationError", "InvalidParameterValue", "MissingParameter"].contains(&code.as_str()), "{form}");
        assert!(!message.contains(SECRET), "{message}");
    }
    assert_eq!(at.secret(), SECRET);
}

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;
use crate::model::Owner;

const NOWHERE: &str = "/nonexistent/certificates";

fn targets(allowed: &[String]) -> Targets {
    let allowed = allowed.iter().map(|text| text.parse().expect("an allowed target")).collect();
    Targets::new(allowed, &Trust(NOWHERE.into())).expect("targets without TLS")
}

fn notice(number: u8, notification: u8, target: &str) -> Notice {
    Notice {
        id: format!("notice-{number:017x}").parse().expect("an id"),
        owner: Owner::example(),
        notification: format!("vpce-nfn-{notification:017x}").parse().expect("an id"),
        number: number.into(),
        target: target.parse().expect("a target"),
        message: format!("{{\"number\":{number}}}"),
    }
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_file_gets_a_line_a_message_and_no_link_is_followed() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("told");
    let topic = "arn:aws:sns:us-east-1:123456789012:events";
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    let targets = targets(&[format!("{topic}=file:{}", file.display()), format!("file:{}", link.display())]);
    let sink = targets.sink(&topic.parse().expect("a topic")).expect("a sink");
    sink.deliver("{1}").await.expect("a line");
    sink.deliver("{2}").await.expect("a line");
    assert_eq!(lines(&file), ["{1}", "{2}"]);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let linked = format!("file:{}", link.display()).parse().expect("a target");
    assert!(matches!(targets.sink(&linked).expect("a sink").deliver("{3}").await, Err(SinkError::Io(_))));
    assert_eq!(lines(&file).len(), 2);
    assert!(!targets.allows(&"file:/etc/passwd".parse().expect("a target")), "nobody has allowed it");
}

#[tokio::test]
async fn a_program_gets_the_message_and_its_exit_counts() {
    let dir = TempDir::new().expect("a directory");
    let program = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        format!("exec:{}", path.display())
    };
    let out = dir.path().join("out");
    let good =
        program("good", &format!("#!/bin/sh\nread line\necho \"$# $line ${{HOME-none}}\" > {}\n", out.display()));
    let bad = program("bad", "#!/bin/sh\nexit 3\n");
    let targets = targets(&[good.clone(), bad.clone()]);
    let sink = |text: &str| targets.sink(&text.parse().expect("a target")).expect("a sink");
    // A file that was just written may still be open for writing in a process that another test starts.
    let mut told = sink(&good).deliver("{1}").await;
    for _ in 0..50 {
        if !matches!(&told, Err(SinkError::Io(error)) if error.raw_os_error() == Some(libc::ETXTBSY)) {
            break;
        }
        tokio::task::yield_now().await;
        told = sink(&good).deliver("{1}").await;
    }
    told.expect("a program that reads");
    assert_eq!(lines(&out), ["0 {1} none"], "no arguments, the message, an empty environment");
    assert!(sink(&bad).deliver("{1}").await.is_err());
}

#[tokio::test]
async fn a_webhook_gets_a_post_and_its_status_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/told?x=1", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let mut seen = Vec::new();
        for answer in ["204 No Content", "500 Internal Server Error"] {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"{1}") {
                let mut bytes = [0; 512];
                let read = stream.read(&mut bytes).await.expect("a request");
                assert_ne!(read, 0, "the request ended early");
                request.extend(&bytes[..read]);
            }
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("an answer");
            seen.push(String::from_utf8(request).expect("UTF-8"));
        }
        seen
    });
    let targets = targets(&[url.clone()]);
    let sink = targets.sink(&url.parse().expect("a target")).expect("a sink");
    sink.deliver("{1}").await.expect("told");
    assert!(matches!(sink.deliver("{1}").await, Err(SinkError::Status(_))));
    let seen = server.await.expect("the server");
    assert!(seen[0].starts_with("POST /told?x=1 HTTP/1.1\r\n"), "{}", seen[0]);
    assert!(seen[0].contains("content-type: application/json"), "{}", seen[0]);
}

/// A store in which these wait.
fn waiting(dir: &TempDir, notices: impl IntoIterator<Item = Notice>) -> Arc<Store> {
    let store = Store::open(dir.path()).expect("a store");
    store.commit(&notices.into_iter().fold(Change::default(), Change::put)).expect("a commit");
    Arc::new(store)
}

/// Until as many wait as that.
async fn until(store: &Store, left: usize) {
    let mut states = store.watch();
    let wait = states.wait_for(|state| state.notices.len() == left);
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("deliveries in time").expect("a store");
}

#[tokio::test]
async fn a_silent_webhook_holds_nobody_else_up() {
    let dir = TempDir::new().expect("a directory");
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let file = format!("file:{}", dir.path().join("told").display());
    let store = waiting(&dir, [notice(1, 1, &url), notice(2, 1, &url), notice(3, 2, &file), notice(4, 2, &file)]);
    let stop = CancellationToken::new();
    let targets = Arc::new(targets(&[url, file]));
    let agent = tokio::spawn(run(Arc::clone(&store), Arc::clone(&targets), stop.clone()));
    // It was asked, and does not answer.
    let asked = silent.accept().await.expect("a delivery");
    until(&store, 2).await;
    assert_eq!(lines(&dir.path().join("told")), ["{\"number\":3}", "{\"number\":4}"]);
    store.commit(&Change::default().put(notice(5, 3, "file:/not/allowed"))).expect("a commit meanwhile");
    until(&store, 2).await;
    stop.cancel();
    agent.await.expect("the agent ends at once");
    assert_eq!(store.state().notices.len(), 2, "what was not delivered waits");
    drop(asked);
}

#[tokio::test]
async fn what_was_not_delivered_waits_for_the_next_agent() {
    let dir = TempDir::new().expect("a directory");
    let later = dir.path().join("later");
    let file = format!("file:{}", later.join("told").display());
    let store = waiting(&dir, [notice(2, 1, &file), notice(1, 1, &file)]);
    let targets = Arc::new(targets(&[file]));
    let stop = CancellationToken::new();
    let agent = tokio::spawn(run(Arc::clone(&store), Arc::clone(&targets), stop.clone()));
    tokio::task::yield_now().await;
    stop.cancel();
    agent.await.expect("the agent ends");
    drop(store);
    fs::create_dir(&later).expect("a directory");
    // A process that another test starts holds the directory's lock until it has become its program.
    let mut opened = Store::open(dir.path());
    for _ in 0..50 {
        if opened.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        opened = Store::open(dir.path());
    }
    let store = Arc::new(opened.expect("the same store"));
    assert_eq!(store.state().notices.len(), 2);
    let agent = tokio::spawn(run(Arc::clone(&store), targets, CancellationToken::new()));
    until(&store, 0).await;
    // What was under way when the first one ended may come twice.
    let mut told = lines(&later.join("told"));
    told.dedup();
    assert_eq!(told, ["{\"number\":1}", "{\"number\":2}"]);
    agent.abort();
}

#[test]
fn the_oldest_message_of_each_notification_is_next() {
    let notices = [notice(3, 1, "file:/x"), notice(1, 2, "file:/x"), notice(2, 1, "file:/x")];
    let ids = |busy: &BTreeSet<NotificationId>| -> Vec<String> {
        next(notices.iter(), busy).iter().map(|notice| notice.id.to_string()).collect()
    };
    assert_eq!(ids(&BTreeSet::new()), ["notice-00000000000000002", "notice-00000000000000001"]);
    assert_eq!(ids(&[notice(0, 1, "file:/x").notification].into()), ["notice-00000000000000001"]);
}

#[test]
fn an_allowed_target_is_one_that_can_be_reached() {
    for text in ["arn:aws:sns:us-east-1:123456789012:events", "x", "arn:aws:sns:us-east-1:1:x=file:/x", "file:x"] {
        assert!(text.parse::<Allowed>().is_err(), "'{text}' was accepted");
    }
    let tls = vec!["https://localhost/".parse().expect("a target")];
    assert!(matches!(Targets::new(tls, &Trust(NOWHERE.into())), Err(SinkError::Certificates { .. })));
}

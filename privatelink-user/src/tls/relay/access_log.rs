//! The access log of TLS listeners: the fields of a Network Load Balancer's, in its order (user guide, "Access logs"),
//! of connections whose handshake failed as well; and one of ours behind them: why a target was not believed.

use std::{
    fmt::{self, Display, Write as _},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{fs::OpenOptions, io::AsyncWriteExt as _, sync::mpsc};

use crate::{
    model::ListenerId,
    tls::{listener::Record, pump::Relayed, verified::Distrust},
};

/// Lines that wait for the disk; beyond them lines are lost, and counted.
const WAITING: usize = 16_384;

/// Where lines go.
#[derive(Clone, Debug)]
pub struct AccessLog(mpsc::Sender<(PathBuf, String)>);

impl AccessLog {
    /// Starts who writes. A file is opened for each batch of its lines, so that it may be rotated at any time.
    pub fn start() -> Self {
        let (sender, mut lines) = mpsc::channel::<(PathBuf, String)>(WAITING);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while lines.recv_many(&mut batch, WAITING).await > 0 {
                for lines in batch.chunk_by(|(before, _), (after, _)| before == after) {
                    let Some((path, _)) = lines.first() else { continue };
                    let text: String = lines.iter().map(|(_, line)| line.as_str()).collect();
                    if let Err(error) = append(path, &text).await {
                        tracing::warn!(%error, path = %path.display(), "connections are not logged");
                    }
                }
                batch.clear();
            }
        });
        Self(sender)
    }

    /// Logs a connection that has ended.
    pub fn note(&self, path: PathBuf, listener: &ListenerId, load_balancer: &str, record: &Record) {
        if self.0.try_send((path, line(listener, load_balancer, record))).is_err() {
            tracing::warn!("the access log is slower than connections end; a line is lost");
        }
    }
}

async fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o640).open(path).await?;
    file.write_all(text.as_bytes()).await?;
    file.flush().await
}

/// A field; what there is nothing to say of is a hyphen.
struct Field<T>(Option<T>);

impl<T: Display> Display for Field<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A name of the client's, without what would end a field or a line.
fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_graphic() && c != '"' { c } else { '?' }).collect()
}

fn line(listener: &ListenerId, load_balancer: &str, record: &Record) -> String {
    let Record {
        began,
        ended,
        origin,
        target: _,
        took,
        handshake,
        certificate_arn,
        certificate_serial,
        cipher,
        version,
        group,
        server_name,
        alpn,
        alpn_target,
        alpn_offered,
        alert,
        distrust,
        relayed,
    } = record;
    let listener = listener.as_str().rsplit('/').next().unwrap_or_default();
    let milliseconds = |duration: Duration| duration.as_millis();
    let bytes = |of: fn(&Relayed) -> u64| relayed.as_ref().map_or(0, of);
    let offered: Vec<String> = alpn_offered.iter().map(|name| format!("\"{}\"", safe(name))).collect();
    let time = |at: &jiff::Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let mut line = String::new();
    // Writing into a string cannot fail.
    let _ = writeln!(
        line,
        "tls 2.0 {} {load_balancer} {listener} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}",
        Field(ended.as_ref().map(time)),
        Field(origin.as_ref().map(|origin| origin.client)),
        Field(origin.as_ref().map(|origin| origin.front)),
        milliseconds(*took),
        Field(handshake.map(milliseconds)),
        bytes(|relayed| relayed.up),
        bytes(|relayed| relayed.down),
        Field(alert.map(|alert| format!("{alert:02x}"))),
        Field(certificate_arn.as_ref()),
        Field(certificate_serial.as_ref()),
        Field(cipher.as_ref()),
        Field(*version),
        Field(group.as_ref()),
        Field(server_name.as_deref().map(safe)),
        Field(*alpn),
        Field(alpn_target.as_deref().map(safe)),
        Field(Some(offered.join(",")).filter(|list| !list.is_empty())),
        Field(began.as_ref().map(time)),
        Field(distrust.map(Distrust::code)),
    );
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{proxy_header::Origin, pump::End};

    #[tokio::test]
    async fn each_line_goes_to_the_log_that_was_set_when_its_connection_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let log = AccessLog::start();
        for (path, line) in [(&first, "a\n"), (&second, "b\n"), (&first, "c\n")] {
            log.0.try_send((path.clone(), line.to_owned())).expect("room");
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while (read(&first), read(&second)) != ("a\nc\n".to_owned(), "b\n".to_owned()) {
            assert!(tokio::time::Instant::now() < deadline, "{:?} {:?}", read(&first), read(&second));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn the_fields_are_in_their_order_and_clients_cannot_forge_lines() {
        let id =
            "arn:aws:elasticloadbalancing:us-east-1:123456789012:listener/net/web/0123456789abcdef/fedcba9876543210";
        let record = Record {
            began: "2026-01-02T03:04:05Z".parse().ok(),
            ended: "2026-01-02T03:04:07Z".parse().ok(),
            origin: Some(Origin {
                client: "10.0.1.10:40000".parse().expect("an address"),
                front: "10.0.0.50:443".parse().expect("an address"),
                endpoint: None,
            }),
            took: Duration::from_millis(2_000),
            handshake: Some(Duration::from_millis(3)),
            certificate_arn: Some("arn:cert".to_owned()),
            certificate_serial: Some("0a:0b".to_owned()),
            cipher: Some("TLS_AES_128_GCM_SHA256".to_owned()),
            version: Some("tlsv13"),
            group: Some("x25519".to_owned()),
            server_name: Some("a b\ntls".to_owned()),
            alpn: Some("h2"),
            alpn_offered: vec!["h2".to_owned(), "http/1.1".to_owned()],
            relayed: Some(Relayed { up: 98, down: 246, end: End::Closed }),
            ..Record::default()
        };
        assert_eq!(
            line(&id.parse().expect("a listener"), "net/web/0123456789abcdef", &record),
            "tls 2.0 2026-01-02T03:04:07 net/web/0123456789abcdef fedcba9876543210 10.0.1.10:40000 10.0.0.50:443 2000 3 98 246 \
             - arn:cert 0a:0b TLS_AES_128_GCM_SHA256 tlsv13 x25519 a?b?tls h2 - \"h2\",\"http/1.1\" 2026-01-02T03:04:05 -\n"
        );
    }
}

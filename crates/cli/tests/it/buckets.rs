//! Sources in buckets, from a server on this machine that speaks as much of S3 as reading takes.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::spawn;

use crate::domain::{Domain, text};

/// The name and the bytes of an object.
type Object = (String, Vec<u8>);

/// A server of one bucket, `notes`; every request is written down.
struct Server {
    port: u16,
    objects: Arc<Mutex<Vec<Object>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(objects: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let objects: Vec<_> = objects.iter().map(|(key, bytes)| ((*key).to_owned(), bytes.clone())).collect();
        let (objects, requests) = (Arc::new(Mutex::new(objects)), Arc::new(Mutex::new(Vec::new())));
        let (known, seen) = (Arc::clone(&objects), Arc::clone(&requests));
        spawn(move || {
            for stream in listener.incoming().flatten() {
                let (known, seen) = (Arc::clone(&known), Arc::clone(&seen));
                spawn(move || while answer(&stream, &known.lock().unwrap(), &seen).is_some() {});
            }
        });
        Self { port, objects, requests }
    }

    fn num_requests(&self, of: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.starts_with(of)).count()
    }
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", arable_core::Digest::of(bytes).short())
}

/// Answers one request; `None` when there is none.
fn answer(stream: &TcpStream, objects: &[(String, Vec<u8>)], seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let headers: Vec<String> = lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
    seen.lock().unwrap().push(first.clone());
    let mut words = first.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let is_signed = headers.iter().any(|header| header.to_lowercase().starts_with("authorization: aws4-hmac-sha256"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let object = objects.iter().find(|(key, _)| path.strip_prefix("/notes/") == Some(key));
    let (status, head, body) = match object {
        _ if !is_signed => ("403 Forbidden", String::new(), error("AccessDenied")),
        _ if !path.starts_with("/notes") => ("404 Not Found", String::new(), error("NoSuchBucket")),
        _ if query.contains("list-type=2") => ("200 OK", String::new(), list(objects, query)),
        Some((_, bytes)) => ("200 OK", format!("ETag: {}\r\n", tag(bytes)), bytes.clone()),
        None => ("404 Not Found", String::new(), error("NoSuchKey")),
    };
    let changed = "Last-Modified: Wed, 25 Nov 2026 10:00:00 GMT\r\n";
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{changed}{head}\r\n", body.len()).ok()?;
    if method == "GET" { stream.write_all(&body).ok() } else { Some(()) }
}

fn error(code: &str) -> Vec<u8> {
    format!("<Error><Code>{code}</Code></Error>").into_bytes()
}

fn list(objects: &[(String, Vec<u8>)], query: &str) -> Vec<u8> {
    let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap_or("").replace("%2F", "/");
    let entries = objects.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(key, bytes)| {
        format!(
            "<Contents><Key>{key}</Key><Size>{}</Size><ETag>{}</ETag><LastModified>2026-11-25T10:00:00.000Z</LastModified></Contents>",
            bytes.len(),
            tag(bytes).replace('"', "&quot;")
        )
    });
    let entries: String = entries.collect();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>").into_bytes()
}

fn lines(word: &str) -> Vec<u8> {
    let line = |idx: usize| format!("{{\"text\": \"The {word} rattles on shift {idx}, near the inlet.\"}}\n");
    (0..20).map(line).collect::<String>().into_bytes()
}

#[test]
fn a_source_in_a_bucket_is_read_once() {
    let bad = b"not json\n".to_vec();
    let server = Server::start(&[
        ("a/one.jsonl", lines("valve")),
        ("a/deep/two.jsonl", lines("rotor")),
        ("a/bad.jsonl", bad),
        ("b/three.jsonl", lines("pump")),
    ]);
    let domain = Domain::new();
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let arable = |path: &str, key: Option<&str>| {
        let path = format!("corpus.source.notes.path=\"{path}\"");
        let set = ["--set", &path, "--set", "corpus.max_reject_rate=0.1", "--set", "check.some=\"num_train > 0\""];
        let mut command = domain.command(&[&["check"], &set[..]].concat());
        command.env("AWS_ENDPOINT_URL", &endpoint).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
        match key {
            Some(key) => command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", "s"),
            None => command.env("AWS_SKIP_SIGNATURE", "true"),
        };
        let output = command.output().unwrap();
        (output.status.code(), text(&output))
    };
    let (code, said) = arable("s3://notes/a/**/*.jsonl*", Some("k"));
    assert!(code == Some(0) && said.contains("40 documents") && said.contains("1 records rejected"), "{said}");
    assert_eq!((server.num_requests("GET /notes/a/"), server.num_requests("GET /notes/b/")), (3, 0));
    // The second time, the listing says that nothing has changed.
    assert_eq!(arable("s3://notes/a/**/*.jsonl*", Some("k")).0, Some(0));
    assert_eq!(server.num_requests("GET /notes/a/"), 3);
    server.objects.lock().unwrap()[0].1 = lines("seal");
    assert_eq!(arable("s3://notes/a/**/*.jsonl*", Some("k")).0, Some(0));
    assert_eq!(server.num_requests("GET /notes/a/"), 6);
    for (path, key, expected) in [
        ("s3://notes/a", None, "AWS_ACCESS_KEY_ID"),
        ("s3://nowhere/a", Some("k"), "name of the bucket"),
        ("s3://notes/c/*.jsonl", Some("k"), "find an object to read at `s3://notes/c/*.jsonl`"),
        ("az://notes/c/*.jsonl", Some("k"), "AZURE_STORAGE_ACCOUNT_NAME"),
    ] {
        let (code, said) = arable(path, key);
        assert!(code == Some(2) && said.contains(expected), "{path}: {code:?} {said}");
    }
    let leftover = std::fs::read_dir(domain.path("runs/artifacts")).unwrap();
    assert!(leftover.flatten().all(|entry| !entry.path().join("fetched").exists()));
}

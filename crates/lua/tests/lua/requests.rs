//! What a script asks of a web server.

use std::path::Path;
use std::time::Duration;

use postrider_lua::request::Method;

use crate::host::run;

#[tokio::test]
async fn a_request_goes_out_as_it_was_written() {
    let run = run(r#"
        local pr = require "postrider"
        assert(pr.http.post("https://example.org/a", {
          json = { text = "ü", list = pr.json.array {} },
          headers = { ["X-Key"] = pr.secret.env "KEY", ["X-Job"] = "nightly" },
          timeout = "1m30s", max_octets = 5, ca_file = "ca.pem", danger_plaintext = true,
        }))
        assert(pr.http.post("https://example.org/b", {
          form = { b = "x y&z", a = 1, c = true, d = 0.5, e = "ü" }, headers = { ["Content-Type"] = "mine" } }))
        assert(pr.http.post("https://example.org/c", { body = "\0\xff" }))
        assert(pr.http.post "https://example.org/d")
        assert(pr.http.get(pr.secret.env "HOOK"))
    "#)
    .await;

    assert!(run.lines().is_empty());
    let requests = run.host.requests.lock().unwrap();
    let sent: Vec<_> = requests
        .iter()
        .map(|sent| (sent.request.method, sent.url.as_str()))
        .collect();
    assert_eq!(
        sent,
        [
            (Method::Post, "https://example.org/a"),
            (Method::Post, "https://example.org/b"),
            (Method::Post, "https://example.org/c"),
            (Method::Post, "https://example.org/d"),
            (Method::Get, "https://hooks.example.org/HOOK"),
        ]
    );
    let header = |index: usize| -> Vec<_> {
        let fields = requests[index].headers.iter();
        fields
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    };
    assert_eq!(
        header(0),
        [
            ("X-Job", "nightly"),
            ("X-Key", "https://hooks.example.org/KEY"),
            ("content-type", "application/json"),
        ]
    );
    assert_eq!(header(1), [("Content-Type", "mine")]);
    assert!(header(2).is_empty() && header(3).is_empty() && header(4).is_empty());
    let bodies: Vec<_> = requests
        .iter()
        .map(|sent| sent.request.body.as_slice())
        .collect();
    assert_eq!(
        bodies,
        [
            r#"{"list":[],"text":"ü"}"#.as_bytes(),
            b"a=1&b=x+y%26z&c=true&d=0.5&e=%C3%BC",
            b"\0\xff",
            b"",
            b"",
        ]
    );
    let first = &requests[0].request;
    assert_eq!(first.timeout, Duration::from_secs(90));
    assert_eq!(first.max_octets, 5);
    assert_eq!(first.ca_file.as_deref(), Some(Path::new("ca.pem")));
    assert!(first.danger_plaintext);
    let last = &requests[4].request;
    assert_eq!(last.timeout, Duration::from_secs(30));
    assert_eq!(last.max_octets, 1 << 20);
    assert_eq!(last.ca_file, None);
    assert!(!last.danger_plaintext);
}

#[tokio::test]
async fn every_answer_is_a_response_and_none_is_an_error() {
    let run = run(r#"
        local pr = require "postrider"
        for _, status in ipairs { 199, 200, 299, 300, 404 } do
          local response = assert(pr.http.get("https://example.org/" .. status))
          print(response.status, response.ok)
        end
        local response = pr.http.get "https://example.org/"
        print(response.headers["x-a"], response.headers.via, #response.body, response.body == '{"a":1}\xff\0')
        local response, err = pr.http.post "https://example.org/0"
        print(response, err.code, err.at)
        print(select(2, pr.http.post(pr.secret.file "/none")).code)
        print(select(2, pr.http.post("https://example.org", { headers = { a = pr.secret.vault "x" } })).code)
        print(coroutine.wrap(function() return pr.http.get("https://example.org/204").status end)())
    "#)
    .await;

    let mut lines = run.lines();
    let error: Vec<_> = lines.remove(6).split('\t').collect();
    assert_eq!(error[..2], ["nil", "network.timeout"]);
    assert!(error[2].ends_with("script.lua:9"), "{error:?}");
    assert_eq!(
        lines,
        [
            "199\tfalse",
            "200\ttrue",
            "299\ttrue",
            "300\tfalse",
            "404\tfalse",
            "1, 2\tp\t9\ttrue",
            "secret.missing",
            "secret.missing",
            "204",
        ]
    );
    // Two requests were never made: their secrets were not there.
    assert_eq!(run.host.requests.lock().unwrap().len(), 8);
}

#[tokio::test]
async fn a_request_that_is_written_wrongly_is_refused_at_its_line() {
    let run = run(r#"
        local pr = require "postrider"
        local function refused(...) print(select(2, pcall(pr.http.post, ...)):match ": (http.*)") end
        refused()
        refused("\xff")
        refused("https://example.org", "text")
        refused("https://example.org", { jsno = 1 })
        refused("https://example.org", { json = 1, body = "x" })
        refused("https://example.org", { form = {}, body = "x" })
        refused("https://example.org", { form = "a=b" })
        refused("https://example.org", { form = { a = {} } })
        refused("https://example.org", { form = { "a" } })
        refused("https://example.org", { json = { key = pr.secret.env "K" } })
        refused("https://example.org", { headers = { a = 1 } })
        refused("https://example.org", { headers = { "a: b" } })
        refused("https://example.org", { timeout = "soon" })
        refused("https://example.org", { max_octets = 67108865 })
        refused("https://example.org", { max_octets = -1 })
        refused("https://example.org", { max_octets = 0/0 })
        refused("https://example.org", { danger_plaintext = "yes" })
        refused("https://example.org", { ca_file = true })
        print(pcall(pr.http.get, "https://example.org", { body = "x" }))
    "#)
    .await;

    assert_eq!(
        run.lines(),
        [
            "http.post: argument 1 (url) must be UTF-8 text or a pr.secret, got nil",
            "http.post: argument 1 (url) must be UTF-8 text or a pr.secret, got string",
            "http.post: argument 2 (options) must be a table, got string",
            "http.post: unknown field 'jsno' (did you mean 'json'?)",
            "http.post: give one of 'json', 'form' and 'body'",
            "http.post: give one of 'json', 'form' and 'body'",
            "http.post: field 'form' must be a table, got a string",
            "http.post: field 'form.a' must be text or a number, got a table",
            "http.post: field 'form' maps names to values",
            "http.post: value.key is a secret",
            "http.post: field 'headers.a' must be UTF-8 text or a pr.secret, got a number",
            "http.post: field 'headers' maps names to values",
            "http.post: 'soon' is no span of time: write \"500ms\", \"90s\", \"45m\" or \"1h30m\"",
            "http.post: field 'max_octets' must be a number up to 67108864",
            "http.post: field 'max_octets' must be a number up to 67108864",
            "http.post: field 'max_octets' must be a number up to 67108864",
            "http.post: field 'danger_plaintext' must be true or false, got a string",
            "http.post: field 'ca_file' must be a string, got a boolean",
            "false\tscript.lua:22: http.get: unknown field 'body'",
        ]
    );
    assert!(run.host.requests.lock().unwrap().is_empty());
}

//! The header's JSON and base64 helpers against `serde_json` and `base64`.
//!
//! One C program, with sanitizers where the compiler has them, answers thousands of cases;
//! the Rust crates know what it should have said.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use support::{cc, compile, root};

/// JSON, path, capacity of the buffer.
type Case = (Vec<u8>, String, usize);

/// What the C program makes of a case.
#[derive(Debug, PartialEq)]
struct Answer {
    value: Option<Vec<u8>>,
    string: Option<Vec<u8>>,
    number: Option<u64>,
    octets: Option<Vec<u8>>,
    path_as_json: Vec<u8>,
    path_as_base64: Vec<u8>,
}

fn ask(cases: &[Case]) -> Vec<Answer> {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(program(dir.path()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut input = Vec::new();
    for (json, path, cap) in cases {
        writeln!(input, "{} {} {cap}", json.len(), path.len()).unwrap();
        input.extend_from_slice(json);
        input.extend_from_slice(path.as_bytes());
    }
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(
        output.status.success(),
        "the helpers' program: {}",
        output.status
    );
    let answers: Vec<Answer> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(answer)
        .collect();
    assert_eq!(answers.len(), cases.len());
    answers
}

/// The program, with sanitizers where the compiler has them.
fn program(dir: &Path) -> PathBuf {
    let source = root().join("crates/plugin/tests/c/helpers.c");
    let program = dir.join("helpers");
    let mut sanitized = cc();
    sanitized.args([
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-o",
    ]);
    let built = sanitized.args([&program, &source]).output();
    if !built.is_ok_and(|output| output.status.success()) {
        println!("no sanitizers: the helpers run without them");
        compile(cc().arg("-o").args([&program, &source]));
    }
    program
}

fn answer(line: &str) -> Answer {
    let fields: Vec<Option<Vec<u8>>> = line
        .split(' ')
        .map(|field| field.strip_prefix('=').map(from_hex))
        .collect();
    let [
        value,
        string,
        number,
        octets,
        Some(path_as_json),
        Some(path_as_base64),
    ] = &fields[..]
    else {
        panic!("{line}");
    };
    let number = number
        .as_ref()
        .map(|digits| String::from_utf8_lossy(digits).parse().unwrap());
    Answer {
        value: value.clone(),
        string: string.clone(),
        number,
        octets: octets.clone(),
        path_as_json: path_as_json.clone(),
        path_as_base64: path_as_base64.clone(),
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// What the Rust crates make of it.
fn expected((json, path, cap): &Case) -> Answer {
    let whole: Option<Value> = serde_json::from_slice(json).ok();
    let value = whole.as_ref().and_then(|whole| lookup(whole, path));
    let text = value.and_then(Value::as_str);
    let fits = |octets: &Vec<u8>| octets.len() <= *cap;
    Answer {
        value: value.map(|value| value.to_string().into_bytes()),
        string: text
            .filter(|text| !text.contains('\0') && text.len() < *cap)
            .map(|text| text.as_bytes().to_vec()),
        number: match value {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().ok()
            }
            _ => None,
        },
        octets: text
            .and_then(|text| STANDARD.decode(text).ok())
            .filter(fits),
        path_as_json: json!(path).to_string().into_bytes(),
        path_as_base64: format!("\"{}\"", STANDARD.encode(path)).into_bytes(),
    }
}

fn lookup<'a>(mut value: &'a Value, path: &str) -> Option<&'a Value> {
    let mut rest = path;
    while !rest.is_empty() {
        let (segment, after) = rest.split_once('/').unwrap_or((rest, ""));
        value = match value {
            Value::Object(object) => object.get(segment)?,
            Value::Array(array) if segment.bytes().all(|b| b.is_ascii_digit()) => {
                array.get(segment.parse::<usize>().ok()?)?
            }
            _ => return None,
        };
        rest = after;
    }
    Some(value)
}

/// The same, but for spellings that both sides may choose: whitespace and escapes.
fn normal(mut answer: Answer) -> Answer {
    let respell = |json: Vec<u8>| match serde_json::from_slice::<Value>(&json) {
        Ok(value) => value.to_string().into_bytes(),
        Err(_) => json,
    };
    answer.value = answer.value.map(respell);
    answer.path_as_json = respell(answer.path_as_json);
    answer
}

fn agree(cases: &[Case]) {
    for (case, answer) in cases.iter().zip(ask(cases)) {
        let (json, path, cap) = case;
        let shown = String::from_utf8_lossy(json);
        assert_eq!(
            normal(answer),
            expected(case),
            "{path:?} in {shown} with {cap}"
        );
    }
}

#[test]
fn the_c_helpers_read_what_serde_json_reads() {
    let mut runner = TestRunner::deterministic();
    let cases: Vec<Case> = (0..6000)
        .map(|_| case().new_tree(&mut runner).unwrap().current())
        .collect();
    let found = cases
        .iter()
        .filter(|case| expected(case).value.is_some())
        .count();
    assert!(
        (1000..5900).contains(&found),
        "cases of both sorts: {found} found"
    );
    agree(&cases);
}

#[test]
fn the_c_helpers_hold_at_the_edges() {
    let case = |json: &str, path: &str, cap| (json.as_bytes().to_vec(), path.to_owned(), cap);
    let mut cases = vec![
        case("", "", 8),
        case(" ", "", 8),
        case("[1[2]", "", 8),
        case("[1", "", 8),
        case("[", "", 8),
        case("{\"a\"", "a", 8),
        case("{\"a\":1,}", "a", 8),
        case("[1,]", "0", 8),
        case("[,1]", "0", 8),
        case("{}x", "", 8),
        case("\"\\u00", "", 8),
        case("\"\\", "", 8),
        case("\"\n\"", "", 8),
        case("01", "", 8),
        case("-", "", 8),
        case("1.", "", 8),
        case("1e", "", 8),
        case("-0.5E+7", "", 8),
        case("tru", "", 8),
        case("nullnull", "", 8),
        // the shape of the wire, with what could mislead a search for a key
        case(
            r#"{"x":"\"access_token\":\"no\"","access_token":"yes"}"#,
            "access_token",
            8,
        ),
        case(
            r#"{"x":{"access_token":"no"},"access_token":"yes"}"#,
            "access_token",
            8,
        ),
        case(r#"{"x":{"access_token":"no"}}"#, "access_token", 8),
        case(r#"{"\u0061\u0063":"yes"}"#, "ac", 8),
        case(r#"{"a":"first","a":"last"}"#, "a", 8),
        case(
            r#"{"http":{"headers":[["k","v"],["l","w"]]}}"#,
            "http/headers/1/1",
            8,
        ),
        case("[[1]]", "0//", 8),
        case(r#"{"":{"":7}}"#, "//", 8),
        // strings
        case(r#""\u0000""#, "", 8),
        case(r#""a\u0000b""#, "", 8),
        case(r#""\ud83d\udce8""#, "", 8),
        case(r#""\ud83d""#, "", 8),
        case(r#""\udce8""#, "", 8),
        case(r#""\ud83d\u0041""#, "", 8),
        case(r#""\b\f\n\r\t\/\\\"""#, "", 9),
        case(r#""\b\f\n\r\t\/\\\"""#, "", 8),
        case(r#""abc""#, "", 4),
        case(r#""abc""#, "", 3),
        case(r#""abc""#, "", 0),
        case(r#""é€😀""#, "", 10),
        case(r#""\u00e9\u20ac""#, "", 5),
        // numbers
        case("18446744073709551615", "", 8),
        case(r#""18446744073709551616""#, "", 8),
        case(r#""3599""#, "", 8),
        case(r#""""#, "", 8),
        case(r#""-1""#, "", 8),
        case("-1", "", 8),
        case("1.5", "", 8),
        // base64
        case(r#""AA==""#, "", 8),
        case(r#""AB==""#, "", 8),
        case(r#""AAA=""#, "", 8),
        case(r#""AAB=""#, "", 8),
        case(r#""A===""#, "", 8),
        case(r#""====""#, "", 8),
        case(r#""AAAA=""#, "", 8),
        case(r#""AA==AAAA""#, "", 8),
        case(r#""AAAA====""#, "", 8),
        case(r#""A""#, "", 8),
        case(r#""A A=""#, "", 8),
        case(r#""\/\u002b8=""#, "", 8),
        case(r#""AAAA""#, "", 3),
        case(r#""AAAA""#, "", 2),
        case(r#""AAA=""#, "", 2),
    ];
    for depth in [1, 62, 63] {
        cases.push((
            format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes(),
            "0".into(),
            8,
        ));
    }
    agree(&cases);
}

#[test]
fn nesting_beyond_the_limit_is_refused_and_not_recursed_into() {
    let deep = |depth: usize| {
        (
            format!("{}1{}", "[".repeat(depth), "]".repeat(depth)).into_bytes(),
            String::new(),
            8,
        )
    };
    let answers = ask(&[
        deep(63),
        deep(64),
        deep(100_000),
        (vec![b'['; 1 << 20], String::new(), 8),
    ]);
    let read: Vec<bool> = answers
        .iter()
        .map(|answer| answer.value.is_some())
        .collect();
    assert_eq!(read, [true, false, false, false]);
}

/// JSON over few keys, whole or damaged, and a path that may lead somewhere.
fn case() -> impl Strategy<Value = Case> {
    // An exponent could make a number too large for serde_json, which C does not look at.
    let new = any::<char>().prop_filter("no exponent", |c| !matches!(c, 'e' | 'E'));
    let damage = prop_oneof![
        4 => Just(None),
        1 => (any::<prop::sample::Index>(), new).prop_map(Some),
    ];
    let key = prop_oneof![Just("a"), Just("b"), Just("é"), Just("0"), Just("1")];
    let path = prop::collection::vec(key, 0..4).prop_map(|keys| keys.join("/"));
    (value(), any::<bool>(), damage, path, 0_usize..40).prop_map(
        |(value, pretty, damage, path, cap)| {
            let mut json = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                value.to_string()
            };
            if let Some((at, new)) = damage {
                let (start, old) = json
                    .char_indices()
                    .nth(at.index(json.chars().count()))
                    .unwrap();
                json.replace_range(start..start + old.len_utf8(), new.encode_utf8(&mut [0; 4]));
            }
            (json.into_bytes(), path, cap)
        },
    )
}

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[0-9]{0,22}",
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|octets| STANDARD.encode(octets)),
        "[A-Za-z0-9+/=]{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            Just("a".to_owned()),
            Just("b".into()),
            Just("é".into()),
            any::<String>()
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

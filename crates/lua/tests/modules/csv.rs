//! CSV that is misread sends mail to the wrong people.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::world::World;

async fn lines(script: &str) -> Vec<String> {
    World::with(&[]).lines(script).await
}

#[tokio::test]
async fn rows_come_by_the_names_of_their_columns() {
    let world = World::with(&[(
        "in/people.csv",
        "\u{feff}name; mail;\r\n\"Ada \"\"L\"\"\";a@example.org;\r\n\r\n\"two\nlines\";b@example.org;\r\n",
    )]);
    let lines = world
        .lines(
            r#"local rows, columns = pr.csv.read("people.csv", { delimiter = ";" })
print(#rows, table.concat(columns, "|"))
for _, row in ipairs(rows) do print((row.name:gsub("\n", "\\n")), row.mail, row[""]) end
local rows, columns = pr.csv.decode("1,2\n3,\n", { header = false })
print(#rows, columns, rows[1][2], rows[2][2] == "")
print(#pr.csv.decode "", #pr.csv.decode "a,b\n")"#,
        )
        .await;
    assert_eq!(
        lines,
        [
            "2\tname|mail",
            "Ada \"L\"\ta@example.org\tnil",
            "two\\nlines\tb@example.org\tnil",
            "2\tnil\t2\ttrue",
            "0\t0",
        ]
    );
}

#[tokio::test]
async fn whatever_is_ambiguous_is_refused_with_its_line() {
    let world = World::with(&[("in/latin.csv", "name\nx\n")]);
    std::fs::write(world.path("in/latin.csv"), b"name\nM\xfcller\n").unwrap();
    let lines = world
        .lines(
            r#"local function told(text) local rows, err = pr.csv.decode(text) print(rows, err.code, err.place, err.message) end
told 'a,b\n1,2\n3\n'
told 'a,b\n1,2,3\n'
told 'a,a\n'
told 'a,b\n"1,2\n3,4\n'
told 'a,b\n"1"x,2\n'
told 'a,\n1,2\n'
local _, err = pr.csv.read "latin.csv"
print(err.code, err.place, err.message)
told(string.rep("a", (16 << 20) + 1))
told("a\n" .. string.rep("1\n", 500000))
print(pcall(pr.csv.decode, "", { delimiter = "ab" }))"#,
        )
        .await;
    assert_eq!(
        lines[..9],
        [
            "nil\tcsv.invalid\tline 3\trow 2 has 1 field, and the header 2",
            "nil\tcsv.invalid\tline 2\trow 1 has 3 fields, and the header 2",
            "nil\tcsv.invalid\tline 1\tcolumns 1 and 2 are both called 'a'",
            "nil\tcsv.invalid\tline 2\tthe quote that begins here is never closed",
            "nil\tcsv.invalid\tline 2\tsomething stands after a closing quote",
            "nil\tcsv.invalid\tline 2\tcolumn 2 holds something and has no name",
            "csv.invalid\tlatin.csv, line 2\tthe text is not UTF-8",
            "nil\tcsv.too_large\tnil\tthe text is longer than 16777216 octets",
            "nil\tcsv.too_large\tnil\tthere are more than 500000 cells",
        ]
    );
    assert!(lines[9].contains("must be one character"), "{}", lines[9]);
}

#[tokio::test]
async fn rows_are_written_in_the_order_of_the_columns() {
    let printed = lines(
        r#"local function show(...) print((pr.csv.encode(...):gsub("\r\n", "|"))) end
show { { b = 1, a = "x,y" }, { a = 'say "hi"', c = true } }
show({ { b = 1, a = "x" } }, { columns = { "b", "a" }, header = false, delimiter = ";" })
show({ { 1, 2.5 }, { "", pr.json.null } }, { columns = { "n", "m" } })
show({ { "=1+1", "+1", "-1", "@x", -1, "a=b" } }, { safe = true })
show {}
print((select(2, pcall(pr.csv.encode, { { 1, 2 }, { 1 } })):gsub("^[^ ]* ", "")))
print((select(2, pcall(pr.csv.encode, { { a = {} } })):gsub("^[^ ]* ", "")))
print((select(2, pcall(pr.csv.encode, { { a = 1 }, { 1 } })):gsub("^[^ ]* ", "")))"#,
    )
    .await;
    assert_eq!(
        printed,
        [
            "a,b,c|\"x,y\",1,|\"say \"\"hi\"\"\",,true|",
            "1;x|",
            "n,m|1,2.5|,|",
            "'=1+1,'+1,'-1,'@x,-1,a=b|",
            "",
            "csv.encode: row 2 has 1 field, and not 2",
            "csv.encode: rows[1].a is a table",
            "csv.encode: rows[2] has something else than names, as the first row has",
        ]
    );
}

/// What we write Python reads, and what Python writes we read, cell for cell.
#[tokio::test]
async fn another_implementation_agrees() {
    const PROGRAM: &str = r#"
import csv, json, random, sys
rng = random.Random(7)
alphabet = ['a', '"', ',', ';', '\n', '\r\n', ' ', 'ü', "'", '=', '\t', '']
sheets = []
for _ in range(150):
    width = rng.randint(1, 5)
    rows = [["".join(rng.choice(alphabet) for _ in range(rng.randint(0, 6))) for _ in range(width)]
            for _ in range(rng.randint(1, 6))]
    delimiter = rng.choice([",", ";", "\t"])
    import io
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows(rows)
    sheets.append({"rows": rows, "delimiter": delimiter, "text": out.getvalue()})
json.dump(sheets, sys.stdout)
"#;
    const CHECK: &str = r#"
import csv, io, json, sys
for line in sys.stdin:
    sheet = json.loads(line)
    read = list(csv.reader(io.StringIO(sheet["text"], newline=""), delimiter=sheet["delimiter"], strict=True))
    assert read == sheet["rows"], (read, sheet)
"#;
    let made = Command::new("python3")
        .args(["-c", PROGRAM])
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let world = World::with(&[("in/sheets.json", &String::from_utf8(made.stdout).unwrap())]);
    let printed = world
        .run(
            r#"for _, sheet in ipairs(assert(pr.json.decode(assert(pr.fs.read "sheets.json")))) do
  local rows = assert(pr.csv.decode(sheet.text, { header = false, delimiter = sheet.delimiter }))
  assert(pr.json.encode(rows) == pr.json.encode(sheet.rows), pr.json.encode { rows, sheet })
  local text = pr.csv.encode(sheet.rows, { delimiter = sheet.delimiter })
  print(pr.json.encode { text = text, rows = sheet.rows, delimiter = sheet.delimiter })
end"#,
        )
        .await
        .unwrap();
    assert_eq!(printed.lines().count(), 150);
    let mut checking = Command::new("python3")
        .args(["-c", CHECK])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checking
        .stdin
        .take()
        .unwrap()
        .write_all(printed.as_bytes())
        .unwrap();
    let checked = checking.wait_with_output().unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

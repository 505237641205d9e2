//! `pr.csv`: tables as CSV (RFC 4180), and back.
//!
//! A list of recipients that is misread sends mail to the wrong people: whatever is ambiguous
//! (a quote that is never closed, a row of another length, a column without a name, text that
//! is not UTF-8) is refused with its line.
//!
//! What is read is made into Lua values at one go, which is bounded: the most cells there may be
//! take some tenths of a second, of a thread that runs this script alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use csv::{ReaderBuilder, StringRecord, Terminator, WriterBuilder};
use mlua::{Lua, MultiValue, Table, Value};
use tokio::sync::Semaphore;

use crate::Failure;
use crate::backend::Backend;
use crate::call::{Args, Fields, Registrar, Reply, is_stopped, kind};
use crate::fault::Fault;
use crate::fs::{apart, path, read_allowed};
use crate::json;
use crate::meter::Meter;
use crate::secret::SecretRef;
use postrider_lua_api::{self as api, CSV_ENCODE_FIELDS, CSV_READ_FIELDS};

/// The longest text read or written.
const OCTETS: usize = 16 << 20;
/// The most cells.
const CELLS: usize = 500_000;
/// How many cells are made between two looks at the clock: a fraction of a millisecond.
const CELLS_AT_ONCE: usize = 1000;
/// How many files of one script are read at once.
const AT_ONCE: usize = 4;

/// Registers `pr.csv`.
pub(crate) fn register(registrar: &Registrar<'_>, backend: &Arc<dyn Backend>) -> mlua::Result<()> {
    let meter = Arc::clone(registrar.meter);
    registrar.add("csv.decode", move |lua, mut args| {
        let text = args.octets("text")?;
        let layout = Layout::read(&mut args)?;
        args.end()?;
        let sheet = Sheet::parse(&text.as_bytes(), &layout).map_err(Fault::failed)?;
        Ok(sheet.values(lua, &meter)?)
    })?;
    registrar.add("csv.encode", encode)?;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let (backend, meter) = (Arc::clone(backend), Arc::clone(registrar.meter));
    registrar.add_waiting("csv.read", move |_, mut args| {
        let path = path(&mut args)?;
        let layout = Layout::read(&mut args)?;
        args.end()?;
        let (backend, meter) = (Arc::clone(&backend), Arc::clone(&meter));
        Ok(apart(&turns, move || {
            let octets = read_allowed(&backend, &path)?;
            let sheet = Sheet::parse(&octets, &layout).map_err(|failure| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let place = failure.at.clone().unwrap_or_default();
                failure.at(format!("{name}, {place}"))
            })?;
            Ok(Reply::made(move |lua| sheet.values(lua, &meter)))
        }))
    })
}

/// How a text is to be read.
struct Layout {
    header: bool,
    delimiter: u8,
}

impl Layout {
    fn read(args: &mut Args) -> Result<Self, Fault> {
        let Some(options) = args.options("options")? else {
            return Ok(Self {
                header: true,
                delimiter: b',',
            });
        };
        let fields = Fields::new(&options, "", &api::names(CSV_READ_FIELDS))?;
        Ok(Self {
            header: fields.flag_or("header", true)?,
            delimiter: delimiter(&fields)?,
        })
    }
}

fn delimiter(fields: &Fields<'_>) -> Result<u8, Fault> {
    let Some(text) = fields.text("delimiter")? else {
        return Ok(b',');
    };
    match text.as_bytes() {
        [b'"' | b'\r' | b'\n' | b'\0'] => {}
        [octet] if octet.is_ascii() => return Ok(*octet),
        _ => {}
    }
    Err(Fault::misuse(
        "field 'delimiter' must be one character, such as \",\", \";\" or \"\\t\"",
    ))
}

/// A text that was read.
#[derive(Debug, Default)]
struct Sheet {
    columns: Option<Vec<String>>,
    /// How many cells each row has, once it is known.
    width: Option<usize>,
    rows: usize,
    /// All cells, one after the other, and where each ends.
    text: String,
    ends: Vec<usize>,
}

fn invalid(line: u64, message: impl Into<String>) -> Failure {
    Failure::new("csv.invalid", message).at(format!("line {line}"))
}

impl Sheet {
    fn parse(octets: &[u8], layout: &Layout) -> Result<Self, Failure> {
        if octets.len() > OCTETS {
            let message = format!("the text is longer than {OCTETS} octets");
            return Err(Failure::new("csv.too_large", message));
        }
        let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
        let text = std::str::from_utf8(octets).map_err(|error| {
            invalid(
                line_at(octets, error.valid_up_to()),
                "the text is not UTF-8",
            )
            .with_remedy("save it as UTF-8; spreadsheets call that \"CSV UTF-8\"")
        })?;
        quotes(octets, layout.delimiter)?;

        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(layout.delimiter)
            .from_reader(text.as_bytes());
        let mut sheet = Self::default();
        let mut record = StringRecord::new();
        let mut cells = 0;
        loop {
            let is_there = reader.read_record(&mut record).map_err(|error| {
                let line = error.position().map_or(1, csv::Position::line);
                invalid(line, "the record cannot be read")
            })?;
            if !is_there {
                return Ok(sheet);
            }
            cells += record.len();
            if cells > CELLS {
                let message = format!("there are more than {CELLS} cells");
                return Err(Failure::new("csv.too_large", message));
            }
            sheet.add(&record, layout)?;
        }
    }

    fn add(&mut self, record: &StringRecord, layout: &Layout) -> Result<(), Failure> {
        let line = record.position().map_or(1, csv::Position::line);
        let width = *self.width.get_or_insert(record.len());
        if layout.header && self.columns.is_none() {
            self.columns = Some(columns(record, line)?);
            return Ok(());
        }
        if record.len() != width {
            let number = self.rows + 1;
            let (has, of) = (
                counted(record.len()),
                if layout.header { "header" } else { "first row" },
            );
            return Err(invalid(
                line,
                format!("row {number} has {has}, and the {of} {width}"),
            ));
        }
        let cells = self.columns.iter().flatten().zip(record);
        let mut numbered = cells.zip(1..);
        if let Some((_, column)) =
            numbered.find(|((name, cell), _)| name.is_empty() && !cell.is_empty())
        {
            return Err(invalid(
                line,
                format!("column {column} holds something and has no name"),
            )
            .with_remedy("name it in the first line, or read with header = false"));
        }
        for cell in record {
            self.text.push_str(cell);
            self.ends.push(self.text.len());
        }
        self.rows += 1;
        Ok(())
    }

    /// The cells, row by row.
    fn cells(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let spans = starts.zip(&self.ends);
        spans.map(|(&start, &end)| self.text.get(start..end).unwrap_or_default())
    }

    /// The rows, and the names of the columns.
    fn values(&self, lua: &Lua, meter: &Meter) -> mlua::Result<MultiValue> {
        let rows = lua.create_table_with_capacity(self.rows, 0)?;
        // Lua keeps a short text once: to ask for it by name each time would cost more.
        let names: Option<Vec<mlua::LuaString>> = match &self.columns {
            None => None,
            Some(columns) => Some(
                columns
                    .iter()
                    .map(|name| lua.create_string(name))
                    .collect::<mlua::Result<_>>()?,
            ),
        };
        let (mut cells, width) = (self.cells(), self.width.unwrap_or_default());
        let mut made = 0;
        for _ in 0..self.rows {
            let record = cells.by_ref().take(width);
            let row = match &names {
                None => lua.create_sequence_from(record)?,
                Some(names) => {
                    let row = lua.create_table_with_capacity(0, names.len())?;
                    for (name, cell) in names.iter().zip(record) {
                        if !name.as_bytes().is_empty() {
                            row.raw_set(name, cell)?;
                        }
                    }
                    row
                }
            };
            rows.raw_push(row)?;
            made += width;
            if made >= CELLS_AT_ONCE {
                made = 0;
                if is_stopped(lua, meter) {
                    return Err(mlua::Error::runtime("stopped"));
                }
            }
        }
        let mut values = MultiValue::from_iter([Value::Table(rows)]);
        if let Some(columns) = &self.columns {
            let used = columns.iter().filter(|name| !name.is_empty());
            let used = lua.create_sequence_from(used.map(String::as_str))?;
            values.push_back(Value::Table(used));
        }
        Ok(values)
    }
}

/// The names in the first line. Spreadsheets add empty columns at the end: they have no name.
fn columns(record: &StringRecord, line: u64) -> Result<Vec<String>, Failure> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut columns = Vec::with_capacity(record.len());
    for (name, number) in record.iter().map(str::trim).zip(1..) {
        if !name.is_empty()
            && let Some(before) = seen.insert(name, number)
        {
            let name: String = name.chars().take(60).collect();
            return Err(invalid(
                line,
                format!("columns {before} and {number} are both called '{name}'"),
            ));
        }
        columns.push(name.to_owned());
    }
    Ok(columns)
}

fn counted(fields: usize) -> String {
    match fields {
        1 => "1 field".to_owned(),
        more => format!("{more} fields"),
    }
}

fn line_at(octets: &[u8], at: usize) -> u64 {
    let before = octets.get(..at).unwrap_or(octets);
    let lines = before.split(|&octet| octet == b'\n').count();
    u64::try_from(lines).unwrap_or(u64::MAX)
}

/// Whether each quoted field ends where it should. The parser takes what is left of the text
/// for the field whose quote is missing.
fn quotes(octets: &[u8], delimiter: u8) -> Result<(), Failure> {
    #[derive(Clone, Copy)]
    enum At {
        Start,
        Bare,
        Quoted,
        /// After a quote within quotes: the end of the field, or half of a quote.
        Closed,
    }
    let (mut at, mut line, mut opened) = (At::Start, 1, 1);
    for &octet in octets {
        at = match (at, octet) {
            (At::Start, b'"') => {
                opened = line;
                At::Quoted
            }
            (At::Quoted, b'"') => At::Closed,
            (At::Closed, b'"') | (At::Quoted, _) => At::Quoted,
            (_, b'\r' | b'\n') => At::Start,
            (_, octet) if octet == delimiter => At::Start,
            (At::Closed, _) => {
                return Err(invalid(line, "something stands after a closing quote")
                    .with_remedy("write a quote within quotes twice"));
            }
            (At::Start | At::Bare, _) => At::Bare,
        };
        line += u64::from(octet == b'\n');
    }
    match at {
        At::Quoted => Err(invalid(
            opened,
            "the quote that begins here is never closed",
        )),
        _ => Ok(()),
    }
}

/// `csv.encode(rows, options)`.
fn encode(lua: &Lua, mut args: Args) -> Result<mlua::LuaString, Fault> {
    let rows = args.table("rows")?;
    let options = match args.options("options")? {
        Some(options) => options,
        None => lua.create_table()?,
    };
    args.end()?;
    let fields = Fields::new(&options, "", &api::names(CSV_ENCODE_FIELDS))?;
    let safe = fields.flag("safe")?;
    let mut writer = WriterBuilder::new()
        .flexible(true)
        .delimiter(delimiter(&fields)?)
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    let rows = list(&rows)?;
    let named = rows.first().is_some_and(|row| row.raw_len() == 0);
    let columns = match fields.texts("columns")? {
        columns if columns.is_empty() && named => all_columns(&rows)?,
        columns => columns,
    };
    let width = if named || !columns.is_empty() {
        columns.len()
    } else {
        rows.first().map_or(0, Table::raw_len)
    };
    if width.saturating_mul(rows.len()) > CELLS {
        return Err(Fault::Misuse(format!("there are more than {CELLS} cells")));
    }
    let mut sheet = Writing {
        safe,
        octets_left: OCTETS,
        record: Vec::with_capacity(width),
    };
    if fields.flag_or("header", true)? && !columns.is_empty() {
        for name in &columns {
            sheet.text(name.as_bytes())?;
        }
        sheet.end(&mut writer)?;
    }
    for (row, number) in rows.iter().zip(1..) {
        if !named && row.raw_len() != width {
            return Err(Fault::Misuse(format!(
                "row {number} has {}, and not {width}",
                counted(row.raw_len())
            )));
        }
        let wrong =
            |cell: &str, what: &str| Fault::Misuse(format!("rows[{number}]{cell} is {what}"));
        if named {
            for name in &columns {
                let value = row.raw_get(name.as_str())?;
                sheet.cell(lua, &value, &|what| wrong(&format!(".{name:.60}"), what))?;
            }
        } else {
            for column in 1..=width {
                let value = row.raw_get(column)?;
                sheet.cell(lua, &value, &|what| wrong(&format!("[{column}]"), what))?;
            }
        }
        sheet.end(&mut writer)?;
    }
    let octets = writer
        .into_inner()
        .map_err(|error| Fault::misuse(error.to_string()))?;
    Ok(lua.create_string(octets)?)
}

fn list(rows: &Table) -> Result<Vec<Table>, Fault> {
    if rows.raw_len() > CELLS {
        return Err(Fault::Misuse(format!("there are more than {CELLS} rows")));
    }
    let fields = Fields::unchecked(rows, "");
    let rows = fields.list("rows", rows, |at, value| match value {
        Value::Table(row) => Ok(row),
        other => Err(fields.wrong(at, "a table", &other)),
    })?;
    Ok(rows)
}

/// The names in all rows, sorted.
fn all_columns(rows: &[Table]) -> Result<Vec<String>, Fault> {
    let mut names = BTreeSet::new();
    for (row, number) in rows.iter().zip(1..) {
        for pair in row.pairs::<Value, Value>() {
            let (Value::String(name), _) = pair? else {
                return Err(Fault::Misuse(format!(
                    "rows[{number}] has something else than names, as the first row has"
                )));
            };
            let name = name.to_str().map_err(|_| {
                Fault::Misuse(format!("rows[{number}] has a name that is not UTF-8 text"))
            })?;
            names.insert(name.to_owned());
        }
    }
    Ok(names.into_iter().collect())
}

/// A record at a time.
struct Writing {
    safe: bool,
    octets_left: usize,
    record: Vec<Vec<u8>>,
}

impl Writing {
    fn cell(
        &mut self,
        lua: &Lua,
        value: &Value,
        wrong: &dyn Fn(&str) -> Fault,
    ) -> Result<(), Fault> {
        match value {
            Value::Nil => self.push(Vec::new()),
            Value::String(text) => self.text(&text.as_bytes()),
            Value::Boolean(flag) => self.push(flag.to_string().into_bytes()),
            Value::Integer(number) => self.push(number.to_string().into_bytes()),
            Value::Number(number) => self.push(number.to_string().into_bytes()),
            Value::UserData(data) if data.is::<SecretRef>() => Err(wrong("a secret")),
            null if *null == json::null(lua)? => self.push(Vec::new()),
            other => Err(wrong(&format!("a {}", kind(other)))),
        }
    }

    /// Text; if it is to be safe, none that a spreadsheet would take for a formula.
    fn text(&mut self, text: &[u8]) -> Result<(), Fault> {
        let formula = matches!(
            text.first(),
            Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r')
        );
        if self.safe && formula {
            self.push([b"'", text].concat())
        } else {
            self.push(text.to_vec())
        }
    }

    fn push(&mut self, cell: Vec<u8>) -> Result<(), Fault> {
        self.octets_left = self.octets_left.checked_sub(cell.len()).ok_or_else(|| {
            Fault::Misuse(format!("the text would be longer than {OCTETS} octets"))
        })?;
        self.record.push(cell);
        Ok(())
    }

    fn end(&mut self, writer: &mut csv::Writer<Vec<u8>>) -> Result<(), Fault> {
        let written = writer.write_record(&self.record);
        self.record.clear();
        written.map_err(|error| Fault::misuse(error.to_string()))
    }
}

//! Templates: what they come to, what they refuse, and what they may cost.

use proptest::prelude::*;

use crate::world::World;

#[tokio::test]
async fn a_message_has_a_subject_and_two_bodies_with_the_same_variables() {
    let world = World::with(&[
        (
            "scripts/templates/report.subject.txt",
            "{{ disks|length }} disks of {{ who }}\n",
        ),
        (
            "scripts/templates/report.txt",
            "{% for disk in disks %}\n{{ \"%-6s\"|format(disk.name) }} {{ disk.octets|octets }}\n{% endfor %}\nBye, {{ who }}\n",
        ),
        (
            "scripts/templates/report.html",
            "{% extends \"frame.html\" %}{% block body %}<b>{{ who }}</b>{% include \"parts/foot.html\" %}{% endblock %}",
        ),
        (
            "lib/templates/frame.html",
            "<html>{% block body %}{% endblock %}</html>",
        ),
        ("lib/templates/parts/foot.html", "<i>{{ who }}</i>"),
    ]);
    let lines = world
        .lines(
            r#"local report = assert(pr.template.render("report", { who = "<Ada> & Co", disks = { { name = "/", octets = 1610612736 }, { name = "/srv", octets = 12 } } }))
print(report.subject)
print(report.html)
print(report.text)
print(pr.template.text("{{ a }}<{{ at|time('%F', zone='Europe/Paris') }}", { a = "<", at = 0 }))
print(pr.template.html("{{ a }}{{ a|safe }}", { a = "<'>" }))
print(pr.template.text "plain")"#,
        )
        .await;
    assert_eq!(
        lines,
        [
            "2 disks of <Ada> & Co",
            "<html><b>&lt;Ada&gt; &amp; Co</b><i>&lt;Ada&gt; &amp; Co</i></html>",
            "/      1.5 GiB",
            "/srv   12 octets",
            "Bye, <Ada> & Co",
            "<<1970-01-01",
            "&lt;&#x27;&gt;<'>",
            "plain",
        ]
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_template_is_told_with_its_line() {
    let world = World::with(&[
        ("scripts/templates/undefined.txt", "a\nb {{ nmae }}\n"),
        ("scripts/templates/syntax.txt", "a\n{% fi %}\n"),
        ("scripts/templates/filter.txt", "{{ name|shout }}"),
        (
            "scripts/templates/outer.txt",
            "\n\n{% include 'undefined.txt' %}",
        ),
        ("scripts/templates/lost.txt", "{% include 'nowhere.txt' %}"),
        ("scripts/templates/subject.txt", "x"),
        ("scripts/templates/subject.subject.txt", "Hello {{ name }}"),
    ]);
    let lines = world
        .lines(
            r#"for _, name in ipairs { "undefined", "syntax", "filter", "outer", "lost", "subject", "absent" } do
  local rendered, err = pr.template.render(name, { name = "Ada\r\nBcc: eve@example.org" })
  print(rendered, err.code, err.place, err.message)
end
local _, err = pr.template.text("\n{{ nmae }}", { name = "x" })
print(err.code, err.place, err.message)"#,
        )
        .await;
    let wanted = [
        ("template.failed\ttemplates/undefined.txt:2\t", "nmae"),
        ("template.invalid\ttemplates/syntax.txt:2\t", "fi"),
        ("template.invalid\ttemplates/filter.txt:1\t", "shout"),
        ("template.failed\ttemplates/undefined.txt:2\t", "nmae"),
        ("template.missing\ttemplates/lost.txt:1\t", "nowhere.txt"),
        (
            "template.failed\ttemplates/subject.subject.txt\t",
            "more than one line",
        ),
        ("template.missing\tnil\t", "lib/templates/absent.html"),
        (
            "template.failed\tline 2 of the template\t",
            "did you mean 'name'?",
        ),
    ];
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, (begins, holds)) in lines.iter().zip(wanted) {
        assert!(
            line.trim_start_matches("nil\t").starts_with(begins) && line.contains(holds),
            "{line}"
        );
        assert!(!line.contains("eve@example.org"), "{line}");
    }
}

#[tokio::test]
async fn no_name_leads_out_of_the_templates() {
    let world = World::with(&[
        ("secret.txt", "hunter2"),
        ("scripts/secret.txt", "hunter2"),
        ("scripts/templates/a.txt", "{% include which %}"),
    ]);
    std::os::unix::fs::symlink(
        world.path("secret.txt"),
        world.path("scripts/templates/link.txt"),
    )
    .unwrap();
    let lines = world
        .lines(
            r#"for _, which in ipairs { "../secret.txt", "link.txt", "/etc/hostname", "..\\secret.txt", "a/../../secret.txt" } do
  local rendered, err = pr.template.render("a", { which = which })
  print(rendered, err.code)
end
for _, name in ipairs { "../secret", "/etc/hostname", "", ".a", "a\0" } do
  print(pcall(pr.template.render, name))
end
print(select(2, pr.template.render "link").code)"#,
        )
        .await;
    for line in &lines[..5] {
        assert!(
            matches!(
                line.as_str(),
                "nil\ttemplate.missing" | "nil\ttemplate.failed"
            ),
            "{lines:?}"
        );
    }
    for line in &lines[5..10] {
        assert!(
            line.starts_with("false\t") && line.contains("is no name of a template"),
            "{line}"
        );
    }
    assert_eq!(lines[10], "template.failed");
}

#[tokio::test]
async fn a_template_costs_only_so_much() {
    let world = World::with(&[("scripts/templates/round.txt", "{% include 'round.txt' %}")]);
    let before = std::time::Instant::now();
    let lines = world
        .lines(
            r#"local function code(template, vars) print(select(2, pr.template.text(template, vars)).code) end
code "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}"
code("{% set x = x ~ x %}" .. string.rep("{% set x = x ~ x %}", 60), { x = "xxxxxxxx" })
code("{{ 'x' * 10000000000 }}")
code("{{ '%1000000000d'|format(1) }}")
code("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}")
print(select(2, pr.template.render "round").code)"#,
        )
        .await;
    assert!(
        lines.iter().all(|code| code.starts_with("template.")),
        "{lines:?}"
    );
    assert_eq!(lines[..3], ["template.limit"; 3], "{lines:?}");
    assert!(before.elapsed() < std::time::Duration::from_mins(1));
}

#[tokio::test]
async fn a_secret_is_no_variable() {
    let lines = World::with(&[])
        .lines(
            r#"print(select(2, pcall(pr.template.text, "{{ key }}", { key = pr.secret.env "KEY" })):match ": (.*)")
print(select(2, pcall(pr.template.text, "x", { "a" })):match ": (.*)")
print(select(2, pcall(pr.csv.encode, { { key = pr.secret.env "KEY" } })):match ": (.*)")
print(select(2, pcall(pr.csv.encode, { { pr.secret.env "KEY" } })):match ": (.*)")
print(select(2, pcall(pr.fs.write, "x", pr.secret.env "KEY")):match ": (.*)")"#,
        )
        .await;
    assert_eq!(
        lines,
        [
            "template.text: value.key is a secret",
            "template.text: the variables have names: write { name = value }",
            "csv.encode: rows[1].key is a secret",
            "csv.encode: rows[1][1] is a secret",
            "fs.write: argument 2 (octets) must be a string, got userdata",
        ]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever a variable holds, no markup of it comes through.
    #[test]
    fn html_never_takes_markup_from_a_variable(text in "[<>&\"'/a-z \u{80}-\u{ff}\r\n]{0,40}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = World::with(&[]);
        // Not `{:?}`: Rust's escapes are not Lua's.
        let octets: Vec<String> = text.bytes().map(|octet| format!("\\{octet:03}")).collect();
        let octets = octets.concat();
        let script = format!("print((assert(pr.template.html('[{{{{ x }}}}]', {{ x = '{octets}' }}))))");
        let printed = runtime.block_on(world.run(&script)).unwrap();
        let inner = printed.trim_start_matches('[');
        prop_assert!(!inner.contains(['<', '>', '"', '\'']), "{printed}");
    }
}

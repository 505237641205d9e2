//! `require` looks in two directories and in nothing else.

use crate::world::World;

#[tokio::test]
async fn the_scripts_own_directory_comes_before_the_library() {
    let world = World::with(&[
        ("scripts/both.lua", "return 'own'"),
        ("lib/both.lua", "return 'lib'"),
        ("lib/deep/init.lua", "return (...)"),
    ]);
    let lines = world
        .lines("print(require 'both', (select(2, require 'deep')), require 'deep')")
        .await;
    assert_eq!(lines[0].split('\t').next(), Some("own"));
    assert!(
        lines[0].ends_with("deep\tlib/deep/init.lua") || lines[0].contains("lib/deep/init.lua")
    );
}

#[tokio::test(start_paused = true)]
async fn a_module_may_wait_at_its_top_level_and_in_its_functions() {
    let world = World::with(&[(
        "lib/slow.lua",
        "local pr = require 'postrider'\npr.sleep '1s'\nreturn { nap = function() pr.sleep '1h' return 'slept' end }",
    )]);
    assert_eq!(world.lines("print(require 'slow'.nap())").await, ["slept"]);
}

#[tokio::test]
async fn what_is_missing_names_every_place_looked_at() {
    let error = World::with(&[])
        .run("require 'absent.one'")
        .await
        .unwrap_err();
    let message = error.failure.message;
    for place in [
        "scripts/absent/one.lua",
        "scripts/absent/one/init.lua",
        "lib/absent/one.lua",
        "lib/absent/one/init.lua",
    ] {
        assert!(message.contains(place), "{message}");
    }
}

#[tokio::test]
async fn no_link_and_no_name_leads_out_and_bytecode_is_refused() {
    let world = World::with(&[
        ("secret.lua", "return 'hunter2'"),
        ("lib/code.lua", "\x1bLua"),
        ("lib/x", ""),
    ]);
    std::os::unix::fs::symlink(world.path("secret.lua"), world.path("lib/link.lua")).unwrap();
    let lines = world
        .lines(
            r"for _, name in ipairs { 'link', '..secret', '../secret', 'code', '' } do
  local ok, message = pcall(require, name)
  print(ok, (tostring(message):gsub('^[^ ]* ', '')))
end",
        )
        .await;
    for line in &lines {
        assert!(
            line.starts_with("false\t") && !line.contains("hunter2"),
            "{line}"
        );
    }
    assert!(
        lines[0].contains("leads out of the directory"),
        "{}",
        lines[0]
    );
    assert!(lines[1].contains("is no module name"), "{}", lines[1]);
}

#[tokio::test]
async fn modules_that_require_each_other_are_told_so() {
    let world = World::with(&[
        ("lib/a.lua", "return require 'b'"),
        ("lib/b.lua", "return require 'a'"),
    ]);
    let error = world.run("require 'a'").await.unwrap_err();
    assert!(
        error.failure.message.contains("it requires itself"),
        "{error}"
    );
}

//! Two values beside each other, line by line.

/// Values of more lines are shown one after the other.
const LINES: usize = 400;

/// Lines with `- ` that are expected, `+ ` that were got, and two blanks where both agree.
pub(super) fn diff(expected: &str, got: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    if old.len() > LINES || new.len() > LINES {
        let all = |mark: &str, lines: &[&str]| -> Vec<String> {
            lines.iter().map(|line| format!("{mark} {line}")).collect()
        };
        return [all("-", &old), all("+", &new)].concat();
    }
    // How long the longest common part of the rests is.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut lines) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!("  {}", old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[i + 1][j] >= common[i][j + 1] {
            lines.push(format!("- {}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_agrees_stands_once() {
        let lines = diff(
            "{\n  a = 1,\n  b = 2,\n}",
            "{\n  a = 1,\n  b = 3,\n  c = 4,\n}",
        );
        assert_eq!(
            lines,
            [
                "  {",
                "    a = 1,",
                "-   b = 2,",
                "+   b = 3,",
                "+   c = 4,",
                "  }"
            ]
        );
    }
}

//! Tables and properties of the normal and the loose form.

use proptest::prelude::*;

use super::*;

fn normal(raw: &str, merge: bool) -> Result<String, PathError> {
    let mut scratch = String::new();
    normalize(raw, merge, &mut scratch).map(str::to_owned)
}

fn loosened(path: &str) -> Option<String> {
    let mut scratch = String::from("left over");
    loose(path, &mut scratch).map(str::to_owned)
}

#[test]
fn normal_forms() {
    let table = [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/.", "/"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/%2e/a", "/a"),
        ("/.a/..b/...", "/.a/..b/..."),
        ("//", "//"),
        ("//a", "//a"),
        ("/a//b", "/a//b"),
        ("/a//../b", "/a/b"),
        ("//..", "/"),
        ("/a/..//b", "//b"),
        ("/%41%7e%2d%5f", "/A~-_"),
        ("/%2f%5c", "/%2F%5C"),
        ("/a%2F..%2Fb", "/a%2F..%2Fb"),
        ("/%252e%252e/a", "/%252e%252e/a"),
        ("/%c3%a4", "/%C3%A4"),
        ("/%0d%0a", "/%0D%0A"),
        ("/a;b=c/d:e@f!$&'()*+,=", "/a;b=c/d:e@f!$&'()*+,="),
        ("/..;/a", "/..;/a"),
        ("/[x]{y}|z", "/[x]{y}|z"),
    ];
    for (raw, expected) in table {
        assert_eq!(normal(raw, false).as_deref(), Ok(expected), "{raw}");
    }
}

#[test]
fn merged_slashes() {
    let table = [
        ("//", "/"),
        ("/a//b", "/a/b"),
        ("/a//", "/a/"),
        ("///a///b", "/a/b"),
        ("/a//../b", "/b"),
        ("/a/..//b", "/b"),
        ("/a//./", "/a/"),
    ];
    for (raw, expected) in table {
        assert_eq!(normal(raw, true).as_deref(), Ok(expected), "{raw}");
    }
    assert_eq!(normal("//..", true), Err(PathError::AboveRoot));
}

#[test]
fn refused_paths() {
    let table = [
        ("", PathError::NotAbsolute),
        ("a", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("%2Fa", PathError::NotAbsolute),
        ("/..", PathError::AboveRoot),
        ("/a/../..", PathError::AboveRoot),
        ("/a/../../b", PathError::AboveRoot),
        ("/%2e%2e/", PathError::AboveRoot),
        ("/%00", PathError::Nul),
        ("/./%00", PathError::Nul),
        ("/a\\b", PathError::Backslash),
        ("/./a\\b", PathError::Backslash),
        ("/%", PathError::BadEscape),
        ("/%4", PathError::BadEscape),
        ("/%4g", PathError::BadEscape),
        ("/./%4/1", PathError::BadEscape),
        ("/%+1", PathError::BadEscape),
        ("/a b", PathError::BadByte),
        ("/a\tb", PathError::BadByte),
        ("/a\u{7f}", PathError::BadByte),
        ("/\u{e4}", PathError::BadByte),
        ("/./\u{e4}", PathError::BadByte),
        ("/a?b", PathError::BadByte),
        ("/a#b", PathError::BadByte),
    ];
    for (raw, expected) in table {
        assert_eq!(normal(raw, false), Err(expected), "{raw}");
    }
}

#[test]
fn a_normal_path_is_borrowed() {
    let raw = "/a/b.c/%2F/d;e//f";
    let mut scratch = String::from("untouched");
    let out = normalize(raw, false, &mut scratch).unwrap();
    assert!(std::ptr::eq(raw, out));
    assert_eq!(scratch, "untouched");
}

#[test]
fn loose_forms() {
    let table = [
        ("/", None),
        ("/a/b", None),
        ("/a%20b", None),
        ("/a%25b", None),
        ("//", Some("/")),
        ("/a//b", Some("/a/b")),
        ("/a//", Some("/a/")),
        ("/a%2Fb", Some("/a/b")),
        ("/a%5Cb", Some("/a/b")),
        ("/a%2F..%2Fb", Some("/b")),
        ("/a/..;/b", Some("/b")),
        ("/a/..;x=1%2Fb", Some("/b")),
        ("/a;x=1/b;y", Some("/a/b")),
        ("/a;x", Some("/a")),
        ("/a/;x", Some("/a/")),
        ("/a/;x/b", Some("/a/b")),
        ("/..;/a", Some("/a")),
        ("/%2F..", Some("/")),
        ("/a%2F", Some("/a/")),
        ("/a/.;/b", Some("/a/b")),
    ];
    for (path, expected) in table {
        assert_eq!(loosened(path).as_deref(), expected, "{path}");
    }
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn normal_form_is_stable(
        raw in "/(\\.|\\.\\.|%2[eEfF]|%5[cC]|%4[1gG]|;|/|a|b|%C3|%25|\\*){0,12}",
        merge: bool,
    ) {
        if let Ok(once) = normal(&raw, merge) {
            prop_assert!(once.starts_with('/'));
            prop_assert!(!has_dot_segment(&once), "{once}");
            prop_assert!(once.len() <= raw.len());
            prop_assert!(!merge || !once.contains("//"));
            let mut scratch = String::new();
            let twice = normalize(&once, merge, &mut scratch);
            prop_assert_eq!(twice, Ok(&*once));
            if let Some(loose) = loosened(&once) {
                prop_assert!(loose.starts_with('/'));
                prop_assert!(!has_dot_segment(&loose) && !loose.contains("//"), "{loose}");
                prop_assert_eq!(loosened(&loose), None);
            }
        }
    }

    #[test]
    fn any_text_is_refused_or_normal(raw in "/?\\PC{0,24}", merge: bool) {
        if let Ok(once) = normal(&raw, merge) {
            prop_assert!(once.starts_with('/') && once.is_ascii() && !has_dot_segment(&once));
            prop_assert_eq!(normal(&once, merge), Ok(once));
        }
    }
}

//! Rules of jq that its own test suite has no case of, or that keep a program from harm.

#![expect(clippy::panic, reason = "what goes wrong in a test's helper fails the test, and is told there")]

mod worker;

use worker::{SpokenAnswer, Worker};

/// Programs with what they give for an input; an error is given as its message.
fn check(cases: &[(&str, &str, &str)]) {
    let mut worker = Worker::start();
    for (program, input, expected) in cases {
        let answer = match worker.evaluate(program, input) {
            SpokenAnswer::Output(answer) => answer,
            SpokenAnswer::Refused(message) => message,
            SpokenAnswer::Ended => panic!("{program}: the worker ended"),
        };
        assert_eq!(answer, *expected, "{program}");
    }
}

#[test]
fn operators_bind_as_in_jq() {
    check(&[
        ("[1 + 2 as $x | $x * 2]", "null", "[6]"),
        ("[1, 2 as $x | $x * 2]", "null", "[1,4]"),
        ("[(1, 2) + (10, 20)]", "null", "[11,12,21,22]"),
        ("[\"\\(1, 2)-\\(3, 4)\"]", "null", r#"["1-3","2-3","1-4","2-4"]"#),
        ("[.[0, 1][0, 1]]", "[[1,2],[3,4]]", "[1,3,2,4]"),
        ("1 == 1 == 1", "null", "line 1, column 8: expected nothing at `==`"),
        ("-1 - -1", "null", "0"),
        ("{a: 1 | 2, b: .5}", "null", r#"{"a":2,"b":0.5}"#),
        ("{if: 1} | .if", "null", "1"),
        ("\"\\ud83d\\ude00\\\\ud83d\"", "null", r#""😀\\ud83d""#),
        ("[.[] as [$a] ?// $a | $a]", "[[1],2]", "[1,2]"),
        ("[.[] as [$a] ?// {$a} | $a]", r#"[[1],{"a":2}]"#, "[1,2]"),
        ("[.[] as [$a] ?// [$b] | if $a then error(\"x\") else {$a, $b} end]", "[[3]]", r#"[{"a":null,"b":3}]"#),
        ("def f($a): a + $a; f(2)", "null", "4"),
        ("[$__loc__,\n$__loc__.line]", "null", r#"[{"file":"<top-level>","line":1},2]"#),
        ("try error(\"x\") // 1", "null", "1"),
    ]);
}

#[test]
fn changes_are_by_paths() {
    check(&[
        ("(.[] | select(. > 1)) |= empty", "[1,2,3]", "[1]"),
        (".a[2].b |= 5", "null", r#"{"a":[null,null,{"b":5}]}"#),
        ("[.[] += (1, 2)]", "[1]", "[[2],[3]]"),
        ("del(.[0, 2])", "[1,2,3]", "[2]"),
        (".[1:] = [9]", "[1,2,3]", "[1,9]"),
        ("first(.[] | select(. > 1)) = 9", "[1,2,3]", "[1,9,3]"),
        ("[foreach (1, 2) as $x (0; . + $x, . + 10; .)]", "null", "[1,10,12,20]"),
        ("reduce (1, 2) as $x (0; empty)", "null", "null"),
        (".[1e18] = 1", "[]", "Array index too large"),
        (".[-2] = 1", "[1]", "Out of bounds negative array index"),
    ]);
}

#[test]
fn messages_are_those_of_jq() {
    check(&[
        (".a", "[1]", "Cannot index array with string (\"a\")"),
        (".[]", "1", "Cannot iterate over number (1)"),
        (". + {}", "\"a\"", "string (\"a\") and object ({}) cannot be added"),
        (". / 0", "1", "number (1) and number (0) cannot be divided because the divisor is zero"),
        ("sqrt", "\"a\"", "string (\"a\") number required"),
        ("{(1): 2}", "null", "line 1, column 2: a key of an object is a string, not of type number"),
        (
            "test(\"(\")",
            "\"a\"",
            "( (at offset 0) is not a valid regex: Parsing error at position 1: Opening parenthesis without closing parenthesis",
        ),
    ]);
}

#[test]
fn regular_expressions_and_times_are_those_of_jq() {
    check(&[
        ("gsub(\"(?<x>[aeiou])\"; \"<\\(.x)>\")", "\"hello\"", "\"h<e>ll<o>\""),
        ("[match(\"é\"; \"g\") | .offset, .length]", "\"aébé\"", "[1,1,3,1]"),
        ("[scan(\"[[:alpha:]]+\")]", "\"aé1ö\"", r#"["aé","ö"]"#),
        ("test(\"a.c\"), test(\"a.c\"; \"p\") | [.]", "\"a\\nc\"", "the program gave 2 values; wrap it in [ ]"),
        ("[test(\"a.c\", \"A\\nC\"; \"i\")]", "\"a\\nc\"", "[false,true]"),
        ("test(\"(?=(a+)+b)x\")", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac\"", "false"),
        ("strptime(\"%d %b %Y %H:%M %Z\") | mktime | todate", "\"05 Mar 2015 23:51 CET\"", "\"2015-03-05T23:51:00Z\""),
        ("[strftime(\"%c\", \"%A %Z\")]", "0", r#"["Thu Jan  1 00:00:00 1970","Thursday GMT"]"#),
    ]);
}

#[test]
fn nothing_of_the_process_is_seen() {
    check(&[
        ("[env, $ENV, input_filename, get_search_list]", "null", "[{},{},null,[]]"),
        ("import \"a\" as a; a::f", "null", "line 1, column 1: modules cannot be imported"),
        ("include \"a\"; f", "null", "line 1, column 1: modules cannot be imported"),
        ("a::f", "null", "line 1, column 1: no module a"),
        ("[inputs]", "null", "[]"),
        ("input", "null", "break"),
    ]);
}

#[test]
fn what_would_take_too_much_is_refused() {
    check(&[
        ("\"x\" * 1e18", "null", "Repeat string result too long"),
        ("[range(10001)] as $p | getpath($p)", "null", "Path too deep"),
        ("[range(10001)] as $p | setpath($p; 1)", "null", "Path too deep"),
        ("setpath([536870912]; 1)", "null", "Array index too large"),
    ]);
    let mut worker = Worker::start();
    let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(worker.compile(&nested), SpokenAnswer::Refused(_) | SpokenAnswer::Ended));
    assert!(matches!(worker.evaluate("[range(1e9)]", "null"), SpokenAnswer::Ended));
    assert!(matches!(worker.evaluate(".", "1"), SpokenAnswer::Output(_)));
}

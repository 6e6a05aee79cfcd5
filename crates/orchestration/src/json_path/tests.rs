use proptest::prelude::*;
use serde_json::{Value, json};

use super::JsonPath;

fn query(path: &str, document: &Value) -> Value {
    let found = JsonPath::parse(path).unwrap_or_else(|error| panic!("{error}"));
    found.query(document).unwrap().into_iter().cloned().collect()
}

#[test]
fn filters_compare_integers_with_all_their_digits() {
    let ids = [1_844_674_407_370_955_161i64, 1_844_674_407_370_955_162, 1_844_674_407_370_955_264];
    let document: Value = ids.iter().map(|id| json!({"id": id})).collect();
    assert_eq!(query("$[?@.id == 1844674407370955162].id", &document), json!([ids[1]]));
    assert_eq!(query("$[?@.id != 1844674407370955162].id", &document), json!([ids[0], ids[2]]));
    assert_eq!(query("$[?@.id < 1844674407370955162].id", &document), json!([ids[0]]));
    assert_eq!(query("$[?@.id <= 1844674407370955162].id", &document), json!([ids[0], ids[1]]));
    assert_eq!(query("$[?@.id > 1844674407370955162].id", &document), json!([ids[2]]));
    assert_eq!(query("$[?@.id >= 1844674407370955162].id", &document), json!([ids[1], ids[2]]));
    let nested = json!([{"a": [{"n": u64::MAX}], "b": [{"n": u64::MAX - 1}]}, {"a": [1, 2.0], "b": [1.0, 2]}]);
    assert_eq!(query("$[?@.a == @.b]", &nested), json!([nested[1]]));
    assert_eq!(
        query("$[?@ == 9007199254740993]", &json!([9_007_199_254_740_992.0, 9_007_199_254_740_993u64])),
        json!([9_007_199_254_740_993u64])
    );
}

#[test]
fn examples_of_the_standard() {
    let document = json!({
        "o": {"j": 1, "k": 2, "l": 3},
        "a": [3, 5, 1, 2, 4, 6, {"b": "j"}, {"b": "k"}, {"b": {}}, {"b": "kilo"}],
        "n": {"null": null, "it's": [[0, 1], {"x": [[2]]}]},
    });
    let table = [
        ("$.o['j']", json!([1])),
        ("$ .o [ \"j\" , 'k' ]", json!([1, 2])),
        ("$.a[1:3]", json!([5, 1])),
        ("$.a[-1:-3:-1].b", json!(["kilo", {}])),
        ("$.a[5::-2]", json!([6, 2, 5])),
        ("$.a[::0]", json!([])),
        ("$.a[-3].b", json!(["k"])),
        ("$.a[?@.b == 'kilo']", json!([{"b": "kilo"}])),
        ("$.a[?@>3.5]", json!([5, 4, 6])),
        ("$.a[?@.b]", json!([{"b": "j"}, {"b": "k"}, {"b": {}}, {"b": "kilo"}])),
        ("$.a[?!@.b && (@ < 2 || @ >= 5)]", json!([5, 1, 6])),
        ("$.o[?@>1 && @<4]", json!([2, 3])),
        ("$.a[?@.b == @.x]", json!([3, 5, 1, 2, 4, 6])),
        ("$.a[?length(@.b) == 4].b", json!(["kilo"])),
        ("$.n[?count(@.*) > 1]", json!([[[0, 1], {"x": [[2]]}]])),
        ("$.n[?@ == null]", json!([null])),
        ("$.a[?value(@..b) == 'j']", json!([{"b": "j"}])),
        ("$.n..[0]", json!([[0, 1], 0, [2], 2])),
        ("$['n']['it\\'s'][1].x[*][*]", json!([2])),
        ("$[\"\\u006e\"]['null']", json!([null])),
        ("$.o[*, 'j']", json!([1, 2, 3, 1])),
        ("$.a[?@[-1]]", json!([])),
    ];
    for (path, expected) in table {
        assert_eq!(query(path, &document), expected, "{path}");
    }
}

#[test]
fn what_is_no_path_or_costs_too_much_is_refused() {
    for (path, why) in [
        ("$.", "a name or *"),
        ("$ ", "segment"),
        ("$[01]", "index"),
        ("$[-0]", "index"),
        ("$[9007199254740992]", "index"),
        ("$['a'", "]"),
        ("$['\\x']", "not escaped"),
        ("$['\\ud800']", "surrogate"),
        ("$[?@.a == [1]]", "constant"),
        ("$[?@.* == 1]", "one value at most"),
        ("$[?1]", "compared"),
        ("$[?length(@.a)]", "compared"),
        ("$[?count(1) == 1]", "is a path"),
        ("$[?nothing(@) == 1]", "no function"),
        ("$[?@.a == 99999999999999999999]", "64 bits"),
        ("$[?@.a == 1e400]", "range"),
        ("$[?@.a == 01]", "no number"),
        ("$[?@.a == $.b]", "second $"),
        ("$..a..b", "more than once"),
        ("$[?@[?@[?@[?@[?@[?@[?@[?@[?@]]]]]]]]]", "too deeply"),
        ("$[?match(@.a, 'x')]", "regular expression"),
        ("$[?search(@.a, 'x')]", "regular expression"),
    ] {
        let error = JsonPath::parse(path).unwrap_err();
        assert!(error.contains(why), "{path}: {error}");
    }
    assert!(JsonPath::parse(&format!("$['{}']", "x".repeat(1024))).unwrap_err().len() < 100);
    let wide = "[*,*,*,*,*,*,*,*]".repeat(8);
    let path = JsonPath::parse(&format!("${wide}")).unwrap();
    let mut nested = json!(1);
    for _ in 0..8 {
        nested = json!([nested]);
    }
    assert!(path.query(&nested).is_err());
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..4i64).prop_map(Value::from),
        Just(json!(1.5)),
        "[abé]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec(("[abc]|it's|\\$", inner), 0..5).prop_map(|all| all.into_iter().collect()),
        ]
    })
}

fn segments() -> impl Strategy<Value = String> {
    let step = prop_oneof!["\\.[abc]", "\\['(a|b|it\\\\'s)'\\]", "\\[[0-3]\\]"];
    let literal = prop_oneof!["-?[0-3]", "'[abé]{0,2}'", Just("null".to_owned()), Just("1.5".to_owned())];
    let path = prop::collection::vec(step.clone(), 0..3).prop_map(|steps| format!("@{}", steps.concat()));
    let operand = prop_oneof![
        4 => path.clone(),
        2 => literal,
        1 => path.clone().prop_map(|path| format!("length({path})")),
        1 => path.clone().prop_map(|path| format!("count({path}.*)")),
    ];
    // Not `<=` and `>=`: of two paths that find nothing the other implementation says false, and RFC 9535 true (2.3.5.2.2).
    let comparison = (operand.clone(), "==|!=|<|>", operand).prop_map(|(a, by, b)| format!("{a} {by} {b}"));
    let condition = prop_oneof![path.clone(), path.prop_map(|path| format!("!{path}")), comparison].prop_recursive(
        2,
        6,
        2,
        |inner| (inner.clone(), "&&|\\|\\|", "!?", inner).prop_map(|(a, by, not, b)| format!("{not}({a}) {by} {b}")),
    );
    let segment = prop_oneof![
        4 => step,
        1 => "\\.\\*|\\[\\*, 'a'\\]",
        1 => "\\[-?[0-4]?:-?[0-4]?:-?[1-3]\\]".prop_filter("no lonely sign", |text| !text.contains("-:") && !text.contains("-0")),
        2 => condition.prop_map(|condition| format!("[?{condition}]")),
    ];
    let last = prop_oneof![3 => Just(String::new()), 1 => Just("..a".to_owned()), 1 => Just("..*".to_owned()), 1 => Just("..[0, 'b']".to_owned())];
    (prop::collection::vec(segment, 0..4), last).prop_map(|(segments, last)| segments.concat() + &last)
}

#[test]
fn two_paths_that_find_nothing_are_equal() {
    let document = json!([[null], {"a": 1}]);
    for (by, found) in [("==", 2), ("<=", 2), (">=", 2), ("<", 0), ("!=", 0)] {
        let answer = query(&format!("$[?@.x {by} @.y]"), &document);
        assert_eq!(answer.as_array().unwrap().len(), found, "{by}");
    }
}

proptest! {
    #[test]
    fn another_implementation_finds_the_same(document in document(), rest in segments()) {
        let path = format!("${rest}");
        let theirs = serde_json_path::JsonPath::parse(&path).unwrap();
        let theirs: Value = theirs.query(&document).all().into_iter().cloned().collect();
        prop_assert_eq!(query(&path, &document), theirs, "{} in {}", path, document);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\$[\\[\\]()?@.*:,'\"\\\\a-c0-9 &|!<=>é\u{0}-]{0,30}") {
        let ours = JsonPath::parse(&text);
        if ours.is_ok() {
            prop_assert!(serde_json_path::JsonPath::parse(&text).is_ok(), "{}", text);
        }
    }
}

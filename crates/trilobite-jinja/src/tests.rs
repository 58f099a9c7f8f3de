//! Templates that mean harm are rejected.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Map, Value as Json, json};

use super::{Clock, render};

fn variables() -> Map<String, Json> {
    let variables = json!({
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
        "tools": [{"name": "f", "parameters": {"x": {"type": "number"}}}],
    });
    variables.as_object().unwrap().clone()
}

fn said(source: &str) -> String {
    match render(source, &variables(), Clock::System) {
        Ok(text) => panic!("{:?} gave {} bytes", source.get(..80), text.len()),
        Err(error) => error.to_string(),
    }
}

/// Each of these would take forever, or all memory.
#[test]
fn work_and_memory_have_a_bound() {
    let grow = |what: &str, then: &str| {
        format!(
            "{{% set ns = namespace(a='x', l=[1], m=[1], t=(1,)) %}}{{% for i in range(100) %}}\
             {what}{{% endfor %}}{then}"
        )
    };
    let forever = "{% for i in range(100000) %}";
    for source in [
        format!("{forever}{forever}{{% endfor %}}{{% endfor %}}"),
        // Strings and lists that double, by copying and by reference.
        grow("{% set ns.a = ns.a + ns.a %}", ""),
        grow("{% set ns.a = ns.a ~ ns.a %}", ""),
        grow("{% set ns.a = [ns.a, ns.a] | join %}", ""),
        grow("{% set ns.a = '%s%s' % (ns.a, ns.a) %}", ""),
        grow("{% set ns.a = '{0}{0}'.format(ns.a) %}", ""),
        grow("{% set ns.a = ns.a.replace('x', 'xx') %}", ""),
        grow("{% set ns.l = ns.l + ns.l %}", ""),
        grow("{% set ns.l = [ns.l, ns.l] %}", "{{ ns.l }}"),
        grow("{% set ns.l = [ns.l, ns.l] %}", "{{ ns.l | tojson }}"),
        grow(
            "{% set ns.l = [ns.l, ns.l] %}",
            "{{ ns.l == [ns.l[0], ns.l[1]] }}{{ ns.l | string }}",
        ),
        grow("{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}", "{{ ns.l == ns.m }}"),
        grow(
            "{% set ns.l = [ns.l, ns.l] %}{% set ns.m = [ns.m, ns.m] %}",
            "{{ [ns.l, ns.m] | sort }}",
        ),
        grow("{% set ns.t = (ns.t, ns.t) %}", "{{ {ns.t: 1} }}"),
        grow("{% set ns.t = (ns.t, ns.t) %}", "{{ [ns.t] | unique | list }}"),
        // Single steps.
        "{{ 'x' * 99999999999 }}".into(),
        "{{ [1] * 99999999999 }}".into(),
        "{{ [1] | slice(99999999999) }}".into(),
        "{{ [1] | batch(99999999999, 1) | list }}".into(),
        "{{ range(100000) | join('x' * 10000) }}".into(),
        "{{ 'x'.center(99999999999) }}".into(),
        "{{ 'x' | center(99999999999) }}".into(),
        "{{ '1'.zfill(99999999999) }}".into(),
        "{{ '\t'.expandtabs(99999999999) }}".into(),
        "{{ 'x' | indent(99999999999, true) }}".into(),
        "{{ ('x\n' * 1000) | indent(1000000) }}".into(),
        "{{ [1] | tojson(indent=99999999999) }}".into(),
        "{{ '%99999999999d' % 1 }}".into(),
        "{{ '%*d' % (99999999999, 1) }}".into(),
        "{{ '%99999999999s' | format(1) }}".into(),
        "{{ '{:99999999999}'.format(1) }}".into(),
        "{{ '{:{}}'.format(1, 99999999999) }}".into(),
        "{{ ('x' * 1000000).replace('', 'y' * 1000) }}".into(),
        "{{ ('x,' * 1000000).split(',') }}".into(),
        "{{ strftime_now('%Y' * 1000000) }}".into(),
        format!("{{% macro m({0}) %}}{{% endmacro %}}{{{{ m({0}) }}}}", parameters(8_000)),
        // Cheap to write, expensive to run.
        format!(
            "{{% set s = 'x' * 1000000 %}}{forever}{{% if s[i] == s %}}{{% endif %}}{{% endfor %}}"
        ),
        format!(
            "{{% set d = {{'x' * 1000000: 1}} %}}{forever}{{% set e = dict(d) %}}{{% endfor %}}"
        ),
        format!("{{% set l = range(100000) | list %}}{forever}{{% set m = l[1:] %}}{{% endfor %}}"),
        format!(
            "{{% set l = range(100000) | list %}}{forever}{{% if -1 in l %}}{{% endif %}}{{% endfor %}}"
        ),
        format!("{forever}{{% set x = namespace(a=1, b=2, c=3, d=4, e=5) %}}{{% endfor %}}"),
        format!("{forever}{{% macro m() %}}{{% endmacro %}}{forever}{{% endfor %}}{{% endfor %}}"),
    ] {
        let said = said(&source);
        assert!(said.contains("it takes more than the"), "{source}: {said}");
    }
    for (source, reason) in [
        ("{{ range(1000000000) }}", "longer than 100000"),
        ("{{ 2 ** 99999999 }}", "too large"),
        ("{{ '%.99999999f' % 1 }}", "a precision of 99999999"),
        ("{{ 'x' * 2000000 }}", "it makes a text of 2000000 bytes"),
    ] {
        let said = said(source);
        assert!(said.contains(reason), "{source}: {said}");
    }
    assert_eq!(
        render("{{ 'x' * 1000000 }}", &variables(), Clock::System).unwrap().len(),
        1_000_000
    );
}

#[test]
fn nesting_has_a_bound() {
    let many = 6_000;
    for source in [
        format!("{{{{ {}1 }}}}", "-".repeat(many)),
        format!("{{{{ {}1 }}}}", "not ".repeat(many)),
        format!("{{{{ {}1{} }}}}", "(".repeat(many), ")".repeat(many)),
        format!("{{{{ {}{} }}}}", "[".repeat(many), "]".repeat(many)),
        format!("{{{{ {}1{} }}}}", "{1: ".repeat(many), "}".repeat(many)),
        format!("{{{{ {}{} }}}}", "x[".repeat(many), "]".repeat(many)),
        format!("{{{{ {}{} }}}}", "f(".repeat(many), ")".repeat(many)),
        format!("{{% set {}a{} = 1 %}}", "(".repeat(many), ")".repeat(many)),
        format!("{}{}", "{% if x %}".repeat(many), "{% endif %}".repeat(many)),
        format!("{}{}", "{% for x in y %}".repeat(many), "{% endfor %}".repeat(many)),
        format!("{}{}", "{% macro m() %}".repeat(many), "{% endmacro %}".repeat(many)),
        format!("{}{}", "{% generation %}".repeat(many), "{% endgeneration %}".repeat(many)),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into(),
        "{% macro m(x) %}{{ m([x]) }}{% endmacro %}{{ m(1) }}".into(),
        "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}".into(),
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(),
        format!("{{{{ 'a' | map({}) | list }}}}", vec!["'map'"; 1_600].join(", ")),
        // Each value contains the previous one.
        nest("[ns.v]"),
        nest("{'a': ns.v}"),
        nest("(ns.v,)"),
        nest("{'a': ns.v}.items()"),
        nest("[ns.v].index"),
        nest("[ns.v] | select"),
        "{% set ns = namespace(v=1) %}{% for i in range(100000) %}{% for y in [ns.v] %}\
         {% set ns.v = loop %}{% endfor %}{% endfor %}"
            .into(),
        // No value contains a namespace, but each is printed within the other.
        "{% set ns = namespace(v=1) %}{% for i in range(2000) %}{% set ns.v = namespace(v=ns.v) %}\
         {% endfor %}{{ ns }}"
            .into(),
    ] {
        let said = said(&source);
        assert!(said.contains("nested"), "{:?}: {said}", source.get(..80));
    }
}

/// `p0=0, p1=0, ...`
fn parameters(count: usize) -> String {
    (0..count).map(|index| format!("p{index}=0")).collect::<Vec<_>>().join(", ")
}

fn nest(value: &str) -> String {
    format!(
        "{{% set ns = namespace(v=[]) %}}{{% for i in range(100000) %}}{{% set ns.v = {value} %}}{{% endfor %}}"
    )
}

/// Long templates that are not deep need no stack.
#[test]
fn long_chains_are_rendered() {
    let many = 20_000;
    for (source, text) in [
        (format!("{{{{ 1{} }}}}", "+1".repeat(many)), "20001"),
        (format!("{{{{ 1{} }}}}", " and 1".repeat(many)), "1"),
        (format!("{{{{ 0{} }}}}", " if 0 else 0".repeat(many)), "0"),
        (format!("{{{{ 1{} }}}}", "|int".repeat(many)), "1"),
        (format!("{{{{ ''{} }}}}", ".strip()".repeat(many)), ""),
        (format!("{{{{ 'a'{} }}}}", " ''".repeat(many)), "a"),
        (format!("{{% if 0 %}}{}{{% else %}}e{{% endif %}}", "{% elif 0 %}".repeat(many)), "e"),
    ] {
        assert_eq!(render(&source, &variables(), Clock::System).unwrap(), text);
    }
    let long = " ".repeat(1 << 20);
    assert!(said(&long).contains("expected at most"));
}

#[test]
fn a_namespace_that_contains_itself_is_printed() {
    let source =
        "{% set a = namespace() %}{% set a.x = [a] %}{{ a }}{{ a ~ '' == a | string }}{{ a == a }}";
    let text = render(source, &variables(), Clock::System).unwrap();
    assert_eq!(text, "<Namespace {'x': [<Namespace {...}>]}>TrueTrue");
    let json = "{% set a = namespace() %}{% set a.x = a %}{{ a | tojson }}";
    assert!(said(json).contains("Namespace is not JSON"));
}

/// Random sequences of template fragments never cause a panic.
#[test]
fn nothing_panics() {
    const PIECES: [&str; 62] = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{%-",
        "-%}",
        "{%+",
        "+%}",
        "-}}",
        " ",
        "\n",
        "x",
        "messages",
        "tools",
        "ns",
        "1",
        "-1",
        "0",
        "2.5",
        "'a'",
        "\"é🦀\"",
        "'\\x4",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        ".",
        "|",
        "~",
        "+",
        "-",
        "*",
        "%",
        "**",
        "//",
        "<",
        "==",
        "=",
        "if ",
        "else ",
        "endif ",
        "for ",
        " in ",
        "endfor ",
        "set ",
        "macro m(a, b=1)",
        "endmacro ",
        "call m(1)",
        "endcall ",
        "is ",
        "not ",
        "tojson",
        "items()",
        "split",
        "loop.",
        "[::-1]",
    ];
    const WHOLE: [&str; 16] = [
        "{{ messages[X].content.Y }}",
        "{{ messages | map(attribute=X) | Y }}",
        "{{ ('%s' % X) | Y }}",
        "{{ '{X}'.format(Y) }}",
        "{{ 'é🦀x'.center(X)[Y] }}",
        "{{ 'é🦀x'[X:Y] }}",
        "{{ 'a é🦀b'.find(X, Y) }}",
        "{{ 'a é🦀b'.split(X, Y) }}",
        "{{ range(X, Y)[X] }}",
        "{{ range(X)[::Y] }}",
        "{{ X % Y }}{{ X // Y }}{{ X ** Y }}",
        "{{ '%X.Yf' % 1.5 }}",
        "{{ X | round(Y) }}{{ X | int(Y) }}",
        "{{ messages | batch(X) | list }}{{ messages | slice(Y) | list }}",
        "{{ strftime_now('%X %Y') }}",
        "{{ tools | tojson(indent=X, separators=Y) }}",
    ];
    const VALUES: [&str; 24] = [
        "0",
        "1",
        "-1",
        "2",
        "99999999999",
        "-99999999999",
        "170141183460469231731687303715884105727",
        "1e308",
        "0.0",
        "''",
        "'role'",
        "'é🦀'",
        "none",
        "true",
        "[]",
        "{}",
        "()",
        "messages",
        "undefinedname",
        "range(3)",
        "(1, 2)",
        "'%'",
        "{'a': 1}",
        "loop",
    ];
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut pick = |pieces: &[&'static str]| pieces[random.next_u32() as usize % pieces.len()];
    for round in 0..3000 {
        let source: String = if round % 2 == 0 {
            let length = 1 + round % 29;
            (0..length).map(|_| pick(&PIECES)).collect()
        } else {
            pick(&WHOLE).replace('X', pick(&VALUES)).replace('Y', pick(&VALUES))
        };
        if let Err(error) = render(&source, &variables(), Clock::System) {
            assert!(!error.to_string().contains("panic"), "{source}: {error}");
        }
    }
}

//! Templates as users of Docker and Podman write them, and what is wrong with others.

use serde::Serialize;

use super::*;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Network {
    name: &'static str,
    id: &'static str,
    internal: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    containers: SortedMap<&'static str, Endpoint>,
    labels: SortedMap<&'static str, &'static str>,
    nothing: Option<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    config: Vec<Pool>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pool {
    subnet: &'static str,
    gateway: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    name: &'static str,
    #[serde(rename = "IPv4Address")]
    ipv4_address: &'static str,
}

fn network() -> Value {
    let endpoint = |name, ipv4_address| Endpoint { name, ipv4_address };
    let network = Network {
        name: "net",
        id: "3f2a",
        internal: false,
        ipam: Ipam {
            driver: "default",
            config: vec![Pool { subnet: "192.168.100.0/24", gateway: "192.168.100.1" }],
        },
        containers: SortedMap::from([
            ("b2", endpoint("db", "192.168.100.3/24")),
            ("a1", endpoint("web", "192.168.100.2/24")),
        ]),
        labels: SortedMap::from([("com.example.role", "front end")]),
        nothing: None,
    };
    Value::of(&network).unwrap()
}

fn render(template: &str) -> String {
    match Template::parse(template).and_then(|template| template.render(&network())) {
        Ok(text) => text,
        Err(error) => format!("error: {error}"),
    }
}

fn expect(cases: &[(&str, &str)]) {
    for (template, expected) in cases {
        assert_eq!(render(template), *expected, "{template}");
    }
}

// E2 E11
#[test]
fn the_documents_templates() {
    expect(&[
        ("{{.IPAM.Config}}", "[{Subnet:192.168.100.0/24 Gateway:192.168.100.1}]"),
        (
            r#"{{range .Containers}}{{.Name}} {{.IPv4Address}}{{"\n"}}{{end}}"#,
            "web 192.168.100.2/24\ndb 192.168.100.3/24\n",
        ),
        ("{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}", "192.168.100.0/24 192.168.100.1"),
        ("{{(index .IPAM.Config 0).Subnet}}", "192.168.100.0/24"),
        (r#"{{index .Labels "com.example.role"}}"#, "front end"),
        (
            r#"{{.Label "x"}}"#,
            "error: there is no field .Label; there are .Name, .Id, .Internal, \
                               .IPAM, .Containers, .Labels, .Nothing",
        ),
        (r#"{{.Labels "com.example.role"}}|{{.Labels "other"}}|"#, "front end||"),
        (
            "{{json .IPAM}}",
            r#"{"Driver":"default","Config":[{"Subnet":"192.168.100.0/24","Gateway":"192.168.100.1"}]}"#,
        ),
        ("{{.ID}}: {{.Name}}", "3f2a: net"),
        ("{{len .Containers}}", "2"),
        ("{{.Labels}}", "map[com.example.role:front end]"),
        (r"{{.Name}}\t{{.Id}}\n", "net\t3f2a\n"),
        ("{{range $id, $c := .Containers}}{{$id}}={{$c.Name}} {{end}}", "a1=web b2=db "),
    ]);
}

#[test]
fn blocks_choose_and_end() {
    expect(&[
        ("{{if .Internal}}in{{else}}out{{end}}", "out"),
        ("{{if .Internal}}in{{else if .Name}}named{{else}}x{{end}}", "named"),
        ("{{if and .Name (not .Internal)}}yes{{end}}", "yes"),
        ("{{with .IPAM}}{{.Driver}}{{$.Name}}{{end}}", "defaultnet"),
        ("{{with .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{with $x := .Name}}{{$x}}{{end}}", "net"),
        ("{{range .Nothing}}x{{else}}empty{{end}}", "empty"),
        ("{{range .Containers}}{{if eq .Name \"db\"}}{{.Name}}{{end}}{{end}}", "db"),
        ("{{$x := .Name}}{{if true}}{{$x := .Id}}{{$x}}{{end}}{{$x}}", "3f2anet"),
    ]);
}

#[test]
fn spaces_and_comments_are_left_out() {
    expect(&[
        ("a {{- .Name -}} b", "anetb"),
        ("a {{/* no */}} b", "a  b"),
        ("a {{- /* no */ -}} b", "ab"),
        ("{{ .Name }}", "net"),
        ("no action }} at all {", "no action }} at all {"),
        ("{{-1}}", "-1"),
    ]);
}

#[test]
fn functions_of_go_and_docker() {
    expect(&[
        (r#"{{join (split "a,b,c" ",") "-"}}"#, "a-b-c"),
        ("{{.Name | upper | printf \"%-5s|%q\" \"x\"}}", "x    |\"NET\""),
        (r#"{{printf "%3d%% %v" 7 .Internal}}"#, "  7% false"),
        (r#"{{title "two words"}} {{lower "ABC"}} {{truncate "abcdef" 3}}"#, "Two Words abc abc"),
        (r#"[{{pad "x" 1 2}}][{{pad "" 3 3}}]"#, "[ x  ][]"),
        (r#"{{print 1 "a"}}{{println "b" 2}}"#, "1ab 2\n"),
        (
            "{{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt `b` `a`}} {{ge 1 2}}",
            "true true true true true false",
        ),
        ("{{or .Nothing .Internal `last`}} {{and 1 0 2}}", "last 0"),
        ("{{.Nothing}} {{index .Labels `none`}}", "<no value> <no value>"),
        (r#"{{"quoted \"text\" and \\"}} {{`raw\n`}}"#, r#"quoted "text" and \ raw\n"#),
        ("{{len `four`}}", "4"),
    ]);
}

#[test]
fn mistakes_are_named() {
    expect(&[
        ("{{.Name", "error: {{ without }}"),
        ("{{}}", "error: {{}} is empty"),
        ("{{\"a}}", "error: unclosed string"),
        ("{{\"\\x\"}}", "error: unknown escape \\x in a string"),
        ("{{if .Name}}", "error: {{end}} is missing"),
        ("{{if .Name}}{{else}}{{else}}{{end}}", "error: two {{else}} in one block"),
        ("{{end}}", "error: {{end}} without {{if}}, {{range}} or {{with}}"),
        ("{{else}}", "error: {{else}} without {{if}}, {{range}} or {{with}}"),
        ("{{template \"x\"}}", "error: {{template}} is not supported in a --format"),
        ("{{.Name .Id}}", "error: .Name takes no arguments"),
        ("{{. 1}}", "error: a value takes no arguments"),
        ("{{1 2}}", "error: 1 takes no arguments"),
        ("{{.Name.X}}", "error: .X is asked of \"net\", which has no fields"),
        ("{{$x}}", "error: there is no variable $x"),
        ("{{range .Name}}{{end}}", "error: cannot range over \"net\""),
        ("{{(.Name}}", "error: unclosed parenthesis"),
        ("{{.Name)}}", "error: unexpected \")\""),
        ("{{.Name |}}", "error: a value or function is missing"),
        ("{{index .IPAM.Config 4}}", "error: index: index 4 is out of range: there are 1"),
        ("{{lower 1}}", "error: lower: text is wanted, not 1"),
        ("{{printf \"%x\" 1}}", "error: printf: %x is not supported: %s %v %d %t %q %%"),
        ("{{printf \"%s\"}}", "error: printf: too few values for the format"),
        ("{{#}}", "error: unexpected '#' in an action"),
        ("{{/* x }}", "error: unclosed comment"),
    ]);
    assert!(
        render("{{nope .}}").starts_with("error: there is no function \"nope\"; there are and")
    );
    assert_eq!(
        render(&"{{(".repeat(9)),
        "error: {{ without }}".replace("{{ without }}", "unexpected '{' in an action")
    );
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(2000), ")".repeat(2000));
    assert_eq!(render(&deep), "error: nested too deeply");
    assert_eq!(render(&"{{if 1}}".repeat(2000)), "error: nested too deeply");
    assert_eq!(render(&"{{if 1}}{{else ".repeat(2000)), "error: unexpected '{' in an action");
    let chain = format!("{{{{if 0}}}}{}{{{{end}}}}", "{{else if 0}}".repeat(2000));
    assert_eq!(render(&chain), "error: nested too deeply");
}

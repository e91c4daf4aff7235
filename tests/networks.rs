//! `rnsnet network ...` from outside, on networks of its own in a scratch directory: what is
//! printed, the exit codes, and what is left in the files. No container is attached here; that is
//! in `tests/netns`. Rows E1-E8 E11-E15 E21.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What one call printed.
#[derive(Debug)]
struct Printed {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Printed {
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout
    }

    /// Its one line on standard error, after the exit code 1.
    #[track_caller]
    fn fails(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.stderr.trim_end().to_owned()
    }
}

/// A user without any networks yet.
struct User {
    config: PathBuf,
}

impl User {
    fn new(test: &str) -> Self {
        let config = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("networks").join(test);
        drop(fs::remove_dir_all(&config));
        fs::create_dir_all(config.join("runtime")).expect("the folder is ours");
        Self { config }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rnsnet"));
        command.arg("network").args(line.split(' ').map(|word| word.replace('~', " ")));
        self.at_home(&mut command);
        command
    }

    fn at_home<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("XDG_CONFIG_HOME", &self.config).env_remove("HOME");
        command.env("XDG_RUNTIME_DIR", self.config.join("runtime"))
    }

    /// Runs `rnsnet network LINE`; `~` stands for a space within a word.
    fn network(&self, line: &str) -> Printed {
        printed(self.command(line).stdin(Stdio::null()))
    }

    fn names(&self) -> String {
        self.network("ls -f type=custom --format {{.Name}}")
            .ok()
            .replace('\n', " ")
            .trim_end()
            .to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.config.join("rnsnet/networks").join(format!("{name}.json"))
    }
}

fn printed(command: &mut Command) -> Printed {
    let output = command.output().expect("the binary starts");
    Printed {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
    }
}

// E1 E12 E21
#[test]
fn a_network_is_made_listed_and_persists() {
    let user = User::new("made");
    let none = "NETWORK ID   NAME      DRIVER    SCOPE\n";
    assert_eq!(user.network("ls --filter type=custom").ok(), none);
    let id = user.network("create n1").ok();
    let id = id.trim_end();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(
        user.network("ls --filter type=custom").ok(),
        format!(
            "NETWORK ID     NAME      DRIVER    SCOPE\n{}   n1        bridge    local\n",
            &id[..12]
        )
    );
    assert_eq!(user.network("create n1").fails(), "rnsnet: the network n1 already exists");
    assert_eq!(user.network("create --ignore n1").ok().trim_end(), id);
    assert_eq!(
        user.network("ls --filter driver=bridge -f type=custom -q").ok(),
        format!("{}\n", &id[..12])
    );
    assert_eq!(user.network("ls --no-trunc -q -f type=custom").ok(), format!("{id}\n"));
    assert_eq!(
        user.network("ls --format {{.ID}}:~{{.Driver}} -f name=n1").ok(),
        format!("{}: bridge\n", &id[..12])
    );
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(user.file("n1")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(user.network("inspect -f {{.Id}} n1").ok().trim_end(), id);
    assert_eq!(user.network(&format!("inspect -f {{{{.Name}}}} {}", &id[..4])).ok(), "n1\n");
}

// E23 E13 E14: what Docker lists without anybody's having made it.
#[test]
fn the_predefined_networks_are_listed_and_stay() {
    let user = User::new("predefined");
    let listed = user.network("ls").ok();
    let words: Vec<Vec<&str>> =
        listed.lines().skip(1).map(|line| line.split_whitespace().skip(1).collect()).collect();
    assert_eq!(
        words,
        [["bridge", "bridge", "local"], ["host", "host", "local"], ["none", "null", "local"]]
    );
    let ids = user.network("ls -q").ok();
    user.network("create zoo").ok();
    user.network("create alpha").ok();
    let names = user.network("ls --format {{.Name}}").ok();
    assert_eq!(names, "alpha\nbridge\nhost\nnone\nzoo\n");
    assert_eq!(user.network("ls -f type=builtin -f driver=null --format {{.Name}}").ok(), "none\n");
    assert_eq!(user.network("ls -f dangling=true --format {{.Name}}").ok(), "alpha\nzoo\n");
    let config = |name: &str| user.network(&format!("inspect -f {{{{.IPAM.Config}}}} {name}")).ok();
    assert!(config("bridge").starts_with("[{Subnet:10.0.2.0/24 Gateway:10.0.2.2} "));
    assert_eq!((config("host"), config("none")), ("[]\n".into(), "[]\n".into()));
    for (id, name) in ids.lines().zip(["bridge", "host", "none"]) {
        assert_eq!(
            user.network(&format!("inspect -f {{{{.Name}}}} {id}")).ok(),
            format!("{name}\n")
        );
        assert_eq!(user.network(&format!("exists {name}")).ok(), "");
        let refused = format!(
            "rnsnet: {name} is a pre-defined network and cannot be removed, changed or connected to"
        );
        for line in [
            format!("rm {name}"),
            format!("rm -f {id}"),
            format!("update --label a=b {name}"),
            format!("start {name}"),
        ] {
            assert_eq!(user.network(&line).fails(), refused, "{line}");
        }
        let taken = user.network(&format!("create {name}")).fails();
        assert!(taken.ends_with("cannot be used: the word has a meaning of its own"), "{taken}");
    }
    assert_eq!(user.network("prune -f").ok(), "Deleted Networks:\nalpha\nzoo\n\n");
    assert_eq!(user.network("ls --format {{.Name}}").ok(), "bridge\nhost\nnone\n");
}

// E2 E11
#[test]
fn the_documents_example_is_inspected_as_they_show_it() {
    let user = User::new("inspected");
    user.network(
        "create --driver=bridge --subnet=192.168.100.0/24 --gateway=192.168.100.1 my-custom-net",
    )
    .ok();
    let inspect = |format: &str| user.network(&format!("inspect -f {format} my-custom-net")).ok();
    assert_eq!(inspect("{{.IPAM.Config}}"), "[{Subnet:192.168.100.0/24 Gateway:192.168.100.1}]\n");
    assert_eq!(inspect("{{range~.Containers}}{{.Name}}{{end}}"), "\n");
    assert_eq!(
        inspect("{{range~.IPAM.Config}}{{.Subnet}}~{{.Gateway}}{{end}}"),
        "192.168.100.0/24 192.168.100.1\n"
    );
    let whole = user.network("inspect my-custom-net").ok();
    assert!(whole.starts_with("[\n    {\n        \"Name\": \"my-custom-net\",\n"), "{whole}");
    for key in [
        "Name",
        "Id",
        "Created",
        "Scope",
        "Driver",
        "EnableIPv6",
        "IPAM",
        "Internal",
        "Attachable",
        "Ingress",
        "ConfigFrom",
        "ConfigOnly",
        "Containers",
        "Options",
        "Labels",
    ] {
        assert!(whole.contains(&format!("\n        \"{key}\": ")), "{key} is not in {whole}");
    }
    let verbose = user.network("inspect --verbose my-custom-net").ok();
    let (same, more) = verbose.split_at(whole.len() - "\n    }\n]\n".len());
    assert!(whole.starts_with(same), "{verbose}");
    assert!(more.starts_with(",\n        \"Group\": null,\n"), "{verbose}");
    let nothing = user.network("inspect nope");
    assert_eq!(nothing.stdout, "[]\n");
    assert_eq!(nothing.fails().lines().next(), Some("rnsnet: no such network: nope"));
    assert_eq!(
        user.network("inspect -f {{.Nope}} my-custom-net").fails().split(';').next(),
        Some("rnsnet: cannot fill in --format: there is no field .Nope")
    );
}

// E1 E3
#[test]
fn networks_do_not_overlap() {
    let user = User::new("overlap");
    for name in ["a", "b", "c"] {
        user.network(&format!("create --ipv6 {name}")).ok();
    }
    let mut subnets: Vec<String> = ["a", "b", "c"]
        .iter()
        .flat_map(|name| {
            let format = "{{range~.IPAM.Config}}{{.Subnet}}~{{end}}";
            let line = user.network(&format!("inspect -f {format} {name}")).ok();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(subnets.len(), 6);
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), 6, "{subnets:?}");
    assert!(subnets.iter().filter(|subnet| subnet.starts_with("fd")).count() == 3);
    let v4 = subnets.iter().find(|subnet| subnet.starts_with("10.")).expect("an IPv4 subnet");
    let error = user.network(&format!("create --subnet {v4} d")).fails();
    assert!(
        error.starts_with(&format!(
            "rnsnet: cannot create the network d: the subnet {v4} overlaps {v4} of the network "
        )),
        "{error}"
    );
}

#[test]
fn two_creators_at_once_get_two_subnets() {
    let user = User::new("race");
    let mut children: Vec<_> = (0..8)
        .map(|number| {
            let mut command = user.command(&format!("create n{number}"));
            command.stdout(Stdio::null()).spawn().expect("the binary starts")
        })
        .collect();
    assert!(children.iter_mut().all(|child| child.wait().expect("it ends").success()));
    let mut subnets: Vec<String> = (0..8)
        .map(|number| user.network(&format!("inspect -f {{{{.IPAM.Config}}}} n{number}")).ok())
        .collect();
    subnets.sort();
    subnets.dedup();
    assert_eq!(subnets.len(), 8, "{subnets:?}");
}

// E5 E13 E14
#[test]
fn networks_are_removed_one_by_one_or_pruned() {
    let user = User::new("removed");
    for line in
        ["create --label tier=front a", "create --label tier=back b", "create c", "create d"]
    {
        user.network(line).ok();
    }
    assert_eq!(user.network("ls -q --filter label=tier").ok().lines().count(), 2);
    assert_eq!(user.network("ls -f label=tier=back --format {{.Name}}").ok(), "b\n");
    assert_eq!(
        user.network("ls -f name=a -f name=b -f type=custom --format {{.Name}}").ok(),
        "a\nb\n"
    );
    assert_eq!(
        user.network("ls -f type=custom --format {{.Label~\"tier\"}}").ok(),
        "front\nback\n\n\n"
    );
    let both = user.network("rm c nope d");
    assert_eq!(both.stdout, "c\nd\n");
    assert_eq!(both.fails().lines().next(), Some("rnsnet: no such network: nope"));
    assert_eq!(user.network("rm -f nope").ok(), "");
    assert_eq!(user.network("prune -f --filter until=1h").ok(), "");
    assert_eq!(
        user.network("prune -f --filter label!=tier=front").ok(),
        "Deleted Networks:\nb\n\n"
    );
    assert_eq!(user.names(), "a");
    // Without -f it asks, and nobody answers.
    assert!(user.network("prune").ok().ends_with("Are you sure you want to continue? [y/N] "));
    assert_eq!(user.names(), "a");
    assert_eq!(user.network("prune -f").ok(), "Deleted Networks:\na\n\n");
    assert_eq!(user.network("prune -f").ok(), "");
}

// E15
#[test]
fn labels_and_resolvers_are_changed() {
    let user = User::new("changed");
    let id = user.network("create --label old n1").ok();
    assert_eq!(
        user.network("update --label new=1 --label-rm old --dns-add 192.0.2.53 n1").ok(),
        "n1\n"
    );
    assert_eq!(user.network("inspect -f {{.Labels}} n1").ok(), "map[new:1]\n");
    assert_eq!(user.network("inspect -f {{.Id}} n1").ok(), id);
    assert_eq!(
        user.network("update --dns-drop 192.0.2.54 n1").fails(),
        "rnsnet: 192.0.2.54 is not a resolver of the network n1"
    );
    assert_eq!(user.network("update --dns-drop 192.0.2.53 n1").ok(), "n1\n");
    user.network("update --rate down=10mbit,up=5mbit n1").ok();
    user.network("update --rate up=none n1").ok();
    assert_eq!(user.network("inspect -v -f {{.Rate}} n1").ok(), "down=10mbit\n");
}

#[test]
fn whether_a_network_exists_is_told_by_the_exit_code() {
    let user = User::new("exists");
    user.network("create n1").ok();
    assert_eq!(user.network("exists n1").ok(), "");
    assert_eq!(user.network("exists n2").fails(), "");
}

// E7 E8
#[test]
fn other_drivers_are_refused_with_what_to_do_instead() {
    let user = User::new("drivers");
    for (driver, instead) in [
        ("macvlan", "it needs CAP_NET_ADMIN on the host; use bridge"),
        ("ipvlan", "it needs CAP_NET_ADMIN on the host; use bridge"),
        ("host", "a container in the host's network needs no rnsnet"),
        ("none", "no network is needed for it; attach with --network none"),
        ("weave", "use bridge"),
    ] {
        let error = user.network(&format!("create -d {driver} n")).fails();
        let expected = format!("rnsnet: {driver} is not a driver of rnsnet: {instead}");
        assert!(error.starts_with(&expected), "{error}");
    }
    assert_eq!(user.names(), "");
}

#[test]
fn a_damaged_file_is_named_and_the_others_are_listed() {
    let user = User::new("damaged");
    user.network("create good").ok();
    fs::write(user.file("bad"), "{}").unwrap();
    let listed = user.network("ls -f name=o -f type=custom --format {{.Name}}");
    assert_eq!(listed.stdout, "good\n");
    assert!(listed.fails().contains("bad.json: missing field"));
    // Its subnet is not known, so that none can be chosen beside it.
    assert!(user.network("create other").fails().contains("bad.json"));
}

#[test]
fn without_a_home_there_is_no_place_for_networks() {
    let user = User::new("homeless");
    let mut command = user.command("ls");
    let printed = printed(command.env_remove("XDG_CONFIG_HOME").env("HOME", ""));
    assert_eq!(
        printed.fails(),
        "rnsnet: neither HOME nor XDG_CONFIG_HOME says where networks are kept"
    );
}

// E1: with so few descriptors nothing can be served.
#[test]
fn what_was_there_before_stays_where_its_process_cannot_be_started() {
    let user = User::new("unstartable");
    let id = user.network("create n1").ok();
    let group = nix::unistd::getgid();
    let text = fs::read_to_string(user.file("n1")).unwrap();
    let open = text.trim_end().strip_suffix('}').unwrap();
    fs::write(user.file("n1"), format!("{open},\"group\":{group}}}")).unwrap();
    for (options, name) in [("--ignore", "n1"), ("--ipv6", "n2")] {
        let program = env!("CARGO_BIN_EXE_rnsnet");
        let line = format!("'{program}' network create {options} --group {group} {name}");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n 12; exec {line}")]);
        let told = printed(user.at_home(&mut command)).fails();
        assert!(
            told.contains(&format!("the process of the network {name} did not start")),
            "{told}"
        );
    }
    assert_eq!(user.network("inspect -f {{.Id}} n1").ok(), id);
    assert_eq!(user.names(), "n1");
}

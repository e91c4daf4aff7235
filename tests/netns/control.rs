//! A running network is asked and changed: the control socket and the verbs that use it.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::eventually::{eventually, one_of_three, secs};
use crate::exec::Ran;
use crate::lab::{Container, GUEST4, HOST4, LAN4, Lab, Place};
use crate::rnsnet::binary;

/// Python that asks the control socket of `web`: `ask(line)` is the answer's text.
const ASK: &str = "
import json
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(os.environ['XDG_RUNTIME_DIR'] + '/rnsnet/containers/web/control.sock')
    return s
def line(s):
    text = b''
    while not text.endswith(b'\\n'):
        more = s.recv(65536)
        if not more:
            return text.decode()
        text += more
    return text.decode()
def ask(text, s=None):
    s = s or connect()
    s.sendall(text.encode())
    return line(s)
def request(execute, **arguments):
    return json.dumps({'version': 1, 'execute': execute, 'arguments': arguments}) + '\\n'
";

impl Lab {
    /// A python program that talks to the control socket.
    #[track_caller]
    fn ask(&self, program: &str) -> Ran {
        self.py(Place::User, &format!("{ASK}\n{program}"))
    }

    /// A verb that has to work; what it prints.
    #[track_caller]
    fn verb(&self, args: &[&str]) -> String {
        self.rnsnet_ends(args).ok().to_owned()
    }
}

fn socket(lab: &Lab, name: &str) -> PathBuf {
    lab.runtime().join("rnsnet/containers").join(name).join("control.sock")
}

/// A counter of the container's interface.
fn link_counter(lab: &Lab, ctr: &Container, of: &str, name: &str) -> u64 {
    let json = lab.sh(Place::In(ctr), "ip -s -j link show eth0").ok().to_owned();
    let (_, rest) = json.split_once(&format!("\"{of}\":{{")).expect("both directions are there");
    let (_, rest) = rest.split_once(&format!("\"{name}\":")).expect("the counter is there");
    rest.split([',', '}']).next().and_then(|number| number.parse().ok()).expect("a number")
}

/// The columns of a line of a table.
fn columns(line: &str) -> Vec<&str> {
    line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

// C7
#[test]
fn ps_and_port_show_what_is_published() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let publish = ["-p", "8080:80", "-p", "127.0.0.1:5353:53/udp", "-n", "web"];
    let _net = lab.rnsnet(&ctr).with(&publish).start();
    assert_eq!(
        lab.verb(&["port", "web"]),
        "53/udp -> 127.0.0.1:5353\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080"
    );
    assert_eq!(lab.verb(&["port", "web", "80"]), "0.0.0.0:8080\n[::]:8080");
    let by_namespace = format!("/proc/{}/ns/net", ctr.pid());
    for ctr in [&ctr.pid().to_string(), &by_namespace] {
        assert_eq!(lab.verb(&["port", ctr, "53/udp"]), "127.0.0.1:5353");
    }
    let refused = lab.rnsnet_ends(&["port", "web", "81"]);
    assert_eq!((refused.code(), refused.stdout.as_str()), (1, ""), "{refused}");
    assert_eq!(refused.stderr, "rnsnet: no public port \"81/tcp\" published for web\n");

    let id = lab.verb(&["ps", "-q", "--no-trunc"]);
    assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    let table = lab.verb(&["ps"]);
    let lines: Vec<Vec<&str>> = table.lines().map(columns).collect();
    let heads = ["CONTAINER ID", "NAME", "PID", "NETWORKS", "ADDRESSES", "PORTS", "STATUS"];
    assert_eq!(lines[0], heads, "{table}");
    let addresses = format!("{GUEST4}, fd72:6e73:6e65::100");
    let ports = "127.0.0.1:5353->53/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp";
    let pid = ctr.pid().to_string();
    assert_eq!(lines[1][..6], [&id[..12], "web", &pid, "default", &addresses, ports], "{table}");
    assert!(lines[1][6].starts_with("Up "), "{table}");
    assert_eq!(lines.len(), 2, "{table}");
    assert_eq!(lab.verb(&["ps", "-q", "-f", "name=we"]), &id[..12]);
    assert_eq!(lab.verb(&["ps", "-q", "-f", "name=db"]), "");
    assert_eq!(lab.verb(&["ps", "--format", "{{.Name}} {{.Ports}}"]), format!("web {ports}"));
    let json = lab.verb(&["ps", "--format", "json"]);
    assert!(json.contains(&format!("\"Ports\":\"{ports}\"")), "{json}");
    assert_eq!(lab.verb(&["port", &id[..5], "80/tcp"]), "0.0.0.0:8080\n[::]:8080");
    let unknown = lab.rnsnet_ends(&["port", "db"]);
    assert_eq!(unknown.code(), 1);
    assert!(
        unknown.stderr.starts_with("rnsnet: there is no container \"db\"\nhint: "),
        "{unknown}"
    );
}

#[test]
fn inspect_has_dockers_names() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-p", "8080:80", "-n", "web"]).start();
    let template = "{{.Name}} {{.State.Pid}} {{.NetworkSettings.SandboxKey}} \
                    {{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}} \
                    {{range .NetworkSettings.Networks}}{{.MacAddress}}{{end}} \
                    {{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}";
    let pid = ctr.pid();
    assert_eq!(
        lab.verb(&["inspect", "-f", template, "web"]),
        format!("web {pid} /proc/{pid}/ns/net {GUEST4}/24 02:72:0a:00:02:64 8080")
    );
    let json = lab.verb(&["inspect", "web"]);
    let read = "import json; i = json.load(sys.stdin)[0]\n\
                s = i['NetworkSettings']; n = s['Networks']['default']\n\
                say(len(i['Id']), n['Gateway'], n['GlobalIPv6Address'], s['Ports']['80/tcp'][1])";
    let mut command = lab.cmd(Place::User, &["python3", "-c", &crate::lab::python(read)]);
    let ran = crate::exec::run(&mut command, json.as_bytes(), secs(5));
    let expected = "64 10.0.2.2 fd72:6e73:6e65::100 {'HostIp': '::', 'HostPort': '8080'}";
    assert_eq!(ran.ok(), expected);
}

// C9
#[test]
fn a_port_is_published_and_taken_back_while_it_runs() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-n", "web"]).start();
    let _echo = lab.serve(Place::In(&ctr), "echo_tcp(80)");
    let published = lab.verb(&["publish", "web", "8080:80"]);
    assert_eq!(published, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
    let mut client = lab.spawn(
        Place::Lan,
        &[
            "python3",
            "-uc",
            &crate::lab::python(&format!(
                "s = tcp('{HOST4}', 8080); s.sendall(b'a'); say(s.recv(9).decode())\n\
             sys.stdin.readline(); s.sendall(b'b'); say(s.recv(9).decode())"
            )),
        ],
    );
    assert_eq!(client.line(secs(5)), "a");
    let taken = lab.rnsnet_ends(&["publish", "web", "8080:81"]);
    assert_eq!(taken.code(), 1);
    assert!(taken.stderr.contains("cannot publish 8080:81"), "{taken}");
    assert!(taken.stderr.contains("in use"), "{taken}");
    assert_eq!(lab.verb(&["unpublish", "web", "8080:80"]), "");
    assert_eq!(lab.sockets(Place::User, 8080).lines().filter(|l| l.contains("LISTEN")).count(), 0);
    assert_eq!(lab.verb(&["port", "web"]), "");
    let attempt = lab.py(Place::Lan, &format!("attempt('{HOST4}', 8080)"));
    assert!(attempt.ok().starts_with("ECONNREFUSED"), "{attempt}");
    // What stood goes on.
    client.tell("go on");
    assert_eq!(client.line(secs(5)), "b");
    let gone = lab.rnsnet_ends(&["unpublish", "web", "8080:80"]);
    assert_eq!((gone.code(), gone.stderr.contains("is not published")), (1, true), "{gone}");

    // Half of a range is taken: nothing of it is published.
    let _taken = lab.web_server(Place::User, 9001, "taken");
    let refused = lab.rnsnet_ends(&["publish", "web", "9000-9001:80-81"]);
    assert_eq!(refused.code(), 1, "{refused}");
    assert_eq!(lab.sockets(Place::User, 9000), "");

    // Within 50 ms, most of a hundred times: the machine may be busy with other things.
    one_of_three("publishing takes 50 ms at most", || {
        let times = lab.ask(
            "took = []\n\
             for n in range(50):\n\
             \x20   for what in ['publish', 'unpublish']:\n\
             \x20       start = time.monotonic()\n\
             \x20       answer = ask(request(what, spec='8081:80'))\n\
             \x20       took.append(ms(start))\n\
             \x20       assert answer.startswith('{\"return\"'), answer\n\
             say(sorted(took)[50])",
        );
        let usual: u32 = times.ok().parse().unwrap();
        if usual <= 50 { Ok(()) } else { Err(format!("{usual} ms")) }
    });
}

// K6, A8
#[test]
fn the_socket_is_private_and_goes_with_the_process() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).start();
    let base = lab.runtime().join("rnsnet");
    let inode = lab.sh(Place::In(&ctr), "stat -Lc %i /proc/self/ns/net").ok().to_owned();
    let path = socket(&lab, &format!("ns-{inode}"));
    let mode = |path: &std::path::Path| {
        let there = std::fs::symlink_metadata(path).unwrap();
        (there.file_type().is_socket(), there.permissions().mode() & 0o777)
    };
    assert_eq!(mode(&path), (true, 0o600));
    assert_eq!(mode(path.parent().unwrap()), (false, 0o700));
    assert_eq!(mode(&base), (false, 0o700));
    net.signal(Signal::SIGTERM);
    assert!(net.ends().success());
    assert!(!path.parent().unwrap().exists());
    assert_eq!(lab.verb(&["ps", "-q"]), "");

    // Killed, it cannot tidy up; whoever has the name next does.
    let ctr = lab.container();
    let options = ["-n", "web"];
    let net = lab.rnsnet(&ctr).with(&options).start();
    let twin = lab.container();
    let refused = lab.rnsnet_ends(&["-n", "web", &twin.pid().to_string()]);
    let told = "rnsnet: the name \"web\" is in use\nhint: rnsnet ps tells whose it is";
    assert!(refused.code() == 1 && refused.stderr.starts_with(told), "{refused}");
    assert_eq!(lab.sh(Place::In(&twin), "ip -br link").ok().lines().count(), 1);
    net.signal(Signal::SIGKILL);
    eventually(secs(5), "it is gone from the list", || {
        let list = lab.verb(&["ps", "-q"]);
        if list.is_empty() { Ok(()) } else { Err(list) }
    });
    assert!(!net.ends().success());
    assert!(socket(&lab, "web").exists());
    let _net = lab.rnsnet(&twin).with(&options).named("twin").start();
    assert_eq!(lab.verb(&["ps", "--format", "{{.Name}}"]), "web");
}

// M9
#[test]
fn without_a_place_for_sockets_everything_else_works() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "the page");
    let ctr = lab.container();
    // Somebody else's directory in the place of ours: a link is not followed.
    std::fs::create_dir(lab.runtime().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", lab.runtime().join("rnsnet")).unwrap();
    let net = lab.rnsnet(&ctr).start();
    let page = lab.sh(Place::In(&ctr), &format!("curl -sS -m20 http://{LAN4}:8080/"));
    assert_eq!(page.ok(), "the page");
    let told = net.log();
    let line = told.lines().find(|line| line.contains("rnsnet ps will not know of this"));
    assert!(line.is_some_and(|line| line.contains("somebody else")), "{told}");
    assert_eq!(std::fs::read_dir(lab.runtime().join("elsewhere")).unwrap().count(), 0);
}

#[test]
fn what_is_no_request_is_refused_and_the_next_one_answered() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-n", "web"]).start();
    let kinds = lab.ask(
        "def kind(text):\n\
         \x20   s = connect(); answer = json.loads(ask(text, s))\n\
         \x20   if answer.get('error', {}).get('message') != 'the request is too long':\n\
         \x20       assert 'return' in json.loads(ask(request('version'), s)), text\n\
         \x20   return answer['error']['kind'] if 'error' in answer else 'fine'\n\
         for text in ['nonsense\\n', '[]\\n', '{}\\n', '{\"version\":2,\"execute\":\"info\"}\\n',\n\
         \x20       '{\"version\":1,\"execute\":\"info\",\"more\":1}\\n',\n\
         \x20       request('frobnicate'), request('info', a=1), request('publish', spec=80),\n\
         \x20       request('publish', spec='x'), request('ports', container='db'),\n\
         \x20       request('capture'), 'x' * 70000, request('info')]:\n\
         \x20   say(kind(text))",
    );
    let expected = "syntax syntax syntax version syntax command arguments arguments arguments \
                    not-found arguments syntax fine";
    assert_eq!(kinds.ok().split_whitespace().collect::<Vec<_>>().join(" "), expected);
    // A byte at a time, and two in one.
    let pieces = lab.ask(
        "s = connect()\n\
         for byte in request('version'):\n\
         \x20   s.send(byte.encode())\n\
         say('commands' in line(s))\n\
         s.sendall((request('version') + request('ports')).encode())\n\
         f = s.makefile(); say('commands' in f.readline(), 'ports' in f.readline())",
    );
    assert_eq!(pieces.ok(), "True\nTrue True");
}

#[test]
fn silent_and_slow_clients_delay_nobody() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "the page");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-n", "web"]).start();
    let mut crowd = lab.spawn_py(
        Place::User,
        &format!(
            "{ASK}\n\
             crowd = []\n\
             for n in range(300):\n\
             \x20   s = connect(); s.setblocking(False); crowd.append(s)\n\
             \x20   try:\n\
             \x20       if n % 2: s.send(b'{{\"version\":')\n\
             \x20       else: [s.send(request('info').encode()) for _ in range(100)]\n\
             \x20   except OSError: pass\n\
             say('there'); sys.stdin.readline()"
        ),
    );
    assert_eq!(crowd.line(secs(20)), "there");
    let page = lab.sh(Place::In(&ctr), &format!("curl -sS -m20 http://{LAN4}:8080/"));
    assert_eq!(page.ok(), "the page");
    assert_eq!(lab.verb(&["ps", "--format", "{{.Name}}"]), "web");
    drop(crowd);

    // Who is kept from asking by the machine makes room for others, and comes again.
    let thousand = lab.ask(
        "answers = []\n\
         def one():\n\
         \x20   for _ in range(9):\n\
         \x20       start = time.monotonic()\n\
         \x20       try: answer = ask(request('version'))\n\
         \x20       except OSError as e: answer = repr(e)\n\
         \x20       if answer.startswith('{\"return\"') or ms(start) < 100: break\n\
         \x20   answers.append(answer.startswith('{\"return\"'))\n\
         threads = [threading.Thread(target=one) for _ in range(1000)]\n\
         [t.start() for t in threads]; [t.join() for t in threads]\n\
         say(len(answers), answers.count(True))",
    );
    assert_eq!(thousand.ok(), "1000 1000");
}

// G3
#[test]
fn flows_have_names() {
    let Some(lab) = Lab::new() else { return };
    let _dns = lab.dns_server(LAN4);
    let _server = lab.serve(Place::Lan, "serve_each(read_all)");
    let _echo = lab
        .serve(Place::Lan, "s = udp_any(9); say('ready')\nwhile 1: answer_udp(s, lambda d, p: d)");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-n", "web", "-p", "8080:80"]).start();
    let _inside = lab.serve(Place::In(&ctr), "serve_each(read_all, port=80)");
    let mut client = lab.spawn_py(
        Place::In(&ctr),
        "import subprocess\n\
         subprocess.run(['dig', '+short', '@10.0.2.3', 'a.test'], stdout=subprocess.DEVNULL)\n\
         s = tcp('192.0.2.9', 7); s.sendall(b'12345'); u = udp(timeout=30)\n\
         u.sendto(b'abc', ('192.0.2.9', 9))\n\
         u.recv(9); say(s.getsockname()[1], u.getsockname()[1]); threading.Event().wait()",
    );
    let ports = client.line(secs(5));
    let (tcp, udp) = ports.split_once(' ').unwrap();
    let mut caller = lab.spawn_py(
        Place::Lan,
        &format!("s = tcp('{HOST4}', 8080); say(s.getsockname()[1]); threading.Event().wait()"),
    );
    let from = caller.line(secs(5));
    eventually(secs(5), "all three are listed", || {
        let table = lab.verb(&["flows", "web"]);
        let lines: Vec<Vec<&str>> = table.lines().map(columns).collect();
        let heads = ["PROTO", "FROM", "TO", "STATE", "TX", "RX", "AGE"];
        let mut missing = Vec::new();
        for expected in [
            heads[..6].to_vec(),
            vec!["tcp", &format!("web:{tcp}"), "a.test(192.0.2.9):7", "ESTABLISHED", "5B", "0B"],
            vec!["udp", &format!("web:{udp}"), "a.test(192.0.2.9):9", "ACTIVE", "3B", "3B"],
            vec!["tcp", &format!("a.test({LAN4}):{from}"), "web:80", "ESTABLISHED", "0B", "0B"],
        ] {
            if !lines.iter().any(|line| line.get(..6) == Some(&expected[..])) {
                missing.push(expected.join(" "));
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} in\n{table}")) }
    });
    let json = lab.verb(&["flows", "--format", "json"]);
    let line = json.lines().find(|line| line.contains("192.0.2.9):7\"")).unwrap();
    for part in [
        "\"TxBytes\":5,",
        "\"HostName\":\"a.test\"",
        &format!("\"Guest\":\"{GUEST4}:{tcp}\""),
        "\"Host\":\"192.0.2.9:7\"",
    ] {
        assert!(line.contains(part), "{line}");
    }
    drop(client);
    eventually(secs(5), "the flow leaves the list", || {
        let table = lab.verb(&["flows"]);
        if table.contains(&format!("web:{tcp}")) { Err(table) } else { Ok(()) }
    });
}

// G1
#[test]
fn stats_are_what_the_interface_counts() {
    let Some(lab) = Lab::new() else { return };
    const LENGTH: u64 = 10 << 20;
    let _web = lab.web_server(Place::Lan, 8080, &"x".repeat((10 << 20) - 1));
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).without_pcap().with(&["-n", "web"]).start();
    lab.sh(Place::In(&ctr), &format!("curl -sSo /dev/null -m20 http://{LAN4}:8080/")).ok();
    eventually(secs(5), "both count the same", || {
        let field = |of, name| link_counter(&lab, &ctr, of, name);
        let kernel = format!(
            "{} {} {} {}",
            field("rx", "bytes"),
            field("tx", "bytes"),
            field("rx", "packets"),
            field("tx", "packets")
        );
        let template = "{{.RxBytes}} {{.TxBytes}} {{.RxPackets}} {{.TxPackets}}";
        let ours = lab.verb(&["stats", "--no-stream", "--format", template, "web"]);
        if ours == kernel { Ok(()) } else { Err(format!("kernel {kernel}, ours {ours}")) }
    });
    let json = lab.verb(&["stats", "--no-stream", "--format", "json", "web"]);
    let received = json.split_once("\"RxBytes\":").and_then(|(_, rest)| rest.split(',').next());
    let received: u64 = received.and_then(|bytes| bytes.parse().ok()).expect("a number");
    assert!((LENGTH..LENGTH + LENGTH * 8 / 100).contains(&received), "{received}");
    let table = lab.verb(&["stats", "--no-stream"]);
    let heads = ["NAME", "NETWORK", "RX / TX", "PKTS", "FLOWS", "DNS", "DROPPED"];
    assert_eq!(columns(table.lines().next().unwrap()), heads);
    // What is dropped is counted, with its reason.
    let drops = || lab.verb(&["stats", "--no-stream", "--format", "{{json .Drops}}", "web"]);
    let before = drops();
    lab.py(
        Place::In(&ctr),
        "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))\n\
         gateway = bytes.fromhex('02726e000002'); me = bytes.fromhex('02720a000264')\n\
         for _ in range(3): s.send(gateway + me + b'\\x08\\x00' + b'\\x45')",
    )
    .ok();
    eventually(secs(5), "the three are counted", || {
        let after = drops();
        if after != before && after.contains(":3") { Ok(()) } else { Err(after) }
    });
}

// G4
#[test]
fn a_live_container_is_captured_twice_at_once() {
    let Some(lab) = Lab::new() else { return };
    let _web = lab.web_server(Place::Lan, 8080, "captured page");
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-n", "web"]).start();
    let second = lab.dir().join("second.pcap");
    let second = second.to_str().unwrap();
    let program = binary();
    let mut live = lab.spawn(
        Place::User,
        &[
            "sh",
            "-c",
            "exec \"$0\" capture web -w - | tcpdump -lnr - 2>&1",
            program.to_str().unwrap(),
        ],
    );
    let first_line = live.line(secs(5));
    assert!(first_line.contains("link-type EN10MB"), "{first_line}");
    let counted = lab.spawn(
        Place::User,
        &[program.to_str().unwrap(), "capture", "web", "-w", second, "-c", "4", "-s", "60"],
    );
    eventually(secs(5), "the second capture has begun", || {
        match std::fs::metadata(second).map(|file| file.len()) {
            Ok(24..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    // A long transfer, during which the live one is stopped.
    let _counter = lab.serve(Place::Lan, "serve_each(read_all, port=9)");
    let mut sender = lab.spawn_py(
        Place::In(&ctr),
        "s = tcp('192.0.2.9', 9); data = os.urandom(1 << 20); s.sendall(data); say('begun')\n\
         for _ in range(31): s.sendall(data)\n\
         s.shutdown(socket.SHUT_WR); say(s.recv(99).decode() or 'end')",
    );
    assert_eq!(sender.line(secs(10)), "begun");
    let ran = counted.finish(secs(5));
    assert!(ran.status.success(), "{ran}");
    assert!(ran.stderr.contains("4 frames captured, 0 missed"), "{ran}");
    let read = lab.run(Place::User, &["tcpdump", "-nr", second]);
    assert_eq!(read.ok().lines().count(), 4, "{read}");
    assert!(std::fs::metadata(second).unwrap().len() <= 24 + 4 * (16 + 60));
    let mut lines = String::new();
    while !lines.contains("> 192.0.2.9.9: Flags [S]") {
        lines = live.line(secs(5));
    }
    drop(live);
    sender.line(secs(20));
    let page = lab.sh(Place::In(&ctr), &format!("curl -sS -m20 http://{LAN4}:8080/"));
    assert_eq!(page.ok(), "captured page");
    // The queue of the interface was always served.
    assert_eq!(link_counter(&lab, &ctr, "tx", "dropped"), 0);
}

// G4: it runs until something happens, and has what happened last.
#[test]
fn a_ring_of_frames_is_never_larger_than_it_may_be() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let _net = lab.rnsnet(&ctr).with(&["-n", "web"]).without_pcap().start();
    let file = lab.dir().join("ring.pcap").to_str().unwrap().to_owned();
    let program = binary();
    let ring = ["capture", "web", "-w", &file, "--ring", "1", "-s", "3000"];
    let argv = [&[program.to_str().unwrap()], &ring[..]].concat();
    let capture = lab.spawn(Place::User, &argv);
    let length = |file: &str| std::fs::metadata(file).map_or(0, |file| file.len());
    eventually(secs(5), "the capture has begun", || {
        if length(&file) >= 24 { Ok(()) } else { Err(length(&file).to_string()) }
    });
    let _counter = lab.serve(Place::Lan, "serve_each(read_all, port=9)");
    let send = "s = tcp('192.0.2.9', 9); data = os.urandom(1 << 20)
for _ in range(64): s.sendall(data)
s.shutdown(socket.SHUT_WR); say(s.recv(99).decode() or 'end')";
    lab.py(Place::In(&ctr), send).ok();
    let before = format!("{file}.1");
    // The last thing that happens is in it, once it is done with what came before.
    eventually(secs(10), "both files are there, and the ping", || {
        lab.sh(Place::In(&ctr), "ping -c1 -W20 10.0.2.2").ok();
        let read = lab.run(Place::User, &["tcpdump", "-nr", &file, "icmp"]);
        if read.stdout.contains("echo reply") && length(&before) > 0 {
            Ok(())
        } else {
            Err(read.to_string())
        }
    });
    capture.signal(Signal::SIGINT);
    capture.finish(secs(5));
    let frames = lab.run(Place::User, &["tcpdump", "-nr", &before]);
    assert!(frames.ok().lines().count() > 100, "{frames}");
    assert!(!frames.stderr.contains("truncated"), "{frames}");
    assert!(length(&file) + length(&before) <= 1 << 20);
    assert!(length(&before) > (1 << 19) - 4000);
}

// E25
#[test]
fn events_are_told_as_they_happen() {
    let Some(lab) = Lab::new() else { return };
    let program = binary();
    let program = program.to_str().unwrap();
    // From a time on, so that it does not matter when it begins to listen.
    let format = "{{.Action}} {{.Name}} {{.Port}}";
    let mut events =
        lab.spawn(Place::User, &[program, "events", "--since", "10m", "--format", format]);
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["-n", "web"]).start();
    assert_eq!(events.line(secs(5)).trim(), "connect web");
    lab.verb(&["publish", "web", "127.0.0.1:8080:80"]);
    assert_eq!(events.line(secs(5)), "publish web 80/tcp -> 127.0.0.1:8080");
    lab.verb(&["unpublish", "web", "8080"]);
    assert_eq!(events.line(secs(5)), "unpublish web 80/tcp -> 127.0.0.1:8080");
    lab.verb(&["detach", "web"]);
    assert_eq!(events.line(secs(5)).trim(), "disconnect web");
    assert!(net.ends().success());
    // One that is killed is told of too.
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["-n", "db"]).named("db").start();
    assert_eq!(events.line(secs(5)).trim(), "connect db");
    // What went before is told by its time, whosever it is.
    let other = lab.container();
    let _other = lab.rnsnet(&other).with(&["-n", "a"]).named("a").start();
    lab.verb(&["publish", "db", "127.0.0.1:8080:80"]);
    let mut late = lab.spawn(Place::User, &[program, "events", "--since", "10m"]);
    for past in [" connect db (id=", " connect a (id=", " publish db (id="] {
        let line = late.line(secs(5));
        assert!(line.contains(past), "{past}: {line}");
    }
    // Two processes tell of these, so whoever is first to be heard is told of first.
    let mut both = [events.line(secs(5)), events.line(secs(5))];
    both.sort_unstable();
    assert!(both[0].trim() == "connect a" && both[1].starts_with("publish db "), "{both:?}");
    // Without a time it tells of nothing that was before: it listens once it tells of anything.
    let file = lab.dir().join("from-now");
    let from_now = format!("exec {program} events --format '{{{{.Action}}}}' > {}", file.display());
    let _from_now = lab.spawn(Place::User, &["sh", "-c", &from_now]);
    let heard = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually(secs(5), "it tells of what happens", || {
        lab.verb(&["publish", "a", "127.0.0.1:8081:80"]);
        lab.verb(&["unpublish", "a", "8081"]);
        for told in ["publish a 80/tcp", "unpublish a 80/tcp"] {
            assert!(events.line(secs(5)).starts_with(told));
        }
        if heard().contains("unpublish") { Ok(()) } else { Err(heard()) }
    });
    net.signal(Signal::SIGKILL);
    assert!(!net.ends().success());
    assert_eq!(events.line(secs(5)).trim(), "disconnect db");
    eventually(secs(5), "it tells of the end", || {
        if heard().ends_with("disconnect\n") { Ok(()) } else { Err(heard()) }
    });
    assert!(heard().lines().all(|line| line != "connect"), "{}", heard());
}

#[test]
fn detach_takes_the_interface_and_the_ports_away() {
    let Some(lab) = Lab::new() else { return };
    let ctr = lab.container();
    let net = lab.rnsnet(&ctr).with(&["-n", "web", "-p", "8080:80"]).start();
    assert_eq!(lab.verb(&["detach", "web"]), "");
    assert_eq!(lab.sockets(Place::User, 8080), "");
    assert_eq!(lab.sh(Place::In(&ctr), "ip -br link").ok().lines().count(), 1);
    assert!(net.ends().success());
    // And back.
    let _net = lab.rnsnet(&ctr).with(&["-n", "web"]).named("again").start();
    assert_eq!(lab.verb(&["ps", "--format", "{{.Name}}"]), "web");
}

#[test]
fn a_command_of_rnsnet_run_is_listed_and_can_be_detached() {
    let Some(lab) = Lab::new() else { return };
    let program = binary();
    let mut command = lab.spawn(
        Place::User,
        &[
            program.to_str().unwrap(),
            "run",
            "-n",
            "job",
            "--",
            "sh",
            "-c",
            "echo on; exec sleep 99",
        ],
    );
    assert_eq!(command.line(secs(5)), "on");
    let listed = lab.verb(&["ps", "--format", "{{.Name}} {{.CalledAs}}"]);
    assert_eq!(listed, "job rnsnet run");
    lab.verb(&["detach", "job"]);
    let status =
        eventually(secs(5), "it ends", || command.ended().ok_or_else(|| "it runs".to_owned()));
    assert_eq!(status.code(), Some(128 + 15));
    assert!(!socket(&lab, "job").exists());
}

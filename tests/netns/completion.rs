//! What the tab key does in shells that have the completion script.

use crate::exec::{DEFAULT_DEADLINE, run};
use crate::lab::{Lab, Place, python};
use crate::rnsnet::binary;

/// Types at a shell on a terminal, and says what was there at the end.
const TYPE: &str = "
import pty, select
program, shell, setup, typed = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(TERM='dumb', PS1='$ ', HOME=os.path.dirname(program), INPUTRC='/dev/null',
                      PATH=os.path.dirname(program) + ':' + os.environ['PATH'])
    os.execvp(shell, [shell] + {'bash': ['--norc', '--noprofile', '-i'], 'zsh': ['-f', '-i']}[shell])
seen = ''
def read_until(what):
    global seen
    end = time.monotonic() + 10
    while what not in seen:
        if not select.select([terminal], [], [], max(0, end - time.monotonic()))[0]:
            sys.exit(f'no {what!r} in {seen!r}')
        seen += os.read(terminal, 65536).decode(errors='replace')
# The mark is not in what is typed, so the echo is not taken for it.
os.write(terminal, (setup + '; echo set''up\\n').encode())
read_until('setup\\r\\n')
seen = ''
os.write(terminal, typed.encode() + b'\\t')
read_until(os.environ['EXPECTED'])
say('completed')
os.kill(pid, 9)
";

#[track_caller]
fn completes(lab: &Lab, shell: &str, setup: &str, typed: &str, expected: &str) {
    assert!(!typed.contains(expected), "the echo of {typed:?} would do");
    let rnsnet = binary().into_string().expect("a path in UTF-8");
    let program = python(TYPE);
    let argv = ["python3", "-c", &program, &rnsnet, shell, setup, typed];
    let mut command = lab.cmd(Place::User, &argv);
    command.env("EXPECTED", expected);
    let ran = run(&mut command, b"", DEFAULT_DEADLINE);
    assert_eq!(ran.ok(), "completed", "{shell} {typed:?}");
}

#[test]
fn bash_completes_verbs_options_and_files() {
    let Some(lab) = Lab::new() else { return };
    let setup = "source <(rnsnet completion bash)";
    for (typed, expected) in [
        ("rnsnet --publish-r", "rnsnet --publish-range "),
        ("rnsnet doc", "rnsnet doctor "),
        ("rnsnet doctor --for", "rnsnet doctor --format "),
        ("rnsnet run -p 80:80 --hostn", "--hostname "),
        ("rnsnet run busyb", "busybox"),
        ("rnsnet --mtu 1500 --pid-file /etc/hostn", "/etc/hostname"),
        ("rnsnet --log-level=debug --no-sec", "--no-seccomp "),
        ("rnsnet completion --he", "rnsnet completion --help "),
    ] {
        completes(&lab, "bash", setup, typed, expected);
    }
}

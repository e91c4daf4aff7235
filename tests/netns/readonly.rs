//! Machines on which nothing can be written. Row M9.

use crate::lab::{LAN4, Lab, Place};
use crate::rnsnet::binary;

/// Makes every mount read-only for what follows in the script, but for `$RUN`, if that is set.
const READ_ONLY: &str = r#"
[ -z "$RUN" ] || mount -t tmpfs -o mode=700 none "$RUN"
while read -r _ _ _ _ where flags _; do
    # /proc is the kernel's; what the owner of the outer namespace has set must stay.
    case "$where" in "$RUN" | /proc*) continue ;; esac
    mount -o "remount,bind,ro,${flags#rw,}" "$where" 2>/dev/null || true
done </proc/self/mountinfo
for place in / /tmp /run /dev "$TOP"; do
    if touch "$place/rnsnet-test" 2>/dev/null; then echo "$place can be written" >&2; exit 9; fi
done
"#;

/// Attaches a container and runs a command, and has a page fetched in both.
const BOTH: &str = r#"
"$RNSNET" --detach --exit-fd 5 $OPTIONS "$CTR" 5<"$TOP/fifo"
nsenter -t "$CTR" -U --preserve-credentials -n curl -sS -m20 "$URL"
"$RNSNET" run -- curl -sS -m20 "$URL"
"#;

#[track_caller]
fn both(lab: &Lab, environment: &str, options: &str) {
    let _web = lab.web_server(Place::Lan, 8080, "hello");
    let ctr = lab.container();
    let top = lab.dir().display();
    let program = binary().into_string().expect("a path in UTF-8");
    // The writer of the FIFO ends with the script, and so does what is in the background.
    let script = format!(
        "export TOP={top}
         export RNSNET={program} CTR={} URL=http://{LAN4}:8080/ {environment}
         export OPTIONS=\"{options}\"
         mkdir $TOP/run; mkfifo $TOP/fifo; sleep 100 >$TOP/fifo & trap \"kill $!\" EXIT
         {READ_ONLY} {BOTH}",
        ctr.pid()
    );
    let ran = lab.run(Place::Host, &["unshare", "--mount", "sh", "-ec", &script]);
    assert_eq!(ran.ok(), "hello\nhello");
    let errors: Vec<_> = ran.stderr.lines().filter(|line| line.contains("error")).collect();
    assert!(errors.is_empty(), "{ran}");
}

// M9
#[test]
fn everything_but_the_runtime_directory_may_be_read_only() {
    let Some(lab) = Lab::new() else { return };
    both(&lab, "RUN=$TOP/run XDG_RUNTIME_DIR=$TOP/run", "--pid-file $TOP/run/pid");
}

// M9
#[test]
fn there_need_not_be_a_place_to_write_to_at_all() {
    let Some(lab) = Lab::new() else { return };
    both(&lab, "RUN=; unset XDG_RUNTIME_DIR HOME TMPDIR", "");
}

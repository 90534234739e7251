package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

// underOverlay runs a shell script whose root file system is an overlay over the real one, in a mount namespace of its
// own, and returns the files that it made, changed or removed. In it, $program is the exporter.
func underOverlay(t *testing.T, script string) (changed []string) {
	t.Helper()
	labtest.NeedRoot(t, "an overlay over the root file system")
	labtest.Need(t, "unshare", "curl")
	ns := labtest.New(t, "nofiles")
	ns.Run("ip", "link", "add", "vx0", "type", "vxlan", "id", "1", "dstport", "8472")
	dir := t.TempDir()
	outer := `set -e
mount -t tmpfs none "$1"; cd "$1"; mkdir upper work root
mount -t overlay none -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" root
for d in proc sys dev; do mount --rbind /$d root/$d; mount --make-rslave root/$d; done
mount -t tmpfs none root/$2; cp "$3" root/$2/program
chroot root sh -ec "program=$2/program; $4"
cd upper; find . ! -type d -printf '%P\n'; find . -type d -empty -printf '%P/\n'`
	cmd := exec.Command("ip", "netns", "exec", ns.Name, "unshare", "--mount", "--propagation", "private", "sh", "-c",
		outer, "sh", dir, "/mnt", labtest.Binary(t), script)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	_, files, ok := strings.Cut(string(out), "CHANGED\n")
	if !ok {
		t.Fatalf("the script did not come to its end:\n%s%s", out, stderr.String())
	}
	for line := range strings.FieldsSeq(files) {
		if line != "/" { // of the empty top
			changed = append(changed, line)
		}
	}
	return changed
}

// The exporter writes no file: not while it serves, not for a report, not at its end. The overlay does see what is
// written.
func TestNoFileIsWritten(t *testing.T) {
	serve := `$program --collector.wire --web.listen-address=127.0.0.1:10059 & pid=$!
for i in $(seq 100); do curl -sf http://127.0.0.1:10059/-/ready >&2 && break; sleep 0.1; done
curl -sf http://127.0.0.1:10059/metrics >&2; curl -sf http://127.0.0.1:10059/ >&2
kill $pid; wait $pid
$program check --interval=0s >&2 || [ $? -le 3 ]
$program check --interval=0s --output=json >&2 || [ $? -le 3 ]
$program metrics >&2
$program guard --dry-run & pid=$!
sleep 1; kill $pid; wait $pid
echo CHANGED`
	if got := underOverlay(t, serve); len(got) > 0 {
		t.Errorf("written: %v", got)
	}
	want := []string{"var/lib/selftest.json"}
	if got := underOverlay(t, "$program selftest --write=/var/lib/selftest.json >&2; echo CHANGED"); !slices.Equal(got,
		want) {
		t.Errorf("written by the self-test: %v, want %v", got, want)
	}
}

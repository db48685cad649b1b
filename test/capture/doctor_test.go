package capture

import (
	"encoding/json"
	"errors"
	"os/exec"
	"testing"
)

// TestDoctor: connects of every kind come back in a scratch tape, whatever the kernel, and in the tape of a recorder that
// runs. What is wrong is said, and the exit code is 3.
func TestDoctor(t *testing.T) {
	dir := tempDir(t) + "/tape"
	tape := record(t, dir)
	findings := examine(t, dir)
	for _, name := range []string{"proof", "service", "kernel", "btf", "capabilities"} {
		if f := findings[name]; f.Level != "ok" {
			t.Errorf("%s: %+v", name, f)
		}
	}
	t.Logf("%s\n%s", findings["proof"].Finding, findings["service"].Finding)
	tape.stop(t)
	if env.inGuest {
		return // who records is no matter of the kernel, and doctor's proof takes an emulated processor a minute
	}
	if f := examine(t, dir)["service"]; f.Level != "note" || f.Mend == "" {
		t.Errorf("nobody records, and doctor says %+v", f)
	}
}

type finding struct{ Name, Level, Finding, Mend string }

// examine returns what doctor finds, by name, and wants the exit code that goes with it.
func examine(t *testing.T, dir string) map[string]finding {
	t.Helper()
	out, err := exec.Command(env.conntape, "doctor", "--dir", dir, "--json").Output()
	var report struct {
		Problems int
		Findings []finding
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if want := map[bool]int{true: 3, false: 0}[report.Problems > 0]; code != want {
		t.Errorf("%d problems, exit code %d", report.Problems, code)
	}
	byName := map[string]finding{}
	for _, f := range report.Findings {
		byName[f.Name] = f
		if f.Level == "problem" {
			t.Logf("problem: %s: %s", f.Name, f.Finding)
		}
	}
	return byName
}
